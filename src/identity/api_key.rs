//! The grammar of API keys and their digests. What is known of configured keys, and the check of a presented one,
//! is in [`table`].
//!
//! A key is `mlg_<id: 8 of [0-9a-z]>_<secret: 32 of [0-9A-Za-z]><check: 6 of base62>`; the check digits are the CRC-32
//! of all before. They tell a typing error from a wrong key and let scanners find leaks; they are no protection. The
//! secret has 190 random bits, so that a plain SHA-256 of the key cannot be searched.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::identity::secret::Secret;

pub mod table;

pub use table::{ApiKeys, Listed};

/// A well-formed key. Its secret is only shown by [`ApiKey::expose`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ApiKey([u8; KEY_LENGTH]);

/// The public part of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; ID_LENGTH]);

/// Text that is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedKey;

/// Too few random bytes, or bytes that are not random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomnessExhausted;

/// The digest of a key, as the configuration holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDigest {
    /// `None`: plain SHA-256; otherwise the id of the pepper that keys HMAC-SHA256.
    pub pepper: Option<String>,
    /// The digest of the whole key's ASCII bytes.
    pub bytes: [u8; 32],
}

/// Text that is not the digest of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidDigest;

/// How many random bytes [`ApiKey::generate`] should be given: 40 of them are used, and each is refused with a
/// probability of at most 1/32, so that fewer than one call in 10^20 fails.
pub const RANDOM_BYTES: usize = 64;

const PREFIX: &[u8] = b"mlg_";
const ID_LENGTH: usize = 8;
const SECRET_LENGTH: usize = 32;
const CHECK_LENGTH: usize = 6;
const KEY_LENGTH: usize = PREFIX.len() + ID_LENGTH + 1 + SECRET_LENGTH + CHECK_LENGTH;
const ID_DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const SECRET_DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

// === impl ApiKey ===

impl ApiKey {
    /// Makes a key of random bytes, of which [`RANDOM_BYTES`] are enough. Every key is equally likely.
    pub fn generate(random: &[u8]) -> Result<Self, RandomnessExhausted> {
        let mut random = random.iter().copied();
        let mut text = Vec::with_capacity(KEY_LENGTH);
        text.extend_from_slice(PREFIX);
        draw(&mut random, ID_DIGITS, ID_LENGTH, &mut text)?;
        text.push(b'_');
        draw(&mut random, SECRET_DIGITS, SECRET_LENGTH, &mut text)?;
        text.extend_from_slice(&check_digits(&text));
        text.try_into().map(Self).map_err(|_| RandomnessExhausted)
    }

    /// Reads a key; its check digits must be right.
    pub fn parse(presented: &[u8]) -> Result<Self, MalformedKey> {
        let key: [u8; KEY_LENGTH] = presented.try_into().map_err(|_| MalformedKey)?;
        let (body, check) = key.split_last_chunk::<CHECK_LENGTH>().ok_or(MalformedKey)?;
        let rest = body.strip_prefix(PREFIX).ok_or(MalformedKey)?;
        let (id, rest) = rest.split_first_chunk::<ID_LENGTH>().ok_or(MalformedKey)?;
        let secret = rest.strip_prefix(b"_").ok_or(MalformedKey)?;
        let well_formed = KeyId::parse(id).is_some()
            && secret.iter().all(u8::is_ascii_alphanumeric)
            && *check == check_digits(body);
        if well_formed { Ok(Self(key)) } else { Err(MalformedKey) }
    }

    /// The public part.
    pub fn id(&self) -> KeyId {
        let mut id = [0; ID_LENGTH];
        for (to, from) in id.iter_mut().zip(self.0.iter().skip(PREFIX.len())) {
            *to = *from;
        }
        KeyId(id)
    }

    /// The whole key, to be shown once to its owner.
    pub fn expose(&self) -> &str {
        // INVARIANT: both constructors admit ASCII alone
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// SHA-256 of the whole key.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest { pepper: None, bytes: self.sha256() }
    }

    /// HMAC-SHA256 of the whole key under the pepper with this id.
    pub fn keyed_digest(&self, pepper: &str, secret: &Secret) -> KeyDigest {
        KeyDigest { pepper: Some(pepper.to_owned()), bytes: self.hmac(&Pepper::new(secret)) }
    }

    fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    fn hmac(&self, pepper: &Pepper) -> [u8; 32] {
        let mut mac = pepper.0.clone();
        mac.update(&self.0);
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey(mlg_{}_..)", self.id())
    }
}

// === impl KeyId ===

impl KeyId {
    /// Reads 8 of `[0-9a-z]`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let id: [u8; ID_LENGTH] = text.try_into().ok()?;
        id.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase()).then_some(Self(id))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // INVARIANT: both constructors admit ASCII alone
        f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

// === impl KeyDigest ===

impl KeyDigest {
    /// Reads `sha256:<64 hex>` or `hmac-sha256:<pepper id>:<64 hex>`, hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Result<Self, InvalidDigest> {
        let (pepper, hex) = if let Some(hex) = text.strip_prefix("sha256:") {
            (None, hex)
        } else {
            let rest = text.strip_prefix("hmac-sha256:").ok_or(InvalidDigest)?;
            let (pepper, hex) = rest.split_once(':').ok_or(InvalidDigest)?;
            (Some(pepper.to_owned()), hex)
        };
        let mut bytes = [0; 32];
        let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return Err(InvalidDigest) };
        if pairs.len() != bytes.len() {
            return Err(InvalidDigest);
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = (nibble(*high)? << 4) | nibble(*low)?;
        }
        Ok(Self { pepper, bytes })
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pepper {
            None => f.write_str("sha256:")?,
            Some(pepper) => write!(f, "hmac-sha256:{pepper}:")?,
        }
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A pepper after its key schedule.
#[derive(Clone, Debug)]
struct Pepper(Hmac<Sha256>);

// === impl Pepper ===

impl Pepper {
    fn new(secret: &Secret) -> Self {
        // INVARIANT: HMAC takes keys of any length (RFC 2104 §2), so that the other branch is never taken
        Self(Hmac::new_from_slice(secret.expose()).unwrap_or_else(|_| Hmac::new(&Default::default())))
    }
}

/// Appends `count` digits. A byte beyond the largest multiple of the alphabet's size is skipped: taking it modulo the
/// size would favour the first digits.
fn draw(
    random: &mut impl Iterator<Item = u8>,
    digits: &[u8],
    count: usize,
    text: &mut Vec<u8>,
) -> Result<(), RandomnessExhausted> {
    let size = digits.len().max(1);
    let fair = 256_usize.checked_div(size).unwrap_or(0).saturating_mul(size);
    let mut drawn = random
        .map(usize::from)
        .filter(|byte| *byte < fair)
        .filter_map(|byte| digits.get(byte.checked_rem(size)?).copied());
    for _ in 0..count {
        text.push(drawn.next().ok_or(RandomnessExhausted)?);
    }
    Ok(())
}

fn check_digits(body: &[u8]) -> [u8; CHECK_LENGTH] {
    let mut digits = [b'0'; CHECK_LENGTH];
    let mut written = [0; CHECK_LENGTH];
    // INVARIANT: 2^32 < 62^6, so that the number fits
    let length = base62::encode_bytes(crc32fast::hash(body), &mut written).unwrap_or(0);
    for (to, from) in digits.iter_mut().rev().zip(written.iter().take(length).rev()) {
        *to = *from;
    }
    digits
}

const fn nibble(digit: u8) -> Result<u8, InvalidDigest> {
    match digit {
        b'0'..=b'9' => Ok(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Ok(digit.wrapping_sub(b'a').wrapping_add(10)),
        _ => Err(InvalidDigest),
    }
}

#[cfg(test)]
mod tests;
