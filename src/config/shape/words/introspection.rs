//! The words of opaque tokens.

use crate::config::shape::grammar::{ANY, CONSUMER, ENV, NAME};
use crate::config::shape::words::jwt::{CLAIMS, SCOPES};
use crate::config::shape::{Object, Shape, optional, required};

use Shape::{Bool, Duration, List, Text};

/// One of `authentication.introspection`.
pub(super) static ENDPOINT: Object = Object {
    fields: &[
        required("name", Text(&CONSUMER), "Part of its callers' ids: `opaque:<name>:<subject>`."),
        optional("issuer", Text(&ANY), "`iss`, exactly, where an answer has one."),
        required("cluster", Text(&NAME), "Envoy's cluster name."),
        required("uri", Text(&ANY), "The endpoint, as the issuer's metadata has it."),
        required("client_id", Text(&ANY), "Who the gate is to it."),
        required("client_secret_env", Text(&ENV), "The environment variable that holds the gate's secret."),
        optional("timeout", Duration, "How long an answer may take, up to 5s; absent means 1s."),
        optional("cache_duration", Duration, "How long an answer is believed, up to 5m; absent means 30s."),
        optional("clock_skew", Duration, "How far its clock and ours may differ; absent means 60s."),
        optional("audiences", List { of: &Text(&ANY), min: 1 }, "One of them must be in `aud`; absent: any."),
        optional("scopes", SCOPES, "Actions by scope; absent means that scopes limit nothing."),
        optional("claims", Shape::Object(&CLAIMS), "Where an answer says what."),
        optional("forward", Bool, "Whether the token stays on the request to the upstream."),
    ],
    rest: None,
};
