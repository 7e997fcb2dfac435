//! A revocation is pushed to a running Envoy: from then on the key is refused, and the trail says so.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::Request;
use mlgate::cases::Gate;
use mlgate::config::{Format, load};
use mlgate_integration::client::{self, Http1};
use mlgate_integration::collector::Collector;
use mlgate_integration::{
    Answer, Cluster, Envoy, EnvoyBuilder, ModelServer, Plugin, Route, Stack, artifacts, filter_file,
};
use serde_json::{Value, json};
use tokio::time::timeout;

/// What runs, and the two documents.
struct Scene {
    stack: Stack,
    model: ModelServer,
    collector: Collector,
    gate: Gate,
    revoked: Value,
}

const ALICE: &str = "alice001";
const BOB: &str = "bob00001";
const BOUND: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
const WORKERS: u32 = 2;

// === impl Scene ===

impl Scene {
    async fn create(name: &str) -> anyhow::Result<Self> {
        let digest = format!("sha256:{}", "0".repeat(64));
        let consumer = |name: &str, id: &str| json!({"name": name, "roles": ["any"], "credentials": {"api_keys": [{"id": id, "digest": digest}]}});
        let document = json!({
            "version": 1,
            "name": "gate",
            "revision": {"id": "1"},
            "consumers": [consumer("alice", ALICE), consumer("bob", BOB)],
            "resources": {"unlisted": "allow", "rules": [{"preset": "openai"}]},
            "authorization": {"roles": {"any": {"permissions": ["list"]}}},
            "audit": {
                "collector": {"cluster": "audit"},
                "chain": {"keys": [{"id": "c1", "env": "MLGATE_CHAIN_KEY_1"}]},
            },
        });
        let gate = Gate::of(document).map_err(anyhow::Error::msg)?;
        let mut revoked = gate.document.clone();
        let fields = revoked.as_object_mut().context("no document")?;
        fields.insert("revision".into(), json!({"id": "2", "change": "INC-1"}));
        fields.insert("authentication".into(), json!({"revocation": {"keys": [ALICE]}}));
        let stack = Stack::create(name)?;
        let collector = Collector::start(&stack, &gate.document, &gate.environment).await?;
        Ok(Self { stack, model: ModelServer::start().await?, collector, gate, revoked })
    }

    /// An Envoy with this document.
    fn builder(&self, document: &Value) -> anyhow::Result<EnvoyBuilder> {
        let mut plugin = Plugin::new("mlgate", artifacts::filter_wasm()?).configuration(document.to_string());
        for (name, value) in &self.gate.environment {
            plugin = plugin.environment(name, value);
        }
        Ok(EnvoyBuilder::new()
            .concurrency(WORKERS)
            .plugin(plugin)
            .cluster(Cluster::http1("model", self.model.address()))
            .cluster(Cluster::http1("audit", self.collector.address()))
            .route(Route::prefix("/", "model")))
    }

    fn request(&self, id: &str) -> anyhow::Result<Request<Bytes>> {
        let key = self.gate.keys.get(id).context("no such key")?;
        Ok(Request::get("/v1/models").header("x-api-key", key).body(Bytes::new())?)
    }

    async fn call(&self, address: SocketAddr, id: &str) -> anyhow::Result<Answer> {
        client::call(address, self.request(id)?).await
    }

    fn revision(&self, document: &Value) -> anyhow::Result<String> {
        let text = document.to_string();
        let config = load(text.as_bytes(), Format::Json, &|name| self.gate.environment.get(name).cloned());
        config.map(|config| config.revision).map_err(|faults| anyhow::anyhow!("{faults:?}"))
    }

    /// Waits for the change of configuration and the refusal in the log.
    async fn told(&self, decision: &str) -> anyhow::Result<(Value, Value)> {
        let told = async {
            loop {
                let events = self.collector.events()?;
                let change = events.iter().find(|event| is_change(event));
                let refusal = events.iter().find(|event| text(event, "/decision_id") == decision);
                if let (Some(change), Some(refusal)) = (change, refusal) {
                    return Ok((change.clone(), refusal.clone()));
                }
                tokio::time::sleep(POLL).await;
            }
        };
        timeout(BOUND, told).await.context("not in the log")?
    }

    /// The log says which configuration followed which, and whose key is still being tried.
    async fn check_trail(&self, refused: &Answer) -> anyhow::Result<()> {
        let (before, after) = (self.revision(&self.gate.document)?, self.revision(&self.revoked)?);
        let decision = refused.header("x-mlgate-decision-id").context("no decision id")?;
        let (change, refusal) = self.told(&decision).await?;
        assert_eq!(text(&change, "/prev_policy_revision"), before);
        assert_eq!(text(&change, "/policy_revision"), after);
        assert_eq!(change.get("revision"), Some(&json!({"id": "2", "change": "INC-1"})));
        assert_eq!(text(&refusal, "/policy_revision"), after);
        assert_eq!(text(&refusal, "/reason"), "credential_revoked");
        assert_eq!(text(&refusal, "/principal"), "alice");
        assert_eq!(refusal.get("credential"), Some(&json!({"method": "api_key", "id": ALICE})));
        let verdict = self.collector.verify()?;
        assert_eq!(verdict.exit, Some(0), "{}", verdict.text);
        Ok(())
    }

    /// Calls on new connections until the key is refused; from then on it is refused in every worker, and another
    /// caller is not.
    async fn check_refused(&self, envoy: &Envoy) -> anyhow::Result<Answer> {
        let refused = async {
            loop {
                let answer = self.call(envoy.address(), ALICE).await?;
                if answer.status != 200 {
                    return anyhow::Ok(answer);
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let refused = timeout(BOUND, refused).await.context("a revoked key was served after the push")??;
        assert_eq!((refused.status, text(&refused.json()?, "/reason")), (401, "credential_revoked"));
        for _ in 0..20 {
            assert_eq!(self.call(envoy.address(), ALICE).await?.status, 401);
            assert_eq!(self.call(envoy.address(), BOB).await?.status, 200);
        }
        envoy.check_unharmed().await?;
        Ok(refused)
    }
}

#[tokio::test]
async fn a_key_is_refused_once_a_listener_with_its_revocation_is_pushed() -> anyhow::Result<()> {
    let scene = Scene::create("revocation-lds").await?;
    let mut envoy = scene.builder(&scene.gate.document)?.updatable().start(&scene.stack).await?;
    for _ in 0..10 {
        assert_eq!(scene.call(envoy.address(), ALICE).await?.status, 200);
    }
    let mut kept = Http1::connect(envoy.address()).await?;
    assert_eq!(kept.call(scene.request(ALICE)?).await?.status, 200);

    let next = scene.builder(&scene.revoked)?.updatable();
    assert!(envoy.update(|_| next).await?, "the push was refused");
    let refused = scene.check_refused(&envoy).await?;

    // A connection that was open before belongs to the old listener until that is drained (`--drain-time-s`).
    let request = scene.request(ALICE)?;
    let drained = async {
        while let Ok(answer) = kept.call(request.clone()).await {
            if answer.status == 401 {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    timeout(BOUND, drained).await.context("an old connection outlived the drain of its listener")?;
    scene.check_trail(&refused).await
}

#[tokio::test]
async fn an_open_connection_is_refused_too_where_only_the_filter_is_pushed() -> anyhow::Result<()> {
    let scene = Scene::create("revocation-ecds").await?;
    let mut bootstrap = scene.builder(&scene.gate.document)?.bootstrap();
    filter_file::take_out(&scene.stack, &mut bootstrap)?;
    let envoy = EnvoyBuilder::new().concurrency(WORKERS).whole(bootstrap).start(&scene.stack).await?;
    // One connection for each worker, as likely as not; each must be refused.
    let mut kept = Vec::new();
    for _ in 0..8 {
        let mut connection = Http1::connect(envoy.address()).await?;
        assert_eq!(connection.call(scene.request(ALICE)?).await?.status, 200);
        kept.push(connection);
    }

    filter_file::push(&scene.stack, &scene.builder(&scene.revoked)?.bootstrap())?;
    let refused = scene.check_refused(&envoy).await?;
    for connection in &mut kept {
        assert_eq!(connection.call(scene.request(ALICE)?).await?.status, 401);
        assert_eq!(connection.call(scene.request(BOB)?).await?.status, 200);
    }
    scene.check_trail(&refused).await
}

/// A configuration that followed another; the first one after a start follows none.
fn is_change(event: &Value) -> bool {
    text(event, "/type") == "config" && event.get("prev_policy_revision").is_some()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
