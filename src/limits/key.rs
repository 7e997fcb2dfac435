//! The `key` of a limit and a request become a tag: who is charged. Nothing of the caller is kept but a keyed digest.
//!
//! The digest is SipHash-2-4 with 128 bits, whose key nobody outside knows: a caller cannot choose identities that
//! share a bucket with somebody else.

use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::host::{Host, HostError, Version};
use crate::limits::slots::{Tag, Unavailable};
use crate::policy::attributes::{Attributes, Category, Value, ValueRef};

/// One thing by which a limit counts apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// What the caller wants to do.
    Action,
    /// Any attribute, by its category and name.
    Attribute(Category, String),
    /// Method and id of the credential.
    Credential,
    /// The id of a resource whose type is `model`.
    Model,
    /// The principal's id.
    Principal,
    /// The profile that applies.
    Profile,
    /// The route's name.
    Route,
    /// The caller's address: IPv4 whole, IPv6 by its /64, which is what one customer usually gets.
    Source,
    /// The principal's tier.
    Tier,
}

/// What limits look at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Who asks, for what, to do what, where.
    pub attributes: &'a Attributes<'a>,
    /// From where, as far as it is trusted.
    pub source: Option<IpAddr>,
    /// `<virtual host>/<route name>` or what else names the route.
    pub route: Option<&'a str>,
    /// Which profile applies.
    pub profile: &'a str,
}

/// The key of all tags of one gate: 128 bits.
pub(crate) type HashKey = [u8; 16];

// === impl KeyPart ===

impl KeyPart {
    /// Reads a word of `key`; `None` if it is none.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "action" => Self::Action,
            "credential" => Self::Credential,
            "model" => Self::Model,
            "principal" => Self::Principal,
            "profile" => Self::Profile,
            "route" => Self::Route,
            "source" => Self::Source,
            "tier" => Self::Tier,
            _ => {
                let (category, name) = Category::split(word)?;
                if name.is_empty() {
                    return None;
                }
                Self::Attribute(category, name.to_owned())
            }
        })
    }

    /// Feeds what the request has of this; `false` if it has nothing, which is fed as such.
    fn feed(&self, subject: &Subject<'_>, to: &mut Digest) -> bool {
        let attributes = subject.attributes;
        match self {
            Self::Action => to.text(attributes.action),
            Self::Attribute(category, name) => match attributes.lookup(*category, name) {
                Some(value) => to.value(value),
                None => return to.missing(),
            },
            Self::Credential => {
                let credential = &attributes.principal.credential;
                if credential.id.is_empty() {
                    return to.missing();
                }
                to.text(&credential.method);
                to.text(&credential.id);
            }
            Self::Model => {
                if attributes.resource.kind != "model" {
                    return to.missing();
                }
                to.text(&attributes.resource.id);
            }
            Self::Principal => to.text(&attributes.principal.principal),
            Self::Profile => to.text(subject.profile),
            Self::Route => match subject.route {
                Some(route) => to.text(route),
                None => return to.missing(),
            },
            Self::Source => match subject.source {
                Some(source) => to.address(source),
                None => return to.missing(),
            },
            Self::Tier => to.text(&attributes.principal.tier),
        }
        true
    }
}

impl fmt::Display for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Action => f.write_str("action"),
            Self::Attribute(category, name) => f.write_str(&category.full_name(name)),
            Self::Credential => f.write_str("credential"),
            Self::Model => f.write_str("model"),
            Self::Principal => f.write_str("principal"),
            Self::Profile => f.write_str("profile"),
            Self::Route => f.write_str("route"),
            Self::Source => f.write_str("source"),
            Self::Tier => f.write_str("tier"),
        }
    }
}

/// The tag of a request at a limit, by the rates called `tier`; `missing` is told the parts that the request lacks.
pub(crate) fn tag(
    hash_key: &HashKey,
    limit: &str,
    tier: &str,
    key: &[KeyPart],
    subject: &Subject<'_>,
    mut missing: impl FnMut(&KeyPart),
) -> Tag {
    let mut digest = Digest::new(hash_key, limit, tier);
    for part in key {
        if !part.feed(subject, &mut digest) {
            missing(part);
        }
    }
    digest.finish()
}

/// The tag of those who found no slot at a limit, by the rates called `tier`.
pub(crate) fn overflow_tag(hash_key: &HashKey, limit: &str, tier: &str) -> Tag {
    let mut digest = Digest::new(hash_key, limit, tier);
    digest.kind(OVERFLOW);
    digest.finish()
}

/// Derives the key of all tags from a configured secret.
pub(crate) fn derive(secret: &[u8], gate: &str) -> HashKey {
    let mut hash_key = HashKey::default();
    // INVARIANT: HMAC takes keys of any length, so the error never happens; a key of zeros would only be a known one
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) {
        mac.update(b"mlgate/1/slots\0");
        mac.update(gate.as_bytes());
        for (to, from) in hash_key.iter_mut().zip(mac.finalize().into_bytes()) {
            *to = from;
        }
    }
    hash_key
}

/// Reads the key of all tags from shared data, where whoever comes first leaves a random one. All workers end with the
/// same: a key that loses the race is never used.
pub(crate) fn agree(gate: &str, attempts: u32, host: &dyn Host) -> Result<HashKey, Unavailable> {
    let name = format!("mlgate/1/{gate}/slots/key");
    for _ in 0..attempts.max(1) {
        let version = match host.shared(&name).map_err(|_| Unavailable)? {
            None => Version::Absent,
            Some(read) => match read.value.split_first() {
                Some((&LAYOUT, key)) if key.len() == HashKey::default().len() => {
                    return HashKey::try_from(key).map_err(|_| Unavailable);
                }
                _ => read.version,
            },
        };
        let mut record = [LAYOUT; 17];
        let [_, hash_key @ ..] = &mut record;
        host.random(hash_key).map_err(|_| Unavailable)?;
        match host.compare_and_set(&name, &record, version) {
            Ok(()) | Err(HostError::Conflict) => {} // read back what stands there now
            Err(_) => return Err(Unavailable),
        }
    }
    Err(Unavailable)
}

/// Feeds typed, length-prefixed values, so that no two lists of values look alike.
struct Digest(SipHasher24);

// === impl Digest ===

impl Digest {
    fn new(hash_key: &HashKey, limit: &str, tier: &str) -> Self {
        let mut digest = Self(SipHasher24::new_with_key(hash_key));
        digest.text(limit);
        digest.text(tier);
        digest
    }

    fn kind(&mut self, kind: u8) {
        self.0.write(&[kind]);
    }

    fn missing(&mut self) -> bool {
        self.kind(MISSING);
        false
    }

    fn text(&mut self, text: &str) {
        self.kind(TEXT);
        self.length(text.len());
        self.0.write(text.as_bytes());
    }

    fn length(&mut self, length: usize) {
        self.0.write(&u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes());
    }

    fn value(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Address(address) => self.address(address),
            ValueRef::Bool(value) => {
                self.kind(BOOL);
                self.kind(u8::from(value));
            }
            ValueRef::List(list) => {
                self.kind(LIST);
                self.length(list.len());
                for text in list {
                    self.text(text);
                }
            }
            ValueRef::Number(number) => {
                self.kind(NUMBER);
                self.0.write(&number.to_le_bytes());
            }
            ValueRef::Text(text) => self.text(text),
            ValueRef::Time(_) | ValueRef::TimeOfDay(_) => {
                if let Value::Text(text) = value.to_value() {
                    self.text(&text);
                }
            }
        }
    }

    fn address(&mut self, address: IpAddr) {
        // an IPv4 caller on a dual-stack listener is the same caller (RFC 4291 §2.5.5.2)
        match address.to_canonical() {
            IpAddr::V4(address) => {
                self.kind(IPV4);
                self.0.write(&address.octets());
            }
            IpAddr::V6(address) => {
                self.kind(IPV6);
                let network = address.to_bits() >> 64;
                self.0.write(&network.to_le_bytes());
            }
        }
    }

    fn finish(&self) -> Tag {
        self.0.finish128().as_bytes()
    }
}

const MISSING: u8 = 0;
const TEXT: u8 = 1;
const NUMBER: u8 = 2;
const BOOL: u8 = 3;
const LIST: u8 = 4;
const IPV4: u8 = 5;
const IPV6: u8 = 6;
const OVERFLOW: u8 = 7;

/// The first byte of the shared hash key.
const LAYOUT: u8 = 1;

#[cfg(test)]
mod tests;
