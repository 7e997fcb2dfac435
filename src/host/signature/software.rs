//! The same question answered without the proxy: RSA and ECDSA by RustCrypto.
//!
//! Natively this stands in for the host. In Wasm it takes more than a millisecond for each token, which is a lever for
//! whoever sends forged ones: it is compiled in and asked only on demand.

use p256::ecdsa::signature::Verifier as _;
use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::sha2::{Digest as _, Sha256, Sha384, Sha512};
use rsa::traits::{PublicKeyParts as _, SignatureScheme};
use rsa::{BigUint, Pss, RsaPublicKey};

use super::{Algorithm, SignatureCheck};

/// Bits of a modulus: as many as BoringSSL verifies.
const MAX_MODULUS: usize = 8192;

/// Whether the signature is right.
pub fn verify(check: &SignatureCheck<'_>) -> bool {
    let SignatureCheck { algorithm, key, text, signature } = *check;
    let point = key.inner();
    // A key of the other family does not parse as one of this.
    match algorithm {
        Algorithm::Rs256 => rsa(check, Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(text)),
        Algorithm::Rs384 => rsa(check, Pkcs1v15Sign::new::<Sha384>(), &Sha384::digest(text)),
        Algorithm::Rs512 => rsa(check, Pkcs1v15Sign::new::<Sha512>(), &Sha512::digest(text)),
        // the salt is as long as the hash (RFC 7518 §3.5)
        Algorithm::Ps256 => rsa(check, Pss::new::<Sha256>(), &Sha256::digest(text)),
        Algorithm::Ps384 => rsa(check, Pss::new::<Sha384>(), &Sha384::digest(text)),
        Algorithm::Ps512 => rsa(check, Pss::new::<Sha512>(), &Sha512::digest(text)),
        Algorithm::Es256 => p256::ecdsa::VerifyingKey::from_sec1_bytes(point)
            .and_then(|key| key.verify(text, &p256::ecdsa::Signature::from_slice(signature)?))
            .is_ok(),
        Algorithm::Es384 => p384::ecdsa::VerifyingKey::from_sec1_bytes(point)
            .and_then(|key| key.verify(text, &p384::ecdsa::Signature::from_slice(signature)?))
            .is_ok(),
        Algorithm::Es512 => p521::ecdsa::VerifyingKey::from_sec1_bytes(point)
            .and_then(|key| key.verify(text, &p521::ecdsa::Signature::from_slice(signature)?))
            .is_ok(),
    }
}

fn rsa(check: &SignatureCheck<'_>, scheme: impl SignatureScheme, hashed: &[u8]) -> bool {
    let Ok(numbers) = rsa::pkcs1::RsaPublicKey::try_from(check.key.inner()) else { return false };
    let [modulus, exponent] =
        [numbers.modulus, numbers.public_exponent].map(|number| BigUint::from_bytes_be(number.as_bytes()));
    let Ok(key) = RsaPublicKey::new_with_max_size(modulus, exponent, MAX_MODULUS) else { return false };
    // RFC 8017 §5.2.2: a number beyond the modulus is a second spelling of a signature, which PSS here would take.
    BigUint::from_bytes_be(check.signature) < *key.n() && key.verify(scheme, hashed, check.signature).is_ok()
}
