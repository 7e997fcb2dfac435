//! A gate's tokens with their cache and a host, and the tokens that it is given.

use std::cell::RefCell;
use std::rc::Rc;

use jsonwebtoken::Algorithm as Alg;
use mlgate::config::document::BoundsSpec;
use mlgate::config::faults::Faults;
use mlgate::host::fake::FakeHost;
use mlgate::identity::Identity;
use mlgate::identity::jwt::cache::Verified;
use mlgate::identity::jwt::{TokenError, Tokens};
use mlgate::identity::keyring::Keyrings;
use mlgate::identity::spec::{AuthenticationSpec, ConsumerSpec};
use mlgate::time::UnixTime;
use serde_json::{Value as Json, json};

use crate::tokens::{Pair, SECRET, ed25519, p256, p384, rsa, shared};

pub(crate) const NOW: i64 = 1_800_000_000;

/// A gate's tokens, its cache and its host.
pub(crate) struct Gate {
    pub(crate) tokens: Tokens,
    pub(crate) verified: RefCell<Verified>,
    pub(crate) host: FakeHost,
}

impl Gate {
    pub(crate) fn verify(&self, token: &str) -> Result<Rc<Identity>, TokenError> {
        self.tokens.verify(token.as_bytes(), &self.verified, &Keyrings::default(), &self.host)
    }

    pub(crate) fn at(&self, seconds: i64) -> &Self {
        self.host.unix_millis.set(seconds * 1000);
        self
    }
}

pub(crate) fn provider() -> Json {
    json!({
        "name": "corp",
        "issuer": "https://issuer.example",
        "audiences": ["model-gateway"],
        "algorithms": ["RS256", "RS384", "RS512", "ES256", "ES384", "EdDSA", "HS256"],
        "local_jwks": { "keys": [rsa().jwk, p256().jwk, p384().jwk, ed25519().jwk] },
        "hmac_secrets": [{ "id": "shared", "env": "SECRET" }],
    })
}

/// A provider with some words changed; `null` takes one out.
pub(crate) fn changed(words: &Json) -> Json {
    with(&provider(), words)
}

pub(crate) fn with(base: &Json, words: &Json) -> Json {
    let mut all = base.as_object().unwrap().clone();
    for (name, value) in words.as_object().unwrap() {
        if value.is_null() {
            all.remove(name);
        } else {
            all.insert(name.clone(), value.clone());
        }
    }
    Json::Object(all)
}

pub(crate) fn compiled(providers: &[Json], consumers: &Json) -> (Tokens, Vec<String>) {
    let authentication: AuthenticationSpec =
        serde_json::from_value(json!({ "jwt": { "providers": providers } })).unwrap();
    let consumers: Vec<ConsumerSpec> = serde_json::from_value(consumers.clone()).unwrap();
    let mut faults = Faults::default();
    let secret = |name: &str| match name {
        "SECRET" => Some(SECRET.to_owned()),
        "SHORT" => Some(String::from("0123456789abcdef0123456789abcde")),
        _ => None,
    };
    let tokens = Tokens::compile(
        &consumers,
        &authentication,
        &Rc::default(),
        &BoundsSpec::default(),
        &secret,
        &mut faults,
    );
    (tokens, faults.iter().map(|fault| fault.pointer.clone()).collect())
}

pub(crate) fn gate_of(providers: &[Json], consumers: &Json) -> Gate {
    let (tokens, faults) = compiled(providers, consumers);
    assert_eq!(faults, [""; 0]);
    let host = FakeHost::at(UnixTime::from_millis(NOW * 1000));
    Gate { tokens, verified: RefCell::new(Verified::new(100)), host }
}

pub(crate) fn gate() -> Gate {
    gate_of(&[provider()], &json!([]))
}

pub(crate) fn claims() -> Json {
    json!({
        "iss": "https://issuer.example", "aud": "model-gateway", "sub": "alice", "jti": "t-1",
        "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 300,
    })
}

pub(crate) fn header(words: &Json) -> String {
    with(&json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": "ed25519" }), words).to_string()
}

/// A token with a right signature, and a header and claims of which some are changed.
pub(crate) fn altered(in_header: &Json, in_claims: &Json) -> String {
    ed25519().sign(Alg::EdDSA, &header(in_header), &with(&claims(), in_claims).to_string())
}

pub(crate) fn refused(token: &str) -> TokenError {
    gate().verify(token).unwrap_err()
}

pub(crate) fn missing(claim: &str) -> TokenError {
    TokenError::ClaimMissing { claim: claim.to_owned() }
}

pub(crate) fn invalid(claim: &str) -> TokenError {
    TokenError::ClaimInvalid { claim: claim.to_owned() }
}

pub(crate) const ALL: [(Alg, fn() -> Pair); 7] = [
    (Alg::RS256, rsa),
    (Alg::RS384, rsa),
    (Alg::RS512, rsa),
    (Alg::ES256, p256),
    (Alg::ES384, p384),
    (Alg::EdDSA, ed25519),
    (Alg::HS256, shared),
];
