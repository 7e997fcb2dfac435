//! The stack of `integration/compose.yaml` around one play: made ready in a folder, brought up, asked where it answers,
//! and always brought down. `MLGATE_COMPOSE` asks for it, and says how Compose is called; `integration/compose.sh` sets
//! that together with the images.
//!
//! What a play writes (the bootstrap, the watched filter) is mounted into the gate; what the collector writes is mounted
//! out of it. Secrets go through the environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::demo::setup::{self, Places, address};
use crate::model_server::Capacity;
use crate::openid_provider::{AUDIENCE, ISSUER};
use crate::{Envoy, Stack, artifacts};

/// A stack of containers; it is brought down when dropped.
#[derive(Debug)]
pub struct Composed {
    folder: PathBuf,
    words: Vec<String>,
    project: String,
    environment: BTreeMap<String, OsString>,
    secret: String,
}

/// Who asks the OpenID provider of the stack for tokens.
pub const SERVICE: &str = "nightly_scoring";
/// The service that callers connect to.
pub(crate) const GATE: &str = "gate";
/// The service that keeps audit events.
pub(crate) const COLLECTOR: &str = "collector";
/// Where the gate listens, in its container.
pub(crate) const PORT: u16 = 8080;
/// Where it shows whether it is ready and what it counts.
pub(crate) const STATUS_PORT: u16 = 9902;

/// The folder of a play, in the gate's container.
const FOLDER: &str = "/run/mlgate";
const OPENID: &str = "openid";
/// Which of its keys sign.
const ALGORITHM: &str = "RS256";
const FILTER: &str = "/etc/mlgate/plugin.wasm";
/// The one who collects, in a container that root has started.
const COLLECTOR_USER: u32 = 65532;
/// Where callers are who come over a published port: the address of the engine's bridge.
const CONTAINER_NETWORKS: [&str; 3] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
/// Seconds that an answer of Compose may take; all images are there.
const BOUND: &str = "180";
/// Seconds that a container may take to end.
const STOP_BOUND: &str = "10";

/// Whether plays happen in containers.
pub fn is_wanted() -> bool {
    std::env::var_os("MLGATE_COMPOSE").is_some()
}

/// A document of a play on this host, for containers: callers come from the engine's bridge, and `team: risk` has a limit
/// that the rate limit service counts.
pub fn adapt(document: &mut Value) -> anyhow::Result<()> {
    let consumers = document.get_mut("consumers").and_then(Value::as_array_mut).context("no consumers")?;
    for ranges in consumers.iter_mut().filter_map(|one| one.pointer_mut(RANGES)) {
        *ranges = json!(CONTAINER_NETWORKS);
    }
    let limits = document.get_mut("limits").and_then(Value::as_array_mut).context("no limits")?;
    limits.push(json!({
        "name": "fleet",
        "key": ["principal.team"],
        "when": {"principal.team": "risk"},
        "scope": "global",
        "rates": {"default": [{"limit": FLEET, "window": "1h"}]},
    }));
    let fields = document.as_object_mut().context("no document")?;
    // `deny`: a service that did not answer would be seen
    let service =
        json!({"cluster": "ratelimit", "domain": "mlgate", "timeout": "2s", "failure_mode": "deny"});
    fields.insert("rate_limit_service".to_owned(), service);
    Ok(())
}

/// What the rate limit service admits of `team: risk` in an hour.
pub const FLEET: usize = 10;
const RANGES: &str = "/credentials/api_keys/0/source_ranges";

/// The documented bootstrap around `document`, for the gate's container. The admin interface stays on the container's
/// loopback; of it only what says how the gate is doing can be read from outside.
pub fn bootstrap(document: &Value) -> anyhow::Result<Value> {
    let place = |host: &str, port| (host.to_owned(), port);
    let mut bootstrap = setup::bootstrap_at(
        document,
        Places {
            filter: FILTER.into(),
            admin: place("127.0.0.1", ADMIN_PORT),
            listener: place("0.0.0.0", PORT),
            model: place("model", 8000),
            collector: place(COLLECTOR, 4480),
        },
    )?;
    let resources = bootstrap.get_mut("static_resources").context("no resources")?;
    let mut add = |to: &str, what: Value| {
        let list = resources.get_mut(to).and_then(Value::as_array_mut).with_context(|| format!("no {to}"))?;
        list.push(what);
        anyhow::Ok(())
    };
    add("listeners", status_listener())?;
    add("clusters", cluster("admin", place("127.0.0.1", ADMIN_PORT)))?;
    let mut service = cluster("ratelimit", place("ratelimit", 8081));
    service.as_object_mut().context("no cluster")?.insert(
        "typed_extension_protocol_options".to_owned(),
        json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }}),
    );
    add("clusters", service)?;
    Ok(bootstrap)
}

const ADMIN_PORT: u16 = 9901;

fn cluster(name: &str, at: setup::Place) -> Value {
    json!({
        "name": name,
        "type": "STRICT_DNS",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": address(at)}},
        ]}]},
    })
}

/// What of the admin interface only reads: it could also stop the process.
fn status_listener() -> Value {
    let routes: Vec<Value> = ["/ready", "/stats", "/stats/prometheus"]
        .iter()
        .map(|path| json!({"match": {"path": path}, "route": {"cluster": "admin", "timeout": "10s"}}))
        .collect();
    json!({
        "name": "status",
        "address": address(("0.0.0.0".to_owned(), STATUS_PORT)),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "status",
                "route_config": {"virtual_hosts": [{"name": "status", "domains": ["*"], "routes": routes}]},
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                }],
            },
        }]}],
    })
}

// === impl Composed ===

impl Composed {
    /// Writes what the services read into the stack's folder.
    pub(crate) fn prepare(
        stack: &Stack,
        document: &Value,
        environment: &BTreeMap<String, String>,
        capacity: Option<Capacity>,
    ) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let words = std::env::var("MLGATE_COMPOSE").context("MLGATE_COMPOSE does not name Compose")?;
        let words = words.split_whitespace().map(str::to_owned).collect();
        let run =
            std::env::var("MLGATE_PROJECT").unwrap_or_else(|_| format!("mlgate-{}", std::process::id()));
        let project = format!("{run}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = stack.folder().to_owned();
        let mut all: BTreeMap<String, OsString> =
            environment.iter().map(|(name, value)| (name.clone(), value.into())).collect();
        all.insert("MLGATE_RUN".to_owned(), folder.clone().into());
        all.insert("MLGATE_WASM".to_owned(), artifacts::filter_wasm()?.into());
        if let Some(Capacity { at_once, each }) = capacity {
            let command = format!("mlgate-samples model 0.0.0.0:8000 {at_once} {}", each.as_millis());
            all.insert("MLGATE_MODEL_COMMAND".to_owned(), command.into());
        }
        let audit = folder.join("audit");
        fs::DirBuilder::new().mode(0o700).create(&audit)?;
        let owner = fs::metadata(&audit)?;
        let user = if owner.uid() == 0 {
            chown(&audit, Some(COLLECTOR_USER), Some(COLLECTOR_USER))?;
            format!("{COLLECTOR_USER}:{COLLECTOR_USER}")
        } else {
            format!("{}:{}", owner.uid(), owner.gid())
        };
        all.insert("MLGATE_COLLECTOR_USER".to_owned(), user.into());
        write_limits(stack, document)?;
        let secret = random()?;
        fs::create_dir_all(folder.join("openid"))?;
        let settings = json!({
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "lifetime": 3600,
            "keys": ["k1"],
            "clients": [{"id": SERVICE, "secret": secret, "claims": {
                "org": "acme", "team": "data_science", "roles": ["data_scientist"],
            }}],
        });
        fs::write(folder.join("openid/openid.json"), settings.to_string())?;
        Ok(Self { folder, words, project, environment: all, secret })
    }

    /// Starts the OpenID provider, lets a document trust the keys that it has, and gives a token that it issued to
    /// [`SERVICE`].
    pub(crate) fn trust_provider(&self, document: &mut Value) -> anyhow::Result<String> {
        self.run(&["up", "--detach", OPENID])?;
        let ask = ["node", "/etc/openid/issue.mjs", "127.0.0.1:8000", SERVICE, &self.secret, ALGORITHM];
        let told: Value = serde_json::from_str(&self.inside(OPENID, &ask)?)?;
        let keys = told.pointer("/jwks/keys").and_then(Value::as_array).context("no keys")?;
        let keys: Vec<&Value> = keys.iter().filter(|key| key.get("alg") == Some(&json!(ALGORITHM))).collect();
        let providers = document.pointer_mut("/authentication/jwt/providers").and_then(Value::as_array_mut);
        providers.context("no providers")?.push(json!({
            "name": "idp",
            "issuer": ISSUER,
            "audiences": [AUDIENCE],
            "algorithms": [ALGORITHM],
            "local_jwks": {"keys": keys},
            "claims": {"roles": "roles", "attributes": {"org": "org", "team": "team"}},
        }));
        let token = told.get("token").and_then(Value::as_str).context("no token")?;
        Ok(token.to_owned())
    }

    /// Brings all services up and waits until the gate is ready.
    pub(crate) async fn up(self: &Arc<Self>, stack: &Stack, bootstrap: &Value) -> anyhow::Result<Envoy> {
        // The folder has another name in the container.
        let text = bootstrap.to_string().replace(&*self.folder.to_string_lossy(), FOLDER);
        stack.write("bootstrap.json", text)?;
        self.run(&["up", "--detach"])?;
        let started = Envoy::composed(Arc::clone(self), stack).await;
        started.with_context(|| format!("the services' logs are in {}", self.keep_logs().display()))
    }

    /// The collector's log.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.folder.join("audit/audit.log")
    }

    /// Asks a service to end and waits for that.
    pub(crate) fn stop(&self, service: &str) -> anyhow::Result<()> {
        self.run(&["stop", "--timeout", STOP_BOUND, service]).map(|_| ())
    }

    /// Where a port of a service is published.
    pub(crate) fn address(&self, service: &str, port: u16) -> anyhow::Result<SocketAddr> {
        let told = self.run(&["port", service, &port.to_string()])?;
        told.trim().parse().with_context(|| format!("{service}:{port} is published at `{}`", told.trim()))
    }

    /// What follows the log of a service until it ends.
    pub(crate) fn log_of(&self, service: &str) -> Command {
        let mut command = Command::new(self.words.first().map_or("docker-compose", String::as_str));
        self.arguments(&mut command, self.words.get(1..).unwrap_or_default());
        command.args(["logs", "--no-color", "--follow", service]);
        command
    }

    /// Runs a command in the container of a service and gives what it printed.
    pub fn inside(&self, service: &str, command: &[&str]) -> anyhow::Result<String> {
        self.run(&[&["exec", "-T", service], command].concat())
    }

    fn arguments(&self, command: &mut Command, words: &[String]) {
        command.args(words).args(["--project-name", &self.project, "--file"]);
        command.arg(artifacts::root().join("integration/compose.yaml")).envs(&self.environment);
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new("timeout");
        command.arg(BOUND);
        self.arguments(&mut command, &self.words);
        let output = command.args(arguments).output().context("cannot run Compose")?;
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            let logs = self.keep_logs();
            bail!("compose {}: {}\nlogs: {}", arguments.join(" "), told.trim(), last_lines(&logs));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Writes down what the services are and what they have said; gives the file.
    fn keep_logs(&self) -> PathBuf {
        let path = self.folder.join("compose.log");
        let mut all = Vec::new();
        for what in [["ps", "--all"].as_slice(), &["logs", "--no-color"]] {
            let mut command = Command::new("timeout");
            command.arg(BOUND);
            self.arguments(&mut command, &self.words);
            if let Ok(output) = command.args(what).output() {
                all.extend([output.stdout, output.stderr].concat());
            }
        }
        let _full = fs::write(&path, all);
        path
    }
}

impl Drop for Composed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_logs();
        }
        let _down = self.run(&["down", "--volumes", "--remove-orphans", "--timeout", STOP_BOUND]);
    }
}

/// The files of both rate limit services, made by the command; a gate that asks none has empty ones.
fn write_limits(stack: &Stack, document: &Value) -> anyhow::Result<()> {
    let config = stack.write("mlgate.json", serde_json::to_vec_pretty(document)?)?;
    let folder = stack.folder().join("limits");
    fs::create_dir_all(folder.join("ratelimit/config"))?;
    let asked = document.get("rate_limit_service").is_some();
    for (target, file, empty) in [
        ("ratelimit", "ratelimit/config/mlgate.yaml", "domain: mlgate\ndescriptors: []\n"),
        ("limitador", "limitador.yaml", "[]\n"),
    ] {
        let content = if asked { render(target, &config)? } else { empty.as_bytes().to_vec() };
        fs::write(folder.join(file), content)?;
    }
    Ok(())
}

fn random() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn render(target: &str, config: &Path) -> anyhow::Result<Vec<u8>> {
    let output = Command::new(artifacts::command()?).args(["render", target]).arg(config).output()?;
    if !output.status.success() {
        bail!("mlgate render {target}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

fn last_lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines.get(lines.len().saturating_sub(LINES_SHOWN)..).unwrap_or_default().join("\n");
    format!("{}\n{shown}", path.display())
}

const LINES_SHOWN: usize = 40;
