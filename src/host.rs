//! The one seam to the proxy: what is asked many times is a method of [`Host`]; what must be said exactly
//! once (forward, wait, reply) is the [`crate::filter::step::Step`] that a transaction returns.

use std::time::Duration;

use crate::time::{Monotonic, UnixTime};

#[cfg(any(test, feature = "cases"))]
pub mod fake;
pub mod signature;

use signature::SignatureCheck;

/// Everything the core may ask of the proxy. The filter's is `plugin::host::ProxyHost`, in tests [`fake::FakeHost`].
pub trait Host {
    /// The wall clock: tokens, key validity, records.
    fn unix_time(&self) -> UnixTime;
    /// The monotonic clock: limits, waits, leases.
    fn monotonic(&self) -> Monotonic;
    /// Fills `bytes` from a cryptographic source.
    fn random(&self, bytes: &mut [u8]) -> Result<(), HostError>;
    /// Reads a value that all workers share. `None`: the key was never written.
    fn shared(&self, key: &str) -> Result<Option<Versioned>, HostError>;
    /// Writes a shared value if its version is still `expected`; otherwise [`HostError::Conflict`].
    fn compare_and_set(&self, key: &str, value: &[u8], expected: Version) -> Result<(), HostError>;
    /// Reads up to `length` bytes at `start` of the body that the proxy holds for the current callback.
    fn body(&self, body: Body, start: usize, length: usize) -> Result<Vec<u8>, HostError>;
    /// Starts an HTTP call whose answer comes to whoever is being handled: the stream, or on a tick the root.
    fn dispatch(&self, callout: &Callout) -> Result<CalloutId, HostError>;
    /// Starts a gRPC call whose answer comes to whoever is being handled: the stream, or on a tick the root. A host may
    /// know no such calls.
    ///
    /// # Errors
    /// The call was not started, and no answer will come.
    fn call(&self, _call: &GrpcCall<'_>) -> Result<CalloutId, HostError> {
        Err(HostError::NotFound)
    }
    /// Defines a metric once; the same name again gives the same counter.
    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<MetricId, HostError>;
    /// Adds to a counter, or to a gauge that all workers share; what is negative is taken off.
    fn add(&self, metric: MetricId, by: i64);
    /// Sets a gauge or records into a histogram.
    fn record(&self, metric: MetricId, value: u64);
    /// Whether a signature is right. A host may know no such function.
    ///
    /// # Errors
    /// The proxy cannot say, whatever the signature.
    fn verify_signature(&self, _check: &SignatureCheck<'_>) -> Result<bool, HostError> {
        Err(HostError::NotFound)
    }
    /// Writes one line to the proxy's log. Never pass a secret or a body.
    fn log(&self, level: Level, line: &str);
}

/// The version of a shared value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The key must not exist yet.
    Absent,
    /// The version that was read; never zero.
    At(u32),
}

/// A shared value and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The bytes; empty after a removal, since the host keeps the key.
    pub value: Vec<u8>,
    /// What [`Host::compare_and_set`] expects.
    pub version: Version,
}

/// Which body is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// What the caller sends.
    Request,
    /// What the upstream answers.
    Response,
    /// What a callout answered.
    Callout,
    /// The message that a gRPC call answered.
    Grpc,
}

/// Why the host did not do as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostError {
    /// A compare-and-set found another version.
    Conflict,
    /// What was named does not exist: a cluster, a metric.
    NotFound,
    /// The host refused the arguments or the phase.
    BadArgument,
    /// Any other status, as its number.
    Failed(u32),
}

/// An HTTP request to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callout {
    /// Envoy's cluster name.
    pub cluster: String,
    /// `:path`.
    pub path: String,
    /// `:method`.
    pub method: &'static str,
    /// `:authority`.
    pub authority: String,
    /// Other headers, valid by construction.
    pub headers: Vec<(&'static str, String)>,
    /// The body, may be empty.
    pub body: Vec<u8>,
    /// Never zero: Envoy reads zero as no timeout.
    pub timeout: Duration,
}

/// A gRPC call of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcCall<'a> {
    /// A serialised `envoy.config.core.v3.GrpcService`.
    pub target: &'a [u8],
    /// Full name of the service.
    pub service: &'static str,
    /// Name of the method.
    pub method: &'static str,
    /// The request's message.
    pub message: &'a [u8],
    /// Never zero: Envoy reads zero as no timeout.
    pub timeout: Duration,
}

/// Names a running callout or call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CalloutId(pub u32);

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises.
    Counter,
    /// Is set.
    Gauge,
    /// Collects values into buckets.
    Histogram,
}

/// Names a defined metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricId(pub u32);

/// Levels of the proxy's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For developers of the filter.
    Debug,
    /// Normal life: started, reloaded.
    Info,
    /// Degraded, still right.
    Warn,
    /// Something is broken.
    Error,
}
