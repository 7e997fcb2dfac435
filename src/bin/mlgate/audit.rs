//! `mlgate audit`: keeps the audit log, and proves that nobody has changed it.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Subcommand;
use mlgate::audit::chain::MacKey;

use crate::environment::Environment;
use crate::{Format, Stop};

mod analyze;
mod collect;
pub(crate) mod lines;
mod report;
pub(crate) mod scan;
mod serve;
mod store;
mod times;
mod verify;

/// Keep the audit log, and prove that nobody has changed it
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    Analyze(analyze::AnalyzeCommand),
    Collect(collect::CollectCommand),
    Report(report::ReportCommand),
    Serve(serve::ServeCommand),
    Verify(verify::VerifyCommand),
}

/// A chain key on the command line: its id, and the environment variable that holds it.
#[derive(Clone, Debug)]
struct ChainKey {
    id: String,
    variable: String,
}

/// Exit code of `verify` for what it cannot read, its own arguments included.
const UNREADABLE: u8 = 2;

/// Runs the command. `verify` has exit codes of its own, so the result is not an [`crate::Exit`].
pub(crate) fn run(command: AuditCommand, format: Format) -> ExitCode {
    let or_stop = |result: Result<ExitCode, Stop>| result.unwrap_or_else(|stop| stop.report());
    match command {
        AuditCommand::Analyze(command) => or_stop(analyze::run(&command, format)),
        AuditCommand::Collect(command) => or_stop(collect::run(&command).map(|()| ExitCode::SUCCESS)),
        AuditCommand::Report(command) => or_stop(report::run(&command, format)),
        AuditCommand::Serve(command) => or_stop(serve::run(&command)),
        AuditCommand::Verify(command) => match verify::run(&command, format) {
            Ok(exit) => exit,
            Err(stop) => {
                let _failure = stop.report();
                ExitCode::from(UNREADABLE)
            }
        },
    }
}

/// The exit code when the arguments themselves are wrong. For `verify`, 3 means a log with declared gaps: a script
/// that is content with it must not be fooled by a mistyped option.
pub(crate) fn usage_exit(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let words: Vec<OsString> =
        arguments.skip(1).filter(|word| word == "audit" || word == "verify").take(2).collect();
    (words == ["audit", "verify"]).then(|| ExitCode::from(UNREADABLE))
}

// === impl ChainKey ===

impl ChainKey {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((id, variable)) if !id.is_empty() && !variable.is_empty() => {
                Ok(Self { id: id.to_owned(), variable: variable.to_owned() })
            }
            _ => Err(String::from(
                "write ID=ENV: the id that events name, and the variable that holds the key",
            )),
        }
    }
}

/// Tells whoever watches the collector.
fn say(what: std::fmt::Arguments<'_>) {
    // nobody may be left to tell
    let _ = writeln!(std::io::stderr(), "mlgate: audit collect: {what}");
}

/// Looks the keys up.
fn keys(keys: &[ChainKey]) -> Result<Vec<MacKey>, Stop> {
    keys.iter()
        .map(|key| {
            Environment::Process
                .value(&key.variable)
                .and_then(|secret| MacKey::chain(key.id.clone(), secret.as_bytes()).ok())
                .ok_or_else(|| {
                    Stop::invalid(
                        format_args!("--chain-key {}={}", key.id, key.variable),
                        "the environment variable is missing or empty",
                        "put the chain key into it",
                    )
                })
        })
        .collect()
}
