//! A provider that is down or slow under load: who is known passes until `max_stale`, strangers make it be asked once per
//! cooldown, and callers with other credentials notice nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use http::Request;
use mlgate_integration::client::Http1;
use mlgate_integration::openid_provider::{Format, KEYS};
use mlgate_integration::relay::Manner;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::scene::{KEYED, Pace, SLACK, Scene, WORKER, document, median, of_key, verdict};

const SECOND: Duration = Duration::from_secs(1);
/// Connections that send tokens of keys that nobody has.
const STRANGERS: usize = 8;
/// Between two requests of one of them: the flood should leave the machine some room.
const PAUSE: Duration = Duration::from_millis(20);
/// How long each part of the flood lasts.
const FLOOD: Duration = Duration::from_secs(9);
const COOLDOWN: Duration = Duration::from_secs(2);
/// What a median may grow by on a machine on which others work too: nine tenths of it again, and a tick.
const UNCHANGED: (f64, Duration) = (1.9, Duration::from_millis(2));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_keys_pass_until_they_are_too_old() -> anyhow::Result<()> {
    let stale = Duration::from_secs(6);
    let pace = Pace { cache_duration: "1s", cooldown: "1s", failed_refetch: "1s", max_stale: "6s" };
    let Some(scene) = Scene::start("stale", document(pace)).await? else { return Ok(()) };
    let relay = scene.provider.relay();
    let known = scene.provider.token(WORKER, Format::Jwt("ES256")).await?;
    // of the same key, and never seen by a worker while the provider answered
    let fresh = scene.provider.token(WORKER, Format::Jwt("ES256")).await?;
    assert_eq!(scene.call(&known).await?.status, 200);

    relay.treat(Manner::Closed);
    let down = Instant::now();
    let mut calls = 0_u32;
    let passed = loop {
        let answer = scene.call(if calls.is_multiple_of(2) { &known } else { &fresh }).await?;
        let since = down.elapsed();
        if answer.status != 200 {
            assert_eq!(verdict(&answer), (503, Some("keys_unavailable".into())));
            assert!(answer.header("retry-after").is_some());
            break since;
        }
        calls += 1;
        ensure!(since < stale + SLACK, "passes {since:?} after the provider went down");
        sleep(Duration::from_millis(10)).await;
    };
    println!(
        "the provider was down; {calls} calls passed until {passed:.2?} later, `max_stale` being {stale:?}; asked {} times",
        relay.count(KEYS)
    );
    // the last success was at most one interval, and what a machine is late by, before it went down
    assert!(passed + SECOND + SECOND > stale, "refused already {passed:?} after the provider went down");
    for token in [&known, &fresh] {
        assert_eq!(verdict(&scene.call(token).await?), (503, Some("keys_unavailable".into())));
    }
    relay.treat(Manner::Pass);
    let took = scene.becomes(&known, 200, None, SECOND + SECOND + SLACK).await?;
    println!("and passed again {took:.2?} after the provider was back");
    scene.check().await
}

/// What is sent while others are measured.
struct Strangers {
    tasks: JoinSet<anyhow::Result<()>>,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
}

// === impl Strangers ===

impl Strangers {
    /// Each request has a key id of its own, which `of` makes a token of.
    fn start(scene: &Scene, token: &str) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..STRANGERS {
            let (address, token) = (scene.gate.envoy.address(), token.to_owned());
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            tasks.spawn(async move {
                let mut connection = Http1::connect(address).await?;
                while !stop.load(Ordering::Relaxed) {
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    let token = of_key(&token, &format!("nobodys-{number}"))?;
                    let request =
                        Request::get("/v1/models").header("authorization", format!("Bearer {token}"));
                    let answer = connection.call(request.body(Bytes::new())?).await?;
                    ensure!(matches!(answer.status, 401 | 503), "{}: {}", answer.status, answer.text());
                    sleep(PAUSE).await;
                }
                Ok(())
            });
        }
        Self { tasks, stop, sent }
    }

    /// How many there were.
    async fn stop(mut self) -> anyhow::Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(self.sent.load(Ordering::Relaxed))
    }
}

/// Median of the time that a call with an API key takes, measured for so long.
async fn latency(scene: &Scene, long: Duration) -> anyhow::Result<(Duration, usize)> {
    let start = Instant::now();
    let mut times = Vec::new();
    let mut connections = Vec::new();
    for _ in 0..4 {
        // any worker may have them
        connections.push(Http1::connect(scene.gate.envoy.address()).await?);
    }
    while start.elapsed() < long {
        for connection in &mut connections {
            let request = Request::get("/v1/models").header("x-api-key", scene.gate.key(KEYED));
            let asked = Instant::now();
            let answer = connection.call(request.body(Bytes::new())?).await?;
            times.push(asked.elapsed());
            ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        }
        sleep(Duration::from_millis(5)).await;
    }
    let count = times.len();
    Ok((median(times)?, count))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_make_a_provider_be_asked_once_per_cooldown_and_delay_nobody() -> anyhow::Result<()> {
    // of its own accord nobody asks again while this test runs
    let pace = Pace { cache_duration: "10m", cooldown: "2s", failed_refetch: "10m", max_stale: "24h" };
    let Some(scene) = Scene::start("strangers", document(pace)).await? else { return Ok(()) };
    let relay = scene.provider.relay();
    let known = scene.provider.token(WORKER, Format::Jwt("ES256")).await?;
    assert_eq!(scene.call(&known).await?.status, 200);

    let mut medians = Vec::new();
    for (what, manner) in [
        ("answers", Manner::Pass),
        ("is down", Manner::Closed),
        ("takes 700 ms", Manner::Late(Duration::from_millis(700))),
        ("never answers", Manner::Endless { head: Bytes::new(), piece: Bytes::new() }),
    ] {
        relay.treat(manner);
        relay.forget();
        let (start, strangers) = (Instant::now(), Strangers::start(&scene, &known));
        let (median, calls) = latency(&scene, FLOOD).await?;
        let sent = strangers.stop().await?;
        let lasted = start.elapsed();
        let asked = relay.asked("/");
        let gaps = asked.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at));
        let shortest = gaps.min().unwrap_or_default();
        println!(
            "while the provider {what}: {sent} tokens of keys that nobody has in {lasted:.1?}, asked {} times, at least \
             {shortest:.2?} apart (cooldown {COOLDOWN:?}); {calls} calls with an API key took {median:.2?} (median)",
            asked.len()
        );
        let most = usize::try_from(lasted.as_millis() / COOLDOWN.as_millis())? + 1;
        assert!((1..=most).contains(&asked.len()), "asked {} times in {lasted:?}", asked.len());
        assert_eq!(scene.call(&known).await?.status, 200, "a known key, while the provider {what}");
        medians.push((what, median));
    }
    let base = medians[0].1;
    for (what, median) in medians {
        let bound = base.mul_f64(UNCHANGED.0) + UNCHANGED.1;
        assert!(median <= bound, "{median:?} while the provider {what}, {base:?} while it answers");
    }
    scene.check().await
}
