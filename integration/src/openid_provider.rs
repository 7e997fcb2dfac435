//! A real OpenID provider (npm `oidc-provider`) on a free loopback port, and a relay in front of it that counts and fails.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use crate::{Answer, Cluster, Process, Relay, Stack, artifacts, client};

/// A running provider; it is killed when dropped.
#[derive(Debug)]
pub struct OpenIdProvider {
    process: Process,
    address: SocketAddr,
    relay: Relay,
    clients: Vec<Client>,
}

/// Who may ask it for tokens, and for what tokens are worth.
#[derive(Clone, Debug)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// `client_secret`, of letters that no encoding changes.
    pub secret: String,
    /// What its tokens claim beside the usual.
    pub claims: Value,
}

/// What a token looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 9068, signed by this algorithm: `RS256`, `ES256` or `EdDSA`.
    Jwt(&'static str),
    /// Only the provider knows what it means.
    Opaque,
}

/// Who it says it is.
pub const ISSUER: &str = "https://idp.example";
/// Whom its tokens are for.
pub const AUDIENCE: &str = "model-gateway";
/// Where its keys are.
pub const KEYS: &str = "/jwks";
/// Where it says so.
pub const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Where it says what a token means.
pub const INTROSPECTION: &str = "/token/introspection";

const HOST: &str = "idp.example";
const LISTENING: &str = "listening on ";
const START_BOUND: Duration = Duration::from_secs(60);

// === impl OpenIdProvider ===

impl OpenIdProvider {
    /// Starts one whose tokens live so long and whose keys have these ids, or gives `None` where it cannot be installed:
    /// then a line of output says that a test was left out.
    pub async fn start(
        stack: &Stack,
        lifetime: Duration,
        keys: &[&str],
        clients: &[Client],
    ) -> anyhow::Result<Option<Self>> {
        let installed = match artifacts::openid_provider() {
            Ok(installed) => installed,
            Err(error) => {
                say(&format!("left out: no OpenID provider here: {error:#}"));
                return Ok(None);
            }
        };
        let listed = clients
            .iter()
            .map(|client| json!({ "id": client.id, "secret": client.secret, "claims": client.claims }));
        let settings = json!({
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "lifetime": lifetime.as_secs(),
            "keys": keys,
            "clients": listed.collect::<Vec<_>>(),
        });
        let settings = stack.write("openid-provider.json", settings.to_string())?;
        let mut command = Command::new(installed.join("node"));
        command.arg(artifacts::root().join("integration/openid-provider/server.mjs")).arg(settings);
        command.current_dir(installed);
        let mut process = stack.run("openid-provider", &command)?;
        let line = process.wait_for_line(LISTENING, START_BOUND).await?;
        let address = line.trim_start_matches(LISTENING).trim();
        let address = address.parse().with_context(|| format!("no address in `{line}`"))?;
        let relay = Relay::before(address).await?;
        let provider = Self { process, address, relay, clients: clients.to_vec() };
        let answer = provider.ask(Request::get(DISCOVERY), "").await?;
        if answer.status != 200 {
            bail!("it does not answer: {}\n{}", answer.text(), provider.process.last_lines());
        }
        Ok(Some(provider))
    }

    /// What stands in front of it: whoever is under test sees the relay alone.
    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// The relay as an upstream of Envoy.
    pub fn cluster(&self, name: &str) -> Cluster {
        Cluster::http1(name, self.relay.address())
    }

    /// What it has said, its clients' secrets not among it.
    pub fn log(&self) -> anyhow::Result<String> {
        self.process.log()
    }

    /// A token of this client for itself (RFC 6749 §4.4).
    pub async fn token(&self, client: &str, format: Format) -> anyhow::Result<String> {
        let resource = match format {
            Format::Jwt(algorithm) => format!("urn:mlgate:jwt:{algorithm}"),
            Format::Opaque => String::from("urn:mlgate:opaque"),
        };
        let form = format!("grant_type=client_credentials&scope=models:read&resource={resource}");
        let answer = self.post("/token", client, &form).await?;
        let token = answer.json()?.get("access_token").and_then(Value::as_str).map(str::to_owned);
        token.with_context(|| format!("no token: {}", answer.text()))
    }

    /// Takes a token back (RFC 7009).
    pub async fn revoke(&self, client: &str, token: &str) -> anyhow::Result<()> {
        self.post("/token/revocation", client, &format!("token={token}")).await.map(|_| ())
    }

    /// What it says of a token to this client (RFC 7662).
    pub async fn introspect(&self, client: &str, token: &str) -> anyhow::Result<Value> {
        self.post(INTROSPECTION, client, &format!("token={token}")).await?.json()
    }

    /// Its keys from now on, the first of which signs; a new id is a new key. Tokens survive that.
    pub async fn rotate(&self, keys: &[&str]) -> anyhow::Result<()> {
        let answer = self.ask(Request::put("/keys"), json!(keys).to_string()).await?;
        if answer.status != 204 {
            bail!("no new keys: {} {}\n{}", answer.status, answer.text(), self.process.last_lines());
        }
        Ok(())
    }

    async fn post(&self, path: &str, client: &str, form: &str) -> anyhow::Result<Answer> {
        let secret = self.clients.iter().find(|known| known.id == client).context("no such client")?;
        let basic = STANDARD.encode(format!("{}:{}", secret.id, secret.secret));
        let request = Request::post(path)
            .header("authorization", format!("Basic {basic}"))
            .header("content-type", "application/x-www-form-urlencoded");
        let answer = self.ask(request, form.to_owned()).await?;
        if answer.status != 200 {
            bail!("{path} answered {}: {}", answer.status, answer.text());
        }
        Ok(answer)
    }

    /// Asks the provider itself, so that the relay counts nothing.
    async fn ask(&self, request: http::request::Builder, body: impl Into<Bytes>) -> anyhow::Result<Answer> {
        let request = request.header("host", HOST).header("x-forwarded-proto", "https");
        client::call(self.address, request.body(body.into())?).await
    }
}

#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
fn say(line: &str) {
    eprintln!("{line}");
}
