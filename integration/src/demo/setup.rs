//! The documented files become this run's: fresh keys, tokens and secrets, free ports, the built filter.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use mlgate::cases::{Gate, TokenSpec};
use mlgate::config::tree::Tree;
use mlgate::time::UnixTime;
use serde_json::{Value, json};

use crate::artifacts;

/// A document with the keys, tokens and secrets that were made for this run, which are in memory alone.
pub struct Keys(Gate);

/// The document of the demo.
pub const DOCUMENT: &str = "envoy/config/demo.yaml";
/// The documented bootstrap.
pub const BOOTSTRAP: &str = "envoy/envoy.yaml";

// === impl Keys ===

impl Keys {
    /// Reads a document of the repository, and makes its keys, secrets and the tokens of `tokens`.
    pub fn make(path: &str, tokens: Value) -> anyhow::Result<Self> {
        let mut gate = Gate::read(&artifacts::root().join(path)).map_err(anyhow::Error::msg)?;
        let tokens: BTreeMap<String, TokenSpec> = serde_json::from_value(tokens)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let now = UnixTime::from_millis(i64::try_from(now.as_millis())?);
        gate.sign(&tokens, now).map_err(anyhow::Error::msg)?;
        Ok(Self(gate))
    }

    /// The document that knows them.
    pub fn document(&self) -> &Value {
        &self.0.document
    }

    /// The same, to be changed: what is written there has no key yet.
    pub fn document_mut(&mut self) -> &mut Value {
        &mut self.0.document
    }

    /// The VM's variables.
    pub fn environment(&self) -> &BTreeMap<String, String> {
        &self.0.environment
    }

    /// A consumer's first key.
    pub fn of(&self, consumer: &str) -> anyhow::Result<String> {
        self.nth(consumer, 0)
    }

    /// A consumer's keys are counted from 0.
    pub fn nth(&self, consumer: &str, index: usize) -> anyhow::Result<String> {
        self.variant("key", consumer, index)
    }

    /// What somebody sends instead of a consumer's first key: `wrong`, with the same id, or `typo`.
    pub fn instead(&self, variant: &str, consumer: &str) -> anyhow::Result<String> {
        self.variant(variant, consumer, 0)
    }

    /// A header with a token: `token.<name>`, or `unsigned.<name>`.
    pub fn bearer(&self, token: &str) -> anyhow::Result<String> {
        Ok(format!("Bearer {}", self.expand(token)?))
    }

    fn variant(&self, variant: &str, consumer: &str, index: usize) -> anyhow::Result<String> {
        let consumers = self.0.document.get("consumers").and_then(Value::as_array).into_iter().flatten();
        let id = consumers
            .filter(|one| one.get("name").is_some_and(|name| name == consumer))
            .find_map(|one| one.pointer(&format!("/credentials/api_keys/{index}/id"))?.as_str())
            .with_context(|| format!("the document has no key {index} of `{consumer}`"))?;
        self.expand(&format!("{variant}.{id}"))
    }

    fn expand(&self, placeholder: &str) -> anyhow::Result<String> {
        let bytes = self.0.expand(&format!("${{{placeholder}}}")).map_err(anyhow::Error::msg)?;
        Ok(String::from_utf8(bytes)?)
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys.keys()).finish()
    }
}

/// Host and port.
pub type Place = (String, u16);

/// Where the parts of a bootstrap are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The built filter, as Envoy finds it.
    pub filter: PathBuf,
    /// Where the admin interface listens.
    pub admin: Place,
    /// Where callers connect.
    pub listener: Place,
    /// The upstream.
    pub model: Place,
    /// Where audit events go.
    pub collector: Place,
}

/// The documented bootstrap around `document`, for an Envoy on this host; its ports are any free ones.
pub fn bootstrap(
    document: &Value,
    filter: &Path,
    model: SocketAddr,
    collector: SocketAddr,
) -> anyhow::Result<Value> {
    let place = |at: SocketAddr| (at.ip().to_string(), at.port());
    let anywhere = place(SocketAddr::from(([127, 0, 0, 1], 0)));
    bootstrap_at(
        document,
        Places {
            filter: filter.to_owned(),
            admin: anywhere.clone(),
            listener: anywhere,
            model: place(model),
            collector: place(collector),
        },
    )
}

/// The documented bootstrap around `document`.
pub fn bootstrap_at(document: &Value, places: Places) -> anyhow::Result<Value> {
    let mut bootstrap = yaml(&artifacts::root().join(BOOTSTRAP))?;
    set(&mut bootstrap, "/admin/address", address(places.admin))?;
    set(&mut bootstrap, "/static_resources/listeners/0/address", address(places.listener))?;
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let plugin = format!("{manager}/http_filters/0/typed_config/config");
    set(&mut bootstrap, &format!("{plugin}/configuration/value"), document.clone())?;
    set(&mut bootstrap, &format!("{plugin}/vm_config/code/local/filename"), json!(places.filter))?;
    set(
        &mut bootstrap,
        &format!("{plugin}/vm_config/environment_variables/host_env_keys"),
        json!(variables(document)),
    )?;
    for (index, to) in [places.model, places.collector].into_iter().enumerate() {
        let endpoint = format!(
            "/static_resources/clusters/{index}/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address"
        );
        set(&mut bootstrap, &endpoint, address(to))?;
    }
    Ok(bootstrap)
}

/// The environment variables that a document names.
fn variables(document: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = match document {
        Value::Object(members) => {
            let own = members.get("env").and_then(Value::as_str);
            own.into_iter().chain(members.values().flat_map(variables)).collect()
        }
        Value::Array(items) => items.iter().flat_map(variables).collect(),
        _ => Vec::new(),
    };
    names.sort_unstable();
    names.dedup();
    names
}

/// Reads YAML as the command does.
pub fn yaml(path: &Path) -> anyhow::Result<Value> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let tree = Tree::from_yaml(&bytes).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        anyhow!("{}: {}", path.display(), lines.join("; "))
    })?;
    Ok(tree.to_json())
}

/// Replaces what stands at `pointer`; that nothing stands there is an error, since then the file has another shape.
pub(crate) fn set(holder: &mut Value, pointer: &str, value: Value) -> anyhow::Result<()> {
    *holder.pointer_mut(pointer).with_context(|| format!("nothing at {pointer}"))? = value;
    Ok(())
}

pub(crate) fn address((host, port): Place) -> Value {
    json!({"socket_address": {"address": host, "port_value": port}})
}
