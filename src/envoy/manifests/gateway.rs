//! A configuration becomes Envoy Gateway's objects: the proxy with its variables, the filter, its clusters, what the filter's
//! own API has no word for, and the listener's settings.

use crate::config::document::Document;
use crate::config::faults::Faults;
use crate::config::tree::{Node, Tree};
use crate::envoy::manifests::{Manifest, ModuleUrl, Parts, Place};
use crate::envoy::node::{at, list, object, text, truth, whole};
use crate::envoy::render::{self, other_shape};
use crate::envoy::yaml;
use crate::identity::spec::SourceTrust;

/// What a configuration does not say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names and the module.
    pub place: Place,
    /// The Gateway that it stands in front of.
    pub gateway: String,
    /// Its listeners, as it names them.
    pub listeners: Vec<String>,
}

const API: &str = "gateway.envoyproxy.io/v1alpha1";
/// Words of Envoy, and what this API calls them.
const WINDOWS: [(&str, &str); 3] = [
    ("max_concurrent_streams", "maxConcurrentStreams"),
    ("initial_stream_window_size", "initialStreamWindowSize"),
    ("initial_connection_window_size", "initialConnectionWindowSize"),
];
const TYPES: &str = "type.googleapis.com/envoy.config";

/// The objects, in the order in which they are to be read; `None` where the module is a file, which Envoy Gateway does not
/// deliver.
///
/// # Errors
/// Where our own bootstrap has another shape than expected, which a test would have found.
pub fn objects(
    document: &Document,
    configuration: &Tree,
    settings: &Settings,
) -> Result<Option<Vec<Manifest>>, Faults> {
    let parts = Parts::of(document, configuration, &settings.place)?;
    let Some(code) = settings.code() else { return Ok(None) };
    let mut objects =
        vec![settings.proxy(document, &parts)?, settings.extension(document, configuration, code)];
    objects.extend(settings.clusters(&parts)?);
    objects.push(settings.filter(&parts)?);
    objects.push(settings.client(document, &parts)?);
    Ok(Some(objects))
}

// === impl Settings ===

impl Settings {
    /// The proxy: variables from a Secret, and labels of metrics in its bootstrap.
    fn proxy(&self, document: &Document, parts: &Parts) -> Result<Manifest, Faults> {
        let container = object([("env", self.place.variables(document))]);
        let deployment = object([("container", container)]);
        let kubernetes = object([("envoyDeployment", deployment)]);
        let provider = object([("type", text("Kubernetes")), ("kubernetes", kubernetes)]);
        let bootstrap = object([("type", text("Merge")), ("value", text(&yaml::write(&parts.metrics()?)))]);
        let spec = object([("provider", provider), ("bootstrap", bootstrap)]);
        let note = format!(
            "The proxy: the gate's variables, from a Secret where its pods run, and labels of the gate's metrics. The Gateway names \
             it:\n  infrastructure: {{ parametersRef: {{ group: gateway.envoyproxy.io, kind: EnvoyProxy, name: {} }} }}",
            self.place.name
        );
        Ok(Manifest::new(API, "EnvoyProxy", self.place.metadata(""), vec![("spec", spec)], &note))
    }

    fn extension(&self, document: &Document, configuration: &Tree, code: Node) -> Manifest {
        let keys = list(render::variables(document).into_iter().map(text));
        let wasm = object([
            ("name", text("mlgate")),
            ("rootID", text("mlgate")),
            ("code", code),
            ("failOpen", truth(false)),
            ("env", object([("hostKeys", keys)])),
            ("config", configuration.root().clone()),
        ]);
        let spec = object([("targetRefs", list([self.target()])), ("wasm", list([wasm]))]);
        let note = "The gate, for all routes of the Gateway. A policy of a route's own would take its place there: the patch below \
                    keeps it on.";
        let body = vec![("spec", spec)];
        Manifest::new(API, "EnvoyExtensionPolicy", self.place.metadata(""), body, note)
    }

    fn code(&self) -> Option<Node> {
        let module = &self.place.module;
        let sha256 = || module.sha256.as_ref().map(|sum| ("sha256", text(&sum.0)));
        let secret = || {
            let reference = |name: &String| object([("kind", text("Secret")), ("name", text(name))]);
            module.pull_secret.as_ref().map(|name| ("pullSecretRef", reference(name)))
        };
        match &module.url {
            ModuleUrl::File(_) => None,
            ModuleUrl::Http(url) => {
                let http = object([("url", text(url))].into_iter().chain(sha256()));
                Some(object([("type", text("HTTP")), ("http", http)]))
            }
            ModuleUrl::Image(image) => {
                let image = object([("url", text(image))].into_iter().chain(sha256()).chain(secret()));
                Some(object([("type", text("Image")), ("image", image)]))
            }
        }
    }

    fn clusters(&self, parts: &Parts) -> Result<Option<Manifest>, Faults> {
        let patches: Vec<Node> = parts
            .clusters()?
            .into_iter()
            .map(|(name, cluster)| patch("cluster.v3.Cluster", &name, &[("path", text(""))], cluster))
            .collect();
        let note = "What the configuration names. EnvoyPatchPolicy must be switched on in EnvoyGateway:\n  extensionApis: { \
                    enableEnvoyPatchPolicy: true }";
        Ok((!patches.is_empty()).then(|| self.patches("-clusters", patches, note)))
    }

    /// What the extension's API has no word for.
    fn filter(&self, parts: &Parts) -> Result<Manifest, Faults> {
        const WORDS: [&str; 4] = [
            "failure_policy",
            "reload_config",
            "capability_restriction_config",
            "allow_on_headers_stop_iteration",
        ];
        let plugin = parts.plugin()?;
        let words = WORDS.iter().filter_map(|word| {
            Some((format!("typed_config/config/{word}"), at(&plugin, &format!("/{word}"))?.clone()))
        });
        let changes: Vec<(String, Node)> = words.chain([(String::from("disabled"), truth(false))]).collect();
        let Place { name, namespace, .. } = &self.place;
        // as Envoy Gateway calls the first extension of a policy
        let filter = format!("envoy.filters.http.wasm/envoyextensionpolicy/{namespace}/{name}/wasm/0");
        let select = format!("..http_filters[?(@.name=='{filter}')]");
        let patches = self.listeners.iter().flat_map(|listener| {
            let listener = format!("{namespace}/{}/{listener}", self.gateway);
            let one = |(path, value): &(String, Node)| {
                let at = [("jsonPath", text(&select)), ("path", text(path))];
                patch("listener.v3.Listener", &listener, &at, value.clone())
            };
            changes.iter().map(one).collect::<Vec<_>>()
        });
        let note = "What EnvoyExtensionPolicy has no word for: a VM that died is replaced instead of answering 503 for ever, the \
                    filter may\nask what is listed, and runs on every route, whatever the route says.";
        Ok(self.patches("-filter", patches.collect(), note))
    }

    fn patches(&self, suffix: &str, patches: Vec<Node>, note: &str) -> Manifest {
        let spec = object([
            ("targetRef", self.target()),
            ("type", text("JSONPatch")),
            ("jsonPatches", list(patches)),
        ]);
        Manifest::new(API, "EnvoyPatchPolicy", self.place.metadata(suffix), vec![("spec", spec)], note)
    }

    /// The settings of the listener that this API has words for.
    fn client(&self, document: &Document, parts: &Parts) -> Result<Manifest, Faults> {
        let settings = object(parts.manager(&["http2_protocol_options", "request_timeout"])?);
        let setting = |pointer: &str| at(&settings, pointer).cloned().ok_or_else(other_shape);
        let windows = WINDOWS
            .iter()
            .map(|(ours, theirs)| Ok((*theirs, setting(&format!("/http2_protocol_options/{ours}"))?)))
            .collect::<Result<Vec<_>, Faults>>()?;
        let slashes =
            object([("escapedSlashesAction", text("KeepUnchanged")), ("disableMergeSlashes", truth(false))]);
        let timeout = object([("requestReceivedTimeout", setting("/request_timeout")?)]);
        let mut fields = vec![
            ("targetRefs", list([self.target()])),
            ("path", slashes),
            ("headers", object([("withUnderscoresAction", text("DropHeader"))])),
            ("timeout", object([("http", timeout)])),
            ("connection", object([("bufferLimit", parts.buffer()?)])),
            ("http2", object(windows)),
        ];
        if document.authentication.source.trust == SourceTrust::Xff {
            let hops = object([("numTrustedHops", whole(1))]);
            fields.push(("clientIPDetection", object([("xForwardedFor", hops)])));
        }
        let note = "One reading of each path, and bounds for what callers may make Envoy hold. Without `bufferLimit` Envoy Gateway \
                    allows\n32 KiB, and a body that names its model ends there with 413.";
        let body = vec![("spec", object(fields))];
        Ok(Manifest::new(API, "ClientTrafficPolicy", self.place.metadata(""), body, note))
    }

    fn target(&self) -> Node {
        object([
            ("group", text("gateway.networking.k8s.io")),
            ("kind", text("Gateway")),
            ("name", text(&self.gateway)),
        ])
    }
}

/// One operation of RFC 6902 on what Envoy Gateway made.
fn patch(kind: &str, name: &str, at: &[(&str, Node)], value: Node) -> Node {
    let operation = [("op", text("add"))].into_iter().chain(at.iter().cloned()).chain([("value", value)]);
    object([
        ("type", text(&format!("{TYPES}.{kind}"))),
        ("name", text(name)),
        ("operation", object(operation)),
    ])
}
