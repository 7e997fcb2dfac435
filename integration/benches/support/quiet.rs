//! A host that does next to nothing, so that a profile shows the gate's own work.

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mlgate::host::signature::SignatureCheck;
use mlgate::host::{
    Body, Callout, CalloutId, Host, HostError, Level, MetricId, MetricKind, Version, Versioned,
};
use mlgate::time::{Monotonic, UnixTime};

/// See the module. Believes every signature.
pub(crate) struct QuietHost {
    unix_millis: Cell<i64>,
    nanos: Cell<u64>,
    shared: RefCell<Vec<(String, Vec<u8>, u32)>>,
    metrics: Cell<u32>,
    chance: Cell<u8>,
    last: RefCell<Vec<u8>>,
}

// === impl QuietHost ===

impl QuietHost {
    /// At the time of the machine, since tokens are.
    pub(crate) fn now() -> Self {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        Self {
            unix_millis: Cell::new(i64::try_from(millis).unwrap()),
            nanos: Cell::new(3_600_000_000_000),
            shared: RefCell::default(),
            metrics: Cell::new(0),
            chance: Cell::new(0),
            last: RefCell::default(),
        }
    }

    /// Moves the monotonic clock.
    pub(crate) fn advance(&self, by: Duration) {
        self.nanos.set(Monotonic::from_nanos(self.nanos.get()).plus(by).nanos());
    }

    /// What a collector answers to the call on its way.
    pub(crate) fn reply(&self) -> Option<(CalloutId, Vec<u8>)> {
        let lines = self.last.take();
        let line = lines.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty())?;
        let event: serde_json::Value = serde_json::from_slice(line).unwrap();
        let acked = serde_json::json!({"acked": {event["chain"].as_str().unwrap(): event["seq"]}});
        Some((CalloutId(1), acked.to_string().into_bytes()))
    }
}

impl Host for QuietHost {
    fn unix_time(&self) -> UnixTime {
        UnixTime::from_millis(self.unix_millis.get())
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_nanos(self.nanos.get())
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), HostError> {
        bytes.fill(self.chance.get());
        self.chance.set(self.chance.get().wrapping_add(1));
        Ok(())
    }

    fn shared(&self, key: &str) -> Result<Option<Versioned>, HostError> {
        let shared = self.shared.borrow();
        let known = shared.iter().find(|(known, ..)| known == key);
        Ok(known
            .map(|(_, value, version)| Versioned { value: value.clone(), version: Version::At(*version) }))
    }

    fn compare_and_set(&self, key: &str, value: &[u8], _expected: Version) -> Result<(), HostError> {
        let mut shared = self.shared.borrow_mut();
        match shared.iter_mut().find(|(known, ..)| known == key) {
            Some((_, known, version)) => {
                known.clear();
                known.extend_from_slice(value);
                *version += 1;
            }
            None => shared.push((key.to_owned(), value.to_vec(), 1)),
        }
        Ok(())
    }

    fn body(&self, _body: Body, _start: usize, _length: usize) -> Result<Vec<u8>, HostError> {
        Ok(Vec::new())
    }

    fn dispatch(&self, callout: &Callout) -> Result<CalloutId, HostError> {
        callout.body.clone_into(&mut self.last.borrow_mut());
        Ok(CalloutId(1))
    }

    fn define_metric(&self, _kind: MetricKind, _name: &str) -> Result<MetricId, HostError> {
        self.metrics.set(self.metrics.get() + 1);
        Ok(MetricId(self.metrics.get()))
    }

    fn add(&self, _metric: MetricId, _by: i64) {}

    fn record(&self, _metric: MetricId, _value: u64) {}

    fn verify_signature(&self, _check: &SignatureCheck<'_>) -> Result<bool, HostError> {
        Ok(true)
    }

    fn log(&self, _level: Level, _line: &str) {}
}
