//! A body, chunk by chunk as it passes, becomes a hash and a size. Nothing of it is kept.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use crate::audit::chain::{MacKey, hex};

/// How bodies are digested.
#[derive(Clone, Debug)]
pub struct DigestSettings {
    /// With a key a hash cannot be guessed back to a small input.
    pub key: Option<MacKey>,
    /// Bytes of a body that are hashed; all are counted.
    pub max_bytes: u64,
    /// Request bodies.
    pub inputs: bool,
    /// Response bodies.
    pub outputs: bool,
}

/// A digest that grows with its body.
#[derive(Clone, Debug)]
pub struct BodyDigest {
    state: State,
    max_bytes: u64,
    hashed: u64,
    bytes: u64,
}

/// What is left of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digested {
    /// `sha256:<hex>` or `hmac-sha256:<kid>:<hex>`.
    pub hash: String,
    /// Bytes that passed, all of them.
    pub bytes: u64,
    /// The hash ends before the body does.
    pub partial: bool,
}

#[derive(Clone)]
enum State {
    Keyed { kid: String, mac: Box<Hmac<Sha256>> },
    Plain(Sha256),
}

// === impl DigestSettings ===

impl DigestSettings {
    /// Starts a digest.
    pub fn start(&self) -> BodyDigest {
        let state = match &self.key {
            Some(key) => State::Keyed { kid: key.id().to_owned(), mac: Box::new(key.start()) },
            None => State::Plain(Sha256::new()),
        };
        BodyDigest { state, max_bytes: self.max_bytes, hashed: 0, bytes: 0 }
    }
}

// === impl BodyDigest ===

impl BodyDigest {
    /// Takes the next chunk.
    pub fn update(&mut self, chunk: &[u8]) {
        let left = usize::try_from(self.max_bytes.saturating_sub(self.hashed)).unwrap_or(usize::MAX);
        // after a hole nothing more is hashed: the hash is of the body's beginning
        let covered = if self.hashed == self.bytes { chunk.get(..left).unwrap_or(chunk) } else { &[] };
        if !covered.is_empty() {
            match &mut self.state {
                State::Keyed { mac, .. } => mac.update(covered),
                State::Plain(sha) => sha.update(covered),
            }
        }
        self.hashed = self.hashed.saturating_add(length(covered));
        self.bytes = self.bytes.saturating_add(length(chunk));
    }

    /// Whether no further byte will change the hash; [`Self::skip`] then saves reading them.
    pub const fn is_full(&self) -> bool {
        self.hashed >= self.max_bytes
    }

    /// Counts bytes that passed unread.
    pub const fn skip(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Bytes so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The hash of what passed.
    pub fn finish(self) -> Digested {
        let hash = match self.state {
            State::Keyed { kid, mac } => format!("hmac-sha256:{kid}:{}", hex(&mac.finalize().into_bytes())),
            State::Plain(sha) => format!("sha256:{}", hex(&sha.finalize())),
        };
        Digested { hash, bytes: self.bytes, partial: self.hashed < self.bytes }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keyed { .. } => "Keyed",
            Self::Plain(_) => "Plain",
        })
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(key: Option<MacKey>, max_bytes: u64) -> DigestSettings {
        DigestSettings { key, max_bytes, inputs: true, outputs: true }
    }

    #[test]
    fn a_plain_digest_is_what_sha256sum_prints() {
        let mut digest = settings(None, 100).start();
        digest.update(b"a");
        digest.update(b"bc");
        assert_eq!(
            digest.finish(),
            Digested {
                hash: String::from("sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
                bytes: 3,
                partial: false
            }
        );
    }

    #[test]
    fn a_keyed_digest_names_its_key_and_differs_from_the_plain_one() {
        let key = MacKey::digest("d1", b"secret").unwrap();
        let expected = format!("hmac-sha256:d1:{}", hex(&key.tag(&[b"abc"])));
        let mut digest = settings(Some(key), 100).start();
        digest.update(b"abc");
        assert_eq!(digest.finish().hash, expected);
    }

    #[test]
    fn bytes_after_a_hole_are_counted_and_not_hashed() {
        let mut digest = settings(None, 100).start();
        digest.update(b"abc");
        digest.skip(2);
        digest.update(b"later");
        let digested = digest.finish();
        assert!(digested.partial);
        assert_eq!(digested.bytes, 10);
        assert!(digested.hash.starts_with("sha256:ba7816bf"));
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter_and_the_limit_is_exact(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..9),
            max_bytes in 0_u64..40,
        ) {
            let whole = chunks.concat();
            let mut digest = settings(None, max_bytes).start();
            for chunk in &chunks {
                digest.update(chunk);
            }
            let covered = &whole[..whole.len().min(usize::try_from(max_bytes).unwrap())];
            prop_assert_eq!(digest.finish(), Digested {
                hash: format!("sha256:{}", hex(&Sha256::digest(covered))),
                bytes: length(&whole),
                partial: covered.len() < whole.len(),
            });
        }
    }
}
