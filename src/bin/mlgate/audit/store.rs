//! The collector's file: one event on each line, whole lines only, on disk before anybody is told so.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use mlgate::audit::chain::Hash;
use mlgate::audit::sealed::{MAX_LINE_BYTES, SealedEvent};
use mlgate::time::UnixTime;
use sha2::{Digest as _, Sha256};

use super::lines::{self, Line};
use super::say;
use crate::Stop;

/// Events that are known again when they are sent twice. An older one that comes again is kept twice: `verify` does
/// not mind. About 90 bytes each.
pub(super) const MAX_REMEMBERED: usize = 1 << 19;

/// Numbers with more than one event that are known again; further forks are kept each time they come.
const MAX_FORKS: usize = 1_024;

/// What is read of an old log to know its last events again.
const RESTORED_BYTES: u64 = 512 << 20;

/// Bytes of what was set apart; a request that would exceed them is refused.
pub(super) const MAX_REJECTED_BYTES: u64 = 256 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    log: File,
    length: u64,
    rejected: File,
    rejected_length: u64,
    known: HashMap<Id, Hash>,
    /// Ids in `known`, the oldest first.
    order: VecDeque<Id>,
    forks: BTreeSet<(Id, Hash)>,
}

/// One event that arrived.
#[derive(Debug)]
pub(super) struct Arrival {
    /// The event.
    pub(super) event: SealedEvent,
    /// When.
    pub(super) at: UnixTime,
}

/// One line that is set apart.
#[derive(Debug)]
pub(super) struct Apart {
    /// When it arrived.
    pub(super) at: UnixTime,
    /// Why.
    pub(super) reason: String,
    /// The line as it came.
    pub(super) line: Vec<u8>,
}

/// Why nothing was kept.
#[derive(Debug)]
pub(super) enum StoreError {
    /// It may work later: no space, for instance. The file is as it was.
    Again(io::Error),
    /// The file is in a state that nobody knows.
    Broken(io::Error),
    /// Too much was set apart already.
    RejectedFull,
}

/// A chain (128 bits of its id's hash) and a number in it.
type Id = ([u8; 16], u64);

// === impl Store ===

impl Store {
    /// Opens or begins a log: moves a torn last line aside, and reads what came last.
    pub(super) fn open(path: &Path) -> Result<Self, Stop> {
        let failure =
            |error: io::Error| Stop::failure(path.display(), error, "name a file that can be written");
        let mut log = open_to_append(path).map_err(failure)?;
        match log.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Stop::failure(
                    path.display(),
                    "another collector writes it",
                    "stop that one first",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(failure(error)),
        }
        let rejected_path = beside(path, "rejected");
        let rejected = open_to_append(&rejected_path).map_err(|error| {
            Stop::failure(rejected_path.display(), error, "name a log in a writable folder")
        })?;
        let length = repair(path, &mut log)?;
        let mut store = Self {
            path: path.to_owned(),
            rejected_length: rejected.metadata().map_err(failure)?.len(),
            log,
            length,
            rejected,
            known: HashMap::new(),
            order: VecDeque::new(),
            forks: BTreeSet::new(),
        };
        store.restore().map_err(failure)?;
        sync_folder(path).map_err(failure)?;
        Ok(store)
    }

    /// Puts events and lines set apart on disk: all of them, or none.
    pub(super) fn keep<'a>(
        &mut self,
        arrivals: impl Iterator<Item = &'a Arrival>,
        apart: impl Iterator<Item = &'a Apart>,
    ) -> Result<(), StoreError> {
        let mut lines = Vec::new();
        let mut new = Vec::new();
        for Arrival { event, at } in arrivals {
            let id = id(event);
            match self.known.get(&id) {
                Some(hash) if *hash == event.hash => continue,
                Some(_) if self.forks.contains(&(id, event.hash)) => continue,
                Some(_) => {
                    say(format_args!(
                        "FORK: {} has two events of seq {}: both are kept in {}",
                        event.chain,
                        event.seq,
                        self.path.display()
                    ));
                    if self.forks.len() < MAX_FORKS {
                        self.forks.insert((id, event.hash));
                        new.push((id, Some(event.hash)));
                    }
                }
                None => {
                    self.known.insert(id, event.hash);
                    new.push((id, None));
                }
            }
            lines.extend_from_slice(&event.received(*at));
            lines.push(b'\n');
        }
        let kept = self.append_apart(apart).and_then(|()| append(&mut self.log, &mut self.length, &lines));
        match kept {
            Ok(()) => {
                self.order.extend(new.into_iter().filter(|(_, fork)| fork.is_none()).map(|(id, _)| id));
                self.forget();
                Ok(())
            }
            Err(error) => {
                for (id, fork) in new {
                    match fork {
                        Some(hash) => drop(self.forks.remove(&(id, hash))),
                        None => drop(self.known.remove(&id)),
                    }
                }
                Err(error)
            }
        }
    }

    fn append_apart<'a>(&mut self, apart: impl Iterator<Item = &'a Apart>) -> Result<(), StoreError> {
        let mut lines = Vec::new();
        for Apart { at, reason, line } in apart {
            let line = String::from_utf8_lossy(line);
            say(format_args!("set apart in {}: {reason}", beside(&self.path, "rejected").display()));
            let record = serde_json::json!({ "line": line, "reason": reason, "received_at": at.to_string() });
            lines.extend_from_slice(record.to_string().as_bytes());
            lines.push(b'\n');
        }
        let more = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        if more > 0 && self.rejected_length.saturating_add(more) > MAX_REJECTED_BYTES {
            return Err(StoreError::RejectedFull);
        }
        append(&mut self.rejected, &mut self.rejected_length, &lines)
    }

    fn forget(&mut self) {
        while self.order.len() > MAX_REMEMBERED {
            if let Some(id) = self.order.pop_front() {
                self.known.remove(&id);
            }
        }
    }

    /// Reads the end of the log. What cannot be read stays where it is.
    fn restore(&mut self) -> io::Result<()> {
        let mut input = BufReader::with_capacity(1 << 20, File::open(&self.path)?);
        let (mut buffer, mut taken, mut unreadable) = (Vec::new(), 0, 0_u64);
        if let Some(start) = self.length.checked_sub(RESTORED_BYTES).filter(|start| *start > 0) {
            input.seek(SeekFrom::Start(start))?;
            // most likely the middle of a line
            lines::next(&mut input, &mut buffer, &mut taken)?;
        }
        loop {
            let line = lines::next(&mut input, &mut buffer, &mut taken)?;
            match (line, SealedEvent::parse(&buffer)) {
                (Line::End, _) => break,
                (Line::Whole, Ok(event)) => {
                    let id = id(&event);
                    match self.known.get(&id) {
                        Some(hash) if *hash == event.hash => {}
                        Some(_) => drop(self.forks.len() < MAX_FORKS && self.forks.insert((id, event.hash))),
                        None => {
                            self.known.insert(id, event.hash);
                            self.order.push_back(id);
                        }
                    }
                }
                _ => unreadable = unreadable.saturating_add(1),
            }
        }
        self.forget();
        if unreadable > 0 {
            say(format_args!("{}: {unreadable} lines are no events; they stay", self.path.display()));
        }
        Ok(())
    }
}

/// Writes whole lines and waits for the disk. After an error the file is as long as before.
fn append(file: &mut File, length: &mut u64, lines: &[u8]) -> Result<(), StoreError> {
    if lines.is_empty() {
        return Ok(());
    }
    if let Err(error) = file.write_all(lines) {
        return match file.set_len(*length) {
            Ok(()) => Err(StoreError::Again(error)),
            Err(_) => Err(StoreError::Broken(error)),
        };
    }
    // after a failed sync nobody knows what the disk holds, and a second sync may lie
    file.sync_data().map_err(StoreError::Broken)?;
    *length = length.saturating_add(u64::try_from(lines.len()).unwrap_or(u64::MAX));
    Ok(())
}

/// The length up to which the log holds whole lines, after what lies beyond was moved aside.
fn repair(path: &Path, log: &mut File) -> Result<u64, Stop> {
    let failure = |error: io::Error| Stop::failure(path.display(), error, "check the disk");
    let length = log.metadata().map_err(failure)?.len();
    // nothing longer than a line can be torn: otherwise it is somebody else's file
    let reach = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let start = length.saturating_sub(reach);
    log.seek(SeekFrom::Start(start)).map_err(failure)?;
    let mut tail = Vec::new();
    log.take(reach).read_to_end(&mut tail).map_err(failure)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
    if whole == 0 && start > 0 {
        return Err(not_a_log(path));
    }
    let torn = tail.get(whole..).unwrap_or_default();
    let end = start.saturating_add(u64::try_from(whole).unwrap_or(u64::MAX));
    if end > 0 {
        let mut first = Vec::new();
        let mut input = BufReader::new(File::open(path).map_err(failure)?);
        let line = lines::next(&mut input, &mut first, &mut 0).map_err(failure)?;
        if line != Line::Whole || SealedEvent::parse(&first).is_err() {
            return Err(not_a_log(path));
        }
    }
    if !torn.is_empty() {
        let aside = beside(path, "torn");
        let mut file = open_to_append(&aside).map_err(failure)?;
        file.write_all(torn)
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| file.sync_all())
            .map_err(failure)?;
        log.set_len(end).and_then(|()| log.sync_all()).map_err(failure)?;
        say(format_args!(
            "{}: the last line was not written to its end: its {} bytes are in {} now",
            path.display(),
            torn.len(),
            aside.display()
        ));
    }
    Ok(end)
}

fn not_a_log(path: &Path) -> Stop {
    Stop::invalid(path.display(), "not an audit log", "name a new file, or one that `audit collect` wrote")
}

fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).open(path)
}

/// `audit.log` → `audit.log.torn`
fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    PathBuf::from(name)
}

/// A new file is there after a power cut only when its folder is on disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn id(event: &SealedEvent) -> Id {
    let mut short = [0; 16];
    for (to, from) in short.iter_mut().zip(Sha256::digest(&event.chain)) {
        *to = from;
    }
    (short, event.seq)
}
