//! Facts become alerts by three rules over a window: many requests, many failures, many models. What is normal for a
//! caller is its own history before the window, as far as it is given.

use serde::Serialize;

use crate::audit::analysis::alert::{Alert, Burst, Evidence, Named, Normal, Share};
use crate::audit::analysis::bounded::{Cut, Kept};
use crate::audit::analysis::caller::{Caller, CallerName, Hour, Sum, Tally};
use crate::audit::analysis::fact::{AccessFact, Fact, FactKind, Outcome};
use crate::audit::analysis::{Gather, HOUR_MS, hour_of};

/// Days before the window that say what is normal.
pub const BASELINE_DAYS: i64 = 30;

/// Active hours without which nobody can say what is normal.
pub const MIN_BASELINE_HOURS: usize = 5;

/// Memory for principals, about; what one takes depends on its active hours: at 8 an office day 4 KiB in 30 days.
pub const MAX_PRINCIPAL_BYTES: usize = 128 << 20;

/// Memory for addresses that nobody was authenticated from, about.
pub const MAX_SOURCE_BYTES: usize = 32 << 20;

/// Alerts that are listed; all are counted.
pub const MAX_ALERTS: usize = 1_000;

/// The time that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Milliseconds since 1970, at a full hour.
    since: i64,
    /// Milliseconds since 1970, not itself.
    until: i64,
}

/// From where on something is an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Requests in the window, that many are none yet.
    pub max_requests: u64,
    /// Requests in an hour, as a multiple of the caller's own median active hour.
    pub baseline_factor: u64,
    /// An hour of fewer requests is never one too many, whatever the median.
    pub min_burst: u64,
    /// Failures of a thousand requests, that many are none yet.
    pub max_errors_per_mille: u64,
    /// Fewer requests than this say nothing about a share.
    pub min_requests: u64,
    /// Models in the window, that many are none yet.
    pub max_models: usize,
}

/// Collects; see the module.
#[derive(Clone, Debug)]
pub struct Detector {
    window: Window,
    principals: Kept<Box<str>, Caller>,
    sources: Kept<Box<str>, Caller>,
    totals: Totals,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Requests in the window.
    pub requests: u64,
    /// Of them, refused by mlgate.
    pub denied: u64,
    /// Of them, failed upstream.
    pub errors: u64,
    /// Events that were declared lost in the window.
    pub lost: u64,
    /// Requests in the time before that says what is normal.
    pub requests_before: u64,
    /// Requests earlier still: not used.
    pub requests_too_old: u64,
    /// Requests after the window: not used.
    pub requests_after: u64,
    /// Time of the first request.
    #[serde(serialize_with = "super::alert::time_option")]
    pub first: Option<i64>,
    /// Time of the last request.
    #[serde(serialize_with = "super::alert::time_option")]
    pub last: Option<i64>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Analysis {
    /// The window's beginning.
    #[serde(serialize_with = "super::alert::time")]
    pub since: i64,
    /// The window's end.
    #[serde(serialize_with = "super::alert::time")]
    pub until: i64,
    /// What was read.
    pub totals: Totals,
    /// Alerts; [`MAX_ALERTS`] are listed.
    pub alerts_total: usize,
    /// The callers with the most requests first.
    pub alerts: Vec<Alert>,
    /// Where there were more principals than memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principals_cut: Option<Cut>,
    /// Where there were more addresses than memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sources_cut: Option<Cut>,
}

// === impl Window ===

impl Window {
    /// From `since`, taken back to its full hour, until before `until`.
    pub const fn new(since: i64, until: i64) -> Self {
        Self { since: hour_of(since).saturating_mul(HOUR_MS), until }
    }

    /// The beginning, in milliseconds since 1970.
    pub const fn since(self) -> i64 {
        self.since
    }

    /// The end, which is not in it.
    pub const fn until(self) -> i64 {
        self.until
    }

    /// Where the time begins that says what is normal.
    const fn baseline(self) -> i64 {
        self.since.saturating_sub(BASELINE_DAYS.saturating_mul(24 * HOUR_MS))
    }
}

// === impl Thresholds ===

impl Default for Thresholds {
    /// Those of the options' defaults, with a floor under each share.
    fn default() -> Self {
        Self {
            max_requests: 1_000,
            baseline_factor: 10,
            min_burst: 100,
            max_errors_per_mille: 500,
            min_requests: 20,
            max_models: 5,
        }
    }
}

// === impl Detector ===

impl Detector {
    /// Nothing yet.
    pub fn new(window: Window) -> Self {
        Self {
            window,
            principals: Kept::new(MAX_PRINCIPAL_BYTES),
            sources: Kept::new(MAX_SOURCE_BYTES),
            totals: Totals::default(),
        }
    }

    /// Moves the window on and forgets what is too old for it.
    pub fn advance(&mut self, window: Window) {
        self.window = window;
        let (baseline, since) = (window.baseline(), window.since);
        self.principals.retain(|_, caller| caller.forget(baseline, since));
        self.sources.retain(|_, caller| caller.forget(since, since));
    }

    /// What is found so far.
    pub fn analyze(&mut self, thresholds: &Thresholds) -> Analysis {
        self.principals.trim();
        self.sources.trim();
        let mut alerts: Vec<(u64, Alert)> = Vec::new();
        for (name, caller) in self.principals.sorted() {
            self.judge(&CallerName::Principal(name.clone()), caller, thresholds, &mut alerts);
        }
        for (name, caller) in self.sources.sorted() {
            let name = if name.is_empty() { CallerName::Unknown } else { CallerName::Source(name.clone()) };
            self.judge(&name, caller, thresholds, &mut alerts);
        }
        // stable: callers in alphabetical order, the rules in theirs
        alerts.sort_by_key(|(requests, _)| std::cmp::Reverse(*requests));
        let alerts_total = alerts.len();
        Analysis {
            since: self.window.since,
            until: self.window.until,
            totals: self.totals,
            alerts_total,
            alerts: alerts.into_iter().map(|(_, alert)| alert).take(MAX_ALERTS).collect(),
            principals_cut: self.principals.cut(),
            sources_cut: self.sources.cut(),
        }
    }

    fn judge(
        &self,
        name: &CallerName,
        caller: &Caller,
        thresholds: &Thresholds,
        found: &mut Vec<(u64, Alert)>,
    ) {
        let since = hour_of(self.window.since);
        let before = caller.hours(i64::MIN, since);
        let within = caller.hours(since, i64::MAX);
        let sum = Sum::of(within);
        let volume = volume(name, caller.all_hours(), before, within, thresholds);
        let errors = errors(caller, before, within, thresholds);
        let models = models(caller, self.window.since, within, thresholds);
        for (since, evidence) in [volume, errors, models].into_iter().flatten() {
            let alert = Alert {
                caller: name.clone(),
                since,
                evidence,
                keys: named(caller.keys.iter(), caller.keys.has_more()),
                sources: named(caller.sources.iter(), caller.sources.has_more()),
            };
            found.push((sum.requests, alert));
        }
    }

    fn access(&mut self, millis: i64, access: &AccessFact<'_>) {
        let totals = &mut self.totals;
        totals.first = Some(totals.first.map_or(millis, |first| first.min(millis)));
        totals.last = Some(totals.last.map_or(millis, |last| last.max(millis)));
        let place = if millis >= self.window.until {
            &mut totals.requests_after
        } else if millis >= self.window.since {
            match access.outcome {
                Outcome::Denied => totals.denied = totals.denied.saturating_add(access.count),
                Outcome::Error => totals.errors = totals.errors.saturating_add(access.count),
                Outcome::Aborted | Outcome::Success => {}
            }
            &mut totals.requests
        } else if millis >= self.window.baseline() {
            &mut totals.requests_before
        } else {
            &mut totals.requests_too_old
        };
        *place = place.saturating_add(access.count);
        if millis >= self.window.until || millis < self.window.baseline() {
            return;
        }
        let since = self.window.since;
        match access.authenticated() {
            Some(principal) => self.principals.update(
                principal,
                || Box::from(principal),
                |caller| caller.take(millis, access, since),
            ),
            // what an address did long ago says nothing: it may be another's by now
            None if millis < since => {}
            None => {
                let source = access.source.as_deref().unwrap_or_default();
                self.sources.update(
                    source,
                    || Box::from(source),
                    |caller| caller.take(millis, access, since),
                );
            }
        }
    }
}

impl Gather for Detector {
    fn take(&mut self, fact: &Fact<'_>) {
        match &fact.kind {
            FactKind::Access(access) => self.access(fact.millis, access),
            FactKind::Gap(count) if fact.millis >= self.window.since && fact.millis < self.window.until => {
                self.totals.lost = self.totals.lost.saturating_add(*count);
            }
            FactKind::Gap(_) | FactKind::Other => {}
        }
    }

    fn merge(&mut self, other: Self) {
        self.principals.merge(other.principals);
        self.sources.merge(other.sources);
        self.totals.merge(&other.totals);
    }
}

// === impl Totals ===

impl Totals {
    fn merge(&mut self, other: &Self) {
        for (count, more) in [
            (&mut self.requests, other.requests),
            (&mut self.denied, other.denied),
            (&mut self.errors, other.errors),
            (&mut self.lost, other.lost),
            (&mut self.requests_before, other.requests_before),
            (&mut self.requests_too_old, other.requests_too_old),
            (&mut self.requests_after, other.requests_after),
        ] {
            *count = count.saturating_add(more);
        }
        self.first = [self.first, other.first].into_iter().flatten().min();
        self.last = [self.last, other.last].into_iter().flatten().max();
    }
}

/// When it began, and what shows it.
type Finding = Option<(i64, Evidence)>;

/// `HIGH_REQUEST_VOLUME`: over the window, or in an hour against the caller's own. Of those that nobody has
/// authenticated only refusals count: what is open to all may be asked for often.
fn volume(
    name: &CallerName,
    all: &[Hour],
    before: &[Hour],
    within: &[Hour],
    thresholds: &Thresholds,
) -> Finding {
    let authenticated = matches!(name, CallerName::Principal(_));
    let count = |hour: &Hour| u64::from(if authenticated { hour.requests } else { hour.failures });
    let mut requests = 0_u64;
    let mut passed = None;
    for hour in within {
        requests = requests.saturating_add(count(hour));
        if requests > thresholds.max_requests {
            passed.get_or_insert(hour.first());
        }
    }
    // without a past, the window's other hours have to do: a median is not moved by a few
    let known = if before.len() >= MIN_BASELINE_HOURS { before } else { all };
    let median = (authenticated && known.len() >= MIN_BASELINE_HOURS).then(|| median(known));
    let limit =
        median.map(|median| median.saturating_mul(thresholds.baseline_factor).max(thresholds.min_burst));
    let bursts = || within.iter().filter(|hour| limit.is_some_and(|limit| count(hour) > limit));
    // of equal ones the first
    let busiest = bursts().rev().max_by_key(|hour| count(hour));
    let since = [passed, bursts().next().map(Hour::first)].into_iter().flatten().min()?;
    let normal = median.map(|median| Normal {
        median_hour: median,
        busiest_hour: known
            .iter()
            .map(count)
            .filter(|n| limit.is_none_or(|limit| *n <= limit))
            .max()
            .unwrap_or(0),
        active_hours: known.len(),
        in_window: before.len() < MIN_BASELINE_HOURS,
    });
    let burst = busiest.map(|hour| Burst {
        hour: hour.start(),
        requests: count(hour),
        limit: limit.unwrap_or(0),
        hours: bursts().count(),
    });
    let max_requests = thresholds.max_requests;
    Some((since, Evidence::HighRequestVolume { requests, max_requests, burst, normal }))
}

/// `HIGH_ERROR_RATE`: denials and errors of all requests.
fn errors(caller: &Caller, before: &[Hour], within: &[Hour], thresholds: &Thresholds) -> Finding {
    let sum = Sum::of(within);
    let share = sum.failures_per_mille();
    if sum.requests < thresholds.min_requests
        || sum.failures.saturating_mul(1000) <= sum.requests.saturating_mul(thresholds.max_errors_per_mille)
    {
        return None;
    }
    let past = Sum::of(before);
    // some of what is asked always fails: it began in the first hour that is as bad as the whole
    let bad = |hour: &&Hour| {
        u64::from(hour.failures).saturating_mul(1000)
            > u64::from(hour.requests).saturating_mul(thresholds.max_errors_per_mille)
    };
    let since = within.iter().find(bad).and_then(Hour::first_failure)?;
    let evidence = Evidence::HighErrorRate {
        seen: Share { failures: sum.failures, requests: sum.requests, per_mille: share },
        normal: (past.requests > 0).then(|| Share {
            failures: past.failures,
            requests: past.requests,
            per_mille: past.failures_per_mille(),
        }),
        max_per_mille: thresholds.max_errors_per_mille,
        reasons: named(caller.reasons.iter(), caller.reasons.has_more()),
    };
    Some((since, evidence))
}

/// `MULTI_MODEL_ACCESS`: models asked for, allowed or not.
fn models(caller: &Caller, since: i64, within: &[Hour], thresholds: &Thresholds) -> Finding {
    let (mut models, mut first_time, mut before) = (Vec::new(), 0_usize, 0_usize);
    for (name, seen) in caller.models.iter() {
        if seen.first < since {
            before = before.saturating_add(1);
        }
        if seen.last >= since {
            models.push(name.to_owned());
            first_time = first_time.saturating_add(usize::from(seen.first >= since));
        }
    }
    if models.len() <= thresholds.max_models {
        return None;
    }
    let first_new = caller.models.iter().map(|(_, seen)| seen.first).filter(|first| *first >= since).min();
    let since = first_new.or_else(|| within.first().map(Hour::first))?;
    let more = caller.models.has_more();
    let max_models = thresholds.max_models;
    Some((since, Evidence::MultiModelAccess { models, more, first_time, before, max_models }))
}

/// Of requests in active hours; of an even number the lower middle.
fn median(hours: &[Hour]) -> u64 {
    let mut counts: Vec<u32> = hours.iter().map(|hour| hour.requests).collect();
    let middle = counts.len().saturating_sub(1) / 2;
    if counts.is_empty() { 0 } else { u64::from(*counts.select_nth_unstable(middle).1) }
}

/// The most frequent first.
fn named<'a>(tallies: impl Iterator<Item = (&'a str, &'a Tally)>, more: bool) -> Named {
    let mut names: Vec<(String, u64)> =
        tallies.map(|(name, tally)| (name.to_owned(), tally.requests)).collect();
    names.sort_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
    Named { names, more }
}

#[cfg(test)]
mod tests;
