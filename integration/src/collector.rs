//! `mlgate audit collect` as its own process, and `mlgate audit verify` on what it kept.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

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
}

/// What `mlgate audit verify` said.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Its exit code.
    pub exit: Option<i32>,
    /// What it printed.
    pub text: String,
}

// === impl Collector ===

impl Collector {
    /// Starts one on a free port. `chain_keys` are `ID=VARIABLE`, the variables' values are in `environment`.
    pub async fn start(
        stack: &Stack,
        chain_keys: Vec<String>,
        environment: BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let log = stack.folder().join("audit.log");
        let mut collector = Self { process: None, address, log, chain_keys, environment, starts: 0 };
        collector.restart(stack).await?;
        Ok(collector)
    }

    /// Starts it again, on the same port and log.
    pub async fn restart(&mut self, stack: &Stack) -> anyhow::Result<()> {
        self.starts = self.starts.saturating_add(1);
        let mut command = Command::new(artifacts::command()?);
        command.args(["audit", "collect", "--listen", &self.address.to_string(), "--log"]).arg(&self.log);
        self.with_keys(&mut command);
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
        let mut command = Command::new(artifacts::command()?);
        command.args(["audit", "verify"]).arg(&self.log);
        self.with_keys(&mut command);
        let output = command.output().context("cannot run mlgate audit verify")?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Ok(Verdict { exit: output.status.code(), text })
    }

    fn with_keys(&self, command: &mut Command) {
        for key in &self.chain_keys {
            command.args(["--chain-key", key]);
        }
        command.envs(&self.environment);
    }
}

const LISTENING: &str = "listening on ";
const POLL: Duration = Duration::from_millis(50);
const START_BOUND: Duration = Duration::from_secs(10);

/// The text of a field of an event.
pub fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event.get(field).and_then(Value::as_str).unwrap_or_default()
}
