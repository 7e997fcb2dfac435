//! Raw HTTP/1.1: every byte that comes over TCP is written down before anything is parsed.

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Events, Seen, answer_body};

enum Framing {
    Length(usize),
    Chunked,
}

/// Reads requests one after another until the connection ends.
pub(super) async fn record(mut stream: TcpStream, connection: usize, log: Events) {
    let mut buffer = Vec::new();
    while let Some(head) = read_head(&mut stream, &mut buffer).await {
        let Some((method, path, headers)) = parse(&head) else { break };
        let framing = framing(&headers);
        let answer = answer_body(&headers);
        log.add(connection, 0, Seen::Headers { method, path, headers });
        if !read_body(&mut stream, &mut buffer, &framing, connection, &log).await {
            log.add(connection, 0, Seen::Reset(0));
            return;
        }
        log.add(connection, 0, Seen::End);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
        if stream.write_all(&[head.as_bytes(), &answer].concat()).await.is_err() {
            break;
        }
    }
    // What is left is a head that never came to its end: it reached us all the same.
    let end = if buffer.is_empty() { Seen::Closed } else { Seen::Reset(0) };
    log.add(connection, 0, end);
}

async fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<usize> {
    let length = stream.read_buf(buffer).await.ok()?;
    (length > 0).then_some(length)
}

async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(place) = find(buffer, b"\r\n\r\n") {
            return Some(buffer.drain(..place.saturating_add(4)).collect());
        }
        read_more(stream, buffer).await?;
    }
}

/// Reads one body; `false` when the connection ended inside it.
async fn read_body(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    framing: &Framing,
    connection: usize,
    log: &Events,
) -> bool {
    let mut seen = 0_usize;
    loop {
        if buffer.len() > seen {
            log.add(connection, 0, Seen::Body(buffer.len().saturating_sub(seen)));
            seen = buffer.len();
        }
        let end = match framing {
            Framing::Length(length) => (buffer.len() >= *length).then_some(*length),
            Framing::Chunked => chunked_end(buffer),
        };
        if let Some(end) = end {
            buffer.drain(..end.min(buffer.len()));
            return true;
        }
        if read_more(stream, buffer).await.is_none() {
            return false;
        }
    }
}

/// Where a chunked body without trailers ends.
fn chunked_end(buffer: &[u8]) -> Option<usize> {
    let mut place = 0_usize;
    loop {
        let rest = buffer.get(place..)?;
        let line = find(rest, b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(rest.get(..line)?).ok()?.trim(), 16).ok()?;
        // Size line, content, and the line end after it; after the last chunk the empty trailer block.
        place = place.checked_add(line)?.checked_add(2)?.checked_add(size)?.checked_add(2)?;
        if size == 0 {
            return (buffer.len() >= place).then_some(place);
        }
    }
}

fn framing(headers: &HeaderMap) -> Framing {
    if headers.contains_key("transfer-encoding") {
        return Framing::Chunked;
    }
    let length = headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    Framing::Length(length.unwrap_or(0))
}

fn parse(head: &[u8]) -> Option<(String, String, HeaderMap)> {
    let mut lines = head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = String::from_utf8_lossy(lines.next()?).into_owned();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = HeaderMap::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let value = line.get(colon.saturating_add(1)..)?.trim_ascii();
        headers
            .append(HeaderName::from_bytes(line.get(..colon)?).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
    Some((method, path, headers))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_ends_after_the_empty_trailer_block() {
        let body = b"5\r\nhello\r\n0\r\n\r\n";
        assert_eq!(chunked_end(body), Some(body.len()));
        for cut in 0..body.len() {
            assert_eq!(chunked_end(&body[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn a_head_is_read_with_its_duplicates() {
        let (method, path, headers) = parse(b"GET /x HTTP/1.1\r\na: 1\r\nA:2\r\n\r\n").unwrap();
        assert_eq!((method.as_str(), path.as_str()), ("GET", "/x"));
        assert_eq!(headers.get_all("a").iter().collect::<Vec<_>>(), ["1", "2"]);
    }
}
