//! The clusters that the configuration names.

use crate::envoy::clusters::{Protocol, Trust, named};
use crate::envoy::place::Place;
use crate::envoy::review::Reviewer;
use crate::envoy::review::gate::Gate;
use crate::envoy::rule::Rule;

/// Where a cluster says which protocol it speaks.
const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

// === impl Reviewer ===

impl<'a> Reviewer<'a> {
    pub(super) fn clusters(&mut self) {
        let clusters = self.parts.clusters.clone();
        for cluster in &clusters {
            self.upstream_filters(cluster);
        }
        for wanted in named(self.document) {
            let found = clusters.iter().find(|cluster| cluster.text_of("name") == wanted.name);
            let Some(cluster) = found else {
                if self.parts.all_clusters {
                    let what = format!("the file has no cluster `{}`", wanted.name);
                    self.find_in_configuration(Rule::ClusterUnknown, wanted.pointer, what);
                } else {
                    self.note("", format!("the cluster `{}`, which the configuration names", wanted.name));
                }
                continue;
            };
            if wanted.protocol == Protocol::Grpc && !speaks_http2(cluster) {
                let what = format!("`{}` speaks HTTP/1.1", wanted.name);
                self.find(Rule::ClusterHttp1, &cluster.pointer, what);
            }
            if wanted.trust == Trust::Access {
                self.verified(cluster, wanted.name);
            }
        }
    }

    /// Whether a cluster's server must prove who it is.
    fn verified(&mut self, cluster: &Place<'a>, name: &str) {
        let mut wrong =
            |at: String, why: &str| self.find(Rule::ClusterUnverified, at, format!("`{name}` {why}"));
        let Some(socket) = cluster.get("transport_socket") else {
            return wrong(cluster.below("transport_socket"), "speaks without TLS");
        };
        let Some(tls) = socket.config("UpstreamTlsContext") else {
            return wrong(socket.pointer, "speaks without TLS");
        };
        let common = tls.get("common_tls_context");
        let within = |names: &[&str]| common.as_ref().and_then(|common| common.at(names));
        let context = within(&["validation_context"])
            .or_else(|| within(&["combined_validation_context", "default_validation_context"]));
        let Some(context) = context else {
            if within(&["validation_context_sds_secret_config"]).is_some() {
                return self.note(
                    tls.pointer,
                    format!("what verifies the server of `{name}`, delivered from elsewhere"),
                );
            }
            return wrong(tls.pointer, "takes any server's certificate");
        };
        let rooted = ["trusted_ca", "system_root_certs", "ca_certificate_provider_instance"];
        if !rooted.iter().any(|field| context.get(field).is_some()) {
            wrong(context.below("trusted_ca"), "takes any server's certificate");
        } else if context.list("match_typed_subject_alt_names").is_empty() && !names_by_sni(cluster) {
            wrong(context.below("match_typed_subject_alt_names"), "takes a certificate of any name");
        }
    }

    /// A gate in an upstream's filters.
    fn upstream_filters(&mut self, cluster: &Place<'a>) {
        for filter in options(cluster).map(|options| options.list("http_filters")).unwrap_or_default() {
            if filter.config("Wasm").and_then(|wasm| Gate::of(&wasm)).is_some() {
                let what =
                    format!("the gate is among the filters of the cluster `{}`", cluster.text_of("name"));
                self.find(Rule::FilterUpstream, filter.pointer, what);
            }
        }
    }
}

fn options<'a>(cluster: &Place<'a>) -> Option<Place<'a>> {
    cluster.at(&["typed_extension_protocol_options", OPTIONS])?.typed().map(|(_, options)| options)
}

fn speaks_http2(cluster: &Place<'_>) -> bool {
    cluster.get("http2_protocol_options").is_some()
        || options(cluster).is_some_and(|options| {
            options.at(&["explicit_http_config", "http2_protocol_options"]).is_some()
                || options.get("auto_config").is_some()
        })
}

fn names_by_sni(cluster: &Place<'_>) -> bool {
    let by_name = |place: &Place<'_>| {
        place.get("upstream_http_protocol_options").is_some_and(|options| options.is("auto_san_validation"))
    };
    by_name(cluster)
        || options(cluster).is_some_and(|options| by_name(&options))
        || cluster
            .get("transport_socket")
            .and_then(|socket| socket.config("UpstreamTlsContext"))
            .is_some_and(|tls| tls.is("auto_sni_san_validation"))
}

#[cfg(test)]
mod tests;
