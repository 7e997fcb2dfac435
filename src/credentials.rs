//! What a request presents: a head becomes [`Credentials`] that nobody has verified yet, and the edits that keep them
//! from the upstream.

use crate::filter::step::RequestEdits;
use crate::http::{PeerCertificate, RequestHead};
use crate::identity::spec::ApiKeyAuthSpec;

/// One thing presented. Its type says that it is only an allegation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// What was found where API keys are read.
    ApiKey(UnverifiedKey),
    /// A bearer token that is no API key (RFC 6750 §2.1).
    Token(UnverifiedToken),
    /// The connection's certificate.
    Certificate(PeerCertificate),
}

/// Bytes that may be an API key. Not printable on purpose.
#[derive(Clone, PartialEq, Eq)]
pub struct UnverifiedKey(pub Vec<u8>);

/// Bytes that may be a token. Not printable on purpose.
#[derive(Clone, PartialEq, Eq)]
pub struct UnverifiedToken(pub Vec<u8>);

/// Where API keys are read and whether they stay on the request.
#[derive(Clone, Debug, Default)]
pub struct Extraction {
    headers: Vec<String>,
    params: Vec<String>,
    cookies: Vec<String>,
    forward: bool,
}

/// What besides keys is taken off a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hidden {
    /// Bearer tokens that have the three parts of a JWT.
    pub tokens: bool,
    /// Other bearer tokens. Where no issuer is asked about them they may be meant for the upstream.
    pub opaque: bool,
}

/// `Authorization` is read as a header of its own kind: a scheme before the credential.
pub const AUTHORIZATION: &str = "authorization";

/// How API keys begin.
pub const KEY_PREFIX: &[u8] = b"mlg_";

const COOKIE: &str = "cookie";

/// No more credentials than this are looked at in one request; one more is refused as a wrong one.
pub const MAX_CREDENTIALS: usize = 16;

/// Finds everything that is presented, in the order of the configuration.
pub fn find(head: &RequestHead, extraction: &Extraction) -> Vec<Credentials> {
    let mut found = Vec::new();
    for name in &extraction.headers {
        for value in head.headers.all(name) {
            match (name == AUTHORIZATION, bearer(value)) {
                (true, Some(key)) if key.starts_with(KEY_PREFIX) => found.push(key_of(key)),
                (true, _) => {}
                (false, _) if value.is_empty() => {}
                (false, _) => found.push(key_of(value)),
            }
        }
    }
    for param in &extraction.params {
        found.extend(
            params(head).filter(|(name, _)| name == param).map(|(_, value)| key_of(value.as_bytes())),
        );
    }
    for cookie in &extraction.cookies {
        for (_, value) in cookies(head).filter(|(name, _)| *name == cookie.as_bytes()) {
            found.push(key_of(value));
        }
    }
    for token in head.headers.all(AUTHORIZATION).filter_map(bearer) {
        if !token.starts_with(KEY_PREFIX) {
            found.push(Credentials::Token(UnverifiedToken(token.to_vec())));
        }
    }
    if head.facts.peer.presented {
        found.push(Credentials::Certificate(head.facts.peer.clone()));
    }
    found.truncate(MAX_CREDENTIALS.saturating_add(1));
    found
}

/// Takes every place where keys are read off the request, whether or not this route asked for one, and tokens where
/// `hidden` says so.
pub fn hide(head: &RequestHead, extraction: &Extraction, hidden: Hidden, edits: &mut RequestEdits) {
    let hides = |token: &[u8]| {
        !token.starts_with(KEY_PREFIX) && if is_jwt(token) { hidden.tokens } else { hidden.opaque }
    };
    if head.headers.all(AUTHORIZATION).filter_map(bearer).any(hides) {
        edits.remove.push(AUTHORIZATION.to_owned());
    }
    if extraction.forward {
        return;
    }
    for name in &extraction.headers {
        let ours = |value: &[u8]| {
            name != AUTHORIZATION || bearer(value).is_some_and(|key| key.starts_with(KEY_PREFIX))
        };
        if head.headers.all(name).any(ours) {
            edits.remove.push(name.clone());
        }
    }
    if params(head).any(|(name, _)| extraction.params.iter().any(|param| param == name)) {
        let kept: Vec<&str> = head
            .query()
            .into_iter()
            .flat_map(|query| query.split('&'))
            .filter(|pair| !extraction.params.iter().any(|param| param == name_of(pair)))
            .collect();
        edits.path = Some(match kept.is_empty() {
            true => head.path().to_owned(),
            false => format!("{}?{}", head.path(), kept.join("&")),
        });
    }
    if cookies(head).any(|(name, _)| extraction.cookies.iter().any(|cookie| cookie.as_bytes() == name)) {
        let kept: Vec<Vec<u8>> = cookies(head)
            .filter(|(name, _)| !extraction.cookies.iter().any(|cookie| cookie.as_bytes() == *name))
            .map(|(name, value)| [name, b"=", value].concat())
            .collect();
        edits.remove.push(String::from(COOKIE));
        if !kept.is_empty() {
            edits.set.push((String::from(COOKIE), kept.join(&b"; "[..])));
        }
    }
}

// === impl Extraction ===

impl From<&ApiKeyAuthSpec> for Extraction {
    fn from(spec: &ApiKeyAuthSpec) -> Self {
        let from = &spec.extract_from;
        Self {
            headers: from.headers.iter().map(|name| name.to_ascii_lowercase()).collect(),
            params: from.params.clone(),
            cookies: from.cookies.clone(),
            forward: spec.forward,
        }
    }
}

impl Extraction {
    /// Headers that may occur once: all that carry credentials here or in general.
    pub fn single_headers(&self) -> Vec<String> {
        let mut names = self.headers.clone();
        for general in [AUTHORIZATION, "x-api-key", "content-length", "transfer-encoding", "host"] {
            if !names.iter().any(|name| name == general) {
                names.push(general.to_owned());
            }
        }
        names
    }
}

// === impl Credentials ===

impl std::fmt::Debug for UnverifiedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnverifiedKey(…)")
    }
}

impl std::fmt::Debug for UnverifiedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnverifiedToken(…)")
    }
}

fn key_of(bytes: &[u8]) -> Credentials {
    Credentials::ApiKey(UnverifiedKey(bytes.to_vec()))
}

/// The credential after `Bearer `, the scheme in any case (RFC 9110 §11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(6)?;
    let credential = rest.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer") && rest.first() == Some(&b' ') && !credential.is_empty())
        .then_some(credential)
}

/// Whether a bearer token has the three parts of a JWT (RFC 7515 §7.1).
pub fn is_jwt(token: &[u8]) -> bool {
    token.iter().filter(|byte| **byte == b'.').count() == 2
}

fn name_of(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(name, _)| name)
}

fn params(head: &RequestHead) -> impl Iterator<Item = (&str, &str)> {
    head.query().into_iter().flat_map(|query| query.split('&')).filter_map(|pair| pair.split_once('='))
}

/// Cookies as name and value (RFC 6265 §4.2.1); HTTP/2 may split the header.
fn cookies(head: &RequestHead) -> impl Iterator<Item = (&[u8], &[u8])> {
    head.headers.all(COOKIE).flat_map(|value| value.split(|byte| *byte == b';')).filter_map(|pair| {
        let pair = pair.trim_ascii();
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, rest) = pair.split_at_checked(equals)?;
        Some((name, rest.get(1..).unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Headers;

    fn head(target: &str, headers: &[(&str, &str)]) -> RequestHead {
        RequestHead {
            target: target.to_owned(),
            headers: Headers::new(
                headers.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec())).collect(),
            ),
            ..RequestHead::default()
        }
    }

    fn extraction(params: &[&str], cookies: &[&str]) -> Extraction {
        Extraction {
            params: params.iter().map(|p| (*p).to_owned()).collect(),
            cookies: cookies.iter().map(|c| (*c).to_owned()).collect(),
            ..Extraction::from(&ApiKeyAuthSpec::default())
        }
    }

    fn keys(found: &[Credentials]) -> Vec<String> {
        found
            .iter()
            .filter_map(|one| match one {
                Credentials::ApiKey(key) => Some(String::from_utf8_lossy(&key.0).into_owned()),
                Credentials::Token(_) | Credentials::Certificate(_) => None,
            })
            .collect()
    }

    #[test]
    fn a_key_is_found_where_people_put_it() {
        let wanted = extraction(&["key"], &["k"]);
        assert_eq!(keys(&find(&head("/", &[("x-api-key", "mlg_a")]), &wanted)), ["mlg_a"]);
        assert_eq!(keys(&find(&head("/", &[("authorization", "bEARER  mlg_a ")]), &wanted)), ["mlg_a"]);
        assert_eq!(keys(&find(&head("/?a=1&key=mlg_a", &[]), &wanted)), ["mlg_a"]);
        assert_eq!(keys(&find(&head("/", &[("cookie", "b=1; k=mlg_a")]), &wanted)), ["mlg_a"]);
    }

    #[test]
    fn another_scheme_is_not_a_key() {
        for value in ["Basic mlg_a", "mlg_a", "Bearer", "Bearer ", "Bearermlg_a"] {
            assert!(
                find(&head("/", &[("authorization", value)]), &extraction(&[], &[])).is_empty(),
                "{value}"
            );
        }
    }

    #[test]
    fn a_bearer_token_is_a_token() {
        let found = find(&head("/", &[("authorization", "Bearer a.b.c")]), &extraction(&[], &[]));
        assert!(matches!(found.as_slice(), [Credentials::Token(_)]));
    }

    #[test]
    fn what_was_presented_does_not_reach_the_upstream() {
        let wanted = extraction(&["key"], &["k"]);
        let mut edits = RequestEdits::default();
        let request = head(
            "/p?key=1&a=2",
            &[("x-api-key", "x"), ("authorization", "Bearer mlg_a"), ("cookie", "a=1; k=2")],
        );
        hide(&request, &wanted, Hidden::default(), &mut edits);
        assert_eq!(edits.remove, ["x-api-key", "authorization", "cookie"]);
        assert_eq!(edits.set, [(String::from("cookie"), b"a=1".to_vec())]);
        assert_eq!(edits.path.as_deref(), Some("/p?a=2"));
    }

    #[test]
    fn a_token_does_not_reach_the_upstream_unless_it_may() {
        for (credential, tokens, opaque, removed) in [
            ("a.b.c", true, false, true),
            ("a.b.c", false, false, false),
            ("a.b.c", false, true, false),
            ("sk-1", true, false, false),
            ("sk-1", false, true, true),
        ] {
            let request = head("/p", &[("authorization", &format!("Bearer {credential}"))]);
            let mut edits = RequestEdits::default();
            hide(&request, &extraction(&[], &[]), Hidden { tokens, opaque }, &mut edits);
            assert_eq!(edits.remove.contains(&AUTHORIZATION.to_owned()), removed, "{credential}");
        }
    }

    #[test]
    fn another_authorization_stays() {
        let mut edits = RequestEdits::default();
        let hidden = Hidden { tokens: true, opaque: true };
        hide(&head("/p", &[("authorization", "Basic a.b.c")]), &extraction(&[], &[]), hidden, &mut edits);
        assert_eq!(edits, RequestEdits::default());
    }
}
