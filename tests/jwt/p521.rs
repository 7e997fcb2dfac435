//! Tokens of ES512, which the signer of the other tests does not know.

#![expect(clippy::unwrap_used, reason = "a token that cannot be made should stop the test")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p521::ecdsa::signature::Signer as _;
use p521::ecdsa::{Signature, SigningKey};
use serde_json::{Value as Json, json};

/// The key of RFC 7515 appendix A.4.
const SCALAR: &str =
    "AY5pb7A0UFiB3RELSD64fTLOSV_jazdF7fLYyuTw8lOfRhWg6Y6rUrPAxerEzgdRhajnu0ferB0d53vM9mE15j2C";

/// Its public half.
pub(crate) fn jwk() -> Json {
    json!({
        "kty": "EC", "crv": "P-521", "kid": "p521",
        "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
        "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
    })
}

/// A token as an issuer makes it.
pub(crate) fn token(claims: &Json) -> String {
    let header = json!({ "alg": "ES512", "typ": "at+jwt", "kid": "p521" });
    let text = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let key = SigningKey::from_slice(&URL_SAFE_NO_PAD.decode(SCALAR).unwrap()).unwrap();
    let signature: Signature = key.sign(text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}
