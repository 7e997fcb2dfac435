//! The proxy around the gate: an Envoy document and a configuration become findings ([`review`]), and a configuration
//! becomes an Envoy document ([`render`]) or objects of Kubernetes around it ([`manifests`]).
//!
//! The filter cannot see most of what would make it useless: a route that switches it off, a policy that lets requests pass
//! after a fault, a path that is rewritten behind it. This module looks where the filter cannot. Part of the command alone.

pub mod clusters;
pub mod manifests;
mod node;
mod parts;
mod place;
pub mod render;
pub mod review;
pub mod rule;
mod yaml;

#[cfg(test)]
mod tests;

/// What the filter asks of the proxy and of WASI, and what the proxy calls of it: all that
/// `capability_restriction_config` has to allow, and nothing else.
pub const CAPABILITIES: [&str; 40] = [
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_write",
    "proc_exit",
    "proxy_call_foreign_function",
    "proxy_continue_stream",
    "proxy_define_metric",
    "proxy_get_buffer_bytes",
    "proxy_get_header_map_pairs",
    "proxy_get_property",
    "proxy_get_shared_data",
    "proxy_grpc_call",
    "proxy_http_call",
    "proxy_increment_metric",
    "proxy_log",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_done",
    "proxy_on_grpc_close",
    "proxy_on_grpc_receive",
    "proxy_on_http_call_response",
    "proxy_on_log",
    "proxy_on_request_body",
    "proxy_on_request_headers",
    "proxy_on_request_trailers",
    "proxy_on_response_body",
    "proxy_on_response_headers",
    "proxy_on_response_trailers",
    "proxy_on_tick",
    "proxy_on_vm_start",
    "proxy_record_metric",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_send_local_response",
    "proxy_set_effective_context",
    "proxy_set_shared_data",
    "proxy_set_tick_period_milliseconds",
    "random_get",
];
