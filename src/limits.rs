//! How often: a caller and what it asks for become a [`Charge`] and a [`Quota`].
//!
//! Local limits count in shared data, so all workers of one Envoy count together and exactly: every charge is one
//! compare-and-set of one value. Nothing here waits; where compare-and-set keeps failing the answer is
//! [`Charge::Unavailable`], never a guess. Global ones become a [`remote::question::Question`], which a service answers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::host::Host;
use crate::policy::condition::{Condition, Truth};

pub mod compile;
pub mod failures;
pub mod gcra;
pub mod key;
pub mod remote;
pub mod slots;
pub mod spec;

use gcra::{Rate, Tats, Verdict};
use key::Agreed;
use remote::{Counter, Service};
use slots::{Bill, Charged, Table, Trouble, Unavailable};
use spec::ScopeSpec;

pub use gcra::Quota;
pub use key::{KeyPart, Subject};

/// All limits of one gate.
#[derive(Debug)]
pub struct Limits {
    limits: Vec<Limit>,
    service: Option<Service>,
    principals: Table,
    sources: Table,
    hash_key: Agreed,
}

/// One limit.
#[derive(Debug)]
pub struct Limit {
    name: String,
    key: Vec<KeyPart>,
    when: Condition,
    /// By tier.
    rates: BTreeMap<String, Vec<Rate>>,
    table: TableKind,
    scope: ScopeSpec,
    /// Where it is written.
    pointer: String,
}

/// The limits that apply in one profile, in written order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection(Vec<usize>);

/// What came of asking the limits.
#[derive(Debug)]
pub struct Charging {
    /// The answer.
    pub charge: Charge,
    /// `<limit>/<part>` for each part of a key that this request lacks: it shares a bucket with all others that do.
    pub unknown: Vec<String>,
    /// What was worse than it should be; each at most once.
    pub degraded: Vec<Degraded>,
}

/// The answer of the limits.
#[derive(Debug)]
pub enum Charge {
    /// Every limit that applies admits the request, and it is charged to all of them.
    Admitted {
        /// Of the rate nearest refusal; `None` where no limit applies.
        quota: Option<Quota>,
        /// What was charged, for [`Limits::refund`].
        receipt: Receipt,
    },
    /// A limit refuses it, and it is charged to none.
    Refused {
        /// The limit's name.
        limit: String,
        /// After how long this limit would admit it if nobody else came.
        retry_after: Duration,
        /// Of the rate that takes longest.
        quota: Quota,
    },
    /// Nobody could say, and it is charged to no limit before this one.
    Unavailable {
        /// The limit's name.
        limit: String,
    },
}

/// What a request was charged. Whoever refuses it later gives the receipt back.
#[derive(Debug, Default)]
#[must_use = "a request that is refused later gets its charges back"]
pub struct Receipt(Vec<(TableKind, Charged, Tats)>);

/// What was worse than it should be; `mlgate_degraded_total{what}` and `degraded` in events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Degraded {
    /// A `when` could not be evaluated; the limit was asked all the same.
    Condition,
    /// A shared value was not ours and counted as never written.
    Corrupt,
    /// A wrong credential could not be counted against its source, or whether that is blocked not be found out.
    Failures,
    /// No slot was left for a wrong credential's source.
    FailureSlots,
    /// The source of a wrong credential is not known.
    FailureSource,
    /// A charge could not be given back.
    Refund,
    /// The rate limit service gave no answer.
    Service,
    /// The rate limit service wanted headers added that may not be.
    ServiceHeaders,
    /// No slot was left, so the caller shared one with other newcomers.
    Slots,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TableKind {
    Principal,
    Source,
}

// === impl Limits ===

impl Limits {
    /// Every limit.
    pub fn all(&self) -> Selection {
        Selection((0..self.limits.len()).collect())
    }

    /// Every limit, in written order.
    pub fn iter(&self) -> impl Iterator<Item = &Limit> {
        self.limits.iter()
    }

    /// The limits of a selection, in written order.
    pub fn selected<'a>(&'a self, selection: &'a Selection) -> impl Iterator<Item = &'a Limit> {
        selection.0.iter().filter_map(|index| self.limits.get(*index))
    }

    /// Whom global limits are asked of.
    pub const fn service(&self) -> Option<&Service> {
        self.service.as_ref()
    }

    /// Everything that the service must count: the global limits by tier and rate, in written order.
    pub fn counters(&self) -> impl Iterator<Item = Counter> {
        self.limits.iter().filter(|limit| limit.is_global()).flat_map(Counter::all_of)
    }

    /// The most keys that limits leave in shared data.
    pub fn max_keys(&self) -> u64 {
        // one more for the hash key
        self.principals.max_keys().saturating_add(self.sources.max_keys()).saturating_add(1)
    }

    /// The most bytes of keys and values that limits leave in shared data.
    pub fn max_bytes(&self) -> u64 {
        self.principals.max_bytes().saturating_add(self.sources.max_bytes()).saturating_add(HASH_KEY_BYTES)
    }

    /// Asks every selected local limit whose `when` does not say no, in written order. The first that refuses ends it,
    /// and what was charged until then is given back.
    ///
    /// A `when` that cannot be evaluated does not free anybody of a limit: it is asked.
    pub fn charge(&self, selection: &Selection, subject: &Subject<'_>, host: &dyn Host) -> Charging {
        self.charge_those_of(ScopeSpec::Local, selection, subject, host)
    }

    /// The same for the global limits, by their rates in this Envoy: what is left of them without their service.
    pub fn charge_global_here(
        &self,
        selection: &Selection,
        subject: &Subject<'_>,
        host: &dyn Host,
    ) -> Charging {
        self.charge_those_of(ScopeSpec::Global, selection, subject, host)
    }

    fn charge_those_of(
        &self,
        scope: ScopeSpec,
        selection: &Selection,
        subject: &Subject<'_>,
        host: &dyn Host,
    ) -> Charging {
        let trouble = Trouble::default();
        let mut unknown = Vec::new();
        let mut degraded = Vec::new();
        let mut receipt = Receipt::default();
        let mut nearest: Option<Quota> = None;
        let mut ended = None;
        for limit in self.selected(selection).filter(|limit| limit.scope == scope) {
            match limit.when.evaluate(subject.attributes) {
                Truth::False => continue,
                Truth::Error(_) => degraded.push(Degraded::Condition),
                Truth::True => {}
            }
            match self.charge_one(limit, subject, host, &trouble, &mut unknown) {
                Ok((Verdict::Admitted { quota, .. }, charged, prices)) => {
                    nearest = match (nearest, quota) {
                        (Some(known), Some(quota)) => Some(known.nearer(quota)),
                        (known, quota) => known.or(quota),
                    };
                    receipt.0.push((limit.table, charged, prices));
                }
                Ok((Verdict::Refused { retry_after, quota }, ..)) => {
                    ended = Some(Charge::Refused { limit: limit.name.clone(), retry_after, quota });
                    break;
                }
                Err(Unavailable) => {
                    ended = Some(Charge::Unavailable { limit: limit.name.clone() });
                    break;
                }
            }
        }
        let charge = match ended {
            Some(refused) => {
                degraded.extend(self.refund(receipt, host));
                refused
            }
            None => Charge::Admitted { quota: nearest, receipt },
        };
        if trouble.corrupt.get() {
            degraded.push(Degraded::Corrupt);
        }
        if trouble.overflow.get() {
            degraded.push(Degraded::Slots);
        }
        degraded.sort_unstable();
        degraded.dedup();
        Charging { charge, unknown, degraded }
    }

    /// Gives back what a request was charged that somebody refused after all. What had not been given back when
    /// compare-and-set kept failing stays charged.
    pub fn refund(&self, receipt: Receipt, host: &dyn Host) -> Option<Degraded> {
        let trouble = Trouble::default();
        let mut failed = None;
        for (kind, charged, prices) in receipt.0.into_iter().rev() {
            if self.table(kind).refund(&charged, &prices, host, &trouble).is_err() {
                failed = Some(Degraded::Refund);
            }
        }
        failed
    }

    fn charge_one(
        &self,
        limit: &Limit,
        subject: &Subject<'_>,
        host: &dyn Host,
        trouble: &Trouble,
        unknown: &mut Vec<String>,
    ) -> Result<(Verdict, Charged, Tats), Unavailable> {
        let hash_key = self.hash_key.find(host)?;
        let (tier, rates) = limit.rates_of(&subject.attributes.principal.tier);
        // the tier is part of who is charged: its TATs mean nothing to the rates of another
        let tag = key::tag(hash_key, &limit.name, tier, &limit.key, subject, |part| {
            unknown.push(format!("{}/{part}", limit.name));
        });
        let overflow = || key::overflow_tag(hash_key, &limit.name, tier);
        let bill = Bill { tag, overflow: &overflow, rates, cost: 1 };
        let (verdict, charged) = self.table(limit.table).charge(&bill, host, trouble)?;
        let mut prices = Tats::default();
        for (price, rate) in prices.iter_mut().zip(rates) {
            *price = rate.price(bill.cost);
        }
        Ok((verdict, charged, prices))
    }

    const fn table(&self, kind: TableKind) -> &Table {
        match kind {
            TableKind::Principal => &self.principals,
            TableKind::Source => &self.sources,
        }
    }
}

// === impl Limit ===

impl Limit {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it counts apart.
    pub fn key(&self) -> &[KeyPart] {
        &self.key
    }

    /// Whether the rate limit service counts it, for all Envoys together.
    pub fn is_global(&self) -> bool {
        self.scope == ScopeSpec::Global
    }

    /// What it promises, a sentence for each rate of each tier.
    pub fn promises(&self) -> Vec<String> {
        let each = if self.key.is_empty() {
            String::from("everybody together")
        } else {
            let parts: Vec<_> = self.key.iter().map(|part| format!("`{part}`")).collect();
            format!("each {}", parts.join(" and "))
        };
        self.rates
            .iter()
            .flat_map(|(tier, rates)| rates.iter().map(move |rate| (tier, rate)))
            .map(|(tier, rate)| {
                let promise = match self.scope {
                    ScopeSpec::Local => rate.to_string(),
                    ScopeSpec::Global => rate.global_promise(),
                };
                format!("`{}`, tier `{tier}`: {promise}, for {each}", self.name)
            })
            .collect()
    }

    /// The rates of a tier and how they are called.
    fn rates_of(&self, tier: &str) -> (&str, &[Rate]) {
        self.rates
            .get_key_value(tier)
            .or_else(|| self.rates.get_key_value(compile::DEFAULT_TIER))
            .map_or((compile::DEFAULT_TIER, &[]), |(tier, rates)| (tier, rates))
    }
}

// === impl Receipt ===

impl Receipt {
    /// Whether nothing was charged.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was charged later goes with what was charged before.
    pub fn join(&mut self, later: Self) {
        self.0.extend(later.0);
    }
}

/// Whole seconds for a header, rounded up so that what they say is true.
pub const fn ceil_seconds(duration: Duration) -> u64 {
    let up = if duration.subsec_nanos() > 0 { 1 } else { 0 };
    duration.as_secs().saturating_add(up)
}

// === impl Degraded ===

impl Degraded {
    /// How metrics and events call it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Condition => "limit_condition",
            Self::Corrupt => "slots_corrupt",
            Self::Failures => "failures",
            Self::FailureSlots => "failure_slots",
            Self::FailureSource => "failure_source",
            Self::Refund => "limit_refund",
            Self::Service => "rate_limit_service",
            Self::ServiceHeaders => "rate_limit_headers",
            Self::Slots => "slots",
        }
    }
}

impl fmt::Display for Degraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

// === impl TableKind ===

impl TableKind {
    /// The `<kind>` of its keys.
    const fn word(self) -> &'static str {
        match self {
            Self::Principal => "principal_slots",
            Self::Source => "source_slots",
        }
    }
}

/// The key and the value of the shared hash key, with the longest name that a gate may have.
const HASH_KEY_BYTES: u64 = 128;

#[cfg(test)]
mod tests;
