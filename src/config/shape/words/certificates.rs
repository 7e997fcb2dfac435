//! The words of certificates, and of bindings.

use crate::config::shape::grammar::{ANY, LONG, NAME, TRUST_DOMAIN};
use crate::config::shape::words::{ATTRIBUTES, NAMES, PATTERNS};
use crate::config::shape::{Choice, Object, Shape, optional, required};

use Shape::{List, Text};

/// `consumers/credentials/mtls`.
pub(super) static CERTIFICATE: Object = Object {
    fields: &[
        optional("uri_san", Text(&LONG), "A URI SAN, whole, such as a SPIFFE ID."),
        optional("dns_san", Text(&ANY), "Or a DNS SAN, in any case."),
        optional("subject", Text(&LONG), "Or the subject, as RFC 2253 and Envoy write it."),
        optional("common_name", Text(&ANY), "Or the only common name of the subject."),
    ],
    rest: None,
};

/// `authentication.mtls`.
pub(super) static MTLS: Object = Object {
    fields: &[
        optional(
            "trust_domains",
            List { of: &Text(&TRUST_DOMAIN), min: 0 },
            "SPIFFE IDs of these are callers; where any is written, those of others never are.",
        ),
        optional(
            "peer_validation",
            Shape::Choice(&Choice { built: &["attribute", "listener"], later: &[] }),
            "Who says that a certificate is valid: the proxy (Envoy 1.39), or the operator for the listener.",
        ),
        optional(
            "trusted_hops",
            List { of: &Shape::Object(&CERTIFICATE), min: 1 },
            "Proxies whose `x-forwarded-client-cert` says who called them; each by one name of its certificate.",
        ),
    ],
    rest: None,
};

/// `bindings`.
pub(super) static BINDING: Object = Object {
    fields: &[
        required(
            "principal",
            PATTERNS,
            "Patterns on the caller's attributes; `{x}` captures within one segment.",
        ),
        optional("roles", NAMES, "Names of `authorization.roles`."),
        optional("tier", Text(&NAME), "Which rates of a limit apply."),
        optional("attributes", ATTRIBUTES, "`principal.*` in policies; `{x}` is what was captured."),
    ],
    rest: None,
};
