//! A reload every 200 ms under load: every answer is the one that the configuration gives whose decision it is, nothing
//! fails, and nothing grows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use http::Request;
use mlgate_integration::client::{Answer, Http1, Http2};
use mlgate_integration::collector::text;
use mlgate_integration::filter_file;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::documents::{self, CALLERS, CHAT, Which};
use crate::{BOUND, Scene, told};

/// Between two pushes.
const PERIOD: Duration = Duration::from_millis(200);
/// How long `make test` does it.
const SHORT: u64 = 5;
/// How long it is done instead where this variable says so.
const SECONDS: &str = "MLGATE_RELOAD_SECONDS";
/// After so much of it the first reloads and the pools of connections are behind us.
const WARM_UP: f64 = 0.3;
/// What Envoy's memory may grow by after that. A V8 heap is not returned at once, and the log of Envoy's allocator is
/// coarse: this is some hundred bytes for each request of half a minute, and a leak of one root context for each reload
/// would be several times that.
const MAX_GROWTH: u64 = 16 << 20;
/// Connections that call one by one, and connections that open several streams at once.
const HTTP1: usize = 6;
const HTTP2: usize = 2;
const STREAMS: usize = 6;
/// Callers whose body is held over a reload.
const SLOW: usize = 4;
/// Between two calls of a connection.
const PACE: Duration = Duration::from_millis(8);

/// One answer.
struct Told {
    caller: &'static str,
    status: u16,
    reason: String,
    decision: String,
}

/// What all callers together were told.
type Answers = Vec<Told>;

impl Told {
    fn of(caller: &'static str, answer: &Answer) -> anyhow::Result<Self> {
        let (status, reason) = told(answer);
        let decision = answer.header("x-mlgate-decision-id").context("no decision id")?;
        Ok(Self { caller, status, reason, decision })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_every_200_ms_under_load_gives_no_wrong_answer() -> anyhow::Result<()> {
    let seconds = std::env::var(SECONDS).ok().map_or(Ok(SHORT), |seconds| seconds.parse())?;
    let lasting = Duration::from_secs(seconds);
    let scene = Scene::start("reload-load").await?;
    for _ in 0..5 {
        assert_eq!(scene.call("spent001").await?.status, 200);
    }
    let end = Instant::now() + lasting;
    let callers = start_callers(&scene, end).await?;
    let memory = reload(&scene, end).await?;
    let answers = gather(callers).await?;
    let pushes = filter_file::pushes(&scene.gate.envoy).await?;
    scene.gate.check_one_life().await?;
    let decided = check_answers(&scene, &answers).await?;
    let changes = check_trail(&scene)?;
    let (warm, end) = memory;
    println!(
        "{} requests in {seconds} s: {decided:?}; {} reloads, {changes} changes in the trail of two workers; resident \
         memory {} KiB after the warm-up, {} KiB at the end",
        answers.len(),
        pushes.taken,
        warm >> 10,
        end >> 10
    );
    let wanted = lasting.as_millis() / PERIOD.as_millis() / 2;
    ensure!(u128::from(pushes.taken) > wanted && pushes.refused == 0, "{pushes:?} of {}", 2 * wanted);
    ensure!(end < warm + MAX_GROWTH, "memory grew from {warm} to {end} bytes");
    Ok(())
}

/// Pushes one document and the other in turn, and gives the memory after the warm-up and at the end.
async fn reload(scene: &Scene, end: Instant) -> anyhow::Result<(u64, u64)> {
    let start = Instant::now();
    let warm = end.duration_since(start).mul_f64(WARM_UP);
    let mut at_warm = None;
    let mut turn = interval(PERIOD);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut which = Which::First;
    while Instant::now() < end {
        turn.tick().await;
        which = which.other();
        scene.gate.push(scene.documents.of_which(which))?;
        if at_warm.is_none() && start.elapsed() > warm {
            at_warm = Some(scene.gate.envoy.resident_bytes()?);
        }
    }
    Ok((at_warm.context("no time to warm up")?, scene.gate.envoy.resident_bytes()?))
}

async fn start_callers(scene: &Scene, end: Instant) -> anyhow::Result<JoinSet<anyhow::Result<Answers>>> {
    let address = scene.gate.envoy.address();
    let keys: BTreeMap<&'static str, String> =
        CALLERS.into_iter().map(|caller| (caller, scene.gate.key(caller).to_owned())).collect();
    let mut callers = JoinSet::new();
    for number in 0..HTTP1 {
        let keys = keys.clone();
        let mut connection = Http1::connect(address).await?;
        callers.spawn(async move {
            let mut answers = Answers::new();
            let mut turn = interval(PACE);
            for (caller, key) in keys.iter().cycle().skip(number) {
                turn.tick().await;
                if Instant::now() > end {
                    break;
                }
                // Every other round with a body that is held.
                let request = match answers.len() / CALLERS.len() % 2 {
                    0 => documents::get(key)?,
                    _ => documents::post(key)?.map(|()| CHAT.into()),
                };
                let answer = connection.call(request).await?;
                if answer.closes() {
                    connection = Http1::connect(address).await?;
                }
                answers.push(Told::of(caller, &answer)?);
            }
            Ok(answers)
        });
    }
    for _ in 0..HTTP2 {
        let keys = keys.clone();
        let mut connection = Http2::connect(address).await?;
        callers.spawn(async move {
            let mut answers = Answers::new();
            let mut turn = interval(PACE);
            while Instant::now() < end {
                turn.tick().await;
                let mut calls = Vec::new();
                for (caller, key) in keys.iter().cycle().take(STREAMS) {
                    let mut call = connection.open(documents::post(key)?, false).await?;
                    // A stream that was refused by its head takes no body.
                    let _refused_already = call.send(CHAT, true);
                    calls.push((*caller, call));
                }
                for (caller, call) in calls {
                    answers.push(Told::of(caller, &call.answer().await?)?);
                }
            }
            Ok(answers)
        });
    }
    for _ in 0..SLOW {
        let keys = keys.clone();
        let mut connection = Http2::connect(address).await?;
        callers.spawn(async move {
            let mut answers = Answers::new();
            while Instant::now() < end {
                for caller in ["always01", "first001", "second01"] {
                    let head: Request<()> = documents::post(keys.get(caller).context("no key")?)?;
                    let mut call = connection.open(head, false).await?;
                    let (begin, rest) = CHAT.split_at(8);
                    call.send(begin, false)?;
                    sleep(PERIOD.mul_f64(1.3)).await;
                    call.send(rest, true)?;
                    answers.push(Told::of(caller, &call.answer().await?)?);
                }
            }
            Ok(answers)
        });
    }
    Ok(callers)
}

async fn gather(mut callers: JoinSet<anyhow::Result<Answers>>) -> anyhow::Result<Answers> {
    let mut all = Answers::new();
    while let Some(answers) = callers.join_next().await {
        all.extend(answers??);
    }
    Ok(all)
}

/// Each answer is the one of the configuration that its event names. Counts what either decided.
async fn check_answers(scene: &Scene, answers: &Answers) -> anyhow::Result<BTreeMap<Which, usize>> {
    let decisions: BTreeSet<String> = answers.iter().map(|told| told.decision.clone()).collect();
    ensure!(decisions.len() == answers.len(), "{} decisions of {}", decisions.len(), answers.len());
    let events = scene.gate.delivered(&decisions, BOUND).await?;
    let revisions: BTreeMap<&str, &str> =
        events.iter().map(|event| (text(event, "decision_id"), text(event, "policy_revision"))).collect();
    let mut decided = BTreeMap::new();
    for Told { caller, status, reason, decision } in answers {
        let which = scene.documents.which(revisions.get(decision.as_str()).context("no event")?)?;
        let wanted = which.answer(caller);
        if (*status, reason.as_str()) != wanted {
            bail!("{caller} was told {status} {reason} under {which:?}, which says {wanted:?}");
        }
        *decided.entry(which).or_default() += 1;
    }
    ensure!(decided.len() == 2, "one configuration decided nothing: {decided:?}");
    Ok(decided)
}

/// The chains are whole, and in each the changes follow each other. Counts them.
fn check_trail(scene: &Scene) -> anyhow::Result<usize> {
    let verdict = scene.gate.collector.verify()?;
    ensure!(verdict.exit == Some(0), "{}", verdict.text);
    let events = scene.gate.collector.events()?;
    let mut count = 0;
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    let mut chained: Vec<&Value> = events.iter().filter(|event| text(event, "type") == "config").collect();
    chained.sort_by_key(|event| event.get("seq").and_then(Value::as_u64));
    for event in chained {
        let (chain, now) = (text(event, "chain"), text(event, "policy_revision"));
        if let Some(before) = last.insert(chain, now) {
            let told = text(event, "prev_policy_revision");
            ensure!(told == before && now != before, "from {told} to {now} after {before}: {event}");
            count += 1;
        }
    }
    Ok(count)
}
