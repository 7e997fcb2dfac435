//! The metrics as Prometheus sees them: each of the reference's table with its labels, the dashboard's every query, the alerts.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test is the outside world, and says what it left out"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use http::Request;
use mlgate::cases::Gate as Secrets;
use mlgate::config::tree::Tree;
use mlgate::filter::metrics::NAMES;
use mlgate_integration::client::Http1;
use mlgate_integration::demo::setup;
use mlgate_integration::gate::Gate;
use mlgate_integration::prometheus::{self, Prometheus};
use mlgate_integration::{Cluster, ModelServer, artifacts};
use serde_json::{Value, json};

const ALERTS: &str = "envoy/dashboards/alerts.yaml";
const DASHBOARD: &str = "envoy/dashboards/mlgate.json";

/// How long metrics and alerts may take to appear, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(90);

/// Metrics that this traffic does not produce: the gate asks no issuer and no list.
const LEFT_OUT: [&str; 2] = ["mlgate_jwks_age_seconds", "mlgate_revocation_lag_seconds"];

/// Everything that can go wrong here goes wrong: a limit, a service that is not there, a policy that would deny, a queue of 20
/// events whose collector dies.
const DOCUMENT: &str = r#"
version: 1
name: watched
revision: { id: "1" }
consumers:
  - { name: alice, roles: [any], credentials: { api_keys: [{ id: alice001, digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000" }] } }
resources:
  unlisted: allow
  rules: [{ match: { path: "/v1/{model}" }, resource: { type: model, id: "{model}" }, action: read }]
authorization:
  roles: { any: { permissions: ["*"] } }
  policies: [{ name: soon-denied, effect: deny, resource: { type: model, id: old }, action: [read], mode: shadow }]
limits:
  - { name: tight, key: [principal], when: { resource.id: tight }, rates: { default: [{ limit: 1, window: 1h }] } }
  - { name: fleet, key: [principal], when: { resource.id: fleet }, scope: global, rates: { default: [{ limit: 1, window: 1h }] } }
rate_limit_service: { cluster: ratelimit, domain: gate, failure_mode: deny }
audit:
  collector: { cluster: audit }
  chain: { keys: [{ id: c1, env: MLGATE_CHAIN_KEY_1 }] }
  queue: { max_events: 20, on_full: drop_oldest }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_metric_is_seen_drawn_and_watched() -> anyhow::Result<()> {
    let tree = Tree::from_yaml(DOCUMENT.as_bytes()).map_err(|faults| anyhow!("{faults:?}"))?;
    let secrets = Secrets::of(tree.to_json()).map_err(anyhow::Error::msg)?;
    let model = ModelServer::start().await?;
    let upstream = Cluster::http1("model", model.address());
    let nobody = Cluster::http2("ratelimit", ([127, 0, 0, 1], 1).into());
    let mut gate =
        Gate::start("observability", secrets, upstream, |builder| builder.cluster(nobody).edit(with_labels))
            .await?;
    let rules = artifacts::root().join(ALERTS);
    let Some(prometheus) = Prometheus::start(&gate.stack, &[gate.envoy.admin()], &rules).await? else {
        return Ok(());
    };

    // some traffic with a collector and some without, so that there is a time before everything
    traffic(&gate).await?;
    gate.collector.kill()?;
    let start = Instant::now();
    let mut missing = missing(&prometheus).await?;
    while !missing.is_empty() {
        if start.elapsed() > PATIENCE {
            bail!("not seen within {PATIENCE:?}: {missing:?}");
        }
        traffic(&gate).await?;
        missing = self::missing(&prometheus).await?;
    }
    for (name, kind, labels) in NAMES {
        if LEFT_OUT.contains(&name) {
            println!("left out: {name}, which this traffic does not produce");
            continue;
        }
        let wanted: BTreeSet<&str> =
            labels.split(", ").filter(|label| !label.is_empty()).chain(["gate", "instance", "job"]).collect();
        let series = series_of(name, kind);
        for sample in prometheus.query(&series).await? {
            let metric = sample.get("metric").and_then(Value::as_object).context("no labels")?;
            let mut found: BTreeSet<&str> = metric
                .keys()
                .map(String::as_str)
                .filter(|label| !["__name__", "le"].contains(label))
                .collect();
            // a label without a value is none to Prometheus
            if metric.get("decision") == Some(&json!("success")) {
                assert!(found.insert("reason"), "{metric:?}");
            }
            assert_eq!(found, wanted, "{series}");
            assert_eq!(metric.get("gate"), Some(&json!("watched")), "{series}");
            assert!(
                metric.values().all(|value| !value.as_str().unwrap_or_default().contains(".=.")),
                "{metric:?}"
            );
        }
    }

    every_query_of_the_dashboard_is_answered(&prometheus, &gate).await?;

    let expected = BTreeSet::from(["MlgateAuditDropped", "MlgateDegraded", "MlgateLimiterUnavailable"]);
    let firing = alerts(&prometheus, &expected).await?;
    assert_eq!(
        firing,
        expected.iter().map(|name| (*name).to_owned()).collect(),
        "fires without need, or not"
    );
    gate.envoy.check_unharmed().await
}

/// What a gate does not count is looked for by nobody.
#[test]
fn alerts_and_dashboard_name_metrics_that_there_are() -> anyhow::Result<()> {
    let known: BTreeSet<&str> = NAMES.iter().map(|(name, _, _)| *name).chain(LEFT_OUT).collect();
    let mut named = BTreeSet::new();
    for path in [ALERTS, DASHBOARD] {
        let text = fs::read_to_string(artifacts::root().join(path))?;
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("mlgate_")) {
            let metric = word.strip_suffix("_bucket").unwrap_or(word);
            assert!(known.contains(metric), "{path}: {word}");
            named.insert(metric.to_owned());
        }
    }
    let unnamed: Vec<_> = NAMES.iter().filter(|(name, _, _)| !named.contains(*name)).collect();
    assert!(unnamed.is_empty(), "nobody looks at {unnamed:?}");
    Ok(())
}

#[test]
fn promtool_takes_the_alerts_and_sees_them_fire() -> anyhow::Result<()> {
    for arguments in [["check", "rules", ALERTS], ["test", "rules", "envoy/dashboards/alerts_test.yaml"]] {
        let Some(output) = prometheus::promtool(&arguments)? else { return Ok(()) };
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && said.contains("SUCCESS"), "{said}");
    }
    Ok(())
}

/// The settings of metrics of the documented bootstrap.
fn with_labels(bootstrap: &mut Value) {
    let ours = setup::yaml(&artifacts::root().join(setup::BOOTSTRAP)).unwrap_or_default();
    if let (Value::Object(fields), Some(settings)) = (bootstrap, ours.get("stats_config")) {
        fields.insert("stats_config".to_owned(), settings.clone());
    }
}

/// A few requests of each kind.
async fn traffic(gate: &Gate) -> anyhow::Result<()> {
    let mut connection = Http1::connect(gate.envoy.address()).await?;
    for path in ["/v1/some", "/v1/old", "/v1/tight", "/v1/fleet", "/nowhere"] {
        for key in ["", gate.key("alice001")] {
            let request = Request::get(path).header("host", "gate.example");
            let request = if key.is_empty() { request } else { request.header("x-api-key", key) };
            connection.call(request.body(bytes::Bytes::new())?).await?;
        }
    }
    tokio::time::sleep(Duration::from_millis(250)).await;
    Ok(())
}

fn series_of(name: &str, kind: &str) -> String {
    if kind == "histogram" { format!("{name}_bucket") } else { name.to_owned() }
}

/// Metrics of the table that Prometheus has no sample of, and outcomes that are asked for below.
async fn missing(prometheus: &Prometheus) -> anyhow::Result<Vec<String>> {
    let table = NAMES.iter().filter(|(name, _, _)| !LEFT_OUT.contains(name));
    let special = [
        "mlgate_limit_total{outcome=\"refused\"}",
        "mlgate_limit_total{outcome=\"unavailable\"}",
        "mlgate_duration_us_bucket{stage=\"head\"}",
        "mlgate_audit_queue_events > 0",
        "mlgate_audit_dropped_total > 0",
        "rate(mlgate_requests_total[10s]) > 0",
    ];
    let wanted = table.map(|(name, kind, _)| series_of(name, kind)).chain(special.map(str::to_owned));
    let mut missing = Vec::new();
    for series in wanted {
        if prometheus.query(&series).await?.is_empty() {
            missing.push(series);
        }
    }
    Ok(missing)
}

async fn every_query_of_the_dashboard_is_answered(
    prometheus: &Prometheus,
    gate: &Gate,
) -> anyhow::Result<()> {
    let dashboard: Value = serde_json::from_slice(&fs::read(artifacts::root().join(DASHBOARD))?)?;
    let panels = dashboard.get("panels").and_then(Value::as_array).context("no panels")?;
    let mut queries: BTreeMap<String, bool> = BTreeMap::new();
    for target in panels.iter().filter_map(|panel| panel.get("targets")).filter_map(Value::as_array).flatten()
    {
        let expression = target.get("expr").and_then(Value::as_str).context("no expression")?;
        let asked = expression.replace("$gate", ".+").replace("$__rate_interval", "10s");
        assert!(!asked.contains('$'), "a variable that nobody fills: {expression}");
        let produced = !LEFT_OUT.iter().any(|name| asked.contains(name));
        queries.insert(asked, produced);
    }
    assert!(queries.len() >= NAMES.len(), "only {} queries", queries.len());
    let start = Instant::now();
    for (query, produced) in &queries {
        // a rate needs two samples of the last ten seconds
        while prometheus.query(query).await?.is_empty() && *produced {
            if start.elapsed() > PATIENCE {
                bail!("no data within {PATIENCE:?}: {query}");
            }
            traffic(gate).await?;
        }
    }
    let variables =
        dashboard.pointer("/templating/list").and_then(Value::as_array).context("no variables")?;
    assert!(
        variables
            .iter()
            .any(|variable| variable.get("query") == Some(&json!("label_values(mlgate_config_info, gate)")))
    );
    println!(
        "{} queries of the dashboard, {} with data",
        queries.len(),
        queries.values().filter(|with| **with).count()
    );
    Ok(())
}

/// The names of the alerts that fire, once all of these do.
async fn alerts(prometheus: &Prometheus, expected: &BTreeSet<&str>) -> anyhow::Result<BTreeSet<String>> {
    let start = Instant::now();
    loop {
        let data = prometheus.get("/api/v1/alerts").await?;
        let all = data.get("alerts").and_then(Value::as_array).context("no alerts")?;
        let firing: BTreeSet<String> = all
            .iter()
            .filter(|alert| alert.get("state") == Some(&json!("firing")))
            .filter_map(|alert| Some(alert.pointer("/labels/alertname")?.as_str()?.to_owned()))
            .collect();
        if expected.iter().all(|name| firing.contains(*name)) {
            let rules = prometheus.get("/api/v1/rules").await?.to_string();
            assert!(!rules.contains("\"health\":\"err\""), "{rules}");
            return Ok(firing);
        }
        if start.elapsed() > PATIENCE {
            bail!("{firing:?} fire after {PATIENCE:?}, wanted {expected:?}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
