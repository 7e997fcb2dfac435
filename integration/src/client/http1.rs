//! HTTP/1.1: kept connections, and bytes as they are.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{Answer, bounded};

/// One kept HTTP/1.1 connection; dropping it closes the connection at once, whatever is under way.
#[derive(Debug)]
pub struct Http1 {
    sender: SendRequest<BoxBody<Bytes, std::io::Error>>,
    connection: JoinHandle<()>,
    host: HeaderValue,
}

/// One request whose body is still being sent. Dropping it closes the connection.
#[derive(Debug)]
pub struct Upload {
    body: Sender<Bytes, std::io::Error>,
    answer: JoinHandle<anyhow::Result<Answer>>,
    connection: Http1,
}

// === impl Http1 ===

impl Http1 {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(async move {
            // How a connection ends is seen by the request on it.
            let _end = connection.await;
        });
        Ok(Self { sender, connection, host: HeaderValue::try_from(address.to_string())? })
    }

    /// Sends a request and reads the whole answer.
    pub async fn call(&mut self, request: Request<Bytes>) -> anyhow::Result<Answer> {
        let what = format!("{} {}", request.method(), request.uri());
        bounded(&what, async { whole(self.start(request.map(full)).await?.await?).await }).await
    }

    /// Sends a request and gives the answer as soon as its headers are there: read `into_body().frame()` for events as
    /// they come, while `self` is kept.
    pub async fn open(&mut self, request: Request<Bytes>) -> anyhow::Result<Response<Incoming>> {
        let what = format!("{} {}", request.method(), request.uri());
        bounded(&what, async { Ok(self.start(request.map(full)).await?.await?) }).await
    }

    /// Starts a request whose body follows piece by piece: as long as its `content-length` says, else chunked.
    pub async fn upload(mut self, request: Request<()>) -> anyhow::Result<Upload> {
        let what = format!("{} {}", request.method(), request.uri());
        let (body, content) = Channel::new(1);
        let answer = self.start(request.map(|()| content.boxed())).await?;
        let answer = tokio::spawn(async move { bounded(&what, async { whole(answer.await?).await }).await });
        Ok(Upload { body, answer, connection: self })
    }

    async fn start(
        &mut self,
        mut request: Request<BoxBody<Bytes, std::io::Error>>,
    ) -> anyhow::Result<impl Future<Output = hyper::Result<Response<Incoming>>> + Send + use<>> {
        let host = self.host.clone();
        request.headers_mut().entry("host").or_insert(host);
        self.sender.ready().await?;
        Ok(self.sender.send_request(request))
    }
}

impl Drop for Http1 {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

// === impl Upload ===

impl Upload {
    /// Sends one piece of the body.
    pub async fn send(&mut self, piece: impl Into<Bytes>) -> anyhow::Result<()> {
        Ok(self.body.send_data(piece.into()).await?)
    }

    /// Ends the body and reads the whole answer.
    pub async fn answer(self) -> anyhow::Result<Answer> {
        let Self { body, answer, connection } = self;
        drop(body);
        let answer = answer.await?;
        drop(connection);
        answer
    }
}

fn full(content: Bytes) -> BoxBody<Bytes, std::io::Error> {
    Full::new(content).map_err(|never| match never {}).boxed()
}

async fn whole(response: Response<Incoming>) -> anyhow::Result<Answer> {
    let (head, body) = response.into_parts();
    let body = body.collect().await?;
    let trailers = body.trailers().cloned();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes(), trailers })
}

/// Sends exactly these bytes on a new connection and gives what came back until the other side closed or was silent
/// for `silence`. Bytes that cannot be sent because the other side closed first are no failure.
pub async fn raw(address: SocketAddr, bytes: &[u8], silence: Duration) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let (mut reader, mut writer) = stream.split();
    let send = async {
        let _closed_early = writer.write_all(bytes).await;
        // Not shut down: a half-closed caller is another case.
        std::future::pending::<()>().await;
    };
    let receive = async {
        let mut received = Vec::new();
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(Ok(length)) = tokio::time::timeout(silence, reader.read(&mut chunk)).await {
            match chunk.get(..length) {
                Some(read) if length > 0 && received.len() < RAW_ANSWER_LIMIT => {
                    received.extend_from_slice(read)
                }
                _ => break,
            }
        }
        received
    };
    tokio::select! {
        () = send => anyhow::bail!("sending ended"),
        received = receive => Ok(received),
    }
}

/// Sends exactly these bytes on a new connection, stays for a while, reads nothing and leaves: by RST, or by FIN.
pub async fn abandon(address: SocketAddr, bytes: &[u8], stay: Duration, reset: bool) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    tokio::time::sleep(stay).await;
    if reset {
        stream.set_zero_linger()?;
    }
    Ok(())
}

const RAW_ANSWER_LIMIT: usize = 16 << 20;
