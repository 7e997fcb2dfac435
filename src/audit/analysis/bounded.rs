//! Names without end become as many as fit: always the same ones, whatever the order in which they came.
//!
//! [`Smallest`] keeps the alphabetically first N names. [`Kept`] keeps the names whose hashes are smallest, as many
//! as its bytes hold, which is a fair sample of them: a name is let go when those with smaller hashes and itself are
//! more than the bound. Entries only grow, so whoever is let go early would not have been kept at the end either,
//! and what is kept at the end was never let go: its counts are complete.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};

use siphasher::sip::SipHasher13;

/// What [`Smallest`] and [`Kept`] hold under a name.
pub trait Entry: Default {
    /// Joins what was collected elsewhere under the same name.
    fn merge(&mut self, other: Self);

    /// Bytes, about; never less than before.
    fn weight(&self) -> usize {
        size_of::<Self>()
    }
}

/// The alphabetically first `N` names.
#[derive(Clone, Debug, Default)]
pub struct Smallest<V, const N: usize> {
    entries: BTreeMap<Box<str>, V>,
    more: bool,
}

/// As many entries as `max_bytes` hold.
#[derive(Clone, Debug)]
pub struct Kept<K, V> {
    entries: HashMap<K, V>,
    bytes: usize,
    max_bytes: usize,
    /// The smallest hash that was let go: nothing from it on is taken in again.
    limit: Option<u64>,
}

/// What is left of too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Cut {
    /// Those that are left.
    pub kept: u64,
    /// Those that there were, about.
    pub total: u64,
}

/// Bytes of a map's entry beside the value and the text.
const ENTRY_BYTES: usize = 96;

// === impl Smallest ===

impl<V: Entry, const N: usize> Smallest<V, N> {
    /// Changes the entry of a name, which is made if it fits; gives by how much the weight grew.
    pub fn update(&mut self, name: &str, change: impl FnOnce(&mut V)) -> usize {
        if let Some(entry) = self.entries.get_mut(name) {
            change(entry);
            return 0;
        }
        let before = self.weight();
        if self.entries.len() >= N {
            self.more = true;
            if self.entries.last_key_value().is_none_or(|(last, _)| &**last < name) {
                return 0;
            }
            self.entries.pop_last();
        }
        change(self.entries.entry(Box::from(name)).or_default());
        self.weight().saturating_sub(before)
    }

    /// Keeps what `keep` says.
    pub fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.entries.retain(|_, value| keep(value));
    }

    /// Names and values, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.entries.iter().map(|(name, value)| (&**name, value))
    }

    /// Whether there were more.
    pub const fn has_more(&self) -> bool {
        self.more
    }
}

impl<V: Entry, const N: usize> Entry for Smallest<V, N> {
    fn merge(&mut self, other: Self) {
        self.more |= other.more;
        for (name, value) in other.entries {
            self.update(&name, |entry| entry.merge(value));
        }
    }

    fn weight(&self) -> usize {
        // not the values' own weight: one that goes must not make the whole lighter
        self.entries.len().saturating_mul(ENTRY_BYTES.saturating_add(size_of::<V>()))
    }
}

// === impl Kept ===

impl<K: Hash + Ord + Clone, V: Entry> Kept<K, V> {
    /// Nothing, in at most `max_bytes`, about.
    pub fn new(max_bytes: usize) -> Self {
        Self { entries: HashMap::new(), bytes: 0, max_bytes, limit: None }
    }

    /// Changes the entry of a name, which is made if it fits. `key` is asked for when it is new. `change` gives by
    /// how much the weight grew, at least.
    pub fn update<Q>(&mut self, name: &Q, key: impl FnOnce() -> K, change: impl FnOnce(&mut V) -> usize)
    where
        Q: Hash + Eq + ?Sized,
        K: std::borrow::Borrow<Q>,
    {
        let grown = if let Some(entry) = self.entries.get_mut(name) {
            change(entry)
        } else {
            if self.limit.is_some_and(|limit| hash(name) >= limit) {
                return;
            }
            let mut entry = V::default();
            let grown = change(&mut entry);
            self.entries.insert(key(), entry);
            grown.saturating_add(ENTRY_BYTES).saturating_add(size_of::<V>())
        };
        self.bytes = self.bytes.saturating_add(grown);
        // looked at seldom: one pass over all must not be paid for by each
        if self.bytes > self.max_bytes.saturating_add(self.max_bytes / 4) {
            self.trim();
        }
    }

    /// Lets go of what does not fit. To be called before reading.
    pub fn trim(&mut self) {
        let weigh = |entry: &V| entry.weight().saturating_add(ENTRY_BYTES);
        self.bytes = self.entries.values().map(weigh).fold(0, usize::saturating_add);
        if self.bytes <= self.max_bytes {
            return;
        }
        let mut order: Vec<(u64, usize)> =
            self.entries.iter().map(|(key, entry)| (hash(key), weigh(entry))).collect();
        order.sort_unstable();
        let mut sum = 0_usize;
        let limit = order.iter().find_map(|(hash, weight)| {
            sum = sum.saturating_add(*weight);
            (sum > self.max_bytes).then_some(*hash)
        });
        let Some(limit) = limit else { return };
        self.limit = Some(limit);
        self.entries.retain(|key, _| hash(key) < limit);
        self.bytes = self.entries.values().map(weigh).fold(0, usize::saturating_add);
    }

    /// Joins what another thread kept.
    pub fn merge(&mut self, other: Self) {
        self.limit = match (self.limit, other.limit) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        for (key, value) in other.entries {
            self.entries.entry(key).or_default().merge(value);
        }
        if let Some(limit) = self.limit {
            self.entries.retain(|key, _| hash(key) < limit);
        }
        self.trim();
    }

    /// Keeps what `keep` says, which may change it.
    pub fn retain(&mut self, keep: impl FnMut(&K, &mut V) -> bool) {
        self.entries.retain(keep);
        self.trim();
    }

    /// Entries in the order of their names.
    pub fn sorted(&self) -> Vec<(&K, &V)> {
        let mut entries: Vec<(&K, &V)> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        entries
    }

    /// Where some did not fit: how many are kept, and how many there were, about.
    pub fn cut(&self) -> Option<Cut> {
        let limit = u128::from(self.limit?).max(1);
        let kept = u64::try_from(self.entries.len()).unwrap_or(u64::MAX);
        // hashes lie evenly: below the limit there are as many of all as the limit is of 2^64
        let total = (u128::from(kept) << 64).checked_div(limit).unwrap_or(0);
        Some(Cut { kept, total: u64::try_from(total).unwrap_or(u64::MAX).max(kept.saturating_add(1)) })
    }
}

fn hash<Q: Hash + ?Sized>(name: &Q) -> u64 {
    // a fixed key: the same names in every run
    let mut hasher = SipHasher13::new_with_keys(0x6d6c_6761_7465, 0x61_7564_6974);
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "an overflow should stop the test")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, Default, PartialEq)]
    struct Count(usize);

    impl Entry for Count {
        fn merge(&mut self, other: Self) {
            self.0 += other.0;
        }
        fn weight(&self) -> usize {
            self.0 * 8
        }
    }

    fn kept(names: &[u8], parts: usize) -> Vec<(String, usize)> {
        let mut whole: Option<Kept<Box<str>, Count>> = None;
        for part in 0..parts {
            let mut kept = Kept::new(3000);
            for (_, name) in names.iter().enumerate().filter(|(index, _)| index % parts == part) {
                let name = format!("n{name}");
                kept.update(
                    &*name,
                    || Box::from(name.as_str()),
                    |count: &mut Count| {
                        count.0 += 1;
                        8
                    },
                );
            }
            match &mut whole {
                None => whole = Some(kept),
                Some(whole) => whole.merge(kept),
            }
        }
        let mut whole = whole.unwrap();
        whole.trim();
        whole.sorted().into_iter().map(|(name, count)| (name.to_string(), count.0)).collect()
    }

    proptest! {
        #[test]
        fn the_same_names_are_kept_whatever_the_order_and_the_threads(
            names in proptest::collection::vec(any::<u8>(), 0..600), parts in 1..4_usize,
        ) {
            let forwards = kept(&names, 1);
            let mut backwards: Vec<u8> = names.clone();
            backwards.reverse();
            prop_assert_eq!(&kept(&backwards, parts), &forwards);
            let total = names.iter().collect::<std::collections::BTreeSet<_>>().len();
            prop_assert!(forwards.len() <= total);
            for (name, count) in &forwards {
                let all = names.iter().filter(|n| format!("n{n}") == *name).count();
                prop_assert_eq!(all, *count);
            }
        }

        #[test]
        fn the_first_names_are_kept_with_all_their_counts(names in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut few = Smallest::<Count, 5>::default();
            for name in &names {
                few.update(&format!("{name:03}"), |count| count.0 += 1);
            }
            let mut distinct = names.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(few.has_more(), distinct.len() > 5);
            let expected: Vec<(String, usize)> = distinct.iter().take(5)
                .map(|name| (format!("{name:03}"), names.iter().filter(|n| *n == name).count())).collect();
            prop_assert_eq!(few.iter().map(|(n, c)| (n.to_owned(), c.0)).collect::<Vec<_>>(), expected);
        }
    }
}
