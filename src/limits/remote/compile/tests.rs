use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::config::document::BoundsSpec;
use crate::config::faults::Faults;
use crate::limits::remote::{Counter, MAX_GLOBAL, Service};
use crate::limits::spec::{FailureModeSpec, LimitSpec, ServiceSpec};
use crate::limits::{Limit, Limits};

fn compile(limits: &Json, service: Option<Json>) -> (Limits, Vec<String>) {
    let specs: Vec<LimitSpec> = serde_json::from_value(limits.clone()).unwrap();
    let service: Option<ServiceSpec> = service.map(|service| serde_json::from_value(service).unwrap());
    let mut faults = Faults::default();
    let limits = Limits::compile(&specs, service.as_ref(), "gate", &BoundsSpec::default(), None, &mut faults);
    (limits, faults.iter().map(|fault| format!("{}: {}", fault.pointer, fault.what)).collect())
}

fn service() -> Json {
    json!({ "cluster": "ratelimit", "domain": "mlgate" })
}

fn fleet() -> Json {
    json!([
        { "name": "mine", "key": ["principal"], "rates": { "default": [{ "limit": 1, "window": "1s" }] } },
        { "name": "fleet", "key": ["principal.org", "model"], "scope": "global", "rates": {
            "default": [{ "limit": 100, "window": "60s" }],
            "pro": [{ "limit": 1200, "window": "1m" }, { "limit": 50, "window": "1s" }],
        } },
    ])
}

/// `limit=fleet principal.org rates=pro window=1m: 1200/60`
fn line(counter: &Counter) -> String {
    let entries = counter.entries.iter().map(|entry| match &entry.value {
        Some(value) => format!("{}={value}", entry.key),
        None => entry.key.clone(),
    });
    let entries: Vec<_> = entries.collect();
    format!("{}: {}/{}", entries.join(" "), counter.requests, counter.window.as_secs())
}

#[test]
fn each_rate_of_each_tier_is_a_counter_of_its_own() {
    let (limits, faults) = compile(&fleet(), Some(service()));
    assert_eq!(faults, [""; 0]);
    let lines: Vec<_> = limits.counters().map(|counter| line(&counter)).collect();
    assert_eq!(
        lines,
        [
            "limit=fleet principal.org model rates=default window=1m: 100/60",
            "limit=fleet principal.org model rates=pro window=1m: 1200/60",
            "limit=fleet principal.org model rates=pro window=1s: 50/1",
        ]
    );
}

#[test]
fn absent_words_of_the_service_have_values() {
    let (limits, _) = compile(&fleet(), Some(service()));
    let expected = Service {
        cluster: String::from("ratelimit"),
        domain: String::from("mlgate"),
        timeout: Duration::from_millis(50),
        failure_mode: FailureModeSpec::Local,
    };
    assert_eq!(limits.service(), Some(&expected));
}

#[test]
fn a_global_limit_promises_twice_what_it_says() {
    let (limits, _) = compile(&fleet(), Some(service()));
    let promises: Vec<_> = limits.iter().flat_map(Limit::promises).collect();
    assert_eq!(
        promises.get(1).map(String::as_str),
        Some(
            "`fleet`, tier `default`: at most 2 x 100 requests in any 1m over all Envoys, since services count fixed \
             windows, for each `principal.org` and `model`"
        )
    );
}

#[test]
fn what_a_service_cannot_count_is_a_fault() {
    let limits = json!([
        { "name": "a", "key": ["principal.o'rg", "source"], "scope": "global", "rates": {
            "default": [
                { "limit": 1, "window": "1m", "burst": 1 },
                { "limit": 2, "window": "1500ms" },
                { "limit": 3, "window": "60s" },
            ],
            "p\"ro": [{ "limit": 1, "window": "1s" }],
        } },
        { "name": "b", "key": ["principal.o'rg"], "rates": { "default": [{ "limit": 1, "window": "1m", "burst": 1 }] } },
    ]);
    let service = json!({ "cluster": "c".repeat(97), "domain": "a b", "timeout": "6s" });
    assert_eq!(
        compile(&limits, Some(service)).1,
        [
            "/limits/0/key/0: `principal.o'rg` is not a key that every service takes",
            "/limits/0/rates/default/0/burst: a service counts fixed windows and knows no burst",
            "/limits/0/rates/default/1/window: a service counts whole seconds",
            "/limits/0/rates/default/2/window: another rate of this tier has the same window, by which the service \
             tells them apart",
            "/limits/0/rates/p\"ro: `p\"ro` is not a tier that every service takes",
            "/rate_limit_service/cluster: a name of 97 bytes",
            "/rate_limit_service/domain: `a b` is not a domain that every service takes",
            "/rate_limit_service/timeout: every request would wait so long for a service that hangs",
        ]
    );
}

#[test]
fn a_global_limit_needs_a_service_and_a_service_a_global_limit() {
    assert_eq!(
        compile(&fleet(), None).1,
        ["/limits/1/scope: there is no service that could count for all Envoys"]
    );
    let (limits, faults) = compile(&json!([]), Some(service()));
    assert_eq!(faults, [""; 0]);
    let mut findings = Faults::default();
    limits.review(&mut findings);
    let pointers: Vec<_> = findings.iter().map(|finding| finding.pointer.as_str()).collect();
    assert_eq!(pointers, ["/rate_limit_service"]);
}

#[test]
fn more_global_limits_than_one_call_may_ask_are_a_fault() {
    let limit = |number: usize| {
        json!({ "name": format!("l{number}"), "key": [], "scope": "global",
            "rates": { "default": [{ "limit": 1, "window": "1d" }] } })
    };
    let limits: Vec<_> = (0..=MAX_GLOBAL).map(limit).collect();
    assert_eq!(compile(&json!(limits), Some(service())).1, ["/limits: 17 limits with `scope: global`"]);
    let mut findings = Faults::default();
    compile(&json!([limit(0)]), Some(service())).0.review(&mut findings);
    assert!(findings.is_empty(), "a service outlives an Envoy, so its windows may be long");
}
