//! Limits over one shared memory: threads stand for workers, a map behind a mutex for the proxy's shared data.
#![expect(clippy::unwrap_used, reason = "a broken fixture should stop the test")]
#![expect(clippy::disallowed_methods, reason = "threads need a clock that runs")]
#![expect(clippy::arithmetic_side_effects, reason = "an overflow should stop the test")]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

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
struct SharedHost {
    values: Mutex<Values>,
    started: Instant,
    random: AtomicU64,
}

#[derive(Default)]
struct Values {
    /// Value and version.
    by_key: HashMap<String, (Vec<u8>, u32)>,
    /// As the proxy does it, versions of all keys are one sequence.
    sequence: u32,
}

impl SharedHost {
    fn new() -> Self {
        Self { values: Mutex::default(), started: Instant::now(), random: AtomicU64::new(1) }
    }

    /// How many keys there are, and how many bytes they and their values have.
    fn size(&self) -> (u64, u64) {
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
        Monotonic::default().plus(self.started.elapsed())
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
fn worker(specs: &str) -> Limits {
    let specs: Vec<_> = serde_json::from_str(specs).unwrap();
    let mut faults = Faults::default();
    let limits = Limits::compile(&specs, None, "gate", &BoundsSpec::default(), None, &mut faults);
    assert!(faults.is_empty(), "{faults:?}");
    limits
}

/// Asks every limit, or the one called `only`.
fn charge(limits: &Limits, only: &str, principal: &str, source: Option<IpAddr>, host: &dyn Host) -> Charge {
    let selection = limits.select(&[only.to_owned()], "", &mut Faults::default());
    let mut identity = Identity::anonymous();
    principal.clone_into(&mut identity.principal);
    charge_as(limits, &selection, &identity, source, host).charge
}

fn charge_as(
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

/// Sums what 8 workers at once count.
fn together(work: impl Fn() -> u64 + Sync) -> u64 {
    thread::scope(|scope| {
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(&work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    })
}

#[test]
fn eight_workers_admit_exactly_the_limit() {
    let specs = r#"[{ "name": "per-caller", "key": ["principal"],
        "rates": { "default": [{ "limit": 5, "window": "1h" }, { "limit": 100, "window": "1h" }] } }]"#;
    for round in 0..50 {
        // a new proxy each time, so that the workers race for the hash key as well
        let host = SharedHost::new();
        let admitted = together(|| {
            let limits = worker(specs);
            let mut admitted = 0_u64;
            for _ in 0..25 {
                match charge(&limits, "*", "alice", None, &host) {
                    Charge::Admitted { .. } => admitted += 1,
                    Charge::Refused { .. } => {}
                    // only five writes can succeed, so nobody conflicts more than five times
                    Charge::Unavailable { .. } => panic!("unavailable in round {round}"),
                }
            }
            admitted
        });
        assert_eq!(admitted, 5, "round {round}");
    }
}

#[test]
fn eight_workers_that_give_back_lose_and_gain_nothing() {
    let specs = r#"[{ "name": "per-caller", "key": ["principal"],
        "rates": { "default": [{ "limit": 20, "window": "24h" }] } }]"#;
    let host = SharedHost::new();
    let limits = worker(specs);
    // everybody takes and gives back for a while; a storm may make a worker give up, but never forget a charge
    let kept = together(|| {
        let limits = worker(specs);
        let mut kept = 0_u64;
        for _ in 0..500 {
            if let Charge::Admitted { receipt, .. } = charge(&limits, "*", "alice", None, &host)
                && limits.refund(receipt, &host).is_some()
            {
                kept += 1;
            }
        }
        kept
    });
    let mut admitted = 0_u64;
    while let Charge::Admitted { .. } = charge(&limits, "*", "alice", None, &host) {
        admitted += 1;
    }
    // each refund withheld the time it took: all of them together may cost one request, of 72 minutes
    let sum = admitted + kept;
    assert!((19..=20).contains(&sum), "{admitted} admitted, {kept} refunds failed");
}

#[test]
fn a_million_identities_stay_within_the_stated_memory() {
    let specs = r#"[
        { "name": "per-caller", "key": ["principal"], "rates": { "default": [{ "limit": 2, "window": "24h" }] } },
        { "name": "per-source", "key": ["source"], "rates": { "default": [{ "limit": 2, "window": "24h" }] } }]"#;
    let limits = worker(specs);
    let host = SharedHost::new();
    let network = |number: u64| Some(IpAddr::from(Ipv6Addr::from_bits(u128::from(number) << 64)));
    let ask = |limits: &Limits, only: &str, number: u64| {
        charge(limits, only, &format!("caller-{number}"), network(number), &host)
    };
    let flood = |only: &str, numbers: Range<u64>| {
        let limits = worker(specs);
        numbers.for_each(|number| drop(ask(&limits, only, number)));
    };
    let mut over = [("per-caller", u64::MAX), ("per-source", u64::MAX)].into_iter().cycle();
    for (only, number) in over.by_ref().take(4) {
        assert!(matches!(ask(&limits, only, number), Charge::Admitted { .. }));
    }

    let started = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| flood("per-caller", 0..500_000));
        scope.spawn(|| flood("per-caller", 500_000..1_000_000));
        scope.spawn(|| flood("per-source", 0..200_000));
    });
    let (keys, bytes) = host.size();
    println!(
        "1,000,000 principals and 200,000 sources in {:.1?}: {keys} of {} keys, {bytes} of {} bytes",
        started.elapsed(),
        limits.max_keys(),
        limits.max_bytes(),
    );
    assert!(keys <= limits.max_keys() && limits.max_keys() == 8_192 + 2_048 + 1);
    assert!(bytes <= limits.max_bytes() && limits.max_bytes() < 5_000_000);
    for (only, number) in over.take(2) {
        assert!(
            matches!(ask(&limits, only, number), Charge::Refused { .. }),
            "who was over the limit still is"
        );
    }
}

#[test]
fn one_charge_costs() {
    let host = SharedHost::new();
    for (name, specs) in [
        (
            "one limit, one rate",
            r#"[{ "name": "a", "key": ["principal"], "rates": { "default": [
            { "limit": 1000000, "window": "1s" }] } }]"#,
        ),
        (
            "one limit, two rates",
            r#"[{ "name": "b", "key": ["principal", "model"], "rates": { "default": [
            { "limit": 1000000, "window": "1s" }, { "limit": 10000000, "window": "1m" }] } }]"#,
        ),
        (
            "one limit, refused",
            r#"[{ "name": "c", "key": ["principal"], "rates": { "default": [
            { "limit": 1, "window": "24h" }] } }]"#,
        ),
    ] {
        let limits = worker(specs);
        let (selection, identity) = (limits.all(), Identity::anonymous());
        let started = Instant::now();
        let turns = 100_000_u32;
        for _ in 0..turns {
            drop(charge_as(&limits, &selection, &identity, None, &host));
        }
        println!("{name}: {:?} each", started.elapsed().checked_div(turns).unwrap());
    }
}
