//! `mlgate key`: one file per subcommand; here is what they share.

use std::path::Path;

use clap::Subcommand;
use mlgate::config::document::Document;
use mlgate::config::shape::grammar;
use mlgate::config::tree::Tree;
use mlgate::config::{self, faults::Faults};
use mlgate::identity::api_key::{ApiKey, KeyDigest, RANDOM_BYTES};
use mlgate::identity::secret::Secret;
use mlgate::identity::spec::ApiKeySpec;
use mlgate::time::UnixTime;
use serde::Serialize;
use serde_json::json;

use crate::environment::Environment;
use crate::{Exit, Format, Stop, format_of, read_file};

mod hash;
mod lint;
mod new;
mod rotate;
mod usage;

/// Make and replace API keys, and find those that should be replaced
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    Hash(hash::HashCommand),
    Lint(lint::LintCommand),
    New(new::NewCommand),
    Rotate(rotate::RotateCommand),
}

/// One entry of `api_keys`, as a configuration has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Entry {
    id: String,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actions: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_ranges: Option<Vec<String>>,
}

/// Runs one of them.
pub(crate) fn run(command: KeyCommand, format: Format) -> Result<Exit, Stop> {
    match command {
        KeyCommand::Hash(command) => hash::run(&command, format),
        KeyCommand::Lint(command) => lint::run(&command, format),
        KeyCommand::New(command) => new::run(command, format),
        KeyCommand::Rotate(command) => rotate::run(&command, format),
    }
}

/// A key that nobody has yet.
pub(crate) fn generate() -> Result<ApiKey, Stop> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random)
        .map_err(|error| Stop::failure("the system's random numbers", error, "try on another machine"))?;
    ApiKey::generate(&random)
        .map_err(|_| Stop::failure("the system's random numbers", "not random", "try again"))
}

// === impl Entry ===

impl Entry {
    /// Lines of YAML, of which JSON's quotes and lists are a part.
    fn lines(&self) -> Vec<String> {
        let mut members = vec![("id", json!(self.id)), ("digest", json!(self.digest))];
        let times = [("not_before", &self.not_before), ("not_after", &self.not_after)];
        members.extend(times.into_iter().filter_map(|(name, time)| Some((name, json!(time.as_ref()?)))));
        let scope =
            [("models", &self.models), ("actions", &self.actions), ("source_ranges", &self.source_ranges)];
        members.extend(scope.into_iter().filter_map(|(name, list)| Some((name, json!(list.as_ref()?)))));
        members.into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }
}

impl From<&ApiKeySpec> for Entry {
    fn from(spec: &ApiKeySpec) -> Self {
        Self {
            id: spec.id.clone(),
            digest: spec.digest.clone(),
            not_before: spec.not_before.map(|time| time.0.to_string()),
            not_after: spec.not_after.map(|time| time.0.to_string()),
            models: spec.models.clone(),
            actions: spec.actions.clone(),
            source_ranges: spec.source_ranges.clone(),
        }
    }
}

/// Reads a configuration that the gate would load, whether or not its variables are set here.
fn open(path: &Path, environment: &Environment) -> Result<(Document, Tree), Stop> {
    let stop = |faults: Faults| Stop::refused(path.display(), &faults);
    let bytes = read_file(path)?;
    let form = format_of(path);
    let read = config::read(&bytes, form).map_err(stop)?;
    config::load(&bytes, form, &|name| environment.value_or_stand_in(name)).map_err(stop)?;
    Ok(read)
}

fn timestamp(option: &str, text: Option<&str>) -> Result<Option<UnixTime>, Stop> {
    text.map(UnixTime::parse).transpose().map_err(|_| {
        let what = format!("`{}` is not a timestamp", text.unwrap_or_default());
        Stop::invalid(option, what, "write one with a zone, such as `2027-01-01T00:00:00Z`")
    })
}

/// The digest of a key, under a pepper where there is one.
fn digest(key: &ApiKey, pepper: Option<&(String, Secret)>) -> KeyDigest {
    match pepper {
        Some((id, secret)) => key.keyed_digest(id, secret),
        None => key.digest(),
    }
}

/// `ID=ENV`: the pepper's id and what the environment holds.
fn pepper(text: &str, environment: &Environment) -> Result<(String, Secret), Stop> {
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
    Ok((id.to_owned(), secret("--pepper", env, environment)?))
}

/// What a variable holds that `place` names.
fn secret(place: &str, env: &str, environment: &Environment) -> Result<Secret, Stop> {
    let value = environment.value(env).ok_or_else(|| {
        let what = format!("the environment variable `{env}` is missing or empty");
        Stop::invalid(place, what, "set it to what the gate is given")
    })?;
    Ok(Secret::new(value))
}
