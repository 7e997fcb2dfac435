//! HTTP/2 stream by stream, trailers and resets included.

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use tokio::net::TcpStream;

use super::{Events, Seen, answer_body};

/// Serves one connection until it ends.
pub(super) async fn record(stream: TcpStream, connection: usize, log: Events) {
    let server =
        h2::server::Builder::new().max_concurrent_streams(10_000).handshake::<_, Bytes>(stream).await;
    if let Ok(mut server) = server {
        let mut streams = tokio::task::JoinSet::new();
        while let Some(Ok((request, respond))) = server.accept().await {
            streams.spawn(record_stream(request, respond, connection, std::sync::Arc::clone(&log)));
        }
        // The connection is over; what its streams still see is a reset, and that is worth a line.
        while streams.join_next().await.is_some() {}
    }
    log.add(connection, 0, Seen::Closed);
}

async fn record_stream(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    connection: usize,
    log: Events,
) {
    let stream = request.body().stream_id().as_u32();
    let (head, mut body) = request.into_parts();
    let answer = answer_body(&head.headers);
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    log.add(
        connection,
        stream,
        Seen::Headers { method: head.method.to_string(), path, headers: head.headers },
    );
    let end = read(&mut body, connection, stream, &log).await;
    if let Err(error) = end {
        let reason = error.reason().unwrap_or(Reason::NO_ERROR);
        log.add(connection, stream, Seen::Reset(reason.into()));
        return;
    }
    log.add(connection, stream, Seen::End);
    if let Ok(mut sender) = respond.send_response(Response::new(()), answer.is_empty())
        && !answer.is_empty()
    {
        // A stream that was reset meanwhile needs no answer.
        let _reset = sender.send_data(Bytes::from(answer), true);
    }
}

async fn read(body: &mut RecvStream, connection: usize, stream: u32, log: &Events) -> Result<(), h2::Error> {
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        log.add(connection, stream, Seen::Body(chunk.len()));
        body.flow_control().release_capacity(chunk.len())?;
    }
    if let Some(trailers) = body.trailers().await? {
        log.add(connection, stream, Seen::Trailers(trailers));
    }
    Ok(())
}
