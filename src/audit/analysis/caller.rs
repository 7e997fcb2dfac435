//! The facts of one caller become its active hours, the models it asked for and the keys it used.

use crate::audit::analysis::bounded::{Entry, Smallest};
use crate::audit::analysis::fact::AccessFact;
use crate::audit::analysis::{HOUR_MS, hour_of};

/// Models of one caller that are named; beyond, there are "more than" so many.
pub const MAX_MODELS: usize = 100;

/// Keys, reasons and sources of one caller that are named, of each.
pub const MAX_NAMED: usize = 16;

/// Who asks. What nobody has authenticated is told apart by its address alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallerName {
    /// An authenticated principal.
    Principal(Box<str>),
    /// Nobody authenticated, from this address.
    Source(Box<str>),
    /// Nobody authenticated, counted together from many addresses.
    Unknown,
}

/// What one caller did, hour by hour.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// Active hours in order.
    hours: Vec<Hour>,
    /// Models it asked for, allowed or not.
    pub models: Smallest<Seen, MAX_MODELS>,
    /// API keys it used in the window.
    pub keys: Smallest<Tally, MAX_NAMED>,
    /// Why it was refused in the window.
    pub reasons: Smallest<Tally, MAX_NAMED>,
    /// Where it came from in the window.
    pub sources: Smallest<Tally, MAX_NAMED>,
}

/// One active hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hour {
    /// From 1970 on, in UTC.
    pub number: u32,
    /// Requests.
    pub requests: u32,
    /// Of them, denials and errors.
    pub failures: u32,
    /// Milliseconds into the hour of the first request.
    first: u32,
    /// Milliseconds into the hour of the first failure; that of no failure is [`u32::MAX`].
    first_failure: u32,
}

/// First and last time, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// First time.
    pub first: i64,
    /// Last time.
    pub last: i64,
}

/// How often, and when last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests.
    pub requests: u64,
    /// Last time, in milliseconds since 1970.
    pub last: i64,
}

/// Requests and failures of some hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Requests.
    pub requests: u64,
    /// Of them, denials and errors.
    pub failures: u64,
    /// Active hours.
    pub hours: u64,
}

// === impl Caller ===

impl Caller {
    /// Takes one event; gives by how much the weight grew. Keys, reasons and sources are kept from `since` on.
    pub fn take(&mut self, millis: i64, access: &AccessFact<'_>, since: i64) -> usize {
        let mut grown = self.count(millis, access);
        if let Some(model) = &access.model {
            let seen = Seen { first: millis, last: millis };
            grown = grown.saturating_add(self.models.update(model, |entry| entry.merge(seen)));
        }
        if millis >= since {
            let tally = Tally { requests: access.count, last: millis };
            for (names, name) in [
                (&mut self.keys, &access.key),
                (&mut self.reasons, &access.reason),
                (&mut self.sources, &access.source),
            ] {
                if let Some(name) = name {
                    grown = grown.saturating_add(names.update(name, |entry| entry.merge(tally)));
                }
            }
        }
        grown
    }

    /// Active hours from `from` until before `until`, both hour numbers.
    pub fn hours(&self, from: i64, until: i64) -> &[Hour] {
        let place = |number: i64| self.hours.partition_point(|hour| i64::from(hour.number) < number);
        self.hours.get(place(from)..place(until)).unwrap_or_default()
    }

    /// All of them.
    pub fn all_hours(&self) -> &[Hour] {
        &self.hours
    }

    /// Forgets what was before `baseline`, and of the window's own what was last seen before `since`; says whether
    /// anything is left.
    pub fn forget(&mut self, baseline: i64, since: i64) -> bool {
        let first = hour_of(baseline);
        self.hours.retain(|hour| i64::from(hour.number) >= first);
        self.models.retain(|seen| seen.last >= baseline);
        for names in [&mut self.keys, &mut self.reasons, &mut self.sources] {
            names.retain(|tally| tally.last >= since);
        }
        !self.hours.is_empty()
    }

    fn count(&mut self, millis: i64, access: &AccessFact<'_>) -> usize {
        let Ok(number) = u32::try_from(hour_of(millis)) else { return 0 };
        let within = u32::try_from(millis.rem_euclid(HOUR_MS)).unwrap_or(0);
        let requests = u32::try_from(access.count).unwrap_or(u32::MAX);
        let failed = access.outcome.is_failure();
        self.add(Hour {
            number,
            requests,
            failures: if failed { requests } else { 0 },
            first: within,
            first_failure: if failed { within } else { u32::MAX },
        })
    }

    fn add(&mut self, more: Hour) -> usize {
        // logs are nearly in order: the last hour is the one, mostly
        let at = match self.hours.last() {
            Some(last) if last.number == more.number => self.hours.len().checked_sub(1),
            Some(last) if last.number > more.number => {
                Some(self.hours.partition_point(|hour| hour.number < more.number))
            }
            _ => None,
        };
        match at.and_then(|at| self.hours.get_mut(at)).filter(|hour| hour.number == more.number) {
            Some(hour) => {
                hour.requests = hour.requests.saturating_add(more.requests);
                hour.failures = hour.failures.saturating_add(more.failures);
                hour.first = hour.first.min(more.first);
                hour.first_failure = hour.first_failure.min(more.first_failure);
                0
            }
            None => {
                self.hours.insert(at.unwrap_or(self.hours.len()).min(self.hours.len()), more);
                size_of::<Hour>()
            }
        }
    }
}

impl Entry for Caller {
    fn merge(&mut self, other: Self) {
        for hour in other.hours {
            self.add(hour);
        }
        self.models.merge(other.models);
        self.keys.merge(other.keys);
        self.reasons.merge(other.reasons);
        self.sources.merge(other.sources);
    }

    fn weight(&self) -> usize {
        [&self.keys, &self.reasons, &self.sources]
            .map(Entry::weight)
            .into_iter()
            .chain([self.models.weight(), self.hours.len().saturating_mul(size_of::<Hour>())])
            .fold(size_of::<Self>(), usize::saturating_add)
    }
}

// === impl Hour ===

impl Hour {
    /// Milliseconds since 1970 of the first request.
    pub fn first(&self) -> i64 {
        self.start().saturating_add(i64::from(self.first))
    }

    /// Milliseconds since 1970 of the first failure.
    pub fn first_failure(&self) -> Option<i64> {
        (self.failures > 0).then(|| self.start().saturating_add(i64::from(self.first_failure)))
    }

    /// Milliseconds since 1970.
    pub fn start(&self) -> i64 {
        i64::from(self.number).saturating_mul(HOUR_MS)
    }
}

// === impl Sum ===

impl Sum {
    /// Of these hours.
    pub fn of(hours: &[Hour]) -> Self {
        hours.iter().fold(Self::default(), |sum, hour| Self {
            requests: sum.requests.saturating_add(u64::from(hour.requests)),
            failures: sum.failures.saturating_add(u64::from(hour.failures)),
            hours: sum.hours.saturating_add(1),
        })
    }

    /// Failures of a thousand requests.
    pub const fn failures_per_mille(&self) -> u64 {
        match self.failures.saturating_mul(1000).checked_div(self.requests) {
            Some(share) => share,
            None => 0,
        }
    }
}

// === impl Seen, Tally ===

impl Default for Seen {
    fn default() -> Self {
        Self { first: i64::MAX, last: i64::MIN }
    }
}

impl Entry for Seen {
    fn merge(&mut self, other: Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

impl Entry for Tally {
    fn merge(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.last = self.last.max(other.last);
    }
}
