//! The messages of `envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`, with the fields that are used.

use prost::Message;

/// `envoy.service.ratelimit.v3.RateLimitRequest`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::limits) struct RateLimitRequest {
    #[prost(string, tag = "1")]
    pub(in crate::limits) domain: String,
    #[prost(message, repeated, tag = "2")]
    pub(in crate::limits) descriptors: Vec<Descriptor>,
    #[prost(uint32, tag = "3")]
    pub(in crate::limits) hits_addend: u32,
}

/// `envoy.extensions.common.ratelimit.v3.RateLimitDescriptor`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::limits) struct Descriptor {
    #[prost(message, repeated, tag = "1")]
    pub(in crate::limits) entries: Vec<Entry>,
}

/// `envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.Entry`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::limits) struct Entry {
    #[prost(string, tag = "1")]
    pub(in crate::limits) key: String,
    #[prost(string, tag = "2")]
    pub(in crate::limits) value: String,
}

/// `envoy.service.ratelimit.v3.RateLimitResponse`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::limits) struct RateLimitResponse {
    #[prost(enumeration = "Code", tag = "1")]
    pub(in crate::limits) overall_code: i32,
    #[prost(message, repeated, tag = "2")]
    pub(in crate::limits) statuses: Vec<Status>,
    #[prost(message, repeated, tag = "3")]
    pub(in crate::limits) response_headers_to_add: Vec<HeaderValue>,
    #[prost(message, repeated, tag = "4")]
    pub(in crate::limits) request_headers_to_add: Vec<HeaderValue>,
}

/// `RateLimitResponse.Code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(in crate::limits) enum Code {
    Unknown = 0,
    Ok = 1,
    OverLimit = 2,
}

/// `RateLimitResponse.DescriptorStatus`, in the order of the descriptors.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::limits) struct Status {
    #[prost(enumeration = "Code", tag = "1")]
    pub(in crate::limits) code: i32,
    #[prost(message, optional, tag = "2")]
    pub(in crate::limits) current_limit: Option<CurrentLimit>,
    #[prost(uint32, tag = "3")]
    pub(in crate::limits) limit_remaining: u32,
    #[prost(message, optional, tag = "4")]
    pub(in crate::limits) duration_until_reset: Option<ProtoDuration>,
}

/// `RateLimitResponse.RateLimit`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::limits) struct CurrentLimit {
    #[prost(uint32, tag = "1")]
    pub(in crate::limits) requests_per_unit: u32,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(in crate::limits) struct ProtoDuration {
    #[prost(int64, tag = "1")]
    pub(in crate::limits) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(in crate::limits) nanos: i32,
}

/// `envoy.config.core.v3.HeaderValue`. Its texts are read as bytes: one that is none spoils its header, not the answer.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::limits) struct HeaderValue {
    #[prost(bytes = "vec", tag = "1")]
    pub(in crate::limits) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(in crate::limits) value: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(in crate::limits) raw_value: Vec<u8>,
}

impl HeaderValue {
    /// Its name in lower case and its value, as far as they are texts.
    pub(in crate::limits) fn texts(&self) -> (Option<String>, Option<&str>) {
        let value = if self.value.is_empty() { &self.raw_value } else { &self.value };
        let name = std::str::from_utf8(&self.key).ok().map(str::to_ascii_lowercase);
        (name, std::str::from_utf8(value).ok())
    }
}

/// `envoy.config.core.v3.GrpcService`, for a service behind one of Envoy's clusters.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::limits) struct GrpcService {
    #[prost(message, optional, tag = "1")]
    pub(in crate::limits) envoy_grpc: Option<EnvoyGrpc>,
}

/// `envoy.config.core.v3.GrpcService.EnvoyGrpc`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::limits) struct EnvoyGrpc {
    #[prost(string, tag = "1")]
    pub(in crate::limits) cluster_name: String,
}
