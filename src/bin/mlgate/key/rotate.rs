//! `mlgate key rotate`.

use std::path::PathBuf;

use clap::Args;
use mlgate::config::document::Document;
use mlgate::config::values;
use mlgate::identity::api_key::KeyDigest;
use mlgate::identity::secret::Secret;
use mlgate::identity::spec::ApiKeySpec;
use mlgate::time::UnixTime;
use serde::Serialize;

use super::{Entry, digest, generate, open, pepper, secret, timestamp};
use crate::environment::{Environment, now};
use crate::{Exit, Format, Stop, print, print_json};

/// Replace an API key: a new one for the same consumer, valid beside the old one for a while
///
/// The first line of the output is the new key, which is shown once; the others are what changes in the configuration,
/// as a patch of the entry: the old key gets an end, the new one its scope. The file itself is left as it is.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct RotateCommand {
    /// YAML, or JSON where the name ends in `.json`; `-` is standard input
    config: PathBuf,
    /// The key that is replaced: its public part
    #[arg(long, value_name = "KEYID")]
    id: String,
    /// How long both are valid: a whole number and one of `m`, `h`, `d`
    #[arg(long, value_name = "DURATION", default_value = "7d")]
    overlap: String,
    /// Key the new digest with a pepper of the configuration, read from this environment variable; without it, the
    /// pepper of the old digest is used
    #[arg(long, value_name = "ID=ENV")]
    pepper: Option<String>,
    /// When the new key ends: an RFC 3339 timestamp; needed where the old one ends
    #[arg(long, value_name = "TIMESTAMP")]
    not_after: Option<String>,
    /// Take environment variables from a file of lines `NAME=value` instead of the command's own
    #[arg(long, value_name = "FILE")]
    env: Option<PathBuf>,
}

const HELP: &str = help!(
    "  mlgate key rotate gate.yaml --id k7f3a2b9
  mlgate key rotate gate.yaml --id k7f3a2b9 --overlap 48h --not-after 2028-01-01T00:00:00Z
  mlgate key rotate gate.yaml --id k7f3a2b9 --pepper p1=MLGATE_PEPPER_1 --format json"
);

/// What it prints.
#[derive(Serialize)]
struct Rotation {
    key: String,
    consumer: String,
    /// Where the old key is.
    pointer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    /// The old key as it is.
    #[serde(skip)]
    before: Entry,
    old: Entry,
    new: Entry,
}

/// Makes the other key of a pair.
pub(super) fn run(command: &RotateCommand, format: Format) -> Result<Exit, Stop> {
    let environment = Environment::open(command.env.as_deref())?;
    let (document, tree) = open(&command.config, &environment)?;
    let mut rotation = rotate(command, &document, &environment, now())?;
    rotation.line = tree.line_of(&rotation.pointer);
    match format {
        Format::Human => print(&human(&rotation, command))?,
        Format::Json => print_json(&rotation)?,
    }
    Ok(Exit::Fine)
}

fn rotate(
    command: &RotateCommand,
    document: &Document,
    environment: &Environment,
    now: UnixTime,
) -> Result<Rotation, Stop> {
    let (consumer, spec, pointer) = find(command, document)?;
    let refuse = |what: String| Stop::invalid("--id", what, "make another with `mlgate key new`");
    let revocation = &document.authentication.revocation;
    if revocation.keys.contains(&spec.id) || revocation.principals.iter().any(|name| name == consumer) {
        return Err(refuse(format!("the key `{}` of `{consumer}` was revoked", spec.id)));
    }
    if let Some(end) = spec.not_after.filter(|end| end.0 <= now) {
        return Err(refuse(format!("the key `{}` expired at {}", spec.id, end.0)));
    }
    let overlap = values::duration(&command.overlap).ok_or_else(|| {
        let what = format!("`{}` is not a duration", command.overlap);
        Stop::invalid("--overlap", what, "write for instance `12h` or `7d`")
    })?;
    let end = now.plus(overlap);
    if let Some(start) = spec.not_before.filter(|start| end <= start.0) {
        return Err(refuse(format!("the key `{}` is not valid before {}", spec.id, start.0)));
    }
    let not_after = timestamp("--not-after", command.not_after.as_deref())?;
    match (not_after, spec.not_after) {
        (Some(time), _) if time <= end => {
            let what = format!("the new key would end before the overlap does, at {end}");
            return Err(Stop::invalid("--not-after", what, "write a later time"));
        }
        (None, Some(old)) => {
            let what = format!("the old key ends at {}, and the new one would not", old.0);
            return Err(Stop::invalid("--not-after", what, "say when the new key ends"));
        }
        _ => {}
    }
    let pepper = pepper_of(command, document, spec, environment)?;
    let key = generate()?;
    let before = Entry::from(spec);
    // an end that is nearer than the overlap's stays
    let ends = spec.not_after.map_or(end, |old| old.0.min(end));
    Ok(Rotation {
        key: key.expose().to_owned(),
        consumer: consumer.to_owned(),
        pointer,
        line: None,
        old: Entry { not_after: Some(ends.to_string()), ..before.clone() },
        new: Entry {
            id: key.id().to_string(),
            digest: digest(&key, pepper.as_ref()).to_string(),
            not_before: Some(now.to_string()),
            not_after: not_after.map(|time| time.to_string()),
            ..before.clone()
        },
        before,
    })
}

/// The consumer, the entry and its place.
fn find<'a>(
    command: &RotateCommand,
    document: &'a Document,
) -> Result<(&'a str, &'a ApiKeySpec, String), Stop> {
    let keys = document.consumers.iter().enumerate().flat_map(|(index, consumer)| {
        let keys = consumer.credentials.api_keys.iter().enumerate();
        keys.map(move |(number, spec)| {
            let pointer = format!("/consumers/{index}/credentials/api_keys/{number}");
            (consumer.name.as_str(), spec, pointer)
        })
    });
    keys.into_iter().find(|(_, spec, _)| spec.id == command.id).ok_or_else(|| {
        // a whole key may have been written there: it is not repeated
        let what = format!("no key in {} has this id", command.config.display());
        Stop::invalid("--id", what, "write the 8 letters and digits after `mlg_`, such as `k7f3a2b9`")
    })
}

/// The pepper of the new digest. One that the configuration does not name would make a key that never works.
fn pepper_of(
    command: &RotateCommand,
    document: &Document,
    old: &ApiKeySpec,
    environment: &Environment,
) -> Result<Option<(String, Secret)>, Stop> {
    let known = &document.authentication.api_key.peppers;
    if let Some(text) = &command.pepper {
        let pepper = pepper(text, environment)?;
        if !known.iter().any(|known| known.id == pepper.0) {
            let what = format!("no pepper has the id `{}`", pepper.0);
            return Err(Stop::invalid("--pepper", what, "add it to `authentication.api_key.peppers`"));
        }
        return Ok(Some(pepper));
    }
    let id = KeyDigest::parse(&old.digest).ok().and_then(|digest| digest.pepper);
    let Some(spec) = id.and_then(|id| known.iter().find(|known| known.id == id)) else { return Ok(None) };
    Ok(Some((spec.id.clone(), secret("the old key's pepper", &spec.env, environment)?)))
}

fn human(rotation: &Rotation, command: &RotateCommand) -> String {
    let file = command.config.display();
    let line = rotation.line.map(|line| format!(":{line}")).unwrap_or_default();
    let mut text = format!(
        "{}\n\n# The key above is shown once. In {file}{line}, the keys of `{}`: `-` goes, `+` comes\n",
        rotation.key, rotation.consumer,
    );
    let after = rotation.old.lines();
    let before = rotation.before.lines();
    // An old entry gets one line more, or another in its place.
    let end = after.iter().find(|line| !before.contains(line));
    let mut patch: Vec<(char, &String)> = Vec::new();
    for line in &before {
        let goes = !after.contains(line);
        patch.push((if goes { '-' } else { ' ' }, line));
        if goes {
            patch.extend(end.map(|end| ('+', end)));
        }
    }
    if before.iter().all(|line| after.contains(line)) {
        patch.extend(end.map(|end| ('+', end)));
    }
    let new = rotation.new.lines();
    patch.extend(new.iter().map(|line| ('+', line)));
    for (sign, line) in patch {
        let bullet = if line.starts_with("id: ") { "- " } else { "  " };
        text.push_str(&format!("{sign} {bullet}{line}\n"));
    }
    let ends = rotation.old.not_after.as_deref().unwrap_or_default();
    text.push_str(&format!(
        "# Until {ends} both are valid. Who still uses the old one: mlgate key lint {file} --log audit.log\n"
    ));
    text
}
