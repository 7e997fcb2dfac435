//! What endpoints said of tokens a short while ago.
//!
//! The cache belongs to one worker and one configuration, so that an entry ends with either. It holds digests, never a
//! token. Tokens that nobody knows have places of their own: however many of them come, they push out none that holds.

use crate::identity::introspection::{QuestionKey, Verdict};
use crate::identity::recent::Recent;
use crate::time::UnixTime;

/// See the module.
#[derive(Debug, Default)]
pub struct Introspected {
    active: Recent<QuestionKey, Verdict>,
    refused: Recent<QuestionKey, Verdict>,
}

// === impl Introspected ===

impl Introspected {
    /// Holds at most `max` tokens that hold, and as many that do not.
    pub fn new(max: usize) -> Self {
        Self { active: Recent::new(max), refused: Recent::new(max) }
    }

    /// What was said of a token, unless it is too long ago.
    pub fn find(&mut self, key: &QuestionKey, now: UnixTime) -> Option<Verdict> {
        self.active.find(key, now).or_else(|| self.refused.find(key, now))
    }

    /// Remembers what was said now, until then. That nothing was said is not remembered.
    pub fn insert(&mut self, key: QuestionKey, verdict: &Verdict, now: UnixTime, until: UnixTime) {
        match verdict {
            Verdict::Active(_) => self.active.insert(key, verdict.clone(), now, until),
            Verdict::Inactive | Verdict::Refused(_) => {
                self.refused.insert(key, verdict.clone(), now, until);
            }
            Verdict::Unavailable(_) => {}
        }
    }
}
