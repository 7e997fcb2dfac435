//! Sealed events, in any order and with duplicates, become a verdict on each of their chains.
//!
//! A chain is kept as runs: numbers without a hole, of which nothing stays but 32 bytes each. An event extends a
//! run or begins one; runs that meet become one. So memory is 32 bytes an event whatever the order, and each link
//! is checked when its second end arrives.
//!
//! What cannot be seen here: a chain whose tail was cut looks like one that is still being written. It is listed
//! as not closed.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::audit::chain::MacKey;
use crate::audit::sealed::{SealedEvent, UnreadableEvent};

pub use self::report::{
    ChainReport, FaultKind, FaultReport, GapReport, Listed, MAX_LISTED, Report, UnreadableReport, Verdict,
};

mod links;
mod report;

/// Where an event was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named.
    pub file: Rc<str>,
    /// Counted from 1.
    pub line: u64,
}

/// Takes lines and gives a [`Report`] at the end.
#[derive(Debug)]
pub struct Verifier {
    keys: Vec<MacKey>,
    chains: BTreeMap<String, links::Chain>,
    unreadable: Listed<UnreadableReport>,
    lines: u64,
}

// === impl Verifier ===

impl Verifier {
    /// With keys, every event must be proven by one of them; without, order and content alone are checked.
    pub fn new(keys: Vec<MacKey>) -> Self {
        Self { keys, chains: BTreeMap::new(), unreadable: Listed::default(), lines: 0 }
    }

    /// Takes one line; blank ones are skipped.
    pub fn line(&mut self, place: &Place, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        self.lines = self.lines.saturating_add(1);
        match SealedEvent::parse(line) {
            Ok(event) => self.event(place, &event),
            Err(error) => self.unreadable(place, &error),
        }
    }

    /// Takes one event.
    pub fn event(&mut self, place: &Place, event: &SealedEvent) {
        if !self.chains.contains_key(&event.chain) {
            self.chains.insert(event.chain.clone(), links::Chain::default());
        }
        if let Some(chain) = self.chains.get_mut(&event.chain) {
            chain.take(place, event, &self.keys);
        }
    }

    /// Notes a line that is no event.
    fn unreadable(&mut self, place: &Place, error: &UnreadableEvent) {
        self.unreadable.push(|| UnreadableReport {
            file: place.file.to_string(),
            line: place.line,
            what: error.to_string(),
        });
    }

    /// Notes a line that is longer than an event can be.
    pub fn too_long(&mut self, place: &Place) {
        self.unreadable(place, &UnreadableEvent::too_long());
    }

    /// Notes input that could not be read at all.
    pub fn unreadable_file(&mut self, file: &str, what: &str) {
        self.unreadable.push(|| UnreadableReport { file: file.to_owned(), line: 0, what: what.to_owned() });
    }

    /// Lines so far, blank ones not counted.
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    /// The verdict.
    pub fn finish(mut self) -> Report {
        if self.chains.is_empty() && self.unreadable.total == 0 {
            self.unreadable_file("-", "there is no event");
        }
        let known: Vec<String> = self.chains.keys().cloned().collect();
        let is_known = |id: &str| known.binary_search_by(|known| known.as_str().cmp(id)).is_ok();
        let chains = self.chains.into_iter().map(|(id, chain)| chain.finish(id, &is_known)).collect();
        Report::of(chains, self.unreadable)
    }
}

#[cfg(test)]
mod tests;
