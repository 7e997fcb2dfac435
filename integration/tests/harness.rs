//! The harness itself, in a real Envoy without any plugin: what the other tests stand on.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::BodyExt;
use mlgate_integration::client::{self, Http1, Http2};
use mlgate_integration::recorder::Seen;
use mlgate_integration::{Cluster, Envoy, EnvoyBuilder, ModelServer, Recorder, Route, Stack, VirtualHost};
use serde_json::json;

async fn envoy(stack: &Stack, cluster: Cluster) -> anyhow::Result<Envoy> {
    EnvoyBuilder::new().cluster(cluster).route(Route::prefix("/", "model")).start(stack).await
}

#[tokio::test]
async fn the_sample_server_is_reached_over_both_protocols() -> anyhow::Result<()> {
    let stack = Stack::create("both-protocols")?;
    let model = ModelServer::start().await?;
    for cluster in [Cluster::http1("model", model.address()), Cluster::http2("model", model.address())] {
        let envoy = envoy(&stack, cluster).await?;
        let request = || {
            Request::post("/v1/chat/completions?x=1")
                .header("x-sample-echo", "1")
                .body(Bytes::from(r#"{"model":"m"}"#))
        };
        for answer in [
            client::call(envoy.address(), request()?).await?,
            Http2::connect(envoy.address()).await?.call(request()?).await?,
        ] {
            assert_eq!(answer.status, 200);
            let content = answer.json()?;
            assert_eq!(content["model"], "m");
            assert_eq!(content["received"]["path"], "/v1/chat/completions?x=1");
            assert_eq!(content["received"]["body_bytes"], 13);
        }
        envoy.check_unharmed().await?;
    }
    assert_eq!(model.count(), 4);
    assert!(model.requests().iter().all(|request| request.complete && request.body_bytes == 13));
    Ok(())
}

#[tokio::test]
async fn events_come_over_time() -> anyhow::Result<()> {
    let stack = Stack::create("events")?;
    let model = ModelServer::start().await?;
    let envoy = envoy(&stack, Cluster::http1("model", model.address())).await?;
    let request = Request::post("/v1/chat/completions")
        .header("x-sample-events", "3")
        .body(Bytes::from(r#"{"model":"m","stream":true}"#))?;
    let mut caller = Http1::connect(envoy.address()).await?;
    let mut body = caller.open(request).await?.into_body();
    let mut events = Vec::new();
    while let Some(frame) = body.frame().await {
        events.push(String::from_utf8(frame?.into_data().unwrap_or_default().to_vec())?);
    }
    assert!(events.len() >= 3, "buffered into {events:?}");
    assert!(events.concat().ends_with("data: [DONE]\n\n"), "{events:?}");
    Ok(())
}

#[tokio::test]
async fn a_grpc_caller_gets_its_trailer() -> anyhow::Result<()> {
    let stack = Stack::create("grpc")?;
    let model = ModelServer::start().await?;
    let envoy = envoy(&stack, Cluster::http2("model", model.address())).await?;
    let request = Request::post("/inference.GRPCInferenceService/ModelInfer")
        .header("content-type", "application/grpc");
    let mut caller = Http2::connect(envoy.address()).await?;
    let answer = caller.call(request.body(Bytes::from_static(&[0; 5]))?).await?;
    assert_eq!((answer.status, answer.grpc_status()), (200, Some(0)));
    Ok(())
}

#[tokio::test]
async fn a_recorder_sees_bodies_trailers_and_resets() -> anyhow::Result<()> {
    let stack = Stack::create("recorder")?;
    let upstream = Recorder::http2().await?;
    let envoy = envoy(&stack, Cluster::http2("model", upstream.address())).await?;
    let mut caller = Http2::connect(envoy.address()).await?;

    let mut call = caller.open(Request::post("/a").header("x-id", "7").body(())?, false).await?;
    call.send("hello", false)?;
    call.trailers(HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("end"))]))?;
    assert_eq!(call.answer().await?.text(), "7");
    assert_eq!(upstream.body_bytes(), 5);
    assert!(
        upstream
            .requests()
            .iter()
            .any(|event| matches!(&event.what, Seen::Trailers(all) if all["etag"] == "end"))
    );

    let mut call = caller.open(Request::post("/b").body(())?, false).await?;
    call.send("hello", false)?;
    upstream
        .wait_for("the second request", |seen| matches!(seen, Seen::Headers { path, .. } if path == "/b"))
        .await?;
    call.reset(Reason::CANCEL);
    upstream.wait_for("the reset", |seen| matches!(seen, Seen::Reset(_))).await?;
    Ok(())
}

#[tokio::test]
async fn a_recorder_sees_each_byte_of_http_1() -> anyhow::Result<()> {
    let stack = Stack::create("recorder-1")?;
    let upstream = Recorder::http1().await?;
    let envoy = envoy(&stack, Cluster::http1("model", upstream.address())).await?;
    let answer =
        client::call(envoy.address(), Request::post("/a").header("x-id", "9").body(Bytes::from("hello"))?)
            .await?;
    assert_eq!(answer.text(), "9");
    assert_eq!(upstream.body_bytes(), 5);
    let chunked =
        b"POST /c HTTP/1.1\r\nhost: x\r\nx-id: 1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let answer = client::raw(envoy.address(), chunked, Duration::from_millis(300)).await?;
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

#[tokio::test]
async fn routes_hosts_and_listeners_can_be_pushed() -> anyhow::Result<()> {
    let stack = Stack::create("update")?;
    let virtual_host = VirtualHost::new("other", &["other.example"]).route(Route::direct("/", 418, "other"));
    let mut envoy = EnvoyBuilder::new()
        .updatable()
        .virtual_host(virtual_host)
        .route(Route::direct("/", 200, "first").name("all").metadata("mlgate", json!({"profile": "x"})))
        .start(&stack)
        .await?;
    let address = envoy.address();
    assert_eq!(client::get(address, "/").await?.text(), "first");
    let other = Request::get("/").header("host", "other.example").body(Bytes::new())?;
    assert_eq!(client::call(address, other).await?.status, 418);

    assert!(
        envoy.update(|_| EnvoyBuilder::new().updatable().route(Route::direct("/", 201, "second"))).await?
    );
    assert_eq!(client::get(address, "/").await?.status, 201);
    assert!(
        !envoy
            .update(|_| EnvoyBuilder::new().updatable().route(Route::prefix("no slash", "nowhere")))
            .await?
    );
    assert_eq!(client::get(address, "/").await?.status, 201);
    Ok(())
}

#[tokio::test]
async fn a_refused_bootstrap_is_told_with_its_log() -> anyhow::Result<()> {
    let stack = Stack::create("refused")?;
    let log = EnvoyBuilder::new().route(Route::prefix("/", "nowhere")).start_refused(&stack).await?;
    assert!(log.contains("unknown cluster 'nowhere'"), "{log}");
    let failure =
        EnvoyBuilder::new().route(Route::prefix("/", "nowhere")).start(&stack).await.unwrap_err().to_string();
    assert!(failure.contains("envoy-2.log"), "{failure}");
    Ok(())
}

#[tokio::test]
async fn nothing_runs_on_after_its_test() -> anyhow::Result<()> {
    let stack = Stack::create("ends")?;
    let mut envoy = EnvoyBuilder::new().route(Route::direct("/", 200, "")).start(&stack).await?;
    let address = envoy.address();
    let proc = std::path::PathBuf::from(format!("/proc/{}", envoy.process().pid()));
    assert!(proc.exists());
    drop(envoy);
    assert!(!proc.exists());
    assert!(client::get(address, "/").await.is_err());
    Ok(())
}
