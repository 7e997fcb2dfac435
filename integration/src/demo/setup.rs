//! The documented files become this run's: fresh keys and secrets, free ports, the built filter.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, anyhow, bail};
use mlgate::config::tree::Tree;
use mlgate::identity::api_key::{ApiKey, RANDOM_BYTES};
use serde_json::{Value, json};

use crate::artifacts;

/// The keys of this run by consumer, in the document's order. They are in memory alone.
#[derive(Clone, Default)]
pub struct Keys(BTreeMap<String, Vec<String>>);

/// The document of the demo.
pub const DOCUMENT: &str = "envoy/config/demo.yaml";
/// The documented bootstrap.
const BOOTSTRAP: &str = "envoy/envoy.yaml";
/// Variables that both files name.
const SECRETS: [&str; 3] = ["MLGATE_CHAIN_KEY_1", "MLGATE_DIGEST_KEY_1", "MLGATE_SHARED_KEY_1"];
/// Bytes of one secret.
const SECRET_BYTES: usize = 32;

// === impl Keys ===

impl Keys {
    /// A consumer's first key.
    pub fn of(&self, consumer: &str) -> anyhow::Result<&str> {
        self.nth(consumer, 0)
    }

    /// A consumer's keys are counted from 0.
    pub fn nth(&self, consumer: &str, index: usize) -> anyhow::Result<&str> {
        let key = self.0.get(consumer).and_then(|keys| keys.get(index));
        key.map(String::as_str).with_context(|| format!("the document has no key {index} of `{consumer}`"))
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// A document of the repository with an id and a digest of a new key in place of each that is written there.
pub fn document(path: &str) -> anyhow::Result<(Value, Keys)> {
    let mut document = yaml(&artifacts::root().join(path))?;
    let mut keys = Keys::default();
    let consumers = document.get_mut("consumers").and_then(Value::as_array_mut);
    for consumer in consumers.into_iter().flatten() {
        let name =
            consumer.get("name").and_then(Value::as_str).context("a consumer without a name")?.to_owned();
        let written = consumer.pointer_mut("/credentials/api_keys").and_then(Value::as_array_mut);
        for entry in written.into_iter().flatten() {
            let made = new_key(&name)?;
            for word in ["id", "digest"] {
                let value =
                    made.get(word).with_context(|| format!("`mlgate key new` printed no `{word}`"))?;
                set(entry, &format!("/{word}"), value.clone())?;
            }
            let key = made.get("key").and_then(Value::as_str).context("`mlgate key new` printed no key")?;
            keys.0.entry(name.clone()).or_default().push(key.to_owned());
        }
    }
    Ok((document, keys))
}

/// The documented bootstrap around `document`.
pub fn bootstrap(
    document: &Value,
    filter: &Path,
    model: SocketAddr,
    collector: SocketAddr,
) -> anyhow::Result<Value> {
    let mut bootstrap = yaml(&artifacts::root().join(BOOTSTRAP))?;
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    set(&mut bootstrap, "/admin/address", address(anywhere))?;
    set(&mut bootstrap, "/static_resources/listeners/0/address", address(anywhere))?;
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let plugin = format!("{manager}/http_filters/0/typed_config/config");
    set(&mut bootstrap, &format!("{plugin}/configuration/value"), document.clone())?;
    set(&mut bootstrap, &format!("{plugin}/vm_config/code/local/filename"), json!(filter))?;
    for (index, to) in [model, collector].into_iter().enumerate() {
        let endpoint = format!(
            "/static_resources/clusters/{index}/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address"
        );
        set(&mut bootstrap, &endpoint, address(to))?;
    }
    Ok(bootstrap)
}

/// A value for each secret that the files name.
pub fn secrets() -> anyhow::Result<Vec<(&'static str, String)>> {
    SECRETS
        .into_iter()
        .map(|name| Ok((name, random::<SECRET_BYTES>()?.iter().map(|byte| format!("{byte:02x}")).collect())))
        .collect()
}

/// A key with the id and grammar of `key` and another secret: what somebody sends who has seen the public part.
pub fn same_id(key: &str) -> anyhow::Result<String> {
    const ID_DIGITS: &str = "0123456789abcdefghijklmnopqrstuvwxyz";
    let id = key.split('_').nth(1).context("a key without an id")?;
    // A key is drawn digit by digit from random bytes: the first ones decide the id.
    let mut bytes: Vec<u8> = id
        .chars()
        .map(|digit| ID_DIGITS.find(digit).and_then(|index| u8::try_from(index).ok()).context("not an id"))
        .collect::<anyhow::Result<_>>()?;
    bytes.extend(random::<RANDOM_BYTES>()?);
    let other = ApiKey::generate(&bytes).map_err(|_| anyhow!("no randomness"))?;
    if other.expose() == key || !other.expose().starts_with(&format!("mlg_{id}_")) {
        bail!("not another key of the same id");
    }
    Ok(other.expose().to_owned())
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

/// `mlgate key new`, as anybody would make one.
fn new_key(consumer: &str) -> anyhow::Result<Value> {
    let output = Command::new(artifacts::command()?)
        .args(["key", "new", "--format", "json", "--consumer", consumer])
        .output()
        .context("cannot run mlgate")?;
    if !output.status.success() {
        bail!("mlgate key new: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Replaces what stands at `pointer`; that nothing stands there is an error, since then the file has another shape.
pub(crate) fn set(holder: &mut Value, pointer: &str, value: Value) -> anyhow::Result<()> {
    *holder.pointer_mut(pointer).with_context(|| format!("nothing at {pointer}"))? = value;
    Ok(())
}

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}

fn random<const LENGTH: usize>() -> anyhow::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
