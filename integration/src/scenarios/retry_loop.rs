//! A batch service sends its calls again and again, more than the model server can answer; somebody else waits.

use std::time::{Duration, Instant};

use crate::composed;
use crate::demo::play::{LIMITED, words};
use crate::model_server::Capacity;
use crate::scenarios::report::Report;
use crate::scenarios::stage::{Gate, OTHER, Stage, Suspect, TakeBack};
use crate::scenarios::traffic::{Outcomes, Pace};

/// Who retries.
const SERVICE: &str = "batch_scoring";
/// The service's limit, a second, and how many of it at once (`gate.yaml`).
const LIMIT: u64 = 20;
const BURST: u64 = 2;
/// The model server: 200 calls a second.
const CAPACITY: Capacity = Capacity { at_once: 20, each: Duration::from_millis(100) };
/// How long it goes on.
const LASTS: Duration = Duration::from_secs(4);
/// Calls of the loop a second.
const RETRIES: u32 = 300;
/// Calls of the other caller a second.
const OTHERS: u32 = 25;
/// How slow the other caller may be with the gate.
struct Tolerance {
    /// Its p50 and p99 are at most so many times its quiet ones …
    slower: u32,
    /// … or the p99 is that much longer, since on a machine with other work to do one slow call of a hundred says little.
    noise: Duration,
    /// Without the gate it is at least so many times the one with it.
    far_below: u32,
}

const OF_PROCESSES: Tolerance = Tolerance { slower: 2, noise: Duration::from_millis(250), far_below: 5 };
/// Every call passes the engine's proxy and a bridge too, which share the machine with the loop.
const OF_CONTAINERS: Tolerance = Tolerance { slower: 4, noise: Duration::from_secs(1), far_below: 2 };

/// Plays it.
pub async fn play() -> anyhow::Result<Report> {
    let mut stage = Stage::start("retry-loop", Some(CAPACITY)).await?;
    let (loops, others) = (Pace::steady(RETRIES, LASTS), Pace::steady(OTHERS, LASTS));
    let mut report = Report {
        title: "A service retries without end",
        traffic: format!(
            "{SERVICE} sends {RETRIES} calls a second for {} s, {OTHER} {OTHERS}; the model server can answer 200.",
            LASTS.as_secs()
        ),
        ..Report::default()
    };
    let quiet = stage.send(OTHER, Gate::With, others).await?;
    let (bare, waiting) = tokio::try_join!(
        stage.send(SERVICE, Gate::Without, loops),
        stage.send(OTHER, Gate::Without, others)
    )?;
    let unseen = stage.logged(SERVICE, 0).await?;
    let began = Instant::now();
    let (gated, calm) =
        tokio::try_join!(stage.send(SERVICE, Gate::With, loops), stage.send(OTHER, Gate::With, others))?;

    if let Some((_, refused)) = gated.first_refused() {
        let reason = refused.reason.as_deref().unwrap_or_default();
        let told = format!("the first refusal: {} {reason}", refused.status);
        report.step(refused.at, told, reason == LIMITED, "its own limit");
    }
    let logged = stage.logged(SERVICE, gated.count()).await?;
    report.step(
        began.elapsed(),
        format!("{logged} of its calls are in the audit log"),
        logged == gated.count(),
        "all",
    );
    let rules = &["HIGH_ERROR_RATE", "HIGH_REQUEST_VOLUME"];
    let suspect = Suspect { principal: SERVICE, rules, take_back: TakeBack::Principals };
    stage.answer_to(&mut report, &suspect, Pace::as_fast_as(1, 20), began).await?;

    let sent = loops.calls();
    let all = bare.count() == sent && gated.count() == sent;
    report.figure("calls of the service", (bare.count(), gated.count()), all, "the same");
    let admitted = usize::try_from(BURST.saturating_add(LIMIT.saturating_mul(seconds(gated.lasted()))))?;
    let fine = bare.served() == sent && (1..=admitted).contains(&gated.served());
    report.figure(
        "served by the model",
        (bare.served(), gated.served()),
        fine,
        "its own limit with the gate",
    );
    let fine = gated.refused().get(LIMITED) == Some(&sent.saturating_sub(gated.served()));
    report.figure("refused", (0, words(&gated.refused())), fine, "all others");
    report.figure(
        "calls in the audit log",
        (unseen, logged),
        unseen == 0 && logged == sent,
        "all with the gate",
    );
    latencies(&mut report, &quiet, &waiting, &calm);
    stage.finish(&mut report).await?;
    Ok(report)
}

/// The other caller must not feel it.
fn latencies(report: &mut Report, quiet: &Outcomes, waiting: &Outcomes, calm: &Outcomes) {
    let served = waiting.served() == waiting.count() && calm.served() == calm.count();
    report.figure("served to the other caller", (waiting.served(), calm.served()), served, "all");
    let Tolerance { slower, noise, far_below } =
        if composed::is_wanted() { OF_CONTAINERS } else { OF_PROCESSES };
    let ms = |outcomes: &Outcomes, percent| format!("{} ms", outcomes.percentile(percent).as_millis());
    let half = calm.percentile(50) <= quiet.percentile(50).saturating_mul(slower);
    let wanted = format!("with the gate at most {slower} times the quiet {}", ms(quiet, 50));
    report.figure("its latency, p50", (ms(waiting, 50), ms(calm, 50)), half, &wanted);
    let (before, without, with) = (quiet.percentile(99), waiting.percentile(99), calm.percentile(99));
    let bound = before.saturating_mul(slower).max(before.saturating_add(noise));
    let fine = with <= bound && without >= with.saturating_mul(far_below);
    let wanted = format!(
        "with the gate at most {} ms ({slower} times the quiet p99, or {} ms more), without it at least {far_below} times as long",
        bound.as_millis(),
        noise.as_millis()
    );
    report.figure("its latency, p99", (ms(waiting, 99), ms(calm, 99)), fine, &wanted);
    report.step(
        None,
        format!(
            "`{OTHER}` before all this: p50 {}, p99 {}\nit passes when the p99 is {wanted}",
            ms(quiet, 50),
            ms(quiet, 99)
        ),
        quiet.served() == quiet.count(),
        "all served",
    );
}

/// Begun seconds.
fn seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(1)
}
