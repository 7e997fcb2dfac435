//! One shared memory, as workers of one proxy have it: a map behind a mutex for the proxy's shared data, a clock that runs
//! and can be set.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mlgate::config::document::BoundsSpec;
use mlgate::config::faults::Faults;
use mlgate::host::{
    Body, Callout, CalloutId, Host, HostError, Level, MetricId, MetricKind, Version, Versioned,
};
use mlgate::identity::Identity;
use mlgate::limits::{Charge, Charging, Limits, Selection, Subject};
use mlgate::policy::attributes::{AttributeMap, Attributes};
use mlgate::resource::Resource;
use mlgate::time::{Monotonic, UnixTime};

/// What all workers of one proxy share.
pub(crate) struct SharedHost {
    values: Mutex<Values>,
    clock: Clock,
    random: AtomicU64,
}

enum Clock {
    /// Since then.
    Running(Instant),
    /// Nanoseconds; whoever has the host sets it.
    Set(AtomicU64),
}

#[derive(Default)]
struct Values {
    /// Value and version.
    by_key: HashMap<String, (Vec<u8>, u32)>,
    /// As the proxy does it, versions of all keys are one sequence.
    sequence: u32,
}

impl SharedHost {
    /// With a clock that runs.
    pub(crate) fn new() -> Self {
        Self::with(Clock::Running(Instant::now()))
    }

    /// With a clock that stands until it is set.
    pub(crate) fn standing_at(time: Duration) -> Self {
        let host = Self::with(Clock::Set(AtomicU64::default()));
        host.set(time);
        host
    }

    /// Sets the clock, forward or back.
    pub(crate) fn set(&self, time: Duration) {
        if let Clock::Set(nanos) = &self.clock {
            nanos.store(time.as_nanos().try_into().unwrap(), Ordering::Relaxed);
        }
    }

    fn with(clock: Clock) -> Self {
        Self { values: Mutex::default(), clock, random: AtomicU64::new(1) }
    }

    /// How many keys there are, and how many bytes they and their values have.
    pub(crate) fn size(&self) -> (u64, u64) {
        let values = self.values.lock().unwrap();
        let bytes =
            values.by_key.iter().map(|(key, (value, _))| u64::try_from(key.len() + value.len()).unwrap());
        (values.by_key.len().try_into().unwrap(), bytes.sum())
    }
}

impl Host for SharedHost {
    fn unix_time(&self) -> UnixTime {
        UnixTime::default()
    }
    fn monotonic(&self) -> Monotonic {
        match &self.clock {
            Clock::Running(started) => Monotonic::default().plus(started.elapsed()),
            Clock::Set(nanos) => Monotonic::from_nanos(nanos.load(Ordering::Relaxed)),
        }
    }
    fn random(&self, bytes: &mut [u8]) -> Result<(), HostError> {
        let number = self.random.fetch_add(1, Ordering::Relaxed);
        for (to, from) in bytes.iter_mut().zip(number.to_le_bytes()) {
            *to = from;
        }
        Ok(())
    }
    fn shared(&self, key: &str) -> Result<Option<Versioned>, HostError> {
        let values = self.values.lock().unwrap();
        let read = values.by_key.get(key);
        Ok(read.map(|(value, version)| Versioned { value: value.clone(), version: Version::At(*version) }))
    }
    fn compare_and_set(&self, key: &str, value: &[u8], expected: Version) -> Result<(), HostError> {
        let mut values = self.values.lock().unwrap();
        let found = values.by_key.get(key).map_or(Version::Absent, |(_, version)| Version::At(*version));
        if found != expected {
            return Err(HostError::Conflict);
        }
        values.sequence += 1;
        let version = values.sequence;
        values.by_key.insert(key.to_owned(), (value.to_vec(), version));
        Ok(())
    }
    fn body(&self, _: Body, _: usize, _: usize) -> Result<Vec<u8>, HostError> {
        Err(HostError::NotFound)
    }
    fn dispatch(&self, _: &Callout) -> Result<CalloutId, HostError> {
        Err(HostError::NotFound)
    }
    fn define_metric(&self, _: MetricKind, _: &str) -> Result<MetricId, HostError> {
        Err(HostError::NotFound)
    }
    fn add(&self, _: MetricId, _: i64) {}
    fn record(&self, _: MetricId, _: u64) {}
    fn log(&self, _: Level, _: &str) {}
}

/// One worker's limits, compiled as each worker compiles them.
pub(crate) fn worker(specs: &str) -> Limits {
    let specs: Vec<_> = serde_json::from_str(specs).unwrap();
    let mut faults = Faults::default();
    let limits = Limits::compile(&specs, None, "gate", &BoundsSpec::default(), None, &mut faults);
    assert!(faults.is_empty(), "{faults:?}");
    limits
}

/// Asks every limit, or the one called `only`.
pub(crate) fn charge(
    limits: &Limits,
    only: &str,
    principal: &str,
    source: Option<IpAddr>,
    host: &dyn Host,
) -> Charge {
    let selection = limits.select(&[only.to_owned()], "", &mut Faults::default());
    let mut identity = Identity::anonymous();
    principal.clone_into(&mut identity.principal);
    charge_as(limits, &selection, &identity, source, host).charge
}

pub(crate) fn charge_as(
    limits: &Limits,
    selection: &Selection,
    identity: &Identity,
    source: Option<IpAddr>,
    host: &dyn Host,
) -> Charging {
    let resource =
        Resource { kind: String::from("model"), id: String::from("m"), attributes: AttributeMap::new() };
    let environment = AttributeMap::new();
    let attributes = Attributes {
        principal: identity,
        resource: &resource,
        action: "predict",
        environment: &environment,
        now: None,
        source: None,
    };
    let subject = Subject { attributes: &attributes, source, route: None, profile: "default" };
    limits.charge(selection, &subject, host)
}
