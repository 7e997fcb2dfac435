//! What the proxy must do next: said exactly once per callback, so it is a return value.

/// The answer of a transaction to one event. `plugin::http_context::apply` is the only place that acts on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send the request on, or what is held of it, with these edits. Edits are empty where headers are gone already.
    Forward(RequestEdits),
    /// Hold what is here and what comes.
    Await,
    /// Answer in place of the upstream.
    Reply(LocalReply),
}

/// Changes of request headers. They are applied after the decision, since any of them clears Envoy's route cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestEdits {
    /// Names to take off.
    pub remove: Vec<String>,
    /// Names and values to set, replacing every value of the name.
    pub set: Vec<(String, Vec<u8>)>,
    /// A new `:path`, only ever to take a key out of the query.
    pub path: Option<String>,
}

/// Changes of response headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseEdits {
    /// Names to take off.
    pub remove: Vec<String>,
    /// Names and values to set.
    pub set: Vec<(String, String)>,
}

/// An answer in place of the upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// HTTP status for plain callers.
    pub status: u16,
    /// gRPC status for callers whose content type is `application/grpc`.
    pub grpc_status: u8,
    /// Header names and values, valid by construction.
    pub headers: Vec<(String, String)>,
    /// Body for plain callers, `grpc-message` for gRPC callers.
    pub body: Vec<u8>,
    /// Response code details in Envoy's access log: the inner reason.
    pub details: &'static str,
}

/// Whether a header value may be sent: no control character but tab, so no response can be split (RFC 9110 §5.5).
pub fn valid_value(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f))
}
