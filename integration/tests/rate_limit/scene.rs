//! What the tests share: a document, the service that counts its global limits, callers.

use std::io::Write as _;
use std::process::{Command, Stdio};

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::Request;
use mlgate::cases;
use mlgate::config::tree::Tree;
use mlgate_integration::client::{self, Answer};
use mlgate_integration::gate::Gate;
use mlgate_integration::{Cluster, ModelServer, RateLimitService, artifacts};
use serde_json::Value;

/// A whole document: callers by their key's id with their tiers, the lines under `limits`, and `rate_limit_service`.
pub(crate) fn document(callers: &[(&str, &str)], limits: &str, service: &str) -> String {
    let digest = "0".repeat(64);
    let caller = |(id, tier): &(&str, &str)| {
        format!(
            "  - {{ name: {id}, tier: {tier}, roles: [any], credentials: {{ api_keys: [{{ id: {id}, digest: \"sha256:{digest}\" }}] }} }}\n"
        )
    };
    let callers: String = callers.iter().map(caller).collect();
    format!(
        r#"
version: 1
name: gate
consumers:
{callers}
resources:
  unlisted: allow
  rules: [{{ match: {{ path: "/v1/m/{{model}}" }}, resource: {{ type: model, id: "{{model}}" }}, action: read }}, {{ preset: openai }}]
authorization: {{ roles: {{ any: {{ permissions: ["*"] }} }} }}
limits:
{limits}
rate_limit_service: {{ cluster: ratelimit, domain: mlgate, {service} }}
audit: {{ collector: {{ cluster: audit }}, chain: {{ keys: [{{ id: c1, env: MLGATE_CHAIN_KEY_1 }}] }} }}
shared_data: {{ keys: [{{ id: s1, env: MLGATE_SHARED_KEY_1 }}] }}
"#
    )
}

/// What Limitador reads for this document: what the command makes of it.
pub(crate) fn limits(document: &str) -> anyhow::Result<String> {
    let mut child = Command::new(artifacts::command()?)
        .args(["render", "limitador", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run mlgate render")?;
    // A command that does not read its input closes it, and says why.
    let _closed = child.stdin.take().context("no input")?.write_all(document.as_bytes());
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("mlgate render limitador: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Gates with one document and the same keys, their upstream, and the service that they all ask.
pub(crate) struct Scene {
    pub(crate) model: ModelServer,
    pub(crate) service: RateLimitService,
    pub(crate) gates: Vec<Gate>,
}

// === impl Scene ===

impl Scene {
    /// So many gates; the service counts in memory.
    pub(crate) async fn start(name: &str, document: &str, gates: usize) -> anyhow::Result<Self> {
        let service = RateLimitService::in_memory(&limits(document)?).await?;
        Self::before(name, document, gates, service).await
    }

    /// So many gates before a service that is there already.
    pub(crate) async fn before(
        name: &str,
        document: &str,
        gates: usize,
        service: RateLimitService,
    ) -> anyhow::Result<Self> {
        let model = ModelServer::start().await?;
        let secrets = secrets(document)?;
        let mut scene = Self { model, service, gates: Vec::new() };
        for number in 1..=gates {
            let name = format!("{name}-{number}");
            let upstream = Cluster::http1("model", scene.model.address());
            let gate = gate(&name, secrets.clone(), upstream, &scene.service).await?;
            scene.gates.push(gate);
        }
        Ok(scene)
    }

    /// The only gate.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gates[0]
    }

    /// Every gate lives, and each decision is in its log.
    pub(crate) async fn check(&self) -> anyhow::Result<()> {
        for gate in &self.gates {
            let requests = gate.envoy.statistic("http.ingress.downstream_rq_total").await?;
            let requests = usize::try_from(requests)?;
            let decisions =
                |events: &[Value]| events.iter().filter(|event| event["type"] == "access").count();
            let whole = |events: &[Value]| decisions(events) >= requests;
            let events = gate.collector.wait_for("an event for each request", EVENT_BOUND, whole).await?;
            assert_eq!(decisions(&events), requests);
            gate.check_one_life().await?;
            let verdict = gate.collector.verify()?;
            assert_eq!(verdict.exit, Some(0), "{}", verdict.text);
        }
        Ok(())
    }
}

/// The document with keys made for this run.
pub(crate) fn secrets(document: &str) -> anyhow::Result<cases::Gate> {
    let tree = Tree::from_yaml(document.as_bytes()).map_err(|faults| anyhow!("{faults:?}"))?;
    cases::Gate::of(tree.to_json()).map_err(anyhow::Error::msg)
}

/// A gate that asks this service.
pub(crate) async fn gate(
    name: &str,
    secrets: cases::Gate,
    upstream: Cluster,
    service: &RateLimitService,
) -> anyhow::Result<Gate> {
    let service = Cluster::http2("ratelimit", service.address());
    Gate::start(name, secrets, upstream, |builder| builder.cluster(service)).await
}

/// A call of this caller for a model.
pub(crate) fn request(gate: &Gate, caller: &str, model: &str) -> anyhow::Result<Request<Bytes>> {
    Ok(Request::get(format!("/v1/m/{model}")).header("x-api-key", gate.key(caller)).body(Bytes::new())?)
}

/// The same on a connection of its own, so that any worker may have it.
pub(crate) async fn call(gate: &Gate, caller: &str, model: &str) -> anyhow::Result<Answer> {
    client::call(gate.envoy.address(), request(gate, caller, model)?).await
}

/// The reason that a refused caller reads.
pub(crate) fn reason(answer: &Answer) -> anyhow::Result<String> {
    let body = answer.json()?;
    Ok(body["reason"].as_str().context("no reason")?.to_owned())
}

/// The event of a decision.
pub(crate) async fn event(gate: &Gate, answer: &Answer) -> anyhow::Result<Value> {
    let decision = answer.header("x-mlgate-decision-id").context("no decision id")?;
    let events = gate.delivered(&[decision.clone()].into(), EVENT_BOUND).await?;
    events.into_iter().find(|event| event["decision_id"] == decision.as_str()).context("no such event")
}

const EVENT_BOUND: Duration = Duration::from_secs(10);
