//! What crosses between the caller and the upstream besides the request itself: the identity on the way in, nothing
//! of ours on the way out, and how it ended.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::audit::event::Status;
use crate::filter::refusal::Reason;
use crate::filter::step::{RequestEdits, ResponseEdits};
use crate::filter::transaction::EndFacts;
use crate::http::RequestHead;
use crate::http::pairs::{self, Pairs};
use crate::identity::Identity;
use crate::policy::attributes::Value;

/// Headers of this prefix are ours in both directions.
pub const PREFIX: &str = "x-mlgate-";

/// What stays readable in an identity header: unreserved characters (RFC 3986 §2.3), `:`, `/` and `@`.
const READABLE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':')
    .remove(b'/')
    .remove(b'@');

/// Envoy's response flag for a caller that went away (`DC`), and for a stream that it cut itself.
const DOWNSTREAM_GONE: u64 = 0x4000;

/// gRPC statuses that mean the upstream failed: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE.
const GRPC_FAILURES: [u32; 4] = [2, 4, 13, 14];

/// Response flags that mean the upstream failed: local reset, connection failure, remote reset, connection
/// termination, timeout, retry limit, protocol error, duration timeout.
const UPSTREAM_FAILURES: u64 = 0x4 | 0x10 | 0x20 | 0x40 | 0x80 | 0x8000 | 0x40_0000 | 0x80_0000;

/// Tells the upstream who is calling, and removes what a client sent under our names, also spelt with `_`.
pub(super) fn introduce(head: &RequestHead, identity: &Identity, edits: &mut RequestEdits) {
    for (name, _) in head.headers.iter() {
        if is_ours(name) && !edits.remove.iter().any(|known| known == name) {
            edits.remove.push(name.to_owned());
        }
    }
    let mut set = |name: &str, value: Cow<'_, str>| {
        edits.set.push((name.to_owned(), value.into_owned().into_bytes()));
    };
    set("x-mlgate-principal", readable(&identity.principal));
    if let Some(Value::Text(org)) = identity.attributes.get("org") {
        set("x-mlgate-org", readable(org));
    }
    if !identity.roles.is_empty() {
        let roles: Vec<_> = identity.roles.iter().map(|role| readable(role)).collect();
        set("x-mlgate-roles", roles.join(",").into());
    }
    set("x-mlgate-tier", readable(&identity.tier));
}

/// Removes what a client sent under names that only policies may give, also spelt with `_`.
pub(super) fn take_off(head: &RequestHead, names: &[String], edits: &mut RequestEdits) {
    let dashed = |name: &str| name.replace('_', "-");
    for (sent, _) in head.headers.iter().filter(|_| !names.is_empty()) {
        if names.iter().any(|name| dashed(name) == dashed(sent)) {
            edits.remove.push(sent.to_owned());
        }
    }
}

/// Removes what somebody sent under our names, in headers or trailers.
pub fn strip(block: &[u8]) -> ResponseEdits {
    let mut edits = ResponseEdits::default();
    for (name, _) in Pairs::read(block).into_iter().flatten() {
        if let Ok(name) = std::str::from_utf8(name)
            && is_ours(name)
        {
            edits.remove.push(name.to_owned());
        }
    }
    edits
}

/// Whether a response's head is that of a redirect or an error.
pub(super) fn gives_nothing(block: &[u8]) -> bool {
    pairs::status(block).is_some_and(|status| status >= 300)
}

/// Bytes of body after a response's head, where the head tells: none in an answer to HEAD, a 204 or a 304, else as
/// many as `content-length` says (RFC 9110 §6.4.1, §8.6).
pub(super) fn length(block: &[u8], method: Option<&str>) -> Option<u64> {
    if method == Some("HEAD") || matches!(pairs::status(block), Some(204 | 304)) {
        return Some(0);
    }
    let (_, length) =
        Pairs::read(block).into_iter().flatten().find(|(name, _)| *name == b"content-length")?;
    std::str::from_utf8(length).ok()?.parse().ok()
}

/// How a forwarded request ended. A caller that has the whole answer to its whole request has not left, even where it
/// closed before the upstream's stream did.
pub(super) fn status(end: &EndFacts, whole: bool) -> Status {
    let grpc_failed = end.grpc_status.is_some_and(|status| GRPC_FAILURES.contains(&status));
    if end.flags & DOWNSTREAM_GONE != 0 && !whole || end.http_status.is_none() {
        Status::Aborted
    } else if grpc_failed
        || end.http_status.is_some_and(|status| status >= 500)
        || end.flags & UPSTREAM_FAILURES != 0
    {
        Status::Error
    } else {
        Status::Success
    }
}

/// How a request ended that was still waiting: the caller left, or the proxy's own bound was met before ours.
pub(super) fn ended_waiting(end: &EndFacts) -> (Status, Option<Reason>) {
    match end.http_status {
        Some(413) => (Status::Denied, Some(Reason::BodyTooLarge)),
        Some(408) => (Status::Denied, Some(Reason::BodyTimeout)),
        // nothing of the body had gone on: the proxy found no upstream, or that one failed on the headers
        Some(500..) => (Status::Error, None),
        _ => (Status::Aborted, None),
    }
}

fn is_ours(name: &str) -> bool {
    let mut spelt = name.bytes().map(|byte| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() });
    PREFIX.bytes().all(|expected| spelt.next() == Some(expected))
}

fn readable(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, READABLE).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Headers;

    #[test]
    fn a_client_cannot_say_who_it_is() {
        let spoofed = ["x-mlgate-principal", "x_mlgate_principal", "x-mlgate_org", "X-MLGATE-Tier"];
        let head = RequestHead {
            headers: Headers::new(
                spoofed.iter().map(|name| ((*name).to_owned(), b"admin".to_vec())).collect(),
            ),
            ..RequestHead::default()
        };
        let mut edits = RequestEdits::default();
        introduce(&head, &Identity::anonymous(), &mut edits);
        assert_eq!(edits.remove, spoofed);
        assert!(edits.set.contains(&(String::from("x-mlgate-principal"), b"anonymous".to_vec())));
    }

    #[test]
    fn an_identity_cannot_split_a_header() {
        let identity = Identity { principal: String::from("a\r\nx: 1,é"), ..Identity::anonymous() };
        let mut edits = RequestEdits::default();
        introduce(&RequestHead::default(), &identity, &mut edits);
        assert_eq!(
            edits.set.first().map(|(_, value)| value.as_slice()),
            Some(&b"a%0D%0Ax:%201%2C%C3%A9"[..])
        );
    }

    #[test]
    fn endings_have_names() {
        let end =
            |http_status, grpc_status, flags| status(&EndFacts { http_status, grpc_status, flags }, false);
        assert_eq!(end(Some(200), None, 0), Status::Success);
        assert_eq!(end(Some(404), None, 0), Status::Success);
        assert_eq!(end(Some(503), None, 0), Status::Error);
        assert_eq!(end(Some(200), Some(14), 0), Status::Error);
        assert_eq!(end(Some(200), Some(7), 0), Status::Success);
        assert_eq!(end(Some(200), None, 0x80_0000), Status::Error);
        assert_eq!(end(Some(200), None, 0x4000), Status::Aborted);
        assert_eq!(end(None, None, 0), Status::Aborted);
    }

    #[test]
    fn who_has_the_whole_answer_has_not_left() {
        let end = |http_status, flags| status(&EndFacts { http_status, grpc_status: None, flags }, true);
        assert_eq!(end(Some(204), 0x4000), Status::Success);
        assert_eq!(end(Some(503), 0x4000), Status::Error);
        assert_eq!(end(None, 0x4000), Status::Aborted);
        let length = |status, length: Option<&str>, method| {
            let length = length.map(|length| ("content-length", length));
            super::length(
                &Pairs::write(&[(":status", status)].into_iter().chain(length).collect::<Vec<_>>()),
                Some(method),
            )
        };
        assert_eq!(length("204", None, "POST"), Some(0));
        assert_eq!(length("304", Some("9"), "GET"), Some(0));
        assert_eq!(length("200", Some("9"), "HEAD"), Some(0));
        assert_eq!(length("200", Some("9"), "GET"), Some(9));
        for unclear in [None, Some("nine"), Some("-1"), Some("9, 9")] {
            assert_eq!(length("200", unclear, "GET"), None);
        }
    }
}
