//! `mlgate audit serve`: a local page of who used which model when, what was refused, and whether the log is whole.
//!
//! The page is written here, without scripts and without anything from elsewhere. What a log holds was chosen by
//! callers and is hostile: it is escaped, and a Content-Security-Policy without scripts stands behind that. Only
//! this machine may ask, and only by a name of this machine: a page elsewhere cannot reach it by a DNS name of its
//! own.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use clap::Args;
use mlgate::time::UnixTime;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use self::log::Log;
use self::query::Query;
use super::analyze::Rules;
use super::{ChainKey, keys};
use crate::{Exit, Stop, print};

mod charts;
mod log;
mod page;
mod query;
mod view;

/// Show a local page of audit logs: who used which model when, refusals, alerts, and whether the log is whole
///
/// Logs are read again when they have changed. The page listens on this machine alone and needs no script.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ServeCommand {
    /// Logs, one event on each line
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A loopback address and a port; port 0 takes a free one. What was bound is printed
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0", value_parser = loopback)]
    listen: SocketAddr,
    /// A key of the chains: its id, and the environment variable that holds it. With keys, an event that none of
    /// them proves is a fault
    #[arg(long = "chain-key", value_name = "ID=ENV", value_parser = ChainKey::parse)]
    chain_keys: Vec<ChainKey>,
    /// Take this for the present time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = super::times::timestamp)]
    now: Option<UnixTime>,
    #[command(flatten)]
    rules: Rules,
}

const HELP: &str = "Examples:
  mlgate audit serve audit.log
  mlgate audit serve --listen 127.0.0.1:8090 --chain-key c1=MLGATE_CHAIN_KEY_1 audit.log audit.log.1

Exit codes: 0 fine, 1 failure, 3 invalid input";

/// Nothing but the page's own style sheet, not in a frame, and forms only to itself.
const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

const STYLE: &str = include_str!("serve/style.css");

/// Bytes of a query.
const MAX_QUERY: usize = 2_048;

/// What requests share.
struct Page {
    log: Log,
    bound: SocketAddr,
}

/// Runs until it is told to end.
pub(super) fn run(command: &ServeCommand) -> Result<ExitCode, Stop> {
    if command.files.iter().any(|path| path == Path::new("-")) {
        return Err(Stop::invalid("-", "standard input cannot be read again", "name files"));
    }
    let keys = keys(&command.chain_keys)?;
    let log = Log::open(&command.files, keys, command.rules.thresholds(), command.now)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Stop::failure("threads", error, "allow more"))?;
    let served = runtime.block_on(serve(command.listen, log));
    runtime.shutdown_background();
    served.map(|()| Exit::Fine.into())
}

async fn serve(listen: SocketAddr, log: Log) -> Result<(), Stop> {
    let failure =
        |error: std::io::Error| Stop::failure(listen, error, "name an address and port that are free");
    let listener = TcpListener::bind(listen).await.map_err(failure)?;
    let bound = listener.local_addr().map_err(failure)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(failure)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(failure)?;
    print(&format!("listening on http://{bound}/"))?;
    let app = Router::new().fallback(answer).with_state(Arc::new(Page { log, bound }));
    tokio::select! {
        served = axum::serve(listener, app) => served.map_err(failure),
        _ = terminated.recv() => Ok(()),
        _ = interrupted.recv() => Ok(()),
    }
}

async fn answer(State(page): State<Arc<Page>>, request: Request) -> Response {
    if !is_local(request.headers(), page.bound) {
        let what = "this page answers to the name it was started with alone: use the printed address\n";
        return plain(StatusCode::MISDIRECTED_REQUEST, what);
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "this page can only be read\n");
    }
    match request.uri().path() {
        "/" => {
            let query = request.uri().query().unwrap_or_default();
            if query.len() > MAX_QUERY {
                return plain(StatusCode::URI_TOO_LONG, "the query is too long\n");
            }
            let query = Query::parse(query);
            let task = tokio::task::spawn_blocking(move || page::html(&page.log.current(), &query));
            match task.await {
                Ok(html) => reply(StatusCode::OK, "text/html; charset=utf-8", html),
                Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be written\n"),
            }
        }
        "/style.css" => reply(StatusCode::OK, "text/css; charset=utf-8", STYLE),
        _ => plain(StatusCode::NOT_FOUND, "there is one page: /\n"),
    }
}

fn plain(status: StatusCode, what: &'static str) -> Response {
    reply(status, "text/plain; charset=utf-8", what)
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let isolation =
        [("cross-origin-resource-policy", "same-origin"), ("cross-origin-opener-policy", "same-origin")];
    (status, headers, isolation, body.into()).into_response()
}

/// Whether the browser was asked for this machine: a foreign name that points here (DNS rebinding) comes with its
/// own `Host`.
fn is_local(headers: &HeaderMap, bound: SocketAddr) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = host.to_str() else { return false };
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
        _ => (host, Some(80)),
    };
    let address = match bound.ip() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    port == Some(bound.port()) && (name.eq_ignore_ascii_case("localhost") || name == address)
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| String::from("write an address and a port such as 127.0.0.1:8090"))?;
    let is_loopback = match address.ip() {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => address == Ipv6Addr::LOCALHOST,
    };
    if is_loopback {
        Ok(address)
    } else {
        Err(String::from(
            "the page asks nobody who he is, so it listens on this machine alone: write 127.0.0.1 or [::1], and \
             reach it from elsewhere through ssh -L",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_are_taken() {
        for right in ["127.0.0.1:0", "127.8.0.1:80", "[::1]:8090"] {
            assert!(loopback(right).is_ok(), "{right}");
        }
        for wrong in ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "[::ffff:127.0.0.1]:80", "localhost:80", "8090"]
        {
            assert!(loopback(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_foreign_name_that_points_here_is_refused() {
        let asked = |hosts: &[&str], bound: &str| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            is_local(&headers, bound.parse().unwrap())
        };
        for right in ["127.0.0.1:8090", "localhost:8090", "LOCALHOST:8090"] {
            assert!(asked(&[right], "127.0.0.1:8090"), "{right}");
        }
        assert!(asked(&["[::1]:8090"], "[::1]:8090") && asked(&["localhost"], "127.0.0.1:80"));
        assert!(asked(&["[::1]"], "[::1]:80"));
        for wrong in
            ["evil.example:8090", "127.0.0.1", "127.0.0.1:80", "127.0.0.1.evil.example:8090", "", ":8090"]
        {
            assert!(!asked(&[wrong], "127.0.0.1:8090"), "{wrong}");
        }
        assert!(!asked(&[], "127.0.0.1:80") && !asked(&["localhost", "localhost"], "127.0.0.1:80"));
    }
}
