//! The same question answered without the proxy: RSA and ECDSA by RustCrypto, through `jsonwebtoken`.
//!
//! Natively this stands in for the host. In Wasm it takes more than a millisecond for each token, which is a lever for
//! whoever sends forged ones: it is compiled in and asked only on demand.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;

use super::{Algorithm, SignatureCheck};

/// Whether the signature is right.
pub fn verify(check: &SignatureCheck<'_>) -> bool {
    let inner = check.key.inner();
    // A key of the other family does not parse as one of this.
    let (key, algorithm) = match check.algorithm {
        Algorithm::Rs256 => (DecodingKey::from_rsa_der(inner), jsonwebtoken::Algorithm::RS256),
        Algorithm::Rs384 => (DecodingKey::from_rsa_der(inner), jsonwebtoken::Algorithm::RS384),
        Algorithm::Rs512 => (DecodingKey::from_rsa_der(inner), jsonwebtoken::Algorithm::RS512),
        Algorithm::Es256 => (DecodingKey::from_ec_der(inner), jsonwebtoken::Algorithm::ES256),
        Algorithm::Es384 => (DecodingKey::from_ec_der(inner), jsonwebtoken::Algorithm::ES384),
    };
    let signature = URL_SAFE_NO_PAD.encode(check.signature);
    jsonwebtoken::crypto::verify(&signature, check.text, &key, algorithm).unwrap_or(false)
}
