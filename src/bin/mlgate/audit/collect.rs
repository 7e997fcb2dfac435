//! `mlgate audit collect`: takes batches over HTTP and answers when they are on disk.
//!
//! Requests are read and checked side by side; one thread writes. It takes everything that waits at once, so that
//! one wait for the disk serves many requests.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Args;
use mlgate::audit::chain::MacKey;
use mlgate::audit::sealed::{Authenticity, MAX_LINE_BYTES, SealedEvent};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::store::{Apart, Arrival, Store, StoreError};
use super::{ChainKey, keys, say};
use crate::Stop;
use crate::environment::now;

mod connections;
mod lists;

/// Takes audit events from gates and keeps them: durably, once, and with the time of their arrival.
///
/// Answers a batch when it is on disk. A log that was torn by a crash is repaired, and what was torn is kept beside it.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct CollectCommand {
    /// Address and port; port 0 takes a free one. The address that was bound is printed as `listening on …`.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// The log, one event on each line. Events with a wrong MAC and lines that are no events go to FILE.rejected.
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    /// A key of the chains: its id, and the environment variable that holds it. With keys, only what they prove
    /// gets into the log.
    #[arg(long = "chain-key", value_name = "ID=ENV", value_parser = ChainKey::parse)]
    chain_keys: Vec<ChainKey>,
    /// Also serve the lists of this folder that gates poll, `NAME.json` as `/lists/NAME.json`, with an ETag.
    #[arg(long, value_name = "DIR")]
    serve_lists: Option<PathBuf>,
}

const HELP: &str = "Examples:
  mlgate audit collect --listen 127.0.0.1:4480 --log audit.log
  mlgate audit collect --listen 0.0.0.0:4480 --log audit.log --chain-key c1=MLGATE_CHAIN_KEY_1
  mlgate audit collect --listen 127.0.0.1:4480 --log audit.log --serve-lists lists
  curl --data-binary @batch.ndjson http://127.0.0.1:4480/v1/audit
  curl http://127.0.0.1:4480/healthz

Exit codes: 0 fine, 1 failure, 3 invalid input";

/// Bytes of one request: the last batch of a gate is the largest.
const MAX_REQUEST_BYTES: usize = 8 << 20;

/// Events of one request.
const MAX_REQUEST_EVENTS: usize = 32_768;

/// Requests that are read and checked at the same time; the next is told to come again.
const MAX_READING: usize = 32;

/// How long a request may take to arrive.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Requests that wait for the disk.
const MAX_WAITING: usize = 64;

/// Bytes after which no further request joins a write.
const COMMIT_BYTES: usize = 16 << 20;

/// How long requests may take to end when the collector is told to.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// Numbers that are on disk, by chain.
type Acked = BTreeMap<String, u64>;

/// One request that was read and checked.
struct Submission {
    arrivals: Vec<Arrival>,
    apart: Vec<Apart>,
    bytes: usize,
    acked: Acked,
    reply: oneshot::Sender<Result<(), Refusal>>,
}

/// Why a request was not taken.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    what: String,
}

#[derive(Clone)]
struct Collector {
    keys: Arc<[MacKey]>,
    reading: Arc<Semaphore>,
    writer: mpsc::Sender<Submission>,
    healthy: Arc<AtomicBool>,
}

/// Runs until it is told to end.
pub(super) fn run(command: &CollectCommand) -> Result<(), Stop> {
    let keys = keys(&command.chain_keys)?;
    let lists = command.serve_lists.as_deref().map(lists::Lists::open).transpose()?;
    let store = Store::open(&command.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Stop::failure("threads", error, "allow more"))?;
    let (writer, submissions) = mpsc::channel(MAX_WAITING);
    let healthy = Arc::new(AtomicBool::new(true));
    let health = Arc::clone(&healthy);
    let (broken, is_broken) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        let result = write(store, submissions, &health);
        // nobody may be left to be told
        let _ = broken.send(());
        result
    });
    let collector =
        Collector { keys: keys.into(), reading: Arc::new(Semaphore::new(MAX_READING)), writer, healthy };
    let router = lists.map_or_else(Router::new, lists::Lists::router).merge(router(collector));
    let served = runtime.block_on(serve(command.listen, router, is_broken));
    // what is not finished now lets go of the writer
    runtime.shutdown_timeout(Duration::from_secs(1));
    let written = thread
        .join()
        .unwrap_or_else(|_| Err(std::io::Error::other("the writing thread is gone")))
        .map_err(|error| Stop::failure(command.log.display(), error, "check the disk, then start again"));
    served.and(written)
}

async fn serve(listen: SocketAddr, router: Router, broken: oneshot::Receiver<()>) -> Result<(), Stop> {
    let failure =
        |error: std::io::Error| Stop::failure(listen, error, "name an address and port that are free");
    let listener = TcpListener::bind(listen).await.map_err(failure)?;
    let bound = listener.local_addr().map_err(failure)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(failure)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(failure)?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on {bound}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Stop::failure("standard output", error, "keep it open"))?;
    drop(stdout);

    let told = async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
            _ = broken => {}
        }
    };
    connections::serve(listener, router, told, SHUTDOWN).await;
    Ok(())
}

fn router(collector: Collector) -> Router {
    Router::new().route("/v1/audit", post(take)).route("/healthz", get(health)).with_state(collector)
}

async fn health(State(collector): State<Collector>) -> Response {
    if collector.healthy.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the log cannot be written\n").into_response()
    }
}

async fn take(State(collector): State<Collector>, body: Body) -> Response {
    match collect(&collector, body).await {
        Ok((acked, rejected)) => {
            let mut answer = serde_json::json!({ "acked": acked });
            if rejected > 0
                && let Some(answer) = answer.as_object_mut()
            {
                answer.insert(String::from("rejected"), rejected.into());
            }
            ([(header::CONTENT_TYPE, "application/json")], format!("{answer}\n")).into_response()
        }
        Err(Refusal { status, what }) => (status, format!("{what}\n")).into_response(),
    }
}

async fn collect(collector: &Collector, body: Body) -> Result<(Acked, usize), Refusal> {
    let busy = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests at the same time");
    let reading = Arc::clone(&collector.reading).try_acquire_owned().map_err(|_| busy())?;
    let bytes = tokio::time::timeout(READ_TIMEOUT, axum::body::to_bytes(body, MAX_REQUEST_BYTES))
        .await
        .map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time"))?
        .map_err(|_| {
            Refusal::too_large(format!("more than {MAX_REQUEST_BYTES} bytes, or the connection broke"))
        })?;
    let keys = Arc::clone(&collector.keys);
    let (reply, replied) = oneshot::channel();
    let submission = tokio::task::spawn_blocking(move || check(&bytes, &keys, reply))
        .await
        .map_err(|_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the check did not end"))??;
    let (acked, rejected) = (submission.acked.clone(), submission.apart.len());
    let gone = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the log cannot be written");
    collector.writer.send(submission).await.map_err(|_| gone())?;
    replied.await.map_err(|_| gone())??;
    drop(reading);
    Ok((acked, rejected))
}

/// Reads and checks the lines of one request.
fn check(
    body: &[u8],
    keys: &[MacKey],
    reply: oneshot::Sender<Result<(), Refusal>>,
) -> Result<Submission, Refusal> {
    let at = now();
    let mut submission =
        Submission { arrivals: Vec::new(), apart: Vec::new(), bytes: body.len(), acked: Acked::new(), reply };
    let mut events: usize = 0;
    let mut unreadable = None;
    for (number, line) in (1_usize..).zip(body.split(|byte| *byte == b'\n')) {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        events = events.saturating_add(1);
        if events > MAX_REQUEST_EVENTS {
            return Err(Refusal::too_large(format!("more than {MAX_REQUEST_EVENTS} events")));
        }
        if line.len() > MAX_LINE_BYTES {
            return Err(Refusal::too_large(format!("line {number} has more than {MAX_LINE_BYTES} bytes")));
        }
        let apart = |reason: String| Apart { at, reason, line: line.to_owned() };
        match SealedEvent::parse(line) {
            Err(error) => {
                unreadable.get_or_insert_with(|| format!("line {number} is no event: {error}"));
                submission.apart.push(apart(error.to_string()));
            }
            Ok(event) => {
                let proof = if keys.is_empty() { Authenticity::Proven } else { event.authenticity(keys) };
                let acked = submission.acked.entry(event.chain.clone()).or_insert(event.seq);
                *acked = event.seq.max(*acked);
                let what = |what: &str| apart(format!("{what}: {} seq {}", event.chain, event.seq));
                match proof {
                    Authenticity::Proven => submission.arrivals.push(Arrival { event, at }),
                    Authenticity::Unkeyed => submission.apart.push(what("unkeyed, and keys are asked for")),
                    Authenticity::Wrong => submission.apart.push(what("the MAC is wrong")),
                    // most likely the gate has a new key already: it will ask again
                    Authenticity::UnknownKey => {
                        let key = event.kid().unwrap_or_default().escape_debug().to_string();
                        let what = format!("the chain key `{key}` is unknown: add --chain-key {key}=ENV");
                        say(format_args!("{what}"));
                        return Err(Refusal { status: StatusCode::SERVICE_UNAVAILABLE, what });
                    }
                }
            }
        }
    }
    match unreadable {
        Some(what) if submission.acked.is_empty() => {
            Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, &what))
        }
        _ => Ok(submission),
    }
}

/// The writing thread: ends when no request is left, or with the disk.
fn write(
    mut store: Store,
    mut submissions: mpsc::Receiver<Submission>,
    healthy: &AtomicBool,
) -> std::io::Result<()> {
    while let Some(first) = submissions.blocking_recv() {
        let mut bytes = first.bytes;
        let mut commit = vec![first];
        while bytes < COMMIT_BYTES
            && let Ok(next) = submissions.try_recv()
        {
            bytes = bytes.saturating_add(next.bytes);
            commit.push(next);
        }
        let mut kept = keep(&mut store, &commit);
        if let Err(StoreError::RejectedFull) = kept {
            // anybody may send what is set apart: it must not keep the others from the log
            say(format_args!("too much was set apart: look at the file and remove it"));
            let (full, others) = commit.into_iter().partition(|submission| !submission.apart.is_empty());
            answer(full, Some((StatusCode::INSUFFICIENT_STORAGE, "too much was set apart")));
            commit = others;
            kept = keep(&mut store, &commit);
        }
        healthy.store(kept.is_ok(), Ordering::Relaxed);
        let refusal = kept.as_ref().err().map(|error| {
            if let StoreError::Again(error) | StoreError::Broken(error) = error {
                say(format_args!("the log cannot be written: {error}"));
            }
            (StatusCode::SERVICE_UNAVAILABLE, "the log cannot be written")
        });
        answer(commit, refusal);
        if let Err(StoreError::Broken(error)) = kept {
            return Err(error);
        }
    }
    Ok(())
}

fn keep(store: &mut Store, commit: &[Submission]) -> Result<(), StoreError> {
    let arrivals = commit.iter().flat_map(|submission| &submission.arrivals);
    store.keep(arrivals, commit.iter().flat_map(|submission| &submission.apart))
}

fn answer(commit: Vec<Submission>, refusal: Option<(StatusCode, &str)>) {
    for submission in commit {
        let reply = refusal.map_or(Ok(()), |(status, what)| Err(Refusal::new(status, what)));
        // whoever asked may have left
        drop(submission.reply.send(reply));
    }
}

// === impl Refusal ===

impl Refusal {
    fn new(status: StatusCode, what: &str) -> Self {
        Self { status, what: what.to_owned() }
    }

    const fn too_large(what: String) -> Self {
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, what }
    }
}

#[cfg(test)]
mod tests {
    use mlgate::audit::chain::{Chain, Signer};
    use mlgate::audit::event::{AuditEvent, OpenEvent};

    use super::super::store::MAX_REJECTED_BYTES;
    use super::*;

    #[test]
    fn who_fills_the_rejected_file_keeps_nobody_from_the_log() {
        let folder = std::env::temp_dir().join(format!("mlgate-collect-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let log = folder.join("audit.log");
        let full = std::fs::File::create(folder.join("audit.log.rejected")).unwrap();
        full.set_len(MAX_REJECTED_BYTES).unwrap();
        let mut event = Vec::new();
        let open = AuditEvent::Open(OpenEvent::default()).draft("gate");
        Chain::new("gate", [1; 16]).seal(&open, &Signer::Unkeyed, &mut event);

        let (sender, waiting) = mpsc::channel(2);
        let mut replies = [b"{\"v\":1}\n".as_slice(), b""].map(|garbage| {
            let (reply, replied) = oneshot::channel();
            let body = [garbage, &event].concat();
            drop(sender.try_send(check(&body, &[], reply).unwrap_or_else(|_| panic!("not checked"))));
            replied
        });
        drop(sender);
        write(Store::open(&log).unwrap_or_else(|_| panic!("no log")), waiting, &AtomicBool::new(true))
            .unwrap();
        let refused =
            replies.each_mut().map(|reply| reply.try_recv().unwrap().err().map(|refusal| refusal.status));
        let lines = std::fs::read_to_string(&log).unwrap().lines().count();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(refused, [Some(StatusCode::INSUFFICIENT_STORAGE), None]);
        assert_eq!(lines, 1);
    }
}
