//! Hostile requests: each is clearly refused or normally decided, and none costs a VM. That is proven by the log, in which
//! each worker opens one chain and no more, and by Envoy's own statistics.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test is the outside world, and may stop"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::Request;
use mlgate_integration::ModelServer;
use mlgate_integration::client::{self, Http2};
use mlgate_integration::collector::text;
use mlgate_integration::gate::Gate;

mod bodies;
mod frames;
mod heads;
mod places;

/// After so long without a byte an answer is taken for complete.
const SILENCE: Duration = Duration::from_millis(150);
const DELIVERY: Duration = Duration::from_secs(20);
/// Here the body names the model.
const CHAT: &str = "/v1/chat/completions";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_requests_cost_no_vm() -> anyhow::Result<()> {
    let model = ModelServer::start().await?;
    let gate = Gate::simple("hostile", &document("hostile", "{ wait: 1s }"), model.address()).await?;
    let before = chains(&gate).await?;
    println!("{} heads", heads::heads(&gate).await.context("heads")?);
    is_unharmed(&gate, &before).await.context("after heads")?;
    println!("{} paths", heads::paths(&gate).await.context("paths")?);
    is_unharmed(&gate, &before).await.context("after paths")?;
    println!("{} keys", heads::keys(&gate).await.context("keys")?);
    println!("{} bodies", bodies::bodies(&gate).await.context("bodies")?);
    is_unharmed(&gate, &before).await.context("after bodies")?;
    println!("a body without end is answered 408 after {:?}", bodies::drip(&gate).await.context("drip")?);
    println!("{} oddities of HTTP/2", frames::frames(&gate).await.context("frames")?);
    is_unharmed(&gate, &before).await.context("after frames")?;
    bodies::large(&gate, &model).await.context("large bodies")?;
    is_unharmed(&gate, &before).await.context("after large bodies")
}

fn document(name: &str, bounds: &str) -> String {
    let digest = "0".repeat(64);
    format!(
        r#"
version: 1
name: {name}
consumers:
  - {{ name: alice, roles: [any], credentials: {{ api_keys: [{{ id: alice001, digest: "sha256:{digest}" }}] }} }}
resources:
  catalogue: [{{ type: model, id: fraud }}]
  rules:
    - {{ match: {{ path: /predict }}, resource: {{ type: model, id: fraud }}, action: predict }}
    - {{ preset: openai }}
authorization: {{ roles: {{ any: {{ permissions: ["*"] }} }} }}
audit: {{ collector: {{ cluster: audit }}, chain: {{ keys: [{{ id: c1, env: MLGATE_CHAIN_KEY_1 }}] }} }}
bounds: {bounds}
"#
    )
}

/// The gate still decides, in both workers.
async fn is_well(gate: &Gate) -> anyhow::Result<BTreeSet<String>> {
    let mut decisions = BTreeSet::new();
    for number in 0..16_u32 {
        let request = Request::get("/predict").header("x-api-key", gate.key("alice001")).body(Bytes::new())?;
        let answer = if number.is_multiple_of(2) {
            client::call(gate.envoy.address(), request).await?
        } else {
            Http2::connect(gate.envoy.address()).await?.call(request).await?
        };
        ensure!(answer.status == 200, "a good request is answered {}: {}", answer.status, answer.text());
        decisions.insert(answer.header("x-mlgate-decision-id").context("no decision id")?);
    }
    Ok(decisions)
}

/// Waits until what was decided last is in the log, and gives the chains.
async fn chains(gate: &Gate) -> anyhow::Result<BTreeSet<String>> {
    let events = gate.delivered(&is_well(gate).await?, DELIVERY).await?;
    Ok(events.iter().map(|event| text(event, "chain").to_owned()).collect())
}

/// Nothing was harmed: no VM died, none was replaced, the log is whole.
async fn is_unharmed(gate: &Gate, before: &BTreeSet<String>) -> anyhow::Result<()> {
    let after = chains(gate).await?;
    ensure!(*before == after, "the chains were {before:?} and are {after:?}");
    gate.check_one_life().await?;
    let verdict = gate.collector.verify()?;
    ensure!(verdict.exit == Some(0), "{}", verdict.text);
    Ok(())
}
