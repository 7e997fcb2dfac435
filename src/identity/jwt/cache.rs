//! Tokens that were verified a short while ago, by their digest.
//!
//! A signature costs tens of microseconds and a look-up one. The cache belongs to one worker and one configuration, so
//! that an entry ends with either.

use std::time::Duration;

use crate::host::Host;
use crate::identity::jwt::Passed;
use crate::identity::keyring::Keyrings;
use crate::identity::recent::Recent;
use crate::remote::Generation;
use crate::time::UnixTime;

/// See the module. Only digests of tokens with a right signature get in.
#[derive(Debug, Default)]
pub struct Verified(Recent<[u8; 32], Passed>);

/// What a verified token rests on beside its configuration: it is looked at afresh when any of this is another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Basis {
    /// Of its issuer's keys.
    pub keys: Generation,
}

/// How long a verified token is believed without looking at its signature again.
pub const MAX_AGE: Duration = Duration::from_secs(300);

// === impl Basis ===

impl Basis {
    /// What tokens of a provider rest on now. `None`: nothing, since nobody may be let in by its keys.
    pub fn of(provider: usize, keyrings: &Keyrings, host: &dyn Host) -> Option<Self> {
        Some(Self { keys: keyrings.generation(provider, host)? })
    }
}

// === impl Verified ===

impl Verified {
    /// Holds at most `max` tokens.
    pub fn new(max: usize) -> Self {
        Self(Recent::new(max))
    }

    /// What a token gave when it was verified. The caller checks its times, which may be over by now.
    pub(super) fn find(&mut self, digest: &[u8; 32], now: UnixTime) -> Option<Passed> {
        self.0.find(digest, now)
    }

    /// Remembers a token that was verified now.
    pub(super) fn insert(&mut self, digest: [u8; 32], passed: Passed, now: UnixTime) {
        self.0.insert(digest, passed, now, now.plus(MAX_AGE));
    }

    /// Tokens that are held.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::identity::Identity;
    use crate::identity::jwt::claims::Times;

    fn passed() -> Passed {
        let times = Times { expires: at(10_000), not_before: None, issued: None };
        Passed { identity: Rc::new(Identity::anonymous()), times, basis: Basis::default(), provider: 0 }
    }

    fn at(seconds: i64) -> UnixTime {
        UnixTime::from_millis(seconds.saturating_mul(1000))
    }

    fn digest(number: u32) -> [u8; 32] {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&number.to_le_bytes());
        digest
    }

    #[test]
    fn a_token_is_believed_for_five_minutes() {
        let mut cache = Verified::new(10);
        cache.insert(digest(1), passed(), at(1000));
        assert!(cache.find(&digest(1), at(1299)).is_some());
        assert!(cache.find(&digest(2), at(1299)).is_none());
        assert!(cache.find(&digest(1), at(1300)).is_none());
        assert!(cache.is_empty());
    }

    #[test]
    fn being_used_makes_no_token_younger() {
        let mut cache = Verified::new(2);
        cache.insert(digest(1), passed(), at(1000));
        cache.insert(digest(2), passed(), at(1100));
        assert!(cache.find(&digest(1), at(1200)).is_some());
        assert!(cache.find(&digest(1), at(1300)).is_none());
    }

    #[test]
    fn a_clock_that_was_set_back_ends_an_entry() {
        let mut cache = Verified::new(10);
        cache.insert(digest(1), passed(), at(1000));
        assert!(cache.find(&digest(1), at(999)).is_none());
    }

    #[test]
    fn there_are_never_more_than_allowed_and_what_is_used_stays() {
        for max in [0, 1, 2, 7, 100] {
            let mut cache = Verified::new(max);
            for number in 0..1000 {
                cache.insert(digest(number), passed(), at(1000));
                if max >= 4 {
                    assert!(cache.find(&digest(0), at(1000)).is_some(), "{max} {number}");
                }
                assert!(cache.len() <= max, "{max}: {}", cache.len());
            }
        }
    }
}
