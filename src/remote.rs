//! Documents that live elsewhere: what another server serves becomes a value in each worker, fetched once for the whole
//! process, and believed only as it was sealed.
//!
//! ```text
//! Source ─▶ Keeper ─▶ lease ─▶ one callout ─▶ parsed ─▶ sealed Record in shared data ─▶ every worker's Keeper
//! ```
//!
//! A new kind of document says in [`keeper::Kind`] how its bytes are read, and has one [`keeper::Keeper`] for each
//! document, which it makes when a worker is made and drives from three places:
//!
//! 1. the root's `on_tick` calls [`keeper::Keeper::tick`], which looks at the shared record and fetches what is due;
//! 2. the root's `on_http_call_response` calls [`keeper::Keeper::on_reply`] with the answers of callouts;
//! 3. requests read [`keeper::Keeper::document`], which is `None` until the first fetch has ended and again once
//!    `max_stale` is over: then the request is refused by the kind's own reason, and
//!    [`keeper::Keeper::retry_after`] says when to come back.
//!
//! Nothing else is needed to poll: a document is fetched again `interval` after the last success, so that a change
//! reaches every worker within [`Source::bound`]. Whatever a cache holds because of a document must end with its
//! [`Generation`].
//!
//! Only the root may start the callouts of a document. Requests may look (it is what [`keeper::Keeper::document`]
//! does until there is something) and may want a fetch ([`keeper::Keeper::want`]); the next tick does it.
//!
//! Without a key of `shared_data.keys` nobody could tell our records from those of whoever shares our memory, so that
//! each worker fetches for itself and the `cooldown` is each worker's own; [`store::Store`] is where this is decided.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::audit::chain::hex;

pub mod compile;
pub mod keeper;
pub mod record;
pub mod store;
pub mod uri;

/// Where a document lives and how often it is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Envoy's cluster name.
    pub cluster: String,
    /// `:authority`.
    pub authority: String,
    /// `:path`, with its query.
    pub path: String,
    /// How long one fetch may take; never zero.
    pub timeout: Duration,
    /// From a success to the next fetch.
    pub interval: Duration,
    /// From any fetch to one that a request wants.
    pub cooldown: Duration,
    /// From a failure to the next try.
    pub failed_refetch: Duration,
    /// How long after the last success the document is still used.
    pub max_stale: Duration,
    /// The largest body that is taken, at most [`MAX_BYTES`].
    pub max_bytes: usize,
}

/// Which content of a document something rests on: equal for equal bytes, whichever worker read them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(u64);

/// The largest body of any document, in bytes. A larger one is a failed fetch and is never published. Two bodies of a
/// document are in shared data at most: the one in use and the one before it.
pub const MAX_BYTES: usize = 16 << 20;

/// How much longer than its timeout a fetch may hold the lease. When its holder dies, another begins after this.
pub const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// How often a worker looks at its records. The root's tick must not be slower while there are keepers.
pub const LOOK: Duration = Duration::from_millis(100);

// === impl Source ===

impl Source {
    /// The longest time from a change at the source to its effect in every worker, while the source answers and
    /// workers live: the interval, one fetch, the lease of a holder that died, and a tick.
    pub const fn bound(&self) -> Duration {
        self.interval
            .saturating_add(self.timeout)
            .saturating_add(self.timeout.saturating_add(LEASE_MARGIN))
            .saturating_add(LOOK)
    }

    /// How long one fetch may hold the lease.
    pub const fn lease(&self) -> Duration {
        self.timeout.saturating_add(LEASE_MARGIN)
    }
}

// === impl Generation ===

impl Generation {
    /// Of what never changes while a configuration lasts, and of what is not there.
    pub const NONE: Self = Self(0);

    /// Of a content by its digest.
    pub fn of(digest: &[u8; 32]) -> Self {
        Self(digest.first_chunk().map_or(0, |first| u64::from_le_bytes(*first)))
    }
}

/// Key in shared data of a document of a gate: `kind` is a word, and `belongs_to` what makes it this document and no
/// other, such as issuer, uri and cluster; never a name that a configuration may give to something else tomorrow.
pub fn shared_key(gate: &str, kind: &str, belongs_to: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in belongs_to {
        // lengths, so that no two lists are one text
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        digest.update(part);
    }
    format!("mlgate/1/{gate}/{kind}/{}", hex(&digest.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_every_part_and_on_where_it_ends() {
        let key = |parts: &[&str]| shared_key("gate", "jwks", parts);
        assert!(key(&["a", "b"]).starts_with("mlgate/1/gate/jwks/"));
        assert_eq!(key(&["a", "b"]).len(), "mlgate/1/gate/jwks/".len() + 64);
        assert_ne!(key(&["a", "bc"]), key(&["ab", "c"]));
        assert_ne!(key(&["a"]), key(&["a", ""]));
        assert_ne!(shared_key("gate", "jwks", &["a"]), shared_key("gate", "discovery", &["a"]));
    }
}
