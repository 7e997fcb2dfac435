//! `mlgate key`.

use clap::{Args, Subcommand};
use mlgate::config::shape::grammar;
use mlgate::identity::api_key::{ApiKey, RANDOM_BYTES};
use mlgate::identity::secret::Secret;
use mlgate::time::UnixTime;
use serde::Serialize;
use serde_json::Value as Json;

use crate::environment::{Environment, now};
use crate::{Exit, Format, Stop, print, print_json};

/// Make API keys
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    New(NewCommand),
}

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

/// What `key new` prints.
#[derive(Serialize)]
struct Made {
    key: String,
    consumer: String,
    id: String,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
}

/// Runs one of them.
pub(crate) fn run(command: KeyCommand, format: Format) -> Result<Exit, Stop> {
    let KeyCommand::New(command) = command;
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
    let pepper = command.pepper.as_deref().map(pepper).transpose()?;
    let key = generate()?;
    let digest = match &pepper {
        Some((id, secret)) => key.keyed_digest(id, secret),
        None => key.digest(),
    };
    Ok(Made {
        key: key.expose().to_owned(),
        consumer: command.consumer,
        id: key.id().to_string(),
        digest: digest.to_string(),
        not_before: not_before.map(|time| time.to_string()),
        not_after: not_after.map(|time| time.to_string()),
    })
}

/// A key that nobody has yet.
pub(crate) fn generate() -> Result<ApiKey, Stop> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random)
        .map_err(|error| Stop::failure("the system's random numbers", error, "try on another machine"))?;
    ApiKey::generate(&random)
        .map_err(|_| Stop::failure("the system's random numbers", "not random", "try again"))
}

fn timestamp(option: &str, text: Option<&str>) -> Result<Option<UnixTime>, Stop> {
    text.map(UnixTime::parse).transpose().map_err(|_| {
        let what = format!("`{}` is not a timestamp", text.unwrap_or_default());
        Stop::invalid(option, what, "write one with a zone, such as `2027-01-01T00:00:00Z`")
    })
}

/// `ID=ENV`: the pepper's id and what the environment holds.
fn pepper(text: &str) -> Result<(String, Secret), Stop> {
    let (id, env) = text
        .split_once('=')
        .filter(|(id, env)| (grammar::SECRET_ID.check)(id) && (grammar::ENV.check)(env))
        .ok_or_else(|| {
            Stop::invalid(
                "--pepper",
                format!("`{text}` is not `ID=ENV`"),
                "write for instance `p1=MLGATE_PEPPER_1`",
            )
        })?;
    let value = Environment::Process.value(env).ok_or_else(|| {
        let what = format!("the environment variable `{env}` is missing or empty");
        Stop::invalid("--pepper", what, "set it to what the gate is given")
    })?;
    Ok((id.to_owned(), Secret::new(value)))
}

fn human(made: &Made) -> String {
    // JSON's quotes are YAML's
    let quoted = |text: &str| Json::from(text).to_string();
    let mut text = format!(
        "{}\n\n# The key above is shown once. The configuration holds this, under `consumers`:\n\
         - name: {}\n  credentials:\n    api_keys:\n      - id: {}\n        digest: {}\n",
        made.key,
        quoted(&made.consumer),
        quoted(&made.id),
        quoted(&made.digest),
    );
    for (name, time) in [("not_before", &made.not_before), ("not_after", &made.not_after)] {
        if let Some(time) = time {
            text.push_str(&format!("        {name}: {}\n", quoted(time)));
        }
    }
    text
}
