//! A JWK Set becomes typed keys (RFC 7517, RFC 7518 §6, RFC 8037 §2), or what is wrong with each of them.
//!
//! A key is of one kind and serves the algorithms of that kind alone, so that a public key can never be taken for a
//! shared secret (RFC 8725 §2.1). Keys that could only verify what nobody should trust are refused here: moduli below
//! 2048 bits (RFC 7518 §3.3), exponents below 65537 (FIPS 186-5 §5.4), points of low order. Shared secrets never come
//! from the JWK Set of an issuer.

use std::collections::BTreeSet;
use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value as Json};
use sha2::{Sha256, Sha384, Sha512};

use crate::host::signature::{Curve, PublicKey, SignatureCheck};
use crate::identity::jwt::base64url;
use crate::identity::secret::Secret;

pub use algorithm::Algorithm;

mod algorithm;
mod point;
pub mod set;

#[cfg(test)]
mod tests;

/// Keys of one issuer.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// One key and what it is for.
#[derive(Clone, Debug)]
pub struct Key {
    id: Option<String>,
    /// The only algorithm it may be used with, where the issuer says so.
    algorithm: Option<Algorithm>,
    material: Material,
}

/// What verifies.
#[derive(Clone, Debug)]
enum Material {
    /// RSA or ECDSA: the host verifies.
    Public(Family, PublicKey),
    /// Ed25519.
    Edwards(Box<ed25519_dalek::VerifyingKey>),
    /// A shared secret.
    Shared(SharedSecret),
}

/// The kind of a [`Material::Public`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// RSA.
    Rsa,
    /// ECDSA on this curve.
    Ec(Curve),
}

/// HMAC under a secret that is as long as the hash at least. Not printable.
#[derive(Clone, Debug)]
struct SharedSecret(Secret);

/// Why no key was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// The token names no key, and more than [`MAX_TRIED`] would fit.
    Ambiguous,
    /// None has this id and serves this algorithm.
    Unknown,
}

/// Why a JWK is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidJwk {
    /// `alg` is none of ours, or does not go with `kty` and `crv`.
    Algorithm,
    /// A member is missing, mistyped or not base64url.
    Member(&'static str),
    /// It holds a private key or a shared secret.
    Private,
    /// A shared secret that is shorter than the hash.
    Short,
    /// `use` or `key_ops` says that it is not for verifying.
    Purpose,
    /// `kty` or `crv` is none of ours.
    Kind,
    /// Not a JSON object.
    NotAnObject,
    /// A modulus or exponent that is too small or too large, a point of low order or off the curve.
    Weak,
}

/// Bounds of an RSA modulus, in bits: what RFC 7518 §3.3 asks for, and what BoringSSL verifies.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Keys that are tried for a token that names none: each of them costs a signature check.
pub const MAX_TRIED: usize = 4;

/// The longest `kid`, in bytes.
pub const MAX_KID: usize = 256;

/// Members that only a private or a symmetric key has (RFC 7518 §6).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Bytes of an RSA exponent: larger ones only slow verification down, and BoringSSL refuses them.
const MAX_EXPONENT: usize = 4;

// === impl KeySet ===

impl KeySet {
    /// No key.
    pub const fn empty() -> Self {
        Self { keys: Vec::new() }
    }

    /// Adds a key. `false`: another key already answers to the same id and algorithm, and this one is left out.
    pub fn insert(&mut self, key: Key) -> bool {
        let taken = key.id.is_some()
            && self.keys.iter().any(|known| {
                known.id == key.id && Algorithm::ALL.iter().any(|alg| known.serves(*alg) && key.serves(*alg))
            });
        if !taken {
            self.keys.push(key);
        }
        !taken
    }

    /// The keys that may have signed a token: the one it names, or those that fit where it names none.
    ///
    /// # Errors
    /// No key, or too many to try.
    pub fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Vec<&Key>, NoKey> {
        let fits = |key: &&Key| key.serves(algorithm) && id.is_none_or(|id| key.id.as_deref() == Some(id));
        let fitting: Vec<&Key> = self.keys.iter().filter(fits).take(MAX_TRIED.saturating_add(1)).collect();
        match fitting.len() {
            0 => Err(NoKey::Unknown),
            1..=MAX_TRIED => Ok(fitting),
            _ => Err(NoKey::Ambiguous),
        }
    }

    /// How many keys there are.
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether any key is called so, whatever it serves.
    pub fn knows(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// Whether any key serves this algorithm.
    pub fn serves(&self, algorithm: Algorithm) -> bool {
        self.keys.iter().any(|key| key.serves(algorithm))
    }
}

// === impl Key ===

impl Key {
    /// Reads one JWK of an issuer, which is public. Members that we do not know are ignored (RFC 7517 §4).
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn from_jwk(jwk: &Json) -> Result<Self, InvalidJwk> {
        let Json::Object(jwk) = jwk else { return Err(InvalidJwk::NotAnObject) };
        if PRIVATE.iter().any(|name| jwk.contains_key(*name)) {
            return Err(InvalidJwk::Private);
        }
        Self::read(jwk, |kind, curve| match (kind, curve) {
            ("RSA", _) => rsa(jwk),
            ("EC", Some("P-256")) => ec(jwk, Curve::P256, 32),
            ("EC", Some("P-384")) => ec(jwk, Curve::P384, 48),
            ("EC", Some("P-521")) => ec(jwk, Curve::P521, 66),
            ("OKP", Some("Ed25519")) => edwards(jwk),
            _ => Err(InvalidJwk::Kind),
        })
    }

    /// Reads a shared secret in the form of a JWK (RFC 7518 §6.4), which no issuer may publish.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn from_secret_jwk(jwk: &Json) -> Result<Self, InvalidJwk> {
        let Json::Object(jwk) = jwk else { return Err(InvalidJwk::NotAnObject) };
        Self::read(jwk, |kind, _| match kind {
            "oct" => Ok(Material::Shared(SharedSecret(Secret::new(bytes(jwk, "k")?)))),
            _ => Err(InvalidJwk::Kind),
        })
    }

    /// What all kinds of keys have in common.
    fn read(
        jwk: &Map<String, Json>,
        material: impl FnOnce(&str, Option<&str>) -> Result<Material, InvalidJwk>,
    ) -> Result<Self, InvalidJwk> {
        let purpose = text(jwk, "use")?.is_none_or(|purpose| purpose == "sig") && may_verify(jwk)?;
        if !purpose {
            return Err(InvalidJwk::Purpose);
        }
        let material = material(text(jwk, "kty")?.unwrap_or_default(), text(jwk, "crv")?)?;
        let algorithm = match text(jwk, "alg")? {
            Some(name) => Some(Algorithm::parse(name).ok_or(InvalidJwk::Algorithm)?),
            None => None,
        };
        if let Material::Shared(secret) = &material
            && !secret.is_long_enough(algorithm.unwrap_or(Algorithm::HS256))
        {
            return Err(InvalidJwk::Short);
        }
        if algorithm.is_some_and(|algorithm| !material.suits(algorithm)) {
            return Err(InvalidJwk::Algorithm);
        }
        let id = text(jwk, "kid")?.map(str::to_owned);
        if id.as_ref().is_some_and(|id| id.len() > MAX_KID) {
            return Err(InvalidJwk::Member("kid"));
        }
        Ok(Self { id, algorithm, material })
    }

    /// A shared secret for one of the algorithms of HMAC. `None`: it is shorter than the hash, or the algorithm has
    /// public keys.
    pub fn shared(id: &str, secret: &Secret, algorithm: Algorithm) -> Option<Self> {
        let secret = SharedSecret(secret.clone());
        secret.is_long_enough(algorithm).then(|| Self {
            id: Some(id.to_owned()),
            algorithm: Some(algorithm),
            material: Material::Shared(secret),
        })
    }

    /// How tokens name it.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether its owner signed `text`. `ask` is how public keys are checked, by the host or in its place.
    ///
    /// # Errors
    /// Whatever kept `ask` from answering.
    pub fn verify<E>(
        &self,
        algorithm: Algorithm,
        text: &[u8],
        signature: &[u8],
        ask: impl FnOnce(&SignatureCheck<'_>) -> Result<bool, E>,
    ) -> Result<bool, E> {
        if !self.serves(algorithm) {
            return Ok(false);
        }
        match (&self.material, algorithm.of_host()) {
            (Material::Public(_, key), Some(algorithm)) => {
                ask(&SignatureCheck { algorithm, key, text, signature })
            }
            // strict: neither the point of the signature nor the key may be of low order (RFC 8032 §5.1.7)
            (Material::Edwards(key), None) => Ok(ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(text, &signature).is_ok())),
            (Material::Shared(secret), None) => Ok(secret.is_mac(algorithm, text, signature)),
            // INVARIANT: `serves` pairs each kind with its own algorithms
            _ => Ok(false),
        }
    }

    /// Whether it verifies signatures of this algorithm.
    pub fn serves(&self, algorithm: Algorithm) -> bool {
        self.algorithm.is_none_or(|only| only == algorithm) && self.material.suits(algorithm)
    }
}

// === impl Material ===

impl Material {
    /// Whether the algorithm is one of its kind. There is no other place that pairs the two.
    fn suits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{ES256, ES384, ES512, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        match (self, algorithm) {
            (Self::Public(Family::Rsa, _), RS256 | RS384 | RS512 | PS256 | PS384 | PS512)
            | (Self::Public(Family::Ec(Curve::P256), _), ES256)
            | (Self::Public(Family::Ec(Curve::P384), _), ES384)
            | (Self::Public(Family::Ec(Curve::P521), _), ES512)
            | (Self::Edwards(_), EdDSA) => true,
            (Self::Shared(secret), algorithm) => secret.is_long_enough(algorithm),
            _ => false,
        }
    }
}

// === impl SharedSecret ===

impl SharedSecret {
    fn is_long_enough(&self, algorithm: Algorithm) -> bool {
        algorithm.min_secret().is_some_and(|least| self.0.expose().len() >= least)
    }

    /// Whether `mac` is right; takes the same time wherever the two differ.
    fn is_mac(&self, algorithm: Algorithm, text: &[u8], mac: &[u8]) -> bool {
        // HMAC takes keys of any length (RFC 2104 §2)
        macro_rules! verified {
            ($hash:ty) => {
                Hmac::<$hash>::new_from_slice(self.0.expose())
                    .is_ok_and(|hmac| hmac.chain_update(text).verify_slice(mac).is_ok())
            };
        }
        match algorithm {
            Algorithm::HS256 => verified!(Sha256),
            Algorithm::HS384 => verified!(Sha384),
            Algorithm::HS512 => verified!(Sha512),
            _ => false,
        }
    }
}

// === impl InvalidJwk ===

impl fmt::Display for InvalidJwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Algorithm => f.write_str("`alg` is not built, or does not go with the kind of key"),
            Self::Member(name) => write!(f, "`{name}` is missing or malformed"),
            Self::Private => f.write_str("it holds a private key or a shared secret"),
            Self::Short => f.write_str("the secret is shorter than the hash of its algorithm"),
            Self::Purpose => f.write_str("`use` or `key_ops` says that it is not for verifying signatures"),
            Self::Kind => f.write_str("`kty` or `crv` is not built"),
            Self::NotAnObject => f.write_str("it is not an object"),
            Self::Weak => f.write_str("it is too weak, too large, or not a point of its curve"),
        }
    }
}

/// A member that is a text where it is there.
fn text<'a>(jwk: &'a Map<String, Json>, name: &'static str) -> Result<Option<&'a str>, InvalidJwk> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(InvalidJwk::Member(name)),
    }
}

/// Whether `key_ops` allows it (RFC 7517 §4.3); duplicates are malformed.
fn may_verify(jwk: &Map<String, Json>) -> Result<bool, InvalidJwk> {
    const NAME: &str = "key_ops";
    let Some(operations) = jwk.get(NAME) else { return Ok(true) };
    let Json::Array(operations) = operations else { return Err(InvalidJwk::Member(NAME)) };
    // in one pass: the list is as long as the issuer likes
    let mut seen = BTreeSet::new();
    if !operations.iter().all(|one| one.as_str().is_some_and(|one| seen.insert(one))) {
        return Err(InvalidJwk::Member(NAME));
    }
    Ok(seen.contains("verify"))
}

/// A member in base64url.
fn bytes(jwk: &Map<String, Json>, name: &'static str) -> Result<Vec<u8>, InvalidJwk> {
    text(jwk, name)?.and_then(|text| base64url(text.as_bytes())).ok_or(InvalidJwk::Member(name))
}

fn rsa(jwk: &Map<String, Json>) -> Result<Material, InvalidJwk> {
    let (modulus, exponent) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
    for (name, number) in [("n", &modulus), ("e", &exponent)] {
        // Base64urlUInt has no leading zeros (RFC 7518 §2)
        if number.first().is_none_or(|first| *first == 0) {
            return Err(InvalidJwk::Member(name));
        }
    }
    let leading = modulus.first().map_or(8, |first| first.leading_zeros());
    let bits = modulus.len().saturating_mul(8).saturating_sub(usize::try_from(leading).unwrap_or(8));
    let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
    let value =
        exponent.iter().fold(0_u64, |value, byte| value.saturating_mul(256).saturating_add((*byte).into()));
    let strong = RSA_BITS.contains(&bits)
        && odd(&modulus)
        && odd(&exponent)
        && exponent.len() <= MAX_EXPONENT
        && value >= 65_537;
    if !strong {
        return Err(InvalidJwk::Weak);
    }
    Ok(Material::Public(Family::Rsa, PublicKey::rsa(&modulus, &exponent)))
}

fn ec(jwk: &Map<String, Json>, curve: Curve, length: usize) -> Result<Material, InvalidJwk> {
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    for (name, coordinate) in [("x", &x), ("y", &y)] {
        // full size of a coordinate (RFC 7518 §6.2.1.2)
        if coordinate.len() != length {
            return Err(InvalidJwk::Member(name));
        }
    }
    // Whoever checks a signature would find that too; but until then it would stand where a good key may.
    if !point::is_on(curve, &x, &y) {
        return Err(InvalidJwk::Weak);
    }
    Ok(Material::Public(Family::Ec(curve), PublicKey::ec(curve, &x, &y)))
}

fn edwards(jwk: &Map<String, Json>) -> Result<Material, InvalidJwk> {
    let x: [u8; 32] = bytes(jwk, "x")?.try_into().map_err(|_| InvalidJwk::Member("x"))?;
    let key = ed25519_dalek::VerifyingKey::from_bytes(&x).map_err(|_| InvalidJwk::Weak)?;
    // A point of low order verifies signatures that nobody made, and a second spelling of a point is a second key.
    if key.is_weak() || key.to_edwards().compress().to_bytes() != x {
        return Err(InvalidJwk::Weak);
    }
    Ok(Material::Edwards(Box::new(key)))
}
