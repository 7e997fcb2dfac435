//! Callers that leave while the service is still being asked: nothing of them stays, and each is in the log.

use std::time::Duration;

use anyhow::bail;
use http::Request;
use mlgate_integration::client::{self, Http2};
use mlgate_integration::gate::Gate;
use mlgate_integration::rate_limit_service::Answers;
use tokio::task::JoinSet;

use crate::scene::{self, Scene};

/// Callers of each protocol, and how many of them are there at a time.
const CALLERS: usize = 300;
const AT_ONCE: usize = 10;

/// The service thinks so long, and callers leave within twice that: about half of them before their answer.
const THINKS: Duration = Duration::from_millis(30);
const LONGEST_STAY_US: u64 = 60_000;

/// Numbers that are the same in every run.
const SEED: u64 = 0x6d6c_6761_7465;

const SETTLE_BOUND: Duration = Duration::from_secs(10);

struct Random(u64);

// === impl Random ===

impl Random {
    fn seeded(lane: usize) -> Self {
        Self(SEED ^ (lane as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn stay(&mut self) -> Duration {
        Duration::from_micros(self.below(LONGEST_STAY_US))
    }
}

async fn over_http1(gate: &Gate) -> anyhow::Result<()> {
    let mut lanes = JoinSet::new();
    let address = gate.envoy.address();
    let bytes = format!("GET /v1/m/m HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\n\r\n", gate.key("caller00"));
    for lane in 0..AT_ONCE {
        let bytes = bytes.clone();
        lanes.spawn(async move {
            let mut random = Random::seeded(lane);
            for _ in 0..CALLERS / AT_ONCE {
                let reset = random.below(2) == 0;
                client::abandon(address, bytes.as_bytes(), random.stay(), reset).await?;
            }
            anyhow::Ok(())
        });
    }
    join(lanes).await
}

/// Streams that are reset one by one, and whole connections that close with all of theirs.
async fn over_http2(gate: &Gate) -> anyhow::Result<()> {
    let mut random = Random::seeded(AT_ONCE);
    for batch in 0..CALLERS / AT_ONCE {
        let mut connection = Http2::connect(gate.envoy.address()).await?;
        let mut streams = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (head, _) = scene::request(gate, "caller00", "m")?.into_parts();
            let call = connection.open(Request::from_parts(head, ()), true).await?;
            let stay = random.stay();
            streams.spawn(async move {
                tokio::time::sleep(stay).await;
                drop(call);
                anyhow::Ok(())
            });
        }
        if batch % 3 == 0 {
            tokio::time::sleep(random.stay()).await;
            drop(connection);
            join(streams).await?;
        } else {
            join(streams).await?;
        }
    }
    Ok(())
}

async fn join(mut tasks: JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// Nothing of the departed is left in Envoy, neither their requests nor what was asked for them.
async fn settle(gate: &Gate) -> anyhow::Result<()> {
    let active = ["http.ingress.downstream_rq_active", "cluster.ratelimit.upstream_rq_active"];
    let start = tokio::time::Instant::now();
    loop {
        let mut left = Vec::new();
        for name in active {
            left.push(gate.envoy.statistic(name).await?);
        }
        if left == [0, 0] {
            return Ok(());
        }
        if start.elapsed() > SETTLE_BOUND {
            bail!("still active: {active:?} {left:?}");
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_leave_while_the_service_is_asked_leave_nothing_behind() -> anyhow::Result<()> {
    let limits = "
  - { name: fleet, key: [principal], scope: global, rates: { default: [{ limit: 1000000, window: 1h }] } }";
    let document = scene::document(
        &[("caller00", "any"), ("caller01", "any")],
        limits,
        "timeout: 2s, failure_mode: deny",
    );
    let scene = Scene::start("departures", &document, 1).await?;
    let gate = scene.gate();
    scene.service.answer(Answers::Late(THINKS));
    over_http1(gate).await?;
    over_http2(gate).await?;
    settle(gate).await?;

    // Whoever stays is served, and nobody's place among those that wait was kept.
    for _ in 0..20 {
        assert_eq!(scene::call(gate, "caller01", "m").await?.status, 200);
    }
    let total = usize::try_from(gate.envoy.statistic("http.ingress.downstream_rq_total").await?)?;
    assert!(total >= CALLERS, "{total} requests");
    let events = gate
        .collector
        .wait_for("an event for each request", SETTLE_BOUND, |events| {
            events.iter().filter(|event| event["type"] == "access").count() >= total
        })
        .await?;
    let count = |status: &str| events.iter().filter(|event| event["status"] == status).count();
    let (aborted, success) = (count("aborted"), count("success"));
    println!("{total} requests: {aborted} left before their end, {success} were served");
    assert_eq!(aborted + success, total, "and nothing else came of any");
    assert!(aborted >= CALLERS / 4, "too few left in time: {aborted}");
    assert!(success >= 20);
    let degraded: Vec<_> = events.iter().filter(|event| event.get("degraded").is_some()).collect();
    assert!(degraded.is_empty(), "a departure is no failure of the service: {degraded:?}");
    scene.check().await
}
