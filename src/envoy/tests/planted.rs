//! The dangers, each as a change of our own bootstrap.

use serde_json::{Value as Json, json};

use crate::envoy::rule::Rule;

/// One danger. Pointers are short ones; `null` takes a field out.
pub(super) struct Planted {
    pub(super) what: &'static str,
    pub(super) configuration: Vec<(&'static str, Json)>,
    pub(super) envoy: Vec<(&'static str, Json)>,
    pub(super) found: Vec<(Rule, &'static str)>,
}

fn in_envoy<const N: usize>(
    what: &'static str,
    envoy: [(&'static str, Json); N],
    rule: Rule,
    pointer: &'static str,
) -> Planted {
    Planted { what, configuration: Vec::new(), envoy: envoy.into(), found: vec![(rule, pointer)] }
}

fn with<const C: usize, const E: usize, const F: usize>(
    what: &'static str,
    configuration: [(&'static str, Json); C],
    envoy: [(&'static str, Json); E],
    found: [(Rule, &'static str); F],
) -> Planted {
    Planted { what, configuration: configuration.into(), envoy: envoy.into(), found: found.into() }
}

pub(super) fn all() -> Vec<Planted> {
    [filters(), plugin(), managers(), routes(), certificates(), clusters()].into_iter().flatten().collect()
}

fn wasm() -> Json {
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {"name": "mlgate", "failure_policy": "FAIL_RELOAD", "vm_config": {"vm_id": "mlgate"}},
    })
}

fn router() -> Json {
    json!({"name": "router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}})
}

fn disabled() -> Json {
    json!({"mlgate": {
        "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true}})
}

fn filters() -> Vec<Planted> {
    use Rule::{FilterConditional, FilterDisabled, FilterOptional, FilterUpstream, NoGate, PassesBy};
    let lua = json!({"name": "lua", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"}});
    let open = json!({"filter_chains": [{"filters": [{"name": "hcm", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "http_filters": [router()],
        "route_config": {"virtual_hosts": [{"name": "open", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [{"name": "model", "weight": 1}]}}}]}]},
    }}]}]});
    let tcp = json!({"filter_chains": [], "default_filter_chain": {"filters": [{"name": "tcp", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "cluster": "model"}}]}});
    let matched = json!({
        "@type": "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher",
        "extension_config": {"name": "mlgate", "typed_config": wasm()}});
    vec![
        in_envoy(
            "switched off for a route",
            [("R/1/typed_per_filter_config", disabled())],
            FilterDisabled,
            "R/1/typed_per_filter_config/mlgate/disabled",
        ),
        in_envoy(
            "switched off for a virtual host",
            [("M/route_config/virtual_hosts/0/typedPerFilterConfig", disabled())],
            FilterDisabled,
            "M/route_config/virtual_hosts/0/typedPerFilterConfig/mlgate/disabled",
        ),
        in_envoy(
            "switched off for a table",
            [("M/route_config/typed_per_filter_config", disabled())],
            FilterDisabled,
            "M/route_config/typed_per_filter_config/mlgate/disabled",
        ),
        in_envoy(
            "switched off for a weighted cluster",
            [
                ("R/1/route/cluster", Json::Null),
                (
                    "R/1/route/weighted_clusters",
                    json!({"clusters": [{"name": "model", "weight": 1, "typed_per_filter_config": disabled()}]}),
                ),
            ],
            FilterDisabled,
            "R/1/route/weighted_clusters/clusters/0/typed_per_filter_config/mlgate/disabled",
        ),
        in_envoy(
            "off unless a route asks for it",
            [("F/disabled", json!(true))],
            FilterDisabled,
            "F/disabled",
        ),
        in_envoy(
            "upgrades with filters of their own",
            [("M/upgrade_configs", json!([{"upgrade_type": "websocket", "filters": [router()]}]))],
            FilterDisabled,
            "M/upgrade_configs/0/filters",
        ),
        in_envoy("optional", [("F/is_optional", json!(true))], FilterOptional, "F/is_optional"),
        with(
            "within a matcher",
            [],
            [("F/typed_config", matched)],
            [
                (FilterConditional, "F/typed_config"),
                (
                    Rule::ConfigurationDiffers,
                    "F/typed_config/extension_config/typed_config/config/configuration",
                ),
                (
                    Rule::EnvironmentMissing,
                    "F/typed_config/extension_config/typed_config/config/vm_config/environment_variables/host_env_keys",
                ),
                (
                    Rule::EnvironmentMissing,
                    "F/typed_config/extension_config/typed_config/config/vm_config/environment_variables/host_env_keys",
                ),
            ],
        ),
        in_envoy(
            "another filter until the gate is delivered",
            [
                ("F/typed_config", Json::Null),
                (
                    "F/config_discovery",
                    json!({"config_source": {"ads": {}}, "default_config": lua["typed_config"]}),
                ),
            ],
            FilterConditional,
            "F/config_discovery/default_config",
        ),
        in_envoy(
            "among the router's filters",
            [(
                "M/http_filters/1/typed_config/upstream_http_filters",
                json!([{"name": "mlgate", "typed_config": wasm()}]),
            )],
            FilterUpstream,
            "M/http_filters/1/typed_config/upstream_http_filters/0",
        ),
        in_envoy(
            "among a cluster's filters",
            [(
                "/static_resources/clusters/0/typed_extension_protocol_options",
                json!({
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "http_filters": [{"name": "mlgate", "typed_config": wasm()}]}}),
            )],
            FilterUpstream,
            "/static_resources/clusters/0/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions/http_filters/0",
        ),
        in_envoy("no gate", [("F", lua)], NoGate, ""),
        in_envoy(
            "a listener without the gate",
            [("/static_resources/listeners/-", open)],
            PassesBy,
            "/static_resources/listeners/1/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes/0/route/weighted_clusters/clusters/0/name",
        ),
        in_envoy(
            "a TCP proxy around the gate",
            [("/static_resources/listeners/-", tcp)],
            PassesBy,
            "/static_resources/listeners/1/default_filter_chain/filters/0/typed_config/cluster",
        ),
    ]
}

fn plugin() -> Vec<Planted> {
    use Rule::{
        CapabilityMissing, CodeUnpinned, ConfigurationDiffers, EnvironmentMissing, EnvironmentWritten,
        FailOpen, FailReload, GatesCollide, StopIterationMissing, StopIterationUnneeded, VmIdEmpty,
    };
    let remote = json!({"remote": {"http_uri": {"uri": "https://example.com/mlgate.wasm", "cluster": "c", "timeout": "5s"}, "sha256": ""}});
    let as_text =
        |text: &str| json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text});
    vec![
        in_envoy("open after a fault", [("P/fail_open", json!(true))], FailOpen, "P/fail_open"),
        in_envoy("open by policy", [("P/failure_policy", json!("FAIL_OPEN"))], FailOpen, "P/failure_policy"),
        in_envoy("open by the policy's number", [("P/failure_policy", json!(3))], FailOpen, "P/failure_policy"),
        in_envoy("closed for ever", [("P/failure_policy", json!("FAIL_CLOSED"))], FailReload, "P/failure_policy"),
        in_envoy("no policy", [("P/failure_policy", Json::Null)], FailReload, "P/failure_policy"),
        in_envoy("an empty vm_id", [("V/vm_id", json!(""))], VmIdEmpty, "V/vm_id"),
        in_envoy("no vm_id", [("V/vm_id", Json::Null)], VmIdEmpty, "V/vm_id"),
        in_envoy("code from elsewhere", [("V/code", remote)], CodeUnpinned, "V/code/remote/sha256"),
        in_envoy("a capability less", [("V/capability_restriction_config/allowed_capabilities/random_get", Json::Null)],
            CapabilityMissing, "V/capability_restriction_config/allowed_capabilities"),
        in_envoy("capabilities beside the VM, as before 1.40",
            [("V/capability_restriction_config", Json::Null), ("P/capability_restriction_config", json!({"allowed_capabilities": {"proxy_log": {}}}))],
            CapabilityMissing, "P/capability_restriction_config/allowed_capabilities"),
        in_envoy("another configuration", [("P/configuration/value/limits/0/rates/default/0/limit", json!(11))],
            ConfigurationDiffers, "P/configuration/value"),
        in_envoy("no configuration", [("P/configuration", Json::Null)], ConfigurationDiffers, "P/configuration"),
        in_envoy("a configuration that cannot be read", [("P/configuration", as_text("{"))], ConfigurationDiffers,
            "P/configuration/value"),
        in_envoy("a configuration as YAML text, which the filter does not read", [("P/configuration", as_text("version: 1"))],
            ConfigurationDiffers, "P/configuration/value"),
        in_envoy("a variable less", [("V/environment_variables/host_env_keys", json!(["MLGATE_CHAIN_KEY_1"]))],
            EnvironmentMissing, "V/environment_variables/host_env_keys"),
        in_envoy("a secret in the file", [("V/environment_variables/key_values", json!({"MLGATE_DIGEST_KEY_1": "secret"}))],
            EnvironmentWritten, "V/environment_variables/key_values/MLGATE_DIGEST_KEY_1"),
        with("holding back without the proxy's leave", [("/resources/body", json!({"peek": "hold"}))], [],
            [(StopIterationMissing, "P/allow_on_headers_stop_iteration")]),
        in_envoy("the proxy's leave without need", [("P/allow_on_headers_stop_iteration", json!(true))],
            StopIterationUnneeded, "P/allow_on_headers_stop_iteration"),
        in_envoy("two gates of one name", [("M/http_filters/-", json!({"name": "second", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {"name": "mlgate", "failure_policy": "FAIL_RELOAD", "configuration": as_text(
                r#"{"version": 1, "name": "quickstart", "authorization": {}}"#),
                "vm_config": {"vm_id": "mlgate", "environment_variables": {"host_env_keys": ["MLGATE_CHAIN_KEY_1", "MLGATE_DIGEST_KEY_1"]}}}}}))],
            GatesCollide, "M/http_filters/2/typed_config/config/configuration/value")
            .also(ConfigurationDiffers, "M/http_filters/2/typed_config/config/configuration/value"),
    ]
}

impl Planted {
    fn also(mut self, rule: Rule, pointer: &'static str) -> Self {
        self.found.push((rule, pointer));
        self
    }
}

fn managers() -> Vec<Planted> {
    use Rule::{AdminOpen, EscapedSlashes, PathNotNormalized, SourceForged, TimeoutMissing};
    let slashes = "M/path_with_escaped_slashes_action";
    let by_source =
        json!([{"name": "s", "key": ["source"], "rates": {"default": [{"limit": 1, "window": "1s"}]}}]);
    vec![
        in_envoy(
            "an open admin interface",
            [("/admin/address/socket_address/address", json!("0.0.0.0"))],
            AdminOpen,
            "/admin/address/socket_address/address",
        ),
        in_envoy(
            "no normalisation",
            [("M/normalize_path", Json::Null)],
            PathNotNormalized,
            "M/normalize_path",
        ),
        in_envoy("double slashes", [("M/merge_slashes", json!(false))], PathNotNormalized, "M/merge_slashes"),
        in_envoy("escaped slashes left open", [(slashes, Json::Null)], EscapedSlashes, slashes),
        in_envoy(
            "escaped slashes unescaped",
            [(slashes, json!("UNESCAPE_AND_FORWARD"))],
            EscapedSlashes,
            slashes,
        ),
        in_envoy("escaped slashes by number", [(slashes, json!(4))], EscapedSlashes, slashes),
        in_envoy(
            "slow heads",
            [("M/request_headers_timeout", Json::Null)],
            TimeoutMissing,
            "M/request_headers_timeout",
        ),
        in_envoy("slow requests", [("M/request_timeout", json!("0s"))], TimeoutMissing, "M/request_timeout"),
        in_envoy(
            "idle streams",
            [("M/stream_idle_timeout", json!("0.000s"))],
            TimeoutMissing,
            "M/stream_idle_timeout",
        ),
        with(
            "sources out of a header, and limits by source",
            [("/limits", by_source)],
            [("M/use_remote_address", json!(false))],
            [(SourceForged, "M/use_remote_address")],
        ),
        with(
            "sources out of a header, and keys by network",
            [("/consumers/0/credentials/api_keys/0/source_ranges", json!(["10.0.0.0/8"]))],
            [("M/use_remote_address", Json::Null)],
            [(SourceForged, "M/use_remote_address")],
        ),
        with(
            "sources out of a header, and nobody asks for them",
            [],
            [("M/use_remote_address", Json::Null)],
            [],
        ),
    ]
}

fn routes() -> Vec<Planted> {
    use Rule::{InternalRedirect, ProfileUnknown, RouteUnknown};
    let names = |profile: Json| json!({"filter_metadata": {"mlgate": {"profile": profile}}});
    vec![
        in_envoy(
            "a route with a profile that is not there",
            [("R/1/metadata", names(json!("partner")))],
            ProfileUnknown,
            "R/1/metadata/filter_metadata/mlgate/profile",
        ),
        in_envoy(
            "a profile that is not a text",
            [("R/1/metadata", names(json!(true)))],
            ProfileUnknown,
            "R/1/metadata/filter_metadata/mlgate/profile",
        ),
        in_envoy(
            "a virtual host with a profile that is not there",
            [("M/route_config/virtual_hosts/0/metadata", names(json!("partner")))],
            ProfileUnknown,
            "M/route_config/virtual_hosts/0/metadata/filter_metadata/mlgate/profile",
        ),
        with("a profile that is there", [], [("R/1/metadata", names(json!("public")))], []),
        with(
            "a mapped route that is not there",
            [("/routes/models~1other*", json!("public"))],
            [],
            [(RouteUnknown, "/routes/models~1other*")],
        ),
        with("a mapped prefix", [("/routes/models~1al*", json!("public"))], [], []),
        in_envoy(
            "redirects followed by Envoy",
            [("R/1/route/internal_redirect_policy", json!({}))],
            InternalRedirect,
            "R/1/route/internal_redirect_policy",
        ),
    ]
}

fn tls(fields: &Json, context: &Json) -> Json {
    let mut whole = fields.clone();
    let certificate = json!([{"certificate_chain": {"filename": "c"}, "private_key": {"filename": "k"}}]);
    whole["@type"] =
        json!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext");
    whole["common_tls_context"] = json!({"tls_certificates": certificate, "validation_context": context});
    json!({"name": "tls", "typed_config": whole})
}

fn certificates() -> Vec<Planted> {
    use Rule::{ClientCertificates, EnvoyTooOld, ForwardedCertificates, SessionResumption};
    let hops = json!({"mtls": {"trusted_hops": [{"dns_san": "edge.example"}]}});
    let hops = || ("/authentication", hops.clone());
    let mtls = |validation: &str| ("/authentication", json!({"mtls": {"peer_validation": validation}}));
    let ca = json!({"trusted_ca": {"filename": "ca"}});
    let no_resumption =
        json!({"disable_stateless_session_resumption": true, "disable_stateful_session_resumption": true});
    let verifies = json!({"require_client_certificate": true});
    let untrusted = json!({"trusted_ca": {"filename": "ca"}, "trust_chain_verification": "ACCEPT_UNTRUSTED"});
    const TLS: &str = "C/transport_socket";
    vec![
        with("no TLS", [mtls("attribute")], [], [(ClientCertificates, TLS)]),
        with("certificates by attribute", [mtls("attribute")], [(TLS, tls(&no_resumption, &ca))], []),
        with(
            "no authority",
            [mtls("attribute")],
            [(TLS, tls(&no_resumption, &json!({})))],
            [(ClientCertificates, "C/transport_socket/typed_config/common_tls_context")],
        ),
        with(
            "resumed sessions",
            [mtls("attribute")],
            [(TLS, tls(&json!({}), &ca))],
            [
                (SessionResumption, "C/transport_socket/typed_config/disable_stateless_session_resumption"),
                (SessionResumption, "C/transport_socket/typed_config/disable_stateful_session_resumption"),
            ],
        ),
        with(
            "hops that are heard",
            [hops()],
            [(TLS, tls(&no_resumption, &ca)), ("M/forward_client_cert_details", json!("APPEND_FORWARD"))],
            [],
        ),
        with(
            "hops that are not heard",
            [hops()],
            [(TLS, tls(&no_resumption, &ca))],
            [(ForwardedCertificates, "M/forward_client_cert_details")],
        ),
        with(
            "hops whose word is replaced",
            [hops()],
            [(TLS, tls(&no_resumption, &ca)), ("M/forward_client_cert_details", json!("SANITIZE_SET"))],
            [(ForwardedCertificates, "M/forward_client_cert_details")],
        ),
        with("certificates by the listener", [mtls("listener")], [(TLS, tls(&verifies, &ca))], []),
        with(
            "no certificate needed",
            [mtls("listener")],
            [(TLS, tls(&json!({}), &ca))],
            [(ClientCertificates, "C/transport_socket/typed_config/require_client_certificate")],
        ),
        with(
            "anybody's certificate",
            [mtls("listener")],
            [(TLS, tls(&verifies, &untrusted))],
            [(
                ClientCertificates,
                "C/transport_socket/typed_config/common_tls_context/validation_context/trust_chain_verification",
            )],
        ),
        with(
            "an old Envoy",
            [mtls("attribute")],
            [
                (TLS, tls(&no_resumption, &ca)),
                (
                    "/node/user_agent_build_version",
                    json!({"version": {"major_number": 1, "minor_number": 38}}),
                ),
            ],
            [(EnvoyTooOld, "/node/user_agent_build_version/version")],
        ),
    ]
}

fn clusters() -> Vec<Planted> {
    use Rule::{ClusterHttp1, ClusterUnknown};
    let service = || {
        [
            ("/rate_limit_service", json!({"cluster": "ratelimit", "domain": "mlgate"})),
            ("/limits/0/scope", json!("global")),
            ("/limits/0/rates", json!({"default": [{"limit": 10, "window": "1m"}]})),
        ]
    };
    let http2 = json!({"name": "ratelimit", "typed_extension_protocol_options": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}}}}});
    vec![
        in_envoy(
            "a cluster less",
            [("/static_resources/clusters/1/name", json!("audits"))],
            ClusterUnknown,
            "/audit/collector/cluster",
        ),
        with("no service", service(), [], [(ClusterUnknown, "/rate_limit_service/cluster")]),
        with(
            "a service in HTTP/1.1",
            service(),
            [("/static_resources/clusters/-", json!({"name": "ratelimit"}))],
            [(ClusterHttp1, "/static_resources/clusters/2")],
        ),
        with("a service in HTTP/2", service(), [("/static_resources/clusters/-", http2)], []),
    ]
}
