//! `mlgate render gateway`: Envoy Gateway's objects around a configuration.

use clap::Args;
use mlgate::envoy::manifests::gateway::{self, Settings};

use super::manifests::{Objects, name, write};
use super::{Loaded, Source};
use crate::{Exit, Format, Stop};

/// Print Envoy Gateway's objects for a configuration: the proxy, the filter, its clusters, the listener's settings
///
/// The gate's variables come from a Secret where the proxy's pods run. EnvoyPatchPolicy must be switched on: it alone has the
/// words for clusters, and for what becomes of a VM that died.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct GatewayCommand {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    objects: Objects,
    /// The namespace of the Gateway and of the objects
    #[arg(long, default_value = "default", value_parser = name)]
    namespace: String,
    /// The Gateway that the gate stands in
    #[arg(long, value_name = "NAME", default_value = "eg", value_parser = name)]
    gateway: String,
    /// A listener of it, by its name there; once for each
    #[arg(long, value_name = "NAME", default_value = "http", value_parser = name)]
    listener: Vec<String>,
}

const HELP: &str = help!(
    "  mlgate render gateway gate.yaml --url oci://registry.example/mlgate/filter:0.1.0 --sha256 \"$DIGEST\" | kubectl apply --server-side -f -
  mlgate render gateway gate.yaml --namespace ml --gateway models --listener https --cluster audit=collector.ml.svc:4480"
);

/// Renders.
pub(super) fn run(command: &GatewayCommand, format: Format) -> Result<Exit, Stop> {
    let source = command.source.place();
    let Loaded { document, tree } = command.source.load()?;
    command.objects.warn_unpinned();
    let settings = Settings {
        place: command.objects.place(&document, &command.namespace),
        gateway: command.gateway.clone(),
        listeners: command.listener.clone(),
    };
    let objects =
        gateway::objects(&document, &tree, &settings).map_err(|faults| Stop::refused(source, &faults))?;
    let Some(objects) = objects else {
        return Err(Stop::invalid(
            "--url",
            "Envoy Gateway delivers no file of the proxy's container",
            "give it `oci://IMAGE` or `https://…`",
        ));
    };
    write("gateway", &objects, format)
}
