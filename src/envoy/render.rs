//! A configuration becomes an Envoy bootstrap: `envoy/envoy.yaml` with this document, its clusters, its variables and a
//! route for each that it gives a profile. `check --envoy` finds nothing in it.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::config::document::Document;
use crate::config::faults::Faults;
use crate::config::findings;
use crate::config::tree::{Node, Tree};
use crate::envoy::clusters::{NamedCluster, Protocol, Trust, named};
use crate::envoy::node::{list, object, set, text, truth, whole};
use crate::envoy::yaml;
use crate::identity::spec::{PeerValidation, SourceTrust};
use crate::resource::spec::PeekSpec;

mod routes;

/// What a configuration does not say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where callers connect.
    pub listen: Address,
    /// Where the admin interface answers.
    pub admin: Address,
    /// The model server.
    pub upstream: Address,
    /// The filter's file.
    pub filter: String,
    /// Where the clusters are that the configuration names; the others get a place on loopback.
    pub clusters: Vec<(String, Address)>,
    /// Files of the listener's TLS; used where certificates are credentials.
    pub tls: TlsFiles,
}

/// Files in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The listener's certificate.
    pub certificate: String,
    /// Its key.
    pub private_key: String,
    /// Who signs for callers.
    pub client_ca: String,
    /// Who signs for servers whose answers decide who gets in.
    pub server_ca: String,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

/// An [`Address`] that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidAddress;

/// Our own bootstrap, in which every setting says why it is there.
const BOOTSTRAP: &str = include_str!("../../envoy/envoy.yaml");
pub(super) const LISTENER: &str = "/static_resources/listeners/0";
const CHAIN: &str = "/static_resources/listeners/0/filter_chains/0";
pub(super) const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
pub(super) const PLUGIN: &str =
    "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config";
/// What Envoy's windows cannot be larger than, in bytes (RFC 9113 §6.9.1).
const MAX_WINDOW: u64 = (1 << 31) - 1;

/// Writes the bootstrap of a configuration that loads.
///
/// # Errors
/// Where our own bootstrap has another shape than this module expects, which a test would have found.
pub fn bootstrap(document: &Document, configuration: &Tree, settings: &Settings) -> Result<String, Faults> {
    Ok(yaml::write(&whole_bootstrap(document, configuration, settings)?))
}

/// The same before it is written.
pub(super) fn whole_bootstrap(
    document: &Document,
    configuration: &Tree,
    settings: &Settings,
) -> Result<Node, Faults> {
    let tree = Tree::of_proxy(BOOTSTRAP.as_bytes(), crate::config::Format::Yaml)?;
    let mut root = tree.root().clone();
    fill(&mut root, document, configuration, settings).ok_or_else(other_shape)?;
    Ok(root)
}

/// Our own bootstrap lacks a place that this module knows.
pub(super) fn other_shape() -> Faults {
    let mut faults = Faults::default();
    faults.at("", "the built-in bootstrap has another shape", "report this as an error of mlgate");
    faults
}

fn fill(root: &mut Node, document: &Document, configuration: &Tree, settings: &Settings) -> Option<()> {
    set(root, "/admin", "address", socket(&settings.admin))?;
    set(root, LISTENER, "address", socket(&settings.listen))?;
    held(root, document.bounds.body_held.0)?;
    if document.authentication.source.trust == SourceTrust::Xff {
        set(root, MANAGER, "xff_num_trusted_hops", whole(1))?;
    }
    if let Some(mtls) = &document.authentication.mtls {
        set(root, CHAIN, "transport_socket", listener_tls(&settings.tls, mtls.peer_validation))?;
        if !mtls.trusted_hops.is_empty() {
            set(root, MANAGER, "forward_client_cert_details", text("FORWARD_ONLY"))?;
        }
    }

    set(root, &format!("{PLUGIN}/configuration"), "value", configuration.root().clone())?;
    if document.resources.body.peek == PeekSpec::Hold {
        set(root, PLUGIN, "allow_on_headers_stop_iteration", truth(true))?;
    }
    set(root, &format!("{PLUGIN}/vm_config"), "vm_id", text(&format!("mlgate-{}", document.name)))?;
    set(root, &format!("{PLUGIN}/vm_config/code/local"), "filename", text(&settings.filter))?;
    let keys = list(variables(document).into_iter().map(text));
    set(root, &format!("{PLUGIN}/vm_config/environment_variables"), "host_env_keys", keys)?;

    let wanted = named(document);
    let taken = |name: &str| wanted.iter().any(|cluster| cluster.name == name);
    let upstream = if taken("model") { "model-server" } else { "model" };
    set(root, &format!("{MANAGER}/route_config"), "virtual_hosts", routes::hosts(document, upstream))?;
    let mut seen = BTreeSet::new();
    let others = wanted.iter().filter(|cluster| seen.insert(cluster.name)).map(|one| service(one, settings));
    let clusters = list([cluster(upstream, &settings.upstream, Vec::new())].into_iter().chain(others));
    set(root, "/static_resources", "clusters", clusters)
}

/// Variables that the VM needs, each once.
pub(super) fn variables(document: &Document) -> Vec<&str> {
    let mut variables: Vec<&str> = findings::variables(document).into_iter().map(|(_, name)| name).collect();
    let mut seen = BTreeSet::new();
    variables.retain(|name| seen.insert(*name));
    variables
}

/// A body that is held must fit into what Envoy holds.
fn held(root: &mut Node, bytes: u64) -> Option<()> {
    const DEFAULT: u64 = 1 << 20;
    if bytes > DEFAULT {
        let size = |bytes: u64| whole(i64::try_from(bytes.min(MAX_WINDOW)).unwrap_or(i64::MAX));
        set(root, LISTENER, "per_connection_buffer_limit_bytes", size(bytes))?;
        let http2 = format!("{MANAGER}/http2_protocol_options");
        set(root, &http2, "initial_stream_window_size", size(bytes))?;
        set(root, &http2, "initial_connection_window_size", size(bytes.saturating_mul(4)))?;
    }
    Some(())
}

fn listener_tls(files: &TlsFiles, validation: PeerValidation) -> Node {
    let certificate = object([
        ("certificate_chain", filename(&files.certificate)),
        ("private_key", filename(&files.private_key)),
    ]);
    let context = object([("trusted_ca", filename(&files.client_ca))]);
    let common = object([("tls_certificates", list([certificate])), ("validation_context", context)]);
    let demands = match validation {
        // on a resumed session Envoy does not say again whether the certificate was valid
        PeerValidation::Attribute => {
            vec!["disable_stateless_session_resumption", "disable_stateful_session_resumption"]
        }
        PeerValidation::Listener => vec!["require_client_certificate"],
    };
    let demands = demands.into_iter().map(|name| (name, truth(true)));
    tls("DownstreamTlsContext", demands.chain([("common_tls_context", common)]).collect())
}

fn tls(message: &str, fields: Vec<(&str, Node)>) -> Node {
    let kind = format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{message}");
    let typed = object([("@type", text(&kind))].into_iter().chain(fields));
    object([("name", text("envoy.transport_sockets.tls")), ("typed_config", typed)])
}

/// A cluster that the configuration names.
fn service(wanted: &NamedCluster<'_>, settings: &Settings) -> Node {
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let given =
        settings.clusters.iter().find(|(name, _)| name == wanted.name).map(|(_, address)| address.clone());
    let address = given.unwrap_or_else(|| Address::new("127.0.0.1", usual_port(wanted)));
    let mut more = Vec::new();
    if wanted.protocol == Protocol::Grpc {
        let kind = text(&format!("type.googleapis.com/{OPTIONS}"));
        let http2 = object([("http2_protocol_options", object([]))]);
        let options = object([("@type", kind), ("explicit_http_config", http2)]);
        more.push(("typed_extension_protocol_options", object([(OPTIONS, options)])));
    }
    if wanted.trust == Trust::Access {
        let name = object([("san_type", text("DNS")), ("matcher", object([("exact", text(&address.host))]))]);
        let context = object([
            ("trusted_ca", filename(&settings.tls.server_ca)),
            ("match_typed_subject_alt_names", list([name])),
        ]);
        let common = object([("validation_context", context)]);
        let fields = vec![("sni", text(&address.host)), ("common_tls_context", common)];
        more.push(("transport_socket", tls("UpstreamTlsContext", fields)));
    }
    cluster(wanted.name, &address, more)
}

/// Where such a service usually listens.
pub(super) const fn usual_port(wanted: &NamedCluster<'_>) -> u16 {
    match (wanted.protocol, wanted.trust) {
        (Protocol::Grpc, _) => 8081,
        (Protocol::Http, Trust::Service) => 4480,
        (Protocol::Http, Trust::Access) => 443,
    }
}

fn cluster(name: &str, address: &Address, more: Vec<(&str, Node)>) -> Node {
    let endpoint = object([("endpoint", object([("address", socket(address))]))]);
    let endpoints = list([object([("lb_endpoints", list([endpoint]))])]);
    let assignment = object([("cluster_name", text(name)), ("endpoints", endpoints)]);
    let fields = [("name", text(name)), ("type", text("STRICT_DNS")), ("connect_timeout", text("2s"))];
    object(fields.into_iter().chain(more).chain([("load_assignment", assignment)]))
}

fn socket(address: &Address) -> Node {
    let fields = object([("address", text(&address.host)), ("port_value", whole(address.port.into()))]);
    object([("socket_address", fields)])
}

fn filename(path: &str) -> Node {
    object([("filename", text(path))])
}

// === impl Address ===

impl Address {
    /// A host, without brackets around IPv6, and a port.
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let (host, port) = text.rsplit_once(':').ok_or(InvalidAddress)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
            None if !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) =>
            {
                host
            }
            _ => return Err(InvalidAddress),
        };
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| InvalidAddress)? })
    }
}

impl std::fmt::Display for InvalidAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not `HOST:PORT`")
    }
}

impl std::error::Error for InvalidAddress {}
