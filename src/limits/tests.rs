use std::net::IpAddr;

use serde_json::json;

use super::*;
use crate::config::document::BoundsSpec;
use crate::config::faults::Faults;
use crate::host::fake::FakeHost;
use crate::identity::Identity;
use crate::policy::attributes::{AttributeMap, Attributes, Value};
use crate::resource::Resource;

fn compiled(document: serde_json::Value) -> Limits {
    let specs: Vec<spec::LimitSpec> = serde_json::from_value(document).unwrap();
    let mut faults = Faults::default();
    let limits = Limits::compile(&specs, None, "gate", &BoundsSpec::default(), None, &mut faults);
    assert_eq!(faults.into_vec(), []);
    limits
}

/// Somebody who asks.
struct Caller {
    identity: Identity,
    resource: Resource,
    source: Option<IpAddr>,
    environment: AttributeMap,
}

impl Caller {
    fn named(name: &str) -> Self {
        let mut identity = Identity::anonymous();
        identity.principal = name.to_owned();
        Self {
            identity,
            resource: Resource {
                kind: String::from("model"),
                id: String::from("m"),
                attributes: AttributeMap::new(),
            },
            source: None,
            environment: AttributeMap::new(),
        }
    }

    fn of_tier(mut self, tier: &str) -> Self {
        self.identity.tier = tier.to_owned();
        self
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.identity.attributes.insert(name.to_owned(), value);
        self
    }

    fn charge(&self, limits: &Limits, host: &FakeHost) -> Charging {
        let attributes = Attributes {
            principal: &self.identity,
            resource: &self.resource,
            action: "predict",
            environment: &self.environment,
            now: None,
            source: None,
        };
        let subject =
            Subject { attributes: &attributes, source: self.source, route: None, profile: "default" };
        limits.charge(&limits.all(), &subject, host)
    }

    /// How many of `tries` are admitted at once.
    fn admitted(&self, limits: &Limits, host: &FakeHost, tries: usize) -> usize {
        (0..tries).filter(|_| matches!(self.charge(limits, host).charge, Charge::Admitted { .. })).count()
    }
}

fn per_principal(limit: u64) -> serde_json::Value {
    json!({ "name": "per-caller", "key": ["principal"], "rates": { "default": [{ "limit": limit, "window": "1m" }] } })
}

#[test]
fn callers_are_counted_apart_and_told_when_to_come_back() {
    let (host, limits) = (FakeHost::default(), compiled(json!([per_principal(3)])));
    assert_eq!(Caller::named("a").admitted(&limits, &host, 10), 3);
    assert_eq!(Caller::named("b").admitted(&limits, &host, 10), 3);
    let Charge::Refused { limit, retry_after, quota } = Caller::named("a").charge(&limits, &host).charge
    else {
        panic!("admitted")
    };
    assert_eq!((limit.as_str(), retry_after, quota.remaining), ("per-caller", Duration::from_secs(20), 0));
    host.advance(Duration::from_secs(20));
    assert_eq!(Caller::named("a").admitted(&limits, &host, 10), 1);
}

#[test]
fn one_charge_reads_once_and_writes_one_value() {
    let (host, limits) = (FakeHost::default(), compiled(json!([per_principal(3)])));
    assert_eq!(Caller::named("a").admitted(&limits, &host, 2), 2);
    let keys: Vec<_> =
        host.shared.borrow().iter().map(|(key, (_, version))| (key.clone(), *version)).collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert!(keys[0].0.starts_with("mlgate/1/gate/principal_slots/") && keys[0].1 == 2);
    assert_eq!(keys[1], (String::from("mlgate/1/gate/slots/key"), 1));
}

#[test]
fn another_worker_counts_the_same_callers() {
    let host = FakeHost::default();
    let workers = [compiled(json!([per_principal(3)])), compiled(json!([per_principal(3)]))];
    let caller = Caller::named("a");
    let admitted: usize = (0..10).map(|turn| caller.admitted(&workers[turn % 2], &host, 1)).sum();
    assert_eq!(admitted, 3);
}

#[test]
fn tiers_have_rates_of_their_own_or_the_default_ones() {
    let limits = compiled(json!([{ "name": "l", "key": ["principal"], "rates": {
        "default": [{ "limit": 2, "window": "1m" }],
        "pro": [{ "limit": 20, "window": "1m" }, { "limit": 5, "window": "1s" }],
    } }]));
    let host = FakeHost::default();
    assert_eq!(Caller::named("a").of_tier("pro").admitted(&limits, &host, 10), 5);
    assert_eq!(Caller::named("b").of_tier("free").admitted(&limits, &host, 10), 2);
    assert_eq!(
        Caller::named("b").of_tier("other").admitted(&limits, &host, 10),
        0,
        "one bucket for `default`"
    );
}

#[test]
fn what_earlier_limits_charged_is_given_back() {
    let limits = compiled(json!([
        per_principal(3),
        { "name": "all", "key": [], "rates": { "default": [{ "limit": 1, "window": "1h" }] } },
    ]));
    let host = FakeHost::default();
    assert_eq!(Caller::named("a").admitted(&limits, &host, 50), 1);
    let Charge::Refused { limit, .. } = Caller::named("a").charge(&limits, &host).charge else {
        panic!("admitted")
    };
    assert_eq!(limit, "all");
    // an hour later `all` admits again and the caller's own burst is whole, whatever was refused in between
    host.advance(Duration::from_secs(3_600));
    let before = host.monotonic_nanos.get();
    for _ in 0..50 {
        Caller::named("a").charge(&limits, &host);
    }
    host.monotonic_nanos.set(before);
    let mine = compiled(json!([per_principal(3)]));
    assert_eq!(Caller::named("a").admitted(&mine, &host, 5), 2, "one was admitted by both");
}

#[test]
fn a_later_stage_can_give_everything_back() {
    let (host, limits) = (FakeHost::default(), compiled(json!([per_principal(1)])));
    let caller = Caller::named("a");
    for _ in 0..5 {
        let Charge::Admitted { receipt, .. } = caller.charge(&limits, &host).charge else {
            panic!("refused")
        };
        assert!(!receipt.is_empty());
        assert_eq!(limits.refund(receipt, &host), None);
    }
    assert_eq!(caller.admitted(&limits, &host, 5), 1);
}

#[test]
fn a_refund_that_fails_is_said() {
    let (host, limits) = (FakeHost::default(), compiled(json!([per_principal(1)])));
    let Charge::Admitted { receipt, .. } = Caller::named("a").charge(&limits, &host).charge else {
        panic!("refused")
    };
    host.conflicts.set(8);
    assert_eq!(limits.refund(receipt, &host), Some(Degraded::Refund));
}

#[test]
fn a_storm_of_conflicts_is_unavailable_and_charges_nothing() {
    let limits = compiled(json!([per_principal(3), {
        "name": "all", "key": [], "rates": { "default": [{ "limit": 3, "window": "1h" }] } }]));
    let host = FakeHost::default();
    let caller = Caller::named("a");
    assert_eq!(caller.admitted(&limits, &host, 1), 1);
    host.conflicts.set(8);
    let Charge::Unavailable { limit } = caller.charge(&limits, &host).charge else { panic!("no storm") };
    assert_eq!(limit, "per-caller");
    assert_eq!(caller.admitted(&limits, &host, 10), 2);
}

#[test]
fn a_limit_whose_when_says_no_is_not_asked() {
    let limits = compiled(json!([{ "name": "l", "key": ["principal"], "when": { "principal.org": "acme" },
        "rates": { "default": [{ "limit": 1, "window": "1m" }] } }]));
    let host = FakeHost::default();
    let of = |org: &str| Caller::named("a").with("org", Value::Text(org.to_owned()));
    assert_eq!(of("other").admitted(&limits, &host, 5), 5);
    assert_eq!(Caller::named("a").admitted(&limits, &host, 5), 5, "who has no org is not of this one");
    assert_eq!(of("acme").admitted(&limits, &host, 5), 1);
    assert!(host.shared.borrow().len() <= 2);
}

#[test]
fn a_limit_whose_when_errs_is_asked_and_it_is_said() {
    let limits = compiled(json!([{ "name": "l", "key": ["principal"], "when": { "principal.org": "acme" },
        "rates": { "default": [{ "limit": 1, "window": "1m" }] } }]));
    let host = FakeHost::default();
    let caller = Caller::named("a").with("org", Value::Number(1));
    assert_eq!(caller.admitted(&limits, &host, 5), 1);
    assert_eq!(caller.charge(&limits, &host).degraded, [Degraded::Condition]);
}

#[test]
fn callers_without_the_attribute_share_one_bucket_by_name() {
    let limits = compiled(json!([{ "name": "l", "key": ["principal.org", "source"],
        "rates": { "default": [{ "limit": 2, "window": "1m" }] } }]));
    let host = FakeHost::default();
    let charging = Caller::named("a").charge(&limits, &host);
    assert_eq!(charging.unknown, ["l/principal.org", "l/source"]);
    assert_eq!(Caller::named("b").admitted(&limits, &host, 5), 1);
    let known = Caller::named("c").with("org", Value::Text(String::new()));
    assert_eq!(known.charge(&limits, &host).unknown, ["l/source"]);
}

#[test]
fn sources_have_a_table_of_their_own() {
    let limits = compiled(json!([{ "name": "l", "key": ["source", "principal"],
        "rates": { "default": [{ "limit": 2, "window": "1m" }] } }]));
    let host = FakeHost::default();
    let mut caller = Caller::named("a");
    caller.source = Some("2001:db8::1".parse().unwrap());
    assert_eq!(caller.admitted(&limits, &host, 1), 1);
    caller.source = Some("2001:db8::2".parse().unwrap());
    assert_eq!(caller.admitted(&limits, &host, 5), 1);
    assert!(host.shared.borrow().keys().any(|key| key.starts_with("mlgate/1/gate/source_slots/")));
}

#[test]
fn no_limits_admit_without_asking_shared_data() {
    let (host, limits) = (FakeHost::default(), compiled(json!([])));
    let Charge::Admitted { quota: None, receipt } = Caller::named("a").charge(&limits, &host).charge else {
        panic!("refused")
    };
    assert!(receipt.is_empty() && host.shared.borrow().is_empty());
}

#[test]
fn the_quota_is_of_the_limit_nearest_refusal() {
    let limits = compiled(json!([
        per_principal(3),
        { "name": "all", "key": [], "rates": { "default": [{ "limit": 100, "window": "1m" }] } },
    ]));
    let host = FakeHost::default();
    let Charge::Admitted { quota, .. } = Caller::named("a").charge(&limits, &host).charge else {
        panic!("refused")
    };
    assert_eq!(quota.map(|quota| (quota.limit, quota.remaining)), Some((3, 2)));
}

#[test]
fn seconds_for_a_header_are_rounded_up() {
    assert_eq!(ceil_seconds(Duration::from_nanos(1)), 1);
    assert_eq!(ceil_seconds(Duration::from_secs(2)), 2);
    assert_eq!(ceil_seconds(Duration::from_nanos(2_000_000_001)), 3);
}
