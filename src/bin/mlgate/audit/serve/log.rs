//! Logs become what the page shows, and again when they have changed. One thread reads, pages show what it has.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use mlgate::audit::analysis::bounded::Cut;
use mlgate::audit::analysis::detect::{Analysis, Detector, Thresholds, Window};
use mlgate::audit::analysis::fact::Fact;
use mlgate::audit::analysis::usage::{Dimension, Row, Usage};
use mlgate::audit::analysis::{Gather, HOUR_MS};
use mlgate::audit::chain::MacKey;
use mlgate::audit::verify::Report;
use mlgate::time::UnixTime;

use super::super::scan::{self, Reading};
use super::super::verify;
use crate::Stop;
use crate::environment::now;

/// Between two looks at the files.
const POLL: Duration = Duration::from_secs(2);

/// After reading for so long, so many times as long nothing is read.
const REST: u32 = 4;

/// What the rows are by.
const BY: [Dimension; 5] =
    [Dimension::Hour, Dimension::Principal, Dimension::Model, Dimension::Reason, Dimension::Source];

/// Logs that are read again when they change.
pub(super) struct Log {
    current: Arc<Mutex<Content>>,
}

/// What the page shows.
#[derive(Clone)]
pub(super) struct Content {
    /// What was read last.
    pub(super) read: Arc<Read>,
    /// Whether the log is whole; nothing while that is being checked.
    pub(super) chains: Option<Arc<Report>>,
    /// Why the logs could not be read again since.
    pub(super) trouble: Option<String>,
}

/// What was read.
pub(super) struct Read {
    /// The logs' names.
    pub(super) files: Vec<String>,
    /// The present time, in milliseconds since 1970.
    pub(super) now: i64,
    /// Hour, principal, model, reason, source.
    pub(super) rows: Vec<Row>,
    /// Where there were more rows than memory.
    pub(super) rows_cut: Option<Cut>,
    /// Of the last 24 hours.
    pub(super) analysis: Analysis,
    /// What became of the lines.
    pub(super) reading: Reading,
}

/// Reads.
struct Reader {
    files: Vec<PathBuf>,
    keys: Vec<MacKey>,
    thresholds: Thresholds,
    now: Option<UnixTime>,
}

/// Length and time of the last change of each file.
type Fingerprint = Vec<Option<(u64, SystemTime)>>;

/// Two collections in one pass.
struct Both(Detector, Usage);

// === impl Log ===

impl Log {
    /// Reads for the first time; from then on a thread of its own does.
    pub(super) fn open(
        files: &[PathBuf],
        keys: Vec<MacKey>,
        thresholds: Thresholds,
        now: Option<UnixTime>,
    ) -> Result<Self, Stop> {
        let reader = Reader { files: files.to_vec(), keys, thresholds, now };
        let seen = reader.fingerprint();
        let content = Content { read: Arc::new(reader.read()?), chains: None, trouble: None };
        let current = Arc::new(Mutex::new(content));
        let shared = Arc::clone(&current);
        std::thread::Builder::new()
            .name(String::from("log"))
            .spawn(move || reader.keep(&shared, seen))
            .map_err(|error| Stop::failure("threads", error, "allow more"))?;
        Ok(Self { current })
    }

    /// What was read last.
    pub(super) fn current(&self) -> Content {
        locked(&self.current).clone()
    }
}

// === impl Reader ===

impl Reader {
    /// Keeps `current` up to date for as long as the process lives.
    fn keep(&self, current: &Mutex<Content>, mut seen: Fingerprint) {
        let mut content = locked(current).clone();
        let mut begun = now().millis();
        loop {
            if content.chains.is_none() {
                content.chains = Some(Arc::new(verify::check(&self.files, self.keys.clone())));
                locked(current).clone_from(&content);
            }
            let took = u64::try_from(now().millis().saturating_sub(begun)).unwrap_or(0);
            std::thread::sleep(POLL.max(Duration::from_millis(took).saturating_mul(REST)));
            begun = now().millis();
            let found = self.fingerprint();
            let changed = found != seen;
            // the window of the alerts moves on, even if nobody asks the gate for anything
            let old = self.now.is_none() && begun.saturating_sub(content.read.now) > HOUR_MS;
            if !changed && !old {
                continue;
            }
            seen = found;
            match self.read() {
                Ok(read) => {
                    let chains = content.chains.filter(|_| !changed);
                    content = Content { read: Arc::new(read), chains, trouble: None };
                }
                Err(stop) => content.trouble = Some(stop.to_string()),
            }
            locked(current).clone_from(&content);
        }
    }

    fn read(&self) -> Result<Read, Stop> {
        let now = self.now.unwrap_or_else(now).millis();
        let day = Window::new(now.saturating_sub(24 * HOUR_MS), now);
        let empty = || Both(Detector::new(day), Usage::new(BY.to_vec(), i64::MIN, i64::MAX));
        let (Both(mut detector, mut usage), reading) = scan::scan(&self.files, empty)?;
        Ok(Read {
            files: self.files.iter().map(|path| path.display().to_string()).collect(),
            now,
            rows: usage.rows(),
            rows_cut: usage.cut(),
            analysis: detector.analyze(&self.thresholds),
            reading,
        })
    }

    fn fingerprint(&self) -> Fingerprint {
        let of = |path: &PathBuf| {
            let metadata = path.metadata().ok()?;
            Some((metadata.len(), metadata.modified().ok()?))
        };
        self.files.iter().map(of).collect()
    }
}

// === impl Both ===

impl Gather for Both {
    fn take(&mut self, fact: &Fact<'_>) {
        self.0.take(fact);
        self.1.take(fact);
    }

    fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
        self.1.merge(other.1);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // whoever panicked has changed nothing half
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
