//! Headers that the service wants added become those that may be: a service counts, it does not speak for the gate, the
//! connection or the caller's identity.

use std::collections::BTreeSet;

use crate::filter::step::valid_value;
use crate::limits::remote::answer::is_of_the_answer;
use crate::limits::remote::message::HeaderValue;

/// What is passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Names in lower case, each once, and values that cannot split a message.
    pub headers: Vec<(String, String)>,
    /// Whether something was left out that should have been passed on.
    pub dropped: bool,
}

/// Headers of one message that are passed on.
pub const MAX_HEADERS: usize = 16;

/// Bytes of their names and values.
pub const MAX_HEADER_BYTES: usize = 4096;

/// What belongs to one connection (RFC 9110 §7.6.1), frames a message, says what it is, or who may read it.
const NEVER: [&str; 20] = [
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
    "x-forwarded-for",
];

/// Prefixes of names that are ours, gRPC's or the proxy's own.
const NEVER_UNDER: [&str; 3] = ["x-mlgate-", "grpc-", "x-envoy-"];

/// Passes on what may be. Of a name that comes twice the first one counts; what the answer says anyway, `retry-after` and
/// `x-ratelimit-*`, is left to it.
pub(super) fn pass(wanted: &[HeaderValue]) -> Passed {
    let mut passed = Passed::default();
    let mut names = BTreeSet::new();
    let mut left = MAX_HEADER_BYTES;
    for header in wanted {
        let (Some(name), Some(value)) = header.texts() else {
            passed.dropped = true;
            continue;
        };
        if is_of_the_answer(&name) {
            continue;
        }
        match left.checked_sub(name.len().saturating_add(value.len())) {
            Some(rest)
                if may_pass(&name)
                    && valid_value(value.as_bytes())
                    && passed.headers.len() < MAX_HEADERS
                    && names.insert(name.clone()) =>
            {
                left = rest;
                passed.headers.push((name, value.to_owned()));
            }
            _ => passed.dropped = true,
        }
    }
    passed
}

fn may_pass(name: &str) -> bool {
    // `tchar`, RFC 9110 §5.6.2; pseudo headers begin with a colon, which is none
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let spelt = name.replace('_', "-");
    !name.is_empty()
        && name.bytes().all(token)
        && !NEVER.contains(&spelt.as_str())
        && !NEVER_UNDER.iter().any(|prefix| spelt.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(key: &str, value: &str) -> HeaderValue {
        HeaderValue { key: key.into(), value: value.into(), raw_value: Vec::new() }
    }

    #[test]
    fn what_says_something_of_a_limit_is_passed_on_in_lower_case() {
        let raw = HeaderValue { raw_value: b"b".to_vec(), ..header("X-Raw", "") };
        let passed = pass(&[header("RateLimit-Policy", "10;w=60"), raw, header("x-empty", "")]);
        let expected = [("ratelimit-policy", "10;w=60"), ("x-raw", "b"), ("x-empty", "")];
        assert_eq!(passed.headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(!passed.dropped);
    }

    #[test]
    fn nothing_that_is_not_its_to_say_is_passed_on() {
        let names = [
            "",
            ":path",
            ":status",
            "a b",
            "a:b",
            "é",
            "x\r\ny",
            "Host",
            "Content-Length",
            "transfer_encoding",
            "TE",
            "connection",
            "x-mlgate-principal",
            "X_Mlgate_Org",
            "grpc-status",
            "x-envoy-retry-on",
            "authorization",
            "Set-Cookie",
        ];
        for name in names {
            let passed = pass(&[header(name, "v")]);
            assert_eq!((passed.headers.len(), passed.dropped), (0, true), "{name}");
        }
        for value in ["a\r\nx: 1", "a\nb", "a\0b", "\x7f"] {
            assert!(pass(&[header("x-a", value)]).headers.is_empty(), "{value:?}");
        }
        let raw = HeaderValue { raw_value: vec![0xff], ..header("x-a", "") };
        let value = HeaderValue { value: vec![0xff], ..header("x-b", "") };
        let name = HeaderValue { key: vec![0xff], ..header("", "v") };
        let passed = pass(&[raw, value, name, header("x-c", "v")]);
        assert_eq!((passed.headers.len(), passed.dropped), (1, true));
    }

    #[test]
    fn each_name_is_passed_on_once_and_ours_not_at_all() {
        let passed = pass(&[
            header("x-a", "1"),
            header("X-A", "2"),
            header("x-ratelimit-limit", "5"),
            header("Retry-After", "5"),
        ]);
        assert_eq!(passed.headers, [(String::from("x-a"), String::from("1"))]);
        assert!(!pass(&[header("x-ratelimit-reset", "5")]).dropped, "the answer says it");
    }

    #[test]
    fn there_is_an_end_to_them() {
        let many: Vec<_> = (0..40).map(|number| header(&format!("x-{number}"), "v")).collect();
        assert_eq!(pass(&many).headers.len(), MAX_HEADERS);
        let long = header("x-long", &"v".repeat(MAX_HEADER_BYTES));
        let passed = pass(&[long, header("x-short", "v")]);
        assert_eq!((passed.headers.len(), passed.dropped), (1, true));
    }
}
