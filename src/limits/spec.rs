//! The words of `limits`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::config::values::DurationText;

/// One limit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSpec {
    /// Unique; how events and metrics name it.
    pub name: String,
    /// What is counted apart: `principal`, `credential`, `source`, `model`, `action`, `route`, `profile`, `tier`, or
    /// an attribute by its full name (`principal.org`).
    pub key: Vec<String>,
    /// Who counts.
    #[serde(default)]
    pub scope: ScopeSpec,
    /// Patterns on attributes by their full name; the limit is asked only where all match.
    #[serde(default)]
    pub when: BTreeMap<String, Json>,
    /// Rates by tier; `default` for tiers without rates of their own.
    pub rates: BTreeMap<String, Vec<RateSpec>>,
}

/// `scope`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScopeSpec {
    /// This Envoy, all of its workers.
    #[default]
    Local,
    /// The rate limit service, for all Envoys that ask it.
    Global,
}

/// `rate_limit_service`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// Envoy's cluster name.
    pub cluster: String,
    /// What tells the limits of this gate from those of other users of the service.
    pub domain: String,
    /// How long one call may take.
    #[serde(default = "ServiceSpec::default_timeout")]
    pub timeout: DurationText,
    /// What becomes of a request when the service gives no answer.
    #[serde(default)]
    pub failure_mode: FailureModeSpec,
}

/// `failure_mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureModeSpec {
    /// It is admitted.
    Allow,
    /// It is refused with `limiter_unavailable`.
    Deny,
    /// The same rates are enforced in this Envoy.
    #[default]
    Local,
}

impl ServiceSpec {
    const fn default_timeout() -> DurationText {
        DurationText(std::time::Duration::from_millis(50))
    }
}

/// `limit` requests in each `window`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateSpec {
    /// Requests, at least 1.
    pub limit: u64,
    /// In which time.
    pub window: DurationText,
    /// How many at once; `limit` when absent.
    pub burst: Option<u64>,
}
