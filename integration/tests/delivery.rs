//! No event is lost while the collector is away, and what does not fit is refused or declared.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    reason = "a test is the outside world, and may stop"
)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http::Request;
use mlgate_integration::client::{self, Answer, Http1};
use mlgate_integration::collector::text;
use mlgate_integration::gate::Gate;
use mlgate_integration::scripted::Scripted;
use mlgate_integration::{Cluster, EnvoyBuilder, ModelServer, Plugin, Route, Stack, artifacts};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

const RATE: u32 = 200;
const CONNECTIONS: u32 = 8;
const AWAY: Duration = Duration::from_secs(10);
const EACH_SIDE: Duration = Duration::from_secs(4);
const DELIVERY: Duration = Duration::from_secs(30);

fn document(name: &str, queue: &str) -> String {
    let digest = "0".repeat(64);
    format!(
        r#"
version: 1
name: {name}
consumers:
  - {{ name: alice, roles: [any], credentials: {{ api_keys: [{{ id: alice001, digest: "sha256:{digest}" }}] }} }}
resources:
  unlisted: allow
  rules: [{{ match: {{ path: "/v1/{{model}}" }}, resource: {{ type: model, id: "{{model}}" }}, action: read }}]
authorization: {{ roles: {{ any: {{ permissions: ["*"] }} }} }}
audit:
  collector: {{ cluster: audit }}
  chain: {{ keys: [{{ id: c1, env: MLGATE_CHAIN_KEY_1 }}] }}
  queue: {queue}
"#
    )
}

/// One answer, when it was asked for and how long it took.
struct Timed {
    answer: Answer,
    begun: Instant,
    took: Duration,
}

/// Calls at [`RATE`] for so long, from eight connections. A caller that is late does not catch up.
async fn load(gate: &Gate, lasting: Duration) -> anyhow::Result<Vec<Timed>> {
    start_load(gate, lasting).await?.await?
}

async fn start_load(
    gate: &Gate,
    lasting: Duration,
) -> anyhow::Result<JoinHandle<anyhow::Result<Vec<Timed>>>> {
    let mut callers = JoinSet::new();
    let interval = Duration::from_secs(1) * CONNECTIONS / RATE;
    for number in 0..CONNECTIONS {
        let mut connection = Http1::connect(gate.envoy.address()).await?;
        let key = gate.key("alice001").to_owned();
        callers.spawn(async move {
            tokio::time::sleep(interval / CONNECTIONS * number).await;
            let mut turn = tokio::time::interval(interval);
            turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut all = Vec::new();
            let start = Instant::now();
            while start.elapsed() < lasting {
                turn.tick().await;
                let request = Request::get("/v1/m").header("x-api-key", &key).body(Bytes::new())?;
                let begun = Instant::now();
                let answer = connection.call(request).await?;
                all.push(Timed { answer, begun, took: begun.elapsed() });
            }
            anyhow::Ok(all)
        });
    }
    Ok(tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some(timed) = callers.join_next().await {
            all.extend(timed??);
        }
        Ok(all)
    }))
}

fn decisions<'a>(answers: impl IntoIterator<Item = &'a Answer>) -> anyhow::Result<BTreeSet<String>> {
    answers
        .into_iter()
        .map(|answer| answer.header("x-mlgate-decision-id").context("no decision id"))
        .collect()
}

fn recorded(events: &[Value]) -> BTreeSet<String> {
    let access = events.iter().filter(|event| text(event, "type") == "access");
    access.map(|event| text(event, "decision_id").to_owned()).collect()
}

/// Events that gaps of a kind declare lost.
fn declared(events: &[Value]) -> u64 {
    let gaps = events.iter().filter(|event| text(event, "type") == "gap");
    gaps.filter_map(|gap| gap.get("count")?.as_u64()).sum()
}

/// How many decisions the log speaks for: equal refusals that flood are one event with a count, losses are declared.
fn spoken_for(events: &[Value]) -> u64 {
    let access = events.iter().filter(|event| text(event, "type") == "access");
    let counts = access.map(|event| event.get("count").and_then(Value::as_u64).unwrap_or(1));
    counts.sum::<u64>() + declared(events)
}

/// Waits until the log speaks for each decision; gives the events.
async fn settled(gate: &Gate, decided: &BTreeSet<String>) -> anyhow::Result<Vec<Value>> {
    let all = u64::try_from(decided.len())?;
    let enough = |events: &[Value]| spoken_for(events) >= all;
    let events = gate.collector.wait_for("each decision", DELIVERY, enough).await?;
    anyhow::ensure!(recorded(&events).is_subset(decided), "an event of no decision");
    anyhow::ensure!(spoken_for(&events) == all, "{} spoken for of {all}", spoken_for(&events));
    Ok(events)
}

fn percentile(timed: &[Timed], percent: usize) -> Duration {
    let mut took: Vec<Duration> = timed.iter().map(|timed| timed.took).collect();
    took.sort_unstable();
    took.get((took.len() * percent / 100).min(took.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_for_ten_seconds_loses_no_event() -> anyhow::Result<()> {
    let model = ModelServer::start().await?;
    let mut gate = Gate::simple("away", &document("away", "{ max_events: 10000 }"), model.address()).await?;

    // Killed in the middle of traffic: batches are on their way, and some are on disk without an answer.
    let traffic = start_load(&gate, EACH_SIDE + AWAY + EACH_SIDE).await?;
    tokio::time::sleep(EACH_SIDE).await;
    let killed = Instant::now();
    gate.collector.kill()?;
    tokio::time::sleep(AWAY).await;
    gate.collector.restart(&gate.stack).await?;
    let back = Instant::now();
    let all = traffic.await??;

    assert!(
        all.iter().all(|timed| timed.answer.status == 200),
        "a collector that is away is nobody's concern"
    );
    let answered = decisions(all.iter().map(|timed| &timed.answer))?;
    assert_eq!(answered.len(), all.len());
    let events = gate.delivered(&answered, DELIVERY).await?;
    assert_eq!(recorded(&events), answered, "what was answered is what was recorded");
    assert_eq!(declared(&events), 0);
    let verdict = gate.collector.verify()?;
    assert_eq!(verdict.exit, Some(0), "{}", verdict.text);
    println!(
        "collector away for {:?}: {} requests answered, {} recorded, 0 lost",
        back - killed,
        all.len(),
        answered.len()
    );
    let (before, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|timed| timed.begun < killed);
    let (during, after): (Vec<_>, Vec<_>) = rest.into_iter().partition(|timed| timed.begun < back);
    for (when, timed) in [("before", &before), ("without a collector", &during), ("after", &after)] {
        let (half, most) = (percentile(timed, 50), percentile(timed, 99));
        println!("{when}: {} requests, p50 {half:?}, p99 {most:?}", timed.len());
    }
    // Generous: this is not a benchmark, but a wait for the collector would be 200 ms and more.
    let (normal, dead) = (percentile(&before, 50), percentile(&during, 50));
    assert!(dead < normal + Duration::from_millis(50), "{dead:?} without a collector, {normal:?} with one");
    gate.check_one_life().await
}

/// A hundred requests while nobody collects, then the collector comes back.
async fn overfill(gate: &mut Gate) -> anyhow::Result<Vec<Answer>> {
    // Both workers have opened their chain before.
    let opening = load(gate, Duration::from_secs(1)).await?;
    gate.delivered(&decisions(opening.iter().map(|timed| &timed.answer))?, DELIVERY).await?;
    gate.collector.kill()?;
    let during = load(gate, Duration::from_secs(3)).await?;
    gate.collector.restart(&gate.stack).await?;
    Ok(opening.into_iter().chain(during).map(|timed| timed.answer).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_where_it_must_not_forget() -> anyhow::Result<()> {
    let model = ModelServer::start().await?;
    let document = document("denies", "{ max_events: 20, on_full: deny }");
    let mut gate = Gate::simple("denies", &document, model.address()).await?;
    let all = overfill(&mut gate).await?;
    let refused: Vec<&Answer> = all.iter().filter(|answer| answer.status == 503).collect();
    assert!(!refused.is_empty(), "the queue never filled");
    for answer in &refused {
        let problem = answer.json()?;
        assert_eq!(problem["reason"], "audit_unavailable");
        assert!(answer.header("retry-after").is_some());
    }
    assert!(all.iter().all(|answer| matches!(answer.status, 200 | 503)));
    let admitted = decisions(all.iter().filter(|answer| answer.status == 200))?;
    assert_eq!(model.count(), admitted.len(), "nothing was served that is not recorded");
    let events = settled(&gate, &decisions(all.iter())?).await?;
    assert!(admitted.is_subset(&recorded(&events)), "what was served is recorded");
    println!(
        "{} admitted and recorded, {} refused with audit_unavailable in {} events",
        admitted.len(),
        refused.len(),
        recorded(&events).len() - admitted.len()
    );
    let lost = declared(&events);
    let verdict = gate.collector.verify()?;
    assert_eq!(verdict.exit, Some(if lost == 0 { 0 } else { 3 }), "{}", verdict.text);
    let again = load(&gate, Duration::from_millis(500)).await?;
    assert!(again.iter().all(|timed| timed.answer.status == 200), "it admits again");
    gate.check_one_life().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_forgets_the_oldest_and_says_how_many() -> anyhow::Result<()> {
    let model = ModelServer::start().await?;
    let document = document("forgets", "{ max_events: 20, on_full: drop_oldest }");
    let mut gate = Gate::simple("forgets", &document, model.address()).await?;
    let all = overfill(&mut gate).await?;
    assert!(all.iter().all(|answer| answer.status == 200), "nobody is refused");
    let answered = decisions(all.iter())?;
    let events = settled(&gate, &answered).await?;
    let (recorded, lost) = (recorded(&events), declared(&events));
    println!("{} answered, {} recorded, {lost} declared lost", answered.len(), recorded.len());
    assert!(lost > 0, "the queue never filled");
    let verdict = gate.collector.verify()?;
    assert_eq!(verdict.exit, Some(3), "{}", verdict.text);
    gate.check_one_life().await
}

/// A collector that has too much to do says when it will take events again.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_is_left_alone_for_as_long_as_it_asks() -> anyhow::Result<()> {
    let asked = Duration::from_secs(3);
    let stack = Stack::create("retry-after")?;
    let collector = Scripted::start().await?;
    let busy = json!({"status": 503, "headers": {"retry-after": asked.as_secs().to_string()}});
    collector.expect(&serde_json::from_value(busy)?);
    let document = json!({
        "version": 1,
        "name": "gate",
        "resources": {"rules": [{"preset": "openai"}]},
        "authorization": {"roles": {"any": {"permissions": ["list"]}}},
        "audit": {"collector": {"cluster": "audit"}, "chain": {"unkeyed": true}},
    });
    let plugin = Plugin::new("mlgate", artifacts::filter_wasm()?).configuration(document.to_string());
    let envoy = EnvoyBuilder::new()
        .plugin(plugin)
        .cluster(Cluster::http1("audit", collector.address()))
        .route(Route::direct("/", 200, ""))
        .start(&stack)
        .await?;
    assert_eq!(client::get(envoy.address(), "/v1/models").await?.status, 401);
    let start = Instant::now();
    while collector.seen().len() < 2 {
        anyhow::ensure!(start.elapsed() < DELIVERY, "{} tries in {DELIVERY:?}", collector.seen().len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // without being asked it tries again after 200 ms
    anyhow::ensure!(start.elapsed() >= asked, "the second try came after {:?}", start.elapsed());
    envoy.check_unharmed().await
}
