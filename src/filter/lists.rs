//! Lists that come without a push, in one worker: what is revoked, and more keys.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::config::Config;
use crate::config::credentials_list::ListedCredentials;
use crate::filter::refusal::{Reason, Refusal};
use crate::host::{CalloutId, Host};
use crate::identity::api_key::{ApiKeys, Listed};
use crate::identity::revocation::Revocation;
use crate::identity::revocation::list::ListedRevocation;
use crate::remote::keeper::{Keeper, Reply};
use crate::remote::store::Store;
use crate::remote::{Generation, Source, shared_key};
use crate::time::Monotonic;

/// See the module. A configuration without lists costs nothing here.
#[derive(Debug)]
pub struct Lists {
    revocation: Option<RefCell<Keeper<ListedRevocation>>>,
    credentials: Option<RefCell<Keeper<ListedCredentials>>>,
    /// When this worker first looked.
    since: Cell<Option<Monotonic>>,
}

/// Keys of a list, for as long as one request looks at them.
#[derive(Debug)]
pub(super) enum ListedKeys {
    None,
    Unavailable,
    Known(Rc<ApiKeys>),
}

/// Nobody is told to come back sooner.
const LEAST_RETRY: Duration = Duration::from_secs(1);

// === impl Lists ===

impl Lists {
    /// Lists of a configuration that nobody has looked at yet.
    pub fn new(config: &Rc<Config>, store: &Store) -> Self {
        let key = |kind: &str, source: &Source| {
            shared_key(&config.name, kind, &[&source.cluster, &source.authority, &source.path])
        };
        let revocation = config.lists.revocation.as_ref().map(|source| {
            let key = key("revocation", source);
            let about = String::from("the revocation list");
            RefCell::new(Keeper::new(ListedRevocation, about, source.clone(), key, store.clone()))
        });
        let credentials = config.lists.credentials.as_ref().map(|(source, _)| {
            let key = key("credentials", source);
            let kind = ListedCredentials(Rc::clone(config));
            let about = String::from("the list of credentials");
            RefCell::new(Keeper::new(kind, about, source.clone(), key, store.clone()))
        });
        Self { revocation, credentials, since: Cell::new(None) }
    }

    /// Whether there is any, so that the root must tick.
    pub const fn is_any(&self) -> bool {
        self.revocation.is_some() || self.credentials.is_some()
    }

    /// Looks, and fetches what is due. Only the root may call this.
    pub fn tick(&self, host: &dyn Host) {
        if self.is_any() && self.since.get().is_none() {
            self.since.set(Some(host.monotonic()));
        }
        if let Some(keeper) = &self.revocation {
            keeper.borrow_mut().tick(host);
        }
        if let Some(keeper) = &self.credentials {
            keeper.borrow_mut().tick(host);
        }
    }

    /// A callout was answered. Whether it was for a list. Only the root may call this.
    pub fn on_reply(&self, call: CalloutId, reply: &Reply<'_>, host: &dyn Host) -> bool {
        let revocation = self.revocation.as_ref();
        let credentials = self.credentials.as_ref();
        revocation.is_some_and(|keeper| keeper.borrow_mut().on_reply(call, reply, host))
            || credentials.is_some_and(|keeper| keeper.borrow_mut().on_reply(call, reply, host))
    }

    /// How old the revocation list in force is; while there is none, how long this worker has been without. `None`:
    /// none is configured.
    pub fn revocation_lag(&self, host: &dyn Host) -> Option<Duration> {
        let keeper = self.revocation.as_ref()?.borrow();
        let without = || self.since.get().map_or(Duration::ZERO, |since| host.monotonic().since(since));
        Some(keeper.age(host).unwrap_or_else(without))
    }

    /// Whether a caller whom somebody authenticated may still use what was shown. Gives what was looked at, so that a
    /// request that waits can tell whether to ask again.
    ///
    /// # Errors
    /// The list has it; or nobody knows what is revoked, since the list is too old or was never had.
    pub(super) fn check(
        &self,
        host: &dyn Host,
        is_revoked: impl FnOnce(&Revocation) -> bool,
    ) -> Result<Generation, Refusal> {
        let Some(keeper) = &self.revocation else { return Ok(Generation::NONE) };
        let mut keeper = keeper.borrow_mut();
        let Some(list) = keeper.document(host).map(Rc::clone) else {
            let retry_after = Some(keeper.retry_after(host).max(LEAST_RETRY));
            return Err(Refusal { reason: Reason::RevocationUnavailable, retry_after });
        };
        if is_revoked(&list) { Err(Reason::CredentialRevoked.into()) } else { Ok(keeper.generation()) }
    }

    /// Which revocation list is in force.
    pub(super) fn generation(&self) -> Generation {
        self.revocation.as_ref().map_or(Generation::NONE, |keeper| keeper.borrow().generation())
    }

    /// Keys beside those of the configuration.
    pub(super) fn keys(&self, host: &dyn Host) -> ListedKeys {
        let Some(keeper) = &self.credentials else { return ListedKeys::None };
        match keeper.borrow_mut().document(host) {
            Some(keys) => ListedKeys::Known(Rc::clone(keys)),
            None => ListedKeys::Unavailable,
        }
    }

    /// When to come back for keys.
    pub(super) fn keys_retry_after(&self, host: &dyn Host) -> Option<Duration> {
        Some(self.credentials.as_ref()?.borrow().retry_after(host).max(LEAST_RETRY))
    }
}

// === impl ListedKeys ===

impl ListedKeys {
    pub(super) fn borrowed(&self) -> Listed<'_> {
        match self {
            Self::None => Listed::None,
            Self::Unavailable => Listed::Unavailable,
            Self::Known(keys) => Listed::Known(keys),
        }
    }
}
