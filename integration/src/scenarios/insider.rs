//! Somebody who leaves asks the model what it knows, and stays under the limit. No limit can find that; a caller's own
//! history can.

use std::time::Instant;

use mlgate::time::UnixTime;

use crate::analysis::analyze;
use crate::history::{History, Incident};
use crate::scenarios::report::Report;
use crate::scenarios::stage::{Gate, ON_THE_WAY, Stage, Suspect, TakeBack};
use crate::scenarios::traffic::Pace;

/// Who leaves; the generated history speaks of a principal of the same name.
const INSIDER: &str = "user_4";
/// Of [`INSIDER`] in an hour: far over its ten or so, far under its 1000.
const BEFORE: Pace = Pace::as_fast_as(4, 400);
/// What would have followed.
const AFTER: Pace = Pace::as_fast_as(4, 100);
/// The generated month ends here; its last day has the incident.
const GENERATED_UNTIL: &str = "2026-03-31T00:00:00Z";
const VOLUME: &str = "HIGH_REQUEST_VOLUME";

/// Plays it.
pub async fn play() -> anyhow::Result<Report> {
    let mut stage = Stage::start("insider", None).await?;
    let mut report = Report {
        title: "An insider stays under the limit",
        traffic: format!(
            "{INSIDER}, who may, sends {} calls in an hour, and {} more after the alert; the limit is 1000 an hour.",
            BEFORE.count, AFTER.count
        ),
        ..Report::default()
    };
    generated(&stage, &mut report)?;

    let bare = stage.send(INSIDER, Gate::Without, BEFORE).await?.served();
    let bare_after = stage.send(INSIDER, Gate::Without, AFTER).await?.served();
    let unseen = stage.logged(INSIDER, 0).await?;
    let began = Instant::now();
    let gated = stage.send(INSIDER, Gate::With, BEFORE).await?;
    let logged = stage.logged(INSIDER, gated.count()).await?;
    let told = format!("{} calls served, none over the limit; {logged} are in the audit log", gated.served());
    report.step(began.elapsed(), told, gated.served() == BEFORE.calls() && logged == BEFORE.calls(), "all");
    let suspect = Suspect { principal: INSIDER, rules: &[VOLUME], take_back: TakeBack::Principals };
    let after = stage.answer_to(&mut report, &suspect, AFTER, began).await?;

    let fine = bare == BEFORE.calls() && gated.served() == bare;
    report.figure("served before the alert", (bare, gated.served()), fine, "the limit stops nothing");
    let all = bare.saturating_add(bare_after);
    let logged = stage.logged(INSIDER, all).await?;
    report.figure(
        "calls in the audit log",
        (unseen, logged),
        unseen == 0 && logged == all,
        "all with the gate",
    );
    let fine = bare_after == AFTER.calls() && after.served() <= ON_THE_WAY && after.count() == AFTER.calls();
    report.figure(
        "served after the alert",
        (bare_after, after.served()),
        fine,
        "all without the gate, none with it",
    );
    stage.finish(&mut report).await?;
    Ok(report)
}

/// The labelled history: found by the caller's own median, and not by the fixed threshold alone.
fn generated(stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    let until =
        UnixTime::parse(GENERATED_UNTIL).map_err(|_| anyhow::anyhow!("not a time: {GENERATED_UNTIL}"))?;
    let history = History::with(until, &[Incident::QuietInsider]);
    let (log, labels) = stage.write_history("generated-insider.log", &history)?;
    let now = ["--now", GENERATED_UNTIL];
    let fixed = analyze(&[&log], &[now.as_slice(), &["--baseline-factor", "1000000"]].concat())?;
    let told = "in a GENERATED history, labelled `quiet_insider`, a fixed threshold finds nobody".to_owned();
    report.step(None, told, fixed.exit == Some(0), "no alert");
    let own = analyze(&[&log], &now)?;
    let due: Vec<(&str, &str)> = labels
        .iter()
        .flat_map(|label| label.rules.iter().map(|rule| (*rule, label.caller.as_str())))
        .collect();
    let seen =
        own.of(INSIDER).first().and_then(|alert| alert.pointer("/text/seen")).cloned().unwrap_or_default();
    let told = format!(
        "ten times its own median hour does: {VOLUME} for `{INSIDER}`, and no other alert\nseen:   {}",
        seen.as_str().unwrap_or_default()
    );
    report.step(
        None,
        told,
        own.all() == due && due == [(VOLUME, INSIDER)],
        "what its label says, no more and no less",
    );
    Ok(())
}
