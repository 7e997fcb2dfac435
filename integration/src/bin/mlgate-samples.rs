//! The servers around the gate as programs of their own: what the images of `integration/compose.yaml` run.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a server says where it listens")]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use mlgate_integration::model_server::Capacity;
use mlgate_integration::{ModelServer, RateLimitService};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: mlgate-samples model ADDRESS:PORT [AT-ONCE MILLISECONDS]
       mlgate-samples ratelimit ADDRESS:PORT REDIS-HOST:PORT LIMITS";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let served = match arguments.as_slice() {
        ["model", address] => model(address, None).await,
        ["model", address, at_once, each] => model(address, Some((at_once, each))).await,
        ["ratelimit", address, redis, limits] => ratelimit(address, redis, limits).await,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(3);
        }
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mlgate-samples: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn model(address: &str, capacity: Option<(&&str, &&str)>) -> anyhow::Result<()> {
    let address = parsed(address)?;
    let server = match capacity {
        Some((at_once, each)) => {
            let capacity = Capacity { at_once: at_once.parse()?, each: Duration::from_millis(each.parse()?) };
            ModelServer::start_limited(address, capacity).await?
        }
        None => ModelServer::start_on(address).await?,
    };
    until_told(server.address()).await
}

async fn ratelimit(address: &str, redis: &str, limits: &str) -> anyhow::Result<()> {
    let limits = std::fs::read_to_string(limits).with_context(|| format!("cannot read {limits}"))?;
    let service = RateLimitService::start_on(parsed(address)?, &limits, redis).await?;
    until_told(service.address()).await
}

fn parsed(address: &str) -> anyhow::Result<SocketAddr> {
    address.parse().with_context(|| format!("`{address}` is not an address with a port"))
}

async fn until_told(address: SocketAddr) -> anyhow::Result<()> {
    println!("listening on {address}");
    let mut term = signal(SignalKind::terminate())?;
    tokio::select! {
        _told = term.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}
