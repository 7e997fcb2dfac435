//! `mlgate key lint`: configured keys, and a log of their use, become what should be done about them.

use std::path::PathBuf;

use clap::Args;
use mlgate::config::document::Document;
use mlgate::config::faults::Fault;
use mlgate::config::values;
use mlgate::identity::spec::{ApiKeySpec, ConsumerSpec};
use mlgate::time::UnixTime;
use serde::Serialize;

use super::open;
use super::usage::{Shown, Usage};
use crate::environment::{Environment, now};
use crate::{Exit, Format, Stop, print, print_json};

/// Find API keys that should be replaced, narrowed or taken out
///
/// Each finding begins with its word: `revoked`, `expired`, `expiring`, `endless` (no `not_after`), `unscoped` (no
/// `models`, `actions` or `source_ranges`), `pepperless` (a plain digest), `overlap` (a pair of a rotation, both valid),
/// `keyless` (a consumer without any credential), and with a log `unused`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct LintCommand {
    /// YAML, or JSON where the name ends in `.json`; `-` is standard input
    config: PathBuf,
    /// Audit logs, one event on each line: when each key was last used, and from where
    #[arg(long = "log", value_name = "AUDIT.jsonl")]
    logs: Vec<PathBuf>,
    /// How long before its end a key is `expiring`: a whole number and one of `m`, `h`, `d`
    #[arg(long, value_name = "DURATION", default_value = "30d")]
    within: String,
}

const HELP: &str = help!(
    "  mlgate key lint gate.yaml
  mlgate key lint gate.yaml --log audit.log --within 90d
  zcat old/*.gz | mlgate key lint gate.yaml --log audit.log --log -
  mlgate key lint gate.yaml --format json | jq '.findings[] | select(.kind == \"expiring\") | .key'"
);

/// What it prints.
#[derive(Serialize)]
struct Report {
    file: String,
    findings: Vec<Finding>,
    /// Every key with its last use; only with a log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<KeyUse>,
    /// Lines of the logs that are no events.
    #[serde(skip_serializing_if = "is_zero")]
    unreadable: u64,
}

/// One thing to do.
#[derive(Debug, Serialize)]
struct Finding {
    kind: &'static str,
    consumer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(flatten)]
    fault: Fault,
}

/// When a key was last used.
#[derive(Debug, Serialize)]
struct KeyUse {
    key: String,
    consumer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<String>,
    /// The latest first.
    sources: Vec<String>,
}

/// What findings are made from.
struct Lint<'a> {
    document: &'a Document,
    /// `None`: no log was given.
    usage: Option<&'a Usage>,
    now: UnixTime,
    /// Until when an end is near.
    soon: UnixTime,
    found: Vec<Finding>,
}

/// A key, whose it is, and where it is written.
#[derive(Clone, Copy)]
struct Place<'a> {
    consumer: &'a ConsumerSpec,
    index: usize,
    number: usize,
    key: &'a ApiKeySpec,
}

/// Lints.
pub(super) fn run(command: &LintCommand, format: Format) -> Result<Exit, Stop> {
    let within = values::duration(&command.within).ok_or_else(|| {
        let what = format!("`{}` is not a duration", command.within);
        Stop::invalid("--within", what, "write for instance `30d`")
    })?;
    let (document, tree) = open(&command.config, &Environment::Process)?;
    let mut usage = Usage::of(places(&document).map(|place| place.key.id.as_str()));
    for log in &command.logs {
        usage.read(log)?;
    }
    let logged = (!command.logs.is_empty()).then_some(&usage);
    let now = now();
    let mut findings = lint(&document, logged, now, now.plus(within));
    for finding in &mut findings {
        finding.fault.line = tree.line_of(&finding.fault.pointer);
    }
    let keys = logged.into_iter().flat_map(|usage| uses(&document, usage)).collect();
    let file = command.config.display().to_string();
    let report = Report { file, findings, keys, unreadable: usage.unreadable };
    match format {
        Format::Human => print(&human(&report))?,
        Format::Json => print_json(&report)?,
    }
    Ok(if report.findings.is_empty() { Exit::Fine } else { Exit::Findings })
}

/// Everything found, in the order of the configuration.
fn lint(document: &Document, usage: Option<&Usage>, now: UnixTime, soon: UnixTime) -> Vec<Finding> {
    let mut lint = Lint { document, usage, now, soon, found: Vec::new() };
    for (index, consumer) in document.consumers.iter().enumerate() {
        if consumer.credentials.is_empty() {
            lint.found.push(Finding {
                kind: "keyless",
                consumer: consumer.name.clone(),
                key: None,
                fault: Fault {
                    pointer: format!("/consumers/{index}"),
                    line: None,
                    what: format!("`{}` has no credential", consumer.name),
                    remedy: String::from("take it out, or make one with `mlgate key new`"),
                },
            });
        }
        let keys = consumer.credentials.api_keys.iter().enumerate();
        for (number, key) in keys {
            lint.key(Place { consumer, index, number, key });
        }
    }
    lint.found
}

// === impl Lint ===

impl<'a> Lint<'a> {
    fn key(&mut self, place: Place<'a>) {
        let Place { consumer, key, .. } = place;
        let id = &key.id;
        let revocation = &self.document.authentication.revocation;
        if revocation.keys.contains(id) || revocation.principals.contains(&consumer.name) {
            let what = format!("was revoked{}", self.last_tried(id));
            self.find("revoked", place, "", &what, "take it out; what `revocation` says of it may stay");
        } else if let Some(end) = key.not_after.filter(|end| end.0 <= self.now) {
            let what = format!("expired at {}", end.0);
            self.find(
                "expired",
                place,
                "/not_after",
                &what,
                "take it out, or make one with `mlgate key new`",
            );
        } else {
            self.usable(place);
        }
    }

    fn usable(&mut self, place: Place<'a>) {
        let key = place.key;
        let rotate = format!("replace it with `mlgate key rotate --id {}`", key.id);
        let successor = self.successor(place);
        match (key.not_after, successor) {
            (Some(end), Some(other)) => self.overlap(place, end.0, other),
            (Some(end), None) if end.0 <= self.soon => {
                self.find("expiring", place, "/not_after", &format!("expires at {}", end.0), &rotate);
            }
            (None, _) => self.find(
                "endless",
                place,
                "",
                "never expires",
                &format!("{rotate}, or give it a `not_after`"),
            ),
            (Some(_), None) => {}
        }
        if key.models.is_none() && key.actions.is_none() && key.source_ranges.is_none() {
            let what = "may be used for everything that its consumer may do, from everywhere";
            self.find("unscoped", place, "", what, "give it `models`, `actions` or `source_ranges`");
        }
        if key.digest.starts_with("sha256:") {
            let what = "has a plain digest, by which whoever reads the configuration can recognise the key";
            self.find("pepperless", place, "/digest", what, &format!("{rotate} and `--pepper`"));
        }
        let begun = key.not_before.is_none_or(|start| start.0 <= self.now);
        if begun && self.usage.is_some_and(|usage| usage.shown(&key.id).is_none()) {
            let what = "was not used since the log begins";
            self.find("unused", place, "", what, "take it out if the log is long enough");
        }
    }

    /// The key that replaces this one: it began while this one was valid, is valid now, and ends later.
    fn successor(&self, place: Place<'a>) -> Option<&'a ApiKeySpec> {
        let end = place.key.not_after?.0;
        let start = place.key.not_before.map(|start| start.0);
        place.consumer.credentials.api_keys.iter().find(|other| {
            let later = other.not_after.is_none_or(|other| other.0 > end);
            let begins = other.not_before.map(|begins| begins.0);
            let during = begins.is_some_and(|begins| {
                begins <= self.now && begins < end && start.is_none_or(|start| start < begins)
            });
            other.id != place.key.id && later && during
        })
    }

    fn overlap(&mut self, place: Place<'a>, end: UnixTime, other: &ApiKeySpec) {
        let since = other.not_before.map(|start| start.0).unwrap_or_default();
        let shown = |id: &str| self.usage.map(|usage| usage.shown(id));
        let pair = format!("and its successor `{}` are both valid until {end}", other.id);
        let (what, remedy) = match (shown(&place.key.id), shown(&other.id)) {
            (None, _) | (_, None) => (pair, String::from("look with `--log` who still uses it")),
            (Some(old), Some(new)) => {
                let still = old.map(|shown| shown.sources_since(since)).unwrap_or_default();
                let new = match new {
                    Some(shown) => format!("the new one is used, last at {}", shown.last()),
                    None => String::from("the new one is not used yet"),
                };
                match (still.is_empty(), old) {
                    (true, _) => (
                        format!("{pair}; nobody uses the old one any more, {new}"),
                        String::from("end the old one"),
                    ),
                    (false, last) => {
                        let last = last.map(Shown::last).unwrap_or_default();
                        let by = still.join(", ");
                        (
                            format!("{pair}; the old one is still used by {by}, last at {last}; {new}"),
                            String::from("give these callers the new key before the old one ends"),
                        )
                    }
                }
            }
        };
        self.find("overlap", place, "/not_after", &what, &remedy);
    }

    /// `, and was last tried at … by …`, where a log says so.
    fn last_tried(&self, id: &str) -> String {
        let Some(shown) = self.usage.and_then(|usage| usage.shown(id)) else { return String::new() };
        let by = shown.sources_since(UnixTime::default()).join(", ");
        format!(", and was last shown at {} by {by}", shown.last())
    }

    fn find(&mut self, kind: &'static str, place: Place<'_>, word: &str, what: &str, remedy: &str) {
        let (id, consumer) = (&place.key.id, &place.consumer.name);
        self.found.push(Finding {
            kind,
            consumer: consumer.clone(),
            key: Some(id.clone()),
            fault: Fault {
                pointer: format!("/consumers/{}/credentials/api_keys/{}{word}", place.index, place.number),
                line: None,
                what: format!("the key `{id}` of `{consumer}` {what}"),
                remedy: remedy.to_owned(),
            },
        });
    }
}

/// Every key in order.
fn places(document: &Document) -> impl Iterator<Item = Place<'_>> {
    document.consumers.iter().enumerate().flat_map(|(index, consumer)| {
        let keys = consumer.credentials.api_keys.iter().enumerate();
        keys.map(move |(number, key)| Place { consumer, index, number, key })
    })
}

fn uses(document: &Document, usage: &Usage) -> Vec<KeyUse> {
    let of = |place: Place<'_>| {
        let shown = usage.shown(&place.key.id);
        let sources = shown.map(|shown| shown.sources_since(UnixTime::default())).unwrap_or_default();
        KeyUse {
            key: place.key.id.clone(),
            consumer: place.consumer.name.clone(),
            last_used: shown.map(|shown| shown.last().to_string()),
            sources: sources.into_iter().map(str::to_owned).collect(),
        }
    };
    places(document).map(of).collect()
}

/// Lines that editors understand: `file:line: …`.
fn human(report: &Report) -> String {
    let mut text = String::new();
    for Finding { kind, fault, .. } in &report.findings {
        let line = fault.line.map(|line| format!(":{line}")).unwrap_or_default();
        let (place, what, remedy) = (fault.place(), &fault.what, &fault.remedy);
        text.push_str(&format!("{}{line}: {kind}: {place}: {what}: {remedy}\n", report.file));
    }
    for KeyUse { key, consumer, last_used, sources } in &report.keys {
        let used = match last_used {
            Some(time) => format!("last used at {time} by {}", sources.join(", ")),
            None => String::from("not used"),
        };
        text.push_str(&format!("key `{key}` of `{consumer}`: {used}\n"));
    }
    if report.unreadable > 0 {
        text.push_str(&format!("{} lines of the log are no events\n", report.unreadable));
    }
    let result = match report.findings.len() {
        0 => String::from("fine"),
        1 => String::from("1 finding"),
        many => format!("{many} findings"),
    };
    text.push_str(&format!("{}: {result}\n", report.file));
    text
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;
