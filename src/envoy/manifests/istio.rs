//! A configuration becomes Istio's objects: the filter, its clusters, the listener's settings, profiles of routes, metrics.
//!
//! The filter is a `WasmPlugin`, a `TrafficExtension` (Istio 1.30), or, where neither has a word for what the gate needs,
//! an `EnvoyFilter`.

use crate::config::document::Document;
use crate::config::faults::Faults;
use crate::config::tree::{Node, Tree};
use crate::envoy::manifests::{AT_THE_EDGE, Manifest, ModuleUrl, Parts, Place, WASM};
use crate::envoy::node::{list, object, set, text};
use crate::envoy::render::{self, other_shape};

/// What a configuration does not say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names and the module.
    pub place: Place,
    /// Labels of the pods that run the gate.
    pub selector: Vec<(String, String)>,
    /// What these pods are.
    pub attach: Attach,
    /// How the filter is said.
    pub filter: Filter,
    /// Where it stands among Istio's own; an `EnvoyFilter` puts it first.
    pub phase: Phase,
    /// Profiles that routes name themselves.
    pub profiles: Vec<RouteProfile>,
}

/// What runs the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// A gateway: where a gate belongs.
    Gateway,
    /// A sidecar of one model server.
    Sidecar,
}

/// How the filter is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// In Envoy's own words: the only way to `peek: hold`, a `vm_id` and a list of what the filter may ask.
    EnvoyFilter,
    /// Istio 1.30 and later.
    TrafficExtension,
    /// Every Istio that is alive.
    WasmPlugin,
}

/// Where the filter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before Istio looks at credentials.
    Authn,
    /// Behind it.
    Authz,
}

/// A route that says which profile applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteProfile {
    /// As Istio names it: `<host>:<port>`.
    pub virtual_host: String,
    /// `name` in a VirtualService's `http`.
    pub route: String,
    /// One of the configuration's.
    pub profile: String,
}

const MANAGER: &str = "envoy.filters.network.http_connection_manager";
const MANAGER_TYPE: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
/// What the connection manager of a sidecar is told: who called is the gateway's word there.
const IN_A_SIDECAR: [&str; 3] = ["normalize_path", "merge_slashes", "path_with_escaped_slashes_action"];

/// The objects, in the order in which they are to be read.
///
/// # Errors
/// Where our own bootstrap has another shape than expected, which a test would have found.
pub fn objects(
    document: &Document,
    configuration: &Tree,
    settings: &Settings,
) -> Result<Vec<Manifest>, Faults> {
    let parts = Parts::of(document, configuration, &settings.place)?;
    let mut objects = vec![settings.filter(document, configuration, &parts)?];
    objects.extend(settings.clusters(&parts)?);
    objects.push(settings.listener(&parts)?);
    objects.extend(settings.profiles());
    objects.push(settings.metrics(&parts)?);
    Ok(objects)
}

/// The other half of the variables: a patch of the Deployment whose pods run the gate.
pub fn environment(document: &Document, place: &Place) -> Manifest {
    let container = object([("name", text("istio-proxy")), ("env", place.variables(document))]);
    let pod = object([("spec", object([("containers", list([container]))]))]);
    let note = "The gate's variables, from a Secret, for the proxy that runs it. `vmConfig.env` hands them on to the VM.";
    // a patch has no kind and no name: kubectl says what is patched
    Manifest { note: note.to_owned(), root: object([("spec", object([("template", pod)]))]) }
}

// === impl Settings ===

impl Settings {
    fn filter(&self, document: &Document, configuration: &Tree, parts: &Parts) -> Result<Manifest, Faults> {
        const API: &str = "extensions.istio.io/v1alpha1";
        let note = match self.attach {
            Attach::Gateway => {
                "The gate, at the gateway. To Istio a gateway is a client: under `mode: SERVER` it would not be there."
            }
            Attach::Sidecar => "The gate, for what comes in: one plugin serves both directions of a sidecar.",
        };
        let metadata = self.place.metadata("");
        let selector = ("selector", object([("matchLabels", self.labels())]));
        let phase = match self.phase {
            Phase::Authn => "AUTHN",
            Phase::Authz => "AUTHZ",
        };
        let mode = match self.attach {
            Attach::Gateway => "CLIENT",
            Attach::Sidecar => "SERVER",
        };
        let wheres = [("match", list([object([("mode", text(mode))])])), ("phase", text(phase))];
        let plugin = self.plugin(document, configuration);
        Ok(match self.filter {
            Filter::EnvoyFilter => return self.whole(parts),
            Filter::TrafficExtension => {
                let wasm = ("wasm", object(plugin));
                let spec = object([selector].into_iter().chain(wheres).chain([wasm]));
                Manifest::new(API, "TrafficExtension", metadata, vec![("spec", spec)], note)
            }
            Filter::WasmPlugin => {
                let spec = object([selector].into_iter().chain(wheres).chain(plugin));
                Manifest::new(API, "WasmPlugin", metadata, vec![("spec", spec)], note)
            }
        })
    }

    /// What `WasmPlugin` and `TrafficExtension` have in common.
    fn plugin(&self, document: &Document, configuration: &Tree) -> Vec<(&'static str, Node)> {
        let module = &self.place.module;
        let url = match &module.url {
            ModuleUrl::File(path) => format!("file://{path}"),
            ModuleUrl::Http(url) => url.clone(),
            ModuleUrl::Image(image) => format!("oci://{image}"),
        };
        let variables = list(
            render::variables(document)
                .into_iter()
                .map(|name| object([("name", text(name)), ("valueFrom", text("HOST"))])),
        );
        let secret = module.pull_secret.as_deref().map(|secret| ("imagePullSecret", text(secret)));
        let sha256 = module.sha256.as_ref().map(|sum| ("sha256", text(&sum.0)));
        [("url", text(&url))]
            .into_iter()
            .chain(sha256)
            .chain(secret)
            .chain([
                ("failStrategy", text("FAIL_RELOAD")),
                ("pluginName", text("mlgate")),
                ("vmConfig", object([("env", variables)])),
                ("pluginConfig", configuration.root().clone()),
            ])
            .collect()
    }

    /// The filter in Envoy's words, delivered by Istio's agent, which fetches the module.
    fn whole(&self, parts: &Parts) -> Result<Manifest, Faults> {
        let module = &self.place.module;
        let code = match &module.url {
            ModuleUrl::File(path) => object([("local", object([("filename", text(path))]))]),
            ModuleUrl::Http(url) => remote(url, module.sha256.as_ref().map(|sum| sum.0.as_str())),
            ModuleUrl::Image(image) => {
                remote(&format!("oci://{image}"), module.sha256.as_ref().map(|sum| sum.0.as_str()))
            }
        };
        let mut plugin = parts.plugin()?;
        set(&mut plugin, "/vm_config", "code", code).ok_or_else(other_shape)?;
        // names of extensions are the mesh's, so they have the namespace
        let name = format!("{}.{}", self.place.namespace, self.place.name);
        let typed = object([("@type", text(WASM)), ("config", plugin)]);
        let extension = patch(
            "EXTENSION_CONFIG",
            object([("context", text(self.context()))]),
            "ADD",
            object([("name", text(&name)), ("typed_config", typed)]),
        );
        let source = object([
            ("ads", object([])),
            ("initial_fetch_timeout", text("0s")),
            ("resource_api_version", text("V3")),
        ]);
        let discovery = object([("config_source", source), ("type_urls", list([text(WASM)]))]);
        let place = patch(
            "HTTP_FILTER",
            self.manager(),
            "INSERT_FIRST",
            object([("name", text(&name)), ("config_discovery", discovery)]),
        );
        let note = "The gate in Envoy's own words, for what `WasmPlugin` has none: `peek: hold`, a `vm_id` of its own, how soon \
                    a VM\nis replaced, and all that the filter may ask. Until it is fetched, no request passes.";
        Ok(self.envoy_filter("", [extension, place], note))
    }

    fn clusters(&self, parts: &Parts) -> Result<Option<Manifest>, Faults> {
        let context = match self.attach {
            Attach::Gateway => "GATEWAY",
            Attach::Sidecar => "SIDECAR_OUTBOUND",
        };
        let add = |(_, cluster)| patch("CLUSTER", object([("context", text(context))]), "ADD", cluster);
        let patches: Vec<Node> = parts.clusters()?.into_iter().map(add).collect();
        let note = "What the configuration names. They speak as they are written here: in a mesh with strict mTLS name Istio's \
                    own\ncluster of the service instead, `outbound|<port>||<host>`, in the configuration.";
        Ok((!patches.is_empty()).then(|| self.envoy_filter("-clusters", patches, note)))
    }

    fn listener(&self, parts: &Parts) -> Result<Manifest, Faults> {
        let names: &[&str] = match self.attach {
            Attach::Gateway => &AT_THE_EDGE,
            Attach::Sidecar => &IN_A_SIDECAR,
        };
        let settings = [("@type", text(MANAGER_TYPE))].into_iter().chain(parts.manager(names)?);
        let manager = patch(
            "NETWORK_FILTER",
            self.manager(),
            "MERGE",
            object([("name", text(MANAGER)), ("typed_config", object(settings))]),
        );
        let buffer = patch(
            "LISTENER",
            object([("context", text(self.context()))]),
            "MERGE",
            object([("per_connection_buffer_limit_bytes", parts.buffer()?)]),
        );
        let note = "One reading of each path, and bounds for what callers may make Envoy hold: the settings of \
                    envoy/envoy.yaml, which\nsays why each is there. They hold for all that these pods serve.";
        Ok(self.envoy_filter("-listener", [manager, buffer], note))
    }

    fn profiles(&self) -> Option<Manifest> {
        let patches: Vec<Node> = self
            .profiles
            .iter()
            .map(|one| {
                let route = object([("name", text(&one.route))]);
                let host = object([("name", text(&one.virtual_host)), ("route", route)]);
                let matches = object([
                    ("context", text(self.context())),
                    ("routeConfiguration", object([("vhost", host)])),
                ]);
                let named = object([("mlgate", object([("profile", text(&one.profile))]))]);
                let metadata = object([("filter_metadata", named)]);
                patch("HTTP_ROUTE", matches, "MERGE", object([("metadata", metadata)]))
            })
            .collect();
        let note =
            "Routes that name their profile themselves, which wins over `routes` of the configuration.";
        (!patches.is_empty()).then(|| self.envoy_filter("-profiles", patches, note))
    }

    fn metrics(&self, parts: &Parts) -> Result<Manifest, Faults> {
        let value = parts.metrics()?;
        let change = object([("operation", text("MERGE")), ("value", value)]);
        let patch = object([("applyTo", text("BOOTSTRAP")), ("patch", change)]);
        let note = "Labels of the gate's metrics. A bootstrap is read once: restart the pods after this one.";
        Ok(self.envoy_filter("-metrics", [patch], note))
    }

    fn envoy_filter(&self, suffix: &str, patches: impl IntoIterator<Item = Node>, note: &str) -> Manifest {
        let selector = object([("labels", self.labels())]);
        let spec = object([("workloadSelector", selector), ("configPatches", list(patches))]);
        let metadata = self.place.metadata(suffix);
        Manifest::new("networking.istio.io/v1alpha3", "EnvoyFilter", metadata, vec![("spec", spec)], note)
    }

    fn labels(&self) -> Node {
        object(self.selector.iter().map(|(key, value)| (key.as_str(), text(value))))
    }

    /// The connection manager of what comes in.
    fn manager(&self) -> Node {
        let chain = object([("filter", object([("name", text(MANAGER))]))]);
        let listener = object([("filterChain", chain)]);
        object([("context", text(self.context())), ("listener", listener)])
    }

    const fn context(&self) -> &'static str {
        match self.attach {
            Attach::Gateway => "GATEWAY",
            Attach::Sidecar => "SIDECAR_INBOUND",
        }
    }
}

fn patch(to: &str, matches: Node, operation: &str, value: Node) -> Node {
    let change = object([("operation", text(operation)), ("value", value)]);
    object([("applyTo", text(to)), ("match", matches), ("patch", change)])
}

/// A module that the agent fetches in Envoy's place; the cluster is never asked.
fn remote(url: &str, sha256: Option<&str>) -> Node {
    let uri = object([("uri", text(url)), ("timeout", text("30s")), ("cluster", text("_"))]);
    let sha256 = sha256.map(|sum| ("sha256", text(sum)));
    object([("remote", object([("http_uri", uri)].into_iter().chain(sha256)))])
}
