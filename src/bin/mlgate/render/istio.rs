//! `mlgate render istio`: Istio's objects around a configuration.

use clap::{Args, ValueEnum};
use mlgate::envoy::manifests::istio::{self, Attach, Filter, Phase, RouteProfile, Settings};
use mlgate::resource::spec::PeekSpec;

use super::manifests::{Objects, name, write};
use super::{Loaded, Source};
use crate::{Exit, Format, Stop};

/// Print Istio's objects for a configuration: the filter, its clusters, the listener's settings, labels of metrics
///
/// The gate belongs at a gateway. Its variables come from a Secret: `--environment` prints the patch of the Deployment that
/// runs the gateway. A configuration with `peek: hold` gets an `EnvoyFilter`, which alone has the word for it.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct IstioCommand {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    objects: Objects,
    /// The namespace of the objects, which is the gateway's
    #[arg(long, default_value = "istio-system", value_parser = name)]
    namespace: String,
    /// A label of the pods that run the gate; once for each
    #[arg(long, value_name = "KEY=VALUE", default_value = "istio=ingressgateway", value_parser = label)]
    selector: Vec<(String, String)>,
    /// What these pods are
    #[arg(long, value_enum, default_value_t = AttachTo::Gateway)]
    attach: AttachTo,
    /// How the filter is said; absent: as a WasmPlugin, which every Istio takes
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Where it stands among Istio's own filters; an EnvoyFilter stands first
    #[arg(long, value_enum, default_value_t = PhaseName::Authn)]
    phase: PhaseName,
    /// A route that names its profile itself, as Istio calls it; once for each
    #[arg(long, value_name = "HOST:PORT/ROUTE=PROFILE", value_parser = profile)]
    profile: Vec<RouteProfile>,
    /// Print the other half of the variables instead: a patch of the pods' Deployment
    #[arg(long)]
    environment: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AttachTo {
    Gateway,
    Sidecar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    WasmPlugin,
    /// Istio 1.30 and later
    TrafficExtension,
    /// With a `vm_id` of its own and a list of what the filter may ask
    EnvoyFilter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PhaseName {
    /// Before Istio looks at credentials
    Authn,
    /// Behind it
    Authz,
}

const HELP: &str = help!(
    "  mlgate render istio gate.yaml --url oci://registry.example/mlgate/filter:0.1.0 --sha256 \"$DIGEST\" | kubectl apply --server-side -f -
  mlgate render istio gate.yaml --environment | kubectl -n istio-system patch deployment istio-ingressgateway --patch-file /dev/stdin
  mlgate render istio gate.yaml --kind traffic-extension --profile models.example:443/health=public"
);

/// Renders.
pub(super) fn run(command: &IstioCommand, format: Format) -> Result<Exit, Stop> {
    let source = command.source.place();
    let Loaded { document, tree } = command.source.load()?;
    let place = command.objects.place(&document, &command.namespace);
    if command.environment {
        return write("istio --environment", &[istio::environment(&document, &place)], format);
    }
    command.objects.warn_unpinned();
    let hold = document.resources.body.peek == PeekSpec::Hold;
    let filter = match command.kind {
        Some(Kind::EnvoyFilter) => Filter::EnvoyFilter,
        None if hold => Filter::EnvoyFilter,
        Some(Kind::WasmPlugin | Kind::TrafficExtension) if hold => {
            return Err(Stop::invalid(
                source,
                "`peek: hold` needs a word that only an EnvoyFilter has",
                "leave `--kind` out, or write `peek: stream`",
            ));
        }
        Some(Kind::TrafficExtension) => Filter::TrafficExtension,
        Some(Kind::WasmPlugin) | None => Filter::WasmPlugin,
    };
    if filter == Filter::EnvoyFilter && place.module.pull_secret.is_some() {
        return Err(Stop::invalid(
            "--pull-secret",
            "an EnvoyFilter cannot name one",
            "put the file into the proxy's container and name it with `--url file:///…`",
        ));
    }
    let known = |name: &str| {
        name == "default" || document.profiles.as_ref().is_some_and(|profiles| profiles.contains_key(name))
    };
    if let Some(unknown) = command.profile.iter().find(|one| !known(&one.profile)) {
        let what = format!("no profile is called `{}`", unknown.profile);
        return Err(Stop::invalid(source, what, "correct `--profile`, or add the profile"));
    }
    let settings = Settings {
        place,
        selector: command.selector.clone(),
        attach: match command.attach {
            AttachTo::Gateway => Attach::Gateway,
            AttachTo::Sidecar => Attach::Sidecar,
        },
        filter,
        phase: match command.phase {
            PhaseName::Authn => Phase::Authn,
            PhaseName::Authz => Phase::Authz,
        },
        profiles: command.profile.clone(),
    };
    let objects =
        istio::objects(&document, &tree, &settings).map_err(|faults| Stop::refused(source, &faults))?;
    write("istio", &objects, format)
}

fn label(text: &str) -> Result<(String, String), String> {
    let part = |text: &str| {
        !text.is_empty()
            && text.len() <= 253
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte))
    };
    match text.split_once('=') {
        Some((key, value)) if part(key) && part(value) => Ok((key.to_owned(), value.to_owned())),
        _ => Err(String::from("not `KEY=VALUE`")),
    }
}

fn profile(text: &str) -> Result<RouteProfile, String> {
    let parts = text.rsplit_once('=').and_then(|(place, profile)| Some((place.split_once('/')?, profile)));
    match parts {
        Some(((host, route), profile)) if !host.is_empty() && !route.is_empty() && !profile.is_empty() => {
            Ok(RouteProfile {
                virtual_host: host.to_owned(),
                route: route.to_owned(),
                profile: profile.to_owned(),
            })
        }
        _ => Err(String::from("not `HOST:PORT/ROUTE=PROFILE`")),
    }
}
