//! What passes before a request is decided: of an upstream that answers too early nothing but its errors, and of
//! trailers nothing under our names.

#![expect(clippy::disallowed_methods, reason = "the test measures how long it waits")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Request};
use mlgate_integration::client::{Http1, Http2};
use mlgate_integration::recorder::Seen;
use mlgate_integration::{Cluster, Envoy, EnvoyBuilder, Plugin, Recorder, Route, Stack, artifacts};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// An upstream that answers when it has read the headers, and ends a chunked answer with the first byte of a body.
async fn early(answer: &'static str) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut head, mut chunk) = (Vec::new(), [0; 4096]);
                let end = |head: &[u8]| head.windows(4).position(|end| end == b"\r\n\r\n");
                let mut told = false;
                while let Ok(length @ 1..) = stream.read(&mut chunk).await {
                    head.extend_from_slice(chunk.get(..length).unwrap_or_default());
                    let Some(at) = end(&head) else { continue };
                    if !told {
                        let _gone = stream.write_all(answer.as_bytes()).await;
                        told = true;
                    }
                    if answer.contains("chunked") && head.len() > at.saturating_add(4) {
                        let _gone = stream.write_all(b"0\r\n\r\n").await;
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}

/// A gate whose key is `KEY`, and which waits a second at most.
async fn gate(stack: &Stack, cluster: Cluster) -> anyhow::Result<Envoy> {
    let configuration = json!({
        "version": 1,
        "name": "gate",
        "consumers": [{"name": "user_1", "roles": ["r"], "credentials": {"api_keys": [
            {"id": "k7f3a2b9", "digest": DIGEST},
        ]}}],
        "resources": {"unlisted": "allow", "rules": [{"preset": "openai"}]},
        "authorization": {"roles": {"r": {"permissions": ["predict", "list"]}}},
        "audit": {"collector": {"cluster": "model"}, "chain": {"unkeyed": true}},
        "bounds": {"wait": "1s"},
    });
    EnvoyBuilder::new()
        .plugin(Plugin::new("mlgate", artifacts::filter_wasm()?).configuration(configuration.to_string()))
        .cluster(cluster)
        .route(Route::prefix("/", "model"))
        .start(stack)
        .await
}

fn chat() -> Request<()> {
    let request = Request::post("/v1/chat/completions")
        .header("x-api-key", KEY)
        .header("content-type", "application/json")
        .body(());
    request.unwrap_or_default()
}

/// A key of nobody, and its digest.
const KEY: &str = "mlg_k7f3a2b9_0123456789abcdef0123456789ABCDEF30hEbF";
const DIGEST: &str = "sha256:a91718798dde761cd03432e340ddf8bd496b00fd4bddb815a3af382f59917f5e";
const BODY: &str = r#"{"model":"m"}"#;
const EARLY: &str =
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n6\r\nsecret\r\n";
const WHOLE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret";

#[tokio::test]
async fn an_early_answer_is_nobodys_while_nobody_decides() -> anyhow::Result<()> {
    for (name, early_answer) in [("early-whole", WHOLE), ("early-stream", EARLY)] {
        let stack = Stack::create(name)?;
        let envoy = gate(&stack, Cluster::http1("model", early(early_answer).await?)).await?;
        let start = Instant::now();
        let mut caller = Http2::connect(envoy.address()).await?;
        let mut call = caller.open(chat(), false).await?;
        call.send("{", false)?;
        let answer = call.answer().await?;
        assert_eq!((answer.status, answer.text().contains("secret")), (408, false), "{}", answer.text());
        assert!(start.elapsed() >= Duration::from_millis(900));
        let mut upload = Http1::connect(envoy.address()).await?.upload(chat()).await?;
        upload.send("{").await?;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let answer = upload.answer().await?;
        assert_eq!((answer.status, answer.text().contains("secret")), (408, false), "{}", answer.text());
        envoy.check_unharmed().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_early_answer_waits_for_the_decision() -> anyhow::Result<()> {
    let stack = Stack::create("early")?;
    let envoy = gate(&stack, Cluster::http1("model", early(EARLY).await?)).await?;

    // a refusal answers in its place
    let mut refused = Http2::connect(envoy.address()).await?;
    let mut call = refused.open(chat(), false).await?;
    call.send("{", false)?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    call.send("}", true)?;
    let answer = call.answer().await?;
    assert_eq!((answer.status, answer.text().contains("secret")), (400, false), "{}", answer.text());

    // and an allowed one gets it after all
    let mut allowed = Http2::connect(envoy.address()).await?;
    for wait in [0, 200] {
        let mut call = allowed.open(chat(), false).await?;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        call.send(BODY, true)?;
        let answer = call.answer().await?;
        assert_eq!((answer.status, answer.text().as_str()), (200, "secret"));
    }
    envoy.check_unharmed().await?;
    Ok(())
}

#[tokio::test]
async fn an_early_error_does_not_wait() -> anyhow::Result<()> {
    let stack = Stack::create("early-error")?;
    let upstream = early("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await?;
    let nobody = TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?;
    for address in [upstream, nobody] {
        let envoy = gate(&stack, Cluster::http1("model", address)).await?;
        let start = Instant::now();
        let mut caller = Http2::connect(envoy.address()).await?;
        let call = caller.open(chat(), false).await?;
        assert_eq!(call.answer().await?.status, 503);
        assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
        envoy.check_unharmed().await?;
    }
    Ok(())
}

#[tokio::test]
async fn trailers_say_nothing_under_our_names() -> anyhow::Result<()> {
    let stack = Stack::create("trailers")?;
    let upstream = Recorder::http2().await?;
    let envoy = gate(&stack, Cluster::http2("model", upstream.address())).await?;
    let mut caller = Http2::connect(envoy.address()).await?;
    let mut call = caller.open(chat(), false).await?;
    call.send(BODY, false)?;
    let spoofed =
        |name: &'static str| (http::HeaderName::from_static(name), HeaderValue::from_static("admin"));
    let names = ["x-mlgate-principal", "x_mlgate_org", "etag"];
    call.trailers(HeaderMap::from_iter(names.map(spoofed)))?;
    call.answer().await?;
    let seen = upstream.wait_for("the trailers", |seen| matches!(seen, Seen::Trailers(_))).await?;
    assert_eq!(seen.what, Seen::Trailers(HeaderMap::from_iter([spoofed("etag")])));
    envoy.check_unharmed().await?;
    Ok(())
}
