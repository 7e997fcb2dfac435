use std::time::Duration;

use serde_json::json;

use super::*;

fn compile(document: serde_json::Value) -> (Limits, Vec<String>) {
    let specs: Vec<LimitSpec> = serde_json::from_value(document).unwrap();
    let mut faults = Faults::default();
    let limits = Limits::compile(&specs, None, "gate", &BoundsSpec::default(), None, &mut faults);
    (limits, faults.iter().map(|fault| format!("{}: {}", fault.pointer, fault.what)).collect())
}

fn faults_of(document: serde_json::Value) -> Vec<String> {
    compile(document).1
}

fn named(names: &[&str]) -> Limits {
    let rates = json!({ "default": [{ "limit": 1, "window": "1s" }] });
    let specs: Vec<_> =
        names.iter().map(|name| json!({ "name": name, "key": ["principal"], "rates": rates })).collect();
    let (limits, faults) = compile(json!(specs));
    assert_eq!(faults, Vec::<String>::new());
    limits
}

fn select(limits: &Limits, names: &[&str]) -> (Vec<String>, Vec<String>) {
    let names: Vec<_> = names.iter().map(|name| String::from(*name)).collect();
    let mut faults = Faults::default();
    let selection = limits.select(&names, "/profiles/p/limits", &mut faults);
    let selected = limits.selected(&selection).map(|limit| limit.name().to_owned()).collect();
    (selected, faults.iter().map(|fault| format!("{}: {}", fault.pointer, fault.what)).collect())
}

#[test]
fn the_documented_limit_compiles_and_says_what_it_promises() {
    let (limits, faults) = compile(json!([{
        "name": "per-caller", "key": ["principal", "model"], "scope": "local",
        "when": { "environment.name": "production" },
        "rates": {
            "default": [{ "limit": 100, "window": "1m", "burst": 20 }],
            "pro": [{ "limit": 1200, "window": "1m", "burst": 200 }, { "limit": 50, "window": "1s" }],
        },
    }]));
    assert_eq!(faults, Vec::<String>::new());
    let promises: Vec<_> = limits.iter().flat_map(Limit::promises).collect();
    assert_eq!(
        promises,
        [
            "`per-caller`, tier `default`: at most 119 requests in any 1m per Envoy, 20 of them at once, for each `principal` and `model`",
            "`per-caller`, tier `pro`: at most 1399 requests in any 1m per Envoy, 200 of them at once, for each `principal` and `model`",
            "`per-caller`, tier `pro`: at most 99 requests in any 1s per Envoy, 50 of them at once, for each `principal` and `model`",
        ]
    );
}

#[test]
fn every_fault_is_found_at_once() {
    let rates = json!({ "default": [{ "limit": 1, "window": "1s" }] });
    let faults = faults_of(json!([
        { "name": "a", "key": ["principal", "user", "principal"], "rates": rates },
        { "name": "a", "key": [], "rates": { "pro/x": [] } },
        { "name": "b*", "key": ["source"], "when": { "nothing": 1 }, "rates": { "default": [
            { "limit": 0, "window": "1s" },
            { "limit": 1, "window": "1s", "burst": 0 },
            { "limit": 1, "window": "32d" },
            { "limit": 1001, "window": "1ms" },
            { "limit": 1, "window": "1d", "burst": 400 },
        ] } },
    ]));
    assert_eq!(
        faults,
        [
            "/limits/0/key/1: nothing can be counted by `user`",
            "/limits/0/key/2: `principal` is there already",
            "/limits/1/name: a limit called `a` exists already",
            "/limits/1/rates: `a` has no rates for tiers that are not written",
            "/limits/1/rates/pro~1x: 0 rates",
            "/limits/2/name: `b*` is not the name of a limit",
            "/limits/2/rates/default: 5 rates",
            "/limits/2/rates/default/0/limit: a limit of 0 admits nobody",
            "/limits/2/rates/default/1/burst: a burst of 0 admits nobody",
            "/limits/2/rates/default/2/window: the window is too long",
            "/limits/2/rates/default/3/limit: the rate is finer than it can be counted",
            "/limits/2/when/nothing: `nothing` is not the full name of an attribute",
        ]
    );
}

#[test]
fn a_profile_names_limits_one_by_one_or_by_prefix() {
    let limits = named(&["a-1", "b", "a-2"]);
    assert_eq!(select(&limits, &["a-*"]).0, ["a-1", "a-2"]);
    assert_eq!(select(&limits, &["b", "a-2", "a-*", "b"]).0, ["a-1", "b", "a-2"], "in written order, once");
    assert_eq!(select(&limits, &["*"]).0, ["a-1", "b", "a-2"]);
    assert_eq!(
        select(&limits, &["b", "c*", "a"]).1,
        ["/profiles/p/limits/1: no limit is called `c*`", "/profiles/p/limits/2: no limit is called `a`"]
    );
    assert_eq!(select(&limits, &[]).1, ["/profiles/p/limits: an empty list"]);
}

#[test]
fn a_window_over_an_hour_is_found() {
    let (limits, faults) = compile(json!([{ "name": "a", "key": [], "rates": {
        "default": [{ "limit": 1, "window": "1h" }, { "limit": 2, "window": "61m" }],
    } }]));
    assert_eq!(faults, Vec::<String>::new());
    let mut findings = Faults::default();
    limits.review(&mut findings);
    let pointers: Vec<_> = findings.iter().map(|finding| finding.pointer.as_str()).collect();
    assert_eq!(pointers, ["/limits/0/rates/default/1/window"]);
}

#[test]
fn absent_burst_is_the_limit() {
    let (limits, _) = compile(json!([{ "name": "a", "key": [], "rates": {
        "default": [{ "limit": 10, "window": "1s" }],
    } }]));
    let rate = Rate::new(10, Duration::from_secs(1), 10).unwrap();
    assert!(limits.iter().all(|limit| limit.rates.values().flatten().all(|compiled| *compiled == rate)));
}

#[test]
fn more_limits_tiers_or_parts_than_the_bounds_are_faults() {
    let rates = json!({ "default": [{ "limit": 1, "window": "1s" }] });
    let limits: Vec<_> = (0..=MAX_LIMITS)
        .map(|index| json!({ "name": format!("l{index}"), "key": [], "rates": rates }))
        .collect();
    assert_eq!(faults_of(json!(limits)), ["/limits: 65 limits"]);
    let tiers: BTreeMap<_, _> =
        (0..=MAX_TIERS).map(|index| (format!("t{index}"), rates["default"].clone())).collect();
    let key: Vec<_> = (0..=MAX_KEY_PARTS).map(|index| format!("principal.a{index}")).collect();
    assert_eq!(
        faults_of(json!([{ "name": "a", "key": key, "rates": tiers }])),
        [
            "/limits/0/key: 9 parts",
            "/limits/0/rates: `a` has no rates for tiers that are not written",
            "/limits/0/rates: 65 tiers",
        ]
    );
}
