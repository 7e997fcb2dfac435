//! SPIFFE IDs (SPIFFE-ID §2): a URI SAN becomes a trust domain and a path, or is none.
//!
//! The rules are the specification's and nothing is normalised: one workload has one spelling.

/// A well-formed SPIFFE ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpiffeId<'a> {
    /// Who vouches for the workload.
    pub trust_domain: &'a str,
    /// From the first slash on; empty for the trust domain itself, which is no workload.
    pub path: &'a str,
}

/// Text that is not a SPIFFE ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSpiffeId;

/// The longest SPIFFE ID, in bytes (SPIFFE-ID §2.3).
pub const MAX_LENGTH: usize = 2048;

/// The longest trust domain, in bytes (SPIFFE-ID §2.1).
pub const MAX_TRUST_DOMAIN: usize = 255;

const SCHEME: &str = "spiffe://";

/// Whether a URI means to be a SPIFFE ID: then it must be one.
pub fn is_claimed(uri: &str) -> bool {
    uri.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("spiffe"))
}

/// Whether a text can be a trust domain (SPIFFE-ID §2.1): lower-case letters, digits, `.`, `-` and `_`. No port, no user.
pub fn is_trust_domain(text: &str) -> bool {
    (1..=MAX_TRUST_DOMAIN).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_'))
}

// === impl SpiffeId ===

impl<'a> SpiffeId<'a> {
    /// Reads a URI.
    ///
    /// # Errors
    /// It breaks any rule of SPIFFE-ID §2.
    pub fn parse(uri: &'a str) -> Result<Self, InvalidSpiffeId> {
        if uri.len() > MAX_LENGTH {
            return Err(InvalidSpiffeId);
        }
        let rest = uri.strip_prefix(SCHEME).ok_or(InvalidSpiffeId)?;
        let (trust_domain, path) = match rest.find('/') {
            Some(slash) => rest.split_at_checked(slash).ok_or(InvalidSpiffeId)?,
            None => (rest, ""),
        };
        let mut segments = path.split('/').skip(1);
        if is_trust_domain(trust_domain) && segments.all(is_segment) {
            Ok(Self { trust_domain, path })
        } else {
            Err(InvalidSpiffeId)
        }
    }
}

/// A segment of a path (SPIFFE-ID §2.2): no empty one, so no trailing slash either; no escapes, no dot segments.
fn is_segment(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..")
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_trust_domain_and_a_path() {
        let domain = "a".repeat(MAX_TRUST_DOMAIN);
        let longest = format!("spiffe://{domain}/p");
        let path = format!("/{}", "p".repeat(MAX_LENGTH - "spiffe://d/".len()));
        let full = format!("spiffe://d{path}");
        for (uri, trust_domain, path) in [
            ("spiffe://acme.example/ns/batch/sa/worker", "acme.example", "/ns/batch/sa/worker"),
            ("spiffe://acme.example", "acme.example", ""),
            ("spiffe://a_b-1.example/A.b_C-1", "a_b-1.example", "/A.b_C-1"),
            ("spiffe://d/...", "d", "/..."),
            (&longest, &domain, "/p"),
            (&full, "d", &path),
        ] {
            assert_eq!(SpiffeId::parse(uri), Ok(SpiffeId { trust_domain, path }), "{uri}");
        }
    }

    #[test]
    fn whatever_breaks_a_rule_is_none() {
        let long_domain = format!("spiffe://{}/p", "a".repeat(MAX_TRUST_DOMAIN + 1));
        let long = format!("spiffe://d/{}", "p".repeat(MAX_LENGTH - "spiffe://d/".len() + 1));
        for uri in [
            "",
            "acme.example/p",
            "https://acme.example/p",
            "SPIFFE://acme.example/p",
            "spiffe:acme.example/p",
            "spiffe:/acme.example/p",
            "spiffe:///p",
            "spiffe://",
            "spiffe://Acme.example/p",
            "spiffe://user@acme.example/p",
            "spiffe://acme.example:443/p",
            "spiffe://acme%2eexample/p",
            "spiffe://äcme.example/p",
            "spiffe://acme.example/",
            "spiffe://acme.example/p/",
            "spiffe://acme.example//p",
            "spiffe://acme.example/./p",
            "spiffe://acme.example/a/../p",
            "spiffe://acme.example/p%41",
            "spiffe://acme.example/p q",
            "spiffe://acme.example/p?q",
            "spiffe://acme.example/p#f",
            "spiffe://acme.example?q",
            "spiffe://acme.example/p\0",
            "spiffe://acme.example/é",
            &long_domain,
            &long,
        ] {
            assert_eq!(SpiffeId::parse(uri), Err(InvalidSpiffeId), "{uri}");
        }
    }

    #[test]
    fn what_means_to_be_one_is_known_in_any_case() {
        for (uri, claimed) in
            [("spiffe://a/b", true), ("SPIFFE:b", true), ("spiffe", false), ("https://a/spiffe:", false)]
        {
            assert_eq!(is_claimed(uri), claimed, "{uri}");
        }
    }
}
