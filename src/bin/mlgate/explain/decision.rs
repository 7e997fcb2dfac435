//! `mlgate explain --decision`: a recorded decision is made again, and what each policy says of it is shown.

use std::ops::ControlFlow;

use mlgate::filter::refusal::Reason;
use mlgate::review::Candidate;
use mlgate::review::candidate::Answer as Said;
use mlgate::review::partial::Outcome;
use mlgate::review::record::Record;
use mlgate::review::replay::Replay;
use serde::Serialize;

use super::stages::{Asked, Caller, Stages, attributes};
use super::{Answer, ExplainCommand, Report, human, public};
use crate::environment::Environment;
use crate::{Exit, Format, Stop, open, print, print_json, records};

/// What the log says of the decision.
#[derive(Serialize)]
pub(super) struct Recorded {
    decision_id: String,
    timestamp: String,
    policy_revision: String,
    /// Of the configuration that explains it.
    this_revision: String,
    decision: String,
    /// Attributes that this configuration's policies read and the event does not hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_recorded: Vec<String>,
}

/// Explains a recorded decision.
pub(super) fn run(command: &ExplainCommand, environment: &Environment, format: Format) -> Result<Exit, Stop> {
    let candidate = open(&command.config, environment)?;
    let wanted = command.decision.as_deref().unwrap_or_default();
    let mut found = None;
    let reading = records::each(&command.log, &mut |record| {
        if record.decision_id != wanted {
            return ControlFlow::Continue(());
        }
        found = Some(record);
        ControlFlow::Break(())
    })?;
    let Some(record) = found else {
        reading.warn()?;
        return Err(Stop::invalid(
            "--decision",
            format_args!("no decision of the log has the id `{wanted}`"),
            "copy it from `x-mlgate-decision-id` or from the event, and name the log that holds it",
        ));
    };
    let (report, exit) = report(&record, &candidate);
    match format {
        Format::Human => print(&human(&report))?,
        Format::Json => print_json(&report)?,
    }
    Ok(exit)
}

fn report(record: &Record, candidate: &Candidate) -> (Report, Exit) {
    let mut stages = Stages { request: format!("{} {}", record.method, record.path), ..Stages::default() };
    let mut recorded = Recorded {
        decision_id: record.decision_id.clone(),
        timestamp: record.timestamp.to_string(),
        policy_revision: record.policy_revision.clone(),
        this_revision: candidate.config.revision.clone(),
        decision: match (&record.said, &record.reason) {
            (Some(said), _) => said.to_string(),
            (None, Some(reason)) => format!("denied ({reason}) before policies were asked"),
            (None, None) => String::from("no policy was asked"),
        },
        not_recorded: Vec::new(),
    };
    let replay = Replay { candidate, recorder: candidate };
    let outcome = match walk(record, candidate, &replay, &mut stages, &mut recorded) {
        Ok(()) => replay.of(record),
        Err(reason) => Some(Outcome::Said(Said { refused: Some(reason), policies: Vec::new() })),
    };
    let (decision, answer) = match outcome {
        Some(Outcome::Said(said)) => {
            stages.because.clone_from(&said.policies);
            (if said.is_allowed() { "allowed" } else { "denied" }, said.refused)
        }
        Some(Outcome::Depends(_)) => ("not decided: not everything was recorded", None),
        None => ("no policy is asked", None),
    };
    let reason = answer.map(|reason| reason.answer().inner);
    let answer =
        answer.map(|reason| Answer { status: reason.answer().status, reason: public(reason.answer().inner) });
    let exit = if decision == "allowed" { Exit::Fine } else { Exit::Findings };
    (Report { recorded: Some(recorded), stages, decision, reason, answer }, exit)
}

/// What each stage sees of it, until one refuses.
fn walk(
    record: &Record,
    candidate: &Candidate,
    replay: &Replay<'_>,
    stages: &mut Stages,
    recorded: &mut Recorded,
) -> Result<(), Reason> {
    stages.profile.clone_from(&record.profile);
    if record.principal.is_none() {
        return Ok(());
    }
    let Some(rebuilt) = replay.rebuild(record)? else { return Ok(()) };
    stages.caller = Some(Caller::of(&rebuilt.identity, false));
    recorded.not_recorded = rebuilt.unknown.iter().map(|(category, name)| category.full_name(name)).collect();
    if !rebuilt.profile.authorize {
        return Ok(());
    }
    let Some(question) = rebuilt.question(candidate, record)? else { return Ok(()) };
    stages.resource = Some(Asked {
        kind: question.resource.kind.clone(),
        id: question.resource.id.clone(),
        listed: question.listed,
        attributes: attributes(&question.resource.attributes),
        action: question.action.to_owned(),
    });
    if question.listed {
        stages.said(&candidate.config, rebuilt.profile, &question);
    }
    Ok(())
}

// === impl Recorded ===

impl Recorded {
    /// For people: stage and line.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            ("decision", format!("{} at {}", self.decision_id, self.timestamp)),
            ("recorded", self.decision.clone()),
        ];
        if self.policy_revision != self.this_revision {
            lines.push((
                "revision",
                format!(
                    "recorded under {}, this configuration is {}: what follows is how this one decides",
                    self.policy_revision, self.this_revision
                ),
            ));
        }
        if !self.not_recorded.is_empty() {
            lines.push(("unknown", format!("{} was not recorded", self.not_recorded.join(", "))));
        }
        lines
    }
}
