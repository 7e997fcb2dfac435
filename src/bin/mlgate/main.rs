//! The `mlgate` command: one file per subcommand; here is what they share.

use std::fmt::Display;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use mlgate::config::faults::Faults;

/// What `--help` says of a command: its examples, and the exit codes.
macro_rules! help {
    ($examples:literal) => {
        concat!(
            "Examples:\n",
            $examples,
            "\n\nExit codes: 0 fine or allowed, 1 failure, 2 denied or findings, 3 invalid input"
        )
    };
}

mod audit;
mod check;
mod diff;
mod environment;
mod explain;
mod jws_verify;
mod key;
mod reach;
mod records;
mod render;
mod replace;
mod revoke;
mod schema;
mod test;

/// Access gate for ML model servers: checks and explains configurations, makes keys, keeps the audit log.
#[derive(Debug, Parser)]
#[command(name = "mlgate", version, after_help = HELP)]
struct Arguments {
    /// How results are written.
    #[arg(long, global = true, value_enum, default_value_t = Format::Human)]
    format: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    CanWhat(reach::CanWhatCommand),
    Check(check::CheckCommand),
    Diff(diff::DiffCommand),
    Explain(explain::ExplainCommand),
    JwsVerify(jws_verify::JwsVerifyCommand),
    #[command(subcommand)]
    Key(key::KeyCommand),
    #[command(subcommand)]
    Render(render::RenderCommand),
    #[command(subcommand)]
    Revoke(revoke::RevokeCommand),
    Schema(schema::SchemaCommand),
    Test(test::TestCommand),
    WhoCan(reach::WhoCanCommand),
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Human,
    /// For programs.
    Json,
}

/// How a command ends (sysexits have no word for findings).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Fine or allowed.
    Fine,
    /// Something outside the input failed.
    Failure,
    /// Denied, or findings.
    Findings,
    /// The input is not valid.
    Invalid,
}

/// Why a command has no result: one line with place and remedy.
#[derive(Debug)]
pub(crate) struct Stop {
    exit: Exit,
    line: String,
}

const HELP: &str = help!(
    "  mlgate check envoy/config/quickstart.yaml
  mlgate key new --consumer user_1
  mlgate audit verify audit.log"
);

/// No file that the command reads is larger, in bytes.
const MAX_FILE: u64 = 64 << 20;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Invalid } else { Exit::Fine };
            // nobody is left to tell
            let _ = error.print();
            let usage = audit::usage_exit(std::env::args_os()).filter(|_| error.use_stderr());
            return usage.unwrap_or_else(|| exit.into());
        }
    };
    let format = arguments.format;
    let result = match arguments.command {
        Command::Audit(command) => return audit::run(command, format),
        Command::CanWhat(command) => reach::can_what(&command, format),
        Command::Check(command) => check::run(&command, format),
        Command::Diff(command) => diff::run(&command, format),
        Command::Explain(command) => explain::run(&command, format),
        Command::JwsVerify(command) => jws_verify::run(&command),
        Command::Key(command) => key::run(command, format),
        Command::Render(command) => render::run(&command, format),
        Command::Revoke(command) => revoke::run(&command, format),
        Command::Schema(command) => schema::run(command),
        Command::Test(command) => test::run(&command, format),
        Command::WhoCan(command) => reach::who_can(&command, format),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(stop) => stop.report(),
    }
}

// === impl Exit ===

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Failure => 1,
            Exit::Findings => 2,
            Exit::Invalid => 3,
        })
    }
}

// === impl Stop ===

impl Stop {
    /// Says it, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        // nobody may be left to tell
        let _ = writeln!(std::io::stderr(), "mlgate: {}", self.line);
        self.exit.into()
    }

    /// The input at `place` is not valid.
    pub(crate) fn invalid(place: impl Display, what: impl Display, remedy: impl Display) -> Self {
        Self { exit: Exit::Invalid, line: format!("{place}: {what}: {remedy}") }
    }

    /// The configuration at `place` would be refused.
    pub(crate) fn refused(place: impl Display, faults: &Faults) -> Self {
        let first = faults.iter().next().map(ToString::to_string).unwrap_or_default();
        Self::invalid(place, format_args!("{first} ({} in all)", faults.len()), "see `mlgate check`")
    }

    /// Something outside the input failed.
    pub(crate) fn failure(place: impl Display, what: impl Display, remedy: impl Display) -> Self {
        Self { exit: Exit::Failure, line: format!("{place}: {what}: {remedy}") }
    }
}

impl Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.line)
    }
}

/// Reads a whole file; `-` is standard input.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Stop> {
    let mut bytes = Vec::new();
    let over = MAX_FILE.saturating_add(1);
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(over).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(over).read_to_end(&mut bytes))
    };
    match read {
        Ok(_) if u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_FILE) => Ok(bytes),
        Ok(_) => {
            Err(Stop::invalid(path.display(), format!("larger than {MAX_FILE} bytes"), "name another file"))
        }
        Err(error) => Err(Stop::invalid(
            path.display(),
            format!("cannot be read: {error}"),
            "name a file that can be read",
        )),
    }
}

/// How a configuration of this name is written.
pub(crate) fn format_of(path: &Path) -> mlgate::config::Format {
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
        mlgate::config::Format::Json
    } else {
        mlgate::config::Format::Yaml
    }
}

/// Reads and compiles a configuration; a variable that is missing has a stand-in.
pub(crate) fn open(
    path: &Path,
    environment: &environment::Environment,
) -> Result<mlgate::review::Candidate, Stop> {
    let bytes = read_file(path)?;
    let value = |name: &str| environment.value_or_stand_in(name);
    mlgate::review::Candidate::open(&bytes, format_of(path), &value)
        .map_err(|faults| Stop::refused(path.display(), &faults))
}

/// Writes a result to standard output.
pub(crate) fn print(text: &str) -> Result<(), Stop> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") })
        .and_then(|()| out.flush())
        .map_err(|error| Stop::failure("standard output", error, "give it a reader that stays"))
}

/// Writes a result to standard output as one JSON document.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Stop> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Stop::failure("the result", error, "report this as an error of mlgate"))?;
    print(&text)
}
