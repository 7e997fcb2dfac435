//! Our own externs of the proxy-wasm ABI 0.2.1 and WASI: the only unsafe code of mlgate.
//!
//! The SDK's wrappers trap on every status they did not expect, and the host does return those (a header read in the
//! wrong phase, a value that is not UTF-8). Here each status becomes a [`HostError`]. What the host returns it has
//! allocated through the SDK's `proxy_on_memory_allocate`, so we own it and free it.
#![expect(unsafe_code, reason = "the foreign functions of the host; every other file is safe")]

use crate::host::{HostError, Version, Versioned};

/// Which map a header call speaks of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Map {
    Request,
    RequestTrailers,
    Response,
    ResponseTrailers,
    Callout,
}

/// Which buffer a body call speaks of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Buffer {
    RequestBody,
    ResponseBody,
    CalloutBody,
    GrpcMessage,
    PluginConfiguration,
}

/// The host's clocks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Clock {
    Realtime,
    Monotonic,
}

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, text: *const u8, length: usize) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_get_property(path: *const u8, length: usize, value: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        length: usize,
        value: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_pairs(map: u32, value: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, length: usize) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        length: usize,
        value: *const u8,
        size: usize,
    ) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        length: usize,
        value: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(key: *const u8, length: usize, value: *const u8, size: usize, cas: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, length: usize, id: *mut u32) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        length: usize,
        argument: *const u8,
        argument_length: usize,
        value: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_increment_metric(id: u32, by: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_length: usize,
        body: *const u8,
        body_length: usize,
        headers: *const u8,
        headers_length: usize,
        grpc_status: i32,
    ) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(clock: u32, precision: u64, nanos: *mut u64) -> u16;
    fn random_get(bytes: *mut u8, length: usize) -> u16;
}

/// A version that no value ever has: with it only an absent key is written, since the host ignores the version of
/// an absent key and refuses a wrong one.
const ABSENT: u32 = u32::MAX;

pub(super) fn log(level: u32, line: &str) {
    // SAFETY: the pointer and length are of a live str; the host only reads.
    let _ = unsafe { proxy_log(level, line.as_ptr(), line.len()) };
}

/// Restarts the timer even when the period stays the same: call it on changes only.
pub(super) fn set_tick_period(millis: u32) {
    // SAFETY: takes a number.
    let _ = unsafe { proxy_set_tick_period_milliseconds(millis) };
}

/// On an error the previous context stays effective: whoever calls this must check.
pub(super) fn set_effective_context(context: u32) -> Result<(), HostError> {
    // SAFETY: takes a number.
    checked(unsafe { proxy_set_effective_context(context) })
}

/// Sends on what a pause holds of the effective context's request.
pub(super) fn continue_request() -> Result<(), HostError> {
    // SAFETY: takes a number.
    checked(unsafe { proxy_continue_stream(0) })
}

/// Sends on what a pause holds of the effective context's response.
pub(super) fn continue_response() -> Result<(), HostError> {
    // SAFETY: takes a number.
    checked(unsafe { proxy_continue_stream(1) })
}

/// `path` has its segments joined by NUL.
pub(super) fn property(path: &str) -> Result<Vec<u8>, HostError> {
    let (mut value, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: `path` is live, the host writes one pointer and one length.
    let status = unsafe { proxy_get_property(path.as_ptr(), path.len(), &raw mut value, &raw mut size) };
    taken(status, value, size)
}

pub(super) fn buffer(buffer: Buffer, start: usize, length: usize) -> Result<Vec<u8>, HostError> {
    let (mut value, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the host writes one pointer and one length.
    let status =
        unsafe { proxy_get_buffer_bytes(buffer.into(), start, length, &raw mut value, &raw mut size) };
    taken(status, value, size)
}

/// The whole map as bytes, for [`crate::http::pairs::Pairs`].
pub(super) fn headers(map: Map) -> Result<Vec<u8>, HostError> {
    let (mut value, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the host writes one pointer and one length.
    let status = unsafe { proxy_get_header_map_pairs(map.into(), &raw mut value, &raw mut size) };
    taken(status, value, size)
}

pub(super) fn remove_header(map: Map, name: &str) -> Result<(), HostError> {
    // SAFETY: `name` is live; the host only reads.
    checked(unsafe { proxy_remove_header_map_value(map.into(), name.as_ptr(), name.len()) })
}

pub(super) fn set_header(map: Map, name: &str, value: &[u8]) -> Result<(), HostError> {
    // SAFETY: `name` and `value` are live; the host only reads.
    checked(unsafe {
        proxy_replace_header_map_value(map.into(), name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

pub(super) fn shared(key: &str) -> Result<Option<Versioned>, HostError> {
    let (mut value, mut size, mut cas) = (std::ptr::null_mut(), 0, 0);
    // SAFETY: `key` is live, the host writes one pointer, one length and one version.
    let status = unsafe {
        proxy_get_shared_data(key.as_ptr(), key.len(), &raw mut value, &raw mut size, &raw mut cas)
    };
    match taken(status, value, size) {
        Ok(value) => Ok(Some(Versioned { value, version: Version::At(cas) })),
        Err(HostError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn set_shared(key: &str, value: &[u8], expected: Version) -> Result<(), HostError> {
    let cas = match expected {
        Version::Absent => ABSENT,
        // Zero would overwrite whatever is there.
        Version::At(0) => return Err(HostError::BadArgument),
        Version::At(version) => version,
    };
    // SAFETY: `key` and `value` are live; the host only reads.
    checked(unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) })
}

pub(super) fn define_metric(kind: u32, name: &str) -> Result<u32, HostError> {
    let mut id = 0;
    // SAFETY: `name` is live, the host writes one number.
    checked(unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &raw mut id) })?;
    Ok(id)
}

/// Calls a function that the proxy offers by name; its result has a meaning of its own.
pub(super) fn foreign(name: &str, argument: &[u8]) -> Result<Vec<u8>, HostError> {
    let (mut value, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: `name` and `argument` are live, the host writes one pointer and one length.
    let status = unsafe {
        proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            argument.as_ptr(),
            argument.len(),
            &raw mut value,
            &raw mut size,
        )
    };
    taken(status, value, size)
}

pub(super) fn increment_metric(id: u32, by: i64) {
    // SAFETY: takes numbers; an unknown id is a status.
    let _ = unsafe { proxy_increment_metric(id, by) };
}

pub(super) fn record_metric(id: u32, value: u64) {
    // SAFETY: takes numbers; an unknown id is a status.
    let _ = unsafe { proxy_record_metric(id, value) };
}

/// Answers plain callers with `status` and gRPC callers with `grpc_status`. `headers` is in the form of
/// [`crate::http::pairs::Pairs::write`].
pub(super) fn send_local_response(
    status: u16,
    details: &str,
    body: &[u8],
    headers: &[u8],
    grpc_status: u8,
) -> Result<(), HostError> {
    // SAFETY: all slices are live; the host only reads.
    checked(unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            i32::from(grpc_status),
        )
    })
}

/// Nanoseconds of one of the host's clocks; zero if it refuses.
pub(super) fn clock(clock: Clock) -> u64 {
    let id = match clock {
        Clock::Realtime => 0,
        Clock::Monotonic => 1,
    };
    let mut nanos = 0;
    // SAFETY: the host writes one number.
    match unsafe { clock_time_get(id, 1, &raw mut nanos) } {
        0 => nanos,
        _ => 0,
    }
}

pub(super) fn random(bytes: &mut [u8]) -> Result<(), HostError> {
    // SAFETY: the host writes exactly `bytes.len()` bytes.
    match unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) } {
        0 => Ok(()),
        errno => Err(HostError::Failed(u32::from(errno))),
    }
}

fn checked(status: u32) -> Result<(), HostError> {
    match status {
        0 => Ok(()),
        1 => Err(HostError::NotFound),
        2 => Err(HostError::BadArgument),
        8 => Err(HostError::Conflict),
        other => Err(HostError::Failed(other)),
    }
}

/// Takes what the host allocated. A null pointer with an Ok status is an empty value.
fn taken(status: u32, value: *mut u8, size: usize) -> Result<Vec<u8>, HostError> {
    checked(status)?;
    if value.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the host filled a boxed slice of exactly `size` bytes that `proxy_on_memory_allocate` leaked for it.
    Ok(unsafe { Vec::from_raw_parts(value, size, size) })
}

impl From<Map> for u32 {
    fn from(map: Map) -> Self {
        match map {
            Map::Request => 0,
            Map::RequestTrailers => 1,
            Map::Response => 2,
            Map::ResponseTrailers => 3,
            Map::Callout => 6,
        }
    }
}

impl From<Buffer> for u32 {
    fn from(buffer: Buffer) -> Self {
        match buffer {
            Buffer::RequestBody => 0,
            Buffer::ResponseBody => 1,
            Buffer::CalloutBody => 4,
            Buffer::GrpcMessage => 5,
            Buffer::PluginConfiguration => 7,
        }
    }
}
