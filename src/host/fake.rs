//! A host for unit tests and for the command's dry runs: clocks that only move when told to, shared data in a map.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use super::signature::SignatureCheck;
use super::{
    Body, Callout, CalloutId, GrpcCall, Host, HostError, Level, MetricId, MetricKind, Version, Versioned,
};
use crate::time::{Monotonic, UnixTime};

/// See the module. Fields are public so that a test can set the scene and look at what happened.
#[derive(Debug, Default)]
pub struct FakeHost {
    /// Wall clock, milliseconds.
    pub unix_millis: Cell<i64>,
    /// Monotonic clock, nanoseconds.
    pub monotonic_nanos: Cell<u64>,
    /// Shared data: value and version.
    pub shared: RefCell<BTreeMap<String, (Vec<u8>, u32)>>,
    /// Compare-and-sets that will conflict before one is let through.
    pub conflicts: Cell<u32>,
    /// What [`Host::body`] gives for the request.
    pub request_body: RefCell<Vec<u8>>,
    /// What [`Host::body`] gives for the response.
    pub response_body: RefCell<Vec<u8>>,
    /// Callouts started, in order; the index is the [`CalloutId`].
    pub callouts: RefCell<Vec<Callout>>,
    /// Messages of the gRPC calls started, in order; the index is the [`CalloutId`].
    pub calls: RefCell<Vec<Vec<u8>>>,
    /// What [`Host::body`] gives for the answer of a gRPC call.
    pub grpc_body: RefCell<Vec<u8>>,
    /// Makes [`Host::call`] fail.
    pub call_fails: Cell<bool>,
    /// Makes [`Host::dispatch`] fail.
    pub dispatch_fails: Cell<bool>,
    /// Makes [`Host::verify_signature`] fail, as a proxy does that knows no such function.
    pub verifies_nothing: Cell<bool>,
    /// Signatures that were checked.
    pub checks: Cell<u32>,
    /// Metric name to value, in order of definition.
    pub metrics: RefCell<Vec<(String, u64)>>,
    /// Lines logged.
    pub log: RefCell<Vec<(Level, String)>>,
    random: Cell<u64>,
}

// === impl FakeHost ===

impl FakeHost {
    /// Starts at a wall-clock time, with the monotonic clock at one hour.
    pub fn at(time: UnixTime) -> Self {
        let host = Self::default();
        host.unix_millis.set(time.millis());
        host.monotonic_nanos.set(3_600_000_000_000);
        host
    }

    /// Moves both clocks.
    pub fn advance(&self, by: Duration) {
        self.unix_millis.set(UnixTime::from_millis(self.unix_millis.get()).plus(by).millis());
        self.monotonic_nanos.set(Monotonic::from_nanos(self.monotonic_nanos.get()).plus(by).nanos());
    }

    /// The value of a metric; zero if it was never defined.
    pub fn metric(&self, name: &str) -> u64 {
        self.metrics.borrow().iter().find(|(known, _)| known == name).map_or(0, |(_, value)| *value)
    }
}

impl Host for FakeHost {
    fn unix_time(&self) -> UnixTime {
        UnixTime::from_millis(self.unix_millis.get())
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_nanos(self.monotonic_nanos.get())
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), HostError> {
        for chunk in bytes.chunks_mut(8) {
            // splitmix64: deterministic, never equal twice in a test
            let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
            self.random.set(state);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            for (to, from) in chunk.iter_mut().zip((mixed ^ (mixed >> 31)).to_le_bytes()) {
                *to = from;
            }
        }
        Ok(())
    }

    fn shared(&self, key: &str) -> Result<Option<Versioned>, HostError> {
        Ok(self
            .shared
            .borrow()
            .get(key)
            .map(|(value, version)| Versioned { value: value.clone(), version: Version::At(*version) }))
    }

    fn compare_and_set(&self, key: &str, value: &[u8], expected: Version) -> Result<(), HostError> {
        if let Some(left) = self.conflicts.get().checked_sub(1) {
            self.conflicts.set(left);
            return Err(HostError::Conflict);
        }
        let mut shared = self.shared.borrow_mut();
        let current = shared.get(key).map_or(Version::Absent, |(_, version)| Version::At(*version));
        if current != expected {
            return Err(HostError::Conflict);
        }
        let next = match current {
            Version::Absent => 1,
            Version::At(version) => version.saturating_add(1),
        };
        shared.insert(key.to_owned(), (value.to_vec(), next));
        Ok(())
    }

    fn body(&self, body: Body, start: usize, length: usize) -> Result<Vec<u8>, HostError> {
        let bytes = match body {
            Body::Request => self.request_body.borrow(),
            Body::Response | Body::Callout => self.response_body.borrow(),
            Body::Grpc => self.grpc_body.borrow(),
        };
        Ok(bytes.iter().skip(start).take(length).copied().collect())
    }

    fn dispatch(&self, callout: &Callout) -> Result<CalloutId, HostError> {
        if self.dispatch_fails.get() {
            return Err(HostError::NotFound);
        }
        let mut callouts = self.callouts.borrow_mut();
        let id = CalloutId(u32::try_from(callouts.len()).unwrap_or(u32::MAX));
        callouts.push(callout.clone());
        Ok(id)
    }

    fn call(&self, call: &GrpcCall<'_>) -> Result<CalloutId, HostError> {
        if self.call_fails.get() || call.timeout.is_zero() {
            return Err(HostError::NotFound);
        }
        let mut calls = self.calls.borrow_mut();
        let id = CalloutId(u32::try_from(calls.len()).unwrap_or(u32::MAX));
        calls.push(call.message.to_vec());
        Ok(id)
    }

    fn verify_signature(&self, check: &SignatureCheck<'_>) -> Result<bool, HostError> {
        if self.verifies_nothing.get() {
            return Err(HostError::NotFound);
        }
        self.checks.set(self.checks.get().saturating_add(1));
        verified(check)
    }

    fn define_metric(&self, _kind: MetricKind, name: &str) -> Result<MetricId, HostError> {
        let mut metrics = self.metrics.borrow_mut();
        let index = metrics.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            metrics.push((name.to_owned(), 0));
            metrics.len().saturating_sub(1)
        });
        Ok(MetricId(u32::try_from(index).unwrap_or(u32::MAX)))
    }

    fn add(&self, metric: MetricId, by: i64) {
        let index = usize::try_from(metric.0).unwrap_or(usize::MAX);
        if let Some(slot) = self.metrics.borrow_mut().get_mut(index) {
            slot.1 = slot.1.saturating_add_signed(by);
        }
    }

    fn record(&self, metric: MetricId, value: u64) {
        let index = usize::try_from(metric.0).unwrap_or(usize::MAX);
        if let Some(slot) = self.metrics.borrow_mut().get_mut(index) {
            slot.1 = value;
        }
    }

    fn log(&self, level: Level, line: &str) {
        self.log.borrow_mut().push((level, line.to_owned()));
    }
}

/// In place of the proxy, the software that also is the filter's fallback.
#[cfg(feature = "fallback")]
fn verified(check: &SignatureCheck<'_>) -> Result<bool, HostError> {
    Ok(super::signature::software::verify(check))
}

#[cfg(not(feature = "fallback"))]
fn verified(_check: &SignatureCheck<'_>) -> Result<bool, HostError> {
    Err(HostError::NotFound)
}
