//! Connections of gates, read to their end.
//!
//! A proxy that exits sends its last batch and closes at once: data and end arrive together. A server that takes the end
//! for a caller who left throws such a request away unseen, so connections are served half closed.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at the same time; the next waits to be accepted.
const MAX_CONNECTIONS: usize = 512;

/// How long a request's head may take to arrive, and how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// The pause after a connection could not be accepted: mostly there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long connections are still taken after the end was told: a gate that is stopped at the same moment sends its
/// last batch now.
const LINGER: Duration = Duration::from_millis(500);

/// Serves until `told` is over and a moment longer, then lets running requests end, for at most `patience`.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    told: impl Future<Output = ()>,
    patience: Duration,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut told = std::pin::pin!(async {
        told.await;
        tokio::time::sleep(LINGER).await;
    });
    loop {
        let accepted = async {
            // the semaphore is never closed
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut told => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let connection = http1::Builder::new()
            .half_close(true)
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // what a broken connection had not delivered is sent again
            let _broken = connection.await;
            drop(place);
        });
    }
    let _ended = tokio::time::timeout(patience, graceful.shutdown()).await;
}
