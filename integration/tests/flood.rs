//! A flood of sources and of principals through the real Envoy: whoever is over a limit stays over it, and the tables of
//! limits take no more memory than they should.
//!
//! `MLGATE_FLOOD=1000000` sends as many of each, to tables as large as they are unless told otherwise; `make test` sends
//! fewer, to smaller ones.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    reason = "the test measures how long it takes, and may stop"
)]

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::Request;
use mlgate::cases;
use mlgate_integration::client::Http1;
use mlgate_integration::gate::{Gate, behind_one_hop};
use mlgate_integration::{Cluster, Route};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How many of each kind, where this variable says so.
const FLOOD: &str = "MLGATE_FLOOD";
/// How many otherwise, and slots for them.
const SHORT: (u64, u32) = (20_000, 2_048);
/// Connections, each with one request at a time.
const CONNECTIONS: u64 = 32;
/// Between two calls of those who are over their limit.
const PATIENCE: Duration = Duration::from_millis(20);
/// What the limit admits in a day.
const LIMIT: usize = 2;
/// What Envoy's memory may grow by over the flood: the tables (less than 5 MB by `Limits::max_bytes`), 4,096 remembered
/// tokens in each of two workers, events that wait, and what V8 and Envoy's allocator keep. A million keys that are never
/// removed would be several times that.
const MAX_GROWTH: u64 = 64 << 20;

/// Who floods.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Each with a token of its own.
    Principals,
    /// Each from a /64 of its own.
    Sources,
}

impl Kind {
    /// The request of one of them, but for its end.
    fn head(self, gate: &cases::Gate, number: u64) -> anyhow::Result<(&'static str, &'static str, String)> {
        Ok(match self {
            Self::Sources => {
                let address = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number) << 64 | 1);
                ("/open", "x-forwarded-for", address.to_string())
            }
            Self::Principals => {
                let token = gate.expand(&format!("${{jwt.corp.caller-{number}}}"));
                let token = String::from_utf8(token.map_err(anyhow::Error::msg)?)?;
                ("/known", "authorization", format!("Bearer {token}"))
            }
        })
    }

    fn request(self, gate: &cases::Gate, number: u64) -> anyhow::Result<Request<Bytes>> {
        let (path, name, value) = self.head(gate, number)?;
        Ok(Request::get(path).header(name, value).body(Bytes::new())?)
    }
}

fn document(slots: Option<u32>) -> Value {
    let rates = json!({"default": [{"limit": LIMIT, "window": "24h"}]});
    let bounds = slots.map_or(json!({}), |slots| json!({"principal_slots": slots, "source_slots": slots}));
    json!({
        "version": 1,
        "name": "flood",
        "authentication": {
            // the harness is the proxy in front, and says who is calling
            "source": {"trust": "xff"},
            "jwt": {"providers": [{
                "name": "corp",
                "issuer": "https://issuer.example",
                "audiences": ["model-gateway"],
                "algorithms": ["HS256"],
                "hmac_secrets": [{"id": "h1", "env": "MLGATE_JWT_SECRET_1"}],
            }]},
        },
        "resources": {"unlisted": "allow", "rules": [
            {"match": {"path": "/open"}, "resource": {"type": "model", "id": "m"}, "action": "read"},
            {"match": {"path": "/known"}, "resource": {"type": "model", "id": "m"}, "action": "read"},
        ]},
        "authorization": {"policies": [{"name": "everybody-reads", "effect": "allow", "action": ["read"]}]},
        "limits": [
            {"name": "per-caller", "key": ["principal"], "rates": rates},
            {"name": "per-source", "key": ["source"], "rates": rates},
        ],
        "audit": {
            "collector": {"cluster": "audit"},
            "chain": {"keys": [{"id": "c1", "env": "MLGATE_CHAIN_KEY_1"}]},
        },
        "shared_data": {"keys": [{"id": "s1", "env": "MLGATE_SHARED_KEY_1"}]},
        "bounds": bounds,
        "profiles": {
            "default": {"authenticate": {"any": ["jwt"]}, "limits": ["per-caller"], "audit": "denials"},
            "open": {"authenticate": "none", "authorize": "none", "limits": ["per-source"], "audit": "denials",
                "match": {"methods": ["GET"], "path": "/open"}},
        },
    })
}

/// A connection of which only statuses are read, since the flood should cost Envoy more than the test. Several requests at
/// once on it are no way: Envoy takes more than two answers that wait for a flood, and closes.
struct Flooder {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Flooder {
    async fn connect(to: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    async fn call(&mut self, request: &str) -> anyhow::Result<u16> {
        self.stream.write_all(request.as_bytes()).await?;
        loop {
            if let Some((length, status)) = whole(&self.received)? {
                self.received.drain(..length);
                return Ok(status);
            }
            ensure!(self.stream.read_buf(&mut self.received).await? > 0, "Envoy closed the connection");
        }
    }
}

/// Length and status of the first answer, once all of it is there.
fn whole(received: &[u8]) -> anyhow::Result<Option<(usize, u16)>> {
    let Some(head) = received.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(received.get(..head).unwrap_or_default())?;
    let status = text.split(' ').nth(1).context("no status")?.parse()?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
    let length = head + 4 + length.trim().parse::<usize>()?;
    Ok((received.len() >= length).then_some((length, status)))
}

/// Sends one request of each, and gives how many were admitted.
async fn flood(gate: &Gate, kind: Kind, count: u64) -> anyhow::Result<u64> {
    let mut callers = JoinSet::new();
    let secrets = Arc::new(gate.secrets.clone());
    for caller in 0..CONNECTIONS {
        let secrets = Arc::clone(&secrets);
        let mut connection = Flooder::connect(gate.envoy.address()).await?;
        callers.spawn(async move {
            let mut admitted = 0;
            for number in (caller..count).step_by(usize::try_from(CONNECTIONS)?) {
                let (path, name, value) = kind.head(&secrets, number)?;
                let request = format!("GET {path} HTTP/1.1\r\nhost: flood\r\n{name}: {value}\r\n\r\n");
                match connection.call(&request).await? {
                    200 => admitted += 1,
                    429 => {}
                    status => bail!("{status} in a flood of {kind:?}"),
                }
            }
            anyhow::Ok(admitted)
        });
    }
    let mut admitted = 0;
    while let Some(caller) = callers.join_next().await {
        admitted += caller??;
    }
    Ok(admitted)
}

/// Those who are over their limit ask on and on; gives how often, once they are stopped.
async fn ask_on(
    address: SocketAddr,
    requests: Vec<Request<Bytes>>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<usize> {
    let mut connection = Http1::connect(address).await?;
    let mut asked = 0;
    while !stop.load(Ordering::Relaxed) {
        for request in &requests {
            let status = connection.call(request.clone()).await?.status;
            ensure!(status == 429, "{status}: who was over the limit got out");
            asked += 1;
        }
        tokio::time::sleep(PATIENCE).await;
    }
    Ok(asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_frees_nobody_who_is_over_a_limit() -> anyhow::Result<()> {
    let (count, slots) = match std::env::var(FLOOD) {
        Ok(count) => (count.parse()?, None),
        Err(_) => (SHORT.0, Some(SHORT.1)),
    };
    let secrets = cases::Gate::of(document(slots)).map_err(anyhow::Error::msg)?;
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let open = json!({"profile": "open"});
    let gate = Gate::start("flood", secrets, Cluster::http1("model", nowhere), |builder| {
        let builder = builder.edit(behind_one_hop);
        let builder = builder.route(Route::direct("/open", 200, "ok").metadata("mlgate", open));
        builder.route(Route::direct("/known", 200, "ok"))
    })
    .await?;
    let address = gate.envoy.address();
    for kind in [Kind::Sources, Kind::Principals] {
        // not of the flood's numbers
        let over: Vec<_> = (0..5)
            .map(|number| kind.request(&gate.secrets, u64::from(u32::MAX) - number))
            .collect::<Result<_, _>>()?;
        let mut connection = Http1::connect(address).await?;
        for request in &over {
            for wanted in [200, 200, 429] {
                assert_eq!(connection.call(request.clone()).await?.status, wanted, "{kind:?}");
            }
        }
        let (before, start) = (gate.envoy.resident_bytes()?, Instant::now());
        let stop = Arc::new(AtomicBool::new(false));
        let asking = tokio::spawn(ask_on(address, over.clone(), Arc::clone(&stop)));
        let admitted = flood(&gate, kind, count).await?;
        let took = start.elapsed();
        stop.store(true, Ordering::Relaxed);
        let asked = asking.await??;
        for request in over {
            assert_eq!(connection.call(request).await?.status, 429, "{kind:?}: free after the flood");
        }
        let after = gate.envoy.resident_bytes()?;
        println!(
            "{count} {kind:?} in {took:.1?}: {admitted} admitted; who was over a limit asked {asked} times meanwhile and \
             stayed over it; resident memory {} KiB before, {} KiB after",
            before >> 10,
            after >> 10
        );
        ensure!(asked > 0, "nobody asked during the flood");
        ensure!(admitted < count, "the tables were not full");
        ensure!(after < before + MAX_GROWTH, "memory grew from {before} to {after} bytes");
    }
    gate.check_one_life().await
}
