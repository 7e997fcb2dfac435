//! `--follow`: logs that grow and are rotated become alerts, each told once.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use mlgate::audit::analysis::Gather as _;
use mlgate::audit::analysis::alert::Alert;
use mlgate::audit::analysis::caller::CallerName;
use mlgate::audit::analysis::detect::{Detector, Thresholds};
use mlgate::audit::analysis::duplicates::Duplicates;
use mlgate::audit::sealed::MAX_LINE_BYTES;
use tokio::signal::unix::{SignalKind, signal};

use super::super::scan::{Reading, parse, unreadable_file};
use super::super::times::Times;
use crate::{Exit, Format, Stop, print};

/// Between two looks at the files.
const POLL: Duration = Duration::from_millis(500);

/// Bytes of one file that are read before anything else is looked at.
const MAX_READ: usize = 64 << 20;

const BUFFER: usize = 1 << 20;

/// A file that is written to.
struct Tail {
    path: PathBuf,
    open: Option<(File, Metadata)>,
    /// Bytes of the file that were read.
    position: u64,
    /// A line that is not at its end yet.
    partial: Vec<u8>,
    lines: u64,
}

/// What was told: rule and caller.
type Told = BTreeSet<(&'static str, CallerName)>;

/// Runs until it is interrupted.
pub(super) fn run(
    paths: &[PathBuf],
    times: &Times,
    thresholds: &Thresholds,
    format: Format,
) -> Result<ExitCode, Stop> {
    if paths.iter().any(|path| path == Path::new("-")) {
        return Err(Stop::invalid("-", "standard input has no end to follow", "name files"));
    }
    let failure = |error| Stop::failure("signals", error, "allow them");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Stop::failure("threads", error, "allow more"))?;
    runtime.block_on(async {
        let mut interrupted = signal(SignalKind::interrupt()).map_err(failure)?;
        let mut terminated = signal(SignalKind::terminate()).map_err(failure)?;
        let mut follower = Follower::new(paths, times, thresholds, format)?;
        loop {
            let more = follower.look()?;
            let wait = if more { Duration::ZERO } else { POLL };
            tokio::select! {
                biased;
                _ = interrupted.recv() => break,
                _ = terminated.recv() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        follower.end()
    })
}

struct Follower<'a> {
    paths: &'a [PathBuf],
    times: &'a Times,
    thresholds: &'a Thresholds,
    format: Format,
    tails: Vec<Tail>,
    detector: Detector,
    duplicates: Duplicates,
    reading: Reading,
    told: Told,
    alerts: u64,
    changed: bool,
}

// === impl Follower ===

impl<'a> Follower<'a> {
    fn new(
        paths: &'a [PathBuf],
        times: &'a Times,
        thresholds: &'a Thresholds,
        format: Format,
    ) -> Result<Self, Stop> {
        let mut tails = Vec::new();
        for path in paths {
            // a name that is wrong from the beginning is a mistake, later it is a rotation
            File::open(path).map_err(|error| unreadable_file(Some(path), &error))?;
            tails.push(Tail::new(path));
        }
        Ok(Self {
            paths,
            times,
            thresholds,
            format,
            tails,
            detector: Detector::new(times.open_window()),
            duplicates: Duplicates::default(),
            reading: Reading::default(),
            told: Told::new(),
            alerts: 0,
            changed: false,
        })
    }

    /// Reads what is new and tells what follows from it; says whether there is more to read.
    fn look(&mut self) -> Result<bool, Stop> {
        let mut more = false;
        for (index, tail) in self.tails.iter_mut().enumerate() {
            let named = self.reading.unreadable_first.len();
            let (detector, duplicates, reading) =
                (&mut self.detector, &mut self.duplicates, &mut self.reading);
            let mut lines = 0_u64;
            let result = tail.read(&mut |number, line| {
                lines = lines.saturating_add(1);
                let Some(fact) = reading.line(parse(line), index, number, self.paths) else { return };
                if duplicates.is_new(&fact.chain, fact.seq) {
                    detector.take(&fact);
                }
            });
            more |= result.map_err(|error| unreadable_file(self.paths.get(index), &error))?;
            self.changed |= lines > 0;
            for line in self.reading.unreadable_first.values().skip(named) {
                // nobody may be left to tell
                let _ = writeln!(io::stderr(), "mlgate: unreadable: {line}");
            }
        }
        if !more && self.changed {
            self.changed = false;
            self.tell()?;
        }
        Ok(more)
    }

    fn tell(&mut self) -> Result<(), Stop> {
        self.detector.advance(self.times.open_window());
        let analysis = self.detector.analyze(self.thresholds);
        let mut current = Told::new();
        for alert in &analysis.alerts {
            let key = (alert.rule(), alert.caller.clone());
            if !self.told.contains(&key) {
                self.alerts = self.alerts.saturating_add(1);
                print(&text(alert, self.format)?)?;
            }
            current.insert(key);
        }
        // what is over may begin anew
        self.told = current;
        Ok(())
    }

    fn end(&self) -> Result<ExitCode, Stop> {
        if self.reading.unreadable > 0 {
            // nobody may be left to tell
            let _ = writeln!(io::stderr(), "mlgate: {} lines were unreadable", self.reading.unreadable);
        }
        Ok(if self.alerts == 0 { Exit::Fine } else { Exit::Findings }.into())
    }
}

fn text(alert: &Alert, format: Format) -> Result<String, Stop> {
    match format {
        Format::Human => Ok(format!("{alert}\n")),
        Format::Json => serde_json::to_string(alert)
            .map_err(|error| Stop::failure("an alert", error, "report this as an error of mlgate")),
    }
}

// === impl Tail ===

impl Tail {
    fn new(path: &Path) -> Self {
        let path = path.to_owned();
        Self { path, open: None, position: 0, partial: Vec::new(), lines: 0 }
    }

    /// Gives every line that was completed since; says whether there is more to read.
    fn read(&mut self, take: &mut dyn FnMut(u64, &[u8])) -> io::Result<bool> {
        if self.open.is_none() && !self.reopen()? {
            return Ok(false);
        }
        let mut buffer = vec![0; BUFFER];
        let mut taken = 0;
        while taken < MAX_READ {
            let Some((file, _)) = &mut self.open else { return Ok(false) };
            let bytes = match file.read(&mut buffer) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.split(buffer.get(..bytes).unwrap_or_default(), take);
            self.position = self.position.saturating_add(u64::try_from(bytes).unwrap_or(0));
            taken = taken.saturating_add(bytes);
            if bytes == 0 && !self.turned(take)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// At the end of the file: whether another file has its name by now, or it was cut to begin anew.
    fn turned(&mut self, take: &mut dyn FnMut(u64, &[u8])) -> io::Result<bool> {
        let Some((file, opened)) = &mut self.open else { return Ok(false) };
        let named = match std::fs::metadata(&self.path) {
            Ok(named) => named,
            // between the renaming and the new file
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if (named.dev(), named.ino()) == (opened.dev(), opened.ino()) {
            if named.len() >= self.position {
                return Ok(false);
            }
            file.rewind()?;
        } else {
            // what was written between the last read and the renaming
            if file.metadata()?.len() > self.position {
                return Ok(true);
            }
            self.open = None;
        }
        if !self.partial.is_empty() {
            self.split(b"\n", take);
        }
        (self.position, self.lines) = (0, 0);
        if self.open.is_some() { Ok(true) } else { self.reopen() }
    }

    fn reopen(&mut self) -> io::Result<bool> {
        match File::open(&self.path) {
            Ok(file) => {
                let metadata = file.metadata()?;
                self.open = Some((file, metadata));
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn split(&mut self, bytes: &[u8], take: &mut dyn FnMut(u64, &[u8])) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (line, ends) = match part.strip_suffix(b"\n") {
                Some(line) => (line, true),
                None => (part, false),
            };
            // one byte more than fits is kept: it makes the line unreadable
            let room = MAX_LINE_BYTES.saturating_add(1).saturating_sub(self.partial.len());
            self.partial.extend_from_slice(line.get(..room).unwrap_or(line));
            if ends {
                self.lines = self.lines.saturating_add(1);
                if !self.partial.iter().all(u8::is_ascii_whitespace) {
                    take(self.lines, &self.partial);
                }
                self.partial.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(tail: &mut Tail) -> Vec<String> {
        let mut lines = Vec::new();
        tail.read(&mut |_, line| lines.push(String::from_utf8_lossy(line).into_owned())).unwrap();
        lines
    }

    fn append(path: &Path, text: &str) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn lines_come_once_through_rotation_and_truncation() {
        let folder = std::env::temp_dir().join(format!("mlgate-follow-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (path, old) = (folder.join("log"), folder.join("log.1"));
        append(&path, "one\ntw");
        let mut tail = Tail::new(&path);
        assert_eq!(lines(&mut tail), ["one"]);
        append(&path, "o\n");
        assert_eq!(lines(&mut tail), ["two"]);
        assert!(lines(&mut tail).is_empty());
        std::fs::rename(&path, &old).unwrap();
        append(&old, "three\n");
        assert_eq!(lines(&mut tail), ["three"]);
        append(&old, "four");
        append(&path, "five\n");
        assert_eq!(lines(&mut tail), ["four", "five"]);
        std::fs::write(&path, "").unwrap();
        assert!(lines(&mut tail).is_empty());
        append(&path, "six\n");
        assert_eq!(lines(&mut tail), ["six"]);
        let long = "x".repeat(MAX_LINE_BYTES * 2);
        append(&path, &format!("{long}\nseven\n"));
        let last = lines(&mut tail);
        assert_eq!((last[0].len(), last[1].as_str()), (MAX_LINE_BYTES + 1, "seven"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
