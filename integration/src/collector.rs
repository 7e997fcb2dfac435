//! `mlgate audit collect` as its own process, and what `mlgate audit verify` and `analyze` say of what it kept.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::composed::{COLLECTOR, Composed};
use crate::{Process, Stack, artifacts};

/// A collector; it can be killed and started again at the same place.
#[derive(Debug)]
pub struct Collector {
    process: Option<Process>,
    address: SocketAddr,
    log: PathBuf,
    chain_keys: Vec<String>,
    environment: BTreeMap<String, String>,
    starts: u32,
    composed: Option<Arc<Composed>>,
}

/// What `mlgate audit …` said.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The command as one would type it.
    pub command: String,
    /// Its exit code.
    pub exit: Option<i32>,
    /// What it printed.
    pub text: String,
}

// === impl Collector ===

impl Collector {
    /// Starts one on a free port, with the chain keys of a gate's document, whose values are in `environment`.
    pub async fn start(
        stack: &Stack,
        document: &Value,
        environment: &BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(stack.folder().join(LISTS)).context("no folder for lists")?;
        let mut collector = Self::described(stack.folder().join("audit.log"), document, environment);
        collector.restart(stack).await?;
        Ok(collector)
    }

    /// The one in a container, which is up or will be.
    pub(crate) fn composed(
        composed: Arc<Composed>,
        document: &Value,
        environment: &BTreeMap<String, String>,
    ) -> Self {
        let described = Self::described(composed.audit_log(), document, environment);
        Self { composed: Some(composed), ..described }
    }

    fn described(log: PathBuf, document: &Value, environment: &BTreeMap<String, String>) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let keys = document.pointer("/audit/chain/keys").and_then(Value::as_array).into_iter().flatten();
        let chain_keys = keys.map(|key| format!("{}={}", text(key, "id"), text(key, "env"))).collect();
        let environment = environment.clone();
        Self { process: None, address, log, chain_keys, environment, starts: 0, composed: None }
    }

    /// Starts it again, on the same port and log.
    pub async fn restart(&mut self, stack: &Stack) -> anyhow::Result<()> {
        self.starts = self.starts.saturating_add(1);
        let mut command = Command::new(artifacts::command()?);
        command.args(["audit", "collect", "--listen", &self.address.to_string(), "--log"]).arg(&self.log);
        command.arg("--serve-lists").arg(stack.folder().join(LISTS));
        command.args(self.key_arguments()).envs(&self.environment);
        let mut process = stack.run(&format!("collector-{}", self.starts), &command)?;
        process.wait_for_line(LISTENING, START_BOUND).await?;
        let log = process.log()?;
        let line = log.lines().find_map(|line| line.split_once(LISTENING)).context("no address")?.1;
        let address = line.split_whitespace().next().unwrap_or_default();
        self.address = address.parse().with_context(|| format!("no address in `{line}`"))?;
        self.process = Some(process);
        Ok(())
    }

    /// Kills it at once, as a crash would.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill().map(|_| ()),
            None => bail!("the collector is dead already"),
        }
    }

    /// Asks it to end and waits for that.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(STOP_BOUND).await?;
        }
        if let Some(composed) = &self.composed {
            composed.stop(COLLECTOR)?;
        }
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Every whole event that is on disk.
    pub fn events(&self) -> anyhow::Result<Vec<Value>> {
        let text = fs::read_to_string(&self.log).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(String::new()),
            _ => Err(error),
        })?;
        // The last line may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| {
                let mut kept: Value =
                    serde_json::from_str(line).with_context(|| format!("in the log: {line}"))?;
                Ok(kept.get_mut("event").map(Value::take).unwrap_or(kept))
            })
            .collect()
    }

    /// Waits until the events satisfy `enough`, and gives them.
    pub async fn wait_for(
        &self,
        what: &str,
        bound: Duration,
        enough: impl Fn(&[Value]) -> bool,
    ) -> anyhow::Result<Vec<Value>> {
        let start = Instant::now();
        loop {
            let events = self.events()?;
            if enough(&events) {
                return Ok(events);
            }
            if start.elapsed() > bound {
                bail!(
                    "{what}: not in the log within {bound:?}, which holds {} events: {}",
                    events.len(),
                    self.log.display()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The command's verdict on the log.
    pub fn verify(&self) -> anyhow::Result<Verdict> {
        self.verify_log(&self.log)
    }

    /// The command's verdict on another log of the same chains.
    pub fn verify_log(&self, log: &Path) -> anyhow::Result<Verdict> {
        self.audit("verify", log, &self.key_arguments())
    }

    /// What the command finds suspicious in the log.
    pub fn analyze(&self) -> anyhow::Result<Verdict> {
        self.audit("analyze", &self.log, &[])
    }

    fn audit(&self, what: &str, log: &Path, more: &[&str]) -> anyhow::Result<Verdict> {
        let log = artifacts::shown(log);
        let arguments = [&["audit", what, &log], more].concat();
        let output = Command::new(artifacts::command()?)
            .args(&arguments)
            .current_dir(artifacts::root())
            .envs(&self.environment)
            .output()
            .with_context(|| format!("cannot run mlgate audit {what}"))?;
        let text = [output.stdout, output.stderr].concat();
        Ok(Verdict {
            command: format!("mlgate {}", arguments.join(" ")),
            exit: output.status.code(),
            text: String::from_utf8_lossy(&text).trim_end().to_owned(),
        })
    }

    fn key_arguments(&self) -> Vec<&str> {
        self.chain_keys.iter().flat_map(|key| ["--chain-key", key]).collect()
    }
}

/// The folder of the stack that it serves.
pub const LISTS: &str = "lists";

const LISTENING: &str = "listening on ";
const POLL: Duration = Duration::from_millis(50);
const START_BOUND: Duration = Duration::from_secs(10);
const STOP_BOUND: Duration = Duration::from_secs(10);

/// The text of a field of an event.
pub fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event.get(field).and_then(Value::as_str).unwrap_or_default()
}
