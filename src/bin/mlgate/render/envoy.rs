//! `mlgate render envoy`: a bootstrap around a configuration.

use clap::Args;
use mlgate::config::tree::Tree;
use mlgate::envoy::render::{Address, Settings, TlsFiles, bootstrap};

use super::{Loaded, Source, cluster, made_by};
use crate::{Exit, Format, Stop, print, print_json};

/// Print an Envoy bootstrap for a configuration, in which `mlgate check --envoy` finds nothing
///
/// Its settings are those of `envoy/envoy.yaml`, where each says why it is there. Names of routes are the configuration's;
/// what they match, and the addresses, are a place to begin. Envoy 1.40 and newer take it; before, write
/// `capability_restriction_config` beside `vm_config` instead of into it.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct EnvoyCommand {
    #[command(flatten)]
    source: Source,
    /// Where callers connect
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:8080")]
    listen: Address,
    /// Where the admin interface answers
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9901")]
    admin: Address,
    /// The model server
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8000")]
    upstream: Address,
    /// Where a cluster is that the configuration names; once for each
    #[arg(long, value_name = "NAME=HOST:PORT", value_parser = cluster)]
    cluster: Vec<(String, Address)>,
    /// The filter's file, as Envoy finds it
    #[arg(long, value_name = "FILE", default_value = "dist/mlgate.wasm")]
    filter: String,
    /// The listener's certificate, where certificates are credentials
    #[arg(long, value_name = "FILE", default_value = "/etc/mlgate/tls.crt")]
    certificate: String,
    /// The key of it
    #[arg(long, value_name = "FILE", default_value = "/etc/mlgate/tls.key")]
    private_key: String,
    /// Who signs for callers
    #[arg(long, value_name = "FILE", default_value = "/etc/mlgate/client-ca.crt")]
    client_ca: String,
    /// Who signs for servers whose answers decide who gets in
    #[arg(long, value_name = "FILE", default_value = "/etc/ssl/certs/ca-certificates.crt")]
    server_ca: String,
}

const HELP: &str = help!(
    "  mlgate render envoy gate.yaml > envoy.yaml
  mlgate render envoy gate.yaml --upstream models.internal:8000 --cluster audit=collector.internal:4480
  mlgate render envoy gate.yaml > envoy.yaml && envoy --mode validate -c envoy.yaml"
);

/// Renders.
pub(super) fn run(command: &EnvoyCommand, format: Format) -> Result<Exit, Stop> {
    let place = command.source.place();
    let Loaded { document, tree } = command.source.load()?;
    let settings = Settings {
        listen: command.listen.clone(),
        admin: command.admin.clone(),
        upstream: command.upstream.clone(),
        filter: command.filter.clone(),
        clusters: command.cluster.clone(),
        tls: TlsFiles {
            certificate: command.certificate.clone(),
            private_key: command.private_key.clone(),
            client_ca: command.client_ca.clone(),
            server_ca: command.server_ca.clone(),
        },
    };
    let yaml = bootstrap(&document, &tree, &settings).map_err(|faults| Stop::refused(&place, &faults))?;
    match format {
        Format::Human => print(&format!("{}{yaml}", made_by("envoy")))?,
        Format::Json => {
            let tree = Tree::of_proxy(yaml.as_bytes(), mlgate::config::Format::Yaml)
                .map_err(|faults| Stop::refused(&place, &faults))?;
            print_json(&tree.to_json())?;
        }
    }
    Ok(Exit::Fine)
}
