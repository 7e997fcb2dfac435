//! Drafts become sealed events: numbered, linked by the SHA-256 of the event before (FIPS 180-4), and
//! authenticated by HMAC-SHA256 (RFC 2104) where a key is set.

use std::fmt;
use std::ops::Range;

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
        let start = out.len();
        out.reserve(draft.bytes.len().saturating_add(SEAL_BYTES));

        // ids hold no character that needs an escape: gate names are [a-z0-9_-], key ids too
        out.extend_from_slice(piece(0, chain_at));
        put(out, b"\"chain\":\"", self.id.as_bytes(), b"\",");
        if let Some(count) = draft.count {
            put(out, b"\"count\":", count.min(MAX_INTEGER).to_string().as_bytes(), b",");
        }
        out.extend_from_slice(piece(chain_at, kid_at));
        if let Signer::Keyed(key) = signer {
            put(out, b"\"kid\":\"", key.id.as_bytes(), b"\",");
        }
        let before = start..out.len();
        // its place is kept, since it covers what comes behind it too
        put(out, b"\"mac\":\"", if signer.is_keyed() { &[b'0'; HEX] } else { UNKEYED.as_bytes() }, b"\",");
        let after = out.len();
        out.extend_from_slice(piece(kid_at, prev_at));
        if let Some(head) = &self.head {
            put(out, b"\"prev\":\"", &hex_digits(head), b"\",");
        }
        out.extend_from_slice(piece(prev_at, seq_at));
        put(out, b"\"seq\":", seq.to_string().as_bytes(), b",");
        out.extend_from_slice(piece(seq_at, draft.bytes.len()));

        if let Signer::Keyed(key) = signer {
            let part = |range: Range<usize>| out.get(range).unwrap_or(&[]);
            let tag = key.tag(&[MAC_PREFIX, part(before), part(after..out.len())]);
            let end = after.saturating_sub(b"\",".len());
            if let Some(place) = out.get_mut(end.saturating_sub(HEX)..end) {
                place.copy_from_slice(&hex_digits(&tag));
            }
        }
        let hash: Hash = Sha256::digest(out.get(start..).unwrap_or(&[])).into();
        self.next = seq.saturating_add(1);
        self.head = Some(hash);
        Seal { seq, hash }
    }
}

fn put(out: &mut Vec<u8>, name: &[u8], value: &[u8], end: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.extend_from_slice(end);
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| digits(*byte)).map(char::from).collect()
}

/// Lower-case hexadecimal of a hash.
fn hex_digits(hash: &Hash) -> [u8; HEX] {
    let mut text = [0; HEX];
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(hash) {
        *pair = digits(*byte);
    }
    text
}

const fn digits(byte: u8) -> [u8; 2] {
    [digit(byte >> 4), digit(byte & 0x0f)]
}

const fn digit(value: u8) -> u8 {
    value.wrapping_add(if value < 10 { b'0' } else { b'a'.wrapping_sub(10) })
}

/// Digits of a hash.
const HEX: usize = 64;

/// About what a seal adds to an event: more is room given away, less is a copy.
const SEAL_BYTES: usize = 400;

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
