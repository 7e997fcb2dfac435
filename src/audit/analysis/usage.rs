//! Facts become a table of use: requests, refusals, bytes and seconds by whatever is asked for.

use std::fmt::Write as _;

use serde::Serialize;

use crate::audit::analysis::bounded::{Cut, Entry, Kept};
use crate::audit::analysis::fact::{AccessFact, Fact, FactKind, Outcome};
use crate::audit::analysis::{Gather, HOUR_MS, hour_of};
use crate::time::UnixTime;

/// Memory for rows, about: half a million short ones.
pub const MAX_BYTES: usize = 128 << 20;

/// What a table can be made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// `action`
    Action,
    /// The UTC day.
    Day,
    /// The UTC hour.
    Hour,
    /// `model_id`
    Model,
    /// `principal`
    Principal,
    /// `profile`
    Profile,
    /// `reason`
    Reason,
    /// `source`
    Source,
    /// `status`
    Status,
    /// `team`
    Team,
    /// `tier`
    Tier,
}

/// Collects a table.
#[derive(Clone, Debug)]
pub struct Usage {
    by: Vec<Dimension>,
    since: i64,
    until: i64,
    rows: Kept<Box<str>, Counts>,
    total: Counts,
    key: String,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests.
    pub requests: u64,
    /// Of them, refused by mlgate.
    pub denied: u64,
    /// Of them, failed upstream.
    pub errors: u64,
    /// Of them, left by the client.
    pub aborted: u64,
    /// Bytes of request bodies.
    pub input_bytes: u64,
    /// Bytes of response bodies.
    pub output_bytes: u64,
    /// From the head's arrival to the stream's end.
    pub duration_ms: u64,
    /// Time of the first, in milliseconds since 1970.
    #[serde(serialize_with = "super::alert::time")]
    pub first: i64,
    /// Time of the last, in milliseconds since 1970.
    #[serde(serialize_with = "super::alert::time")]
    pub last: i64,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it stands for, in the order asked for; nothing where events do not say.
    pub names: Vec<Option<String>>,
    /// What was counted.
    pub counts: Counts,
}

/// Between the names of a key; a name cannot hold it.
const SEPARATOR: char = '\0';

// === impl Dimension ===

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Action,
        Self::Day,
        Self::Hour,
        Self::Model,
        Self::Principal,
        Self::Profile,
        Self::Reason,
        Self::Source,
        Self::Status,
        Self::Team,
        Self::Tier,
    ];

    /// As it is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Action => "action",
            Self::Day => "day",
            Self::Hour => "hour",
            Self::Model => "model",
            Self::Principal => "principal",
            Self::Profile => "profile",
            Self::Reason => "reason",
            Self::Source => "source",
            Self::Status => "status",
            Self::Team => "team",
            Self::Tier => "tier",
        }
    }

    /// By its word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dimension| dimension.word() == word)
    }

    const fn is_time(self) -> bool {
        matches!(self, Self::Day | Self::Hour)
    }

    fn write(self, millis: i64, access: &AccessFact<'_>, key: &mut String) {
        let name = match self {
            Self::Action => &access.action,
            Self::Day | Self::Hour => {
                // a number of fixed length: it sorts as time does, and costs less than a date
                let hour = hour_of(millis);
                let hour = if self == Self::Day { hour.div_euclid(24).saturating_mul(24) } else { hour };
                let _ = write!(key, "{hour:010}");
                return;
            }
            Self::Model => &access.model,
            Self::Principal => &access.principal,
            Self::Profile => &access.profile,
            Self::Reason => &access.reason,
            Self::Source => &access.source,
            Self::Status => {
                key.push_str(access.outcome.word());
                return;
            }
            Self::Team => &access.team,
            Self::Tier => &access.tier,
        };
        if let Some(name) = name {
            key.extend(name.chars().map(|character| match character {
                SEPARATOR => char::REPLACEMENT_CHARACTER,
                other => other,
            }));
        }
    }

    fn read(self, text: &str) -> Option<String> {
        if !self.is_time() {
            return (!text.is_empty()).then(|| text.to_owned());
        }
        let start = text.parse::<i64>().ok()?.saturating_mul(HOUR_MS);
        let time = UnixTime::from_millis(start).to_string();
        let length = if self == Self::Day { "2026-02-27".len() } else { "2026-02-27T10".len() };
        let zone = if self == Self::Day { "" } else { ":00Z" };
        Some(format!("{}{zone}", time.get(..length).unwrap_or(&time)))
    }
}

// === impl Usage ===

impl Usage {
    /// Nothing yet. Times are milliseconds since 1970, `until` is not in it.
    pub fn new(by: Vec<Dimension>, since: i64, until: i64) -> Self {
        Self { by, since, until, rows: Kept::new(MAX_BYTES), total: Counts::default(), key: String::new() }
    }

    /// The rows: in the order of time if that is asked for first, else those with the most requests first.
    pub fn rows(&mut self) -> Vec<Row> {
        self.rows.trim();
        let mut rows: Vec<Row> = self
            .rows
            .sorted()
            .into_iter()
            .map(|(key, counts)| Row {
                names: key.split(SEPARATOR).zip(&self.by).map(|(text, by)| by.read(text)).collect(),
                counts: *counts,
            })
            .collect();
        if !self.by.first().is_some_and(|by| by.is_time()) {
            rows.sort_by_key(|row| std::cmp::Reverse(row.counts.requests));
        }
        rows
    }

    /// Of all rows, those that did not fit included.
    pub const fn total(&self) -> &Counts {
        &self.total
    }

    /// Where there were more rows than memory.
    pub fn cut(&self) -> Option<Cut> {
        self.rows.cut()
    }
}

impl Gather for Usage {
    fn take(&mut self, fact: &Fact<'_>) {
        let FactKind::Access(access) = &fact.kind else { return };
        if fact.millis < self.since || fact.millis >= self.until {
            return;
        }
        let counts = Counts::of(fact.millis, access);
        self.total.merge(counts);
        self.key.clear();
        for (index, by) in self.by.iter().enumerate() {
            if index > 0 {
                self.key.push(SEPARATOR);
            }
            by.write(fact.millis, access, &mut self.key);
        }
        let key = self.key.as_str();
        self.rows.update(
            key,
            || Box::from(key),
            |entry| {
                entry.merge(counts);
                0
            },
        );
    }

    fn merge(&mut self, other: Self) {
        self.rows.merge(other.rows);
        self.total.merge(other.total);
    }
}

// === impl Counts ===

impl Counts {
    /// Requests that were neither refused nor failed nor left.
    pub const fn allowed(&self) -> u64 {
        self.requests.saturating_sub(self.denied).saturating_sub(self.errors).saturating_sub(self.aborted)
    }

    fn of(millis: i64, access: &AccessFact<'_>) -> Self {
        let if_so = |outcome| if access.outcome == outcome { access.count } else { 0 };
        Self {
            requests: access.count,
            denied: if_so(Outcome::Denied),
            errors: if_so(Outcome::Error),
            aborted: if_so(Outcome::Aborted),
            input_bytes: access.input_bytes,
            output_bytes: access.output_bytes,
            duration_ms: access.duration_ms,
            first: millis,
            last: millis,
        }
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            requests: 0,
            denied: 0,
            errors: 0,
            aborted: 0,
            input_bytes: 0,
            output_bytes: 0,
            duration_ms: 0,
            first: i64::MAX,
            last: i64::MIN,
        }
    }
}

impl Entry for Counts {
    fn merge(&mut self, other: Self) {
        for (count, more) in [
            (&mut self.requests, other.requests),
            (&mut self.denied, other.denied),
            (&mut self.errors, other.errors),
            (&mut self.aborted, other.aborted),
            (&mut self.input_bytes, other.input_bytes),
            (&mut self.output_bytes, other.output_bytes),
            (&mut self.duration_ms, other.duration_ms),
        ] {
            *count = count.saturating_add(more);
        }
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::analysis::samples;

    fn usage(by: &[Dimension], lines: &[String]) -> Usage {
        let mut usage = Usage::new(by.to_vec(), 0, i64::MAX);
        for line in lines {
            usage.take(&Fact::parse(line.as_bytes()).unwrap());
        }
        usage
    }

    #[test]
    fn rows_add_up_to_the_total() {
        let lines: Vec<String> = (0..30)
            .map(|n| {
                let status = ["success", "denied", "error", "aborted"][n % 4];
                samples::access(i64::try_from(n).unwrap() * 1_800_000, ["a", "b", "c"][n % 3], status, "")
            })
            .collect();
        let mut usage = usage(&[Dimension::Principal, Dimension::Status], &lines);
        let rows = usage.rows();
        assert_eq!(rows.len(), 12);
        let sum = rows.iter().fold(Counts::default(), |mut sum, row| {
            sum.merge(row.counts);
            sum
        });
        assert_eq!((&sum, sum.requests, sum.denied, sum.allowed()), (usage.total(), 30, 8, 8));
        assert!(rows.is_sorted_by(|a, b| a.counts.requests >= b.counts.requests));
    }

    #[test]
    fn a_table_by_time_is_in_its_order() {
        let lines = [90, 30, 0, 1500].map(|minutes| samples::access(minutes * 60_000, "a", "success", ""));
        let mut hours = usage(&[Dimension::Hour, Dimension::Team], &lines);
        let names = |rows: Vec<Row>| rows.into_iter().map(|row| row.names).collect::<Vec<_>>();
        let hour = |text: &str| vec![Some(String::from(text)), None];
        assert_eq!(
            names(hours.rows()),
            [hour("1970-01-01T00:00Z"), hour("1970-01-01T01:00Z"), hour("1970-01-02T01:00Z")]
        );
        let mut days = usage(&[Dimension::Day], &lines);
        assert_eq!(
            names(days.rows()),
            [[Some(String::from("1970-01-01"))], [Some(String::from("1970-01-02"))]]
        );
    }
}
