//! What the tests share: a gate that believes a provider, and callers with its tokens.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use mlgate::cases;
use mlgate_integration::gate::Gate;
use mlgate_integration::openid_provider::{AUDIENCE, Client, INTROSPECTION, ISSUER, OpenIdProvider};
use mlgate_integration::{Answer, Cluster, EnvoyBuilder, ModelServer, Stack, client};
use serde_json::{Value, json};

/// Everything that runs.
pub(crate) struct Scene {
    pub(crate) model: ModelServer,
    pub(crate) provider: OpenIdProvider,
    pub(crate) gate: Gate,
    _stack: Stack,
}

/// Who asks the provider for tokens.
pub(crate) const WORKER: &str = "worker";
/// Who the gate is to the provider.
pub(crate) const GATE: &str = "gate";
/// The id of the one API key.
pub(crate) const KEYED: &str = "keyed000";
/// The variable with the gate's secret.
pub(crate) const CLIENT_SECRET: &str = "MLGATE_CLIENT_SECRET_1";
/// How long a busy machine may take for what takes no time.
pub(crate) const SLACK: Duration = Duration::from_secs(3);

/// How often keys are looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) cache_duration: &'static str,
    pub(crate) cooldown: &'static str,
    pub(crate) failed_refetch: &'static str,
    pub(crate) max_stale: &'static str,
}

// === impl Pace ===

impl Pace {
    /// Adds it to the words of a `discovery` or a `remote_jwks`.
    pub(crate) fn on(self, mut words: Value) -> Value {
        for (word, value) in [
            ("timeout", "1s"),
            ("cache_duration", self.cache_duration),
            ("cooldown", self.cooldown),
            ("failed_refetch_duration", self.failed_refetch),
            ("max_stale", self.max_stale),
        ] {
            words[word] = json!(value);
        }
        words
    }
}

/// A document for callers with an API key, with tokens of the provider by discovery, and with opaque ones, which are
/// asked about once a second.
pub(crate) fn document(pace: Pace) -> Value {
    let claims = json!({ "roles": ["roles"], "attributes": { "org": "org" } });
    json!({
        "version": 1,
        "name": "gate",
        "consumers": consumers(),
        "authentication": {
            "jwt": { "providers": [{
                "name": "corp",
                "issuer": ISSUER,
                "audiences": [AUDIENCE],
                "algorithms": ["RS256", "ES256", "EdDSA"],
                "discovery": pace.on(json!({ "cluster": "idp", "jwks_cluster": "idp" })),
                "claims": claims,
            }] },
            "introspection": [{
                "name": "opaque",
                "issuer": ISSUER,
                "cluster": "idp",
                "uri": format!("{ISSUER}{INTROSPECTION}"),
                "client_id": GATE,
                "client_secret_env": CLIENT_SECRET,
                "timeout": "1s",
                "cache_duration": "1s",
                "claims": claims,
            }],
        },
        "resources": { "unlisted": "allow", "rules": [{ "preset": "openai" }] },
        "authorization": { "roles": { "reader": { "permissions": ["list", "predict"] } } },
        "audit": {
            "collector": { "cluster": "audit" },
            "chain": { "keys": [{ "id": "c1", "env": "MLGATE_CHAIN_KEY_1" }] },
        },
        "shared_data": { "keys": [{ "id": "s1", "env": "MLGATE_SHARED_KEY_1" }] },
        "profiles": { "default": { "authenticate": { "any": ["api_key", "jwt", "introspection"] } } },
    })
}

/// Whoever has the one API key.
pub(crate) fn consumers() -> Value {
    let digest = format!("sha256:{}", "0".repeat(64));
    let keys = json!({ "api_keys": [{ "id": KEYED, "digest": digest }] });
    json!([{ "name": "keyed", "roles": ["reader"], "credentials": keys }])
}

/// The document with secrets of this run.
pub(crate) fn secrets(document: Value) -> anyhow::Result<cases::Gate> {
    let mut secrets = cases::Gate::of(document).map_err(anyhow::Error::msg)?;
    secrets.environment.entry(CLIENT_SECRET.to_owned()).or_insert_with(|| "5e".repeat(16));
    Ok(secrets)
}

// === impl Scene ===

impl Scene {
    /// Starts a provider with the key `first`, and a gate in two workers; `None` where there can be no provider.
    pub(crate) async fn start(name: &str, document: Value) -> anyhow::Result<Option<Self>> {
        Self::with(name, secrets(document)?, |_, builder| builder).await
    }

    /// The same with secrets made before, and another Envoy; the provider runs by then.
    pub(crate) async fn with(
        name: &str,
        secrets: cases::Gate,
        change: impl FnOnce(&OpenIdProvider, EnvoyBuilder) -> EnvoyBuilder,
    ) -> anyhow::Result<Option<Self>> {
        let stack = Stack::create(&format!("{name}-provider"))?;
        let known = |id: &str, secret: &str| {
            let claims = json!({ "sub": id, "roles": ["reader"], "org": "acme" });
            Client { id: id.to_owned(), secret: secret.to_owned(), claims }
        };
        let secret = secrets.environment.get(CLIENT_SECRET).context("no secret")?;
        let clients = [known(WORKER, &"0123456789abcdef".repeat(2)), known(GATE, secret)];
        let lifetime = Duration::from_secs(600);
        let Some(provider) = OpenIdProvider::start(&stack, lifetime, &["first"], &clients).await? else {
            return Ok(None);
        };
        let model = ModelServer::start().await?;
        let (upstream, idp) = (Cluster::http1("model", model.address()), provider.cluster("idp"));
        let gate =
            Gate::start(name, secrets, upstream, |builder| change(&provider, builder.cluster(idp))).await?;
        Ok(Some(Self { model, provider, gate, _stack: stack }))
    }

    /// A call with this token, on a connection of its own, so that any worker may have it.
    pub(crate) async fn call(&self, token: &str) -> anyhow::Result<Answer> {
        call_at(self.gate.envoy.address(), token).await
    }

    /// Asks with a token, again and again, until somebody answers so; how long that took.
    pub(crate) async fn becomes(
        &self,
        token: &str,
        status: u16,
        reason: Option<&str>,
        bound: Duration,
    ) -> anyhow::Result<Duration> {
        let start = Instant::now();
        loop {
            let answer = self.call(token).await?;
            let is_it = answer.status == status && answer.reason().as_deref() == reason;
            let took = start.elapsed();
            if is_it {
                return Ok(took);
            }
            ensure!(took < bound, "still {} after {bound:?}: {}", answer.status, answer.text());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Each worker answers, no VM was replaced.
    pub(crate) async fn check(&self) -> anyhow::Result<()> {
        for _ in 0..20 {
            let answer = keyed(&self.gate).await?;
            ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        }
        self.gate.check_one_life().await
    }
}

/// Between two questions whether something has happened.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// A call with a token.
pub(crate) async fn call_at(address: SocketAddr, token: &str) -> anyhow::Result<Answer> {
    let request = Request::get("/v1/models").header("authorization", format!("Bearer {token}"));
    client::call(address, request.body(Bytes::new())?).await
}

/// A call with the API key.
pub(crate) async fn keyed(gate: &Gate) -> anyhow::Result<Answer> {
    let request = Request::get("/v1/models").header("x-api-key", gate.key(KEYED));
    client::call(gate.envoy.address(), request.body(Bytes::new())?).await
}

/// A token as the provider's but for its key, which nobody has.
pub(crate) fn of_key(token: &str, id: &str) -> anyhow::Result<String> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(signature)) = (parts.next(), parts.next(), parts.next()) else {
        bail!("not a token");
    };
    let head = json!({ "alg": "RS256", "typ": "at+jwt", "kid": id }).to_string();
    Ok(format!("{}.{claims}.{signature}", URL_SAFE_NO_PAD.encode(head)))
}

/// Status and reason.
pub(crate) fn verdict(answer: &Answer) -> (u16, Option<String>) {
    (answer.status, answer.reason())
}

/// That of the middle.
pub(crate) fn median<T: Copy + Ord + Debug>(mut values: Vec<T>) -> anyhow::Result<T> {
    values.sort_unstable();
    values.get(values.len() / 2).copied().context("nothing was measured")
}
