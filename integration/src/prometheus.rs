//! A real `prometheus` on a free loopback port that scrapes Envoys, and `promtool`.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{Process, Stack, artifacts, client};

/// A server that keeps its samples in the stack's folder; killed when dropped.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    address: SocketAddr,
}

// === impl Prometheus ===

impl Prometheus {
    /// Starts one that scrapes these admin interfaces twice a second, with a file of rules; `None` where there is none on
    /// this machine and none can be fetched: then a line of output says that a test was left out.
    pub async fn start(
        stack: &Stack,
        envoys: &[SocketAddr],
        rules: &std::path::Path,
    ) -> anyhow::Result<Option<Self>> {
        let Some(folder) = folder()? else { return Ok(None) };
        let targets: Vec<String> = envoys.iter().map(|envoy| format!("\"{envoy}\"")).collect();
        let config = format!(
            "global: {{ scrape_interval: 500ms, evaluation_interval: 1s }}\nrule_files: [\"{}\"]\nscrape_configs:\n  - \
             job_name: envoy\n    metrics_path: /stats/prometheus\n    static_configs: [{{ targets: [{}] }}]\n",
            rules.display(),
            targets.join(", "),
        );
        let config = stack.write("prometheus.yaml", config)?;
        // It cannot be asked for any free port, so another process may take this one in between.
        let mut failed = None;
        for attempt in 1..=ATTEMPTS {
            let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
            let mut command = Command::new(folder.join("prometheus"));
            command.arg(format!("--config.file={}", config.display()));
            command.arg(format!("--web.listen-address={address}"));
            let samples = stack.folder().join(format!("samples-{attempt}"));
            command.arg(format!("--storage.tsdb.path={}", samples.display()));
            let mut process = stack.run(&format!("prometheus-{attempt}"), &command)?;
            match process.wait_for_line("Server is ready", START_BOUND).await {
                Ok(_) => return Ok(Some(Self { process, address })),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.context("never tried")?)
    }

    /// Evaluates an expression now; gives its samples. An expression that is refused is an error.
    pub async fn query(&self, expression: &str) -> anyhow::Result<Vec<Value>> {
        let data = self
            .get(&format!("/api/v1/query?query={}", encoded(expression)))
            .await
            .context(expression.to_owned())?;
        data.get("result").and_then(Value::as_array).cloned().context("no result")
    }

    /// What the server's API answers, without its envelope.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = client::get(self.address, path).await?;
        let mut body = answer.json()?;
        if body.get("status").and_then(Value::as_str) != Some("success") {
            bail!("{path} answered {}: {body}\n{}", answer.status, self.process.last_lines());
        }
        body.get_mut("data").map(Value::take).context("no data")
    }
}

/// Runs `promtool` from the repository's root; `None` where there is none.
pub fn promtool(arguments: &[&str]) -> anyhow::Result<Option<Output>> {
    let Some(folder) = folder()? else { return Ok(None) };
    let mut command = Command::new(folder.join("promtool"));
    let output =
        command.args(arguments).current_dir(artifacts::root()).output().context("cannot run promtool")?;
    Ok(Some(output))
}

/// Where both are.
fn folder() -> anyhow::Result<Option<PathBuf>> {
    let script = artifacts::root().join("integration/install-prometheus.sh");
    let output = Command::new(script).output().context("cannot run install-prometheus.sh")?;
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if folder.is_empty() {
        say(&format!("left out: {}", String::from_utf8_lossy(&output.stderr).trim()));
        return Ok(None);
    }
    Ok(Some(PathBuf::from(folder)))
}

/// A value of a query (RFC 3986 §2.1).
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
fn say(line: &str) {
    eprintln!("{line}");
}

const ATTEMPTS: u32 = 3;
const START_BOUND: Duration = Duration::from_secs(60);
