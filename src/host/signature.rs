//! Signatures that the proxy checks for us: what is asked, in the bytes it wants.
//!
//! Envoy's foreign function `verify_signature` is BoringSSL's `EVP_DigestVerify`: RSA with PKCS #1 v1.5 padding and
//! ECDSA, some forty times faster than the same in Wasm. It knows no PSS. It wants the key as a DER `SubjectPublicKeyInfo`, built once
//! with the configuration, and an ECDSA signature as DER, while a JWS carries `r || s` (RFC 7518 §3.4). It would take
//! SHA-1 too, so the hash is named by [`Algorithm`] and never by the token.

use crate::host::HostError;

#[cfg(feature = "fallback")]
pub mod software;

#[cfg(test)]
mod tests;

/// Algorithms that are asked for so (RFC 7518 §3.1). The proxy checks all but those of PSS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// RSASSA-PSS with SHA-256, MGF1 with the same and a salt as long.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
}

/// A curve of [`PublicKey::ec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// `P-256`.
    P256,
    /// `P-384`.
    P384,
    /// `P-521`.
    P521,
}

/// A public key in the form that the proxy wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// DER `SubjectPublicKeyInfo` (RFC 5280 §4.1).
    spki: Vec<u8>,
    /// Where in it the key itself begins: an `RSAPublicKey` (RFC 8017 §A.1.1) or a point (RFC 5480 §2.2).
    inner: usize,
}

/// One question: did the owner of `key` sign `text`?
#[derive(Clone, Copy, Debug)]
pub struct SignatureCheck<'a> {
    /// The key's, not the token's.
    pub algorithm: Algorithm,
    /// Of the family of `algorithm`; a key of another family gives no.
    pub key: &'a PublicKey,
    /// The signing input.
    pub text: &'a [u8],
    /// As a JWS carries it.
    pub signature: &'a [u8],
}

/// Lengths in DER are written in at most this many bytes, of which the first says how many follow.
const MAX_LENGTH_BYTES: usize = 4;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;

/// `AlgorithmIdentifier` of rsaEncryption with NULL parameters (RFC 3279 §2.3.1).
const RSA: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// `AlgorithmIdentifier` of id-ecPublicKey on secp256r1 (RFC 5480 §2.1.1).
const EC_P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07,
];

/// The same on secp384r1.
const EC_P384: &[u8] = &[
    0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00,
    0x22,
];

/// The same on secp521r1.
const EC_P521: &[u8] = &[
    0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00,
    0x23,
];

// === impl Algorithm ===

impl Algorithm {
    /// The hash, in the words that the proxy knows; `None` where it knows nothing of the algorithm.
    const fn hash(self) -> Option<&'static str> {
        match self {
            Self::Rs256 | Self::Es256 => Some("sha256"),
            Self::Rs384 | Self::Es384 => Some("sha384"),
            Self::Rs512 | Self::Es512 => Some("sha512"),
            Self::Ps256 | Self::Ps384 | Self::Ps512 => None,
        }
    }

    /// Length of each half of an ECDSA signature (RFC 7518 §3.4); `None` for RSA.
    const fn half(self) -> Option<usize> {
        match self {
            Self::Es256 => Some(32),
            Self::Es384 => Some(48),
            Self::Es512 => Some(66),
            _ => None,
        }
    }
}

// === impl PublicKey ===

impl PublicKey {
    /// From a modulus and an exponent, big-endian and without sign.
    pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Self {
        let mut numbers = integer(modulus);
        numbers.extend(integer(exponent));
        Self::new(RSA, &element(SEQUENCE, &numbers))
    }

    /// From the coordinates of a point, each as long as the curve's field.
    pub fn ec(curve: Curve, x: &[u8], y: &[u8]) -> Self {
        let identifier = match curve {
            Curve::P256 => EC_P256,
            Curve::P384 => EC_P384,
            Curve::P521 => EC_P521,
        };
        Self::new(identifier, &[&[0x04], x, y].concat())
    }

    fn new(identifier: &[u8], key: &[u8]) -> Self {
        let bits = element(BIT_STRING, &[&[0x00], key].concat());
        let spki = element(SEQUENCE, &[identifier, &bits].concat());
        Self { inner: spki.len().saturating_sub(key.len()), spki }
    }

    /// DER `SubjectPublicKeyInfo`.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The key without what says of which kind it is.
    pub fn inner(&self) -> &[u8] {
        self.spki.get(self.inner..).unwrap_or_default()
    }
}

// === impl SignatureCheck ===

impl SignatureCheck<'_> {
    /// The argument of `verify_signature`: a protobuf message with `hash_function` (1), `public_key` (2), `signature`
    /// (3) and `text` (4). `None` for an ECDSA signature of the wrong length, which is no signature.
    ///
    /// # Errors
    /// The proxy knows nothing of the algorithm. Asked all the same, it would take PSS for another padding.
    pub fn message(&self) -> Result<Option<Vec<u8>>, HostError> {
        let hash = self.algorithm.hash().ok_or(HostError::NotFound)?;
        let converted;
        let signature = match self.algorithm.half() {
            Some(half) if self.signature.len() == half.saturating_mul(2) => {
                let Some((r, s)) = self.signature.split_at_checked(half) else { return Ok(None) };
                converted = element(SEQUENCE, &[integer(r), integer(s)].concat());
                &converted
            }
            Some(_) => return Ok(None),
            None => self.signature,
        };
        let mut message = Vec::with_capacity(
            self.text
                .len()
                .saturating_add(self.key.spki.len())
                .saturating_add(signature.len())
                .saturating_add(32),
        );
        // wire type 2 in the low three bits
        for (tag, bytes) in
            [(0x0a, hash.as_bytes()), (0x12, self.key.spki.as_slice()), (0x1a, signature), (0x22, self.text)]
        {
            message.push(tag);
            varint(bytes.len(), &mut message);
            message.extend_from_slice(bytes);
        }
        Ok(Some(message))
    }
}

/// Reads the result of `verify_signature`: `result` (1, a truth value) and `error` (2, a text).
///
/// The call's own status says nothing of the signature. Anything but a message whose `result` is true is a no, and
/// what is not a message at all is an error.
///
/// # Errors
/// Bytes that are not this message.
pub fn verdict(result: &[u8]) -> Result<bool, HostError> {
    const MALFORMED: HostError = HostError::Failed(u32::MAX);
    let mut rest = result;
    let mut right = false;
    while let Some((tag, after)) = rest.split_first() {
        rest = match (tag, after.split_first()) {
            (0x08, Some((value @ (0 | 1), after))) => {
                right = *value == 1;
                after
            }
            (0x12, Some((length, after))) if *length < 0x80 => {
                after.get(usize::from(*length)..).ok_or(MALFORMED)?
            }
            // an error text of 128 bytes or more: there is no signature to believe in
            (0x12, Some(_)) => return Ok(false),
            _ => return Err(MALFORMED),
        };
    }
    Ok(right)
}

/// A DER element: tag, length, contents (X.690 §8.1).
fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut der = Vec::with_capacity(contents.len().saturating_add(MAX_LENGTH_BYTES).saturating_add(1));
    der.push(tag);
    match u8::try_from(contents.len()) {
        Ok(short @ 0..0x80) => der.push(short),
        _ => {
            let length = contents.len().to_be_bytes();
            let digits: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
            // INVARIANT: a length has at most 8 bytes
            der.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
            der.extend(digits);
        }
    }
    der.extend_from_slice(contents);
    der
}

/// A DER integer of a number without sign: no needless zeros, and one where the first bit would read as a minus.
fn integer(number: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
    let positive = digits.first().is_none_or(|first| first & 0x80 != 0);
    element(INTEGER, &[if positive { &[0][..] } else { &[] }, &digits].concat())
}

/// A protobuf varint.
fn varint(value: usize, message: &mut Vec<u8>) {
    let mut rest = value;
    while let low @ 0x80.. = rest {
        message.push(u8::try_from(low & 0x7f).unwrap_or_default() | 0x80);
        rest = low >> 7;
    }
    message.push(u8::try_from(rest).unwrap_or_default());
}
