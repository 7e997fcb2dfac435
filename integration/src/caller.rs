//! A caller that sends exactly what it is told, from the address that it is told: one request on a connection.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::client::{Answer, bounded};

/// A request, byte by byte.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The method.
    pub method: String,
    /// `host` or `:authority`.
    pub host: String,
    /// Path and query.
    pub path: Vec<u8>,
    /// Every other field.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body in the pieces in which it is sent: one piece is announced by its length, several are chunks.
    pub body: Option<Vec<Vec<u8>>>,
    /// Trailers, in HTTP/2 alone.
    pub trailers: Vec<(String, Vec<u8>)>,
}

/// Sends it in HTTP/1.1.
pub async fn http1(from: IpAddr, to: SocketAddr, message: &Message) -> anyhow::Result<Answer> {
    let mut bytes =
        [message.method.as_bytes(), b" ", &message.path, b" HTTP/1.1\r\nhost: ", message.host.as_bytes()]
            .concat();
    for (name, value) in &message.headers {
        bytes.extend([b"\r\n", name.as_bytes(), b": ", value].concat());
    }
    bytes.extend_from_slice(b"\r\nconnection: close");
    let mut pieces = Vec::new();
    match message.body.as_deref() {
        None => bytes.extend_from_slice(b"\r\n\r\n"),
        Some([whole]) => {
            bytes.extend_from_slice(format!("\r\ncontent-length: {}\r\n\r\n", whole.len()).as_bytes());
            pieces.push(whole.clone());
        }
        Some(chunks) => {
            bytes.extend_from_slice(b"\r\ntransfer-encoding: chunked\r\n\r\n");
            let chunks = chunks.iter().filter(|chunk| !chunk.is_empty());
            pieces.extend(
                chunks.map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()),
            );
            pieces.push(b"0\r\n\r\n".to_vec());
        }
    }
    let (mut reader, mut writer) = connect(from, to).await?.into_split();
    bounded("a request byte by byte", async move {
        let send = async {
            // An answer may come before the end, and the connection close.
            if writer.write_all(&bytes).await.is_ok() {
                for piece in pieces {
                    if writer.write_all(&piece).await.is_err() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            writer
        };
        let mut received = Vec::new();
        let receive = async {
            // Envoy keeps a connection open for a second after the last answer on it.
            let mut done = false;
            while !done && reader.read_buf(&mut received).await.is_ok_and(|length| length > 0) {
                done = parse(&received, false).is_ok();
            }
        };
        let (_writer, ()) = tokio::join!(send, receive);
        parse(&received, true)
            .with_context(|| format!("not an answer: {:?}", String::from_utf8_lossy(&received)))
    })
    .await
}

/// Sends it in HTTP/2 without TLS.
pub async fn http2(from: IpAddr, to: SocketAddr, message: &Message) -> anyhow::Result<Answer> {
    let (sender, connection) = h2::client::handshake(connect(from, to).await?).await?;
    let connection = tokio::spawn(async move {
        // How a connection ends is seen by the stream on it.
        let _end = connection.await;
    });
    let answer = bounded("a stream", stream(sender, message)).await;
    connection.abort();
    answer
}

async fn stream(sender: h2::client::SendRequest<Bytes>, message: &Message) -> anyhow::Result<Answer> {
    let path = std::str::from_utf8(&message.path).context("a path that this client cannot say")?;
    let mut request = Request::builder()
        .method(Method::from_bytes(message.method.as_bytes())?)
        .uri(format!("http://{}{path}", message.host))
        .body(())?;
    *request.headers_mut() = map(&message.headers)?;
    let body = message.body.clone().unwrap_or_default();
    let ends = message.body.is_none() && message.trailers.is_empty();
    let (answer, mut sending) = sender.ready().await?.send_request(request, ends)?;
    let last = body.len().saturating_sub(1);
    let send = async {
        if ends {
            return Ok(());
        }
        for (index, piece) in body.into_iter().enumerate() {
            let ends = index == last && message.trailers.is_empty();
            if send_data(&mut sending, piece.into(), ends).await.is_none() {
                // The answer came before the end of the request.
                return Ok(());
            }
        }
        if !message.trailers.is_empty() {
            sending.send_trailers(map(&message.trailers)?)?;
        }
        anyhow::Ok(())
    };
    let receive = async {
        let (head, mut body) = answer.await?.into_parts();
        let mut content = Vec::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            let _stream_is_over = body.flow_control().release_capacity(chunk.len());
            content.extend_from_slice(&chunk);
        }
        let trailers = body.trailers().await?;
        anyhow::Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: content.into(),
            trailers,
        })
    };
    let (sent, received) = tokio::join!(send, receive);
    sent?;
    received
}

/// Sends a piece as the window allows; `None` when the stream is over.
async fn send_data(stream: &mut h2::SendStream<Bytes>, mut data: Bytes, ends: bool) -> Option<()> {
    if data.is_empty() {
        return stream.send_data(data, ends).ok();
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await?.ok()?;
        let piece = data.split_to(room.min(data.len()));
        let ends = ends && data.is_empty();
        stream.send_data(piece, ends).ok()?;
    }
    Some(())
}

async fn connect(from: IpAddr, to: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0)).with_context(|| format!("cannot call from {from}"))?;
    let stream = socket.connect(to).await.with_context(|| format!("cannot connect to {to}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn map(fields: &[(String, Vec<u8>)]) -> anyhow::Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_bytes(value)?);
    }
    Ok(map)
}

/// Reads one answer (RFC 9112 §6): what comes before a final status is passed over. `closed`: nothing more will come.
fn parse(received: &[u8], closed: bool) -> anyhow::Result<Answer> {
    let (head, rest) = split(received, b"\r\n\r\n").context("no end of the head")?;
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let line = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let status: u16 = line.split(' ').nth(1).unwrap_or_default().parse().context("no status")?;
    if (100..200).contains(&status) {
        return parse(rest, closed);
    }
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = split(line, b":").context("a field without a colon")?;
        headers.append(HeaderName::from_bytes(name)?, HeaderValue::from_bytes(value.trim_ascii())?);
    }
    let length = headers.get("content-length").and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let body = match length {
        _ if headers.contains_key("transfer-encoding") => dechunk(rest)?,
        Some(length) => rest.get(..length).context("a body that broke off")?.to_vec(),
        None if closed || status == 204 => rest.to_vec(),
        None => bail!("a body that ends with the connection"),
    };
    Ok(Answer { status, headers, body: body.into(), trailers: None })
}

fn dechunk(mut rest: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (size, after) = split(rest, b"\r\n").context("a chunk that broke off")?;
        let size = usize::from_str_radix(&String::from_utf8_lossy(size), 16).context("no chunk size")?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(after.get(..size).context("a chunk that broke off")?);
        match after.get(size..).and_then(|after| after.strip_prefix(b"\r\n")) {
            Some(after) => rest = after,
            None => bail!("a chunk without end"),
        }
    }
}

fn split<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((bytes.get(..at)?, bytes.get(at.checked_add(separator.len())?..)?))
}
