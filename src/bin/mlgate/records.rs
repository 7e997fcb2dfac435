//! Recorded decisions of logs of any size, one after the other, each once.

use std::fs::File;
use std::io::{BufRead, BufReader, stdin};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use mlgate::audit::analysis::duplicates::Duplicates;
use mlgate::audit::analysis::fact::UnreadableLine;
use mlgate::review::record::{Record, Recorded};

use crate::Stop;
use crate::audit::lines::{self, Line};
use crate::audit::scan::{Progress, Reading, unreadable_file};

/// Bytes read at once.
const BUFFER: usize = 1 << 20;

/// Shows every decision to `visit`, until it breaks.
pub(crate) fn each(
    paths: &[PathBuf],
    visit: &mut dyn FnMut(Record) -> ControlFlow<()>,
) -> Result<Reading, Stop> {
    let mut reading = Reading::default();
    let mut duplicates = Duplicates::default();
    let mut progress = Progress::new(paths);
    let mut buffer = Vec::new();
    'files: for (file, path) in paths.iter().enumerate() {
        let failed = |error: std::io::Error| unreadable_file(Some(path), &error);
        let mut input: Box<dyn BufRead> = if path == Path::new("-") {
            Box::new(stdin().lock())
        } else {
            Box::new(BufReader::with_capacity(BUFFER, File::open(path).map_err(failed)?))
        };
        for number in 1_u64.. {
            let mut taken = 0;
            let line = lines::next(&mut *input, &mut buffer, &mut taken).map_err(failed)?;
            progress.add(usize::try_from(taken).unwrap_or(usize::MAX));
            let parsed = match line {
                Line::End => break,
                Line::TooLong => Err(UnreadableLine::too_long()),
                Line::Torn | Line::Whole if buffer.iter().all(u8::is_ascii_whitespace) => continue,
                Line::Torn | Line::Whole => Recorded::parse(&buffer),
            };
            let Some(Recorded::Decision(record)) = reading.line(parsed, file, number, paths) else {
                continue;
            };
            if !duplicates.is_new(&record.place.0, record.place.1) {
                reading.again();
            } else if visit(*record).is_break() {
                break 'files;
            }
        }
    }
    progress.end();
    Ok(reading)
}
