//! Where records are kept: in shared data under a MAC where there is a key, else in this VM alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::audit::chain::MacKey;
use crate::host::{Host, HostError, Version, Versioned};
use crate::identity::secret::NamedSecret;

/// See the module. Clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct Store {
    /// First seals, all open.
    keys: Rc<[MacKey]>,
    /// Records of this VM, where there is no key.
    local: Rc<RefCell<BTreeMap<String, Entry>>>,
}

/// A value and its version, which is never zero.
type Entry = (Vec<u8>, u32);

/// What a MAC is computed over begins with this, then come the key's length, the key and the value.
const PREFIX: &[u8] = b"mlgate-record-1\0";

/// Bytes of a MAC.
const MAC: usize = 32;

/// Records that one VM keeps for itself; those of documents that are no longer configured are forgotten first.
const MAX_LOCAL: usize = 512;

// === impl Store ===

impl Store {
    /// A store under the keys of `shared_data`.
    pub fn new(keys: &[NamedSecret]) -> Self {
        // an empty secret is a fault of the configuration
        let keys = keys.iter().filter_map(|key| MacKey::chain(&key.id, key.secret.expose()).ok());
        Self { keys: keys.collect(), local: Rc::default() }
    }

    /// Whether all workers share it.
    pub fn is_shared(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Goes on with what another store of this VM keeps for itself.
    #[must_use]
    pub fn beside(mut self, other: &Self) -> Self {
        self.local = Rc::clone(&other.local);
        self
    }

    /// What stands under a key, whoever wrote it.
    pub(super) fn read(&self, key: &str, host: &dyn Host) -> Result<Option<Versioned>, HostError> {
        if self.is_shared() {
            return host.shared(key);
        }
        let local = self.local.borrow();
        Ok(local
            .get(key)
            .map(|(value, version)| Versioned { value: value.clone(), version: Version::At(*version) }))
    }

    /// Writes if the version is still `expected`, else [`HostError::Conflict`].
    pub(super) fn write(
        &self,
        key: &str,
        value: &[u8],
        expected: Version,
        host: &dyn Host,
    ) -> Result<(), HostError> {
        if self.is_shared() {
            return host.compare_and_set(key, value, expected);
        }
        let mut local = self.local.borrow_mut();
        let current = local.get(key).map_or(Version::Absent, |(_, version)| Version::At(*version));
        if current != expected {
            return Err(HostError::Conflict);
        }
        let version = match current {
            Version::Absent => 1,
            Version::At(version) => version.saturating_add(1),
        };
        if local.len() >= MAX_LOCAL {
            local.pop_first();
        }
        local.insert(key.to_owned(), (value.to_vec(), version));
        Ok(())
    }

    /// A value as it is written under `key`: with the id of the key that vouches for it, and its MAC.
    pub(super) fn seal(&self, key: &str, mut value: Vec<u8>) -> Vec<u8> {
        let Some(signer) = self.keys.first() else { return value };
        // ids are at most 32 bytes
        value.push(u8::try_from(signer.id().len()).unwrap_or(u8::MAX));
        value.extend_from_slice(signer.id().as_bytes());
        let tag = signer.tag(&[PREFIX, &length(key), key.as_bytes(), &value]);
        value.extend_from_slice(&tag);
        value
    }

    /// The value that was sealed; `None` for anything that nobody with a key wrote under `key`.
    pub(super) fn open<'a>(&self, key: &str, sealed: &'a [u8]) -> Option<&'a [u8]> {
        if !self.is_shared() {
            return Some(sealed);
        }
        let (signed, tag) = sealed.split_at_checked(sealed.len().checked_sub(MAC)?)?;
        let signer = self.keys.iter().find(|signer| {
            let id = signer.id().as_bytes();
            let named = signed.strip_suffix(id).and_then(<[u8]>::last).copied();
            named.map(usize::from) == Some(id.len())
                && signer.verifies(&[PREFIX, &length(key), key.as_bytes(), signed], tag)
        })?;
        signed.get(..signed.len().checked_sub(signer.id().len())?.checked_sub(1)?)
    }
}

fn length(key: &str) -> [u8; 8] {
    u64::try_from(key.len()).unwrap_or(u64::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;
    use crate::identity::secret::Secret;

    fn named(id: &str, secret: &str) -> NamedSecret {
        NamedSecret { id: id.to_owned(), secret: Secret::new(secret) }
    }

    #[test]
    fn what_was_sealed_opens_under_the_same_key_alone() {
        let store = Store::new(&[named("s1", "secret")]);
        let sealed = store.seal("here", b"value".to_vec());
        assert_eq!(store.open("here", &sealed), Some(b"value".as_slice()));
        assert_eq!(store.open("there", &sealed), None);
        assert_eq!(Store::new(&[named("s1", "other")]).open("here", &sealed), None);
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert_eq!(store.open("here", &changed), None, "{index}");
            assert_eq!(store.open("here", &sealed[..index]), None, "{index}");
        }
    }

    #[test]
    fn the_first_key_signs_and_all_verify() {
        let (old, new) = (named("s1", "old"), named("s2", "new"));
        let before = Store::new(std::slice::from_ref(&old)).seal("k", b"v".to_vec());
        let both = Store::new(&[new.clone(), old.clone()]);
        assert_eq!(both.open("k", &before), Some(b"v".as_slice()));
        let after = both.seal("k", b"v".to_vec());
        assert_eq!(Store::new(&[new]).open("k", &after), Some(b"v".as_slice()));
        assert_eq!(Store::new(&[old]).open("k", &after), None);
    }

    #[test]
    fn without_a_key_nothing_leaves_the_vm() {
        let (host, store) = (FakeHost::default(), Store::new(&[]));
        assert!(!store.is_shared());
        store.write("k", b"v", Version::Absent, &host).unwrap();
        assert_eq!(store.write("k", b"w", Version::Absent, &host), Err(HostError::Conflict));
        let read = store.read("k", &host).unwrap().unwrap();
        assert_eq!(read.value, b"v");
        store.write("k", b"w", read.version, &host).unwrap();
        assert!(host.shared.borrow().is_empty());
        assert_eq!(Store::new(&[]).read("k", &host), Ok(None));
        assert!(Store::new(&[]).beside(&store).read("k", &host).unwrap().is_some());
    }
}
