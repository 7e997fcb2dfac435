//! What was expected against what was seen: every difference as a sentence. Beside what a case writes, each answer is
//! held to what is true of all of them.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::file::{Case, Reach, UpstreamSpec};
use super::gate::Gate;
use crate::audit::chain::hex;
use crate::filter::refusal::Reason;

/// What one case led to.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The status that the caller read.
    pub status: u16,
    /// The gRPC status that the caller read.
    pub grpc_status: Option<u32>,
    /// The answer's headers, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The answer's body.
    pub body: Vec<u8>,
    /// What reached the upstream.
    pub upstream: Option<Seen>,
    /// The body that was sent.
    pub sent: Vec<u8>,
    /// The event of this decision.
    pub event: Option<Json>,
}

/// A request as the upstream saw it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Path and query.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Body bytes.
    pub body: Vec<u8>,
    /// Whether its end came.
    pub complete: bool,
    /// Trailers.
    pub trailers: Vec<(String, Vec<u8>)>,
}

/// Where a caller finds its decision again.
pub const DECISION_ID: &str = "x-mlgate-decision-id";

// === impl Observed ===

impl Observed {
    /// The id of the decision, where there is exactly one.
    pub fn decision_id(&self) -> Option<String> {
        let [id] = values(&self.headers, DECISION_ID)[..] else { return None };
        Some(String::from_utf8_lossy(id).into_owned())
    }

    /// Every difference between this and what `case` expects.
    pub fn differences(&self, case: &Case, gate: &Gate) -> Vec<String> {
        let mut wrong = Vec::new();
        let expect = &case.expect;
        if self.status != expect.status {
            let body = String::from_utf8_lossy(&self.body);
            wrong.push(format!("status {} instead of {}: {body}", self.status, expect.status));
        }
        if expect.grpc_status.is_some() && self.grpc_status != expect.grpc_status {
            wrong.push(format!("gRPC status {:?} instead of {:?}", self.grpc_status, expect.grpc_status));
        }
        let id = self.decision_id().unwrap_or_default();
        if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            wrong.push(format!("`{id}` is no decision id"));
        }
        if let Some(reason) = &expect.reason {
            self.check_refusal(reason, case, &mut wrong);
        }
        check_fields(&expect.headers, &self.headers, "header", &mut wrong);
        self.check_upstream(case, gate, &mut wrong);
        self.check_event(case, gate, &mut wrong);
        if let Some(secret) = gate.leaked_in(&self.body) {
            wrong.push(format!("the answer shows the secret `{secret}`"));
        }
        wrong
    }

    fn check_refusal(&self, reason: &str, case: &Case, wrong: &mut Vec<String>) {
        if self.grpc_status.is_some() {
            let message = text(&self.headers, "grpc-message").unwrap_or_default();
            if !message.starts_with(reason) || !self.body.is_empty() {
                wrong.push(format!("gRPC message `{message}` instead of one about `{reason}`"));
            }
        } else {
            let problem: Json = serde_json::from_slice(&self.body).unwrap_or_default();
            for (field, expected) in [
                ("reason", Json::from(reason)),
                ("status", Json::from(case.expect.status)),
                ("decision_id", Json::from(self.decision_id())),
            ] {
                if problem.get(field) != Some(&expected) {
                    let shown = String::from_utf8_lossy(&self.body);
                    wrong.push(format!("problem with another `{field}` than {expected}: {shown}"));
                }
            }
            if text(&self.headers, "content-type").as_deref() != Some("application/problem+json") {
                wrong.push("a refusal is not a problem document".to_owned());
            }
        }
        for (statuses, header) in [(&[401][..], "www-authenticate"), (&[429, 503], "retry-after")] {
            if statuses.contains(&self.status) && text(&self.headers, header).is_none() {
                wrong.push(format!("{} without `{header}`", self.status));
            }
        }
    }

    fn check_upstream(&self, case: &Case, gate: &Gate, wrong: &mut Vec<String>) {
        let forwards = gate.document.pointer("/authentication/api_key/forward") == Some(&Json::Bool(true));
        let reach = match case.expect.seen() {
            Ok(reach) => reach,
            Err(error) => return wrong.push(error),
        };
        match (&reach, &self.upstream) {
            (Reach::Untouched, Some(seen)) => wrong.push(format!("the upstream saw {}", seen.path)),
            (Reach::HeadersOnly, Some(seen)) if seen.complete || !seen.body.is_empty() => {
                wrong.push(format!("the upstream saw {} bytes of the body", seen.body.len()));
            }
            (Reach::Reached(_), None) => wrong.push("the upstream saw nothing".to_owned()),
            (Reach::Reached(expected), Some(seen)) => self.check_seen(expected, seen, wrong),
            _ => {}
        }
        for (name, value) in self.upstream.iter().flat_map(|seen| &seen.headers) {
            if gate.leaked_in(value).is_some() && !forwards {
                wrong.push(format!("the upstream got a credential in `{name}`"));
            }
        }
        if let Some(seen) = &self.upstream
            && gate.leaked_in(seen.path.as_bytes()).is_some()
            && !forwards
        {
            wrong.push("the upstream got a credential in the path".to_owned());
        }
    }

    fn check_seen(&self, expected: &UpstreamSpec, seen: &Seen, wrong: &mut Vec<String>) {
        if expected.path.as_ref().is_some_and(|path| *path != seen.path) {
            wrong.push(format!("the upstream saw the path `{}`", seen.path));
        }
        let body = expected.body.as_ref().map_or(self.sent.as_slice(), |body| body.as_bytes());
        if !seen.complete || seen.body != body {
            let (complete, length) = (seen.complete, seen.body.len());
            wrong.push(format!(
                "the upstream saw a body of {length} bytes (complete: {complete}), not {}",
                body.len()
            ));
        }
        check_fields(&expected.headers, &seen.headers, "upstream header", wrong);
        check_fields(&expected.trailers, &seen.trailers, "upstream trailer", wrong);
    }

    fn check_event(&self, case: &Case, gate: &Gate, wrong: &mut Vec<String>) {
        let expect = &case.expect;
        let event = match (&self.event, &expect.audit) {
            (None, Some(Json::String(word))) if word == "none" => return,
            (None, _) => return wrong.push("no event in the audit log".to_owned()),
            (Some(_), Some(Json::String(word))) if word == "none" => {
                return wrong.push("an event in the audit log".to_owned());
            }
            (Some(event), _) => event,
        };
        if let Some(secret) = gate.leaked_in(event.to_string().as_bytes()) {
            wrong.push(format!("the event shows the secret `{secret}`"));
        }
        let refused = expect.reason.is_some();
        let mut expected = serde_json::Map::from_iter([
            ("type".to_owned(), Json::from("access")),
            ("http_status".to_owned(), Json::from(self.status)),
            ("method".to_owned(), Json::from(case.request.method())),
            ("status".to_owned(), Json::from(if refused { "denied" } else { "success" })),
            ("input_hash".to_owned(), Json::from(hash_pattern(gate, "inputs", &self.sent))),
            ("output_hash".to_owned(), Json::from(hash_pattern(gate, "outputs", &self.body))),
        ]);
        // What is refused is not always read to its end, and what is not sent has no digest.
        if refused || self.sent.is_empty() {
            expected.remove("input_hash");
        }
        // Our own answer is no output of a model, and an empty one has no digest.
        if refused || self.body.is_empty() {
            expected.insert("output_hash".to_owned(), Json::Null);
        }
        expected.extend(
            expect
                .audit
                .iter()
                .filter_map(Json::as_object)
                .flatten()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        check_json(&Json::Object(expected), Some(event), "event", wrong);
        if let Some(public) = &expect.reason {
            let inner = event.get("reason").and_then(Json::as_str).unwrap_or_default();
            let known = Reason::ALL.iter().any(|reason| {
                let answer = reason.answer();
                answer.public == public && answer.inner == inner
            });
            if !known {
                wrong.push(format!("the event's reason `{inner}` is not one of `{public}`"));
            }
        } else if event.get("reason").is_some()
            && expect.audit.as_ref().is_none_or(|audit| audit.get("reason").is_none())
        {
            wrong.push(format!("the event has the reason {}", event["reason"]));
        }
        if let Some(because) = &expect.because {
            let decided: Vec<&str> = event
                .get("policies")
                .and_then(Json::as_array)
                .into_iter()
                .flatten()
                .filter_map(Json::as_str)
                .collect();
            let mut because: Vec<&str> = because.iter().map(String::as_str).collect();
            because.sort_unstable();
            if decided != because {
                wrong.push(format!("{decided:?} decided instead of {because:?}"));
            }
        }
    }
}

/// What the digest of a body looks like under the gate's configuration.
fn hash_pattern(gate: &Gate, direction: &str, body: &[u8]) -> Option<String> {
    let digest = gate.document.pointer("/audit/digest");
    if digest.and_then(|digest| digest.get(direction)) == Some(&Json::Bool(false)) {
        return None;
    }
    match digest.and_then(|digest| digest.pointer("/keys/0/id")).and_then(Json::as_str) {
        Some(id) => Some(format!("hmac-sha256:{id}:*")),
        None => Some(format!("sha256:{}", hex(&Sha256::digest(body)))),
    }
}

fn check_fields(
    expected: &BTreeMap<String, Json>,
    fields: &[(String, Vec<u8>)],
    what: &str,
    wrong: &mut Vec<String>,
) {
    for (name, pattern) in expected {
        let found = values(fields, name);
        let shown: Vec<_> = found.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        let right = match (pattern, shown.as_slice()) {
            (Json::Null, found) => found.is_empty(),
            (Json::Array(list), found) => {
                list.iter().filter_map(Json::as_str).eq(found.iter().map(String::as_str))
            }
            (pattern, [value]) => matches(pattern, &Json::from(value.as_str())),
            _ => false,
        };
        if !right {
            wrong.push(format!("{what} `{name}` is {shown:?} instead of {pattern}"));
        }
    }
}

/// A subset of objects; everything else by [`matches()`].
fn check_json(expected: &Json, found: Option<&Json>, place: &str, wrong: &mut Vec<String>) {
    match (expected, found) {
        (Json::Object(fields), Some(Json::Object(_))) => {
            for (name, value) in fields {
                check_json(value, found.and_then(|found| found.get(name)), &format!("{place}.{name}"), wrong);
            }
        }
        (Json::Null, None) => {}
        (expected, Some(found)) if matches(expected, found) => {}
        (expected, found) => {
            let found = found.map_or_else(|| "absent".to_owned(), Json::to_string);
            wrong.push(format!("{place} is {found} instead of {expected}"));
        }
    }
}

fn matches(pattern: &Json, value: &Json) -> bool {
    let Json::String(pattern) = pattern else { return pattern == value };
    if pattern == "*" {
        return true;
    }
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if let Some((low, high)) = pattern.split_once("..")
        && let (Ok(low), Ok(high)) = (low.parse::<u64>(), high.parse::<u64>())
    {
        return text.parse().is_ok_and(|number: u64| (low..=high).contains(&number));
    }
    match pattern.strip_suffix('*') {
        Some(prefix) => text.starts_with(prefix),
        None => value.as_str() == Some(pattern) || (!value.is_string() && text == *pattern),
    }
}

fn values<'a>(fields: &'a [(String, Vec<u8>)], name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_slice()).collect()
}

fn text(fields: &[(String, Vec<u8>)], name: &str) -> Option<String> {
    values(fields, name).first().map(|value| String::from_utf8_lossy(value).into_owned())
}
