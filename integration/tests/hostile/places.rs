//! Places among the waiting: so many and no more, and each comes back. One caller alone gets four of five.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use h2::Reason;
use http::Request;
use mlgate_integration::ModelServer;
use mlgate_integration::client::{Call, Http2};
use mlgate_integration::gate::Gate;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{CHAT, chains, document, is_unharmed};

/// A stream whose body is awaited.
async fn waiting(connection: &mut Http2, key: &str) -> anyhow::Result<Call> {
    let request =
        Request::post(CHAT).header("x-api-key", key).header("content-type", "application/json").body(())?;
    connection.open(request, false).await
}

/// Whether all places that one caller may have in the worker of one connection are free: so many streams wait, one more
/// is refused, and all that waited are answered.
async fn places_are_free(address: SocketAddr, key: &str, places: usize) -> anyhow::Result<()> {
    let mut connection = Http2::connect(address).await?;
    let mut held = Vec::new();
    for _ in 0..places {
        held.push(waiting(&mut connection, key).await?);
    }
    let more = waiting(&mut connection, key).await?.answer().await?;
    ensure!(
        more.status == 503 && more.json()?["reason"] == "overloaded",
        "one more than {places}: {}",
        more.status
    );
    ensure!(more.header("retry-after").is_some(), "overloaded without retry-after");
    for mut call in held {
        call.send(r#"{"model":"fraud"}"#, true)?;
        let answer = call.answer().await?;
        ensure!(answer.status == 200, "one of {places} that waited: {} {}", answer.status, answer.text());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_wait_than_there_are_places() -> anyhow::Result<()> {
    let model = ModelServer::start().await?;
    let gate =
        Gate::simple("places", &document("places", "{ waiting: 10, wait: 10s }"), model.address()).await?;
    let before = chains(&gate).await?;
    for _ in 0..6 {
        places_are_free(gate.envoy.address(), gate.key("alice001"), 8).await?;
    }
    is_unharmed(&gate, &before).await
}

/// A client that begins a body and leaves, in HTTP/1 or HTTP/2.
async fn leave(address: SocketAddr, key: &str, number: usize) -> anyhow::Result<()> {
    let pause = Duration::from_millis(u64::try_from(number % 13)?);
    if number.is_multiple_of(2) {
        let mut stream = TcpStream::connect(address).await?;
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x.example\r\nx-api-key: {key}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        if number.is_multiple_of(4) {
            stream.write_all(b"{\"model\":").await?;
        }
        tokio::time::sleep(pause).await;
        return Ok(());
    }
    let mut connection = Http2::connect(address).await?;
    let mut call = waiting(&mut connection, key).await?;
    if number.is_multiple_of(3) {
        call.send("{\"model\":", false)?;
    }
    tokio::time::sleep(pause).await;
    if number.is_multiple_of(5) {
        call.reset(Reason::CANCEL);
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_come_back_from_clients_that_leave() -> anyhow::Result<()> {
    const CLIENTS: usize = 2000;
    const AT_ONCE: usize = 40;
    let model = ModelServer::start().await?;
    let gate =
        Gate::simple("leavers", &document("leavers", "{ waiting: 50, wait: 30s }"), model.address()).await?;
    let before = chains(&gate).await?;
    let (address, key) = (gate.envoy.address(), gate.key("alice001").to_owned());
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        if clients.len() >= AT_ONCE
            && let Some(left) = clients.join_next().await
        {
            left??;
        }
        let key = key.clone();
        clients.spawn(async move { leave(address, &key, number).await });
    }
    while let Some(left) = clients.join_next().await {
        left??;
    }
    // The last of them are still leaving; far less than the bound of a wait, so that no place comes back by it.
    let start = Instant::now();
    let mut free = 0;
    while free < 8 {
        match places_are_free(address, &key, 40).await {
            Ok(()) => free += 1,
            Err(error) if start.elapsed() > Duration::from_secs(8) => bail!("after {free} times: {error:#}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    println!("{CLIENTS} clients left while their body was awaited; all places of each worker came back");
    is_unharmed(&gate, &before).await
}
