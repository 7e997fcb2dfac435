//! `mlgate audit verify`: whether a log is whole.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use clap::Args;
use mlgate::audit::chain::MacKey;
use mlgate::audit::verify::{Place, Report, Verifier};

use super::lines::{self, Line};
use super::{ChainKey, keys};
use crate::{Format, Stop};

/// Proves that nobody has changed, removed, moved or added events of an audit log.
///
/// Lines may come from any store, in any order and more than once. Memory is about 32 bytes for each event.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct VerifyCommand {
    /// Logs, one event on each line; `-` is standard input. Give all that hold the chains to be checked.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A key of the chains: its id, and the environment variable that holds it. With keys, an event that none of
    /// them proves is a fault.
    #[arg(long = "chain-key", value_name = "ID=ENV", value_parser = ChainKey::parse)]
    chain_keys: Vec<ChainKey>,
}

const HELP: &str = "Examples:
  mlgate audit verify audit.log
  mlgate audit verify --chain-key c1=MLGATE_CHAIN_KEY_1 audit.log audit.log.1
  zcat old/*.gz | mlgate audit verify --format json -

Exit codes: 0 intact, 1 tampered, 2 unreadable, 3 intact with declared gaps.
A chain that is not closed is listed and stays 0: it is still being written, or its tail was cut.";

/// Lines between two looks at the terminal.
const PROGRESS_LINES: u64 = 8_192;

/// Bytes read at once.
const BUFFER: usize = 1 << 20;

/// Runs the command.
pub(super) fn run(command: &VerifyCommand, format: Format) -> Result<ExitCode, Stop> {
    let report = check(&command.files, keys(&command.chain_keys)?);
    let text = match format {
        Format::Human => report.to_string(),
        Format::Json => json(&report)?,
    };
    io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .map_err(|error| Stop::failure("standard output", error, "read it to its end"))?;
    Ok(ExitCode::from(report.verdict.exit()))
}

/// The verdict on these logs.
pub(super) fn check(files: &[PathBuf], keys: Vec<MacKey>) -> Report {
    let mut verifier = Verifier::new(keys);
    let mut progress = Progress::new(files);
    for path in files {
        if let Err(error) = read(path, &mut verifier, &mut progress) {
            verifier.unreadable_file(&path.display().to_string(), &error.to_string());
        }
    }
    progress.end();
    verifier.finish()
}

fn json(report: &Report) -> Result<String, Stop> {
    serde_json::to_string(report)
        .map(|text| text + "\n")
        .map_err(|error| Stop::failure("the report", error, "use --format human"))
}

fn read(path: &Path, verifier: &mut Verifier, progress: &mut Progress) -> io::Result<()> {
    let source: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin().lock()) } else { Box::new(File::open(path)?) };
    let mut input = BufReader::with_capacity(BUFFER, source);
    let mut buffer = Vec::new();
    let mut place = Place { file: Rc::from(path.display().to_string()), line: 0 };
    loop {
        let line = lines::next(&mut input, &mut buffer, &mut progress.taken)?;
        place.line = place.line.saturating_add(1);
        match line {
            Line::End => return Ok(()),
            Line::TooLong => verifier.too_long(&place),
            // a store that does not end its last line is fine; one cut off in it cannot be read
            Line::Torn | Line::Whole => verifier.line(&place, &buffer),
        }
        progress.look(verifier.lines());
    }
}

/// One line on a terminal that changes, and nothing elsewhere.
struct Progress {
    shown: bool,
    on: bool,
    taken: u64,
    total: u64,
}

// === impl Progress ===

impl Progress {
    fn new(files: &[PathBuf]) -> Self {
        let sizes = files.iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len());
        Self {
            shown: false,
            on: io::stderr().is_terminal(),
            taken: 0,
            total: sizes.fold(0, u64::saturating_add),
        }
    }

    fn look(&mut self, lines: u64) {
        if !self.on || !lines.is_multiple_of(PROGRESS_LINES) {
            return;
        }
        self.shown = true;
        let percent =
            self.taken.saturating_mul(100).checked_div(self.total).map_or(0, |percent| percent.min(100));
        // a terminal that is gone is no reason to stop
        let _ = write!(io::stderr(), "\r{lines} events, {percent} %");
    }

    fn end(&self) {
        if self.shown {
            // as above
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
