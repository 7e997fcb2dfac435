//! HTTP/2 without TLS: streams, trailers, resets.

use std::net::SocketAddr;

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{Answer, bounded};

/// One HTTP/2 connection; dropping it closes the connection at once, whatever is under way.
#[derive(Debug)]
pub struct Http2 {
    sender: SendRequest<Bytes>,
    connection: JoinHandle<()>,
    authority: String,
}

/// One stream whose request is still being sent. Dropping it resets the stream (`CANCEL`).
#[derive(Debug)]
pub struct Call {
    answer: ResponseFuture,
    body: SendStream<Bytes>,
}

// === impl Http2 ===

impl Http2 {
    /// Connects and exchanges the prefaces.
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::handshake(stream).await?;
        let connection = tokio::spawn(async move {
            // How a connection ends is seen by the streams on it.
            let _end = connection.await;
        });
        Ok(Self { sender, connection, authority: address.to_string() })
    }

    /// Sends a request with its whole body and reads the whole answer.
    pub async fn call(&mut self, request: Request<Bytes>) -> anyhow::Result<Answer> {
        let (head, body) = request.into_parts();
        let head = Request::from_parts(head, ());
        if body.is_empty() {
            return self.open(head, true).await?.answer().await;
        }
        let mut call = self.open(head, false).await?;
        call.send(body, true)?;
        call.answer().await
    }

    /// Starts a stream. `end`: there is neither body nor trailers. The URI may be a plain path.
    pub async fn open(&mut self, mut request: Request<()>, end: bool) -> anyhow::Result<Call> {
        if request.uri().authority().is_none() {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            *request.uri_mut() = format!("http://{}{path}", self.authority).parse()?;
        }
        bounded("a new stream", async {
            Ok(std::future::poll_fn(|context| self.sender.poll_ready(context)).await?)
        })
        .await?;
        let (answer, body) = self.sender.send_request(request, end)?;
        Ok(Call { answer, body })
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

// === impl Call ===

impl Call {
    /// Sends one piece of the body; `end`: it was the last, and there are no trailers.
    pub fn send(&mut self, body: impl Into<Bytes>, end: bool) -> anyhow::Result<()> {
        Ok(self.body.send_data(body.into(), end)?)
    }

    /// Ends the request with trailers.
    pub fn trailers(&mut self, trailers: HeaderMap) -> anyhow::Result<()> {
        Ok(self.body.send_trailers(trailers)?)
    }

    /// Resets the stream.
    pub fn reset(mut self, reason: Reason) {
        self.body.send_reset(reason);
    }

    /// Reads the whole answer. A stream that was reset before its headers is a failure.
    pub async fn answer(self) -> anyhow::Result<Answer> {
        let Self { answer, body: request_body } = self;
        let answer = bounded("the answer of a stream", async {
            let (head, mut body) = answer.await?.into_parts();
            let mut content = BytesMut::new();
            while let Some(chunk) = body.data().await {
                let chunk = chunk?;
                // The window is given back, or a long answer would stop.
                let _stream_is_over = body.flow_control().release_capacity(chunk.len());
                content.extend_from_slice(&chunk);
            }
            let trailers = body.trailers().await?;
            Ok(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body: content.freeze(),
                trailers,
            })
        })
        .await;
        drop(request_body);
        answer
    }
}
