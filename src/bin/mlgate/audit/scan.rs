//! Logs of any size, read once by a few threads: blocks of whole lines become facts, each event counted once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mlgate::audit::analysis::Gather;
use mlgate::audit::analysis::alert::visible;
use mlgate::audit::analysis::duplicates::Duplicates;
use mlgate::audit::analysis::fact::{Fact, UnreadableLine};
use mlgate::audit::sealed::MAX_LINE_BYTES;
use serde::Serialize;

use crate::Stop;

/// Bytes read at once; a line is shorter.
const BLOCK: usize = 4 << 20;

/// More threads read no faster than one disk gives.
const MAX_THREADS: usize = 4;

/// Unreadable lines that are named.
const MAX_NAMED: usize = 5;

/// What became of the lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Reading {
    /// Lines, blank ones not counted.
    pub(super) lines: u64,
    /// Events that came again and were left out.
    pub(super) duplicates: u64,
    /// Events that were counted without knowing whether they came before.
    pub(super) duplicates_unchecked: u64,
    /// Lines that are no events.
    pub(super) unreadable: u64,
    /// The first of them, `file:line: why`.
    #[serde(serialize_with = "places")]
    pub(super) unreadable_first: BTreeMap<(usize, u64), String>,
}

/// Reads blocks of whole lines, one file after the other.
struct Blocks<'a> {
    paths: &'a [PathBuf],
    /// The file that is read, from 0.
    file: usize,
    input: Option<Box<dyn Read + Send>>,
    carry: Vec<u8>,
    /// Lines of this file that were given out.
    lines: u64,
    /// In the middle of a line that is too long.
    skipping: bool,
    progress: Progress,
}

/// Where a block is from.
struct Place {
    file: usize,
    /// The number of its first line, from 1.
    line: u64,
    /// Nothing but the beginning of a line that is too long.
    too_long: bool,
}

/// One line on a terminal that changes, and nothing elsewhere.
pub(crate) struct Progress {
    on: bool,
    taken: u64,
    total: u64,
    shown: Option<u64>,
}

/// Reads all files. `empty` makes what one thread begins with.
pub(super) fn scan<G: Gather + Send>(
    paths: &[PathBuf],
    empty: impl Fn() -> G + Sync,
) -> Result<(G, Reading), Stop> {
    let blocks = Mutex::new(Blocks::new(paths));
    let duplicates = Mutex::new(Duplicates::default());
    let threads =
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get).clamp(1, MAX_THREADS);
    let results: Vec<Result<(G, Reading), Stop>> = std::thread::scope(|scope| {
        let work = || work(&blocks, &duplicates, paths, empty());
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles
            .into_iter()
            .map(|handle| {
                handle.join().unwrap_or_else(|_| {
                    Err(Stop::failure("a thread", "is gone", "report this as an error of mlgate"))
                })
            })
            .collect()
    });
    blocks.into_inner().unwrap_or_else(PoisonError::into_inner).progress.end();
    let mut whole: Option<(G, Reading)> = None;
    for result in results {
        let (gathered, reading) = result?;
        match &mut whole {
            None => whole = Some((gathered, reading)),
            Some((all, sum)) => {
                all.merge(gathered);
                sum.merge(reading);
            }
        }
    }
    let (gathered, mut reading) = whole.unwrap_or_else(|| (empty(), Reading::default()));
    reading.duplicates_unchecked =
        duplicates.into_inner().unwrap_or_else(PoisonError::into_inner).unchecked();
    Ok((gathered, reading))
}

fn work<G: Gather>(
    blocks: &Mutex<Blocks<'_>>,
    duplicates: &Mutex<Duplicates>,
    paths: &[PathBuf],
    mut gathered: G,
) -> Result<(G, Reading), Stop> {
    let mut reading = Reading::default();
    let mut block = Vec::with_capacity(BLOCK);
    loop {
        let next = locked(blocks).next(&mut block);
        let place = match next {
            Ok(Some(place)) => place,
            Ok(None) => return Ok((gathered, reading)),
            Err((file, error)) => return Err(unreadable_file(paths.get(file), &error)),
        };
        if place.too_long {
            reading.line::<()>(Err(UnreadableLine::too_long()), place.file, place.line, paths);
            continue;
        }
        let facts: Vec<Fact<'_>> = block
            .split(|byte| *byte == b'\n')
            .zip(place.line..)
            .filter(|(line, _)| !line.iter().all(u8::is_ascii_whitespace))
            .filter_map(|(line, number)| reading.line(parse(line), place.file, number, paths))
            .collect();
        let mut new = Vec::with_capacity(facts.len());
        let mut seen = locked(duplicates);
        new.extend(facts.iter().map(|fact| seen.is_new(&fact.chain, fact.seq)));
        drop(seen);
        for (fact, new) in facts.iter().zip(new) {
            if new {
                gathered.take(fact);
            } else {
                reading.duplicates = reading.duplicates.saturating_add(1);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // a thread that panicked has its own error
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One line of a log.
pub(super) fn parse(line: &[u8]) -> Result<Fact<'_>, UnreadableLine> {
    if line.len() > MAX_LINE_BYTES { Err(UnreadableLine::too_long()) } else { Fact::parse(line) }
}

/// A file that cannot be read.
pub(crate) fn unreadable_file(path: Option<&PathBuf>, error: &io::Error) -> Stop {
    let path = path.map(|path| path.display().to_string()).unwrap_or_default();
    Stop::invalid(path, format_args!("cannot be read: {error}"), "name a log that can be read")
}

// === impl Reading ===

impl Reading {
    /// Counts a line and notes why it is no event.
    pub(crate) fn line<T>(
        &mut self,
        parsed: Result<T, UnreadableLine>,
        file: usize,
        line: u64,
        paths: &[PathBuf],
    ) -> Option<T> {
        self.lines = self.lines.saturating_add(1);
        match parsed {
            Ok(fact) => Some(fact),
            Err(error) => {
                self.unreadable = self.unreadable.saturating_add(1);
                let name = paths.get(file).map(|path| path.display().to_string()).unwrap_or_default();
                let text = format!("{}:{line}: {}", visible(&name), visible(&error.to_string()));
                self.unreadable_first.insert((file, line), text);
                self.cut();
                None
            }
        }
    }

    /// Tells what was left out, and fails if nothing could be read.
    pub(crate) fn warn(&self) -> Result<(), Stop> {
        let mut text = String::new();
        for line in self.unreadable_first.values() {
            text.push_str(&format!("mlgate: unreadable: {line}\n"));
        }
        let named = u64::try_from(self.unreadable_first.len()).unwrap_or(u64::MAX);
        if self.unreadable > named {
            text.push_str(&format!("mlgate: {} lines are unreadable\n", self.unreadable));
        }
        if self.duplicates_unchecked > 0 {
            let count = self.duplicates_unchecked;
            text.push_str(&format!("mlgate: {count} events were not checked for having come before\n"));
        }
        // nobody may be left to tell
        let _ = io::stderr().write_all(text.as_bytes());
        if self.lines == self.unreadable {
            let what = if self.lines == 0 { "there is no event" } else { "no line is an event" };
            return Err(Stop::failure("the logs", what, "name logs that `mlgate audit collect` wrote"));
        }
        Ok(())
    }

    /// One that came before.
    pub(crate) const fn again(&mut self) {
        self.duplicates = self.duplicates.saturating_add(1);
    }

    fn merge(&mut self, other: Self) {
        self.lines = self.lines.saturating_add(other.lines);
        self.duplicates = self.duplicates.saturating_add(other.duplicates);
        self.unreadable = self.unreadable.saturating_add(other.unreadable);
        self.unreadable_first.extend(other.unreadable_first);
        self.cut();
    }

    fn cut(&mut self) {
        while self.unreadable_first.len() > MAX_NAMED {
            self.unreadable_first.pop_last();
        }
    }
}

fn places<S: serde::Serializer>(
    places: &BTreeMap<(usize, u64), String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(places.values())
}

// === impl Blocks ===

impl<'a> Blocks<'a> {
    fn new(paths: &'a [PathBuf]) -> Self {
        let progress = Progress::new(paths);
        Self { paths, file: 0, input: None, carry: Vec::new(), lines: 0, skipping: false, progress }
    }

    /// The next whole lines; where it fails, the file and why.
    fn next(&mut self, block: &mut Vec<u8>) -> Result<Option<Place>, (usize, io::Error)> {
        loop {
            let Some(path) = self.paths.get(self.file) else { return Ok(None) };
            let failed = |error| (self.file, error);
            let input = match &mut self.input {
                Some(input) => input,
                None => self.input.insert(open(path).map_err(failed)?),
            };
            block.clear();
            block.append(&mut self.carry);
            let room = BLOCK.saturating_sub(block.len());
            let limit = u64::try_from(room).unwrap_or(u64::MAX);
            let taken = input.take(limit).read_to_end(block).map_err(failed)?;
            self.progress.add(taken);
            let at_end = taken < room;
            let mut place = Place { file: self.file, line: self.lines.saturating_add(1), too_long: false };
            if self.skipping {
                let end = block.iter().position(|byte| *byte == b'\n');
                self.skipping = end.is_none();
                block.drain(..end.map_or(block.len(), |end| end.saturating_add(1)));
                place.line = place.line.saturating_add(1);
                self.lines = self.lines.saturating_add(u64::from(end.is_some()));
            }
            if at_end {
                // the last line may lack its break
                self.input = None;
                self.file = self.file.saturating_add(1);
                (self.lines, self.skipping) = (0, false);
            } else if !self.skipping {
                let end = block.iter().rposition(|byte| *byte == b'\n');
                self.carry = block.split_off(end.map_or(0, |end| end.saturating_add(1)));
                self.lines = self.lines.saturating_add(breaks(block));
                if self.carry.len() >= BLOCK {
                    self.carry.clear();
                    self.skipping = true;
                    return Ok(Some(Place { too_long: true, ..place }));
                }
            }
            if !block.is_empty() {
                return Ok(Some(place));
            }
        }
    }
}

// === impl Progress ===

impl Progress {
    pub(crate) fn new(paths: &[PathBuf]) -> Self {
        let sizes = paths.iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len());
        let total = sizes.fold(0, u64::saturating_add);
        Self { on: io::stderr().is_terminal(), taken: 0, total, shown: None }
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        let percent = self.taken.saturating_mul(100).checked_div(self.total).map(|percent| percent.min(100));
        if self.on && self.shown != percent {
            self.shown = percent;
            // a terminal that is gone is no reason to stop
            let _ = write!(io::stderr(), "\r{} %", percent.unwrap_or(0));
        }
    }

    pub(crate) fn end(&self) {
        if self.shown.is_some() {
            // as above
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    if path == Path::new("-") { Ok(Box::new(io::stdin())) } else { Ok(Box::new(File::open(path)?)) }
}

fn breaks(block: &[u8]) -> u64 {
    u64::try_from(block.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events in order.
    struct Seqs(Vec<u64>);

    impl Gather for Seqs {
        fn take(&mut self, fact: &Fact<'_>) {
            self.0.push(fact.seq);
        }
        fn merge(&mut self, other: Self) {
            self.0.extend(other.0);
        }
    }

    fn line(seq: u64, padding: usize) -> String {
        format!(
            "{{\"chain\":\"g/0\",\"pad\":\"{}\",\"seq\":{seq},\"timestamp\":\"2026-01-01T00:00:00Z\",\
             \"type\":\"close\",\"v\":1}}\n",
            "x".repeat(padding)
        )
    }

    fn read(name: &str, text: &str) -> (Vec<u64>, Reading) {
        let path = std::env::temp_dir().join(format!("mlgate-scan-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let (mut seqs, reading) = scan(std::slice::from_ref(&path), || Seqs(Vec::new())).unwrap();
        std::fs::remove_file(path).unwrap();
        seqs.0.sort_unstable();
        (seqs.0, reading)
    }

    #[test]
    fn every_line_is_read_once_wherever_blocks_end() {
        let text: String = (0..3000).map(|n| line(n, 4000)).collect();
        let (seqs, reading) = read("blocks", text.trim_end());
        assert!(text.len() > 2 * BLOCK);
        assert_eq!(seqs, (0..3000).collect::<Vec<_>>());
        assert_eq!((reading.lines, reading.unreadable, reading.duplicates), (3000, 0, 0));
    }

    #[test]
    fn what_comes_again_counts_once() {
        let text: String = (0..50).map(|n| line(n % 20, 0)).collect();
        let (seqs, reading) = read("again", &text);
        assert_eq!((seqs.len(), reading.duplicates, reading.lines), (20, 30, 50));
    }

    #[test]
    fn unreadable_lines_are_named_by_their_place_and_too_long_ones_skipped() {
        let long = |bytes: usize| line(9, bytes);
        let text = [
            line(0, 0),
            String::from("\nnonsense\n"),
            long(MAX_LINE_BYTES),
            line(1, 3 << 20),
            long(2 * BLOCK),
            line(2, 0),
            String::from("\u{1b}[2J"),
        ]
        .concat();
        let (seqs, reading) = read("long", &text);
        assert_eq!(seqs, [0, 2]);
        assert_eq!((reading.lines, reading.unreadable), (7, 5));
        let numbers: Vec<u64> = reading.unreadable_first.keys().map(|(_, line)| *line).collect();
        assert_eq!(numbers, [3, 4, 5, 6, 8]);
        assert!(reading.unreadable_first.values().all(|text| !text.contains('\u{1b}')));
    }

    #[test]
    fn a_log_without_events_is_a_failure() {
        assert!(read("empty", "").1.warn().is_err());
        assert!(read("nonsense", "x\n").1.warn().is_err());
        assert!(read("one", &(line(0, 0) + "x\n")).1.warn().is_ok());
    }
}
