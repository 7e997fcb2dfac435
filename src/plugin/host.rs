//! [`Host`] over the real proxy.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::host::signature::{self, SignatureCheck};
use crate::host::{
    Body, Callout, CalloutId, GrpcCall, Host, HostError, Level, MetricId, MetricKind, Version, Versioned,
};
use crate::plugin::abi;
use crate::time::{Monotonic, UnixTime};

thread_local! {
    /// Every metric of this VM: the proxy gives the same name a new id each time, and keeps them all.
    static DEFINED: RefCell<BTreeMap<String, MetricId>> = const { RefCell::new(BTreeMap::new()) };
}

/// Names of metrics in one VM. A revision is part of one, so that they grow with the configurations that it has seen.
const MAX_NAMES: usize = 10_000;

/// The proxy this module runs in.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProxyHost;

impl Host for ProxyHost {
    fn unix_time(&self) -> UnixTime {
        let millis = abi::clock(abi::Clock::Realtime).wrapping_div(1_000_000);
        UnixTime::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_nanos(abi::clock(abi::Clock::Monotonic))
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), HostError> {
        abi::random(bytes)
    }

    fn shared(&self, key: &str) -> Result<Option<Versioned>, HostError> {
        abi::shared(key)
    }

    fn compare_and_set(&self, key: &str, value: &[u8], expected: Version) -> Result<(), HostError> {
        abi::set_shared(key, value, expected)
    }

    fn body(&self, body: Body, start: usize, length: usize) -> Result<Vec<u8>, HostError> {
        let buffer = match body {
            Body::Callout => abi::Buffer::CalloutBody,
            Body::Grpc => abi::Buffer::GrpcMessage,
            Body::Request => abi::Buffer::RequestBody,
            Body::Response => abi::Buffer::ResponseBody,
        };
        abi::buffer(buffer, start, length)
    }

    fn dispatch(&self, callout: &Callout) -> Result<CalloutId, HostError> {
        let mut headers = vec![
            (":method", callout.method),
            (":path", callout.path.as_str()),
            (":authority", callout.authority.as_str()),
        ];
        headers.extend(callout.headers.iter().map(|(name, value)| (*name, value.as_str())));
        // The SDK's own call: its dispatcher must know the token, or the answer finds nobody.
        proxy_wasm::hostcalls::dispatch_http_call(
            &callout.cluster,
            headers,
            Some(&callout.body),
            Vec::new(),
            callout.timeout,
        )
        .map(CalloutId)
        .map_err(|_| HostError::BadArgument)
    }

    fn call(&self, call: &GrpcCall<'_>) -> Result<CalloutId, HostError> {
        // The SDK takes a text only; names of clusters are short enough for lengths of one byte, so this is one.
        let target = std::str::from_utf8(call.target).map_err(|_| HostError::BadArgument)?;
        proxy_wasm::hostcalls::dispatch_grpc_call(
            target,
            call.service,
            call.method,
            Vec::new(),
            Some(call.message),
            call.timeout,
        )
        .map(CalloutId)
        .map_err(|_| HostError::NotFound)
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<MetricId, HostError> {
        let kind = match kind {
            MetricKind::Counter => 0,
            MetricKind::Gauge => 1,
            MetricKind::Histogram => 2,
        };
        DEFINED.with_borrow_mut(|defined| match defined.get(name) {
            Some(id) => Ok(*id),
            None if defined.len() >= MAX_NAMES => Err(HostError::BadArgument),
            None => {
                let id = abi::define_metric(kind, name).map(MetricId)?;
                defined.insert(name.to_owned(), id);
                Ok(id)
            }
        })
    }

    fn add(&self, metric: MetricId, by: i64) {
        abi::increment_metric(metric.0, by);
    }

    fn record(&self, metric: MetricId, value: u64) {
        abi::record_metric(metric.0, value);
    }

    fn verify_signature(&self, check: &SignatureCheck<'_>) -> Result<bool, HostError> {
        let Some(message) = check.message()? else { return Ok(false) };
        signature::verdict(&abi::foreign("verify_signature", &message)?)
    }

    fn log(&self, level: Level, line: &str) {
        let level = match level {
            Level::Debug => 1,
            Level::Info => 2,
            Level::Warn => 3,
            Level::Error => 4,
        };
        abi::log(level, line);
    }
}
