//! What `check --envoy` looks for: each danger with its name, what it means, and its remedy.

use serde::Serialize;

use crate::config::faults::Fault;

/// One kind of danger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The admin interface is open.
    AdminOpen,
    /// The capability list lacks something.
    CapabilityMissing,
    /// The listener does not take or verify certificates.
    ClientCertificates,
    /// A cluster for gRPC speaks HTTP/1.
    ClusterHttp1,
    /// A named cluster is not there.
    ClusterUnknown,
    /// A cluster that decides who gets in is not verified.
    ClusterUnverified,
    /// Remote code without a digest.
    CodeUnpinned,
    /// The file runs another configuration.
    ConfigurationDiffers,
    /// A variable does not reach the VM.
    EnvironmentMissing,
    /// A secret is written into the file.
    EnvironmentWritten,
    /// Too old for what the configuration asks.
    EnvoyTooOld,
    /// What becomes of escaped slashes.
    EscapedSlashes,
    /// Requests pass after a fault.
    FailOpen,
    /// A dead VM stays dead.
    FailReload,
    /// The gate runs only sometimes.
    FilterConditional,
    /// The gate is switched off.
    FilterDisabled,
    /// The gate may be ignored.
    FilterOptional,
    /// The gate stands behind the router.
    FilterUpstream,
    /// What trusted hops say does not arrive.
    ForwardedCertificates,
    /// Two gates share their state.
    GatesCollide,
    /// A redirect enters the gate again.
    InternalRedirect,
    /// No gate at all.
    NoGate,
    /// A way around the gate.
    PassesBy,
    /// A path has two readings.
    PathNotNormalized,
    /// A profile that is not there.
    ProfileUnknown,
    /// A route that is not there.
    RouteUnknown,
    /// A certificate that nobody looks at again.
    SessionResumption,
    /// A caller hides its address.
    SourceForged,
    /// `peek: hold` does not hold.
    StopIterationMissing,
    /// The flag without its use.
    StopIterationUnneeded,
    /// A wait without an end.
    TimeoutMissing,
    /// Two readings of the file.
    Twice,
    /// Shared data belongs to everybody.
    VmIdEmpty,
}

/// A danger at a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Which.
    pub rule: Rule,
    /// Whose pointer and line it has.
    #[serde(rename = "in")]
    pub file: File,
    /// Where, what, and the remedy.
    #[serde(flatten)]
    pub fault: Fault,
}

/// The two documents of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum File {
    /// mlgate's.
    Configuration,
    /// Envoy's.
    Envoy,
}

// === impl Rule ===

impl Rule {
    /// All, in the order of their names.
    pub const ALL: [Self; 33] = [
        Self::AdminOpen,
        Self::CapabilityMissing,
        Self::ClientCertificates,
        Self::ClusterHttp1,
        Self::ClusterUnknown,
        Self::ClusterUnverified,
        Self::CodeUnpinned,
        Self::ConfigurationDiffers,
        Self::EnvironmentMissing,
        Self::EnvironmentWritten,
        Self::EnvoyTooOld,
        Self::EscapedSlashes,
        Self::FailOpen,
        Self::FailReload,
        Self::FilterConditional,
        Self::FilterDisabled,
        Self::FilterOptional,
        Self::FilterUpstream,
        Self::ForwardedCertificates,
        Self::GatesCollide,
        Self::InternalRedirect,
        Self::NoGate,
        Self::PassesBy,
        Self::PathNotNormalized,
        Self::ProfileUnknown,
        Self::RouteUnknown,
        Self::SessionResumption,
        Self::SourceForged,
        Self::StopIterationMissing,
        Self::StopIterationUnneeded,
        Self::TimeoutMissing,
        Self::Twice,
        Self::VmIdEmpty,
    ];

    /// Its name in results.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// Why it is a danger.
    pub const fn danger(self) -> &'static str {
        self.row().1
    }

    /// What would be right.
    pub const fn remedy(self) -> &'static str {
        self.row().2
    }

    const fn row(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::AdminOpen => (
                "admin_open",
                "the admin interface asks nobody who they are, and listens beyond loopback",
                "give it a loopback address or a pipe",
            ),
            Self::CapabilityMissing => (
                "capability_missing",
                "the filter needs a capability that `allowed_capabilities` lacks, and fails where it uses it",
                "take the list of `mlgate render envoy`",
            ),
            Self::ClientCertificates => (
                "client_certificates",
                "certificates are credentials, and the listener does not take or verify them as `peer_validation` says",
                "give the listener a `DownstreamTlsContext` with a `trusted_ca`, under `peer_validation: listener` with `require_client_certificate: true` and without `ACCEPT_UNTRUSTED`",
            ),
            Self::ClusterHttp1 => (
                "cluster_http1",
                "gRPC is asked of a cluster that speaks HTTP/1.1: every call fails",
                "write `explicit_http_config: { http2_protocol_options: {} }` into its `HttpProtocolOptions`",
            ),
            Self::ClusterUnknown => (
                "cluster_unknown",
                "the configuration names a cluster that the file lacks",
                "add the cluster, or correct the name",
            ),
            Self::ClusterUnverified => (
                "cluster_unverified",
                "what a cluster answers decides who gets in, and nobody verifies that it is the right server",
                "give it an `UpstreamTlsContext` with a `trusted_ca`, an `sni`, and `match_typed_subject_alt_names` or `auto_sni_san_validation`",
            ),
            Self::CodeUnpinned => (
                "code_unpinned",
                "code is fetched from elsewhere without its SHA-256: whoever serves it decides",
                "write its `sha256`, or ship a local file",
            ),
            Self::ConfigurationDiffers => (
                "configuration_differs",
                "the file runs another configuration than the one that was checked",
                "put the checked configuration into the file",
            ),
            Self::EnvironmentMissing => (
                "environment_missing",
                "a variable that the configuration names does not reach the VM: Envoy refuses to start",
                "add it to `environment_variables.host_env_keys`",
            ),
            Self::EnvironmentWritten => (
                "environment_written",
                "a secret stands in the file, and `/config_dump` shows it",
                "move it into Envoy's environment and name it in `host_env_keys`",
            ),
            Self::EnvoyTooOld => (
                "envoy_too_old",
                "`peer_validation: attribute` needs Envoy 1.39: before, no certificate counts",
                "update Envoy, or verify at the listener and write `peer_validation: listener`",
            ),
            Self::EscapedSlashes => (
                "escaped_slashes",
                "what becomes of `%2F` is left open or makes another path",
                "write `path_with_escaped_slashes_action: KEEP_UNCHANGED`, which leaves it to mlgate, or `REJECT_REQUEST`",
            ),
            Self::FailOpen => (
                "fail_open",
                "after a fault of the filter every request passes, unseen",
                "write `failure_policy: FAIL_RELOAD` and leave `fail_open` out",
            ),
            Self::FailReload => (
                "fail_reload",
                "a VM that died is never replaced: its worker answers 503 until Envoy restarts",
                "write `failure_policy: FAIL_RELOAD`",
            ),
            Self::FilterConditional => (
                "filter_conditional",
                "the gate runs only where a matcher or a discovery service puts it: other requests pass, unseen",
                "put the Wasm filter itself into `http_filters`",
            ),
            Self::FilterDisabled => (
                "filter_disabled",
                "requests pass without the gate, and it cannot see them",
                "take `disabled` out; open a route with a profile that authenticates nobody and has a `match`",
            ),
            Self::FilterOptional => (
                "filter_optional",
                "an Envoy that cannot run the filter leaves it out and lets requests pass",
                "take `is_optional` out",
            ),
            Self::FilterUpstream => (
                "filter_upstream",
                "the gate stands behind the router: retries are decided, counted and recorded again",
                "put it into `http_filters` of the connection manager",
            ),
            Self::ForwardedCertificates => (
                "forwarded_certificates",
                "callers of `trusted_hops` are known by `x-forwarded-client-cert`, and this listener takes that off or writes its own",
                "write `forward_client_cert_details: FORWARD_ONLY`",
            ),
            Self::GatesCollide => (
                "gates_collide",
                "two configurations have one name and one `vm_id`: they share limits and chains",
                "give each gate a `name` of its own",
            ),
            Self::InternalRedirect => (
                "internal_redirect",
                "a redirect enters the gate again without its credentials",
                "take it out: let callers follow redirects",
            ),
            Self::NoGate => {
                ("no_gate", "no listener runs the gate", "put the filter first into `http_filters`")
            }
            Self::PassesBy => (
                "passes_by",
                "a listener without the gate leads to a cluster that the gate stands in front of",
                "put the gate there too, or lead it elsewhere",
            ),
            Self::PathNotNormalized => (
                "path_not_normalized",
                "routes are chosen by a path that has more than one reading",
                "write `normalize_path: true` and `merge_slashes: true`",
            ),
            Self::ProfileUnknown => (
                "profile_unknown",
                "a route names a profile that the configuration has not: all of its requests are refused",
                "correct the name, or add the profile",
            ),
            Self::RouteUnknown => (
                "route_unknown",
                "`routes` names a route that the file has not: its profile applies nowhere",
                "correct it: `<virtual host>/<route name>`",
            ),
            Self::SessionResumption => (
                "session_resumption",
                "on a resumed session `connection.peer_certificate_valid` is false: callers are refused now and then",
                "write `disable_stateless_session_resumption: true` and `disable_stateful_session_resumption: true`",
            ),
            Self::SourceForged => (
                "source_forged",
                "a caller that sends `x-forwarded-for` has no address: limits and networks by source do not hold",
                "write `use_remote_address: true`, and `xff_num_trusted_hops` for proxies of yours",
            ),
            Self::StopIterationMissing => (
                "stop_iteration_missing",
                "`peek: hold` holds nothing back without the proxy's leave",
                "write `allow_on_headers_stop_iteration: true`, or `peek: stream`",
            ),
            Self::StopIterationUnneeded => (
                "stop_iteration_unneeded",
                "the proxy's leave is given without `peek: hold`: a mistake in the filter would let a request pass",
                "take `allow_on_headers_stop_iteration` out",
            ),
            Self::TimeoutMissing => (
                "timeout_missing",
                "a caller that sends slowly, or a request that waits in a dead VM, holds its place for ever",
                "write `request_headers_timeout`, `request_timeout` and `stream_idle_timeout`",
            ),
            Self::Twice => (
                "twice",
                "a field stands twice: people and Envoy may read different ones",
                "leave one of them out",
            ),
            Self::VmIdEmpty => (
                "vm_id_empty",
                "every plugin without a `vm_id` reads and writes the gate's limits and chains",
                "write a `vm_id` of its own",
            ),
        }
    }
}
