//! An upstream that writes down WHEN each thing came: connection, header block, body bytes, trailers, resets.
//!
//! HTTP/1 is read as raw TCP, so that not one byte can hide behind a library; HTTP/2 through the `h2` crate, stream by
//! stream. Every complete request is answered 200 with the request's `x-id` header in the answer's body.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http::HeaderMap;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::background;

mod http1;
mod http2;

/// A running recorder; it stops when dropped.
#[derive(Debug)]
pub struct Recorder {
    address: SocketAddr,
    events: Events,
    task: JoinHandle<()>,
}

/// Something that reached the upstream.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// The number of the connection, from 0.
    pub connection: usize,
    /// The stream on it: HTTP/2's number, 0 in HTTP/1.
    pub stream: u32,
    /// What.
    pub what: Seen,
}

/// What reached the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A connection was opened.
    Connected,
    /// A whole header block.
    Headers {
        /// The method.
        method: String,
        /// Path and query.
        path: String,
        /// The headers.
        headers: HeaderMap,
    },
    /// Bytes of a body. In HTTP/1 as on the wire: chunk sizes are counted too.
    Body(usize),
    /// Trailers.
    Trailers(HeaderMap),
    /// The request came to its end and was answered.
    End,
    /// The stream was reset (the HTTP/2 error code), or in HTTP/1 the connection closed inside a request (0).
    Reset(u32),
    /// The connection closed between requests.
    Closed,
}

type Events = Arc<Log>;

#[derive(Debug, Default)]
struct Log {
    events: Mutex<Vec<Event>>,
}

// === impl Recorder ===

impl Recorder {
    /// Starts an upstream that reads raw HTTP/1.1.
    pub async fn http1() -> anyhow::Result<Self> {
        Self::start(false).await
    }

    /// Starts an upstream that speaks HTTP/2 without TLS.
    pub async fn http2() -> anyhow::Result<Self> {
        Self::start(true).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that came, in order.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().clone()
    }

    /// What came apart from connections being opened and closed: Envoy may connect whenever it likes.
    pub fn requests(&self) -> Vec<Event> {
        let mut events = self.events();
        events.retain(|event| !matches!(event.what, Seen::Connected | Seen::Closed));
        events
    }

    /// Forgets what came.
    pub fn clear(&self) {
        self.events.lock().clear();
    }

    /// The body bytes that came so far.
    pub fn body_bytes(&self) -> usize {
        let bytes =
            self.events().into_iter().map(|event| if let Seen::Body(bytes) = event.what { bytes } else { 0 });
        bytes.fold(0, usize::saturating_add)
    }

    /// Waits until something satisfies `is_it`, at most five seconds.
    pub async fn wait_for(&self, what: &str, is_it: impl Fn(&Seen) -> bool) -> anyhow::Result<Event> {
        let start = Instant::now();
        loop {
            if let Some(event) = self.events().into_iter().find(|event| is_it(&event.what)) {
                return Ok(event);
            }
            if start.elapsed() > EVENT_BOUND {
                bail!("the upstream did not see {what} within {EVENT_BOUND:?} but {:#?}", self.events());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn start(http2: bool) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("the recorder cannot listen")?;
        let address = listener.local_addr()?;
        let listener = listener.into_std()?;
        let events = Events::default();
        let log = Arc::clone(&events);
        let task = background::spawn(async move {
            // A socket belongs to the runtime that it was made on.
            if let Ok(listener) = TcpListener::from_std(listener) {
                serve(listener, http2, log).await;
            }
        });
        Ok(Self { address, events, task })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Log ===

impl Log {
    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        // A panicking reader has changed nothing half.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, connection: usize, stream: u32, what: Seen) {
        let mut events = self.lock();
        if events.len() < EVENT_LIMIT {
            events.push(Event { at: Instant::now(), connection, stream, what });
        }
    }
}

const EVENT_BOUND: Duration = Duration::from_secs(5);
const EVENT_LIMIT: usize = 1_000_000;

async fn serve(listener: TcpListener, http2: bool, log: Events) {
    let mut numbers = 0..;
    background::accept(listener, |stream| {
        let (log, number) = (Arc::clone(&log), numbers.next().unwrap_or(usize::MAX));
        log.add(number, 0, Seen::Connected);
        async move {
            if http2 {
                http2::record(stream, number, log).await;
            } else {
                http1::record(stream, number, log).await;
            }
        }
    })
    .await;
}

/// The answer to a complete request: its own id.
fn answer_body(headers: &HeaderMap) -> Vec<u8> {
    headers.get("x-id").map(|id| id.as_bytes().to_vec()).unwrap_or_default()
}
