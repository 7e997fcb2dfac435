//! Counters and histograms, by words of the configuration only: never an identity.
//!
//! Labels are part of the name in the form that Envoy's `stats_tags` take out again: `.<label>.=.<value>.;`. A defined
//! metric lives as long as the process, so the number of series is bounded.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::audit::event::Status;
use crate::host::{Host, MetricId, MetricKind};

/// The metrics of one gate in one worker.
#[derive(Debug)]
pub struct Metrics {
    gate: String,
    max_series: usize,
    defined: RefCell<BTreeMap<Series<'static>, Option<MetricId>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series<'a> {
    name: &'static str,
    labels: [(&'static str, Cow<'a, str>); 3],
}

/// Every name, its kind and its labels, as the reference lists them.
pub const NAMES: [(&str, &str, &str); 10] = [
    ("mlgate_requests_total", "counter", "decision, reason, profile"),
    ("mlgate_duration_us", "histogram", "stage"),
    ("mlgate_limit_total", "counter", "limit, outcome"),
    ("mlgate_shadow_denied_total", "counter", "policy"),
    ("mlgate_degraded_total", "counter", "what"),
    ("mlgate_audit_queue_events", "gauge", ""),
    ("mlgate_audit_dropped_total", "counter", ""),
    ("mlgate_revocation_lag_seconds", "gauge", ""),
    ("mlgate_jwks_age_seconds", "gauge", "provider"),
    ("mlgate_config_info", "gauge", "revision"),
];

// === impl Metrics ===

impl Metrics {
    /// No metric is defined before it is used.
    pub fn new(gate: &str, max_series: u32) -> Self {
        let max_series = usize::try_from(max_series).unwrap_or(usize::MAX);
        Self { gate: gate.to_owned(), max_series, defined: RefCell::default() }
    }

    /// One request is over.
    pub fn request(&self, status: Status, reason: &str, profile: &str, host: &dyn Host) {
        let labels = [("decision", status.word()), ("reason", reason), ("profile", profile)];
        self.with(MetricKind::Counter, "mlgate_requests_total", &labels, host, |id| host.add(id, 1));
    }

    /// A stage took its time.
    pub fn duration(&self, stage: &'static str, took: Duration, host: &dyn Host) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.with(MetricKind::Histogram, "mlgate_duration_us", &[("stage", stage)], host, |id| {
            host.record(id, micros)
        });
    }

    /// A limit said something other than yes.
    pub fn limit(&self, limit: &str, outcome: &'static str, host: &dyn Host) {
        let labels = [("limit", limit), ("outcome", outcome)];
        self.with(MetricKind::Counter, "mlgate_limit_total", &labels, host, |id| host.add(id, 1));
    }

    /// A policy in shadow mode would have denied what was allowed.
    pub fn shadow_denied(&self, policy: &str, host: &dyn Host) {
        let labels = [("policy", policy)];
        self.with(MetricKind::Counter, "mlgate_shadow_denied_total", &labels, host, |id| host.add(id, 1));
    }

    /// Something did not work and the gate went on without it, or refused because of it.
    pub fn degraded(&self, what: &'static str, host: &dyn Host) {
        self.with(MetricKind::Counter, "mlgate_degraded_total", &[("what", what)], host, |id| {
            host.add(id, 1)
        });
    }

    /// What came into this worker's audit queue since the last time and what left it, and how many events were lost.
    pub fn audit(&self, queued: i64, dropped: u64, host: &dyn Host) {
        self.with(MetricKind::Gauge, "mlgate_audit_queue_events", &[], host, |id| host.add(id, queued));
        if dropped > 0 {
            let dropped = i64::try_from(dropped).unwrap_or(i64::MAX);
            self.with(MetricKind::Counter, "mlgate_audit_dropped_total", &[], host, |id| {
                host.add(id, dropped)
            });
        }
    }

    /// How old the revocation list in force is.
    pub fn revocation_lag(&self, lag: Duration, host: &dyn Host) {
        self.with(MetricKind::Gauge, "mlgate_revocation_lag_seconds", &[], host, |id| {
            host.record(id, lag.as_secs());
        });
    }

    /// Since when nobody has said that the keys which an issuer publishes are the newest.
    pub fn jwks_age(&self, provider: &str, age: Duration, host: &dyn Host) {
        let labels = [("provider", provider)];
        self.with(MetricKind::Gauge, "mlgate_jwks_age_seconds", &labels, host, |id| {
            host.record(id, age.as_secs());
        });
    }

    /// Which configuration is in effect, or is no longer.
    pub fn config(&self, revision: &str, in_effect: bool, host: &dyn Host) {
        self.with(MetricKind::Gauge, "mlgate_config_info", &[("revision", revision)], host, |id| {
            host.record(id, u64::from(in_effect));
        });
    }

    fn with(
        &self,
        kind: MetricKind,
        name: &'static str,
        labels: &[(&'static str, &str)],
        host: &dyn Host,
        act: impl Fn(MetricId),
    ) {
        let label = |index: usize| {
            labels.get(index).map_or(("", Cow::Borrowed("")), |(key, value)| (*key, Cow::Borrowed(*value)))
        };
        let series = Series { name, labels: [label(0), label(1), label(2)] };
        let id = self.known(&series).unwrap_or_else(|| self.define(kind, &series, host));
        if let Some(id) = id {
            act(id);
        }
    }

    /// What is defined already: asked twice for each request, so nothing is copied for it.
    fn known<'a>(&self, series: &Series<'a>) -> Option<Option<MetricId>> {
        let defined = self.defined.borrow();
        // a map of names that live for ever is one of names that live for a while
        let defined: &BTreeMap<Series<'a>, Option<MetricId>> = &defined;
        defined.get(series).copied()
    }

    fn define(&self, kind: MetricKind, series: &Series<'_>, host: &dyn Host) -> Option<MetricId> {
        let mut defined = self.defined.borrow_mut();
        if defined.len() >= self.max_series {
            return None;
        }
        let id = host.define_metric(kind, &series.text(&self.gate)).ok();
        defined.insert(series.kept(), id);
        id
    }
}

// === impl Series ===

impl Series<'_> {
    fn kept(&self) -> Series<'static> {
        let labels =
            self.labels.each_ref().map(|(key, value)| (*key, Cow::Owned(value.clone().into_owned())));
        Series { name: self.name, labels }
    }

    fn text(&self, gate: &str) -> String {
        let mut text = format!("{}.gate.=.{gate}.;", self.name);
        for (key, value) in self.labels.iter().filter(|(key, _)| !key.is_empty()) {
            text.push_str(&format!(".{key}.=.{value}.;"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn a_series_is_defined_once_and_their_number_is_bounded() {
        let host = FakeHost::default();
        let metrics = Metrics::new("gate", 2);
        for profile in ["a", "a", "b", "c"] {
            metrics.request(Status::Denied, "no_match", profile, &host);
        }
        let name =
            "mlgate_requests_total.gate.=.gate.;.decision.=.denied.;.reason.=.no_match.;.profile.=.a.;";
        assert_eq!(host.metric(name), 2);
        assert_eq!(host.metrics.borrow().len(), 2);
    }
}
