//! A key leaks, and somebody hammers with it.

use std::time::Instant;

use crate::demo::play::{LIMITED, words};
use crate::demo::story::dollars;
use crate::scenarios::report::Report;
use crate::scenarios::stage::{Gate, ON_THE_WAY, REVOKED, Stage, Suspect, TakeBack};
use crate::scenarios::traffic::Pace;

/// The caller whose key it is.
const VICTIM: &str = "user_3";
/// Its limit, in an hour.
const LIMIT: usize = 100;
/// Calls before anybody notices.
const BEFORE: Pace = Pace::as_fast_as(8, 1_200);
/// Calls that the thief still sends then.
const AFTER: Pace = Pace::as_fast_as(8, 100);

/// Plays it.
pub async fn play() -> anyhow::Result<Report> {
    let mut stage = Stage::start("stolen-key", None).await?;
    let mut report = Report {
        title: "A key is stolen",
        traffic: format!(
            "A thief sends {} calls with {VICTIM}'s key as fast as {} connections go, and {} more after the alert.",
            BEFORE.count, BEFORE.at_once, AFTER.count
        ),
        ..Report::default()
    };
    let mut bare = stage.send(VICTIM, Gate::Without, BEFORE).await?.served();
    bare = bare.saturating_add(stage.send(VICTIM, Gate::Without, AFTER).await?.served());
    let unseen = stage.logged(VICTIM, 0).await?;
    stage.site.forget_served(&stage.envoy).await?;

    let began = Instant::now();
    let gated = stage.send(VICTIM, Gate::With, BEFORE).await?;
    let logged = stage.logged(VICTIM, gated.count()).await?;
    let ended = began.elapsed();
    let refused = gated.first_refused();
    let at = refused.map(|(_, outcome)| outcome.at);
    let number = refused.map_or(0, |(number, _)| number);
    let reason = refused.and_then(|(_, outcome)| outcome.reason.clone()).unwrap_or_default();
    // Calls overtake each other on their connections: one that was decided later may be answered earlier.
    let early = LIMIT.saturating_sub(BEFORE.at_once)..=LIMIT.saturating_add(1);
    report.step(
        at,
        format!("answer {number}: 429 {reason}"),
        reason == LIMITED && early.contains(&number),
        "429 after the limit",
    );
    report.step(ended, format!("{logged} calls are in the audit log"), logged == gated.count(), "all calls");
    let suspect = Suspect {
        principal: VICTIM,
        rules: &["HIGH_ERROR_RATE", "HIGH_REQUEST_VOLUME"],
        take_back: TakeBack::Keys,
    };
    let after = stage.answer_to(&mut report, &suspect, AFTER, began).await?;

    let (sent, all) = (BEFORE.calls(), BEFORE.calls().saturating_add(AFTER.calls()));
    let served = stage.site.served(&stage.envoy).await?;
    report.figure(
        "calls sent",
        (all, all),
        gated.count() == sent && after.count() == AFTER.calls(),
        "all of them",
    );
    let fine = bare == all && served == LIMIT && gated.served() == LIMIT;
    report.figure("served by the model", (bare, served), fine, "all without the gate, the limit with it");
    let mut seen = gated;
    seen.extend(after);
    let refused = seen.refused();
    let revoked = refused.get(REVOKED).copied().unwrap_or_default();
    let fine = seen.count() == all
        && refused.values().sum::<usize>() == all.saturating_sub(served)
        && revoked.saturating_add(ON_THE_WAY) >= AFTER.calls();
    report.figure("refused", (0, words(&refused)), fine, "what is over the limit, then all");
    let cost = (dollars(bare), dollars(served));
    report.figure("cost", cost, true, "");
    let logged = stage.logged(VICTIM, all).await?;
    report.figure(
        "calls in the audit log",
        (unseen, logged),
        unseen == 0 && logged == all,
        "all with the gate",
    );
    report.traffic.push_str(&format!(" A call is assumed to cost {}.", dollars(1)));
    stage.finish(&mut report).await?;
    Ok(report)
}
