//! `mlgate check`.

use std::path::PathBuf;

use clap::Args;
use mlgate::config::faults::{Fault, Faults};
use mlgate::config::{self, findings};
use mlgate::limits::Limit;
use serde::Serialize;

use crate::environment::{Environment, now};
use crate::{Exit, Format, Stop, format_of, print, print_json, read_file};

/// Check a configuration: every fault at once, then what is allowed but probably not meant
///
/// Faults keep the filter from loading the configuration; findings do not. For each local limit it says what the
/// limit admits.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct CheckCommand {
    /// YAML, or JSON where the name ends in `.json`; `-` is standard input
    config: PathBuf,
    /// Take environment variables from a file of lines `NAME=value` instead of the command's own
    #[arg(long, value_name = "FILE")]
    env: Option<PathBuf>,
}

const HELP: &str = help!(
    "  mlgate check gate.yaml
  mlgate check gate.yaml --env gate.env
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
}

/// Checks.
pub(crate) fn run(command: &CheckCommand, format: Format) -> Result<Exit, Stop> {
    let environment = Environment::open(command.env.as_deref())?;
    let bytes = read_file(&command.config)?;
    let report = report(command, &bytes, &environment);
    match format {
        Format::Human => print(&human(&report))?,
        Format::Json => print_json(&report)?,
    }
    Ok(match (report.faults.is_empty(), report.findings.is_empty()) {
        (false, _) => Exit::Invalid,
        (true, false) => Exit::Findings,
        (true, true) => Exit::Fine,
    })
}

fn report(command: &CheckCommand, bytes: &[u8], environment: &Environment) -> Report {
    let mut report = Report {
        file: command.config.display().to_string(),
        policy_revision: None,
        faults: Vec::new(),
        findings: Vec::new(),
        limits: Vec::new(),
    };
    let format = format_of(&command.config);
    match config::read(bytes, format) {
        Err(faults) => report.faults = faults.into_vec(),
        Ok((document, tree)) => {
            let mut found = Faults::default();
            findings::environment(&document, &|name| environment.value(name), &mut found);
            findings::find(&document, now(), &mut found);
            match config::load(bytes, format, &|name| environment.value_or_stand_in(name)) {
                Err(faults) => report.faults = faults.into_vec(),
                Ok(config) => {
                    config.limits.review(&mut found);
                    report.limits = config.limits.iter().flat_map(Limit::promises).collect();
                    report.policy_revision = Some(config.revision);
                }
            }
            found.locate(|pointer| tree.line_of(pointer));
            report.findings = found.into_vec();
        }
    }
    report.faults.sort_by_key(|fault| fault.line);
    report.findings.sort_by_key(|fault| fault.line);
    report
}

/// Lines that editors understand: `file:line: …`.
fn human(report: &Report) -> String {
    let mut text = String::new();
    let mut say = |kind: &str, fault: &Fault| {
        let line = fault.line.map(|line| format!(":{line}")).unwrap_or_default();
        let (place, what, remedy) = (fault.place(), &fault.what, &fault.remedy);
        text.push_str(&format!("{}{line}: {kind}: {place}: {what}: {remedy}\n", report.file));
    };
    report.faults.iter().for_each(|fault| say("fault", fault));
    report.findings.iter().for_each(|finding| say("finding", finding));
    for limit in &report.limits {
        text.push_str(&format!("limit {limit}\n"));
    }
    let count = |list: &[Fault], word: &str| match list.len() {
        1 => format!("1 {word}"),
        many => format!("{many} {word}s"),
    };
    let result = match (report.faults.as_slice(), report.findings.as_slice()) {
        ([], []) => String::from("fine"),
        ([], findings) => count(findings, "finding"),
        (faults, []) => count(faults, "fault"),
        (faults, findings) => format!("{}, {}", count(faults, "fault"), count(findings, "finding")),
    };
    let revision =
        report.policy_revision.as_ref().map(|r| format!(", policy revision {r}")).unwrap_or_default();
    text.push_str(&format!("{}: {result}{revision}\n", report.file));
    text
}
