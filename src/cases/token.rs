//! Tokens for cases, signed with a secret of the gate that runs them. They have no times but `exp`, in 2100 or in 2001,
//! so that they mean the same whatever the runner's clock says.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value as Json, json};
use sha2::Sha256;

/// What is asked for: `<provider>.<subject>`, perhaps followed by `.` and claims like `plan=pro,roles=a+b+`; a value
/// with a `+` is a list.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    provider: &'a Json,
    secret: &'a str,
    key: &'a str,
    claims: Map<String, Json>,
}

const IN_2100: u64 = 4_102_444_800;
const IN_2001: u64 = 1_000_000_000;

// === impl Wanted ===

impl<'a> Wanted<'a> {
    /// Finds the provider and its first shared secret; `None` where there is none.
    pub(super) fn read(
        text: &str,
        document: &'a Json,
        environment: &'a BTreeMap<String, String>,
    ) -> Option<Self> {
        let mut words = text.splitn(3, '.');
        let name = words.next()?;
        let providers = document.pointer("/authentication/jwt/providers")?.as_array()?;
        let provider = providers.iter().find(|one| one.get("name").is_some_and(|known| known == name))?;
        let secret = provider.pointer("/hmac_secrets/0/env")?.as_str()?;
        let mut claims = Map::new();
        claims.insert(String::from("sub"), json!(words.next()?));
        for claim in words.next().into_iter().flat_map(|claims| claims.split(',')) {
            let (name, value) = claim.split_once('=')?;
            let value = match value.contains('+') {
                true => value.split('+').filter(|word| !word.is_empty()).collect(),
                false => json!(value),
            };
            claims.insert(name.to_owned(), value);
        }
        let key = provider.pointer("/hmac_secrets/0/id")?.as_str()?;
        Some(Self { provider, secret: environment.get(secret)?, key, claims })
    }

    /// A token that is right.
    pub(super) fn right(&self) -> String {
        self.sign(IN_2100, self.secret)
    }

    /// One that was right once.
    pub(super) fn expired(&self) -> String {
        self.sign(IN_2001, self.secret)
    }

    /// One that somebody else signed.
    pub(super) fn forged(&self) -> String {
        self.sign(IN_2100, "a secret that no provider of any gate has")
    }

    fn sign(&self, expires: u64, secret: &str) -> String {
        let mut claims = self.claims.clone();
        let of = |word: &str| self.provider.get(word).cloned().unwrap_or_default();
        for (name, value) in [("iss", of("issuer")), ("aud", of("audiences")), ("exp", json!(expires))] {
            claims.entry(name).or_insert(value);
        }
        let part = |json: &Json| URL_SAFE_NO_PAD.encode(json.to_string());
        let header = json!({ "alg": "HS256", "typ": "at+jwt", "kid": self.key });
        let text = format!("{}.{}", part(&header), part(&Json::Object(claims)));
        // INVARIANT: HMAC takes keys of any length (RFC 2104 §2), so that the other branch is never taken
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
            .unwrap_or_else(|_| Hmac::new(&Default::default()))
            .chain_update(&text);
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }
}
