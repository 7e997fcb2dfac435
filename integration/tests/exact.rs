//! Limits are exact across workers: two workers, eight connections, five an hour — five of two hundred.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Request;
use mlgate_integration::ModelServer;
use mlgate_integration::client::{Answer, Http1, Http2};
use mlgate_integration::gate::Gate;
use tokio::task::JoinSet;

/// Requests of one round, and the connections that they share.
const REQUESTS: usize = 200;
const CONNECTIONS: usize = 8;

/// What the limit admits.
const LIMIT: usize = 5;

/// Each round has a caller of its own.
const ROUNDS: usize = 4;

fn document() -> String {
    let digest = "0".repeat(64);
    let consumer = |name: String| {
        format!(
            "  - {{ name: {name}, roles: [any], credentials: {{ api_keys: [{{ id: {name}, digest: \"sha256:{digest}\" }}] }} }}\n"
        )
    };
    let consumers: String = (0..ROUNDS * 2).map(|round| consumer(id(round))).collect();
    format!(
        r#"
version: 1
name: exact
consumers:
{consumers}
resources:
  unlisted: allow
  rules: [{{ match: {{ path: "/v1/{{model}}" }}, resource: {{ type: model, id: "{{model}}" }}, action: read }}]
authorization: {{ roles: {{ any: {{ permissions: ["*"] }} }} }}
limits:
  - {{ name: per-caller, key: [principal], rates: {{ default: [{{ limit: {LIMIT}, window: 1h }}] }} }}
audit: {{ collector: {{ cluster: audit }}, chain: {{ keys: [{{ id: c1, env: MLGATE_CHAIN_KEY_1 }}] }} }}
shared_data: {{ keys: [{{ id: s1, env: MLGATE_SHARED_KEY_1 }}] }}
"#
    )
}

fn id(round: usize) -> String {
    format!("round{round:03}")
}

fn request(key: &str) -> anyhow::Result<Request<Bytes>> {
    Ok(Request::get("/v1/m").header("x-api-key", key).body(Bytes::new())?)
}

/// Requests one after the other on each of eight connections, all connections at once.
async fn over_http1(gate: &Gate, key: &str) -> anyhow::Result<Vec<Answer>> {
    let mut callers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Http1::connect(gate.envoy.address()).await?;
        let key = key.to_owned();
        callers.spawn(async move {
            let mut answers = Vec::new();
            for _ in 0..REQUESTS / CONNECTIONS {
                answers.push(connection.call(request(&key)?).await?);
            }
            anyhow::Ok(answers)
        });
    }
    gather(callers).await
}

/// All streams of all eight connections at once.
async fn over_http2(gate: &Gate, key: &str) -> anyhow::Result<Vec<Answer>> {
    let mut callers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Http2::connect(gate.envoy.address()).await?;
        let key = key.to_owned();
        callers.spawn(async move {
            let mut calls = Vec::new();
            for _ in 0..REQUESTS / CONNECTIONS {
                let (head, _) = request(&key)?.into_parts();
                calls.push(connection.open(Request::from_parts(head, ()), true).await?);
            }
            let mut answers = Vec::new();
            for call in calls {
                answers.push(call.answer().await?);
            }
            anyhow::Ok(answers)
        });
    }
    gather(callers).await
}

async fn gather(mut callers: JoinSet<anyhow::Result<Vec<Answer>>>) -> anyhow::Result<Vec<Answer>> {
    let mut all = Vec::new();
    while let Some(answers) = callers.join_next().await {
        all.extend(answers??);
    }
    Ok(all)
}

/// Five were admitted, and the rest was told when to come back.
fn check(answers: &[Answer]) -> anyhow::Result<BTreeSet<String>> {
    let admitted = answers.iter().filter(|answer| answer.status == 200).count();
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 429).collect();
    if (answers.len(), admitted, refused.len()) != (REQUESTS, LIMIT, REQUESTS - LIMIT) {
        bail!("{admitted} admitted and {} refused of {}", refused.len(), answers.len());
    }
    for answer in refused {
        let after: u64 = answer.header("retry-after").context("no retry-after")?.parse()?;
        if !(700..=720).contains(&after) {
            bail!("come back after {after} s, when one is admitted each 720 s");
        }
    }
    answers.iter().map(|answer| answer.header("x-mlgate-decision-id").context("no decision id")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_of_two_hundred_parallel_requests_are_admitted() -> anyhow::Result<()> {
    let model = ModelServer::start().await?;
    let gate = Gate::simple("exact", &document(), model.address()).await?;
    let mut decisions = BTreeSet::new();
    for round in 0..ROUNDS {
        for (protocol, caller) in [("HTTP/1", round), ("HTTP/2", ROUNDS + round)] {
            let key = gate.key(&id(caller));
            let answers = match protocol {
                "HTTP/1" => over_http1(&gate, key).await?,
                _ => over_http2(&gate, key).await?,
            };
            decisions.extend(check(&answers).with_context(|| format!("round {round} over {protocol}"))?);
            println!(
                "round {round} over {protocol}: {LIMIT} of {REQUESTS} admitted on {CONNECTIONS} connections"
            );
        }
    }
    assert_eq!(model.count(), LIMIT * ROUNDS * 2, "what the upstream got");
    assert_eq!(decisions.len(), REQUESTS * ROUNDS * 2, "each has an id of its own");
    gate.delivered(&decisions, Duration::from_secs(10)).await?;
    let workers = gate.collector.events()?.iter().filter(|event| event["type"] == "open").count();
    assert_eq!(workers, 2, "both workers took part");
    assert_eq!(gate.collector.verify()?.exit, Some(0));
    gate.check_one_life().await
}
