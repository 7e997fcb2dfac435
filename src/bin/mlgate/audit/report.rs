//! `mlgate audit report`: who used what, how much.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use mlgate::audit::analysis::alert::visible;
use mlgate::audit::analysis::bounded::Cut;
use mlgate::audit::analysis::usage::{Counts, Dimension, Row, Usage};
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use super::scan::{self, Reading};
use super::times::Times;
use crate::{Exit, Format, Stop, print, print_json};

/// Tell who used what, how much: requests, refusals, errors, bytes and seconds
///
/// The order of lines is of no account and an event that comes again counts once. A table by day or hour is in the
/// order of time, any other begins with the most requests.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ReportCommand {
    /// Logs, one event on each line; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What the table is made by, with commas: principal, model, team, action, status, reason, profile, tier, source,
    /// day, hour
    #[arg(long, value_name = "WORDS", default_value = "principal", value_delimiter = ',', value_parser = dimension)]
    by: Vec<Dimension>,
    #[command(flatten)]
    times: Times,
    /// Write CSV (RFC 4180). A name that a spreadsheet would take for a formula gets a ' in front
    #[arg(long)]
    csv: bool,
}

const HELP: &str = "Examples:
  mlgate audit report audit.log
  mlgate audit report --by team,model --since 30d audit.log audit.log.1
  mlgate audit report --by day,principal --since 2026-03-01T00:00:00Z --csv audit.log > march.csv
  mlgate audit report --by principal,reason --format json audit.log | jq '.rows[0]'

Exit codes: 0 fine, 1 failure or nothing could be read, 3 invalid input";

/// What `--format json` prints.
#[derive(Serialize)]
struct Report<'a> {
    since: String,
    until: String,
    rows: Vec<JsonRow<'a>>,
    total: Option<&'a Counts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows_cut: Option<Cut>,
    reading: &'a Reading,
}

struct JsonRow<'a> {
    by: &'a [Dimension],
    row: &'a Row,
}

/// Columns after the names.
const COLUMNS: [&str; 7] =
    ["requests", "denied", "errors", "aborted", "input_bytes", "output_bytes", "seconds"];

/// Runs the command.
pub(super) fn run(command: &ReportCommand, format: Format) -> Result<ExitCode, Stop> {
    let window = command.times.window()?;
    let empty = || Usage::new(command.by.clone(), window.since(), window.until());
    let (mut usage, reading) = scan::scan(&command.files, empty)?;
    reading.warn()?;
    let rows = usage.rows();
    let total = usage.total();
    let time = |millis| mlgate::time::UnixTime::from_millis(millis).to_string();
    let report = Report {
        since: time(window.since()),
        until: time(window.until()),
        rows: rows.iter().map(|row| JsonRow { by: &command.by, row }).collect(),
        total: (total.requests > 0).then_some(total),
        rows_cut: usage.cut(),
        reading: &reading,
    };
    match (command.csv, format) {
        (true, _) => print(&csv(&command.by, &rows))?,
        (false, Format::Human) => print(&human(&command.by, &rows, total, &report))?,
        (false, Format::Json) => print_json(&report)?,
    }
    Ok(Exit::Fine.into())
}

fn human(by: &[Dimension], rows: &[Row], total: &Counts, report: &Report<'_>) -> String {
    let heads = by.iter().map(|by| by.word()).chain(COLUMNS).map(str::to_owned).collect();
    let mut table: Vec<Vec<String>> = vec![heads];
    for row in rows {
        let names = row.names.iter().map(|name| name.as_deref().map_or_else(|| String::from("-"), visible));
        table.push(names.chain(cells(&row.counts)).collect());
    }
    let mut names = vec![String::new(); by.len()];
    if let Some(first) = names.first_mut() {
        *first = String::from("total");
    }
    table.push(names.into_iter().chain(cells(total)).collect());
    let width = |column: usize| {
        table.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..by.len().saturating_add(COLUMNS.len())).map(width).collect();
    let mut text = String::new();
    for row in &table {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            // names to the left, numbers to the right
            let (before, after) =
                if column < by.len() { ("", padding.as_str()) } else { (padding.as_str(), "") };
            line.push_str(&format!("{before}{cell}{after}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str(&format!("from {} to {}\n", report.since, report.until));
    if let Some(Cut { kept, total }) = report.rows_cut {
        text.push_str(&format!(
            "note: of about {total} rows only {kept} fit into memory; the total is of all\n"
        ));
    }
    text
}

fn csv(by: &[Dimension], rows: &[Row]) -> String {
    let heads: Vec<&str> = by.iter().map(|by| by.word()).chain(COLUMNS).collect();
    let mut text = heads.join(",") + "\r\n";
    for row in rows {
        let names = row.names.iter().map(|name| field(name.as_deref().unwrap_or_default()));
        let cells: Vec<String> = names.chain(cells(&row.counts)).collect();
        text.push_str(&(cells.join(",") + "\r\n"));
    }
    text
}

/// A name as CSV holds it. Whoever chooses names must not choose formulas.
fn field(name: &str) -> String {
    let formula = name.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let name = if formula { format!("'{name}") } else { name.to_owned() };
    if name.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name }
}

fn cells(counts: &Counts) -> [String; 7] {
    let Counts { requests, denied, errors, aborted, input_bytes, output_bytes, duration_ms, .. } = *counts;
    let seconds = format!("{}.{:03}", duration_ms / 1000, duration_ms % 1000);
    let [a, b, c, d, e, f] =
        [requests, denied, errors, aborted, input_bytes, output_bytes].map(|count| count.to_string());
    [a, b, c, d, e, f, seconds]
}

fn dimension(word: &str) -> Result<Dimension, String> {
    Dimension::of(word).ok_or_else(|| {
        let words: Vec<&str> = Dimension::ALL.into_iter().map(Dimension::word).collect();
        format!("not one of {}", words.join(", "))
    })
}

// === impl JsonRow ===

impl Serialize for JsonRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (by, name) in self.by.iter().zip(&self.row.names) {
            if let Some(name) = name {
                map.serialize_entry(by.word(), name)?;
            }
        }
        map.serialize_entry("counts", &self.row.counts)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_formula_and_no_second_field() {
        for (name, expected) in [
            ("alice", "alice"),
            ("jwt:corp:alice", "jwt:corp:alice"),
            ("=1+1", "'=1+1"),
            ("a,\"b\"", "\"a,\"\"b\"\"\""),
            ("-2\n", "\"'-2\n\""),
            ("", ""),
        ] {
            assert_eq!(field(name), expected);
        }
    }
}
