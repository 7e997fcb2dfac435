//! A real Envoy from a builder: bootstrap, start, readiness, statistics, log, update, stop.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::composed::{Composed, GATE, PORT, STATUS_PORT};
use crate::stack::{Process, Stack};
use crate::{artifacts, client};

mod bootstrap;

pub use bootstrap::{Cluster, Plugin, Route, VirtualHost, for_this_envoy};

/// Describes one Envoy with one HTTP listener (HTTP/1.1 and HTTP/2 without TLS on the same port).
#[derive(Clone, Debug, Default)]
pub struct EnvoyBuilder {
    parts: bootstrap::Parts,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    log_level: Option<String>,
    plugin_log_level: Option<String>,
    edits: Vec<fn(&mut Value)>,
    updatable: bool,
    whole: Option<Value>,
}

/// A running Envoy; killed when dropped.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: SocketAddr,
    address: SocketAddr,
    builder: EnvoyBuilder,
    folder: PathBuf,
    composed: Option<Arc<Composed>>,
}

// === impl EnvoyBuilder ===

impl EnvoyBuilder {
    /// One worker, no plugin, no route.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of worker threads (default 1). Each worker has its own VM per plugin.
    #[must_use]
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.parts.concurrency = workers.max(1);
        self
    }

    /// Adds a Wasm filter before the router; several run in the order they were added.
    #[must_use]
    pub fn plugin(mut self, plugin: Plugin) -> Self {
        self.parts.plugins.push(plugin);
        self
    }

    /// Adds an HTTP filter of Envoy's own, after the plugins and before the router.
    #[must_use]
    pub fn http_filter(mut self, filter: Value) -> Self {
        self.parts.filters.push(filter);
        self
    }

    /// Adds an upstream.
    #[must_use]
    pub fn cluster(mut self, cluster: Cluster) -> Self {
        self.parts.clusters.push(cluster);
        self
    }

    /// Adds a route to the virtual host `default`, which takes every host name that no other one takes.
    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        self.parts.routes.push(route);
        self
    }

    /// Adds a virtual host.
    #[must_use]
    pub fn virtual_host(mut self, host: VirtualHost) -> Self {
        self.parts.virtual_hosts.push(host);
        self
    }

    /// Metadata of the virtual host `default`: what the routes of [`Self::route`] fall back to.
    #[must_use]
    pub fn default_host_metadata(mut self, namespace: &str, content: Value) -> Self {
        self.parts.default_metadata.push((namespace.to_owned(), content));
        self
    }

    /// Sets a variable of Envoy's own environment; a plugin sees it when [`Plugin::host_environment`] names it.
    #[must_use]
    pub fn environment(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Adds command-line arguments.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// The level of the plugin's own lines (default `info`).
    #[must_use]
    pub fn plugin_log_level(mut self, level: &str) -> Self {
        self.plugin_log_level = Some(level.to_owned());
        self
    }

    /// Envoy's log level (default `warning`).
    #[must_use]
    pub fn log_level(mut self, level: &str) -> Self {
        self.log_level = Some(level.to_owned());
        self
    }

    /// Changes the finished bootstrap in any way that the builder has no word for.
    #[must_use]
    pub fn edit(mut self, edit: fn(&mut Value)) -> Self {
        self.edits.push(edit);
        self
    }

    /// Takes this bootstrap instead of one made of parts. Its admin interface and listener should have port 0.
    #[must_use]
    pub fn whole(mut self, bootstrap: Value) -> Self {
        self.whole = Some(bootstrap);
        self
    }

    /// Puts the listener into a file that Envoy watches, so that [`Envoy::update`] can push another one. Envoy then
    /// starts even when the first configuration is refused, with the listener missing; without this it exits.
    #[must_use]
    pub fn updatable(mut self) -> Self {
        self.updatable = true;
        self
    }

    /// The bootstrap as Envoy reads it.
    pub fn bootstrap(&self) -> Value {
        let mut bootstrap = self.whole.clone().unwrap_or_else(|| self.parts.bootstrap());
        for edit in &self.edits {
            edit(&mut bootstrap);
        }
        bootstrap
    }

    /// Starts Envoy and waits until it is ready and its listener is bound.
    pub async fn start(self, stack: &Stack) -> anyhow::Result<Envoy> {
        let folder = unused_folder(stack.folder())?;
        let process = self.launch(stack, &folder, false)?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut envoy =
            Envoy { process, admin: nowhere, address: nowhere, builder: self, folder, composed: None };
        envoy.wait_until_ready().await?;
        Ok(envoy)
    }

    /// Starts Envoy expecting that it refuses its configuration; gives the log. An Envoy that accepts it, or neither
    /// within the bound, is the failure.
    pub async fn start_refused(self, stack: &Stack) -> anyhow::Result<String> {
        let folder = unused_folder(stack.folder())?;
        let mut process = self.launch(stack, &folder, false)?;
        let status = process.wait(READY_BOUND).await.context("the configuration was not refused")?;
        if status.success() {
            bail!("envoy ended with {status} instead of refusing\n{}", process.last_lines());
        }
        process.log()
    }

    /// Runs `envoy --mode validate`, which configures the plugin too; gives the end and the log.
    pub async fn validate(self, stack: &Stack) -> anyhow::Result<(ExitStatus, String)> {
        let folder = unused_folder(stack.folder())?;
        let mut process = self.launch(stack, &folder, true)?;
        let status = process.wait(READY_BOUND).await?;
        Ok((status, process.log()?))
    }

    fn launch(&self, stack: &Stack, folder: &Path, validate: bool) -> anyhow::Result<Process> {
        fs::create_dir_all(folder)?;
        let mut bootstrap = self.bootstrap();
        bootstrap::for_this_envoy(&mut bootstrap)?;
        if self.updatable {
            let listeners = bootstrap::move_listeners_to_file(&mut bootstrap, &folder.join(LISTENERS));
            publish(folder, LISTENERS, &listeners)?;
        }
        let config = publish(folder, "bootstrap.json", &bootstrap)?;
        let mut command = Command::new(artifacts::envoy()?);
        command.arg("--config-path").arg(config);
        command.arg("--admin-address-path").arg(folder.join(ADMIN));
        command.arg("--concurrency").arg(self.parts.concurrency.max(1).to_string());
        // Without this, Envoys side by side would meet in one shared memory region.
        command.arg("--disable-hot-restart");
        command.arg("--log-level").arg(self.log_level.as_deref().unwrap_or("warning"));
        let level = self.plugin_log_level.as_deref().unwrap_or("info");
        command.arg("--component-log-level").arg(format!("wasm:{level}")).args(["--drain-time-s", "1"]);
        command.args(&self.arguments);
        if validate {
            command.args(["--mode", "validate"]);
        }
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        stack.run(&name, &command)
    }
}

// === impl Envoy ===

impl Envoy {
    /// The one in a container, once it is ready. Its process here is what follows its log, and its admin interface is
    /// the little of it that is published.
    pub(crate) async fn composed(composed: Arc<Composed>, stack: &Stack) -> anyhow::Result<Self> {
        let process = stack.run("envoy", &composed.log_of(GATE))?;
        let (address, admin) = (composed.address(GATE, PORT)?, composed.address(GATE, STATUS_PORT)?);
        let folder = stack.folder().to_owned();
        let builder = EnvoyBuilder::new();
        let mut envoy = Self { process, admin, address, builder, folder, composed: Some(composed) };
        envoy.wait_until_ready().await?;
        Ok(envoy)
    }

    /// Asks it to end and waits, at most `bound`.
    pub async fn stop(&mut self, bound: Duration) -> anyhow::Result<()> {
        match &self.composed {
            Some(composed) => composed.stop(GATE),
            None => self.process.stop(bound).await.map(|_| ()),
        }
    }

    /// Where callers connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin interface answers.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The process: log, signals, end.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The memory that Envoy holds, in bytes.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        self.process.resident_bytes()
    }

    /// Everything that Envoy and the plugins have logged.
    pub fn log(&self) -> anyhow::Result<String> {
        self.process.log()
    }

    /// Asks the admin interface; fails unless the answer is 200.
    pub async fn admin_get(&self, path: &str) -> anyhow::Result<String> {
        let answer = client::get(self.admin, path).await.with_context(|| format!("admin {path}"))?;
        if answer.status != 200 {
            bail!("admin {path} answered {}: {}", answer.status, answer.text());
        }
        Ok(answer.text())
    }

    /// Posts to the admin interface (`/quitquitquit`, `/drain_listeners?graceful`); fails unless the answer is 200.
    pub async fn admin_post(&self, path: &str) -> anyhow::Result<String> {
        let answer = client::post(self.admin, path, "", "").await.with_context(|| format!("admin {path}"))?;
        if answer.status != 200 {
            bail!("admin {path} answered {}: {}", answer.status, answer.text());
        }
        Ok(answer.text())
    }

    /// One counter or gauge by its full name, 0 when it does not exist yet. A plugin's own metrics are called
    /// `wasmcustom.<name>`.
    pub async fn statistic(&self, name: &str) -> anyhow::Result<u64> {
        let all = self.statistics(name).await?;
        Ok(all.into_iter().find(|(found, _)| found == name).map_or(0, |(_, value)| value))
    }

    /// Counters and gauges whose name contains `part`.
    pub async fn statistics(&self, part: &str) -> anyhow::Result<Vec<(String, u64)>> {
        let text = self.admin_get("/stats").await?;
        let named = text.lines().filter_map(|line| line.split_once(": "));
        let matching = named.filter(|(name, _)| name.contains(part));
        Ok(matching.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// Fails when Envoy has ended, when a VM has died or been replaced, or when a plugin has panicked.
    pub async fn check_unharmed(&self) -> anyhow::Result<()> {
        let log = self.log()?;
        let cry = log.lines().find(|line| CRIES.iter().any(|cry| line.contains(cry)));
        if let Some(cry) = cry {
            bail!("a plugin broke: {cry}\n{}", self.process.last_lines());
        }
        let failures = self.statistics("wasm.").await.with_context(|| self.process.last_lines())?;
        for (name, value) in failures {
            if value > 0 && (name.contains("vm_reload") || name.ends_with("crash")) {
                bail!("{name} is {value}\n{}", self.process.last_lines());
            }
        }
        Ok(())
    }

    /// Pushes another listener (plugins, routes) to an Envoy that was built [`EnvoyBuilder::updatable`] and waits until
    /// it was accepted (`Ok(true)`) or refused (`Ok(false)`: the previous one goes on). Clusters cannot change. The
    /// port stays.
    pub async fn update(
        &mut self,
        change: impl FnOnce(EnvoyBuilder) -> EnvoyBuilder,
    ) -> anyhow::Result<bool> {
        if !self.builder.updatable {
            bail!("this Envoy was not built with `updatable`");
        }
        let accepted = self.statistic(ACCEPTED).await?;
        let refused = self.statistic(REFUSED).await?;
        let changed = change(self.builder.clone());
        let mut bootstrap = changed.bootstrap();
        bootstrap::for_this_envoy(&mut bootstrap)?;
        let listeners = bootstrap::move_listeners_to_file(&mut bootstrap, &self.folder.join(LISTENERS));
        publish(&self.folder, LISTENERS, &listeners)?;
        let start = Instant::now();
        while start.elapsed() < READY_BOUND {
            if self.statistic(REFUSED).await? > refused {
                return Ok(false);
            }
            if self.statistic(ACCEPTED).await? > accepted {
                self.builder = changed;
                return Ok(true);
            }
            tokio::time::sleep(POLL).await;
        }
        bail!(
            "the update was neither accepted nor refused within {READY_BOUND:?}\n{}",
            self.process.last_lines()
        )
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.ended()? {
                bail!("envoy ended with {status} before it was ready\n{}", self.process.last_lines());
            }
            if self.is_ready().await {
                return Ok(());
            }
            if start.elapsed() > READY_BOUND {
                bail!("envoy was not ready within {READY_BOUND:?}\n{}", self.process.last_lines());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn is_ready(&mut self) -> bool {
        if self.composed.is_some() {
            return client::get(self.admin, "/ready").await.is_ok_and(|answer| answer.status == 200);
        }
        // The file is written in one go, but not atomically: an unreadable one is read again.
        let admin =
            fs::read_to_string(self.folder.join(ADMIN)).ok().and_then(|text| text.trim().parse().ok());
        let Some(admin) = admin else { return false };
        self.admin = admin;
        let ready = client::get(admin, "/ready").await.is_ok_and(|answer| answer.status == 200);
        if ready && let Ok(text) = self.admin_get("/listeners?format=json").await {
            let port = serde_json::from_str::<Value>(&text).ok().and_then(|listeners| {
                listeners.pointer("/listener_statuses/0/local_address/socket_address/port_value")?.as_u64()
            });
            if let Some(port) = port.and_then(|port| u16::try_from(port).ok()) {
                self.address = SocketAddr::from(([127, 0, 0, 1], port));
                return true;
            }
        }
        ready && self.builder.whole.is_none() && self.builder.parts.has_no_listener()
    }
}

const ACCEPTED: &str = "listener_manager.lds.update_success";
const ADMIN: &str = "admin-address";
const CRIES: [&str; 4] =
    ["panicked at", "Function: proxy_on", "Uncaught RuntimeError", "Proxy-Wasm plugin in-VM"];
const LISTENERS: &str = "listeners.json";
const POLL: Duration = Duration::from_millis(20);
const READY_BOUND: Duration = Duration::from_secs(60);
const REFUSED: &str = "listener_manager.lds.update_rejected";

/// `envoy`, `envoy-2`, … so that one stack can hold several.
fn unused_folder(stack: &Path) -> anyhow::Result<PathBuf> {
    let names =
        (1..100).map(|number| if number == 1 { "envoy".to_owned() } else { format!("envoy-{number}") });
    let mut folders = names.map(|name| stack.join(name));
    folders.find(|folder| !folder.exists()).context("a hundred Envoys in one stack")
}

/// Writes a file whole, then renames it: Envoy watches for the rename.
fn publish(folder: &Path, name: &str, content: &Value) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    let draft = folder.join(format!(".{name}.draft"));
    fs::write(&draft, serde_json::to_string_pretty(content)?)?;
    fs::rename(&draft, &path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
