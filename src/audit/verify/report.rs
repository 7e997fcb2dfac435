//! What a check found, for people and for programs.

use std::fmt;

use serde::Serialize;

/// Findings of one kind that are listed one by one; all are counted.
pub const MAX_LISTED: usize = 100;

/// What a log is worth. The order is that of severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every chain is whole.
    Intact,
    /// Every chain is whole but for losses that it declares itself.
    Gaps,
    /// Something could not be read, or its key was not given.
    Unreadable,
    /// Events are missing, changed, moved or added.
    Tampered,
}

/// Findings, the first of them one by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed<T> {
    /// All of them.
    pub total: u64,
    /// The first [`MAX_LISTED`].
    pub first: Vec<T>,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst of what was found.
    pub verdict: Verdict,
    /// Distinct events.
    pub events: u64,
    /// Events that came again.
    pub duplicates: u64,
    /// Events declared lost.
    pub lost: u64,
    /// Each chain, by id.
    pub chains: Vec<ChainReport>,
    /// Lines that are no events.
    pub unreadable: Listed<UnreadableReport>,
}

/// What was found in one chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainReport {
    /// `<gate>/<nonce>`
    pub chain: String,
    /// What it is worth.
    pub verdict: Verdict,
    /// Lowest number.
    pub first_seq: u64,
    /// Highest number.
    pub last_seq: u64,
    /// Distinct events.
    pub events: u64,
    /// Events that came again.
    pub duplicates: u64,
    /// Whether it ended in an orderly way; if not it may go on, or its tail is cut.
    pub closed: bool,
    /// Whether its events carry MACs.
    pub keyed: bool,
    /// Events that a given key proves.
    pub proven: u64,
    /// Events whose key was not given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown_keys: Vec<String>,
    /// The chain it names as the one before, where that is not in the input: older, elsewhere, or dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_predecessor: Option<String>,
    /// Lowest number at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_bad_seq: Option<u64>,
    /// Events declared lost.
    pub lost: u64,
    /// Losses that it declares.
    pub gaps: Listed<GapReport>,
    /// Everything that does not hold.
    pub faults: Listed<FaultReport>,
}

/// A declared loss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GapReport {
    /// Number of the `gap`.
    pub seq: u64,
    /// Events lost.
    pub count: u64,
    /// Why.
    pub reason: String,
    /// First number lost, where they had numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Last number lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultReport {
    /// Its word.
    pub kind: FaultKind,
    /// The number at fault; of missing events the first.
    pub seq: u64,
    /// Of missing events the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Where it was read; missing events have no place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

/// What can be wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Events follow the `close`.
    AfterClose,
    /// Two events have one number.
    Fork,
    /// No event has this number, and no `gap` says why.
    Missing,
    /// Keyed and unkeyed events in one chain.
    MixedKeys,
    /// The first event is not `open`.
    NotOpened,
    /// Keys were given, and nobody vouches for the event.
    Unkeyed,
    /// The MAC is not the key holder's.
    WrongMac,
    /// `prev` is not the hash of the event before.
    WrongPrev,
}

/// A line that is no event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnreadableReport {
    /// Where.
    pub file: String,
    /// Counted from 1; 0 for a file as a whole.
    pub line: u64,
    /// Why.
    pub what: String,
}

// === impl Verdict ===

impl Verdict {
    /// The exit code of `mlgate audit verify`.
    pub const fn exit(self) -> u8 {
        match self {
            Self::Intact => 0,
            Self::Tampered => 1,
            Self::Unreadable => 2,
            Self::Gaps => 3,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gaps => "intact with declared gaps",
            Self::Intact => "intact",
            Self::Tampered => "TAMPERED",
            Self::Unreadable => "UNREADABLE",
        })
    }
}

// === impl Listed ===

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { total: 0, first: Vec::new() }
    }
}

impl<T> Listed<T> {
    pub(super) fn push(&mut self, finding: impl FnOnce() -> T) {
        self.total = self.total.saturating_add(1);
        if self.first.len() < MAX_LISTED {
            self.first.push(finding());
        }
    }
}

// === impl Report ===

impl Report {
    pub(super) fn of(chains: Vec<ChainReport>, unreadable: Listed<UnreadableReport>) -> Self {
        let lines = if unreadable.total > 0 { Verdict::Unreadable } else { Verdict::Intact };
        let sum = |count: fn(&ChainReport) -> u64| chains.iter().map(count).fold(0, u64::saturating_add);
        Self {
            verdict: chains.iter().map(|chain| chain.verdict).fold(lines, Verdict::max),
            events: sum(|chain| chain.events),
            duplicates: sum(|chain| chain.duplicates),
            lost: sum(|chain| chain.lost),
            chains,
            unreadable,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chain in &self.chains {
            write!(f, "{chain}")?;
        }
        for line in &self.unreadable.first {
            let UnreadableReport { file, line, what } = line;
            match line {
                0 => writeln!(f, "unreadable: {file}: {what}")?,
                _ => writeln!(f, "unreadable: {file}:{line}: {what}")?,
            }
        }
        more(f, self.unreadable.total, self.unreadable.first.len(), "unreadable lines")?;
        write!(f, "{}: {} events in {} chains", self.verdict, self.events, self.chains.len())?;
        if self.duplicates > 0 {
            write!(f, ", {} came again", self.duplicates)?;
        }
        if self.lost > 0 {
            write!(f, ", {} declared lost", self.lost)?;
        }
        let open = self.chains.iter().filter(|chain| !chain.closed).count();
        if open > 0 {
            write!(f, ", {open} chains not closed")?;
        }
        writeln!(f)
    }
}

// === impl ChainReport ===

impl fmt::Display for ChainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}: seq {} to {}, {} events",
            self.chain, self.verdict, self.first_seq, self.last_seq, self.events
        )?;
        match (self.keyed, self.proven) {
            (false, _) => f.write_str(", unkeyed")?,
            (true, proven) if proven == self.events => f.write_str(", MACs right")?,
            (true, 0) => f.write_str(", MACs not checked")?,
            (true, proven) => write!(f, ", {proven} MACs right")?,
        }
        f.write_str(if self.closed { ", closed" } else { ", not closed" })?;
        if let Some(seq) = self.first_bad_seq {
            write!(f, ", first bad seq {seq}")?;
        }
        writeln!(f)?;
        for fault in &self.faults.first {
            writeln!(f, "  {fault}")?;
        }
        more(f, self.faults.total, self.faults.first.len(), "faults")?;
        for key in &self.unknown_keys {
            writeln!(
                f,
                "  the key `{}` was not given: add --chain-key {}=ENV",
                key.escape_debug(),
                key.escape_debug()
            )?;
        }
        for gap in &self.gaps.first {
            writeln!(f, "  {gap}")?;
        }
        more(f, self.gaps.total, self.gaps.first.len(), "gaps")?;
        if let Some(chain) = &self.missing_predecessor {
            writeln!(f, "  the chain before it, `{}`, is not here", chain.escape_debug())?;
        }
        Ok(())
    }
}

impl fmt::Display for GapReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gap at seq {}: {} events lost", self.seq, self.count)?;
        if let (Some(from), Some(to)) = (self.from, self.to) {
            write!(f, ", seq {from} to {to}")?;
        }
        write!(f, ": {}", self.reason.escape_debug())
    }
}

impl fmt::Display for FaultReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(file), Some(line)) = (&self.file, self.line) {
            write!(f, "{file}:{line}: ")?;
        }
        match self.to {
            Some(to) if to > self.seq => write!(f, "seq {} to {to}: ", self.seq)?,
            _ => write!(f, "seq {}: ", self.seq)?,
        }
        f.write_str(match self.kind {
            FaultKind::AfterClose => "follows the `close` of its chain",
            FaultKind::Fork => "another event has the same number",
            FaultKind::Missing => "missing, and no `gap` says why",
            FaultKind::MixedKeys => "keyed and unkeyed events in one chain",
            FaultKind::NotOpened => "the first event of a chain is not `open`",
            FaultKind::Unkeyed => "keys were given, and this event is unkeyed",
            FaultKind::WrongMac => "the MAC is wrong",
            FaultKind::WrongPrev => "`prev` is not the hash of the event before",
        })
    }
}

fn more(f: &mut fmt::Formatter<'_>, total: u64, listed: usize, what: &str) -> fmt::Result {
    match total.saturating_sub(u64::try_from(listed).unwrap_or(u64::MAX)) {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more {what}"),
    }
}
