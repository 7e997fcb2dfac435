//! One chain: runs of linked events, and what does not fit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{ChainReport, FaultKind, FaultReport, GapReport, Listed, Place, Verdict};
use crate::audit::chain::{Hash, MacKey};
use crate::audit::sealed::{Authenticity, Kind, SealedEvent};

/// Unknown key ids that are named.
const MAX_UNKNOWN_KEYS: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// First number to run; runs never touch.
    runs: BTreeMap<u64, Run>,
    events: u64,
    duplicates: u64,
    closed: Option<u64>,
    keyed: Option<bool>,
    proven: u64,
    unknown_keys: BTreeSet<String>,
    prev_chain: Option<String>,
    lost: u64,
    gaps: Listed<GapReport>,
    faults: Listed<FaultReport>,
    first_bad_seq: Option<u64>,
}

/// Numbers without a hole.
#[derive(Debug)]
struct Run {
    /// What the first event says of the one before.
    first: First,
    hashes: VecDeque<Hash>,
}

#[derive(Debug)]
struct First {
    prev: Option<Hash>,
    place: Place,
    /// Numbers that it declares lost, if it is a `gap`.
    lost: Option<(u64, u64)>,
}

// === impl Chain ===

impl Chain {
    pub(super) fn take(&mut self, place: &Place, event: &SealedEvent, keys: &[MacKey]) {
        let seq = event.seq;
        match self.known(seq) {
            Some(hash) if hash == event.hash => {
                self.duplicates = self.duplicates.saturating_add(1);
                return;
            }
            // its MAC is looked at as well: it tells which of the two is the forgery
            Some(_) => {
                self.fault(FaultKind::Fork, seq, Some(place));
                self.authenticate(place, event, keys);
                return;
            }
            None => {}
        }
        self.events = self.events.saturating_add(1);
        self.authenticate(place, event, keys);
        let mut lost = None;
        match &event.kind {
            Kind::Close => self.closed = Some(self.closed.map_or(seq, |closed| closed.min(seq))),
            Kind::Gap { count, reason, range } => {
                lost = range.filter(|(_, to)| to.checked_add(1) == Some(seq));
                self.lost = self.lost.saturating_add(*count);
                self.gaps.push(|| GapReport {
                    seq,
                    count: *count,
                    reason: reason.clone(),
                    from: range.map(|(from, _)| from),
                    to: range.map(|(_, to)| to),
                });
            }
            Kind::Open { prev_chain } => self.prev_chain.clone_from(prev_chain),
            Kind::Access | Kind::Config | Kind::Heartbeat => {}
        }
        if seq == 0 && !matches!(event.kind, Kind::Open { .. }) {
            self.fault(FaultKind::NotOpened, seq, Some(place));
        }
        if (seq == 0) != event.prev.is_none() {
            self.fault(FaultKind::WrongPrev, seq, Some(place));
        }
        self.link(seq, event.hash, First { prev: event.prev, place: place.clone(), lost });
    }

    pub(super) fn finish(mut self, id: String, is_known: &dyn Fn(&str) -> bool) -> ChainReport {
        self.find_missing();
        let last_seq = self.runs.last_key_value().map_or(0, |(start, run)| run.end(*start).saturating_sub(1));
        if let Some(closed) = self.closed.filter(|closed| *closed < last_seq) {
            self.fault(FaultKind::AfterClose, closed.saturating_add(1), None);
        }
        let verdict = if self.faults.total > 0 {
            Verdict::Tampered
        } else if !self.unknown_keys.is_empty() {
            Verdict::Unreadable
        } else if self.gaps.total > 0 {
            Verdict::Gaps
        } else {
            Verdict::Intact
        };
        ChainReport {
            chain: id,
            verdict,
            first_seq: self.runs.first_key_value().map_or(0, |(start, _)| *start),
            last_seq,
            events: self.events,
            duplicates: self.duplicates,
            closed: self.closed.is_some(),
            keyed: self.keyed == Some(true),
            proven: self.proven,
            unknown_keys: self.unknown_keys.into_iter().collect(),
            missing_predecessor: self.prev_chain.filter(|chain| !is_known(chain)),
            first_bad_seq: self.first_bad_seq,
            lost: self.lost,
            gaps: self.gaps,
            faults: self.faults,
        }
    }

    fn known(&self, seq: u64) -> Option<Hash> {
        let (start, run) = self.runs.range(..=seq).next_back()?;
        run.hashes.get(usize::try_from(seq.checked_sub(*start)?).ok()?).copied()
    }

    fn authenticate(&mut self, place: &Place, event: &SealedEvent, keys: &[MacKey]) {
        let keyed = event.kid().is_some();
        if *self.keyed.get_or_insert(keyed) != keyed {
            self.fault(FaultKind::MixedKeys, event.seq, Some(place));
        }
        if keys.is_empty() {
            return;
        }
        match event.authenticity(keys) {
            Authenticity::Proven => self.proven = self.proven.saturating_add(1),
            Authenticity::Unkeyed => self.fault(FaultKind::Unkeyed, event.seq, Some(place)),
            Authenticity::UnknownKey => {
                if self.unknown_keys.len() < MAX_UNKNOWN_KEYS {
                    self.unknown_keys.extend(event.kid().map(str::to_owned));
                }
            }
            Authenticity::Wrong => self.fault(FaultKind::WrongMac, event.seq, Some(place)),
        }
    }

    /// Puts an event with a new number between its neighbours.
    fn link(&mut self, seq: u64, hash: Hash, first: First) {
        let mut start = seq;
        let before = self.runs.range_mut(..seq).next_back().filter(|(start, run)| run.end(**start) == seq);
        if let Some((found, run)) = before {
            start = *found;
            let right = run.hashes.back() == first.prev.as_ref();
            run.hashes.push_back(hash);
            if !right && first.prev.is_some() {
                let place = first.place;
                self.fault(FaultKind::WrongPrev, seq, Some(&place));
            }
        } else {
            self.runs.insert(seq, Run { first, hashes: VecDeque::from([hash]) });
        }
        let next = seq.saturating_add(1);
        if let Some(after) = self.runs.remove(&next) {
            if after.first.prev.is_some_and(|prev| prev != hash) {
                self.fault(FaultKind::WrongPrev, next, Some(&after.first.place));
            }
            if let Some(run) = self.runs.get_mut(&start) {
                run.join(after.hashes);
            }
        }
    }

    fn find_missing(&mut self) {
        let mut expected = 0;
        let mut holes = Vec::new();
        for (start, run) in &self.runs {
            if let Some(to) = start.checked_sub(1).filter(|to| *to >= expected) {
                match run.first.lost {
                    Some((from, _)) if from <= expected => {}
                    Some((from, _)) => holes.push((expected, from.saturating_sub(1))),
                    None => holes.push((expected, to)),
                }
            }
            expected = run.end(*start);
        }
        for (from, to) in holes {
            self.note(from, || FaultReport {
                kind: FaultKind::Missing,
                seq: from,
                to: Some(to),
                file: None,
                line: None,
            });
        }
    }

    fn fault(&mut self, kind: FaultKind, seq: u64, place: Option<&Place>) {
        self.note(seq, || FaultReport {
            kind,
            seq,
            to: None,
            file: place.map(|place| place.file.to_string()),
            line: place.map(|place| place.line),
        });
    }

    fn note(&mut self, seq: u64, fault: impl FnOnce() -> FaultReport) {
        self.first_bad_seq = Some(self.first_bad_seq.map_or(seq, |first| first.min(seq)));
        self.faults.push(fault);
    }
}

// === impl Run ===

impl Run {
    /// The number after the last.
    fn end(&self, start: u64) -> u64 {
        start.saturating_add(u64::try_from(self.hashes.len()).unwrap_or(u64::MAX))
    }

    /// Takes what follows, moving the fewer of both.
    fn join(&mut self, mut after: VecDeque<Hash>) {
        if self.hashes.len() >= after.len() {
            self.hashes.append(&mut after);
        } else {
            while let Some(hash) = self.hashes.pop_back() {
                after.push_front(hash);
            }
            self.hashes = after;
        }
    }
}
