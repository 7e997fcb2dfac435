//! Callers: one request, many on a connection, raw bytes, HTTP/2 with trailers, and every rude way to leave.
//!
//! [`get`], [`post`] and [`call`] take a new connection each. [`Http1`] and [`Http2`] keep one. [`raw`] sends exactly the
//! bytes it is given, [`abandon`] does so and leaves. Each wait for an answer is bounded by [`ANSWER_BOUND`].

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http::{HeaderMap, Request};

mod http1;
mod http2;

pub use http1::{Http1, Upload, abandon, raw};
pub use http2::{Call, Http2};

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers; names are lower case.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Trailers, where there were any (gRPC).
    pub trailers: Option<HeaderMap>,
}

// === impl Answer ===

impl Answer {
    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{} with a body that is no JSON: {}", self.status, self.text()))
    }

    /// The first value of a header, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    /// The gRPC status, from the trailers or from trailers-only headers.
    pub fn grpc_status(&self) -> Option<u32> {
        let trailers = self.trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
        trailers.or_else(|| self.headers.get("grpc-status"))?.to_str().ok()?.parse().ok()
    }

    /// Why mlgate refused: of a problem document, or of a gRPC message.
    pub fn reason(&self) -> Option<String> {
        if self.grpc_status().is_some_and(|status| status != 0) {
            let message = self.header("grpc-message")?;
            return message.split(':').next().map(str::to_owned);
        }
        let problem = self.header("content-type").is_some_and(|kind| kind == "application/problem+json");
        let body: serde_json::Value = problem.then(|| self.json().ok()).flatten()?;
        Some(body.get("reason")?.as_str()?.to_owned())
    }

    /// Envoy closes where it answers before it has read the whole request.
    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value == "close")
    }
}

/// How long a caller waits for an answer before it is a failure.
pub const ANSWER_BOUND: Duration = Duration::from_secs(30);

/// `GET` on a new connection.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    call(address, Request::get(path).body(Bytes::new())?).await
}

/// `POST` on a new connection; an empty `content_type` sends none.
pub async fn post(
    address: SocketAddr,
    path: &str,
    content_type: &str,
    body: impl Into<Bytes>,
) -> anyhow::Result<Answer> {
    let mut request = Request::post(path);
    if !content_type.is_empty() {
        request = request.header("content-type", content_type);
    }
    call(address, request.body(body.into())?).await
}

/// Any request on a new HTTP/1.1 connection. `host` is set from the address unless the request has one.
pub async fn call(address: SocketAddr, request: Request<Bytes>) -> anyhow::Result<Answer> {
    Http1::connect(address).await?.call(request).await
}

/// Bounds a wait for the other side.
pub(crate) async fn bounded<T>(
    what: &str,
    wait: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    match tokio::time::timeout(ANSWER_BOUND, wait).await {
        Ok(result) => result.with_context(|| what.to_owned()),
        Err(_) => Err(anyhow!("{what}: no answer within {ANSWER_BOUND:?}")),
    }
}
