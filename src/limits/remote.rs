//! Limits with `scope: global`: a request becomes the descriptors that a rate limit service counts
//! (envoy.service.ratelimit.v3).
//!
//! Each rate of a limit is one counter of the service, known by its entries in this order:
//! `limit=<name>`, then each part of `key` as `<part>=<value>`, then `rates=<tier>` and `window=<window>`, where the tier
//! is the one whose rates apply: `default` for tiers without rates of their own. All counters of a request are asked in one
//! call; which place a descriptor has among them depends on which limits apply, so a service must find it by its
//! entries.

use std::time::Duration;

use prost::Message as _;

use crate::limits::remote::message::{EnvoyGrpc, GrpcService};
use crate::limits::spec::FailureModeSpec;
use crate::limits::{Limit, gcra};

pub mod answer;
pub mod breaker;
pub(super) mod compile;
#[cfg(any(test, feature = "cases"))]
pub mod fake;
pub mod headers;
mod message;
pub mod question;

/// Whom global limits are asked of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Envoy's cluster name.
    pub cluster: String,
    /// `domain` of every call.
    pub domain: String,
    /// How long one call may take; never zero.
    pub timeout: Duration,
    /// What becomes of a request when the service gives no answer.
    pub failure_mode: FailureModeSpec,
}

/// What the service counts: at most `requests` in each `window`, for each combination of those entries whose value is
/// not fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Name of the limit.
    pub limit: String,
    /// In the order in which a descriptor has them.
    pub entries: Vec<CounterEntry>,
    /// Requests.
    pub requests: u64,
    /// Whole seconds, at least one.
    pub window: Duration,
}

/// One entry of the descriptor of a [`Counter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterEntry {
    /// Letters, digits, `_`, `-` and `.`.
    pub key: String,
    /// The value that it must have, in the same letters; `None`: whatever a request has, each value counted apart.
    pub value: Option<String>,
}

/// Key of the first entry: the limit's name.
pub const LIMIT_ENTRY: &str = "limit";

/// Key of the entry that says whose rates apply: a tier, or `default`.
pub const RATES_ENTRY: &str = "rates";

/// Key of the last entry, which tells the rates of one tier apart: the window, as in `1s`, `5m`, `1h`.
pub const WINDOW_ENTRY: &str = "window";

/// How many limits may be global: with [`gcra::MAX_RATES`] rates each, the bound of one call.
pub const MAX_GLOBAL: usize = 16;

/// The longest cluster name, in bytes.
pub const MAX_CLUSTER: usize = 96;

/// The longest domain, tier or key of an entry, in bytes.
pub const MAX_WORD: usize = 96;

/// The longest `timeout`.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(5);

/// gRPC's name of the service.
pub const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";

/// gRPC's name of the method.
pub const METHOD: &str = "ShouldRateLimit";

// === impl Service ===

impl Service {
    /// What Envoy calls, as a serialised `envoy.config.core.v3.GrpcService`. A bare name would do as well, unless it
    /// happens to read as such a message: then Envoy takes it for one.
    pub fn target(&self) -> Vec<u8> {
        let envoy_grpc = Some(EnvoyGrpc { cluster_name: self.cluster.clone() });
        GrpcService { envoy_grpc }.encode_to_vec()
    }
}

// === impl Counter ===

impl Counter {
    /// Every counter of a global limit.
    pub(super) fn all_of(limit: &Limit) -> impl Iterator<Item = Self> {
        limit.rates.iter().flat_map(|(tier, rates)| rates.iter().map(move |rate| (tier, rate))).map(
            |(tier, rate)| {
                let fixed = |key: &str, value: &str| CounterEntry {
                    key: key.to_owned(),
                    value: Some(value.to_owned()),
                };
                let mut entries = vec![fixed(LIMIT_ENTRY, &limit.name)];
                entries
                    .extend(limit.key.iter().map(|part| CounterEntry { key: part.to_string(), value: None }));
                entries.push(fixed(RATES_ENTRY, tier));
                entries.push(fixed(WINDOW_ENTRY, &gcra::span(rate.window())));
                Self { limit: limit.name.clone(), entries, requests: rate.limit(), window: rate.window() }
            },
        )
    }
}
