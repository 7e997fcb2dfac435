//! What a builder collects → Envoy's bootstrap as JSON.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::artifacts;

/// Everything that the bootstrap is made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    pub(super) concurrency: u32,
    pub(super) plugins: Vec<Plugin>,
    pub(super) filters: Vec<Value>,
    pub(super) clusters: Vec<Cluster>,
    pub(super) routes: Vec<Route>,
    pub(super) virtual_hosts: Vec<VirtualHost>,
    pub(super) default_metadata: Vec<(String, Value)>,
}

/// One Wasm filter.
#[derive(Clone, Debug)]
pub struct Plugin {
    name: String,
    wasm: PathBuf,
    configuration: String,
    vm_id: String,
    vm_configuration: String,
    stop_iteration: bool,
    failure_policy: &'static str,
    environment: Vec<(String, String)>,
    host_environment: Vec<String>,
    capabilities: &'static [&'static str],
}

/// One upstream with one endpoint.
#[derive(Clone, Debug)]
pub struct Cluster {
    name: String,
    address: SocketAddr,
    http2: bool,
}

/// One route: a match, where it goes, its name and metadata.
#[derive(Clone, Debug)]
pub struct Route {
    content: Value,
}

/// A virtual host with its own names, metadata and routes.
#[derive(Clone, Debug)]
pub struct VirtualHost {
    content: Value,
}

// === impl Plugin ===

impl Plugin {
    /// `name` becomes the filter's name, its root id and, with a prefix, its `vm_id`.
    pub fn new(name: &str, wasm: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            wasm: wasm.into(),
            configuration: String::new(),
            vm_id: format!("vm.{name}"),
            vm_configuration: String::new(),
            stop_iteration: false,
            failure_policy: "FAIL_RELOAD",
            environment: Vec::new(),
            host_environment: Vec::new(),
            capabilities: &[],
        }
    }

    /// The plugin's configuration as text: for mlgate its document as JSON.
    #[must_use]
    pub fn configuration(mut self, text: impl Into<String>) -> Self {
        self.configuration = text.into();
        self
    }

    /// Sets `allow_on_headers_stop_iteration`, which `peek: hold` needs.
    #[must_use]
    pub fn stop_iteration(mut self, allowed: bool) -> Self {
        self.stop_iteration = allowed;
        self
    }

    /// The `vm_id`: shared data and VMs are apart for each.
    #[must_use]
    pub fn vm_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.vm_id);
        self
    }

    /// The VM's configuration; another text makes another VM, which also reads the environment anew.
    #[must_use]
    pub fn vm_configuration(mut self, text: &str) -> Self {
        text.clone_into(&mut self.vm_configuration);
        self
    }

    /// Sets a variable of the VM's environment.
    #[must_use]
    pub fn environment(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Lets the VM see a variable of Envoy's environment.
    #[must_use]
    pub fn host_environment(mut self, key: &str) -> Self {
        self.host_environment.push(key.to_owned());
        self
    }

    /// `FAIL_RELOAD` (default) or `FAIL_CLOSED`, under which a dead VM is never replaced and so cannot hide.
    #[must_use]
    pub fn failure_policy(mut self, policy: &'static str) -> Self {
        self.failure_policy = policy;
        self
    }

    /// All that the VM may ask and be asked; absent means anything.
    #[must_use]
    pub fn capabilities(mut self, allowed: &'static [&'static str]) -> Self {
        self.capabilities = allowed;
        self
    }

    fn filter(&self) -> Value {
        let variables: Map<String, Value> =
            self.environment.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        let mut config = json!({
            "name": self.name,
            "root_id": self.name,
            "failure_policy": self.failure_policy,
            "configuration": string_value(&self.configuration),
            "vm_config": {
                "vm_id": self.vm_id,
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": self.wasm}},
                "configuration": string_value(&self.vm_configuration),
                "environment_variables": {"host_env_keys": self.host_environment, "key_values": variables},
            },
        });
        if !self.capabilities.is_empty() {
            let allowed: Map<String, Value> =
                self.capabilities.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
            if let Some(vm) = config.get_mut("vm_config") {
                put(vm, RESTRICTION, json!({"allowed_capabilities": allowed}));
            }
        }
        if self.stop_iteration {
            put(&mut config, "allow_on_headers_stop_iteration", json!(true));
        }
        json!({
            "name": self.name,
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                "config": config,
            },
        })
    }
}

// === impl Cluster ===

impl Cluster {
    /// An upstream that is spoken to in HTTP/1.1.
    pub fn http1(name: &str, address: SocketAddr) -> Self {
        Self { name: name.to_owned(), address, http2: false }
    }

    /// An upstream that is spoken to in HTTP/2 without TLS (gRPC).
    pub fn http2(name: &str, address: SocketAddr) -> Self {
        Self { http2: true, ..Self::http1(name, address) }
    }

    fn content(&self) -> Value {
        let mut cluster = json!({
            "name": self.name,
            "type": "STATIC",
            "connect_timeout": "2s",
            // The default of 1024 would be the thing under test whenever many requests wait.
            "circuit_breakers": {"thresholds": [{
                "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000,
            }]},
            "load_assignment": {"cluster_name": self.name, "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": socket(&self.address.ip().to_string(), self.address.port())}},
            ]}]},
        });
        if self.http2 {
            put(
                &mut cluster,
                "typed_extension_protocol_options",
                json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                }}),
            );
        }
        cluster
    }
}

// === impl Route ===

impl Route {
    /// Every path that starts with `prefix` goes to `cluster`.
    pub fn prefix(prefix: &str, cluster: &str) -> Self {
        Self::to_cluster(&json!({"prefix": prefix}), cluster)
    }

    /// Exactly `path` goes to `cluster`.
    pub fn path(path: &str, cluster: &str) -> Self {
        Self::to_cluster(&json!({"path": path}), cluster)
    }

    /// Envoy itself answers every path that starts with `prefix`.
    pub fn direct(prefix: &str, status: u16, body: &str) -> Self {
        let response = json!({"status": status, "body": {"inline_string": body}});
        Self { content: json!({"match": {"prefix": prefix}, "direct_response": response}) }
    }

    /// The route's name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        put(&mut self.content, "name", json!(name));
        self
    }

    /// Requires a header with exactly this value.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let matcher = json!({"name": name, "string_match": {"exact": value}});
        if let Some(rule) = self.content.get_mut("match") {
            put(rule, "headers", json!([matcher]));
        }
        self
    }

    /// Metadata of the route under `namespace`: `("mlgate", json!({"profile": "partner"}))`.
    #[must_use]
    pub fn metadata(mut self, namespace: &str, content: Value) -> Self {
        add_metadata(&mut self.content, namespace, content);
        self
    }

    /// Sets any other field of the route (`typed_per_filter_config`, `request_headers_to_add`, …).
    #[must_use]
    pub fn field(mut self, name: &str, value: Value) -> Self {
        put(&mut self.content, name, value);
        self
    }

    fn to_cluster(rule: &Value, cluster: &str) -> Self {
        // "0s" is no limit: streams of events last as long as they last.
        Self { content: json!({"match": rule, "route": {"cluster": cluster, "timeout": "0s"}}) }
    }
}

// === impl VirtualHost ===

impl VirtualHost {
    /// A host called `name` for the given domains (`api.example`, `*.example`).
    pub fn new(name: &str, domains: &[&str]) -> Self {
        Self { content: json!({"name": name, "domains": domains, "routes": []}) }
    }

    /// Adds a route.
    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        if let Some(Value::Array(routes)) = self.content.get_mut("routes") {
            routes.push(route.content);
        }
        self
    }

    /// Metadata of the virtual host under `namespace`.
    #[must_use]
    pub fn metadata(mut self, namespace: &str, content: Value) -> Self {
        add_metadata(&mut self.content, namespace, content);
        self
    }
}

// === impl Parts ===

impl Parts {
    /// The whole bootstrap. Ports are 0: Envoy says afterwards which ones it got.
    pub(super) fn bootstrap(&self) -> Value {
        let clusters: Vec<Value> = self.clusters.iter().map(Cluster::content).collect();
        let listeners = if self.has_no_listener() { json!([]) } else { json!([self.listener()]) };
        json!({
            "node": {"id": "mlgate", "cluster": "mlgate"},
            "admin": {"address": socket(LOOPBACK, 0)},
            "static_resources": {"listeners": listeners, "clusters": clusters},
        })
    }

    pub(super) fn has_no_listener(&self) -> bool {
        self.routes.is_empty() && self.virtual_hosts.is_empty()
    }

    fn listener(&self) -> Value {
        let mut filters: Vec<Value> = self.plugins.iter().map(Plugin::filter).collect();
        filters.extend(self.filters.iter().cloned());
        filters.push(json!({
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }));
        let mut hosts: Vec<Value> = self.virtual_hosts.iter().map(|host| host.content.clone()).collect();
        let mut default = VirtualHost::new("default", &["*"]);
        for (namespace, content) in &self.default_metadata {
            default = default.metadata(namespace, content.clone());
        }
        hosts.push(self.routes.iter().cloned().fold(default, VirtualHost::route).content);
        json!({
            "name": "ingress",
            "address": socket(LOOPBACK, 0),
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": HTTP_CONNECTION_MANAGER,
                    "stat_prefix": "ingress",
                    "codec_type": "AUTO",
                    // At an edge, as every gate must run: without it a caller writes its own source address.
                    "use_remote_address": true,
                    "stream_idle_timeout": "30s",
                    "http_filters": filters,
                    "route_config": {"name": "routes", "virtual_hosts": hosts},
                },
            }]}],
        })
    }
}

const HTTP_CONNECTION_MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const RESTRICTION: &str = "capability_restriction_config";
const LOOPBACK: &str = "127.0.0.1";

/// The capability lists where the Envoy under test looks for them: before 1.40 beside the VM's configuration, not in it.
pub fn for_this_envoy(document: &mut Value) -> anyhow::Result<()> {
    if artifacts::envoy_minor()? < 40 {
        lists_beside(document);
    }
    Ok(())
}

fn lists_beside(value: &mut Value) {
    match value {
        Value::Object(members) => {
            let vm = members.get_mut("vm_config").and_then(Value::as_object_mut);
            if let Some(list) = vm.and_then(|vm| vm.remove(RESTRICTION)) {
                members.insert(RESTRICTION.to_owned(), list);
            }
            members.values_mut().for_each(lists_beside);
        }
        Value::Array(items) => items.iter_mut().for_each(lists_beside),
        _ => {}
    }
}

/// Takes the listeners out of the bootstrap, leaves the watched file's name there, and gives the file's content.
pub(super) fn move_listeners_to_file(bootstrap: &mut Value, file: &Path) -> Value {
    let listeners = bootstrap.pointer_mut("/static_resources/listeners").map(Value::take);
    let mut resources = Vec::new();
    if let Some(Value::Array(listeners)) = listeners {
        for mut listener in listeners {
            put(&mut listener, "@type", json!("type.googleapis.com/envoy.config.listener.v3.Listener"));
            resources.push(listener);
        }
    }
    if let Some(part) = bootstrap.get_mut("static_resources") {
        put(part, "listeners", json!([]));
    }
    put(bootstrap, "dynamic_resources", json!({"lds_config": {"path_config_source": {"path": file}}}));
    json!({"resources": resources})
}

fn socket(host: &str, port: u16) -> Value {
    json!({"socket_address": {"address": host, "port_value": port}})
}

fn string_value(text: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text})
}

fn add_metadata(holder: &mut Value, namespace: &str, content: Value) {
    if let Value::Object(fields) = holder {
        let metadata = fields.entry("metadata").or_insert_with(|| json!({"filter_metadata": {}}));
        if let Some(spaces) = metadata.get_mut("filter_metadata") {
            put(spaces, namespace, content);
        }
    }
}

fn put(holder: &mut Value, name: &str, value: Value) {
    if let Value::Object(fields) = holder {
        fields.insert(name.to_owned(), value);
    }
}
