//! Callers that leave while the service is still being asked: nothing of them stays, and each is in the log.

use std::time::Duration;

use anyhow::bail;
use mlgate_integration::gate::Gate;
use mlgate_integration::leavers::Leavers;
use mlgate_integration::rate_limit_service::Answers;

use crate::scene::{self, Scene};

/// Callers of each protocol, and how many of them are there at a time.
const CALLERS: usize = 300;
const AT_ONCE: usize = 10;

/// The service thinks so long, and callers leave within twice that: about half of them before their answer.
const THINKS: Duration = Duration::from_millis(30);
const LONGEST_STAY: Duration = Duration::from_millis(60);

const SETTLE_BOUND: Duration = Duration::from_secs(10);

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
    let leavers = Leavers { address: gate.envoy.address(), at_once: AT_ONCE, longest: LONGEST_STAY };
    let asked = || scene::request(gate, "caller00", "m").map(|request| (request.map(|_| ()), None));
    let asked = (0..CALLERS).map(|_| asked()).collect::<anyhow::Result<Vec<_>>>()?;
    leavers.over_http1(asked.clone()).await?;
    Leavers { at_once: 1, ..leavers }.over_http2(asked, AT_ONCE).await?;
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
