//! An alert says what was seen, what is normal, since when, and what would stop it.

use std::fmt::{self, Write as _};

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use crate::audit::analysis::caller::CallerName;
use crate::time::UnixTime;

/// Somebody did what is seldom meant well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Who.
    pub caller: CallerName,
    /// Since when, in milliseconds since 1970.
    pub since: i64,
    /// What.
    pub evidence: Evidence,
    /// API keys it used.
    pub keys: Named,
    /// Where it came from.
    pub sources: Named,
}

/// What was seen, beside what is normal and what is too much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "rule", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Evidence {
    /// Many requests.
    HighRequestVolume {
        /// In the window; of those that nobody has authenticated only refusals.
        requests: u64,
        /// That many are none yet.
        max_requests: u64,
        /// Against its own hours.
        #[serde(skip_serializing_if = "Option::is_none")]
        burst: Option<Burst>,
        /// Its own hours; unknown where there are too few.
        #[serde(skip_serializing_if = "Option::is_none")]
        normal: Option<Normal>,
    },
    /// Many denials and errors.
    HighErrorRate {
        /// In the window.
        seen: Share,
        /// Before the window.
        #[serde(skip_serializing_if = "Option::is_none")]
        normal: Option<Share>,
        /// That many of a thousand are none yet.
        max_per_mille: u64,
        /// Why they were refused.
        reasons: Named,
    },
    /// Many models.
    MultiModelAccess {
        /// In alphabetical order.
        models: Vec<String>,
        /// Whether there are more than are named.
        more: bool,
        /// Of them, never asked for before the window.
        first_time: usize,
        /// Models asked for before the window.
        before: usize,
        /// That many are none yet.
        max_models: usize,
    },
}

/// The busiest hour of those that are too busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Burst {
    /// Its beginning.
    #[serde(serialize_with = "time")]
    pub hour: i64,
    /// Requests in it.
    pub requests: u64,
    /// That many are none yet.
    pub limit: u64,
    /// Hours that were too busy.
    pub hours: usize,
}

/// A caller's own active hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Normal {
    /// Requests in the median one.
    pub median_hour: u64,
    /// Requests in the busiest that was not too busy.
    pub busiest_hour: u64,
    /// How many there are.
    pub active_hours: usize,
    /// There were too few before the window: these are the window's own.
    pub in_window: bool,
}

/// Failures of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Denials and errors.
    pub failures: u64,
    /// Requests.
    pub requests: u64,
    /// Failures of a thousand requests.
    pub per_mille: u64,
}

/// Names with their requests, the most frequent first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Name and requests.
    pub names: Vec<(String, u64)>,
    /// Whether there are more.
    pub more: bool,
}

// === impl Alert ===

impl Alert {
    /// Its rule's word.
    pub const fn rule(&self) -> &'static str {
        match &self.evidence {
            Evidence::HighErrorRate { .. } => "HIGH_ERROR_RATE",
            Evidence::HighRequestVolume { .. } => "HIGH_REQUEST_VOLUME",
            Evidence::MultiModelAccess { .. } => "MULTI_MODEL_ACCESS",
        }
    }

    /// What was seen, in a sentence.
    pub fn seen(&self) -> String {
        match &self.evidence {
            Evidence::HighRequestVolume { requests, burst, .. } => {
                let what = if self.principal().is_some() { "requests" } else { "refusals" };
                let mut text = format!("{requests} {what} in the window");
                if let Some(Burst { hour, requests, hours, .. }) = burst {
                    let _ = write!(
                        text,
                        ", {requests} of them in the hour from {}",
                        UnixTime::from_millis(*hour)
                    );
                    if *hours > 1 {
                        let _ = write!(text, ", the busiest of {hours} such hours");
                    }
                }
                text
            }
            Evidence::HighErrorRate { seen, reasons, .. } => format!("{seen}{}", listed(" (", reasons, ")")),
            Evidence::MultiModelAccess { models, more, first_time, .. } => {
                let count =
                    if *more { format!("more than {}", models.len()) } else { models.len().to_string() };
                let shown: Vec<String> = models.iter().take(MAX_SHOWN).map(|name| visible(name)).collect();
                let dots = if models.len() > MAX_SHOWN { ", …" } else { "" };
                format!("{count} models, {first_time} of them for the first time: {}{dots}", shown.join(", "))
            }
        }
    }

    /// What is normal for this caller, in a sentence.
    pub fn normal(&self) -> String {
        match &self.evidence {
            Evidence::HighRequestVolume { normal: Some(normal), .. } => {
                let of = if normal.in_window { "of the window itself" } else { "before the window" };
                format!(
                    "{} an hour (median of {} active hours {of}), {} in the busiest",
                    normal.median_hour, normal.active_hours, normal.busiest_hour
                )
            }
            Evidence::HighErrorRate { normal: Some(share), .. } => format!("{share} before the window"),
            Evidence::MultiModelAccess { before: 1, .. } => String::from("1 model before the window"),
            Evidence::MultiModelAccess { before, .. } if *before > 0 => {
                format!("{before} models before the window")
            }
            _ => String::from("unknown: too little was seen of it before"),
        }
    }

    /// What is too much, in a sentence.
    pub fn threshold(&self) -> String {
        match &self.evidence {
            Evidence::HighRequestVolume { max_requests, burst: Some(burst), .. } => {
                format!("more than {max_requests} in the window, or more than {} in an hour", burst.limit)
            }
            Evidence::HighRequestVolume { max_requests, .. } => {
                format!("more than {max_requests} in the window")
            }
            Evidence::HighErrorRate { max_per_mille, .. } => format!("more than {}", percent(*max_per_mille)),
            Evidence::MultiModelAccess { max_models, .. } => format!("more than {max_models} models"),
        }
    }

    /// What would stop it, in the words of the configuration.
    pub fn remedy(&self) -> String {
        let Some(principal) = self.principal() else {
            return String::from(
                "nobody is authenticated, so there is nothing to revoke: refuse the address before the gate",
            );
        };
        let whole = format!("authentication: {{ revocation: {{ principals: [{}] }} }}", quoted(principal));
        match self.keys.names.as_slice() {
            [] => whole,
            keys => {
                let ids: Vec<String> = keys.iter().map(|(id, _)| quoted(id)).collect();
                let ids = ids.join(", ");
                format!("authentication: {{ revocation: {{ keys: [{ids}] }} }}; the whole caller: {whole}")
            }
        }
    }

    fn principal(&self) -> Option<&str> {
        match &self.caller {
            CallerName::Principal(name) => Some(name),
            CallerName::Source(_) | CallerName::Unknown => None,
        }
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} since {}", self.rule(), self.caller, UnixTime::from_millis(self.since))?;
        writeln!(f, "  seen:      {}", self.seen())?;
        writeln!(f, "  normal:    {}", self.normal())?;
        writeln!(f, "  threshold: {}", self.threshold())?;
        write!(f, "{}", listed("  keys:      ", &self.keys, "\n"))?;
        write!(f, "{}", listed("  from:      ", &self.sources, "\n"))?;
        writeln!(f, "  stop it:   {}", self.remedy())
    }
}

impl Serialize for Alert {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            principal: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            source: Option<&'a str>,
            #[serde(serialize_with = "time")]
            since: i64,
            #[serde(flatten)]
            evidence: &'a Evidence,
            keys: &'a Named,
            sources: &'a Named,
            #[serde(skip_serializing_if = "Option::is_none")]
            revocation: Option<Revocation<'a>>,
            text: Sentences,
        }
        #[derive(Serialize)]
        struct Sentences {
            seen: String,
            normal: String,
            threshold: String,
            stop: String,
        }
        #[derive(Serialize)]
        struct Revocation<'a> {
            keys: Vec<&'a str>,
            principals: [&'a str; 1],
        }
        let keys = || self.keys.names.iter().map(|(id, _)| id.as_str()).collect();
        Form {
            principal: self.principal(),
            source: if let CallerName::Source(source) = &self.caller { Some(source) } else { None },
            since: self.since,
            evidence: &self.evidence,
            keys: &self.keys,
            sources: &self.sources,
            revocation: self
                .principal()
                .map(|principal| Revocation { keys: keys(), principals: [principal] }),
            text: Sentences {
                seen: self.seen(),
                normal: self.normal(),
                threshold: self.threshold(),
                stop: self.remedy(),
            },
        }
        .serialize(serializer)
    }
}

// === impl CallerName ===

impl fmt::Display for CallerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(name) => write!(f, "`{}`", visible(name)),
            Self::Source(source) => write!(f, "nobody authenticated, from `{}`", visible(source)),
            Self::Unknown => f.write_str("nobody authenticated, from many addresses"),
        }
    }
}

// === impl Share ===

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} requests denied or failed, {}",
            self.failures,
            self.requests,
            percent(self.per_mille)
        )
    }
}

// === impl Named ===

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct One<'a>(&'a str, u64);
        impl Serialize for One<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("name", self.0)?;
                map.serialize_entry("requests", &self.1)?;
                map.end()
            }
        }
        let mut list = serializer.serialize_seq(Some(self.names.len()))?;
        for (name, requests) in &self.names {
            list.serialize_element(&One(name, *requests))?;
        }
        list.end()
    }
}

/// Names of one list in a line for people.
const MAX_SHOWN: usize = 8;

/// Writes a time as RFC 3339.
pub(super) fn time<S: Serializer>(millis: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&UnixTime::from_millis(*millis))
}

/// Writes a time as RFC 3339, if there is one.
pub(super) fn time_option<S: Serializer>(millis: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    millis.map(|millis| UnixTime::from_millis(millis).to_string()).serialize(serializer)
}

/// A name from a log as a terminal may show it: no control character, nothing that turns the line around.
pub fn visible(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for character in name.chars() {
        if is_hidden(character) {
            text.extend(character.escape_unicode());
        } else {
            text.push(character);
        }
    }
    text
}

/// Controls a terminal, or is not seen although it changes how the rest is read.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

/// A name as YAML and JSON quote it.
fn quoted(name: &str) -> String {
    let mut text = String::from("\"");
    for character in name.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            _ if is_hidden(character) => {
                let _ = write!(text, "\\u{:04x}", u32::from(character));
            }
            _ => text.push(character),
        }
    }
    text.push('"');
    text
}

fn percent(per_mille: u64) -> String {
    match (per_mille / 10, per_mille % 10) {
        (whole, 0) => format!("{whole} %"),
        (whole, tenth) => format!("{whole}.{tenth} %"),
    }
}

fn listed(before: &str, named: &Named, after: &str) -> String {
    if named.names.is_empty() {
        return String::new();
    }
    let mut shown: Vec<String> = named
        .names
        .iter()
        .take(MAX_SHOWN)
        .map(|(name, requests)| format!("{} ({requests})", visible(name)))
        .collect();
    if named.more || named.names.len() > MAX_SHOWN {
        shown.push(String::from("…"));
    }
    format!("{before}{}{after}", shown.join(", "))
}
