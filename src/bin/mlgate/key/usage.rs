//! An audit log becomes, for each key, when it was last shown and from where.
//!
//! Whether the log is genuine is for `mlgate audit verify` to say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use mlgate::time::UnixTime;
use serde::Deserialize;

use crate::Stop;
use crate::audit::lines::{self, Line};

/// What logs say of keys.
#[derive(Debug, Default)]
pub(super) struct Usage {
    keys: BTreeMap<String, Shown>,
    /// Lines that are no events.
    pub(super) unreadable: u64,
}

/// When one key was shown, by whoever really had it.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// Last time by source; empty where the gate did not know it.
    sources: BTreeMap<String, UnixTime>,
}

#[derive(Deserialize)]
struct Event {
    timestamp: String,
    credential: Option<Credential>,
    #[serde(default)]
    source: String,
}

#[derive(Deserialize)]
struct Credential {
    method: String,
    #[serde(default)]
    id: String,
}

/// Sources that are kept of one key: the latest.
const MAX_SOURCES: usize = 16;

/// Bytes read at once.
const BUFFER: usize = 1 << 20;

// === impl Usage ===

impl Usage {
    /// Nothing was shown yet of these keys; others are not looked at.
    pub(super) fn of<'a>(keys: impl Iterator<Item = &'a str>) -> Self {
        Self { keys: keys.map(|id| (id.to_owned(), Shown::default())).collect(), unreadable: 0 }
    }

    /// Reads a log of any size; `-` is standard input.
    pub(super) fn read(&mut self, path: &Path) -> Result<(), Stop> {
        let stop = |error: std::io::Error| {
            Stop::invalid(path.display(), format!("cannot be read: {error}"), "name a log that can be read")
        };
        let source: Box<dyn Read> = if path == Path::new("-") {
            Box::new(std::io::stdin().lock())
        } else {
            Box::new(File::open(path).map_err(stop)?)
        };
        let mut input = BufReader::with_capacity(BUFFER, source);
        let (mut buffer, mut taken) = (Vec::new(), 0);
        loop {
            match lines::next(&mut input, &mut buffer, &mut taken).map_err(stop)? {
                Line::End => return Ok(()),
                Line::TooLong => self.unreadable = self.unreadable.saturating_add(1),
                Line::Torn | Line::Whole => self.line(&buffer),
            }
        }
    }

    /// Takes one line. What is not about a key that was verified says nothing.
    pub(super) fn line(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let event = serde_json::from_slice::<Event>(line)
            .ok()
            .and_then(|event| Some((UnixTime::parse(&event.timestamp).ok()?, event)));
        let Some((time, event)) = event else {
            self.unreadable = self.unreadable.saturating_add(1);
            return;
        };
        let credential = event.credential.filter(|credential| credential.method == "api_key");
        if let Some(shown) = credential.and_then(|credential| self.keys.get_mut(&credential.id)) {
            shown.at(time, event.source);
        }
    }

    /// When a key was shown.
    pub(super) fn shown(&self, id: &str) -> Option<&Shown> {
        self.keys.get(id).filter(|shown| !shown.sources.is_empty())
    }
}

// === impl Shown ===

impl Shown {
    fn at(&mut self, time: UnixTime, source: String) {
        let latest = self.sources.entry(source).or_insert(time);
        *latest = time.max(*latest);
        if self.sources.len() > MAX_SOURCES {
            let oldest = self.sources.iter().min_by_key(|(_, time)| **time).map(|(source, _)| source.clone());
            oldest.and_then(|source| self.sources.remove(&source));
        }
    }

    /// The last time.
    pub(super) fn last(&self) -> UnixTime {
        self.sources.values().copied().max().unwrap_or_default()
    }

    /// Who showed it from `since` on, the latest first.
    pub(super) fn sources_since(&self, since: UnixTime) -> Vec<&str> {
        let mut sources: Vec<(&UnixTime, &String)> = self
            .sources
            .iter()
            .map(|(source, time)| (time, source))
            .filter(|(time, _)| **time >= since)
            .collect();
        sources.sort_by_key(|(time, source)| (std::cmp::Reverse(**time), *source));
        let named = |source: &'_ String| !source.is_empty();
        sources.into_iter().map(|(_, source)| if named(source) { source } else { UNKNOWN }).collect()
    }
}

/// A source that the gate did not know.
const UNKNOWN: &str = "an unknown source";

#[cfg(test)]
mod tests {
    use super::*;

    fn event(time: &str, key: &str, source: &str) -> String {
        format!(
            r#"{{"type":"access","timestamp":"{time}","credential":{{"id":"{key}","method":"api_key"}},"source":"{source}","status":"success"}}"#
        )
    }

    #[test]
    fn the_latest_use_of_each_source_is_kept() {
        let mut usage = Usage::of(["aaaaaaaa", "bbbbbbbb"].into_iter());
        for line in [
            event("2026-02-01T00:00:00Z", "aaaaaaaa", "10.0.0.2"),
            event("2026-03-01T00:00:00Z", "aaaaaaaa", "10.0.0.1"),
            event("2026-01-01T00:00:00Z", "aaaaaaaa", "10.0.0.1"),
            event("2026-01-15T00:00:00Z", "aaaaaaaa", ""),
            event("2026-04-01T00:00:00Z", "other000", "10.0.0.9"),
            event("2026-04-01T00:00:00Z", "bbbbbbbb", "10.0.0.9").replace("api_key", "mtls"),
            String::from(r#"{"type":"heartbeat","timestamp":"2026-04-01T00:00:00Z"}"#),
            String::from(r#"{"type":"access","timestamp":"yesterday"}"#),
            String::from("torn"),
            String::new(),
        ] {
            usage.line(line.as_bytes());
        }
        let shown = usage.shown("aaaaaaaa").unwrap();
        assert_eq!(shown.last().to_string(), "2026-03-01T00:00:00.000Z");
        assert_eq!(shown.sources_since(UnixTime::default()), ["10.0.0.1", "10.0.0.2", UNKNOWN]);
        assert_eq!(
            shown.sources_since(UnixTime::parse("2026-02-01T00:00:00Z").unwrap()),
            ["10.0.0.1", "10.0.0.2"]
        );
        assert!(usage.shown("bbbbbbbb").is_none() && usage.shown("other000").is_none());
        assert_eq!(usage.unreadable, 2);
    }

    #[test]
    fn a_key_that_is_everywhere_takes_no_more_memory() {
        let mut usage = Usage::of(std::iter::once("aaaaaaaa"));
        for second in 0..60 {
            let time = format!("2026-01-01T00:00:{second:02}Z");
            usage.line(event(&time, "aaaaaaaa", &format!("10.0.0.{second}")).as_bytes());
        }
        let sources = usage.shown("aaaaaaaa").unwrap().sources_since(UnixTime::default());
        assert_eq!((sources.len(), sources.first().copied()), (MAX_SOURCES, Some("10.0.0.59")));
    }
}
