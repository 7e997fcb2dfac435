//! Drafts become sealed events: numbered, linked by the SHA-256 of the event before (FIPS 180-4), and
//! authenticated by HMAC-SHA256 (RFC 2104) where a key is set.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::audit::canonical::MAX_INTEGER;
use crate::audit::event::Draft;

/// SHA-256 of a whole event as canonical bytes.
pub type Hash = [u8; 32];

/// What a `mac` is computed over begins with this.
pub const MAC_PREFIX: &[u8] = b"mlgate-event-1\0";

/// What the digest key is derived with.
pub const DIGEST_PREFIX: &[u8] = b"mlgate-digest-1\0";

/// The `mac` of a chain that has no key.
pub const UNKEYED: &str = "unkeyed";

/// A secret with the id that events name it by. It shows neither in `Debug` nor anywhere else.
#[derive(Clone)]
pub struct MacKey {
    id: String,
    state: Hmac<Sha256>,
}

/// Who vouches for a chain.
#[derive(Clone, Debug)]
pub enum Signer {
    /// The holder of a key.
    Keyed(MacKey),
    /// Nobody: order and content can be checked, but anybody could have written them.
    Unkeyed,
}

/// A chain that grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    id: String,
    next: u64,
    head: Option<Hash>,
}

/// Number and hash of an event that was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// `seq`.
    pub seq: u64,
    /// What the next event's `prev` is.
    pub hash: Hash,
}

/// A secret of no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptySecret;

// === impl MacKey ===

impl MacKey {
    /// A chain key: the secret as it is.
    pub fn chain(id: impl Into<String>, secret: &[u8]) -> Result<Self, EmptySecret> {
        if secret.is_empty() {
            return Err(EmptySecret);
        }
        let state = Hmac::new_from_slice(secret).map_err(|_| EmptySecret)?;
        Ok(Self { id: id.into(), state })
    }

    /// A digest key: derived, so that no body can pass for an event (see [`crate::audit`]).
    pub fn digest(id: impl Into<String>, secret: &[u8]) -> Result<Self, EmptySecret> {
        let id = id.into();
        let derived = Self::chain("", secret)?.tag(&[DIGEST_PREFIX]);
        Self::chain(id, &derived)
    }

    /// How events name it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// HMAC-SHA256 over the parts as one message.
    pub fn tag(&self, parts: &[&[u8]]) -> Hash {
        let mut mac = self.start();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Whether `tag` is that of the parts; takes the same time wherever they differ.
    pub fn verifies(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        let mut mac = self.start();
        for part in parts {
            mac.update(part);
        }
        mac.verify_slice(tag).is_ok()
    }

    pub(crate) fn start(&self) -> Hmac<Sha256> {
        self.state.clone()
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MacKey").field("id", &self.id).finish_non_exhaustive()
    }
}

// === impl Signer ===

impl Signer {
    /// Whether there is a key.
    pub const fn is_keyed(&self) -> bool {
        matches!(self, Self::Keyed(_))
    }
}

// === impl Chain ===

impl Chain {
    /// A chain without events. `nonce` must never come twice: take it from a cryptographic source.
    pub fn new(gate: &str, nonce: [u8; 16]) -> Self {
        Self { id: format!("{gate}/{}", hex(&nonce)), next: 0, head: None }
    }

    /// `<gate>/<nonce>`
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The number of the next event.
    pub const fn next_seq(&self) -> u64 {
        self.next
    }

    /// Appends the sealed event to `out`, without a line break.
    pub fn seal(&mut self, draft: &Draft, signer: &Signer, out: &mut Vec<u8>) -> Seal {
        let seq = self.next;
        let [chain_at, kid_at, prev_at, seq_at] = draft.cuts;
        let piece = |from: usize, to: usize| draft.bytes.get(from..to).unwrap_or(&[]);

        // ids hold no character that needs an escape: gate names are [a-z0-9_-], key ids too
        let mut chain = format!("\"chain\":\"{}\",", self.id);
        if let Some(count) = draft.count {
            chain.push_str(&format!("\"count\":{},", count.min(MAX_INTEGER)));
        }
        let kid = match signer {
            Signer::Keyed(key) => format!("\"kid\":\"{}\",", key.id),
            Signer::Unkeyed => String::new(),
        };
        let prev = self.head.map_or_else(String::new, |head| format!("\"prev\":\"{}\",", hex(&head)));
        let number = format!("\"seq\":{seq},");

        let before = [piece(0, chain_at), chain.as_bytes(), piece(chain_at, kid_at), kid.as_bytes()];
        let after = [
            piece(kid_at, prev_at),
            prev.as_bytes(),
            piece(prev_at, seq_at),
            number.as_bytes(),
            piece(seq_at, draft.bytes.len()),
        ];
        let mac = match signer {
            Signer::Keyed(key) => {
                let mut mac = key.start();
                mac.update(MAC_PREFIX);
                for part in before.iter().chain(&after) {
                    mac.update(part);
                }
                format!("\"mac\":\"{}\",", hex(&mac.finalize().into_bytes()))
            }
            Signer::Unkeyed => format!("\"mac\":\"{UNKEYED}\","),
        };

        let mut sha = Sha256::new();
        for part in before.iter().copied().chain([mac.as_bytes()]).chain(after) {
            sha.update(part);
            out.extend_from_slice(part);
        }
        let hash: Hash = sha.finalize().into();
        self.next = seq.saturating_add(1);
        self.head = Some(hash);
        Seal { seq, hash }
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        for digit in [byte >> 4, byte & 0x0f] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    text
}

/// Reads 32 bytes of lower-case hexadecimal; `None` for anything else.
pub fn unhex(text: &str) -> Option<Hash> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => byte.checked_sub(b'0'),
        b'a'..=b'f' => byte.checked_sub(b'a').and_then(|digit| digit.checked_add(10)),
        _ => None,
    };
    let mut hash = Hash::default();
    if text.len() != hash.len().saturating_mul(2) {
        return None;
    }
    for (to, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *to = digit(*high)? << 4 | digit(*low)?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::canonical::Tree;
    use crate::audit::event::AuditEvent;
    use crate::time::UnixTime;

    #[test]
    fn events_are_linked_and_authenticated_as_anybody_can_recompute() {
        let signer = Signer::Keyed(MacKey::chain("c1", b"a secret").unwrap());
        let mut chain = Chain::new("gate", [7; 16]);
        let draft = AuditEvent::Heartbeat(UnixTime::from_millis(0)).draft("gate");
        let mut lines = [Vec::new(), Vec::new()];
        let seals = lines.each_mut().map(|line| chain.seal(&draft, &signer, line));
        assert_eq!(seals.map(|seal| seal.seq), [0, 1]);

        let [mut first, mut second] = lines.each_ref().map(|line| Tree::parse(line).unwrap());
        assert_eq!(first.text("chain"), Some("gate/07070707070707070707070707070707"));
        assert_eq!(first.member("prev"), None);
        assert_eq!(second.text("prev"), Some(hex(&Sha256::digest(&lines[0])).as_str()));
        for (tree, line) in [(&mut first, &lines[0]), (&mut second, &lines[1])] {
            assert_eq!(&tree.canonical(), line);
            let Some(Tree::Text(mac)) = tree.remove("mac") else { panic!("no mac") };
            let mut reference = Hmac::<Sha256>::new_from_slice(b"a secret").unwrap();
            reference.update(b"mlgate-event-1\0");
            reference.update(&tree.canonical());
            assert_eq!(mac, hex(&reference.finalize().into_bytes()));
        }
    }

    #[test]
    fn an_unkeyed_chain_says_so_and_names_no_key() {
        let mut chain = Chain::new("gate", [7; 16]);
        let draft = AuditEvent::Close(UnixTime::from_millis(0)).draft("gate");
        let mut line = Vec::new();
        chain.seal(&draft, &Signer::Unkeyed, &mut line);
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"chain\":\"gate/07070707070707070707070707070707\",\"gate\":\"gate\",\"mac\":\"unkeyed\",\"seq\":0,\
             \"timestamp\":\"1970-01-01T00:00:00.000Z\",\"type\":\"close\",\"v\":1}"
        );
    }

    #[test]
    fn a_digest_key_is_not_the_secret_itself() {
        let chain = MacKey::chain("k", b"same").unwrap();
        let digest = MacKey::digest("k", b"same").unwrap();
        assert_ne!(chain.tag(&[b"x"]), digest.tag(&[b"x"]));
        assert!(chain.verifies(&[b"x"], &chain.tag(&[b"x"])));
        assert!(!chain.verifies(&[b"y"], &chain.tag(&[b"x"])));
        assert!(MacKey::chain("k", b"").is_err() && MacKey::digest("k", b"").is_err());
        assert!(!format!("{chain:?}").contains("same"));
    }

    #[test]
    fn hexadecimal_is_lower_case_and_complete() {
        assert_eq!(hex(&[0, 0x9a, 0xff]), "009aff");
        assert_eq!(unhex(&hex(&[0xab; 32])), Some([0xab; 32]));
        for wrong in ["", "ab", &"AB".repeat(32), &"ag".repeat(32), &"ab".repeat(33), &"é".repeat(32)] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }
}
