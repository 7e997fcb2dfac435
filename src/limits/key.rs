//! The `key` of a limit and a request become a tag: who is charged. Nothing of the caller is kept but a keyed digest.
//!
//! The digest is SipHash-2-4 with 128 bits, whose key nobody outside knows: a caller cannot choose identities that
//! share a bucket with somebody else.

use std::fmt;
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

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

/// What a request has of a [`KeyPart`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<'a> {
    /// Of a credential, its public part.
    Credential { method: &'a str, id: &'a str },
    /// Of an address, what is counted together.
    Source(Network),
    /// Anything else.
    Value(ValueRef<'a>),
}

/// Addresses that count as one caller.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Network {
    /// One address.
    V4(Ipv4Addr),
    /// The upper 64 bits.
    V6(u128),
}

/// The key of all tags of one gate: 128 bits.
pub(crate) type HashKey = [u8; 16];

/// A [`HashKey`] that is known from the configuration, or read from shared data when it is needed first, since
/// configuring is pure.
#[derive(Debug)]
pub(crate) struct Agreed {
    gate: String,
    attempts: u32,
    known: OnceLock<HashKey>,
}

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

    /// What the request has of this; `None` if it has nothing.
    pub(crate) fn find<'a>(&self, subject: &Subject<'a>) -> Option<Found<'a>> {
        let attributes = subject.attributes;
        let text = |text: &'a str| Some(Found::Value(ValueRef::Text(text)));
        match self {
            Self::Action => text(attributes.action),
            Self::Attribute(category, name) => attributes.lookup(*category, name).map(Found::Value),
            Self::Credential => {
                let credential = &attributes.principal.credential;
                let found = Found::Credential { method: &credential.method, id: &credential.id };
                (!credential.id.is_empty()).then_some(found)
            }
            Self::Model => {
                let resource = attributes.resource;
                if resource.kind == "model" { text(&resource.id) } else { None }
            }
            Self::Principal => text(&attributes.principal.principal),
            Self::Profile => text(subject.profile),
            Self::Route => subject.route.and_then(text),
            Self::Source => subject.source.map(Network::of).map(Found::Source),
            Self::Tier => text(&attributes.principal.tier),
        }
    }
}

// === impl Network ===

impl Network {
    /// What an address is counted with.
    pub(crate) fn of(address: IpAddr) -> Self {
        // an IPv4 caller on a dual-stack listener is the same caller (RFC 4291 §2.5.5.2)
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(address.to_bits() >> 64),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6(network) => write!(f, "{}/64", Ipv6Addr::from_bits(network << 64)),
        }
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
        match part.find(subject) {
            Some(found) => digest.found(found),
            None => {
                digest.kind(MISSING);
                missing(part);
            }
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

/// The tag of a source in a table of its own.
pub(crate) fn source_tag(hash_key: &HashKey, what: &str, source: Network) -> Tag {
    let mut digest = Digest::new(hash_key, what, "");
    digest.network(source);
    digest.finish()
}

// === impl Agreed ===

impl Agreed {
    /// `secret` is the first of `shared_data.keys`.
    pub(crate) fn new(gate: &str, attempts: u32, secret: Option<&[u8]>) -> Self {
        let known = secret.map_or_else(OnceLock::new, |secret| derive(secret, gate).into());
        Self { gate: gate.to_owned(), attempts, known }
    }

    /// The key, which the first who asks reads or leaves in shared data.
    pub(crate) fn find(&self, host: &dyn Host) -> Result<&HashKey, Unavailable> {
        match self.known.get() {
            Some(known) => Ok(known),
            None => {
                let agreed = agree(&self.gate, self.attempts, host)?;
                Ok(self.known.get_or_init(|| agreed))
            }
        }
    }
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

    fn found(&mut self, found: Found<'_>) {
        match found {
            Found::Credential { method, id } => {
                self.text(method);
                self.text(id);
            }
            Found::Source(network) => self.network(network),
            Found::Value(value) => self.value(value),
        }
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
            ValueRef::Address(address) => self.network(Network::of(address)),
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

    fn network(&mut self, network: Network) {
        match network {
            Network::V4(address) => {
                self.kind(IPV4);
                self.0.write(&address.octets());
            }
            Network::V6(network) => {
                self.kind(IPV6);
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
pub(in crate::limits) mod tests;
