//! Lines of audit logs, in any order and of any number, become alerts and tables of use.
//!
//! | module | turns | into |
//! |---|---|---|
//! | [`fact`] | one line | what analysis needs of it |
//! | [`duplicates`] | chain and number | whether that event came before |
//! | [`bounded`] | names without end | as many as fit, the same ones whatever the order |
//! | [`caller`] | one caller's facts | hours, models and keys |
//! | [`detect`] | all facts | the three alerts |
//! | [`alert`] | an alert | words for people, JSON for programs |
//! | [`usage`] | all facts | requests, refusals, bytes and seconds by what was asked for |
//!
//! Everything here is a sum, a least or a greatest value: the same events give the same result whatever their order
//! and however many threads read them. What does not fit is left out by a rule that does not depend on the order
//! either, and is counted. Nothing here checks that a log is genuine: that is [`crate::audit::verify`].

pub mod alert;
pub mod bounded;
pub mod caller;
pub mod detect;
pub mod duplicates;
pub mod fact;
pub mod usage;

use self::fact::Fact;

/// Collects facts on one thread, to be joined with what the other threads have.
pub trait Gather: Sized {
    /// Takes one event that has not come before.
    fn take(&mut self, fact: &Fact<'_>);

    /// Joins what another thread collected.
    fn merge(&mut self, other: Self);
}

/// Milliseconds of an hour.
pub const HOUR_MS: i64 = 3_600_000;

/// The number of the UTC hour that holds a time, from 1970 on.
pub const fn hour_of(millis: i64) -> i64 {
    millis.div_euclid(HOUR_MS)
}

#[cfg(test)]
pub(crate) mod samples;
