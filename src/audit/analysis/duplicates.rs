//! Whether an event came before, by its chain and number alone: one bit for each, in pages. A page that is full is
//! let go, so that a log in order takes no memory whatever its size; one in disorder takes a bit an event.
//!
//! Two different events with one number are a forgery, which `audit verify` names; here the first counts.

use std::collections::{BTreeSet, HashMap};

/// Open pages that are kept, of 512 bytes each: 64 MiB, half a billion events in disorder.
pub const MAX_PAGES: usize = 1 << 17;

/// Chains that are told apart.
pub const MAX_CHAINS: usize = 1 << 16;

const PAGE_BITS: u64 = 4096;
const PAGE_WORDS: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Duplicates {
    chains: HashMap<Box<str>, Chain>,
    pages: usize,
    unchecked: u64,
}

#[derive(Debug, Default)]
struct Chain {
    /// Pages before this one are full.
    full_before: u64,
    /// Full pages beyond.
    full: BTreeSet<u64>,
    open: HashMap<u64, Page>,
}

#[derive(Debug)]
struct Page {
    words: Box<[u64; PAGE_WORDS]>,
    seen: u64,
}

// === impl Duplicates ===

impl Duplicates {
    /// Notes an event and says whether it is new. What does not fit counts as new.
    pub fn is_new(&mut self, chain: &str, seq: u64) -> bool {
        if !self.chains.contains_key(chain) {
            if self.chains.len() >= MAX_CHAINS {
                self.unchecked = self.unchecked.saturating_add(1);
                return true;
            }
            self.chains.insert(Box::from(chain), Chain::default());
        }
        let Some(chain) = self.chains.get_mut(chain) else { return true };
        let number = seq.div_euclid(PAGE_BITS);
        if number < chain.full_before || chain.full.contains(&number) {
            return false;
        }
        let page = match chain.open.get_mut(&number) {
            Some(page) => page,
            None if self.pages >= MAX_PAGES => {
                self.unchecked = self.unchecked.saturating_add(1);
                return true;
            }
            None => {
                self.pages = self.pages.saturating_add(1);
                chain.open.entry(number).or_insert_with(|| Page { words: Box::new([0; PAGE_WORDS]), seen: 0 })
            }
        };
        let new = page.mark(seq.rem_euclid(PAGE_BITS));
        if page.seen == PAGE_BITS {
            chain.open.remove(&number);
            self.pages = self.pages.saturating_sub(1);
            chain.close(number);
        }
        new
    }

    /// Events that were counted although it could not be said whether they came before.
    pub const fn unchecked(&self) -> u64 {
        self.unchecked
    }
}

// === impl Chain ===

impl Chain {
    fn close(&mut self, number: u64) {
        self.full.insert(number);
        while self.full.remove(&self.full_before) {
            self.full_before = self.full_before.saturating_add(1);
        }
    }
}

// === impl Page ===

impl Page {
    fn mark(&mut self, bit: u64) -> bool {
        let place = usize::try_from(bit >> 6).ok().and_then(|word| self.words.get_mut(word));
        let Some(word) = place else { return true };
        let mask = 1_u64.rotate_left(u32::try_from(bit & 63).unwrap_or(0));
        let new = *word & mask == 0;
        *word |= mask;
        self.seen = self.seen.saturating_add(u64::from(new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_new_once_whatever_the_order() {
        let mut duplicates = Duplicates::default();
        // 7919 is prime to 20 000, so every number comes once
        let numbers = || (0..20_000_u64).map(|n| n * 7919 % 20_000);
        assert!(numbers().all(|seq| duplicates.is_new("a", seq)));
        assert!(numbers().all(|seq| !duplicates.is_new("a", seq)));
        assert!(duplicates.is_new("b", 3) && duplicates.is_new("a", u64::MAX));
    }

    #[test]
    fn a_log_in_order_takes_one_page() {
        let mut duplicates = Duplicates::default();
        for seq in 0..1_000_000 {
            assert!(duplicates.is_new("a", seq));
        }
        assert_eq!(duplicates.pages, 1);
        assert_eq!((duplicates.chains["a"].full.len(), duplicates.unchecked()), (0, 0));
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut duplicates = Duplicates { pages: MAX_PAGES, ..Duplicates::default() };
        assert!(duplicates.is_new("a", 0) && duplicates.is_new("a", 0));
        assert_eq!(duplicates.unchecked(), 2);
    }
}
