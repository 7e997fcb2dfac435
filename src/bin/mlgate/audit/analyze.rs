//! `mlgate audit analyze`: suspicious callers in audit logs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use mlgate::audit::analysis::detect::{Analysis, Detector, Thresholds};
use serde::Serialize;

use super::scan::{self, Reading};
use super::times::Times;
use crate::{Exit, Format, Stop, print, print_json};

mod follow;

/// Find suspicious callers in audit logs: too many requests, too many failures, too many models
///
/// Rules, for each principal, and for each address that nobody was authenticated from:
/// HIGH_REQUEST_VOLUME, more than --max-requests in the window, or in one hour more than --baseline-factor times the
/// caller's own median active hour (of the 30 days before the window; from --min-burst requests on);
/// HIGH_ERROR_RATE, denials and errors are more than --max-error-rate of its requests (from --min-requests on);
/// MULTI_MODEL_ACCESS, more than --max-models models, allowed or not.
///
/// The order of lines is of no account and an event that comes again counts once, so give logs of 30 days: they
/// say what is normal. Of unauthenticated callers only refusals count as volume.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct AnalyzeCommand {
    /// Logs, one event on each line; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    times: Times,
    /// Keep reading what is appended, also after a rotation, and print each new alert once
    #[arg(long, conflicts_with_all = ["until", "now"])]
    follow: bool,
    #[command(flatten)]
    rules: Rules,
}

/// Thresholds of the rules.
#[derive(Clone, Debug, Args)]
pub(super) struct Rules {
    /// Requests of a caller in the window
    #[arg(long, value_name = "N", default_value_t = Thresholds::default().max_requests)]
    max_requests: u64,
    /// Requests in an hour, as a multiple of the caller's median active hour
    #[arg(long, value_name = "N", default_value_t = Thresholds::default().baseline_factor)]
    baseline_factor: u64,
    /// An hour of at most this many requests is fine whatever the median
    #[arg(long, value_name = "N", default_value_t = Thresholds::default().min_burst)]
    min_burst: u64,
    /// Denials and errors of all requests of a caller, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0.5", value_parser = share)]
    max_error_rate: u64,
    /// Fewer requests than this say nothing about a share
    #[arg(long, value_name = "N", default_value_t = Thresholds::default().min_requests)]
    min_requests: u64,
    /// Models of a caller in the window
    #[arg(long, value_name = "N", default_value_t = Thresholds::default().max_models)]
    max_models: usize,
}

const HELP: &str = "Examples:
  mlgate audit analyze audit.log audit.log.1
  mlgate audit analyze --since 7d --max-requests 20000 audit.log
  mlgate audit analyze --now 2026-03-31T00:00:00Z audit.log     as if it were then
  mlgate audit analyze --follow audit.log
  zcat old/*.gz | mlgate audit analyze --since 30d --format json - | jq '.alerts[].revocation'

Exit codes: 0 no alert, 1 failure or nothing could be read, 2 alerts, 3 invalid input";

/// What `--format json` prints.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    analysis: &'a Analysis,
    reading: &'a Reading,
}

/// Runs the command.
pub(super) fn run(command: &AnalyzeCommand, format: Format) -> Result<ExitCode, Stop> {
    let thresholds = command.rules.thresholds();
    if command.follow {
        return follow::run(&command.files, &command.times, &thresholds, format);
    }
    let window = command.times.window()?;
    let (mut detector, reading) = scan::scan(&command.files, || Detector::new(window))?;
    reading.warn()?;
    let analysis = detector.analyze(&thresholds);
    match format {
        Format::Human => print(&human(&analysis, &reading))?,
        Format::Json => print_json(&Report { analysis: &analysis, reading: &reading })?,
    }
    Ok(if analysis.alerts_total == 0 { Exit::Fine } else { Exit::Findings }.into())
}

fn human(analysis: &Analysis, reading: &Reading) -> String {
    let mut text = String::new();
    for alert in &analysis.alerts {
        text.push_str(&format!("{alert}\n"));
    }
    let more = analysis.alerts_total.saturating_sub(analysis.alerts.len());
    if more > 0 {
        text.push_str(&format!("and {more} more alerts\n\n"));
    }
    let time = mlgate::time::UnixTime::from_millis;
    let totals = &analysis.totals;
    let alerts = match analysis.alerts_total {
        0 => String::from("no alert"),
        1 => String::from("1 alert"),
        many => format!("{many} alerts"),
    };
    text.push_str(&format!(
        "{alerts}: {} requests from {} to {}, {} denied, {} failed; {} in the {} days before say what is normal\n",
        totals.requests,
        time(analysis.since),
        time(analysis.until),
        totals.denied,
        totals.errors,
        totals.requests_before,
        mlgate::audit::analysis::detect::BASELINE_DAYS,
    ));
    let mut note = |count: u64, what: &str| {
        if count > 0 {
            text.push_str(&format!("note: {count} {what}\n"));
        }
    };
    note(reading.duplicates, "events came again and count once");
    note(totals.lost, "events were declared lost in the window: what they said is not here");
    note(totals.requests_after, "requests are later than the window and do not count");
    if let (0, Some(first), Some(last)) = (totals.requests, totals.first, totals.last) {
        let (first, last) = (time(first), time(last));
        text.push_str(&format!(
            "note: no request is in the window: the log goes from {first} to {last}; see --now\n"
        ));
    }
    for (cut, what) in [(&analysis.principals_cut, "principals"), (&analysis.sources_cut, "addresses")] {
        if let Some(cut) = cut {
            let (kept, total) = (cut.kept, cut.total);
            text.push_str(&format!(
                "note: of about {total} {what} only {kept} fit into memory and were judged\n"
            ));
        }
    }
    text
}

// === impl Rules ===

impl Rules {
    /// As the detector takes them.
    pub(super) const fn thresholds(&self) -> Thresholds {
        Thresholds {
            max_requests: self.max_requests,
            baseline_factor: self.baseline_factor,
            min_burst: self.min_burst,
            max_errors_per_mille: self.max_error_rate,
            min_requests: self.min_requests,
            max_models: self.max_models,
        }
    }
}

/// A share from 0 to 1, in thousandths.
fn share(text: &str) -> Result<u64, String> {
    let wrong = || String::from("write a share from 0 to 1 with at most three decimals, for instance 0.5");
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{decimals:0<3}");
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && decimals.len() <= 3 && !whole.is_empty();
    digits.parse().ok().filter(|share| plain && *share <= 1000).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_read_in_thousandths() {
        for (text, share_of) in
            [("0.5", 500), ("0", 0), ("1", 1000), ("0.05", 50), ("0.125", 125), ("1.000", 1000)]
        {
            assert_eq!(share(text), Ok(share_of), "{text}");
        }
        for text in ["", ".5", "1.1", "-0.5", "0.1234", "50%", "0,5", "+1", "1.0e0"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
