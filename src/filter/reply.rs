//! A refusal becomes the answer the caller reads: a problem document (RFC 9457) or a gRPC status.

use std::time::Duration;

use serde_json::json;

use crate::filter::refusal::{Reason, Refusal};
use crate::filter::step::LocalReply;
use crate::limits::{Quota, ceil_seconds};

/// Where a caller finds its decision again.
pub const DECISION_ID: &str = "x-mlgate-decision-id";

/// What shapes an answer beside its reason.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The id of this decision.
    pub decision_id: &'a str,
    /// Whether the caller reads gRPC statuses.
    pub grpc: bool,
    /// Status of `credential_invalid`: 401 or 403.
    pub invalid_credential_status: u16,
    /// The gate's name, the realm of the challenge.
    pub realm: &'a str,
}

/// When to come back after a refusal that says nothing about the caller.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(1);

/// Makes the answer.
pub fn reply(refusal: Refusal, quota: Option<&Quota>, caller: Caller<'_>) -> LocalReply {
    let answer = refusal.reason.answer();
    let (status, grpc_status) = match (refusal.reason, caller.invalid_credential_status) {
        (Reason::CredentialInvalid, 403) => (403, 7),
        _ => (answer.status, answer.grpc_status),
    };
    let mut headers = Vec::with_capacity(8);
    if status == 401 {
        headers.push((String::from("www-authenticate"), challenge(refusal.reason, caller.realm)));
    }
    let retry_after = refusal.retry_after.or((status == 503).then_some(UNAVAILABLE_RETRY));
    if let Some(after) = retry_after {
        headers.push((String::from("retry-after"), ceil_seconds(after).to_string()));
    }
    headers.extend(quota.map(quota_headers).into_iter().flatten());
    let body = if caller.grpc {
        format!("{}: {} ({})", answer.public, answer.title, caller.decision_id).into_bytes()
    } else {
        headers.push((String::from("content-type"), String::from("application/problem+json")));
        let problem = json!({
            "title": answer.title,
            "status": status,
            "reason": answer.public,
            "decision_id": caller.decision_id,
        });
        problem.to_string().into_bytes()
    };
    headers.push((String::from("cache-control"), String::from("no-store")));
    LocalReply { status, grpc_status, headers, body, details: answer.inner }
}

/// The rate nearest refusal, in the fields of draft-polli-ratelimit-headers-03.
pub fn quota_headers(quota: &Quota) -> [(String, String); 3] {
    [
        (String::from("x-ratelimit-limit"), quota.limit.to_string()),
        (String::from("x-ratelimit-remaining"), quota.remaining.to_string()),
        (String::from("x-ratelimit-reset"), ceil_seconds(quota.reset).to_string()),
    ]
}

/// RFC 6750 §3. A key is sent as a bearer credential too, so there is one challenge.
fn challenge(reason: Reason, realm: &str) -> String {
    match reason {
        Reason::CredentialMissing => format!("Bearer realm=\"{realm}\""),
        _ => format!("Bearer realm=\"{realm}\", error=\"invalid_token\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(grpc: bool) -> Caller<'static> {
        Caller { decision_id: "00ff", grpc, invalid_credential_status: 401, realm: "gate" }
    }

    fn header<'a>(reply: &'a LocalReply, name: &str) -> Option<&'a str> {
        reply.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn the_caller_reads_a_problem_and_no_inner_word() {
        let refusal = Refusal { reason: Reason::ExplicitDeny, retry_after: None };
        let reply = reply(refusal, None, caller(false));
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body["reason"], "access_denied");
        assert_eq!(body["decision_id"], "00ff");
        assert!(!String::from_utf8(reply.body.clone()).unwrap().contains("explicit_deny"));
        assert_eq!((reply.status, reply.grpc_status, reply.details), (403, 7, "explicit_deny"));
    }

    #[test]
    fn a_wait_is_rounded_up() {
        let refusal = Refusal { reason: Reason::RateLimited, retry_after: Some(Duration::from_millis(1001)) };
        let quota = Quota { limit: 5, remaining: 0, reset: Duration::from_millis(1) };
        let reply = reply(refusal, Some(&quota), caller(false));
        assert_eq!(header(&reply, "retry-after"), Some("2"));
        assert_eq!(header(&reply, "x-ratelimit-reset"), Some("1"));
    }

    #[test]
    fn a_challenge_goes_with_every_401() {
        for reason in Reason::ALL {
            let reply = reply(Refusal { reason, retry_after: None }, None, caller(false));
            assert_eq!(header(&reply, "www-authenticate").is_some(), reply.status == 401, "{reason:?}");
            assert_eq!(header(&reply, "retry-after").is_some(), reply.status == 503, "{reason:?}");
        }
    }

    #[test]
    fn a_wrong_credential_can_be_answered_with_403() {
        let refusal = Refusal { reason: Reason::CredentialInvalid, retry_after: None };
        let reply = reply(refusal, None, Caller { invalid_credential_status: 403, ..caller(false) });
        assert_eq!((reply.status, reply.grpc_status), (403, 7));
    }

    #[test]
    fn a_grpc_caller_gets_a_message() {
        let reply = reply(Refusal { reason: Reason::NoMatch, retry_after: None }, None, caller(true));
        assert_eq!(reply.body, b"access_denied: This caller may not do this (00ff)");
        assert_eq!(header(&reply, "content-type"), None);
    }
}
