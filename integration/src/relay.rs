//! A relay in front of an upstream, HTTP/1.1 byte by byte: it keeps what is asked, and can be down, slow, or answer anything
//! at all, as an issuer does on a bad day.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::background;

/// A running relay; it stops when dropped. Each request has a connection of its own.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Manner {
    /// The upstream answers.
    Pass,
    /// The upstream is asked only after this time.
    Late(Duration),
    /// It is read, and the connection closes.
    Closed,
    /// Exactly these bytes, then the connection closes.
    Bytes(Bytes),
    /// These bytes, then others again and again, until the other side leaves.
    Endless {
        /// Sent once.
        head: Bytes,
        /// Sent every [`PAUSE`].
        piece: Bytes,
    },
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When.
    pub at: Instant,
    /// Its method.
    pub method: String,
    /// Its path with the query.
    pub path: String,
    /// Its head as it came.
    pub head: String,
}

#[derive(Debug, Default)]
struct State {
    manner: Vec<(String, Manner)>,
    asked: Vec<Asked>,
}

/// Between two pieces of an endless answer.
pub const PAUSE: Duration = Duration::from_millis(20);

const HEAD_LIMIT: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

// === impl Manner ===

impl Manner {
    /// A 200 with this content type and body, its length announced.
    pub fn ok(content_type: &str, body: impl AsRef<[u8]>) -> Self {
        Self::answer("200 OK", &format!("content-type: {content_type}\r\n"), body.as_ref())
    }

    /// An answer of this status with these lines of headers (each with its end), its length announced.
    pub fn answer(status: &str, headers: &str, body: &[u8]) -> Self {
        let head = format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        Self::Bytes([head.as_bytes(), body].concat().into())
    }
}

// === impl Relay ===

impl Relay {
    /// Starts one on a free loopback port, before this upstream.
    pub async fn before(upstream: SocketAddr) -> anyhow::Result<Self> {
        Self::start(Some(upstream)).await
    }

    /// Starts one with nothing behind it: it closes what it is not told to answer.
    pub async fn alone() -> anyhow::Result<Self> {
        Self::start(None).await
    }

    async fn start(upstream: Option<SocketAddr>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("the relay cannot listen")?;
        let address = listener.local_addr()?;
        let listener = listener.into_std()?;
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let task = background::spawn(async move {
            // A socket belongs to the runtime that it was made on.
            if let Ok(listener) = TcpListener::from_std(listener) {
                background::accept(listener, |stream| {
                    let state = Arc::clone(&shared);
                    async move {
                        // How the other side left is no concern of the relay.
                        let _end = relay(stream, upstream, &state).await;
                    }
                })
                .await;
            }
        });
        Ok(Self { address, state, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on everything is treated so.
    pub fn treat(&self, manner: Manner) {
        lock(&self.state).manner = vec![(String::new(), manner)];
    }

    /// From now on what begins with this path is treated so; the rest as before.
    pub fn treat_at(&self, path: &str, manner: Manner) {
        let mut state = lock(&self.state);
        state.manner.retain(|(other, _)| other != path);
        state.manner.insert(0, (path.to_owned(), manner));
    }

    /// Every request to paths that begin so, since [`Self::forget`].
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        lock(&self.state).asked.iter().filter(|asked| asked.path.starts_with(path)).cloned().collect()
    }

    /// How many.
    pub fn count(&self, path: &str) -> usize {
        self.asked(path).len()
    }

    /// Forgets what it was asked.
    pub fn forget(&self) {
        lock(&self.state).asked.clear();
    }

    /// Waits until it was asked so often for paths that begin so.
    pub async fn wait_for(&self, path: &str, count: usize, bound: Duration) -> anyhow::Result<()> {
        let enough = async {
            while self.count(path) < count {
                sleep(POLL).await;
            }
        };
        match timeout(bound, enough).await {
            Ok(()) => Ok(()),
            Err(_) => bail!("asked {} times for `{path}` in {bound:?}, not {count}", self.count(path)),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A panicking reader has changed nothing half.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn relay(
    mut stream: TcpStream,
    upstream: Option<SocketAddr>,
    state: &Mutex<State>,
) -> anyhow::Result<()> {
    let (head, body) = timeout(PATIENCE, request(&mut stream)).await??;
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let manner = {
        let mut state = lock(state);
        state.asked.push(Asked {
            at: Instant::now(),
            method: method.to_owned(),
            path: path.to_owned(),
            head: head.clone(),
        });
        let manner = state.manner.iter().find(|(prefix, _)| path.starts_with(prefix.as_str()));
        manner.map_or(Manner::Pass, |(_, manner)| manner.clone())
    };
    match manner {
        Manner::Pass => {}
        Manner::Late(delay) => sleep(delay).await,
        Manner::Closed => return Ok(()),
        Manner::Bytes(bytes) => return finish(stream, &bytes).await,
        Manner::Endless { head, piece } => return endless(stream, &head, &piece).await,
    }
    let mut upstream = TcpStream::connect(upstream.context("nothing behind")?).await?;
    upstream.write_all(&forwarded(&head)).await?;
    upstream.write_all(&body).await?;
    tokio::io::copy(&mut upstream, &mut stream).await?;
    Ok(())
}

async fn endless(mut stream: TcpStream, head: &[u8], piece: &[u8]) -> anyhow::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let send = async {
        writer.write_all(head).await?;
        loop {
            writer.write_all(piece).await?;
            sleep(PAUSE).await;
        }
    };
    let mut left = [0];
    tokio::select! {
        sent = send => sent,
        _ = reader.read(&mut left) => Ok(()),
    }
}

/// Sends it and waits until the other side has closed too: what it still sends would make the kernel take back what it
/// has not read.
async fn finish(mut stream: TcpStream, bytes: &[u8]) -> anyhow::Result<()> {
    stream.write_all(bytes).await?;
    stream.shutdown().await?;
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await??;
    Ok(())
}

/// Head (without its end) and body of the only request of a connection.
async fn request(stream: &mut TcpStream) -> anyhow::Result<(String, Vec<u8>)> {
    let mut received = Vec::new();
    let end = loop {
        if let Some(end) = received.windows(4).position(|end| end == b"\r\n\r\n") {
            break end;
        }
        if received.len() > HEAD_LIMIT || stream.read_buf(&mut received).await? == 0 {
            bail!("no request");
        }
    };
    let head = String::from_utf8_lossy(received.get(..end).unwrap_or_default()).into_owned();
    let mut body = received.split_off(end.saturating_add(4));
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    while body.len() < length.unwrap_or(0) {
        if stream.read_buf(&mut body).await? == 0 {
            bail!("half a request");
        }
    }
    Ok((head, body))
}

/// The head as the upstream gets it: the only one on its connection, and behind the end of TLS.
fn forwarded(head: &str) -> Vec<u8> {
    let ours = ["connection", "x-forwarded-proto"];
    let kept = head.lines().filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        !ours.iter().any(|ours| name.eq_ignore_ascii_case(ours))
    });
    let mut lines: Vec<&str> = kept.collect();
    lines.extend(["connection: close", "x-forwarded-proto: https", "", ""]);
    lines.join("\r\n").into_bytes()
}
