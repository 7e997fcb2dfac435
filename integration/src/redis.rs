//! A real `redis-server` on a free loopback port, and the little of its protocol that a test needs.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::{Process, Stack};

/// A server that keeps everything in memory; killed when dropped.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    address: SocketAddr,
}

/// One connection; its commands go one after the other.
#[derive(Debug)]
pub(crate) struct Connection(Mutex<BufStream<TcpStream>>);

// === impl Redis ===

impl Redis {
    /// Starts one, or gives `None` where none is installed: then a line of output says that a test was left out.
    pub async fn start(stack: &Stack) -> anyhow::Result<Option<Self>> {
        if Command::new(SERVER).arg("--version").output().is_err() {
            say("left out: no redis-server here (integration/install-redis.sh installs Debian's)");
            return Ok(None);
        }
        // Redis cannot be asked for any free port, so another process may take this one in between.
        let mut failed = None;
        for attempt in 1..=ATTEMPTS {
            match Self::start_on(stack, free_port()?, attempt).await {
                Ok(redis) => return Ok(Some(redis)),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.context("never tried")?)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it at once.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill().map(|_| ())
    }

    async fn start_on(stack: &Stack, address: SocketAddr, attempt: u32) -> anyhow::Result<Self> {
        let mut command = Command::new(SERVER);
        command.args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(stack.folder());
        let mut process = stack.run(&format!("redis-{attempt}"), &command)?;
        process.wait_for_line("Ready to accept connections", START_BOUND).await?;
        Ok(Self { process, address })
    }
}

// === impl Connection ===

impl Connection {
    pub(crate) async fn open(address: impl ToSocketAddrs) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("cannot connect to redis")?;
        stream.set_nodelay(true)?;
        Ok(Self(Mutex::new(BufStream::new(stream))))
    }

    /// Sends one command and reads its answer, an array of integers.
    pub(crate) async fn numbers(&self, command: &[String]) -> anyhow::Result<Vec<i64>> {
        let mut stream = self.0.lock().await;
        timeout(ANSWER_BOUND, ask(&mut stream, command)).await.context("redis does not answer")?
    }
}

async fn ask(stream: &mut BufStream<TcpStream>, command: &[String]) -> anyhow::Result<Vec<i64>> {
    let mut request = format!("*{}\r\n", command.len());
    for word in command {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let count = number(stream, '*').await?;
    let mut numbers = Vec::new();
    for _ in 0..count {
        numbers.push(number(stream, ':').await?);
    }
    Ok(numbers)
}

/// Reads one line that begins with `kind` and goes on with a number (RESP: `*` an array, `:` an integer).
async fn number(stream: &mut BufStream<TcpStream>, kind: char) -> anyhow::Result<i64> {
    let mut line = String::new();
    stream.take(LONGEST_LINE).read_line(&mut line).await?;
    match line.strip_prefix(kind).and_then(|rest| rest.trim_end().parse().ok()) {
        Some(number) => Ok(number),
        None => bail!("redis answers `{}`", line.trim_end()),
    }
}

fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
fn say(line: &str) {
    eprintln!("{line}");
}

const ANSWER_BOUND: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 3;
const LONGEST_LINE: u64 = 4096;
const SERVER: &str = "redis-server";
const START_BOUND: Duration = Duration::from_secs(10);
