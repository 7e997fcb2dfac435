//! Several Envoys against one service: what they admit together is the global limit, whoever asks where and when.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use http::Request;
use mlgate_integration::client::{Answer, Http1, Http2};
use mlgate_integration::gate::Gate;
use mlgate_integration::{Cluster, ModelServer, RateLimitService, Redis, Stack};
use tokio::task::JoinSet;

use crate::scene::{self, Scene};

/// What one Envoy admits of one caller in an hour, and what all admit together.
const LOCAL: usize = 5;
const GLOBAL: usize = 8;

/// Calls that each Envoy gets, and the connections that they share.
const CALLS: usize = 40;
const CONNECTIONS: usize = 4;

const CALLERS: [(&str, &str); 4] =
    [("caller00", "any"), ("caller01", "any"), ("caller02", "pro"), ("caller03", "trial")];

fn document() -> String {
    let limits = format!(
        "
  - {{ name: mine, key: [principal], rates: {{ default: [{{ limit: {LOCAL}, window: 1h }}] }} }}
  - {{ name: fleet, key: [principal], scope: global, rates: {{ default: [{{ limit: {GLOBAL}, window: 1h }}] }} }}"
    );
    scene::document(&CALLERS, &limits, "timeout: 5s, failure_mode: deny")
}

/// All calls of one caller on all Envoys at once.
async fn storm(scene: &Scene, caller: &str) -> anyhow::Result<Vec<Answer>> {
    let mut connections = JoinSet::new();
    for gate in &scene.gates {
        for _ in 0..CONNECTIONS {
            let mut connection = Http1::connect(gate.envoy.address()).await?;
            let request = scene::request(gate, caller, "m")?;
            connections.spawn(async move {
                let mut answers = Vec::new();
                for _ in 0..CALLS / CONNECTIONS {
                    answers.push(connection.call(request.clone()).await?);
                }
                anyhow::Ok(answers)
            });
        }
    }
    let mut all = Vec::new();
    while let Some(answers) = connections.join_next().await {
        all.extend(answers??);
    }
    Ok(all)
}

/// Exactly as many were admitted as the global limit says, and everybody else was told when to come back.
fn check(answers: &[Answer]) -> anyhow::Result<()> {
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for answer in answers {
        *statuses.entry(answer.status).or_default() += 1;
    }
    let expected = BTreeMap::from([(200, GLOBAL), (429, answers.len() - GLOBAL)]);
    ensure!(statuses == expected, "{statuses:?}, not {expected:?}");
    for answer in answers.iter().filter(|answer| answer.status == 429) {
        ensure!(scene::reason(answer)? == "rate_limited");
        let after: u64 = answer.header("retry-after").context("no retry-after")?.parse()?;
        ensure!((1..=3600).contains(&after), "come back after {after} s");
    }
    Ok(())
}

async fn check_together(scene: &Scene, round: &str) -> anyhow::Result<()> {
    for caller in ["caller00", "caller01"] {
        let answers = storm(scene, caller).await?;
        check(&answers).with_context(|| format!("{caller}, {} Envoys, {round}", scene.gates.len()))?;
        println!("{} Envoys, {round}: {GLOBAL} of {} admitted", scene.gates.len(), answers.len());
    }
    assert_eq!(scene.model.count(), 2 * GLOBAL, "what the upstream got");
    let asked = scene.service.asked();
    let admitted = asked.iter().filter(|asked| asked.over == Some(false)).count();
    assert_eq!(admitted, 2 * GLOBAL);
    for asked in &asked {
        assert_eq!((asked.domain.as_str(), asked.hits), ("mlgate", 1));
        let descriptor = asked.descriptors[0].iter();
        let words: Vec<String> = descriptor.map(|(key, value)| format!("{key}={value}")).collect();
        let caller = &words[1];
        assert!(caller == "principal=caller00" || caller == "principal=caller01", "{caller}");
        assert_eq!(words, ["limit=fleet", caller, "rates=default", "window=1h"]);
    }
    scene.check().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_envoys_admit_eight_together() -> anyhow::Result<()> {
    check_together(&Scene::start("two", &document(), 2).await?, "counted in memory").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_envoys_admit_eight_together_where_redis_counts() -> anyhow::Result<()> {
    let stack = Stack::create("three-redis")?;
    let Some(redis) = Redis::start(&stack).await? else { return Ok(()) };
    let service = RateLimitService::on_redis(&scene::limits(&document())?, &redis).await?;
    check_together(&Scene::before("three", &document(), 3, service).await?, "counted in Redis").await
}

#[tokio::test]
async fn what_the_service_refuses_is_given_back_to_local_limits() -> anyhow::Result<()> {
    let limits = "
  - { name: mine, key: [principal], rates: { default: [{ limit: 5, window: 1h }] } }
  - { name: fleet, key: [model], scope: global, rates: { default: [{ limit: 2, window: 1h }] } }";
    let document = scene::document(&CALLERS, limits, "timeout: 5s, failure_mode: deny");
    let scene = Scene::start("given-back", &document, 1).await?;
    let mut statuses = Vec::new();
    for model in ["m1"; 12].into_iter().chain(["m2"; 3]).chain(["m3"; 2]) {
        statuses.push(scene::call(scene.gate(), "caller00", model).await?.status);
    }
    // Two of m1, ten refused by the service; three more are left of five, two of them for m2, whose third is refused
    // by the service, and so one for m3.
    let expected = [[200; 2].as_slice(), &[429; 10], &[200, 200, 429], &[200, 429]].concat();
    assert_eq!(statuses, expected);
    assert_eq!(scene.service.asked().len(), 16, "the last one was refused here");
    scene.check().await
}

#[tokio::test]
async fn each_tier_has_its_rates_and_the_nearest_is_told() -> anyhow::Result<()> {
    let limits = "
  - name: fleet
    key: [principal]
    scope: global
    rates:
      default: [{ limit: 3, window: 1h }]
      pro: [{ limit: 9, window: 1d }, { limit: 4, window: 1h }]
      trial: [{ limit: 1, window: 90m }]
  - { name: all, key: [], scope: global, when: { resource.id: small }, rates: { default: [{ limit: 2, window: 1h }] } }";
    let document = scene::document(&CALLERS, limits, "timeout: 5s, failure_mode: deny");
    let scene = Scene::start("tiers", &document, 1).await?;
    for (caller, admitted, tier, windows) in [
        ("caller00", 3, "default", ["1h"].as_slice()),
        ("caller02", 4, "pro", &["1d", "1h"]),
        ("caller03", 1, "trial", &["90m"]),
    ] {
        scene.service.forget();
        for call in 1..=admitted + 2 {
            let answer = scene::call(scene.gate(), caller, "m").await?;
            assert_eq!(answer.status, if call <= admitted { 200 } else { 429 }, "{caller}, call {call}");
            let limit = answer.header("x-ratelimit-limit");
            assert_eq!(limit, Some(admitted.to_string()), "{caller}, call {call}");
            let left = if call < admitted { admitted - call } else { 0 };
            assert_eq!(
                answer.header("x-ratelimit-remaining"),
                Some(left.to_string()),
                "{caller}, call {call}"
            );
        }
        let asked = scene.service.asked();
        let entry = |descriptor: &Vec<(String, String)>, key: &str| {
            descriptor.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
        };
        for asked in &asked {
            let asked: Vec<_> =
                asked.descriptors.iter().map(|asked| entry(asked, "window").unwrap()).collect();
            assert_eq!(asked, windows, "one call for all of them");
        }
        assert_eq!(entry(&asked[0].descriptors[0], "rates").as_deref(), Some(tier));
    }
    // A second limit only where its `when` matches, at whichever place in the call.
    let small = scene::call(scene.gate(), "caller01", "small").await?;
    assert_eq!((small.status, small.header("x-ratelimit-limit").as_deref()), (200, Some("2")));
    assert_eq!(scene::call(scene.gate(), "caller01", "small").await?.status, 200);
    let refused = scene::call(scene.gate(), "caller01", "small").await?;
    assert_eq!(refused.status, 429);
    let other = scene::call(scene.gate(), "caller01", "large").await?;
    assert_eq!(other.status, 200, "nothing of the refused call was counted to `fleet`");
    scene.check().await
}

/// A caller of gRPC, which HTTP/2 carries all the way.
async fn grpc(gate: &Gate, connection: &mut Http2) -> anyhow::Result<Answer> {
    let (mut head, body) = scene::request(gate, "caller00", "m")?.into_parts();
    head.method = http::Method::POST;
    head.headers.insert("content-type", "application/grpc".parse()?);
    connection.call(Request::from_parts(head, body)).await
}

#[tokio::test]
async fn grpc_callers_read_trailers_only_with_status_8() -> anyhow::Result<()> {
    let limits = "
  - { name: fleet, key: [principal], scope: global, rates: { default: [{ limit: 2, window: 1h }] } }";
    let document = scene::document(&CALLERS, limits, "timeout: 5s, failure_mode: deny");
    let (model, service) =
        (ModelServer::start().await?, RateLimitService::in_memory(&scene::limits(&document)?).await?);
    let upstream = Cluster::http2("model", model.address());
    let gate = scene::gate("grpc", scene::secrets(&document)?, upstream, &service).await?;
    let mut connection = Http2::connect(gate.envoy.address()).await?;
    for _ in 0..2 {
        let admitted = grpc(&gate, &mut connection).await?;
        assert_eq!((admitted.status, admitted.grpc_status()), (200, Some(0)), "{admitted:?}");
    }
    let refused = grpc(&gate, &mut connection).await?;
    assert_eq!((refused.status, refused.grpc_status()), (200, Some(8)));
    assert!(refused.trailers.is_none() && refused.body.is_empty(), "trailers only: {refused:?}");
    assert!(refused.header("grpc-message").is_some_and(|message| message.starts_with("rate_limited")));
    assert!(refused.header("retry-after").is_some());
    let event = scene::event(&gate, &refused).await?;
    assert_eq!((&event["status"], &event["reason"]), (&"denied".into(), &"rate_limited".into()));
    gate.check_one_life().await
}
