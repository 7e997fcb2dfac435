//! `mlgate test`: tables of who may do what are held against a configuration.

use std::path::{Path, PathBuf};

use clap::Args;
use mlgate::config::faults::Faults;
use mlgate::review::Candidate;
use mlgate::review::candidate::Answer;
use mlgate::review::grid::Cell;
use mlgate::review::suite::{MAX_CELLS, Suite};
use serde::Serialize;

use crate::environment::Environment;
use crate::{Exit, Format, Stop, format_of, open, print, print_json, read_file};

mod grid;
mod junit;
mod thorough;

use thorough::{Coverage, Mutants};

/// Test a configuration with tables of who may do what: what a table does not list as allowed is expected to be denied
///
/// A file of tables names `principals` (consumers of the configuration, or callers written out with `roles` and
/// `attributes`), `resources` (`type` and `id`), `actions`, and `tables`, each of which lists under `allow` what is allowed:
/// principal, then resource, then actions. Every other combination is a case too. `because` holds reasons and policies of
/// single cells. A folder stands for its files `*.yaml`, `*.yml` and `*.json`, but for `*.equivalent.*`.
///
/// A clause is covered when the cases saw it hold and not hold, a clause of a permission for callers who have the role.
/// `--mutants` changes one small thing of the policies at a time (an operator or effect is flipped; a clause, block, value,
/// permission or policy taken out) and asks all cases again: a mutant that none of them notices survives.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct TestCommand {
    /// YAML, or JSON where the name ends in `.json`
    config: PathBuf,
    /// Files of tables, or folders of them
    #[arg(required = true)]
    cases: Vec<PathBuf>,
    /// Also write the result as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Fail where less than this part of the clauses is seen true and false, of a hundred
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    min_coverage: Option<u8>,
    /// Fail where a mutant of the policies survives
    #[arg(long)]
    mutants: bool,
    /// Mutants that decide as the original does, each with the reason why: `equivalent: [{ mutant: …, because: … }]`
    #[arg(long, value_name = "FILE", requires = "mutants")]
    equivalent: Option<PathBuf>,
    /// Take environment variables from a file of lines `NAME=value` instead of the command's own
    #[arg(long, value_name = "FILE")]
    env: Option<PathBuf>,
}

const HELP: &str = concat!(
    "Examples:\n",
    "  mlgate test envoy/config/medium.yaml envoy/suites/medium.yaml
  mlgate test gate.yaml suites/ --junit results.xml --min-coverage 100
  mlgate test gate.yaml suites/ --mutants --equivalent suites/gate.equivalent.yaml

Exit codes: 0 as expected, 1 a case failed, too little is covered or a mutant survives, 3 invalid input"
);

/// One file and what it expects.
struct File {
    name: String,
    suite: Suite,
}

/// What `test` prints.
#[derive(Serialize)]
struct Report {
    config: String,
    policy_revision: String,
    files: Vec<FileReport>,
    /// Combinations that were asked.
    cases: usize,
    failed: Vec<Failure>,
    coverage: Coverage,
    #[serde(skip_serializing_if = "Option::is_none")]
    mutants: Option<Mutants>,
}

#[derive(Serialize)]
struct FileReport {
    file: String,
    cases: usize,
    failed: usize,
}

/// One cell that is otherwise than expected.
#[derive(Serialize)]
struct Failure {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    table: String,
    principal: String,
    resource: String,
    action: String,
    expected: String,
    got: String,
}

/// Tests.
pub(crate) fn run(command: &TestCommand, format: Format) -> Result<Exit, Stop> {
    let environment = Environment::open(command.env.as_deref())?;
    let candidate = open(&command.config, &environment)?;
    let files = files(&command.cases, &candidate)?;
    let mut report = Report {
        config: command.config.display().to_string(),
        policy_revision: candidate.config.revision.clone(),
        files: Vec::new(),
        cases: 0,
        failed: Vec::new(),
        coverage: thorough::cover(&candidate, &files),
        mutants: None,
    };
    let mut grids = String::new();
    let mut junit = junit::Writer::new(&report.config);
    for file in &files {
        let before = report.failed.len();
        junit.suite(&file.name);
        for table in &file.suite.tables {
            let answers: Vec<(Cell<'_>, Answer)> =
                table.each().map(|cell| (cell, cell.answer(&candidate.config))).collect();
            grids.push_str(&grid::draw(&file.name, table, &answers));
            for (cell, answer) in &answers {
                let failure =
                    (!cell.expected.is_met_by(answer)).then(|| Failure::of(&file.name, cell, answer));
                junit.case(cell, failure.as_ref());
                report.failed.extend(failure);
            }
        }
        let (cases, failed) = (file.suite.cells(), report.failed.len().saturating_sub(before));
        report.cases = report.cases.saturating_add(cases);
        report.files.push(FileReport { file: file.name.clone(), cases, failed });
    }
    // a mutant is told by the case that it breaks, so that all must hold first
    if command.mutants && report.failed.is_empty() {
        let equivalent = command.equivalent.as_deref();
        report.mutants = Some(thorough::mutate(&candidate, &files, equivalent, &environment)?);
    }
    if let Some(path) = &command.junit {
        std::fs::write(path, junit.finish()).map_err(|error| {
            Stop::failure(path.display(), format_args!("cannot be written: {error}"), "name another file")
        })?;
    }
    match format {
        Format::Human => print(&format!("{grids}{}", human(&report, command.min_coverage)))?,
        Format::Json => print_json(&report)?,
    }
    let covered = command.min_coverage.is_none_or(|least| report.coverage.percent >= least);
    let dead = report.mutants.as_ref().is_none_or(Mutants::are_dead);
    Ok(if report.failed.is_empty() && covered && dead { Exit::Fine } else { Exit::Failure })
}

/// Reads every file of tables; the folders' in the order of their names.
fn files(paths: &[PathBuf], candidate: &Candidate) -> Result<Vec<File>, Stop> {
    let mut names = Vec::new();
    for path in paths {
        if path.is_dir() { below(path, &mut names)? } else { names.push(path.clone()) }
    }
    let mut room = MAX_CELLS;
    let mut files = Vec::new();
    for path in names {
        let bytes = read_file(&path)?;
        let suite = Suite::read(&bytes, format_of(&path), candidate, room)
            .map_err(|faults| Stop::invalid(path.display(), lines(faults), "see `mlgate test --help`"))?;
        room = room.saturating_sub(suite.cells());
        files.push(File { name: path.display().to_string(), suite });
    }
    Ok(files)
}

/// All faults on one line.
fn lines(faults: Faults) -> String {
    faults.into_vec().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn below(folder: &Path, names: &mut Vec<PathBuf>) -> Result<(), Stop> {
    let unreadable = |error: std::io::Error| {
        Stop::invalid(
            folder.display(),
            format_args!("cannot be read: {error}"),
            "name files or a folder of them",
        )
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let is_table = path.extension().and_then(|extension| extension.to_str());
        let is_list = path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with(EQUIVALENT));
        if path.is_file() && !is_list && matches!(is_table, Some("yaml" | "yml" | "json")) {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(Stop::invalid(
            folder.display(),
            "no file of tables is in it",
            "name a folder of `*.yaml`",
        ));
    }
    found.sort_unstable();
    names.append(&mut found);
    Ok(())
}

/// How names of lists of equivalent mutants end, without the extension.
const EQUIVALENT: &str = ".equivalent";

// === impl Failure ===

impl Failure {
    fn of(file: &str, cell: &Cell<'_>, answer: &Answer) -> Self {
        Self {
            file: file.to_owned(),
            line: cell.expected.line,
            table: cell.table.note.clone(),
            principal: cell.row.principal.clone(),
            resource: cell.row.resource.clone(),
            action: cell.action.to_owned(),
            expected: cell.expected.to_string(),
            got: answer.to_string(),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, principal, resource, action, expected, got, .. } = self;
        write!(f, "{file}")?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {principal}, {resource}, {action}: {got}, expected {expected}")
    }
}

fn human(report: &Report, least: Option<u8>) -> String {
    let mut text = String::new();
    for failure in &report.failed {
        text.push_str(&format!("{failure}\n"));
    }
    let failed = match report.failed.len() {
        0 => String::from("as expected"),
        failed => format!("{failed} otherwise than expected"),
    };
    text.push_str(
        &report.coverage.human(&report.config, least.is_some_and(|least| report.coverage.percent < least)),
    );
    if let Some(mutants) = &report.mutants {
        text.push_str(&mutants.human(&report.config));
    }
    text.push_str(&format!("{}: {} cases, {failed}\n", report.config, report.cases));
    text
}
