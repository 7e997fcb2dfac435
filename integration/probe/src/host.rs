//! Our own externs beside the SDK's: every status is a number that nobody panics on.

use std::ptr;

pub const OK: u32 = 0;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, length: usize) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        key: *const u8,
        key_length: usize,
        value: *mut *mut u8,
        length: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        key: *const u8,
        key_length: usize,
        value: *const u8,
        length: usize,
    ) -> u32;
    fn proxy_add_header_map_value(
        map: u32,
        key: *const u8,
        key_length: usize,
        value: *const u8,
        length: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, key: *const u8, key_length: usize) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_length: usize,
        value: *mut *mut u8,
        length: *mut usize,
    ) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        length: usize,
        value: *mut *mut u8,
        got: *mut usize,
    ) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_length: usize,
        value: *mut *mut u8,
        length: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        key_length: usize,
        value: *const u8,
        length: usize,
        cas: u32,
    ) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_length: usize,
        argument: *const u8,
        length: usize,
        result: *mut *mut u8,
        got: *mut usize,
    ) -> u32;
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
    fn proxy_http_call(
        upstream: *const u8,
        upstream_length: usize,
        headers: *const u8,
        headers_length: usize,
        body: *const u8,
        body_length: usize,
        trailers: *const u8,
        trailers_length: usize,
        timeout: u32,
        token: *mut u32,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, length: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, by: i64) -> u32;
}

pub const REQUEST_HEADERS: u32 = 0;
pub const REQUEST_BODY: u32 = 0;
pub const CALL_HEADERS: u32 = 6;

/// Takes over what the host let us allocate; null is nothing, which at status 0 means empty.
unsafe fn owned(value: *mut u8, length: usize) -> Vec<u8> {
    if value.is_null() {
        return Vec::new();
    }
    // SAFETY: the SDK's `proxy_on_memory_allocate` made exactly this block with our allocator, for us to free.
    unsafe { Vec::from_raw_parts(value, length, length) }
}

pub fn log(line: &str) {
    const INFO: u32 = 2;
    // SAFETY: the host reads `length` bytes.
    unsafe { proxy_log(INFO, line.as_ptr(), line.len()) };
}

pub fn set_tick_period(ms: u32) -> u32 {
    // SAFETY: no memory is involved.
    unsafe { proxy_set_tick_period_milliseconds(ms) }
}

pub fn set_effective_context(context: u32) -> u32 {
    // SAFETY: no memory is involved.
    unsafe { proxy_set_effective_context(context) }
}

pub fn resume_request() -> u32 {
    // SAFETY: no memory is involved.
    unsafe { proxy_continue_stream(0) }
}

pub fn header(map: u32, name: &str) -> (u32, Vec<u8>) {
    let (mut value, mut length) = (ptr::null_mut(), 0);
    // SAFETY: the host reads the key and writes the two results.
    unsafe {
        let status = proxy_get_header_map_value(map, name.as_ptr(), name.len(), &mut value, &mut length);
        (status, owned(value, length))
    }
}

pub fn replace_header(name: &str, value: &str) -> u32 {
    // SAFETY: the host reads key and value.
    unsafe {
        proxy_replace_header_map_value(
            REQUEST_HEADERS,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    }
}

pub fn add_header(name: &str, value: &str) -> u32 {
    // SAFETY: the host reads key and value.
    unsafe {
        proxy_add_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    }
}

pub fn remove_header(name: &str) -> u32 {
    // SAFETY: the host reads the key.
    unsafe { proxy_remove_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len()) }
}

pub fn property(path: &[&str]) -> (u32, Vec<u8>) {
    let path = path.join("\0");
    let (mut value, mut length) = (ptr::null_mut(), 0);
    // SAFETY: the host reads the path and writes the two results.
    unsafe {
        let status = proxy_get_property(path.as_ptr(), path.len(), &mut value, &mut length);
        (status, owned(value, length))
    }
}

pub fn body(buffer: u32, length: usize) -> (u32, Vec<u8>) {
    let (mut value, mut got) = (ptr::null_mut(), 0);
    // SAFETY: the host writes the two results.
    unsafe {
        let status = proxy_get_buffer_bytes(buffer, 0, length, &mut value, &mut got);
        (status, owned(value, got))
    }
}

pub fn shared(key: &str) -> (u32, Vec<u8>, u32) {
    let (mut value, mut length, mut cas) = (ptr::null_mut(), 0, 0);
    // SAFETY: the host reads the key and writes the three results.
    unsafe {
        let status = proxy_get_shared_data(key.as_ptr(), key.len(), &mut value, &mut length, &mut cas);
        (status, owned(value, length), cas)
    }
}

pub fn set_shared(key: &str, value: &[u8], cas: u32) -> u32 {
    // SAFETY: the host reads key and value.
    unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) }
}

pub fn foreign(name: &str, argument: &[u8]) -> (u32, Vec<u8>) {
    let (mut value, mut length) = (ptr::null_mut(), 0);
    // SAFETY: the host reads name and argument and writes the two results.
    unsafe {
        let status = proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            argument.as_ptr(),
            argument.len(),
            &mut value,
            &mut length,
        );
        (status, owned(value, length))
    }
}

/// `grpc_status` −1: Envoy maps the HTTP status itself.
pub fn reply(status: u32, headers: &[(&str, &str)], body: &str, grpc_status: i32) -> u32 {
    let headers = pairs(headers);
    // SAFETY: the host reads details, body and headers.
    unsafe {
        proxy_send_local_response(
            status,
            ptr::null(),
            0,
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status,
        )
    }
}

/// The extern that must stay the SDK's: its dispatcher does not learn of the token.
pub fn raw_http_call(cluster: &str, headers: &[(&str, &str)], timeout_ms: u32) -> (u32, u32) {
    let (headers, trailers, mut token) = (pairs(headers), pairs(&[]), 0);
    // SAFETY: the host reads all four and writes the token.
    unsafe {
        let status = proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            headers.as_ptr(),
            headers.len(),
            ptr::null(),
            0,
            trailers.as_ptr(),
            trailers.len(),
            timeout_ms,
            &mut token,
        );
        (status, token)
    }
}

pub fn define_counter(name: &str) -> u32 {
    let mut id = 0;
    // SAFETY: the host reads the name and writes the id.
    unsafe { proxy_define_metric(0, name.as_ptr(), name.len(), &mut id) };
    id
}

pub fn add(metric: u32, by: i64) {
    // SAFETY: no memory is involved.
    unsafe { proxy_increment_metric(metric, by) };
}

/// The ABI's form of a header map: count, then all lengths, then all texts with a zero after each.
fn pairs(headers: &[(&str, &str)]) -> Vec<u8> {
    let word = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = word(headers.len()).to_vec();
    for (name, value) in headers {
        bytes.extend(word(name.len()));
        bytes.extend(word(value.len()));
    }
    for (name, value) in headers {
        for text in [name, value] {
            bytes.extend(text.as_bytes());
            bytes.push(0);
        }
    }
    bytes
}
