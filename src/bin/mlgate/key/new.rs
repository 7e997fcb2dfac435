//! `mlgate key new`.

use clap::Args;
use mlgate::config::shape::grammar;
use serde::Serialize;
use serde_json::json;

use super::{Entry, digest, generate, pepper, timestamp};
use crate::environment::{Environment, now};
use crate::{Exit, Format, Stop, print, print_json};

/// Make an API key: it is shown once, the configuration holds its digest
///
/// The first line of the output is the key; the others are what to add to the configuration.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct NewCommand {
    /// Whose key it is: a name under `consumers`
    #[arg(long, value_name = "NAME")]
    consumer: String,
    /// Key the digest with a pepper of the configuration, read from this environment variable
    #[arg(long, value_name = "ID=ENV")]
    pepper: Option<String>,
    /// Not valid before this RFC 3339 timestamp
    #[arg(long, value_name = "TIMESTAMP")]
    not_before: Option<String>,
    /// Not valid from this RFC 3339 timestamp on
    #[arg(long, value_name = "TIMESTAMP")]
    not_after: Option<String>,
}

const HELP: &str = help!(
    "  mlgate key new --consumer user_1
  mlgate key new --consumer user_1 --not-after 2027-01-01T00:00:00Z
  mlgate key new --consumer user_1 --pepper p1=MLGATE_PEPPER_1
  mlgate key new --consumer user_1 --format json"
);

/// What it prints.
#[derive(Serialize)]
struct Made {
    key: String,
    consumer: String,
    #[serde(flatten)]
    entry: Entry,
}

/// Makes a key.
pub(super) fn run(command: NewCommand, format: Format) -> Result<Exit, Stop> {
    let made = make(command)?;
    match format {
        Format::Human => print(&human(&made))?,
        Format::Json => print_json(&made)?,
    }
    Ok(Exit::Fine)
}

fn make(command: NewCommand) -> Result<Made, Stop> {
    if !(grammar::CONSUMER.check)(&command.consumer) {
        let what = format!("`{}` is not a consumer's name", command.consumer);
        return Err(Stop::invalid("--consumer", what, format_args!("write {}", grammar::CONSUMER.say)));
    }
    let not_before = timestamp("--not-before", command.not_before.as_deref())?;
    let not_after = timestamp("--not-after", command.not_after.as_deref())?;
    if not_after.is_some_and(|end| end <= now() || not_before.is_some_and(|start| end <= start)) {
        return Err(Stop::invalid("--not-after", "the key would never be valid", "write a later time"));
    }
    let pepper = command.pepper.as_deref().map(|text| pepper(text, &Environment::Process)).transpose()?;
    let key = generate()?;
    let entry = Entry {
        id: key.id().to_string(),
        digest: digest(&key, pepper.as_ref()).to_string(),
        not_before: not_before.map(|time| time.to_string()),
        not_after: not_after.map(|time| time.to_string()),
        ..Entry::default()
    };
    Ok(Made { key: key.expose().to_owned(), consumer: command.consumer, entry })
}

fn human(made: &Made) -> String {
    format!(
        "{}\n\n# The key above is shown once. The configuration holds this, under `consumers`:\n\
         - name: {}\n  credentials:\n    api_keys:\n      - {}\n",
        made.key,
        json!(made.consumer),
        made.entry.lines().join("\n        "),
    )
}
