//! A sample model server: HTTP/1.1 and HTTP/2 without TLS on one port, answering like vLLM (OpenAI's API), KServe and a
//! plain MLflow `/predict`, and writing down what it received.
//!
//! | request | answer |
//! |---|---|
//! | `GET /healthz` | `ok` |
//! | `GET /v1/models`, `GET /v1/models/{m}` | the list, one model |
//! | `POST /v1/chat/completions`, `/v1/completions` | a completion, or server-sent events where `"stream": true` |
//! | `POST /v1/embeddings` | one vector |
//! | `POST /v1/models/{m}:predict`, `/predict`, `/invocations` | `{"predictions": […]}` |
//! | content type `application/grpc` | an empty message and the trailer `grpc-status: 0` |
//! | anything else | 200 with `{"echo": true}` |
//!
//! Request headers change the answer:
//!
//! | header | effect |
//! |---|---|
//! | `x-sample-echo: 1` | adds `received` with method, path, headers and body length to a JSON answer |
//! | `x-sample-status: 500` | that status |
//! | `x-sample-delay-ms: 200` | waits first |
//! | `x-sample-events: 5`, `x-sample-interval-ms: 20` | how many events a stream has, and how far apart |
//! | `x-sample-size: 100000` | a body of so many bytes instead |
//! | `x-sample-reset: 1` | breaks off: after the first event of a stream, else before the answer |

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::background;

mod answers;

/// A running sample server; it stops when dropped.
#[derive(Debug)]
pub struct ModelServer {
    address: SocketAddr,
    record: Arc<Record>,
    task: JoinHandle<()>,
}

/// One request as the upstream saw it.
#[derive(Clone, Debug)]
pub struct Received {
    /// When its headers came.
    pub at: Instant,
    /// The protocol of the connection.
    pub version: Version,
    /// The method.
    pub method: Method,
    /// Path and query, as received.
    pub path: String,
    /// All headers.
    pub headers: HeaderMap,
    /// Body bytes received so far.
    pub body_bytes: u64,
    /// Whether the body came to its end; `false` while it is being read, and for ever when it broke off.
    pub complete: bool,
    /// Request trailers.
    pub trailers: Option<HeaderMap>,
}

/// What a server can do: it has room for so many requests at once, others wait in the order in which they came.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Requests in work at the same time.
    pub at_once: usize,
    /// How long one takes.
    pub each: Duration,
}

#[derive(Debug, Default)]
struct Record {
    state: Mutex<State>,
    /// Free places and the time that each request takes; no bound where there is none.
    places: Option<(Semaphore, Duration)>,
}

#[derive(Debug, Default)]
struct State {
    count: usize,
    first: usize,
    received: Vec<Received>,
}

// === impl ModelServer ===

impl ModelServer {
    /// Starts on a free loopback port.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts on this address.
    pub async fn start_on(address: SocketAddr) -> anyhow::Result<Self> {
        Self::start_with(address, Record::default()).await
    }

    /// Starts on this address with so much capacity and no more.
    pub async fn start_limited(address: SocketAddr, capacity: Capacity) -> anyhow::Result<Self> {
        let places = Some((Semaphore::new(capacity.at_once), capacity.each));
        Self::start_with(address, Record { places, ..Record::default() }).await
    }

    async fn start_with(address: SocketAddr, record: Record) -> anyhow::Result<Self> {
        let record = Arc::new(record);
        let shared = Arc::clone(&record);
        let (bound, address_bound) = tokio::sync::oneshot::channel();
        let task = background::spawn(async move {
            let listener = TcpListener::bind(address).await;
            let told =
                bound.send(listener.as_ref().map(TcpListener::local_addr).map_err(ToString::to_string));
            if let (Ok(listener), Ok(())) = (listener, told) {
                serve(listener, shared).await;
            }
        });
        let address =
            address_bound.await?.map_err(anyhow::Error::msg).context("the sample server cannot listen")??;
        Ok(Self { address, record, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests it has received since the start or [`Self::clear`].
    pub fn count(&self) -> usize {
        self.record.lock().count
    }

    /// The last requests, oldest first, at most [`RECORD_LIMIT`].
    pub fn requests(&self) -> Vec<Received> {
        self.record.lock().received.clone()
    }

    /// The last request.
    pub fn last(&self) -> Option<Received> {
        self.record.lock().received.last().cloned()
    }

    /// Forgets what was received.
    pub fn clear(&self) {
        let mut state = self.record.lock();
        state.first = state.first.saturating_add(state.received.len());
        state.received.clear();
        state.count = 0;
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Received ===

impl Received {
    /// The first value of a header, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    }
}

// === impl Record ===

impl Record {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panicking reader has changed nothing half.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a request down and gives its number.
    fn add(&self, received: Received) -> usize {
        let mut state = self.lock();
        state.count = state.count.saturating_add(1);
        if state.received.len() >= RECORD_LIMIT {
            state.received.remove(0);
            state.first = state.first.saturating_add(1);
        }
        state.received.push(received);
        state.first.saturating_add(state.received.len())
    }

    fn change(&self, number: usize, change: impl FnOnce(&mut Received)) {
        let mut state = self.lock();
        let index = number.checked_sub(state.first).and_then(|place| place.checked_sub(1));
        if let Some(received) = index.and_then(|index| state.received.get_mut(index)) {
            change(received);
        }
    }
}

/// How many requests are remembered; later ones push out the oldest.
pub const RECORD_LIMIT: usize = 10_000;

/// What of a request's body is looked at: the rest is counted only.
const BODY_READ: usize = 1 << 20;

async fn serve(listener: TcpListener, record: Arc<Record>) {
    background::accept(listener, |stream| {
        let record = Arc::clone(&record);
        async move {
            let service = service_fn(|request| answer(request, Arc::clone(&record)));
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http2().max_concurrent_streams(10_000);
            // Or hyper would throw away a whole request whose sender has closed right behind it.
            server.http1().half_close(true);
            // How a caller left is no concern of the server.
            let _end = server.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
}

async fn answer(request: Request<Incoming>, record: Arc<Record>) -> Result<answers::Response, Infallible> {
    let (head, mut body) = request.into_parts();
    let mut received = Received {
        at: Instant::now(),
        version: head.version,
        method: head.method,
        path: head.uri.path_and_query().map_or_else(|| head.uri.to_string(), ToString::to_string),
        headers: head.headers,
        body_bytes: 0,
        complete: false,
        trailers: None,
    };
    let number = record.add(received.clone());
    let mut content = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        match frame.into_data() {
            Ok(data) => {
                let room = BODY_READ.saturating_sub(content.len()).min(data.len());
                content.extend_from_slice(data.get(..room).unwrap_or_default());
                let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                received.body_bytes = received.body_bytes.saturating_add(length);
                record.change(number, |kept| kept.body_bytes = received.body_bytes);
            }
            Err(frame) => received.trailers = frame.into_trailers().ok(),
        }
    }
    received.complete = hyper::body::Body::is_end_stream(&body) || received.version == Version::HTTP_11;
    record.change(number, |kept| {
        kept.trailers.clone_from(&received.trailers);
        kept.complete = received.complete;
    });
    if let Some((free, each)) = &record.places {
        let _place = free.acquire().await;
        tokio::time::sleep(*each).await;
    }
    Ok(answers::make(&received, Bytes::from(content)).await)
}
