//! `mlgate who-can` and `can-what`: whom a configuration lets do what, and by which policy.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use mlgate::review::Candidate;
use mlgate::review::reach::{Access, Way};
use serde::Serialize;

use crate::environment::{Environment, now};
use crate::{Exit, Format, Stop, open, print, print_json};

/// List who can do something with a resource, and by which policy
///
/// Asked are the configured consumers with each credential that is valid now, in each profile that accepts it; and, as
/// `jwt:<provider>:*` and `mtls:spiffe://<domain>/*`, callers that nobody configured. What a claim, a scope, the time or the
/// address decides is said to depend on it.
#[derive(Debug, Args)]
#[command(after_help = WHO_CAN)]
pub(crate) struct WhoCanCommand {
    /// YAML, or JSON where the name ends in `.json`
    config: PathBuf,
    /// What is done
    #[arg(long)]
    action: String,
    /// With what: its type and its id
    #[arg(long, value_name = "TYPE/ID")]
    resource: String,
    #[command(flatten)]
    more: More,
}

/// List what a caller can do, resource by resource, and by which policy
///
/// As `who-can` asks, for one caller: a consumer's name, `anonymous`, or a pattern such as `jwt:corp:*` for callers that nobody
/// configured. Resources are those of the catalogue; where others are allowed too, `(not listed)` stands for them.
#[derive(Debug, Args)]
#[command(after_help = CAN_WHAT)]
pub(crate) struct CanWhatCommand {
    /// YAML, or JSON where the name ends in `.json`
    config: PathBuf,
    /// Who
    #[arg(long, value_name = "NAME")]
    principal: String,
    #[command(flatten)]
    more: More,
}

/// What both have.
#[derive(Debug, Args)]
struct More {
    /// In this profile alone
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Take environment variables from a file of lines `NAME=value` instead of the command's own
    #[arg(long, value_name = "FILE")]
    env: Option<PathBuf>,
}

const WHO_CAN: &str = concat!(
    "Examples:\n",
    "  mlgate who-can envoy/config/medium.yaml --action predict --resource model/fraud_detector_v2
  mlgate who-can gate.yaml --action delete --resource model/fraud_detector_v2 --format json

Exit codes: 0 somebody can, 1 failure, 2 nobody can, 3 invalid input"
);

const CAN_WHAT: &str = concat!(
    "Examples:\n",
    "  mlgate can-what envoy/config/small.yaml --principal web_shop
  mlgate can-what envoy/config/large.yaml --principal 'jwt:corp:*' --profile default

Exit codes: 0 the caller can do something, 1 failure, 2 nothing, 3 invalid input"
);

/// One line of an answer.
#[derive(Serialize)]
struct Row {
    principal: String,
    credential: String,
    profile: String,
    #[serde(rename = "type")]
    kind: String,
    id: String,
    action: String,
    /// Empty: certain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    depends_on: Vec<String>,
    /// That allow it; empty where it depends on them, or where the profile asks none.
    policies: Vec<String>,
}

/// Answers `who-can`.
pub(crate) fn who_can(command: &WhoCanCommand, format: Format) -> Result<Exit, Stop> {
    let candidate = open(&command.config, &Environment::open(command.more.env.as_deref())?)?;
    let (kind, id) =
        command.resource.split_once('/').filter(|(kind, id)| !kind.is_empty() && !id.is_empty()).ok_or_else(
            || {
                Stop::invalid(
                    "--resource",
                    format_args!("`{}` is not a type and an id", command.resource),
                    "write `model/NAME`",
                )
            },
        )?;
    let offered = candidate.offered();
    if !offered.contains(&(kind.to_owned(), command.action.clone())) {
        let known: BTreeSet<String> =
            offered.iter().map(|(kind, action)| format!("{action} of {kind}")).collect();
        return Err(Stop::invalid(
            "--action",
            format_args!("no rule has the action `{}` on the type `{kind}`", command.action),
            format_args!("ask for one of: {}", known.into_iter().collect::<Vec<_>>().join(", ")),
        ));
    }
    let (resource, listed) = candidate.resource(kind, id);
    let mut rows = Vec::new();
    for way in ways(&candidate, &command.more)? {
        let access = candidate.access(&way, &resource, listed, &command.action);
        rows.extend(access.map(|access| Row::of(&way, access, (kind, id), &command.action)));
    }
    answer(&rows, format, "nobody can")
}

/// Answers `can-what`.
pub(crate) fn can_what(command: &CanWhatCommand, format: Format) -> Result<Exit, Stop> {
    let candidate = open(&command.config, &Environment::open(command.more.env.as_deref())?)?;
    let all = ways(&candidate, &command.more)?;
    let known: BTreeSet<&str> = all.iter().map(|way| way.principal.as_str()).collect();
    if !known.contains(command.principal.as_str()) && !candidate.has_consumer(&command.principal) {
        return Err(Stop::invalid(
            "--principal",
            format_args!("no caller is called `{}`", command.principal),
            format_args!("name one of `{}`", known.into_iter().collect::<Vec<_>>().join("`, `")),
        ));
    }
    let offered = candidate.offered();
    let resources = candidate.resources();
    let mut rows = Vec::new();
    for way in all.iter().filter(|way| way.principal == command.principal) {
        for (resource, listed) in &resources {
            for (_, action) in offered.iter().filter(|(kind, _)| *kind == resource.kind) {
                let access = candidate.access(way, resource, *listed, action);
                rows.extend(
                    access.map(|access| Row::of(way, access, (&resource.kind, &resource.id), action)),
                );
            }
        }
    }
    answer(&rows, format, "it can do nothing")
}

fn ways<'a>(candidate: &'a Candidate, more: &More) -> Result<Vec<Way<'a>>, Stop> {
    if let Some(profile) = more.profile.as_ref().filter(|name| candidate.profile(name).is_none()) {
        let known = candidate.profiles().collect::<Vec<_>>().join("`, `");
        return Err(Stop::invalid(
            "--profile",
            format_args!("there is no profile `{profile}`"),
            format_args!("name one of `{known}`"),
        ));
    }
    let mut ways = candidate.ways(now());
    ways.retain(|way| more.profile.as_ref().is_none_or(|name| way.profile.name == *name));
    Ok(ways)
}

fn answer(rows: &[Row], format: Format, none: &str) -> Result<Exit, Stop> {
    match format {
        Format::Human if rows.is_empty() => print(none)?,
        Format::Human => print(&human(rows))?,
        Format::Json => print_json(&rows)?,
    }
    Ok(if rows.is_empty() { Exit::Findings } else { Exit::Fine })
}

// === impl Row ===

impl Row {
    fn of(way: &Way<'_>, access: Access, (kind, id): (&str, &str), action: &str) -> Self {
        Self {
            principal: way.principal.clone(),
            credential: way.credential.clone(),
            profile: way.profile.name.clone(),
            kind: kind.to_owned(),
            id: id.to_owned(),
            action: action.to_owned(),
            depends_on: access.depends_on,
            policies: access.policies,
        }
    }
}

fn human(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let Row { principal, credential, profile, kind, id, action, .. } = row;
        let mut why = Vec::new();
        if !row.policies.is_empty() {
            why.push(format!("by {}", row.policies.join(", ")));
        }
        if !row.depends_on.is_empty() {
            why.push(format!("depends on {}", row.depends_on.join(", ")));
        }
        if row.policies.is_empty() && !row.depends_on.iter().any(|on| on.starts_with("principal.")) {
            why.push(String::from("no policy is asked"));
        }
        let why = why.join("; ");
        text.push_str(&format!(
            "{principal} ({credential}, profile {profile}): {action} {kind} {id}: {why}\n"
        ));
    }
    text
}
