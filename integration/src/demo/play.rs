//! Sends the calls of the story, and holds each answer and its audit event against what must come of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Context;
use serde_json::Value;

use crate::client::{self, Http1, Http2};
use crate::demo::Demo;
use crate::demo::story::{Call, Expected, Part};
use crate::demo::table::{Row, Section};
use crate::{Answer, client::ANSWER_BOUND};

/// What a call was answered, before its audit event is known.
struct Played {
    row: Row,
    expected: Expected,
    reasons: Counted,
    /// `x-mlgate-decision-id` of each answer.
    decisions: Vec<String>,
}

/// How often each word came.
pub(crate) type Counted = BTreeMap<String, usize>;

/// Connections of a burst.
const CONNECTIONS: usize = 8;
/// The status of an event that has no reason.
const SUCCESS: &str = "success";
/// What most of a burst is answered.
pub(crate) const LIMITED: &str = "rate_limited";

/// Plays all parts, then reads the audit log.
pub async fn play(demo: &Demo, parts: Vec<Part>) -> anyhow::Result<Vec<Section>> {
    let mut played = Vec::new();
    for part in parts {
        let mut rows = Vec::new();
        for call in part.calls {
            rows.push(play_one(demo.envoy.address(), call).await?);
        }
        played.push((part.title, rows));
    }
    let wanted: Vec<&str> =
        played.iter().flat_map(|(_, rows)| rows).flat_map(|row| &row.decisions).map(String::as_str).collect();
    let events = events(demo, &wanted).await?;
    let sections = played.into_iter().map(|(title, rows)| Section {
        title: title.to_owned(),
        rows: rows.into_iter().map(|row| audited(row, &events)).collect(),
    });
    Ok(sections.collect())
}

async fn play_one(address: SocketAddr, call: Call) -> anyhow::Result<Played> {
    let answers = match call.expected {
        Expected::Burst { sent, .. } => burst(address, &call, sent).await?,
        Expected::RefusedGrpc { .. } => {
            vec![Http2::connect(address).await?.call(call.request.clone()).await?]
        }
        Expected::Refused { .. } | Expected::Served => {
            vec![client::call(address, call.request.clone()).await.with_context(|| call.shown)?]
        }
    };
    let mut row = Row { who: call.who.to_owned(), call: call.shown.to_owned(), ..Row::default() };
    let first = answers.first().context("no answer")?;
    let (statuses, reasons) = told(&answers);
    row.status = statuses.keys().cloned().collect::<Vec<_>>().join(", ");
    if let Some(note) = call.note {
        match note(first) {
            Ok(note) => row.note = note,
            Err(error) => row.wrong = Some(error.to_string()),
        }
    }
    let [wanted_statuses, wanted_reasons, _] = wanted(call.expected);
    if statuses != wanted_statuses || reasons != wanted_reasons {
        let body = first.text();
        row.wrong = Some(format!(
            "expected {} {}, got {} {}: {body}",
            words(&wanted_statuses),
            words(&wanted_reasons),
            words(&statuses),
            words(&reasons)
        ));
    }
    let decisions: Vec<String> =
        answers.iter().filter_map(|answer| answer.header("x-mlgate-decision-id")).collect();
    if decisions.len() != answers.len() && row.wrong.is_none() {
        row.wrong = Some("an answer has no x-mlgate-decision-id".to_owned());
    }
    Ok(Played { row, expected: call.expected, reasons, decisions })
}

/// The same call many times, as fast as some connections allow.
async fn burst(address: SocketAddr, call: &Call, count: usize) -> anyhow::Result<Vec<Answer>> {
    let each = count.div_ceil(CONNECTIONS);
    let mut senders = tokio::task::JoinSet::new();
    for number in 0..CONNECTIONS {
        let share = each.min(count.saturating_sub(each.saturating_mul(number)));
        let request = call.request.clone();
        senders.spawn(async move {
            let mut connection = Http1::connect(address).await?;
            let mut answers = Vec::with_capacity(share);
            for _ in 0..share {
                let answer = connection.call(request.clone()).await?;
                if answer.closes() {
                    connection = Http1::connect(address).await?;
                }
                answers.push(answer);
            }
            anyhow::Ok(answers)
        });
    }
    let mut answers = Vec::with_capacity(count);
    while let Some(sent) = senders.join_next().await {
        answers.extend(sent??);
    }
    Ok(answers)
}

/// What callers read: each status and reason with how often it came.
fn told(answers: &[Answer]) -> (Counted, Counted) {
    let (mut statuses, mut reasons) = (Counted::new(), Counted::new());
    for answer in answers {
        let status = match answer.grpc_status() {
            Some(status) => format!("gRPC {status}"),
            None => answer.status.to_string(),
        };
        count(&mut statuses, status);
        if let Some(reason) = answer.reason() {
            count(&mut reasons, reason);
        }
    }
    (statuses, reasons)
}

/// What must come of a call: statuses, reasons the caller reads, words of the audit events.
fn wanted(expected: Expected) -> [Counted; 3] {
    let one = |word: &str| Counted::from([(word.to_owned(), 1)]);
    match expected {
        Expected::Served => [one("200"), Counted::new(), one(SUCCESS)],
        Expected::Refused { status, reason, because } => {
            [one(&status.to_string()), one(reason), one(because)]
        }
        Expected::RefusedGrpc { status, because } => {
            [one(&format!("gRPC {status}")), one(because), one(because)]
        }
        Expected::Burst { sent, served } => {
            let refused = sent.saturating_sub(served);
            let both = |served_word: &str, word: &str| {
                Counted::from([(served_word.to_owned(), served), (word.to_owned(), refused)])
            };
            let reasons = Counted::from([(LIMITED.to_owned(), refused)]);
            [both("200", "429"), reasons, both(SUCCESS, LIMITED)]
        }
    }
}

/// The reason of each decision's event, or its status where it has none; read again until all wanted ones are there.
async fn events(demo: &Demo, wanted: &[&str]) -> anyhow::Result<BTreeMap<String, String>> {
    let start = std::time::Instant::now();
    loop {
        let mut events = BTreeMap::new();
        for event in demo.collector.events()? {
            let text = |name: &str| event.get(name).and_then(Value::as_str).map(str::to_owned);
            if let (Some(decision), Some(status)) = (text("decision_id"), text("status")) {
                events.insert(decision, text("reason").unwrap_or(status));
            }
        }
        if wanted.iter().all(|decision| events.contains_key(*decision)) || start.elapsed() > ANSWER_BOUND {
            return Ok(events);
        }
        tokio::time::sleep(POLL).await;
    }
}

const POLL: std::time::Duration = std::time::Duration::from_millis(50);

/// The row with what the log says of it.
fn audited(played: Played, events: &BTreeMap<String, String>) -> Row {
    let Played { mut row, expected, reasons, decisions } = played;
    let mut found = Counted::new();
    for decision in &decisions {
        count(&mut found, events.get(decision).map_or("no event", String::as_str).to_owned());
    }
    let [_, _, wanted] = wanted(expected);
    if found != wanted && row.wrong.is_none() {
        row.wrong = Some(format!("the audit log says {} instead of {}", words(&found), words(&wanted)));
    }
    let read: Vec<&str> = reasons.keys().map(String::as_str).collect();
    let more: Vec<&str> =
        found.keys().map(String::as_str).filter(|word| *word != SUCCESS && !read.contains(word)).collect();
    row.reason = read.join(", ");
    if !more.is_empty() {
        row.reason.push_str(&format!(" ({})", more.join(", ")));
    }
    if let Expected::Burst { served, .. } = expected {
        row.reason.push_str(&format!(" from call {} on", served.saturating_add(1)));
    }
    row
}

pub(crate) fn words(counted: &Counted) -> String {
    let each: Vec<String> = counted.iter().map(|(word, count)| format!("{count} {word}")).collect();
    each.join(", ")
}

pub(crate) fn count(counted: &mut Counted, word: String) {
    let count = counted.entry(word).or_default();
    *count = count.saturating_add(1);
}
