//! What the sample server says: a request → an answer like a real model server's.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::Received;

/// An answer whose body may come over time and may break off.
pub(super) type Response = http::Response<BoxBody<Bytes, BrokenOff>>;

/// The server broke off, as it was asked to.
#[derive(Debug)]
pub(super) struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the sample server broke off as asked")
    }
}

impl std::error::Error for BrokenOff {}

/// Answers one request; `body` is its first MiB.
pub(super) async fn make(request: &Received, body: Bytes) -> Response {
    if let Some(delay) = number(request, "x-sample-delay-ms") {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let reset = request.headers.contains_key("x-sample-reset");
    let status = number(request, "x-sample-status")
        .and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok())
        .unwrap_or(StatusCode::OK);
    if let Some(size) = number(request, "x-sample-size").and_then(|size| usize::try_from(size).ok()) {
        return respond(status, "application/octet-stream", whole(vec![b'x'; size.min(SIZE_LIMIT)]));
    }
    let asked: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if is_grpc(request) {
        return grpc();
    }
    if asked.get("stream") == Some(&Value::Bool(true)) && request.path.starts_with("/v1/") {
        let events = number(request, "x-sample-events").unwrap_or(5).min(EVENT_LIMIT);
        let interval = Duration::from_millis(number(request, "x-sample-interval-ms").unwrap_or(20));
        return respond(status, "text/event-stream", stream(&asked, events, interval, reset));
    }
    if reset {
        let (mut sender, body) = Channel::new(1);
        tokio::spawn(async move {
            let _gone = sender.send_data(Bytes::from_static(b"{")).await;
            sender.abort(BrokenOff);
        });
        return respond(status, "application/json", body.boxed());
    }
    let path = request.path.split('?').next().unwrap_or_default();
    if path == "/healthz" {
        return respond(status, "text/plain", whole("ok"));
    }
    let mut content = content(&request.method, path, &asked);
    if request.headers.contains_key("x-sample-echo")
        && let Value::Object(fields) = &mut content
    {
        fields.insert("received".to_owned(), received(request));
    }
    respond(status, "application/json", whole(content.to_string()))
}

const EVENT_LIMIT: u64 = 10_000;
const SIZE_LIMIT: usize = 256 << 20;

fn content(method: &Method, path: &str, asked: &Value) -> Value {
    let model = asked.get("model").and_then(Value::as_str).unwrap_or("sample");
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12});
    let predictions = json!({"predictions": [0.93]});
    match (method.as_str(), path) {
        ("GET", "/v1/models") => json!({"object": "list", "data": [
            {"id": "sample", "object": "model", "created": 0, "owned_by": "acme"},
        ]}),
        ("POST", "/v1/chat/completions") => json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": model,
            "choices": [{"index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": "Hello from the sample model."}}],
            "usage": usage,
        }),
        ("POST", "/v1/completions") => json!({
            "id": "cmpl-1", "object": "text_completion", "created": 0, "model": model,
            "choices": [{"index": 0, "finish_reason": "stop", "text": "Hello from the sample model."}],
            "usage": usage,
        }),
        ("POST", "/v1/embeddings") => json!({
            "object": "list", "model": model,
            "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2, 0.3]}],
            "usage": {"prompt_tokens": 7, "total_tokens": 7},
        }),
        ("POST", "/predict" | "/invocations") => predictions,
        ("POST", path) if path.ends_with(":predict") => predictions,
        ("GET", path) if path.starts_with("/v1/models/") => {
            let model = path.trim_start_matches("/v1/models/");
            json!({"id": model, "object": "model", "created": 0, "owned_by": "acme", "name": model, "ready": true})
        }
        ("DELETE", path) if path.starts_with("/v1/models/") => {
            json!({"id": path.trim_start_matches("/v1/models/"), "object": "model", "deleted": true})
        }
        _ => json!({"echo": true}),
    }
}

fn received(request: &Received) -> Value {
    let mut headers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in &request.headers {
        headers
            .entry(name.as_str())
            .or_default()
            .push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    json!({
        "method": request.method.as_str(),
        "path": request.path,
        "version": format!("{:?}", request.version),
        "headers": headers,
        "body_bytes": request.body_bytes,
    })
}

/// Events as vLLM sends them, with usage at the end where the caller asks for it.
fn stream(asked: &Value, events: u64, interval: Duration, reset: bool) -> BoxBody<Bytes, BrokenOff> {
    let model = asked.get("model").and_then(Value::as_str).unwrap_or("sample").to_owned();
    let with_usage = asked.pointer("/stream_options/include_usage") == Some(&Value::Bool(true));
    let (mut sender, body) = Channel::new(1);
    tokio::spawn(async move {
        for number in 0..events {
            let choice =
                json!({"index": 0, "delta": {"content": format!("word{number} ")}, "finish_reason": null});
            if say(&mut sender, &chunk(&model, &json!([choice]))).await.is_none() {
                return;
            }
            if reset {
                sender.abort(BrokenOff);
                return;
            }
            tokio::time::sleep(interval).await;
        }
        if with_usage {
            let mut last = chunk(&model, &json!([]));
            if let Value::Object(fields) = &mut last {
                let usage = json!({"prompt_tokens": 7, "completion_tokens": events, "total_tokens": events.saturating_add(7)});
                fields.insert("usage".to_owned(), usage);
            }
            if say(&mut sender, &last).await.is_none() {
                return;
            }
        }
        // A caller that left early does not need the end.
        let _gone = sender.send_data(Bytes::from_static(b"data: [DONE]\n\n")).await;
    });
    body.boxed()
}

fn chunk(model: &str, choices: &Value) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": model, "choices": choices})
}

async fn say(sender: &mut Sender<Bytes, BrokenOff>, event: &Value) -> Option<()> {
    sender.send_data(Bytes::from(format!("data: {event}\n\n"))).await.ok()
}

fn is_grpc(request: &Received) -> bool {
    request.headers.get("content-type").is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn grpc() -> Response {
    // One message: not compressed, no bytes.
    let message = Bytes::from_static(&[0, 0, 0, 0, 0]);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(message).with_trailers(async move { Some(Ok(trailers)) });
    respond(StatusCode::OK, "application/grpc", body.map_err(|never| match never {}).boxed())
}

fn whole(content: impl Into<Bytes>) -> BoxBody<Bytes, BrokenOff> {
    Full::new(content.into()).map_err(|never| match never {}).boxed()
}

fn respond(status: StatusCode, content_type: &'static str, body: BoxBody<Bytes, BrokenOff>) -> Response {
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
    response
}

fn number(request: &Received, header: &str) -> Option<u64> {
    request.headers.get(header)?.to_str().ok()?.parse().ok()
}
