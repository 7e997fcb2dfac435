//! An upstream that answers as it is told and keeps what it saw, HTTP/1.1 and HTTP/2 without TLS on one port.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use mlgate::cases::Seen;
use mlgate::cases::file::Answer;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::background;

/// A running upstream; it stops when dropped.
#[derive(Debug)]
pub struct Scripted {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Script {
    answer: Answer,
    seen: Vec<Seen>,
}

// === impl Scripted ===

impl Scripted {
    /// Starts on a free loopback port.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("the upstream cannot listen")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let script = Arc::new(Mutex::new(Script::default()));
        let shared = Arc::clone(&script);
        let task = background::spawn(async move {
            // A socket belongs to the runtime that it was made on.
            if let Ok(listener) = TcpListener::from_std(listener) {
                serve(listener, shared).await;
            }
        });
        Ok(Self { address, script, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers so from now on, and forgets what it saw.
    pub fn expect(&self, answer: &Answer) {
        let mut script = lock(&self.script);
        script.answer = answer.clone();
        script.seen.clear();
    }

    /// What it saw since then, in order.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.script).seen.clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Between two pieces of an answer, so that they pass one by one.
const PAUSE: Duration = Duration::from_millis(3);

fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    // A panicking reader has changed nothing half.
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, script: Arc<Mutex<Script>>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = connections.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else { continue };
        let _slower = stream.set_nodelay(true);
        let script = Arc::clone(&script);
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&script)));
            let mut server = auto::Builder::new(TokioExecutor::new());
            // The default of 16 KiB would be the thing under test.
            server.http2().max_header_list_size(1 << 20);
            // How a caller left is no concern of the upstream.
            let _end = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    script: Arc<Mutex<Script>>,
) -> Result<Response<Channel<Bytes, Infallible>>, Infallible> {
    let (head, mut body) = request.into_parts();
    let path = head.uri.path_and_query().map_or_else(|| head.uri.to_string(), ToString::to_string);
    let index = {
        let mut script = lock(&script);
        script.seen.push(Seen { path, headers: fields(&head.headers), ..Seen::default() });
        script.seen.len().saturating_sub(1)
    };
    let change = |change: &dyn Fn(&mut Seen)| {
        if let Some(seen) = lock(&script).seen.get_mut(index) {
            change(seen);
        }
    };
    let mut broken = false;
    while let Some(frame) = body.frame().await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => change(&|seen| seen.body.extend_from_slice(&data)),
            Ok(Err(frame)) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                change(&|seen| seen.trailers = fields(&trailers));
            }
            Err(_) => {
                broken = true;
                break;
            }
        }
    }
    change(&|seen| seen.complete = !broken);

    let answer = lock(&script).answer.clone();
    let (mut sender, body) = Channel::new(1);
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or_default();
    *response.headers_mut() = map(&answer.headers);
    tokio::spawn(async move {
        for piece in answer.pieces() {
            if sender.send_data(Bytes::copy_from_slice(piece.as_bytes())).await.is_err() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        if !answer.trailers.is_empty() {
            let _gone = sender.send_trailers(map(&answer.trailers)).await;
        }
    });
    Ok(response)
}

fn fields(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

fn map<'a>(fields: impl IntoIterator<Item = (&'a String, &'a String)>) -> HeaderMap {
    let field = |(name, value): (&String, &String)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
    };
    fields.into_iter().filter_map(field).collect()
}
