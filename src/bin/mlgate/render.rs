//! `mlgate render`: one file per target; here is what they share.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mlgate::config::document::Document;
use mlgate::config::tree::Tree;
use mlgate::config::{self, Config};
use mlgate::envoy::render::Address;
use mlgate::limits::remote::Counter;

use crate::environment::Environment;
use crate::{Exit, Format, Stop, format_of, read_file};

mod envoy;
mod gateway;
mod istio;
mod limitador;
mod manifests;
mod ratelimit;

/// Write the files of other programs from a configuration, so that nothing is said twice
#[derive(Debug, Subcommand)]
pub(crate) enum RenderCommand {
    Envoy(Box<envoy::EnvoyCommand>),
    Gateway(Box<gateway::GatewayCommand>),
    Istio(Box<istio::IstioCommand>),
    Limitador(limitador::LimitadorCommand),
    Ratelimit(ratelimit::RatelimitCommand),
}

/// Which configuration.
#[derive(Debug, Args)]
struct Source {
    /// YAML, or JSON where the name ends in `.json`; `-` is standard input
    config: PathBuf,
}

/// A configuration that the gate loads.
struct Loaded {
    document: Document,
    tree: Tree,
}

/// What a rate limit service must count.
struct Counted {
    domain: String,
    counters: Vec<Counter>,
}

/// Runs one of them.
pub(crate) fn run(command: &RenderCommand, format: Format) -> Result<Exit, Stop> {
    match command {
        RenderCommand::Envoy(command) => envoy::run(command, format),
        RenderCommand::Gateway(command) => gateway::run(command, format),
        RenderCommand::Istio(command) => istio::run(command, format),
        RenderCommand::Limitador(command) => limitador::run(command, format),
        RenderCommand::Ratelimit(command) => ratelimit::run(command, format),
    }
}

// === impl Source ===

impl Source {
    fn place(&self) -> String {
        self.config.display().to_string()
    }

    /// The document as it is written, once it is known to load.
    fn load(&self) -> Result<Loaded, Stop> {
        let (bytes, format) = (read_file(&self.config)?, format_of(&self.config));
        self.compile(&bytes)?;
        let (document, tree) =
            config::read(&bytes, format).map_err(|faults| Stop::refused(self.place(), &faults))?;
        Ok(Loaded { document, tree })
    }

    /// No value of a variable goes into a rendered file, so none is needed.
    fn compile(&self, bytes: &[u8]) -> Result<Config, Stop> {
        let stand_in = |name: &str| Environment::Process.value_or_stand_in(name);
        config::load(bytes, format_of(&self.config), &stand_in)
            .map_err(|faults| Stop::refused(self.place(), &faults))
    }

    /// What the service must count.
    fn counted(&self) -> Result<Counted, Stop> {
        let config = self.compile(&read_file(&self.config)?)?;
        let counters: Vec<Counter> = config.limits.counters().collect();
        match config.limits.service() {
            Some(service) if !counters.is_empty() => Ok(Counted { domain: service.domain.clone(), counters }),
            _ => Err(Stop::invalid(
                self.place(),
                "a rate limit service has nothing to count: no limit is global",
                "write `scope: global` at a limit, and `rate_limit_service`",
            )),
        }
    }
}

/// Where a cluster is: `NAME=HOST:PORT`.
fn cluster(text: &str) -> Result<(String, Address), String> {
    let (name, address) = text.split_once('=').ok_or("not `NAME=HOST:PORT`")?;
    Ok((name.to_owned(), address.parse().map_err(|_| "not `NAME=HOST:PORT`")?))
}

/// A text as YAML and JSON write it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The first line of a rendered file.
fn made_by(target: &str) -> String {
    format!("# made by `mlgate render {target}`: change the configuration of the gate, and render again\n")
}
