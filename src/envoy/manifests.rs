//! A configuration becomes objects of Kubernetes around it: [`istio`] and [`gateway`] (Envoy Gateway).
//!
//! What they say of Envoy is taken out of the bootstrap that [`render`] writes, so that each setting is
//! decided, and explained, in one place.

use std::str::FromStr;

use serde_json::{Value as Json, json};

use crate::config::document::Document;
use crate::config::faults::Faults;
use crate::config::tree::{Kind, Node, Tree};
use crate::envoy::clusters::named;
use crate::envoy::node::{at, list, object, set, take, text};
use crate::envoy::render::{self, Address, LISTENER, MANAGER, Settings, TlsFiles, other_shape};
use crate::envoy::yaml;

pub mod gateway;
pub mod istio;

#[cfg(test)]
mod tests;

/// One object, and what its reader must know.
#[derive(Clone, Debug)]
pub struct Manifest {
    note: String,
    root: Node,
}

/// Where the filter is fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The image or file.
    pub url: ModuleUrl,
    /// Of the image or file; without it whoever serves the module decides what runs.
    pub sha256: Option<Checksum>,
    /// The Secret that opens the image's registry, in the object's namespace.
    pub pull_secret: Option<String>,
}

/// A place of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModuleUrl {
    /// A file in the proxy's container.
    File(String),
    /// A file on a web server, with its scheme.
    Http(String),
    /// An image, without a scheme.
    Image(String),
}

/// A SHA-256 in 64 of `0-9a-f`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum(String);

/// A text that is not what an object takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidValue(&'static str);

/// What both kinds of objects need beside the configuration.
#[derive(Clone, Debug)]
pub struct Place {
    /// Of the objects.
    pub name: String,
    /// Theirs, which is the proxy's.
    pub namespace: String,
    /// The Secret that holds the gate's variables.
    pub secret: String,
    /// The filter.
    pub module: Module,
    /// Where the clusters are that the configuration names; the others are Services of the namespace.
    pub clusters: Vec<(String, Address)>,
    /// Who signs for servers whose answers decide who gets in: a file in the proxy's container.
    pub server_ca: String,
}

/// The largest object that etcd takes by default, in bytes (`--max-request-bytes`, 1.5 MiB).
pub const MAX_OBJECT: usize = 1_572_864;

/// The largest object of which `kubectl apply` can keep its copy in an annotation, in bytes.
pub const MAX_ANNOTATION: usize = 262_144;

/// The type of the filter's configuration.
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";

/// Settings of the connection manager that a gate needs where callers are strangers.
const AT_THE_EDGE: [&str; 10] = [
    "use_remote_address",
    "normalize_path",
    "merge_slashes",
    "path_with_escaped_slashes_action",
    "common_http_protocol_options",
    "http2_protocol_options",
    "max_request_headers_kb",
    "request_headers_timeout",
    "request_timeout",
    "stream_idle_timeout",
];

/// All objects as one YAML document after the other.
pub fn yaml(manifests: &[Manifest]) -> String {
    let mut whole = String::new();
    for (index, manifest) in manifests.iter().enumerate() {
        if index > 0 {
            whole.push_str("---\n");
        }
        for line in manifest.note.lines() {
            whole.push_str(&format!("# {line}\n"));
        }
        whole.push_str(&yaml::write(&manifest.root));
    }
    whole
}

/// All objects as one `List`.
pub fn json(manifests: &[Manifest]) -> Json {
    let items: Vec<Json> = manifests.iter().map(|manifest| manifest.root.to_json()).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

// === impl Manifest ===

impl Manifest {
    /// `metadata` may hold more than a name and a namespace; `body` is `spec` and what stands beside it.
    fn new(api: &str, kind: &str, metadata: Node, body: Vec<(&str, Node)>, note: &str) -> Self {
        let head = [("apiVersion", text(api)), ("kind", text(kind)), ("metadata", metadata)];
        Self { note: note.to_owned(), root: object(head.into_iter().chain(body)) }
    }

    /// What it is called: its kind and name.
    pub fn title(&self) -> String {
        let part = |pointer| match at(&self.root, pointer).map(|node| &node.kind) {
            Some(Kind::Text(text)) => text.as_str(),
            _ => "",
        };
        format!("{} `{}`", part("/kind"), part("/metadata/name"))
    }

    /// Its size as Kubernetes keeps it, in bytes.
    pub fn bytes(&self) -> usize {
        self.root.to_json().to_string().len()
    }
}

// === impl Place ===

impl Place {
    fn metadata(&self, suffix: &str) -> Node {
        let name = format!("{}{suffix}", self.name);
        object([("name", text(&name)), ("namespace", text(&self.namespace))])
    }

    /// The variables of the gate as a container takes them: from the Secret, by their own names. A Secret that lacks one
    /// keeps the container from starting, which is better than a gate that refuses its configuration.
    fn variables(&self, document: &Document) -> Node {
        list(render::variables(document).into_iter().map(|name| {
            let key = object([("name", text(&self.secret)), ("key", text(name))]);
            object([("name", text(name)), ("valueFrom", object([("secretKeyRef", key)]))])
        }))
    }
}

// === parts of the bootstrap ===

/// The bootstrap of the configuration, to take parts out of.
struct Parts(Node);

// === impl Parts ===

impl Parts {
    fn of(document: &Document, configuration: &Tree, place: &Place) -> Result<Self, Faults> {
        let service = |name: &str| {
            let label: String = name
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
                .collect();
            format!("{label}.{}.svc.cluster.local", place.namespace)
        };
        let mut clusters = place.clusters.clone();
        for wanted in named(document) {
            if clusters.iter().all(|(name, _)| name != wanted.name) {
                let address = Address::new(&service(wanted.name), render::usual_port(&wanted));
                clusters.push((wanted.name.to_owned(), address));
            }
        }
        let nowhere = || Address::new("127.0.0.1", 0);
        let settings = Settings {
            listen: nowhere(),
            admin: nowhere(),
            upstream: nowhere(),
            filter: String::new(),
            clusters,
            tls: TlsFiles {
                certificate: String::new(),
                private_key: String::new(),
                client_ca: String::new(),
                server_ca: place.server_ca.clone(),
            },
        };
        let mut whole = render::whole_bootstrap(document, configuration, &settings)?;
        Self::for_older(&mut whole).ok_or_else(other_shape)?;
        Ok(Self(whole))
    }

    /// The list of capabilities stands where Envoy before 1.40 looks for it; later ones look there too.
    fn for_older(whole: &mut Node) -> Option<()> {
        const LIST: &str = "capability_restriction_config";
        let allowed = take(whole, &format!("{}/vm_config", render::PLUGIN), LIST)?;
        set(whole, render::PLUGIN, LIST, allowed)
    }

    fn part(&self, pointer: &str) -> Result<Node, Faults> {
        at(&self.0, pointer).cloned().ok_or_else(other_shape)
    }

    /// What the configuration names, each by its name and without what a mesh already has: names that Istio makes of its
    /// own services (`outbound|…`).
    fn clusters(&self) -> Result<Vec<(String, Node)>, Faults> {
        let Kind::List(all) = self.part("/static_resources/clusters")?.kind else {
            return Err(other_shape());
        };
        let named = all.into_iter().skip(1).filter_map(|cluster| match &at(&cluster, "/name")?.kind {
            Kind::Text(name) if !name.starts_with("outbound|") => Some((name.clone(), cluster)),
            _ => None,
        });
        Ok(named.collect())
    }

    /// These settings of the connection manager.
    fn manager<'a>(&self, names: &[&'a str]) -> Result<Vec<(&'a str, Node)>, Faults> {
        names.iter().map(|name| Ok((*name, self.part(&format!("{MANAGER}/{name}"))?))).collect()
    }

    /// How much of a body one connection may hold, in bytes.
    fn buffer(&self) -> Result<Node, Faults> {
        self.part(&format!("{LISTENER}/per_connection_buffer_limit_bytes"))
    }

    /// The plugin of the filter: its policy after a fault, its list of capabilities, its VM.
    fn plugin(&self) -> Result<Node, Faults> {
        self.part(render::PLUGIN)
    }

    /// How metrics get their labels and buckets.
    fn metrics(&self) -> Result<Node, Faults> {
        Ok(object([("stats_config", self.part("/stats_config")?)]))
    }
}

// === impl ModuleUrl ===

impl FromStr for ModuleUrl {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let whole = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic());
        match text.split_once("://") {
            Some(("file", path)) if whole(path) && path.starts_with('/') => Ok(Self::File(path.to_owned())),
            Some(("http" | "https", rest)) if whole(rest) => Ok(Self::Http(text.to_owned())),
            Some(("oci", image)) if whole(image) => Ok(Self::Image(image.to_owned())),
            _ => Err(InvalidValue("not `oci://IMAGE`, `https://…` or `file:///PATH`")),
        }
    }
}

// === impl Checksum ===

impl FromStr for Checksum {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let digits = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if digits { Ok(Self(text.to_owned())) } else { Err(InvalidValue("not 64 of `0-9a-f`")) }
    }
}

// === impl InvalidValue ===

impl std::fmt::Display for InvalidValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidValue {}
