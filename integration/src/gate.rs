//! A whole gate: Envoy with the built filter in two workers, a collector of its own, keys made for this run.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use mlgate::cases;
use mlgate::envoy::CAPABILITIES;
use serde_json::{Value, json};

use crate::collector::{Collector, LISTS, text};
use crate::{Cluster, Envoy, EnvoyBuilder, Plugin, Route, Stack, artifacts, filter_file};

/// A running gate.
#[derive(Debug)]
pub struct Gate {
    /// The folder and the processes.
    pub stack: Stack,
    /// The document, its keys and the VM's variables.
    pub secrets: cases::Gate,
    /// Where its events go.
    pub collector: Collector,
    /// The proxy.
    pub envoy: Envoy,
    /// With the filter in it, where that is a watched file.
    watched: Option<Value>,
}

/// Workers of every gate: what is shared between them must be shared right.
pub const WORKERS: usize = 2;

/// Writes an empty list in the place of each that a document polls, where the collector serves it; gives the clusters
/// that are named.
fn lists(stack: &Stack, document: &Value) -> anyhow::Result<BTreeSet<String>> {
    let mut clusters = BTreeSet::new();
    for (pointer, empty) in [
        ("/authentication/revocation", r#"{"version":1}"#),
        ("/authentication/credentials_list", r#"{"version":1,"consumers":[]}"#),
    ] {
        let word = |word: &str| document.pointer(&format!("{pointer}/{word}")).and_then(Value::as_str);
        let (Some(cluster), Some(uri)) = (word("cluster"), word("uri")) else { continue };
        let name = uri.rsplit('/').next().unwrap_or_default();
        let folder = stack.folder().join(LISTS);
        fs::create_dir_all(&folder).context("no folder for lists")?;
        fs::write(folder.join(name), empty).context("a list cannot be written")?;
        clusters.insert(cluster.to_owned());
    }
    Ok(clusters)
}

/// One hop in front is believed: for `EnvoyBuilder::edit`, where a test says who is calling.
pub fn behind_one_hop(bootstrap: &mut Value) {
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    if let Some(Value::Object(manager)) = bootstrap.pointer_mut(manager) {
        manager.insert("use_remote_address".to_owned(), json!(true));
        manager.insert("xff_num_trusted_hops".to_owned(), json!(1));
    }
}

// === impl Gate ===

impl Gate {
    /// Starts a gate before an upstream. `routes` adds routes to `model`; the last one takes every path.
    pub async fn start(
        name: &str,
        secrets: cases::Gate,
        upstream: Cluster,
        routes: impl FnOnce(EnvoyBuilder) -> EnvoyBuilder,
    ) -> anyhow::Result<Self> {
        let (stack, collector, builder) = Self::prepare(name, &secrets, upstream).await?;
        let envoy = routes(builder).route(Route::prefix("/", "model")).start(&stack).await?;
        Ok(Self { stack, secrets, collector, envoy, watched: None })
    }

    /// Starts a gate whose filter is a file that Envoy watches: [`Self::push`] gives it another document.
    pub async fn watched(name: &str, secrets: cases::Gate, upstream: SocketAddr) -> anyhow::Result<Self> {
        let upstream = Cluster::http1("model", upstream);
        let (stack, collector, builder) = Self::prepare(name, &secrets, upstream).await?;
        let builder = builder.route(Route::prefix("/", "model"));
        let whole = builder.bootstrap();
        let mut bootstrap = whole.clone();
        filter_file::take_out(&stack, &mut bootstrap)?;
        let envoy = builder.whole(bootstrap).start(&stack).await?;
        Ok(Self { stack, secrets, collector, envoy, watched: Some(whole) })
    }

    async fn prepare(
        name: &str,
        secrets: &cases::Gate,
        upstream: Cluster,
    ) -> anyhow::Result<(Stack, Collector, EnvoyBuilder)> {
        let stack = Stack::create(name)?;
        let lists = lists(&stack, &secrets.document)?;
        let collector = Collector::start(&stack, &secrets.document, &secrets.environment).await?;
        let hold = secrets.document.pointer("/resources/body/peek").and_then(Value::as_str) == Some("hold");
        let mut plugin = Plugin::new("mlgate", artifacts::filter_wasm()?)
            .capabilities(&CAPABILITIES)
            .configuration(secrets.document.to_string())
            .stop_iteration(hold);
        let mut builder = EnvoyBuilder::new();
        // written into the bootstrap they would stand in /config_dump
        for (key, value) in &secrets.environment {
            plugin = plugin.host_environment(key);
            builder = builder.environment(key, value);
        }
        let builder = builder
            .concurrency(u32::try_from(WORKERS)?)
            .plugin(plugin)
            .cluster(upstream)
            .cluster(Cluster::http1("audit", collector.address()));
        let builder = lists
            .iter()
            .fold(builder, |builder, name| builder.cluster(Cluster::http1(name, collector.address())));
        Ok((stack, collector, builder))
    }

    /// Pushes another document to a [watched](Self::watched) gate, without waiting for what becomes of it.
    pub fn push(&self, document: &Value) -> anyhow::Result<()> {
        filter_file::push(&self.stack, &self.with(document)?)?;
        Ok(())
    }

    /// Pushes it and says whether Envoy took it or refused it.
    pub async fn update(&self, document: &Value) -> anyhow::Result<bool> {
        filter_file::update(&self.envoy, &self.stack, &self.with(document)?).await
    }

    fn with(&self, document: &Value) -> anyhow::Result<Value> {
        let mut bootstrap = self.watched.clone().context("this gate was not started `watched`")?;
        filter_file::configure(&mut bootstrap, document)?;
        Ok(bootstrap)
    }

    /// Starts a gate with a document as YAML text, before an upstream in HTTP/1.
    pub async fn simple(name: &str, document: &str, upstream: SocketAddr) -> anyhow::Result<Self> {
        let tree = mlgate::config::tree::Tree::from_yaml(document.as_bytes())
            .map_err(|faults| anyhow!("{faults:?}"))?;
        let secrets = cases::Gate::of(tree.to_json()).map_err(anyhow::Error::msg)?;
        Self::start(name, secrets, Cluster::http1("model", upstream), |builder| builder).await
    }

    /// The key of this id.
    pub fn key(&self, id: &str) -> &str {
        self.secrets.keys.get(id).map_or("no such key", String::as_str)
    }

    /// Waits until each of these decisions is in the log.
    pub async fn delivered(
        &self,
        decisions: &BTreeSet<String>,
        bound: Duration,
    ) -> anyhow::Result<Vec<Value>> {
        let what = format!("{} decisions", decisions.len());
        self.collector
            .wait_for(&what, bound, |events| {
                let there: BTreeSet<&str> = events.iter().map(|event| text(event, "decision_id")).collect();
                decisions.iter().all(|decision| there.contains(decision.as_str()))
            })
            .await
    }

    /// Fails when a VM has died or was replaced: by what Envoy says, and by the log, in which each worker opens one
    /// chain and no more.
    pub async fn check_one_life(&self) -> anyhow::Result<()> {
        self.envoy.check_unharmed().await?;
        let events = self.collector.events()?;
        let opened: Vec<&str> = events
            .iter()
            .filter(|event| text(event, "type") == "open")
            .map(|event| text(event, "chain"))
            .collect();
        let chains: BTreeSet<&str> = events.iter().map(|event| text(event, "chain")).collect();
        if opened.len() > WORKERS || chains.len() != opened.len() {
            bail!("{WORKERS} workers opened the chains {opened:?}, and the log has {chains:?}");
        }
        Ok(())
    }
}
