//! What a case file says of its tokens becomes signed ones: each issuer that the gate knows by a local JWK Set gets one
//! more key, an Ed25519 one since every runner can make and check those, whose private half is made of the gate's seed.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use crate::config::values;
use crate::time::UnixTime;

/// A token as a case file describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// Whose it is: the name of a provider.
    pub provider: String,
    /// Beside `iss`, `aud`, `iat` and `exp`, which they override; `null` takes one out.
    pub claims: Map<String, Json>,
    /// From `iat` to `exp`.
    #[serde(default = "TokenSpec::default_lifetime")]
    pub lifetime: String,
}

/// One issuer of a gate.
#[derive(Clone)]
pub(super) struct Issuer {
    /// Name of the provider.
    pub(super) name: String,
    issuer: Json,
    audiences: Json,
    key: SigningKey,
}

/// How tokens name the key of a gate's own.
const KEY_ID: &str = "of-this-gate";

/// What it signs with.
const ALGORITHM: &str = "EdDSA";

// === impl TokenSpec ===

impl TokenSpec {
    fn default_lifetime() -> String {
        "5m".to_owned()
    }

    fn lifetime(&self) -> Result<Duration, String> {
        values::duration(&self.lifetime).ok_or_else(|| format!("`{}` is not a lifetime", self.lifetime))
    }
}

// === impl Issuer ===

impl Issuer {
    /// Adds a key and its algorithm to a provider. `None`: it has no JWK Set.
    pub(super) fn join(provider: &mut Json, secret: [u8; 32]) -> Option<Self> {
        let key = SigningKey::from_bytes(&secret);
        let keys = provider.pointer_mut("/local_jwks/keys")?.as_array_mut()?;
        let x = URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes());
        keys.push(json!({ "kty": "OKP", "crv": "Ed25519", "kid": KEY_ID, "x": x }));
        let algorithms = provider.get_mut("algorithms")?.as_array_mut()?;
        if !algorithms.iter().any(|algorithm| algorithm == ALGORITHM) {
            algorithms.push(ALGORITHM.into());
        }
        let word = |name: &str| provider.get(name).cloned().unwrap_or_default();
        let name = word("name").as_str().unwrap_or_default().to_owned();
        Some(Self { name, issuer: word("issuer"), audiences: word("audiences"), key })
    }

    /// A token that is issued `now`.
    pub(super) fn sign(&self, spec: &TokenSpec, now: UnixTime) -> Result<String, String> {
        let seconds = |time: UnixTime| Json::from(time.millis().div_euclid(1000));
        let mut claims = Map::from_iter([
            ("iss".to_owned(), self.issuer.clone()),
            ("aud".to_owned(), self.audiences.clone()),
            ("iat".to_owned(), seconds(now)),
            ("exp".to_owned(), seconds(now.plus(spec.lifetime()?))),
        ]);
        claims.extend(spec.claims.clone());
        claims.retain(|_, value| !value.is_null());
        let header = json!({ "alg": ALGORITHM, "typ": "at+jwt", "kid": KEY_ID }).to_string();
        let claims = Json::Object(claims).to_string();
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        Ok(signed(&text, &self.key))
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The same header and claims, signed by somebody else.
pub(super) fn forged(token: &str, secret: [u8; 32]) -> String {
    let text = token.rsplit_once('.').map_or(token, |(text, _)| text);
    signed(text, &SigningKey::from_bytes(&secret))
}

/// The same claims under a header that says `alg: none` (RFC 8725 §2.1), and no signature.
pub(super) fn unsigned(token: &str) -> String {
    let claims = token.split('.').nth(1).unwrap_or_default();
    let header = json!({ "alg": "none", "typ": "at+jwt", "kid": KEY_ID }).to_string();
    format!("{}.{claims}.", URL_SAFE_NO_PAD.encode(header))
}

fn signed(text: &str, key: &SigningKey) -> String {
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes()).to_bytes()))
}
