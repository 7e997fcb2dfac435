//! What happened: outcomes become sealed [`AuditEvent`]s, and a [`Trail`] brings them to a collector.
//!
//! | module | turns | into |
//! |---|---|---|
//! | [`digest`] | a body as it passes | its hash, keyed or not, and its size |
//! | [`event`] | an outcome | canonical JSON (RFC 8785) that nobody has numbered yet |
//! | [`queue`] | events that wait | events in order, and what was lost on the way as a count |
//! | [`chain`] | one event after the other | sealed events: numbered, linked, authenticated |
//! | [`export`] | sealed events | acknowledged batches, or a declared gap |
//! | [`sealed`] | one line of a log | what it says, checked for form |
//! | [`verify`] | sealed events in any order | a verdict on each chain |
//! | [`analysis`] | lines of logs in any order | alerts, and tables of use |
//!
//! **Keys.** A chain key is used as it is configured: `mac` is HMAC-SHA256 under it over `"mlgate-event-1\0"` and
//! the canonical event without `mac`. A digest key is not: bodies come from callers, who could otherwise have an
//! event's text authenticated for them if both were one secret. Bodies are hashed under
//! HMAC-SHA256(secret, `"mlgate-digest-1\0"`).

pub use self::event::{AccessEvent, AuditEvent};
pub use self::export::{Trail, TrailSettings};

#[cfg(any(test, feature = "cli"))]
pub mod analysis;
pub mod canonical;
pub mod chain;
pub mod digest;
pub mod event;
pub mod export;
pub mod queue;
#[cfg(any(test, feature = "cases"))]
pub mod sealed;
pub mod spec;
#[cfg(any(test, feature = "cases"))]
pub mod verify;
