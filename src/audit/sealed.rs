//! One line of a log becomes a [`SealedEvent`], or a reason why it cannot be read.
//!
//! A store may have changed the order of members and their spacing: what counts is the canonical form. A line may
//! carry `received_at`, which lies outside the event.

use std::fmt;
use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::audit::canonical::Tree;
use crate::audit::chain::{Hash, MAC_PREFIX, MacKey, UNKEYED, unhex};
use crate::audit::event::{MAX_EVENT_BYTES, VERSION};
use crate::time::UnixTime;

/// Bytes of a line: an event, `received_at` and what a store may add in spaces and escapes.
pub const MAX_LINE_BYTES: usize = 4 * MAX_EVENT_BYTES;

/// The longest name of a gate, in bytes.
const MAX_GATE_NAME: usize = 32;

/// A numbered event whose form is right. Nothing is proven yet.
#[derive(Clone, Debug)]
pub struct SealedEvent {
    /// `<gate>/<nonce>`
    pub chain: String,
    /// Place in the chain.
    pub seq: u64,
    /// SHA-256 of the event before; absent for the first.
    pub prev: Option<Hash>,
    /// What it tells.
    pub kind: Kind,
    /// SHA-256 of its canonical bytes.
    pub hash: Hash,
    /// Canonical bytes, without `received_at`.
    pub bytes: Vec<u8>,
    kid: Option<String>,
    mac: Option<Hash>,
    /// Where `"mac":"…",` is in `bytes`.
    mac_at: Range<usize>,
    /// Where `"received_at":"…",` goes.
    received_at: usize,
}

/// `type`, with what checking a chain needs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A decision.
    Access,
    /// The end.
    Close,
    /// A configuration took effect.
    Config,
    /// Declared loss.
    Gap {
        /// Events lost.
        count: u64,
        /// Why.
        reason: String,
        /// First and last number lost.
        range: Option<(u64, u64)>,
    },
    /// Nothing.
    Heartbeat,
    /// The beginning.
    Open {
        /// The chain opened before.
        prev_chain: Option<String>,
    },
}

/// What a `mac` proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authenticity {
    /// The holder of a key wrote this.
    Proven,
    /// Nobody vouches for it.
    Unkeyed,
    /// The key is not among those given.
    UnknownKey,
    /// Somebody without the key wrote or changed this.
    Wrong,
}

/// Why a line is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableEvent(String);

// === impl SealedEvent ===

impl SealedEvent {
    /// Reads one line, with or without its line break.
    pub fn parse(line: &[u8]) -> Result<Self, UnreadableEvent> {
        if line.len() > MAX_LINE_BYTES {
            return Err(UnreadableEvent::too_long());
        }
        let mut tree = Tree::parse(line).map_err(UnreadableEvent)?;
        if !matches!(tree, Tree::Object(_)) {
            return Err(unreadable("not an object"));
        }
        if !matches!(tree.remove("received_at"), None | Some(Tree::Text(_))) {
            return Err(unreadable("`received_at` is not a text"));
        }
        if tree.count("v") != Some(VERSION) {
            return Err(unreadable("`v` is not 1"));
        }
        let chain =
            chain(&tree).ok_or_else(|| unreadable("`chain` is not `<gate>/<32 hexadecimal digits>`"))?;
        let seq = tree.count("seq").ok_or_else(|| unreadable("`seq` is not a number"))?;
        let time = tree.text("timestamp").ok_or_else(|| unreadable("`timestamp` is missing"))?;
        if UnixTime::parse(time).is_err() {
            return Err(unreadable("`timestamp` is not RFC 3339"));
        }
        let prev = match tree.member("prev") {
            None => None,
            Some(_) => Some(hash(&tree, "prev")?),
        };
        let kid = tree.text("kid").map(str::to_owned);
        let mac = match (tree.text("mac"), tree.member("kid")) {
            (Some(UNKEYED), None) => None,
            (Some(UNKEYED), Some(_)) => return Err(unreadable("`kid` beside `mac` `unkeyed`")),
            (_, Some(Tree::Text(_))) => Some(hash(&tree, "mac")?),
            (_, Some(_)) => return Err(unreadable("`kid` is not a text")),
            (_, None) => return Err(unreadable("`mac` without `kid`")),
        };
        let kind = kind(&tree)?;
        let (bytes, mac_at, received_at) = tree.canonical_around("mac", "received_at");
        let hash = Sha256::digest(&bytes).into();
        Ok(Self { chain, seq, prev, kind, hash, bytes, kid, mac, mac_at, received_at })
    }

    /// The id of the key that vouches for it.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Checks the `mac`.
    pub fn authenticity(&self, keys: &[MacKey]) -> Authenticity {
        let (Some(kid), Some(mac)) = (&self.kid, &self.mac) else { return Authenticity::Unkeyed };
        let Some(key) = keys.iter().find(|key| key.id() == kid) else { return Authenticity::UnknownKey };
        let before = self.bytes.get(..self.mac_at.start).unwrap_or_default();
        let after = self.bytes.get(self.mac_at.end..).unwrap_or_default();
        if key.verifies(&[MAC_PREFIX, before, after], mac) {
            Authenticity::Proven
        } else {
            Authenticity::Wrong
        }
    }

    /// The line that a collector keeps: canonical, with the time of arrival in its place.
    pub fn received(&self, at: UnixTime) -> Vec<u8> {
        let (before, after) = self.bytes.split_at_checked(self.received_at).unwrap_or_default();
        [before, format!("\"received_at\":\"{at}\",").as_bytes(), after].concat()
    }
}

// === impl Kind ===

impl Kind {
    /// `type`.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Close => "close",
            Self::Config => "config",
            Self::Gap { .. } => "gap",
            Self::Heartbeat => "heartbeat",
            Self::Open { .. } => "open",
        }
    }
}

// === impl UnreadableEvent ===

impl UnreadableEvent {
    pub(crate) fn too_long() -> Self {
        Self(format!("a line of more than {MAX_LINE_BYTES} bytes"))
    }
}

impl fmt::Display for UnreadableEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn unreadable(what: &str) -> UnreadableEvent {
    UnreadableEvent(what.to_owned())
}

fn hash(tree: &Tree, name: &str) -> Result<Hash, UnreadableEvent> {
    tree.text(name)
        .and_then(unhex)
        .ok_or_else(|| UnreadableEvent(format!("`{name}` is not 64 lower-case hexadecimal digits")))
}

fn chain(tree: &Tree) -> Option<String> {
    let (chain, gate) = (tree.text("chain")?, tree.text("gate")?);
    let nonce = chain.strip_prefix(gate)?.strip_prefix('/')?;
    let hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    // reports print it: whoever can write a line into a log must not write into those too
    let word = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    if !(1..=MAX_GATE_NAME).contains(&gate.len()) || !gate.bytes().all(word) {
        return None;
    }
    (nonce.len() == 32 && nonce.bytes().all(hexadecimal)).then(|| chain.to_owned())
}

fn kind(tree: &Tree) -> Result<Kind, UnreadableEvent> {
    match tree.text("type") {
        Some("access") => Ok(Kind::Access),
        Some("close") => Ok(Kind::Close),
        Some("config") => Ok(Kind::Config),
        Some("gap") => {
            let count = tree.count("count").ok_or_else(|| unreadable("a `gap` without `count`"))?;
            let reason = tree.text("reason").ok_or_else(|| unreadable("a `gap` without `reason`"))?;
            let range = match (tree.member("from"), tree.member("to")) {
                (None, None) => None,
                _ => match (tree.count("from"), tree.count("to")) {
                    (Some(from), Some(to)) if from <= to => Some((from, to)),
                    _ => return Err(unreadable("a `gap` whose `from` and `to` are no range")),
                },
            };
            Ok(Kind::Gap { count, reason: reason.to_owned(), range })
        }
        Some("heartbeat") => Ok(Kind::Heartbeat),
        Some("open") => Ok(Kind::Open { prev_chain: tree.text("prev_chain").map(str::to_owned) }),
        Some(other) => Err(UnreadableEvent(format!("the type `{}` is unknown", other.escape_debug()))),
        None => Err(unreadable("`type` is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::{Chain, Signer};
    use crate::audit::event::AuditEvent;

    fn line() -> String {
        let signer = Signer::Keyed(MacKey::chain("c1", b"secret").unwrap());
        let mut line = Vec::new();
        let draft = AuditEvent::Close(UnixTime::from_millis(0)).draft("gate");
        Chain::new("gate", [1; 16]).seal(&draft, &signer, &mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_store_may_reorder_and_space_what_it_keeps() {
        let key = MacKey::chain("c1", b"secret").unwrap();
        let event = SealedEvent::parse(line().as_bytes()).unwrap();
        assert_eq!(event.authenticity(std::slice::from_ref(&key)), Authenticity::Proven);
        let mut members: Vec<&str> = line().leak().trim_matches(['{', '}']).split(',').collect();
        members.reverse();
        members.push("\"received_at\":\"2026-01-01T00:00:00Z\"");
        let stored = format!("  {{ {} }} \r\n", members.join(" ,\n ").replace("gate", "\\u0067ate"));
        let again = SealedEvent::parse(stored.as_bytes()).unwrap();
        assert_eq!((again.hash, &again.bytes), (event.hash, &event.bytes));
        assert_eq!(again.authenticity(&[key]), Authenticity::Proven);
        let kept = event.received(UnixTime::from_millis(0));
        assert_eq!(SealedEvent::parse(&kept).unwrap().bytes, event.bytes);
        assert_eq!(Tree::parse(&kept).unwrap().canonical(), kept);
        assert!(
            String::from_utf8(kept)
                .unwrap()
                .contains(",\"received_at\":\"1970-01-01T00:00:00.000Z\",\"seq\":0,")
        );
    }

    #[test]
    fn a_mac_proves_with_its_key_alone() {
        let event = SealedEvent::parse(line().as_bytes()).unwrap();
        assert_eq!(event.authenticity(&[]), Authenticity::UnknownKey);
        let other = MacKey::chain("c1", b"other").unwrap();
        assert_eq!(event.authenticity(&[other]), Authenticity::Wrong);
    }

    #[test]
    fn what_is_not_an_event_is_named() {
        for (from, to, what) in [
            ("\"v\":1", "\"v\":2", "`v`"),
            ("\"v\":1", "\"v\":1.0", "float"),
            ("\"v\":1", "\"v\":1,\"v\":1", "duplicate member `v`"),
            ("\"type\":\"close\"", "\"type\":\"\\u0000x\"", "type `\\0x` is unknown"),
            ("\"type\":\"close\",", "", "`type` is missing"),
            ("\"type\":\"close\"", "\"type\":\"gap\"", "`count`"),
            (
                "\"type\":\"close\"",
                "\"count\":1,\"from\":3,\"reason\":\"x\",\"to\":2,\"type\":\"gap\"",
                "range",
            ),
            ("\"type\":\"close\"", "\"count\":1,\"from\":3,\"reason\":\"x\",\"type\":\"gap\"", "range"),
            ("\"gate\":\"gate\"", "\"gate\":\"gat\"", "`chain`"),
            ("gate/01", "gate/0A", "`chain`"),
            ("\"seq\":0", "\"seq\":-1", "`seq`"),
            ("\"kid\":\"c1\",", "", "`mac` without `kid`"),
            ("\"kid\":\"c1\"", "\"kid\":1", "`kid` is not a text"),
            ("1970-01-01T", "1970-13-01T", "RFC 3339"),
            ("\"seq\":0", "\"prev\":\"00\",\"seq\":0", "`prev`"),
            ("\"seq\":0", "\"received_at\":1,\"seq\":0", "`received_at`"),
        ] {
            let broken = line().replacen(from, to, 1);
            let error = SealedEvent::parse(broken.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(what), "{broken}: {error}");
        }
        for gate in ["g\\u001b[2K", "g\\nall: intact", "Gate", "", &"g".repeat(33)] {
            let forged =
                line().replace("gate/", &format!("{gate}/")).replace(":\"gate\"", &format!(":\"{gate}\""));
            assert!(SealedEvent::parse(forged.as_bytes()).is_err(), "{forged}");
        }
        for line in [&b""[..], b"[]", b"1", b"{}", &[b' '; MAX_LINE_BYTES + 1]] {
            assert!(SealedEvent::parse(line).is_err());
        }
    }
}
