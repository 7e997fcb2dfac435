//! Certificates as credentials: whether the listener takes them, and verifies them as the configuration says.

use crate::envoy::place::Place;
use crate::envoy::review::Reviewer;
use crate::envoy::rule::Rule;
use crate::identity::spec::{MtlsSpec, PeerValidation};

/// The first Envoy with `connection.peer_certificate_valid`.
const WITH_ATTRIBUTE: (i64, i64) = (1, 39);

// === impl Reviewer ===

impl<'a> Reviewer<'a> {
    /// The filter chain of a gate.
    pub(super) fn certificates(&mut self, chain: &Place<'a>) {
        let Some(mtls) = &self.document.authentication.mtls else { return };
        let validation = mtls.peer_validation;
        let Some(socket) = chain.get("transport_socket") else {
            let what = "the listener speaks without TLS, and nobody can show a certificate";
            return self.find(Rule::ClientCertificates, chain.below("transport_socket"), what);
        };
        let Some(tls) = socket.config("DownstreamTlsContext") else {
            return self.note(socket.pointer, "what the listener does with certificates");
        };
        let common = tls.get("common_tls_context");
        let within = |names: &[&str]| common.as_ref().and_then(|common| common.at(names));
        let context = within(&["validation_context"])
            .or_else(|| within(&["combined_validation_context", "default_validation_context"]));
        let elsewhere = within(&["validation_context_sds_secret_config"])
            .or_else(|| within(&["combined_validation_context", "validation_context_sds_secret_config"]));
        let verifies = context.as_ref().is_some_and(|context| context.get("trusted_ca").is_some());
        match elsewhere {
            Some(secret) if !verifies => {
                self.note(secret.pointer, "which certificates the listener takes, delivered from elsewhere")
            }
            _ if !verifies => {
                let what = "no `trusted_ca`: the listener verifies no certificate";
                self.find(Rule::ClientCertificates, tls.below("common_tls_context"), what);
            }
            _ => {}
        }
        match validation {
            PeerValidation::Attribute => self.resumption(&tls),
            PeerValidation::Listener => {
                if !tls.is("require_client_certificate") {
                    let what = "the listener lets callers without a certificate in, and `peer_validation` says that it verifies";
                    self.find(Rule::ClientCertificates, tls.below("require_client_certificate"), what);
                }
                let untrusted = context.filter(|context| {
                    context.choice("trust_chain_verification", &["VERIFY_TRUST_CHAIN", "ACCEPT_UNTRUSTED"])
                        != Some("VERIFY_TRUST_CHAIN")
                });
                if let Some(context) = untrusted {
                    let what = "the listener takes certificates of anybody";
                    self.find(Rule::ClientCertificates, context.below("trust_chain_verification"), what);
                }
            }
        }
    }

    /// The manager of a gate that hears what trusted hops say of their callers.
    pub(super) fn forwarded_certificates(&mut self, manager: &Place<'a>) {
        let hears = |mtls: &MtlsSpec| !mtls.trusted_hops.is_empty();
        if !self.document.authentication.mtls.as_ref().is_some_and(hears) {
            return;
        }
        let names = ["SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"];
        let field = "forward_client_cert_details";
        let chosen = manager.choice(field, &names);
        if !matches!(chosen, Some("FORWARD_ONLY" | "APPEND_FORWARD")) {
            let what = format!(
                "`{}`: what `trusted_hops` say of their callers does not arrive as they wrote it",
                chosen.unwrap_or("unknown")
            );
            self.find(Rule::ForwardedCertificates, manager.below(field), what);
        }
    }

    /// The proxy forgets on a resumed session that it verified the certificate.
    fn resumption(&mut self, tls: &Place<'a>) {
        for flag in ["disable_stateless_session_resumption", "disable_stateful_session_resumption"] {
            if !tls.is(flag) {
                self.find(Rule::SessionResumption, tls.below(flag), "sessions are resumed");
            }
        }
    }

    /// A dump says which Envoy wrote it.
    pub(super) fn version(&mut self) {
        let by_attribute = self
            .document
            .authentication
            .mtls
            .as_ref()
            .is_some_and(|mtls| mtls.peer_validation == PeerValidation::Attribute);
        if !by_attribute {
            return;
        }
        let version =
            self.parts.node.as_ref().and_then(|node| node.at(&["user_agent_build_version", "version"]));
        let Some(version) = version else {
            return self.note("", "which Envoy runs this: `peer_validation: attribute` needs 1.39");
        };
        let number = |name: &str| match version.get(name).map(|place| &place.node.kind) {
            Some(crate::config::tree::Kind::Integer(number)) => *number,
            _ => 0,
        };
        let (major, minor) = (number("major_number"), number("minor_number"));
        if (major, minor) < WITH_ATTRIBUTE {
            self.find(Rule::EnvoyTooOld, version.pointer, format!("this is Envoy {major}.{minor}"));
        }
    }
}
