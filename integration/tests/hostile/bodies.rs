//! Bodies: of every shape, without end, of a hundred megabytes.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use mlgate_integration::ModelServer;
use mlgate_integration::caller::{self, Message};
use mlgate_integration::client;
use mlgate_integration::gate::Gate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::CHAT;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(super) async fn bodies(gate: &Gate) -> anyhow::Result<usize> {
    let deep = |open: &str, close: &str, times: usize| {
        format!(r#"{{"model":"fraud","x":{}{}}}"#, open.repeat(times), close.repeat(times)).into_bytes()
    };
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("nothing", Vec::new(), 400),
        ("a space", b" ".to_vec(), 400),
        ("deep", deep("[", "]", 500), 400),
        ("very deep", deep("[", "]", 400_000), 400),
        ("deep objects", deep("{\"a\":", "}", 150_000), 400),
        ("deep and never closed", deep("[", "", 900_000), 400),
        (
            "a million strings",
            format!(r#"{{"model":"fraud","x":[{}0]}}"#, "\"\",".repeat(300_000)).into_bytes(),
            200,
        ),
        (
            "a number without end",
            format!(r#"{{"model":"fraud","x":{}}}"#, "9".repeat(900_000)).into_bytes(),
            200,
        ),
        ("a great exponent", br#"{"model":"fraud","x":1e999999999}"#.to_vec(), 200),
        ("half a surrogate", br#"{"model":"\ud800"}"#.to_vec(), 400),
        ("a NUL in the name", br#"{"model":"fraud\u0000"}"#.to_vec(), 403),
        (
            "a model of a thousand letters",
            format!(r#"{{"model":"{}"}}"#, "x".repeat(100_000)).into_bytes(),
            403,
        ),
        (
            "a million members",
            format!(r#"{{{}"model":"fraud"}}"#, "\"a\":1,".repeat(150_000)).into_bytes(),
            200,
        ),
        ("not UTF-8", b"{\"model\":\"fraud\",\"x\":\"\xC0\xA7\"}".to_vec(), 400),
        ("UTF-16", b"\xff\xfe{\x00}\x00".to_vec(), 400),
        ("a file", vec![0_u8; 500_000], 400),
    ];
    let mut wrong = Vec::new();
    for (what, body, status) in &cases {
        for http in [1, 2] {
            let answer =
                post(gate, http, CHAT, vec![body.clone()]).await.with_context(|| (*what).to_owned())?;
            if answer.status != *status {
                wrong.push(format!(
                    "{what} over HTTP/{http}: {} instead of {status}: {}",
                    answer.status,
                    answer.text()
                ));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(cases.len() * 2)
}

async fn post(gate: &Gate, http: u8, path: &str, body: Vec<Vec<u8>>) -> anyhow::Result<client::Answer> {
    let message = Message {
        method: "POST".to_owned(),
        host: "x.example".to_owned(),
        path: path.into(),
        headers: vec![
            ("x-api-key".to_owned(), gate.key("alice001").into()),
            ("content-type".to_owned(), b"application/json".to_vec()),
        ],
        body: Some(body),
        trailers: Vec::new(),
    };
    match http {
        2 => caller::http2(HERE, gate.envoy.address(), &message).await,
        _ => caller::http1(HERE, gate.envoy.address(), &message).await,
    }
}

/// A body that comes a byte at a time, for ever: 408 after the bound.
pub(super) async fn drip(gate: &Gate) -> anyhow::Result<Duration> {
    let stream = TcpStream::connect(gate.envoy.address()).await?;
    let (mut reader, mut writer) = stream.into_split();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x.example\r\nx-api-key: {}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
        gate.key("alice001")
    );
    let start = Instant::now();
    writer.write_all(head.as_bytes()).await?;
    let dripping = tokio::spawn(async move {
        while writer.write_all(b"1\r\n[\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut received = vec![0; 4096];
    let length = tokio::time::timeout(Duration::from_secs(20), reader.read(&mut received)).await??;
    let took = start.elapsed();
    dripping.abort();
    let answer = String::from_utf8_lossy(&received[..length]).into_owned();
    ensure!(answer.starts_with("HTTP/1.1 408") && answer.contains("body_timeout"), "{answer}");
    Ok(took)
}

/// A hundred megabytes: announced, in chunks without end, and where no rule looks into the body.
pub(super) async fn large(gate: &Gate, model: &ModelServer) -> anyhow::Result<()> {
    const LARGE: usize = 100 << 20;
    let before = gate.envoy.resident_bytes()?;
    let piece = vec![b'x'; 1 << 20];
    let pieces = vec![piece.clone(); LARGE >> 20];
    for http in [1, 2] {
        let start = Instant::now();
        let answer = post(gate, http, CHAT, pieces.clone()).await?;
        ensure!(answer.status == 413, "in pieces over HTTP/{http}: {}", answer.status);
        println!(
            "100 MB for a body that is held, in pieces over HTTP/{http}: 413 after {:?}",
            start.elapsed()
        );
    }
    let answer = post(gate, 1, CHAT, vec![vec![b'x'; LARGE]]).await?;
    ensure!(
        answer.status == 413 && answer.json()?["reason"] == "body_too_large",
        "announced: {}",
        answer.status
    );
    for http in [1, 2] {
        model.clear();
        let start = Instant::now();
        let answer = post(gate, http, "/predict", pieces.clone()).await?;
        ensure!(answer.status == 200, "to the model over HTTP/{http}: {}", answer.status);
        let received = model.last().context("nothing reached the model")?;
        ensure!(
            received.complete && received.body_bytes == u64::try_from(LARGE)?,
            "{} bytes reached the model",
            received.body_bytes
        );
        println!("100 MB to the model over HTTP/{http}: 200 after {:?}", start.elapsed());
    }
    let after = gate.envoy.resident_bytes()?;
    println!(
        "resident memory of Envoy: {} MiB before, {} MiB after 500 MB of bodies",
        before >> 20,
        after >> 20
    );
    ensure!(after < before + (100 << 20), "bodies stay in memory");
    Ok(())
}
