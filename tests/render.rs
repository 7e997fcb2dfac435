//! `mlgate render`: the files of rate limit services, from the same limits that the filter asks for.

#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a broken fixture should stop the test")]

use mlgate::config::tree::Tree;
use serde_json::{Value as Json, json};

#[path = "support/command.rs"]
mod command;

use command::{file, mlgate, text};

/// A gate with two global limits beside a local one. `window` is that of the second.
fn gate(window: &str) -> String {
    format!(
        r#"
version: 1
name: gate
consumers:
  - {{ name: user_1, roles: [any], credentials: {{ api_keys: [{{ id: k7f3a2b9, digest: "sha256:{digest}" }}] }} }}
resources:
  unlisted: allow
  rules: [{{ match: {{ path: "/v1/{{model}}" }}, resource: {{ type: model, id: "{{model}}" }}, action: read }}]
authorization: {{ roles: {{ any: {{ permissions: ["*"] }} }} }}
limits:
  - {{ name: mine, key: [principal], rates: {{ default: [{{ limit: 1, window: 1h }}] }} }}
  - name: fleet
    key: [principal.org, model]
    scope: global
    rates: {{ default: [{{ limit: 100, window: 60s }}], pro: [{{ limit: 1200, window: 1m }}, {{ limit: 50, window: 1s }}] }}
  - {{ name: all, key: [], scope: global, rates: {{ default: [{{ limit: 9, window: {window} }}] }} }}
rate_limit_service: {{ cluster: ratelimit, domain: ml.gate }}
audit: {{ collector: {{ cluster: audit }}, chain: {{ keys: [{{ id: c1, env: MLGATE_CHAIN_KEY_1 }}] }} }}
"#,
        digest = "0".repeat(64)
    )
}

/// A gate whose limits are all local.
fn local() -> String {
    let gate = gate("1d").replace("    scope: global\n", "").replace(" scope: global,", "");
    gate.lines()
        .filter(|line| !line.starts_with("rate_limit_service"))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn render(target: &str, gate: &str) -> String {
    let output = mlgate(&["render", target, "-"], gate);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    text(&output.stdout)
}

fn refused(target: &str, gate: &str) -> String {
    let output = mlgate(&["render", target, "-"], gate);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), String::new()));
    text(&output.stderr)
}

fn yaml(text: &str) -> Json {
    Tree::from_yaml(text.as_bytes()).unwrap().to_json()
}

/// The limit of a descriptor, found as `envoyproxy/ratelimit` finds it: entry by entry, a key with its value before the
/// key alone, and the last entry must be the one that has a limit.
fn find<'a>(file: &'a Json, entries: &[(&str, &str)]) -> Option<&'a Json> {
    let mut level = &file["descriptors"];
    let mut found = None;
    for (key, value) in entries {
        let here = level.as_array()?;
        let exact = here.iter().find(|at| at["key"] == *key && at["value"] == *value);
        found = Some(exact.or_else(|| here.iter().find(|at| at["key"] == *key && at["value"].is_null()))?);
        level = &found?["descriptors"];
    }
    found?.get("rate_limit")
}

#[test]
fn a_descriptor_finds_its_limit_in_the_tree_of_envoys_service() {
    let rendered = render("ratelimit", &gate("1d"));
    let file = yaml(&rendered);
    assert_eq!(file["domain"], "ml.gate");
    assert_eq!(file["descriptors"].as_array().unwrap().len(), 2, "one for each global limit:\n{rendered}");
    let fleet = |rates, window| {
        [("limit", "fleet"), ("principal.org", "acme"), ("model", "m"), ("rates", rates), ("window", window)]
    };
    let limit = |unit: &str, requests: u32| json!({"unit": unit, "requests_per_unit": requests});
    assert_eq!(find(&file, &fleet("default", "1m")), Some(&limit("minute", 100)));
    assert_eq!(find(&file, &fleet("pro", "1m")), Some(&limit("minute", 1200)));
    assert_eq!(find(&file, &fleet("pro", "1s")), Some(&limit("second", 50)));
    let all = [("limit", "all"), ("rates", "default"), ("window", "1d")];
    assert_eq!(find(&file, &all), Some(&limit("day", 9)));
    for unknown in [fleet("default", "1s"), fleet("free", "1m")] {
        assert_eq!(find(&file, &unknown), None);
    }
    assert_eq!(find(&file, &[("limit", "mine"), ("principal", "user_1")]), None, "it is local");
}

#[test]
fn a_limit_of_limitador_finds_its_descriptor_wherever_it_stands() {
    let limits = yaml(&render("limitador", &gate("90m")));
    let is_it = |rates: &str, window: &str| {
        format!(
            r#"descriptors["limit"] == "fleet" && descriptors["rates"] == "{rates}" && descriptors["window"] == "{window}""#
        )
    };
    let exists = |what: &str| format!("descriptors.exists(descriptors, {what})");
    let value = |what: &str, key: &str| format!(r#"descriptors.filter(descriptors, {what})[0]["{key}"]"#);
    let pro = is_it("pro", "1s");
    assert_eq!(
        limits[2],
        json!({
            "namespace": "ml.gate",
            "name": "fleet",
            "max_value": 50,
            "seconds": 1,
            "conditions": [exists(&pro)],
            "variables": [value(&pro, "principal.org"), value(&pro, "model")],
        })
    );
    let windows: Vec<&Json> = limits.as_array().unwrap().iter().map(|limit| &limit["seconds"]).collect();
    assert_eq!(windows, [60, 60, 1, 5400]);
    assert_eq!(limits[3]["variables"], json!([]), "all callers together");
}

#[test]
fn both_are_printed_as_json_too() {
    for target in ["ratelimit", "limitador"] {
        let output = mlgate(&["render", target, "-", "--format", "json"], &gate("1h"));
        let printed: Json = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(printed, yaml(&render(target, &gate("1h"))), "{target}");
    }
}

#[test]
fn a_window_without_unit_is_refused_with_a_way_out() {
    let said = refused("ratelimit", &gate("5m"));
    assert_eq!(
        said,
        "mlgate: -: this service has no unit for the windows of `all` (rates=default, window=5m): write 1s, 1m, 1h, 1d, \
         7d or 30d, or use `mlgate render limitador`, which takes any window\n"
    );
    for (window, unit) in [("168h", "week"), ("30d", "month")] {
        assert!(render("ratelimit", &gate(window)).contains(&format!("unit: {unit}, requests_per_unit: 9")));
    }
}

#[test]
fn a_configuration_without_global_limits_is_refused() {
    for target in ["ratelimit", "limitador"] {
        let said = refused(target, &local());
        assert!(said.contains("no limit is global: write `scope: global`"), "{said}");
    }
}

#[test]
fn a_configuration_with_faults_is_refused() {
    let path = file("render.yaml", &gate("32d"));
    let output = mlgate(&["render", "limitador", path.to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(3));
    let said = text(&output.stderr);
    assert!(
        said.contains("/limits/2/rates/default/0/window") && said.contains("see `mlgate check`"),
        "{said}"
    );
}

#[test]
fn the_example_with_every_word_can_be_rendered() {
    for target in ["ratelimit", "limitador"] {
        let output = mlgate(&["render", target, "envoy/config/full.yaml"], "");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
}
