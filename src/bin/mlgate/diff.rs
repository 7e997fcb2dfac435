//! `mlgate diff`: recorded decisions are put to two configurations, and what flips is listed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use mlgate::audit::analysis::alert::visible;
use mlgate::review::Candidate;
use mlgate::review::diff::{Counts, Difference, Flip, text};
use serde::Serialize;

use crate::environment::Environment;
use crate::{Exit, Format, Stop, open, print, print_json, records};

/// List which recorded decisions would flip from one configuration to another
///
/// Each decision of the log is put to both: what configurations say (consumers, keys and their limits, bindings, scopes,
/// profiles, rules, catalogue, environment, revocation) is taken from each of them, what came with the request (address,
/// time, path, a token's claims) from the record. Flips are grouped by the policy responsible. Apart stands what cannot be
/// decided, because a claim that a policy reads now was not recorded then. Decisions that were recorded before policies were
/// asked (wrong credentials, ambiguous paths) are counted. Limits are not replayed.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct DiffCommand {
    /// What holds now: YAML, or JSON where the name ends in `.json`
    old: PathBuf,
    /// What would hold
    new: PathBuf,
    /// Logs that `mlgate audit collect` wrote; `-` is standard input
    #[arg(long, value_name = "FILE", required = true)]
    log: Vec<PathBuf>,
    /// Take environment variables from a file of lines `NAME=value` instead of the command's own
    #[arg(long, value_name = "FILE")]
    env: Option<PathBuf>,
}

const HELP: &str = concat!(
    "Examples:\n",
    "  mlgate diff deployed.yaml gate.yaml --log audit.log
  git show main:gate.yaml > old.yaml; mlgate diff old.yaml gate.yaml --log audit.log --format json

Exit codes: 0 nothing flips, 1 failure or nothing could be read, 2 flips, 3 invalid input"
);

/// What `diff` prints.
#[derive(Serialize)]
struct Report<'a> {
    old: Side<'a>,
    new: Side<'a>,
    flips: Vec<Group<'a>>,
    undecided: Vec<Group<'a>>,
    decisions: u64,
    decisions_flipped: u64,
    decisions_undecided: u64,
    decisions_not_asked: u64,
    recorded_otherwise: u64,
    not_listed: u64,
}

#[derive(Serialize)]
struct Side<'a> {
    file: String,
    policy_revision: &'a str,
}

/// Decisions that flip for one reason, or depend on the same attributes.
#[derive(Serialize)]
struct Group<'a> {
    /// The policies responsible, or the attributes that were not recorded.
    because: &'a str,
    decisions: u64,
    list: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    principal: &'a str,
    action: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    from: String,
    to: String,
    decisions: u64,
    first: &'a str,
    first_at: String,
}

/// Compares.
pub(crate) fn run(command: &DiffCommand, format: Format) -> Result<Exit, Stop> {
    let environment = Environment::open(command.env.as_deref())?;
    let (old, new) = (open(&command.old, &environment)?, open(&command.new, &environment)?);
    let mut difference = Difference::between(&old, &new);
    let reading = records::each(&command.log, &mut |record| {
        difference.take(&record);
        ControlFlow::Continue(())
    })?;
    reading.warn()?;
    let report = Report::of(command, &old, &new, &difference);
    match format {
        Format::Human => print(&human(&report))?,
        Format::Json => print_json(&report)?,
    }
    Ok(if difference.counts.flipped == 0 { Exit::Fine } else { Exit::Findings })
}

// === impl Report ===

impl<'a> Report<'a> {
    fn of(
        command: &DiffCommand,
        old: &'a Candidate,
        new: &'a Candidate,
        difference: &'a Difference<'_>,
    ) -> Self {
        let Counts { decisions, not_asked, flipped, undecided, recorded_otherwise, not_listed } =
            difference.counts;
        let side = |path: &PathBuf, candidate: &'a Candidate| Side {
            file: path.display().to_string(),
            policy_revision: &candidate.config.revision,
        };
        Self {
            old: side(&command.old, old),
            new: side(&command.new, new),
            flips: groups(&difference.flips),
            undecided: groups(&difference.undecided),
            decisions,
            decisions_flipped: flipped,
            decisions_undecided: undecided,
            decisions_not_asked: not_asked,
            recorded_otherwise,
            not_listed,
        }
    }
}

/// The largest group first.
fn groups(all: &BTreeMap<String, Vec<Flip>>) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = all
        .iter()
        .map(|(because, list)| Group {
            because,
            decisions: list.iter().map(|flip| flip.count).fold(0, u64::saturating_add),
            list: list.iter().map(Row::of).collect(),
        })
        .collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.decisions));
    groups
}

// === impl Row ===

impl<'a> Row<'a> {
    fn of(flip: &'a Flip) -> Self {
        Self {
            principal: &flip.principal,
            action: &flip.action,
            kind: &flip.resource.0,
            id: &flip.resource.1,
            from: text(&flip.from),
            to: text(&flip.to),
            decisions: flip.count,
            first: &flip.decision_id,
            first_at: flip.timestamp.to_string(),
        }
    }
}

fn human(report: &Report<'_>) -> String {
    let mut text = String::new();
    let mut list = |title: &str, groups: &[Group<'_>]| {
        for group in groups {
            text.push_str(&format!("{title}{}: {} decisions\n", visible(group.because), group.decisions));
            for row in &group.list {
                let line = format!(
                    "{}, {}, {} {}: {} -> {}, {} times, first at {} ({})",
                    row.principal,
                    row.action,
                    row.kind,
                    row.id,
                    row.from,
                    row.to,
                    row.decisions,
                    row.first_at,
                    row.first
                );
                text.push_str(&format!("  {}\n", visible(&line)));
            }
        }
    };
    list("", &report.flips);
    list("cannot be decided, not recorded: ", &report.undecided);
    text.push_str(&format!(
        "{} decisions from {} to {}: {} would flip, {} cannot be decided",
        report.decisions,
        report.old.file,
        report.new.file,
        report.decisions_flipped,
        report.decisions_undecided
    ));
    for (count, what) in [
        (report.not_listed, "of these are not listed, there are too many different ones"),
        (report.decisions_not_asked, "more were made before policies were asked"),
        (
            report.recorded_otherwise,
            "were made by another configuration, and otherwise than the old one decides",
        ),
    ] {
        if count > 0 {
            text.push_str(&format!("; {count} {what}"));
        }
    }
    text.push('\n');
    text
}
