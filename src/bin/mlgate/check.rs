//! `mlgate check`.

use std::path::{Path, PathBuf};

use clap::Args;
use mlgate::config::document::Document;
use mlgate::config::faults::{Fault, Faults};
use mlgate::config::tree::Tree;
use mlgate::config::{self, findings};
use mlgate::envoy::review::{self, Review};
use mlgate::envoy::rule::File;
use mlgate::limits::Limit;
use serde::Serialize;

use crate::environment::{Environment, now};
use crate::{Exit, Format, Stop, format_of, print, print_json, read_file};

/// Check a configuration: every fault at once, then what is allowed but probably not meant
///
/// Faults keep the filter from loading the configuration; findings do not. For each local limit it says what the
/// limit admits. With `--envoy` it looks for what would make the gate useless, and says what it cannot see.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct CheckCommand {
    /// YAML, or JSON where the name ends in `.json`; `-` is standard input
    config: PathBuf,
    /// Take environment variables from a file of lines `NAME=value` instead of the command's own
    #[arg(long, value_name = "FILE")]
    env: Option<PathBuf>,
    /// Look for dangers in the Envoy document that is to run it: a bootstrap, the answer to `/config_dump`, or a file
    /// of resources
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
}

const HELP: &str = help!(
    "  mlgate check gate.yaml
  mlgate check gate.yaml --env gate.env
  mlgate check gate.yaml --envoy /etc/envoy/envoy.yaml
  mlgate check gate.yaml --format json | jq '.faults[].pointer'"
);

/// What `check` prints.
#[derive(Serialize)]
struct Report {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_revision: Option<String>,
    faults: Vec<Fault>,
    findings: Vec<Fault>,
    limits: Vec<String>,
    /// What lists that are polled promise.
    lists: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    envoy: Option<Reviewed>,
}

/// What came of the review of an Envoy document.
#[derive(Serialize)]
struct Reviewed {
    file: String,
    #[serde(flatten)]
    review: Review,
}

/// Checks.
pub(crate) fn run(command: &CheckCommand, format: Format) -> Result<Exit, Stop> {
    let environment = Environment::open(command.env.as_deref())?;
    let bytes = read_file(&command.config)?;
    let report = report(command, &bytes, &environment)?;
    match format {
        Format::Human => print(&human(&report))?,
        Format::Json => print_json(&report)?,
    }
    let dangers = report.envoy.as_ref().is_some_and(|reviewed| !reviewed.review.findings.is_empty());
    Ok(match (report.faults.is_empty(), report.findings.is_empty() && !dangers) {
        (false, _) => Exit::Invalid,
        (true, false) => Exit::Findings,
        (true, true) => Exit::Fine,
    })
}

fn report(command: &CheckCommand, bytes: &[u8], environment: &Environment) -> Result<Report, Stop> {
    let mut report = Report {
        file: command.config.display().to_string(),
        policy_revision: None,
        faults: Vec::new(),
        findings: Vec::new(),
        limits: Vec::new(),
        lists: Vec::new(),
        envoy: None,
    };
    let format = format_of(&command.config);
    match config::read(bytes, format) {
        Err(faults) => report.faults = faults.into_vec(),
        Ok((document, tree)) => {
            let mut found = Faults::default();
            findings::environment(&document, &|name| environment.value(name), &mut found);
            findings::find(&document, now(), &mut found);
            match &command.envoy {
                Some(path) => report.envoy = Some(reviewed(path, &document, &tree)?),
                None => findings::certificates(&document, &mut found),
            }
            match config::load(bytes, format, &|name| environment.value_or_stand_in(name)) {
                Err(faults) => report.faults = faults.into_vec(),
                Ok(config) => {
                    config.limits.review(&mut found);
                    report.limits = config.limits.iter().flat_map(Limit::promises).collect();
                    report.lists = config.lists.promises();
                    report.policy_revision = Some(config.revision);
                }
            }
            found.locate(|pointer| tree.line_of(pointer));
            report.findings = found.into_vec();
        }
    }
    report.faults.sort_by_key(|fault| fault.line);
    report.findings.sort_by_key(|fault| fault.line);
    Ok(report)
}

/// Reviews the Envoy document that is to run a configuration.
fn reviewed(path: &Path, document: &Document, tree: &Tree) -> Result<Reviewed, Stop> {
    let unread = |faults: &Faults| {
        let first = faults.iter().next();
        let line = first.and_then(|fault| fault.line).map(|line| format!(":{line}")).unwrap_or_default();
        let (what, remedy) =
            first.map(|fault| (fault.what.as_str(), fault.remedy.as_str())).unwrap_or_default();
        Stop::invalid(format_args!("{}{line}", path.display()), what, remedy)
    };
    let envoy = Tree::of_proxy(&read_file(path)?, format_of(path)).map_err(|faults| unread(&faults))?;
    let review = review::review(&envoy, document, tree).map_err(|faults| unread(&faults))?;
    Ok(Reviewed { file: path.display().to_string(), review })
}

/// Lines that editors understand: `file:line: …`.
fn human(report: &Report) -> String {
    let mut text = String::new();
    let mut say = |file: &str, kind: &str, fault: &Fault| {
        let line = fault.line.map(|line| format!(":{line}")).unwrap_or_default();
        let (place, what, remedy) = (fault.place(), &fault.what, &fault.remedy);
        text.push_str(&format!("{file}{line}: {kind}: {place}: {what}: {remedy}\n"));
    };
    report.faults.iter().for_each(|fault| say(&report.file, "fault", fault));
    report.findings.iter().for_each(|finding| say(&report.file, "finding", finding));
    if let Some(reviewed) = &report.envoy {
        for finding in &reviewed.review.findings {
            let file = if finding.file == File::Envoy { &reviewed.file } else { &report.file };
            say(file, &format!("finding ({})", finding.rule.name()), &finding.fault);
        }
        for note in &reviewed.review.not_checked {
            let line = note.line.map(|line| format!(":{line}")).unwrap_or_default();
            text.push_str(&format!("{}{line}: not checked: {}\n", reviewed.file, note.what));
        }
    }
    for limit in &report.limits {
        text.push_str(&format!("limit {limit}\n"));
    }
    for list in &report.lists {
        text.push_str(&format!("list {list}\n"));
    }
    let count = |number: usize, word: &str| match number {
        1 => format!("1 {word}"),
        many => format!("{many} {word}s"),
    };
    let dangers = report
        .envoy
        .as_ref()
        .map_or(0, |reviewed| reviewed.review.findings.len().saturating_add(reviewed.review.more));
    let result = match (report.faults.len(), report.findings.len().saturating_add(dangers)) {
        (0, 0) => String::from("fine"),
        (0, findings) => count(findings, "finding"),
        (faults, 0) => count(faults, "fault"),
        (faults, findings) => format!("{}, {}", count(faults, "fault"), count(findings, "finding")),
    };
    let revision =
        report.policy_revision.as_ref().map(|r| format!(", policy revision {r}")).unwrap_or_default();
    text.push_str(&format!("{}: {result}{revision}\n", report.file));
    text
}
