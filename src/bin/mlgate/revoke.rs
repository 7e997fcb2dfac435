//! `mlgate revoke`: puts a key, a principal, a token or a certificate on a list that gates poll, or takes it off.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mlgate::identity::ANONYMOUS;
use mlgate::identity::api_key::{ApiKey, KeyId};
use mlgate::identity::mtls::spiffe::SpiffeId;
use mlgate::identity::revocation::list::{Entry, MAX_BYTES, RevocationList};
use mlgate::identity::spec::RevokedTokenSpec;
use serde::Serialize;

use crate::environment::now;
use crate::replace::Replaceable;
use crate::{Exit, Format, Stop, print, print_json};

/// Put a key, a principal, a token or a certificate on a list of what gates refuse, or take it off
#[derive(Debug, Subcommand)]
pub(crate) enum RevokeCommand {
    Key(KeyArguments),
    Principal(PrincipalArguments),
    Spiffe(SpiffeArguments),
    Token(TokenArguments),
}

/// Revoke an API key, whoever it belongs to
///
/// The list is replaced at once: whoever reads it finds it whole, before or after. A list that does not exist is made; one
/// that cannot be read is left as it is.
#[derive(Debug, Args)]
#[command(after_help = KEY_HELP)]
pub(crate) struct KeyArguments {
    /// Its public part, or the whole key where that leaked
    #[arg(value_name = "KEYID")]
    id: String,
    #[command(flatten)]
    change: Change,
}

/// Revoke everything that a principal can show
#[derive(Debug, Args)]
#[command(after_help = PRINCIPAL_HELP)]
pub(crate) struct PrincipalArguments {
    /// As audit events name it: a consumer's name, `jwt:<provider>:<subject>`, `mtls:<SPIFFE ID>`
    #[arg(value_name = "PRINCIPAL")]
    id: String,
    #[command(flatten)]
    change: Change,
}

/// Revoke the certificates of a workload, whoever they belong to
#[derive(Debug, Args)]
#[command(after_help = SPIFFE_HELP)]
pub(crate) struct SpiffeArguments {
    /// `spiffe://<trust domain>/<path>`
    #[arg(value_name = "SPIFFEID")]
    id: String,
    #[command(flatten)]
    change: Change,
}

/// Revoke one token of an issuer
#[derive(Debug, Args)]
#[command(after_help = TOKEN_HELP)]
pub(crate) struct TokenArguments {
    /// Its `iss`
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// Its `jti`, which audit events have too
    #[arg(long, value_name = "ID")]
    jti: String,
    #[command(flatten)]
    change: Change,
}

/// What happens to the list.
#[derive(Debug, Args)]
struct Change {
    /// The list: a file that the collector or any web server gives to gates
    #[arg(long, value_name = "FILE")]
    list: PathBuf,
    /// Take it off the list again
    #[arg(long)]
    undo: bool,
    /// Note the time and a reason beside it, for people
    #[arg(long, value_name = "TEXT", conflicts_with = "undo")]
    why: Option<String>,
}

/// Examples of one of them, and its exit codes: nothing is denied here.
macro_rules! examples {
    ($examples:literal) => {
        concat!("Examples:\n", $examples, "\n\nExit codes: 0 fine, 1 failure, 3 invalid input")
    };
}

const KEY_HELP: &str = examples!(
    "  mlgate revoke key k7f3a2b9 --list lists/revoked.json
  mlgate revoke key k7f3a2b9 --list lists/revoked.json --why 'in a public repository'
  mlgate revoke key k7f3a2b9 --list lists/revoked.json --undo"
);
const PRINCIPAL_HELP: &str = examples!(
    "  mlgate revoke principal user_1 --list lists/revoked.json
  mlgate revoke principal jwt:corp:alice --list lists/revoked.json --undo"
);
const SPIFFE_HELP: &str =
    examples!("  mlgate revoke spiffe spiffe://acme.example/ns/batch/sa/worker --list lists/revoked.json");
const TOKEN_HELP: &str =
    examples!("  mlgate revoke token --issuer https://issuer.example --jti 8f2c --list lists/revoked.json");

/// What it prints.
#[derive(Serialize)]
struct Changed {
    file: String,
    entry: String,
    change: Outcome,
    /// How many there are now.
    entries: usize,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Added,
    Removed,
    Unchanged,
}

/// Changes a list.
pub(crate) fn run(command: &RevokeCommand, format: Format) -> Result<Exit, Stop> {
    let (entry, change) = match command {
        RevokeCommand::Key(KeyArguments { id, change }) => (key(id)?, change),
        RevokeCommand::Principal(PrincipalArguments { id, change }) => (principal(id)?, change),
        RevokeCommand::Spiffe(SpiffeArguments { id, change }) => (spiffe(id)?, change),
        RevokeCommand::Token(TokenArguments { issuer, jti, change }) => {
            (Entry::Token(RevokedTokenSpec { issuer: issuer.clone(), jti: jti.clone() }), change)
        }
    };
    let changed = apply(&entry, change)?;
    match format {
        Format::Human => print(&human(&changed, change.undo))?,
        Format::Json => print_json(&changed)?,
    }
    Ok(Exit::Fine)
}

fn apply(entry: &Entry, change: &Change) -> Result<Changed, Stop> {
    let place = change.list.display();
    let file = Replaceable::open(&change.list)?;
    let mut list = match file.read()? {
        None => RevocationList::default(),
        Some(bytes) => RevocationList::read(&bytes).map_err(|error| {
            Stop::invalid(
                &place,
                format_args!("not a revocation list: {error}"),
                "correct it, or name another file",
            )
        })?,
    };
    let outcome = if change.undo {
        if list.remove(entry) { Outcome::Removed } else { Outcome::Unchanged }
    } else {
        let why = change.why.as_deref().map(|why| (why, now()));
        if list.add(entry, why) { Outcome::Added } else { Outcome::Unchanged }
    };
    if !matches!(outcome, Outcome::Unchanged) {
        // what the gate would refuse is not written: it would refuse everything that is revoked later too
        list.compile().map_err(|error| Stop::invalid(entry, error, "the list is as it was"))?;
        let text = written(&list)
            .map_err(|error| Stop::failure(&place, error, "report this as an error of mlgate"))?;
        if text.len() > MAX_BYTES {
            return Err(Stop::invalid(
                entry,
                format_args!("{place} would be larger than {MAX_BYTES} bytes"),
                "the list is as it was: take off what no longer matters (`--undo`)",
            ));
        }
        file.write(&text)?;
    }
    Ok(Changed { file: place.to_string(), entry: entry.to_string(), change: outcome, entries: list.len() })
}

/// A list for people to read, or where that is more than anybody reads, a short one.
fn written(list: &RevocationList) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(list)?;
    if text.len() >= MAX_BYTES {
        text = serde_json::to_vec(list)?;
    }
    text.push(b'\n');
    Ok(text)
}

fn key(text: &str) -> Result<Entry, Stop> {
    let whole = ApiKey::parse(text.as_bytes()).ok().map(|key| key.id());
    let id = whole.or_else(|| KeyId::parse(text.as_bytes())).ok_or_else(|| {
        // a mistyped key may stand there: it is not repeated
        Stop::invalid("KEYID", "this is not the id of a key", "write the 8 letters and digits after `mlg_`")
    })?;
    Ok(Entry::Key(id.to_string()))
}

fn principal(text: &str) -> Result<Entry, Stop> {
    if text == ANONYMOUS {
        let remedy = "take out the profile that lets everybody in";
        return Err(Stop::invalid(
            "PRINCIPAL",
            "`anonymous` has no credential that could be revoked",
            remedy,
        ));
    }
    Ok(Entry::Principal(text.to_owned()))
}

fn spiffe(text: &str) -> Result<Entry, Stop> {
    SpiffeId::parse(text).map_err(|_| {
        Stop::invalid(
            "SPIFFEID",
            "this is not a SPIFFE ID",
            "write one such as `spiffe://acme.example/ns/batch/sa/worker`",
        )
    })?;
    Ok(Entry::SpiffeId(text.to_owned()))
}

fn human(changed: &Changed, undo: bool) -> String {
    let Changed { file, entry, change, entries } = changed;
    let entries = match entries {
        1 => String::from("1 entry"),
        many => format!("{many} entries"),
    };
    match change {
        Outcome::Added => format!("{file}: {entry} is revoked ({entries})"),
        Outcome::Removed => format!("{file}: {entry} is revoked no longer ({entries})"),
        Outcome::Unchanged if undo => format!("{file}: {entry} was not revoked: nothing changed ({entries})"),
        Outcome::Unchanged => format!("{file}: {entry} was revoked already: nothing changed ({entries})"),
    }
}
