//! What was found out a short while ago, by the digest of what it was found out about.
//!
//! It has two generations: when the young one is full it becomes the old one, and what the old one held is forgotten;
//! what is still in use is carried over. Every step takes constant time.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash};

use siphasher::sip::SipHasher13;

use crate::time::UnixTime;

/// See the module.
#[derive(Debug)]
pub struct Recent<K, V> {
    /// Hashed with a fixed key: whoever found digests that collide would slow a look-up by comparisons of `max` keys.
    young: Generation<K, V>,
    old: Generation<K, V>,
    max: usize,
}

type Generation<K, V> = HashMap<K, Entry<V>, BuildHasherDefault<SipHasher13>>;

#[derive(Clone, Debug)]
struct Entry<V> {
    value: V,
    since: UnixTime,
    until: UnixTime,
}

// === impl Recent ===

impl<K: Copy + Eq + Hash, V: Clone> Recent<K, V> {
    /// Holds at most `max` entries.
    pub fn new(max: usize) -> Self {
        Self { max, ..Self::default() }
    }

    /// What is known, unless its time is over. A clock that was set back makes no entry younger: it ends it.
    pub fn find(&mut self, key: &K, now: UnixTime) -> Option<V> {
        let is_old = !self.young.contains_key(key);
        let entry = self.young.get(key).or_else(|| self.old.get(key))?.clone();
        if now < entry.since || now >= entry.until {
            self.young.remove(key);
            self.old.remove(key);
            return None;
        }
        let value = entry.value.clone();
        if is_old {
            self.put(*key, entry);
        }
        Some(value)
    }

    /// Remembers what was found out now, until then.
    pub fn insert(&mut self, key: K, value: V, now: UnixTime, until: UnixTime) {
        if until > now {
            self.put(key, Entry { value, since: now, until });
        }
    }

    fn put(&mut self, key: K, entry: Entry<V>) {
        // each generation has half of the places
        let half = self.max >> 1;
        if half == 0 {
            return;
        }
        if self.young.len() >= half {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, entry);
    }

    /// Entries that are held.
    pub fn len(&self) -> usize {
        self.young.len().saturating_add(self.old.len())
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { young: Generation::default(), old: Generation::default(), max: 0 }
    }
}
