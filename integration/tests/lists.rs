//! Lists that come without a push, in a real Envoy: the collector serves them, the command changes them under load.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test is the outside world, and may stop"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::Request;
use mlgate::cases;
use mlgate::config::tree::Tree;
use mlgate::config::values;
use mlgate::identity::api_key::ApiKey;
use mlgate::time::UnixTime;
use mlgate_integration::client::{self, Answer, Http1};
use mlgate_integration::collector::LISTS;
use mlgate_integration::gate::Gate;
use mlgate_integration::{Cluster, Envoy, ModelServer, Route, artifacts};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// How long anything may take that has no bound of its own.
const BOUND: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// How long the load goes on after the bound has passed.
const AFTERWARDS: Duration = Duration::from_secs(1);
const CONNECTIONS: usize = 4;
const SPIFFE_ID: &str = "spiffe://acme.example/ns/batch/sa/worker";

/// A document whose lists are looked at twice a second.
fn document(name: &str, max_stale: &str) -> String {
    let digest = "0".repeat(64);
    format!(
        r#"
version: 1
name: {name}
consumers:
  - {{ name: alice, roles: [any], credentials: {{ api_keys: [{{ id: alice001, digest: "sha256:{digest}" }}] }} }}
  - {{ name: bob, roles: [any], credentials: {{ api_keys: [{{ id: bob00001, digest: "sha256:{digest}" }}] }} }}
  - {{ name: carol, roles: [any], credentials: {{ api_keys: [{{ id: carol001, digest: "sha256:{digest}" }}] }} }}
authentication:
  jwt:
    providers:
      - name: corp
        issuer: https://issuer.example
        audiences: [model-gateway]
        algorithms: [EdDSA]
        local_jwks: {{ keys: [] }}
        claims: {{ roles: roles }}
  revocation: {{ cluster: control, uri: "http://control/lists/revoked.json", interval: 500ms, timeout: 500ms, max_stale: {max_stale} }}
  credentials_list: {{ cluster: control, uri: "http://control/lists/consumers.json", interval: 500ms, timeout: 500ms, max_stale: {max_stale} }}
resources:
  unlisted: allow
  rules: [{{ match: {{ path: "/v1/{{model}}" }}, resource: {{ type: model, id: "{{model}}" }}, action: read }}]
authorization: {{ roles: {{ any: {{ permissions: ["*"] }} }} }}
audit:
  collector: {{ cluster: audit }}
  chain: {{ keys: [{{ id: c1, env: MLGATE_CHAIN_KEY_1 }}] }}
shared_data: {{ keys: [{{ id: s1, env: MLGATE_SHARED_KEY_1 }}] }}
profiles:
  default: {{}}
  open: {{ authenticate: none, authorize: none, match: {{ path: "/v1/open" }} }}
routes: {{ "default/open": open }}
"#
    )
}

/// What runs.
struct Scene {
    gate: Gate,
    other: Envoy,
    /// What `mlgate check` prints.
    bound: Duration,
    _model: ModelServer,
}

/// A call and what became of it.
struct Called {
    begun: Instant,
    status: u16,
    reason: Option<String>,
}

// === impl Scene ===

impl Scene {
    /// A gate in two Envoys of two workers each.
    async fn start(name: &str, max_stale: &str) -> anyhow::Result<Self> {
        let tree =
            Tree::from_yaml(document(name, max_stale).as_bytes()).map_err(|faults| anyhow!("{faults:?}"))?;
        let mut secrets = cases::Gate::of(tree.to_json()).map_err(anyhow::Error::msg)?;
        let now = UnixTime::from_millis(0).plus(SystemTime::now().duration_since(UNIX_EPOCH)?);
        let token =
            json!({ "provider": "corp", "claims": { "sub": "dave", "jti": "t-1", "roles": ["any"] } });
        let tokens = [("dave".to_owned(), serde_json::from_value(token)?)].into();
        secrets.sign(&tokens, now).map_err(anyhow::Error::msg)?;
        let model = ModelServer::start().await?;
        let mut other = None;
        let gate = Gate::start(name, secrets, Cluster::http1("model", model.address()), |builder| {
            let builder = builder.route(Route::path("/v1/open", "model").name("open"));
            other = Some(builder.clone().route(Route::prefix("/", "model")));
            builder
        })
        .await?;
        let other = other.context("no builder")?.start(&gate.stack).await?;
        let bound = printed_bound(&gate)?;
        let scene = Self { gate, other, bound, _model: model };
        for address in scene.addresses() {
            scene.until(address, &scene.key("bob00001"), 200, None).await?;
        }
        Ok(scene)
    }

    fn addresses(&self) -> [SocketAddr; 2] {
        [self.gate.envoy.address(), self.other.address()]
    }

    fn key(&self, id: &str) -> String {
        format!("Bearer {}", self.gate.key(id))
    }

    fn token(&self, name: &str) -> anyhow::Result<String> {
        Ok(format!("Bearer {}", self.gate.secrets.tokens.get(name).context("no such token")?))
    }

    fn list(&self, name: &str) -> PathBuf {
        self.gate.stack.folder().join(LISTS).join(name)
    }

    /// Runs `mlgate revoke`. Gives when it returned.
    fn revoke(&self, arguments: &[&str]) -> anyhow::Result<Instant> {
        let mut command = Command::new(artifacts::command()?);
        let output =
            command.arg("revoke").args(arguments).arg("--list").arg(self.list("revoked.json")).output()?;
        if !output.status.success() {
            bail!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(Instant::now())
    }

    /// Calls on new connections until this is the answer.
    async fn until(
        &self,
        address: SocketAddr,
        credential: &str,
        status: u16,
        reason: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let start = Instant::now();
        loop {
            let answer = call(address, credential).await?;
            if answer.status == status && answer.reason().as_deref() == reason {
                return Ok(answer);
            }
            if start.elapsed() > BOUND {
                bail!("not {status} {reason:?} within {BOUND:?} but {}: {}", answer.status, answer.text());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Answers of the list's server with this status, in this Envoy.
    async fn asked(&self, status: &str) -> anyhow::Result<u64> {
        self.gate.envoy.statistic(&format!("cluster.control.upstream_rq_{status}")).await
    }

    /// Waits until both lists were asked for again, twice.
    async fn polled(&self) -> anyhow::Result<()> {
        let (start, before) = (Instant::now(), self.asked("total").await?);
        while self.asked("total").await? < before + 5 {
            if start.elapsed() > BOUND {
                bail!("nobody asks for the lists");
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Revokes something whose holder calls all the time, on kept connections to both Envoys; gives how long after the
    /// command the last call began that was let in.
    async fn revoke_under_load(&self, credential: &str, arguments: &[&str]) -> anyhow::Result<Duration> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for address in self.addresses() {
            for number in 0..=CONNECTIONS {
                let others = number == CONNECTIONS;
                let credential = if others { self.key("bob00001") } else { credential.to_owned() };
                let stop = Arc::clone(&stop);
                callers.spawn(async move {
                    Ok::<_, anyhow::Error>((others, load(address, &credential, &stop).await?))
                });
            }
        }
        tokio::time::sleep(AFTERWARDS).await;
        let returned = self.revoke(arguments)?;
        tokio::time::sleep(self.bound + AFTERWARDS).await;
        stop.store(true, Ordering::Relaxed);
        let (mut admitted, mut refused, mut last) = (0_u32, 0_u32, returned);
        while let Some(calls) = callers.join_next().await {
            let (others, calls) = calls??;
            for call in calls {
                match (call.status, call.reason.as_deref()) {
                    (200, None) if others => {}
                    (200, None) => {
                        admitted += 1;
                        last = last.max(call.begun);
                    }
                    (401, Some("credential_revoked")) if !others => refused += 1,
                    other => bail!("{other:?} {:?} after the command", call.begun.duration_since(returned)),
                }
            }
        }
        let lag = last.duration_since(returned);
        println!(
            "{arguments:?}: {admitted} let in, {refused} refused; the last was let in {lag:?} after the command, of at most {:?}",
            self.bound
        );
        assert!(admitted > 0 && refused > 0, "{admitted} let in, {refused} refused");
        assert!(lag <= self.bound, "{lag:?}");
        Ok(lag)
    }
}

/// What the command says of the document.
fn printed_bound(gate: &Gate) -> anyhow::Result<Duration> {
    let config = gate.stack.write("checked.json", gate.secrets.document.to_string())?;
    let mut command = Command::new(artifacts::command()?);
    command.args(["check", "--format", "json"]).arg(&config).envs(&gate.secrets.environment);
    let report: Value = serde_json::from_slice(&command.output()?.stdout)?;
    let sentence = report.pointer("/lists/0").and_then(Value::as_str).context("no promise")?;
    println!("{sentence}");
    let (_, rest) = sentence.split_once("within ").context("no bound")?;
    let text = rest.split(' ').next().unwrap_or_default();
    values::duration(text).with_context(|| format!("`{text}` is no duration"))
}

fn request(credential: &str) -> anyhow::Result<Request<Bytes>> {
    Ok(Request::get("/v1/m").header("authorization", credential).body(Bytes::new())?)
}

async fn call(address: SocketAddr, credential: &str) -> anyhow::Result<Answer> {
    client::call(address, request(credential)?).await
}

async fn load(address: SocketAddr, credential: &str, stop: &AtomicBool) -> anyhow::Result<Vec<Called>> {
    let mut connection = Http1::connect(address).await?;
    let mut calls = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let answer = connection.call(request(credential)?).await?;
        calls.push(Called { begun, status: answer.status, reason: answer.reason() });
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(calls)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_let_in_later_than_the_printed_bound_after_a_revocation() -> anyhow::Result<()> {
    let scene = Scene::start("lists-load", "1m").await?;
    let token = scene.token("dave")?;
    for (credential, arguments) in [
        (scene.key("alice001"), ["key", "alice001"].as_slice()),
        (scene.key("carol001"), &["principal", "carol"]),
        (token.clone(), &["token", "--issuer", "https://issuer.example", "--jti", "t-1"]),
    ] {
        scene.revoke_under_load(&credential, arguments).await?;
    }
    // a token that was verified, refused and remembered is let in again
    scene.revoke(&["token", "--issuer", "https://issuer.example", "--jti", "t-1", "--undo"])?;
    for address in scene.addresses() {
        scene.until(address, &token, 200, None).await?;
        scene.until(address, &scene.key("alice001"), 401, Some("credential_revoked")).await?;
    }
    // the list's server says mostly that nothing has changed
    let (unchanged, all) = (scene.asked("304").await?, scene.asked("total").await?);
    println!("{unchanged} of {all} answers were 304");
    assert!(unchanged > 0 && unchanged + 20 > all, "{unchanged} of {all}");
    scene.gate.envoy.check_unharmed().await?;
    scene.other.check_unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_server_the_list_holds_until_it_is_too_old_and_then_nobody_is_let_in()
-> anyhow::Result<()> {
    const MAX_STALE: Duration = Duration::from_secs(6);
    let mut scene = Scene::start("lists-stale", "6s").await?;
    let bob = scene.key("bob00001");
    let address = scene.gate.envoy.address();
    scene.gate.collector.kill()?;
    let killed = Instant::now();
    let refused = loop {
        let begun = Instant::now();
        let answer = call(address, &bob).await?;
        match answer.status {
            200 => assert!(killed.elapsed() < MAX_STALE + BOUND, "it never ends"),
            _ => break (begun, answer),
        }
        tokio::time::sleep(POLL).await;
    };
    let (begun, answer) = refused;
    let held = begun.duration_since(killed);
    println!("the list held for {held:?} after its server was gone");
    assert_eq!((answer.status, answer.reason().as_deref()), (503, Some("revocation_unavailable")));
    assert!(answer.header("retry-after").is_some_and(|seconds| seconds != "0"));
    // what was fetched last is at most a bound old when the server goes
    assert!(held + scene.bound >= MAX_STALE, "{held:?}");
    assert!(held <= MAX_STALE + POLL + Duration::from_secs(5), "{held:?}");
    let lag = scene.gate.envoy.statistics("mlgate_revocation_lag_seconds").await?;
    assert!(lag.iter().any(|(_, seconds)| *seconds >= 5), "{lag:?}");
    let open = client::get(address, "/v1/open").await?;
    assert_eq!(open.status, 200, "who shows nothing is asked nothing: {}", open.text());
    assert_eq!(call(address, "Bearer mlg_wrong").await?.status, 401);

    let Scene { gate, .. } = &mut scene;
    gate.collector.restart(&gate.stack).await?;
    for address in scene.addresses() {
        scene.until(address, &bob, 200, None).await?;
    }
    scene.gate.envoy.check_unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_served_in_its_place_a_list_holds() -> anyhow::Result<()> {
    let scene = Scene::start("lists-bad", "10m").await?;
    let address = scene.gate.envoy.address();
    let (alice, bob) = (scene.key("alice001"), scene.key("bob00001"));
    scene.revoke(&["key", "alice001"])?;
    scene.revoke(&["spiffe", SPIFFE_ID])?;
    scene.until(address, &alice, 401, Some("credential_revoked")).await?;
    let list = scene.list("revoked.json");
    let good = std::fs::read(&list)?;
    let half = good.get(..good.len() / 2).context("nothing to halve")?.to_vec();
    for (what, bad) in [
        ("nothing", Vec::new()),
        ("half", half),
        ("a page", b"<html>not found</html>".to_vec()),
        ("another version", br#"{"version":2}"#.to_vec()),
        ("an unknown word", br#"{"version":1,"key":[]}"#.to_vec()),
        ("a doubled word", br#"{"version":1,"keys":[],"keys":[]}"#.to_vec()),
        ("deep", [br#"{"version":1,"keys":"#.to_vec(), b"[".repeat(100_000)].concat()),
        ("too large", vec![b' '; 17 << 20]),
        ("zeros", vec![0; 4096]),
    ] {
        std::fs::write(&list, bad)?;
        scene.polled().await?;
        for _ in 0..4 {
            let answer = call(address, &alice).await?;
            assert_eq!(answer.reason().as_deref(), Some("credential_revoked"), "{what}: {}", answer.text());
            assert_eq!(call(address, &bob).await?.status, 200, "{what}");
        }
    }
    std::fs::remove_file(&list)?;
    scene.polled().await?;
    assert_eq!(call(address, &alice).await?.status, 401, "gone");
    scene.revoke(&["principal", "nobody"])?;
    scene.until(address, &alice, 200, None).await?;
    let log = scene.gate.envoy.log()?;
    assert!(log.contains("the revocation list could not be fetched"), "{log}");
    scene.gate.envoy.check_unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_can_be_issued_and_taken_out_without_a_push() -> anyhow::Result<()> {
    let scene = Scene::start("lists-keys", "1m").await?;
    let key = ApiKey::generate(&[11; 64]).map_err(|_| anyhow!("no key"))?;
    let shown = format!("Bearer {}", key.expose());
    let list = scene.list("consumers.json");
    let entry = json!({ "id": key.id().to_string(), "digest": key.digest().to_string() });
    let consumer = |name: &str, roles: &[&str]| json!({ "version": 1, "consumers": [{ "name": name, "roles": roles, "credentials": { "api_keys": [entry] } }] });
    for address in scene.addresses() {
        scene.until(address, &shown, 401, Some("credential_invalid")).await?;
    }
    let write = |content: &Value| -> anyhow::Result<Instant> {
        std::fs::write(list.with_extension("new"), content.to_string())?;
        std::fs::rename(list.with_extension("new"), &list)?;
        Ok(Instant::now())
    };
    let issued = write(&consumer("nightly", &["any"]))?;
    for address in scene.addresses() {
        scene.until(address, &shown, 200, None).await?;
    }
    println!("a new key works {:?} after it was listed, of at most {:?}", issued.elapsed(), scene.bound);
    // a role that nobody has refuses the list whole, and what was known holds
    write(&consumer("nightly", &["root"]))?;
    scene.polled().await?;
    assert_eq!(call(scene.gate.envoy.address(), &shown).await?.status, 200);
    let log = scene.gate.envoy.log()?;
    assert!(log.contains("/consumers/0/roles/0") && !log.contains("sha256:"), "{log}");
    // more keys of a consumer of the configuration
    write(&consumer("alice", &[]))?;
    let address = scene.gate.envoy.address();
    scene.polled().await?;
    let answer = scene.until(address, &shown, 200, None).await?;
    let decision = answer.header("x-mlgate-decision-id").context("no decision id")?;
    let events = scene.gate.delivered(&[decision.clone()].into(), BOUND).await?;
    let event = events.iter().find(|event| event["decision_id"] == decision.as_str()).context("no event")?;
    assert_eq!(
        (event["principal"].as_str(), event["credential"]["id"].as_str()),
        (Some("alice"), Some(key.id().to_string().as_str()))
    );
    write(&json!({ "version": 1, "consumers": [] }))?;
    for address in scene.addresses() {
        scene.until(address, &shown, 401, Some("credential_invalid")).await?;
    }
    scene.gate.envoy.check_unharmed().await
}
