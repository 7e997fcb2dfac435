//! A service that is dead is paid for once, not by each request: after [`MAX_FAILURES`] in a row nobody calls it for
//! [`OPEN`], then one request tries.

use std::time::Duration;

use crate::time::Monotonic;

/// Calls that may fail in a row before nobody calls any more.
pub const MAX_FAILURES: u32 = 5;

/// For how long nobody calls then.
pub const OPEN: Duration = Duration::from_secs(1);

/// See the module. One for each worker: it knows neither the service nor what a failure is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    /// Nobody calls before.
    open_until: Option<Monotonic>,
}

// === impl Breaker ===

impl Breaker {
    /// Whether this request may call now. Of those that come after [`OPEN`] one may, and the others only when its
    /// answer is there or another [`OPEN`] is over: whatever became of it, somebody tries again.
    pub fn admits(&mut self, now: Monotonic) -> bool {
        match self.open_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                self.open_until = Some(now.plus(OPEN));
                true
            }
        }
    }

    /// A call had an answer.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// A call had none, or one that says nothing.
    pub fn failed(&mut self, now: Monotonic) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= MAX_FAILURES {
            self.open_until = Some(now.plus(OPEN));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Monotonic = Monotonic::from_nanos(7);

    /// A breaker whose calls failed `times` times at `START`.
    fn after(times: u32) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..times {
            breaker.failed(START);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_keep_everybody_from_calling_for_a_while() {
        assert!(after(MAX_FAILURES.saturating_sub(1)).admits(START));
        assert!(!after(MAX_FAILURES).admits(START));
        assert!(!after(MAX_FAILURES).admits(START.plus(OPEN.saturating_sub(Duration::from_nanos(1)))));
    }

    #[test]
    fn one_tries_and_the_others_wait_for_its_answer() {
        let later = START.plus(OPEN);
        let mut breaker = after(MAX_FAILURES);
        assert!(breaker.admits(later));
        assert!(!breaker.admits(later), "the first one's answer is not there");
        breaker.failed(later);
        assert!(!breaker.admits(later));
        assert!(breaker.admits(later.plus(OPEN)));
        breaker.succeeded();
        assert_eq!(breaker, Breaker::default());
    }

    #[test]
    fn one_that_tries_and_is_never_heard_of_does_not_close_it_for_good() {
        let mut breaker = after(MAX_FAILURES);
        assert!(breaker.admits(START.plus(OPEN)));
        assert!(breaker.admits(START.plus(OPEN).plus(OPEN)));
    }

    #[test]
    fn failures_between_successes_do_not_count() {
        let mut breaker = after(MAX_FAILURES.saturating_sub(1));
        breaker.succeeded();
        breaker.failed(START);
        assert!(breaker.admits(START));
    }

    #[test]
    fn a_clock_that_stands_still_admits_nobody_twice() {
        let mut breaker = after(MAX_FAILURES.saturating_mul(2));
        let admitted = (0..100).filter(|_| breaker.admits(START.plus(OPEN))).count();
        assert_eq!(admitted, 1);
    }
}
