//! What becomes of sources of wrong credentials, around the stage that says who is calling: a source that is blocked
//! still gets what costs nothing, and is admitted when it is right.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;

use crate::filter::refusal::Refusal;
use crate::filter::transaction::Transaction;
use crate::host::Host;
use crate::identity::{AuthenticationError, MayWork};
use crate::limits::failures::Standing;

// === impl Transaction ===

impl Transaction {
    /// Authenticates, and counts what was wrong. What is missing, expired or revoked is not: its owner shares an address
    /// with others who are right. From a blocked source a wrong credential is not told from one that was not looked at.
    pub(super) fn guarded<T>(
        &mut self,
        source: Option<IpAddr>,
        host: &dyn Host,
        authenticate: impl FnOnce(MayWork<'_>) -> Result<T, AuthenticationError>,
    ) -> Result<T, Refusal> {
        let config = Rc::clone(&self.worker.config);
        let Some(failures) = &config.failures else { return authenticate(&|| Ok(())).map_err(Refusal::from) };
        let degraded = Cell::new(None);
        let ask = |standing: Standing| {
            degraded.set(standing.degraded.or(degraded.get()));
            standing.blocked.map_or(Ok(()), |left| Err(AuthenticationError::Blocked(left)))
        };
        let found = match authenticate(&|| ask(failures.look(source, host))) {
            Err(AuthenticationError::Invalid) => {
                ask(failures.count(source, host)).and(Err(AuthenticationError::Invalid))
            }
            other => other,
        };
        self.note(degraded.get().as_slice(), &[], host);
        found.map_err(Refusal::from)
    }
}
