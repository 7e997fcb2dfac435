//! The command's collector as its own process, and its verdict on what it kept.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{Process, Stack, artifacts};

/// A running `mlgate audit collect`.
#[derive(Debug)]
pub struct Collector {
    process: Process,
    address: SocketAddr,
    log: PathBuf,
    secrets: Vec<(String, String)>,
}

/// What `mlgate audit verify` said.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The command as one would type it.
    pub command: String,
    /// Its exit code.
    pub exit: Option<i32>,
    /// What it printed.
    pub text: String,
}

/// How long the collector may take to start or end.
const BOUND: Duration = Duration::from_secs(10);
/// The chain key of `envoy/config/demo.yaml`: its id, and the variable that holds it.
pub const CHAIN_KEY: &str = "c1=MLGATE_CHAIN_KEY_1";
/// What comes before the address in the collector's first line.
const LISTENING: &str = "listening on ";
/// The event that is tampered with, and what its byte becomes: a stolen key's call is blamed on somebody else.
const BEFORE: &str = r#""user_id":"user_3""#;
const AFTER: &str = r#""user_id":"user_1""#;

// === impl Collector ===

impl Collector {
    /// Starts it on a free loopback port.
    pub async fn start(stack: &Stack, secrets: &[(&str, String)]) -> anyhow::Result<Self> {
        let log = stack.folder().join("audit.log");
        let mut command = Command::new(artifacts::command()?);
        command
            .args(["audit", "collect", "--listen", "127.0.0.1:0", "--chain-key", CHAIN_KEY, "--log"])
            .arg(&log);
        let secrets: Vec<_> =
            secrets.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        command.envs(secrets.iter().cloned());
        let mut process = stack.run("collector", &command)?;
        let line = process.wait_for_line(LISTENING, BOUND).await?;
        let address = line.trim_start_matches(LISTENING).trim().parse();
        let address = address.with_context(|| format!("no address in `{line}`"))?;
        Ok(Self { process, address, log, secrets })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The key that events are sealed with.
    pub fn chain_key(&self) -> Option<&str> {
        let key = self.secrets.iter().find(|(name, _)| CHAIN_KEY.ends_with(name.as_str()));
        key.map(|(_, value)| value.as_str())
    }

    /// Every whole event that is on disk.
    pub fn events(&self) -> anyhow::Result<Vec<Value>> {
        let text = match fs::read_to_string(&self.log) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.log.display())),
        };
        // The last line may be half written.
        let whole = text.rsplit_once('\n').map(|(whole, _)| whole).unwrap_or_default();
        whole
            .lines()
            .map(|line| {
                let kept: Value =
                    serde_json::from_str(line).with_context(|| format!("in the log: {line}"))?;
                Ok(kept.get("event").unwrap_or(&kept).clone())
            })
            .collect()
    }

    /// Stops it.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop(BOUND).await?;
        Ok(())
    }

    /// The verdict on a log.
    pub fn verify(&self, log: &Path) -> anyhow::Result<Verdict> {
        let output = Command::new(artifacts::command()?)
            .args(["audit", "verify"])
            .arg(shown(log))
            .args(["--chain-key", CHAIN_KEY])
            .current_dir(artifacts::root())
            .envs(self.secrets.iter().cloned())
            .output()
            .context("cannot run mlgate audit verify")?;
        let text = [output.stdout, output.stderr].concat();
        Ok(Verdict {
            command: format!("mlgate audit verify {} --chain-key {CHAIN_KEY}", shown(log)),
            exit: output.status.code(),
            text: String::from_utf8_lossy(&text).trim_end().to_owned(),
        })
    }

    /// A copy of the log in which one byte is another.
    pub fn tampered(&self, stack: &Stack) -> anyhow::Result<(PathBuf, String)> {
        let text = fs::read_to_string(&self.log)?;
        let Some(place) = text.match_indices(BEFORE).map(|(place, _)| place).nth(1) else {
            bail!("no event with {BEFORE}");
        };
        let (head, tail) = text.split_at_checked(place).context("not at a letter")?;
        let line = head.lines().count();
        let changed = [head, &tail.replacen(BEFORE, AFTER, 1)].concat();
        Ok((stack.write("tampered.log", changed)?, format!("line {line}: {BEFORE} becomes {AFTER}")))
    }
}

/// A path as one would type it from the repository's root.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(artifacts::root()).unwrap_or(path).display().to_string()
}
