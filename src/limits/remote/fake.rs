//! A rate limit service for unit tests, the golden table and the command's dry runs: it counts in fixed windows what
//! [`Limits::counters`] says, as real services do, and like them admits what it does not know.

use std::cell::RefCell;
use std::collections::BTreeMap;

use prost::Message as _;

use crate::limits::Limits;
use crate::limits::remote::Counter;
use crate::limits::remote::message::{
    Code, CurrentLimit, Descriptor, ProtoDuration, RateLimitRequest, RateLimitResponse, Status,
};
use crate::time::UnixTime;

/// See the module.
#[derive(Debug, Default)]
pub struct FakeService {
    domain: String,
    counters: Vec<Counter>,
    /// Descriptor to the window it was last counted in, and how often.
    counts: RefCell<BTreeMap<String, (i64, u64)>>,
}

// === impl FakeService ===

impl FakeService {
    /// A service that counts the global limits of a gate.
    pub fn of(limits: &Limits) -> Self {
        Self {
            domain: limits.service().map(|service| service.domain.clone()).unwrap_or_default(),
            counters: limits.counters().collect(),
            counts: RefCell::default(),
        }
    }

    /// Answers a message at a time; an unreadable one with nothing, which is no answer.
    pub fn answer(&self, message: &[u8], now: UnixTime) -> Vec<u8> {
        let Ok(request) = RateLimitRequest::decode(message) else { return Vec::new() };
        let known = request.domain == self.domain;
        let statuses: Vec<_> = request
            .descriptors
            .iter()
            .map(|descriptor| match self.counter(descriptor).filter(|_| known) {
                Some(counter) => self.count(counter, descriptor, u64::from(request.hits_addend), now),
                None => Status { code: i32::from(Code::Ok), ..Status::default() },
            })
            .collect();
        let over = statuses.iter().any(|status| status.code == i32::from(Code::OverLimit));
        let code = if over { Code::OverLimit } else { Code::Ok };
        RateLimitResponse { overall_code: i32::from(code), statuses, ..RateLimitResponse::default() }
            .encode_to_vec()
    }

    fn counter(&self, descriptor: &Descriptor) -> Option<&Counter> {
        let fits = |counter: &&Counter| {
            counter.entries.len() == descriptor.entries.len()
                && counter.entries.iter().zip(&descriptor.entries).all(|(wanted, entry)| {
                    wanted.key == entry.key && wanted.value.as_ref().is_none_or(|value| *value == entry.value)
                })
        };
        self.counters.iter().find(fits)
    }

    fn count(&self, counter: &Counter, descriptor: &Descriptor, hits: u64, now: UnixTime) -> Status {
        let length = i64::try_from(counter.window.as_millis()).unwrap_or(i64::MAX).max(1);
        let window = now.millis().div_euclid(length);
        let left = length.saturating_sub(now.millis().rem_euclid(length));
        let mut counts = self.counts.borrow_mut();
        let (counted, used) = counts.entry(format!("{descriptor:?}")).or_default();
        if *counted != window {
            (*counted, *used) = (window, 0);
        }
        *used = used.saturating_add(hits);
        let over = *used > counter.requests;
        let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Status {
            code: i32::from(if over { Code::OverLimit } else { Code::Ok }),
            current_limit: Some(CurrentLimit { requests_per_unit: count(counter.requests) }),
            limit_remaining: count(counter.requests.saturating_sub(*used)),
            duration_until_reset: Some(ProtoDuration {
                seconds: left.saturating_add(999).div_euclid(1000),
                nanos: 0,
            }),
        }
    }
}
