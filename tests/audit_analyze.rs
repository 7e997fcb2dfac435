//! `mlgate audit analyze` and `mlgate audit report` on generated histories, as their users see them.

#![cfg(all(feature = "cli", unix))]
#![expect(clippy::unwrap_used, reason = "a broken fixture should stop the test")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use history::{History, Incident, Label};
use mlgate::audit::analysis::Gather as _;
use mlgate::audit::analysis::detect::{Detector, Thresholds, Window};
use mlgate::audit::analysis::fact::Fact;
use mlgate::time::UnixTime;
use serde_json::Value as Json;

#[path = "support/history.rs"]
pub mod history;

const DAY: i64 = 86_400_000;

fn end() -> UnixTime {
    UnixTime::parse("2026-03-31T00:00:00Z").unwrap()
}

fn audit(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mlgate")).arg("audit").args(arguments).output().unwrap()
}

fn analyze(log: &Path, more: &[&str]) -> Output {
    let now = end().to_string();
    audit(&[&["analyze", "--now", &now, log.to_str().unwrap()], more].concat())
}

fn text(output: &Output) -> String {
    String::from_utf8([output.stdout.clone(), output.stderr.clone()].concat()).unwrap()
}

fn written(history: &History) -> (String, Vec<Label>) {
    let mut bytes = Vec::new();
    let labels = history.write(&mut bytes).unwrap();
    (String::from_utf8(bytes).unwrap(), labels)
}

/// A file of this test run.
fn file(name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("analyze-{name}"));
    fs::write(&path, content).unwrap();
    path
}

/// Rule and caller of each alert of a JSON report.
fn alerts(output: &Output) -> BTreeSet<(String, String)> {
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    let alerts = report.get("alerts").and_then(Json::as_array).unwrap().iter();
    alerts
        .map(|alert| {
            let caller = alert["principal"].as_str().or(alert["source"].as_str()).unwrap();
            (alert["rule"].as_str().unwrap().to_owned(), caller.to_owned())
        })
        .collect()
}

fn due(labels: &[Label]) -> BTreeSet<(String, String)> {
    let of = |label: &Label| {
        let caller = label.caller.clone();
        label.rules.iter().map(move |rule| ((*rule).to_owned(), caller.clone())).collect::<Vec<_>>()
    };
    labels.iter().flat_map(of).collect()
}

#[test]
fn each_incident_is_found_and_nothing_else() {
    for incident in Incident::ALL {
        let (log, labels) = written(&History::with(end(), &[incident]));
        let output = analyze(&file(incident.word(), log), &["--format", "json"]);
        assert_eq!(output.status.code(), Some(2), "{incident:?}: {}", text(&output));
        assert_eq!(alerts(&output), due(&labels), "{incident:?}");
    }
}

#[test]
fn no_day_of_a_clean_month_gives_an_alert() {
    let (log, _) = written(&History { days: 60, ..History::clean(end()) });
    let facts: Vec<Fact<'_>> = log.lines().map(|line| Fact::parse(line.as_bytes()).unwrap()).collect();
    for day in 0..30 {
        let until = end().millis() - day * DAY;
        let mut detector = Detector::new(Window::new(until - DAY, until));
        facts.iter().for_each(|fact| detector.take(fact));
        let analysis = detector.analyze(&Thresholds::default());
        assert_eq!(analysis.alerts, [], "{day} days before the end");
        assert!(analysis.totals.requests > 50, "{:?}", analysis.totals);
    }
    let output = analyze(&file("clean", log), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn a_generated_history_is_whole_and_says_what_it_is() {
    let (log, _) = written(&History::with(end(), &Incident::ALL));
    assert!(log.lines().all(|line| line.contains("\"gate\":\"generated\"") && line.contains("\"unkeyed\"")));
    assert!(log.contains("\"count\":"), "floods are counted together");
    let path = file("whole", &log);
    assert_eq!(audit(&["verify", path.to_str().unwrap()]).status.code(), Some(0));
    assert_eq!(written(&History::with(end(), &Incident::ALL)).0, log, "the same seed, the same bytes");
}

#[test]
fn the_order_of_lines_and_duplicates_change_nothing() {
    let (log, labels) = written(&History::with(end(), &Incident::ALL));
    let straight = analyze(&file("order", &log), &["--format", "json"]);
    assert_eq!(alerts(&straight), due(&labels));
    let mut lines: Vec<&str> = log.lines().collect();
    // a fixed disorder: 1 000 003 is prime to the number of lines
    let count = lines.len();
    lines = (0..count).map(|n| lines[n * 1_000_003 % count]).collect();
    let twice: Vec<&str> = lines.iter().chain(lines.iter().step_by(3)).copied().collect();
    let path = file("order", twice.join("\n"));
    let disorder = analyze(&path, &["--format", "json"]);
    let strip = |output: &Output| {
        let mut report: Json = serde_json::from_slice(&output.stdout).unwrap();
        report.as_object_mut().unwrap().remove("reading").unwrap();
        report
    };
    assert_eq!(strip(&disorder), strip(&straight));
    assert_eq!(disorder.stdout, analyze(&path, &["--format", "json"]).stdout);
    let human = text(&analyze(&path, &[]));
    assert!(human.contains(&format!("note: {} events came again and count once", count.div_ceil(3))));
    assert_eq!(human, text(&analyze(&path, &[])));
}

#[test]
fn an_alert_says_what_was_seen_what_is_normal_and_what_stops_it() {
    let (log, _) = written(&History::with(end(), &[Incident::Insider]));
    let path = file("sentences", log);
    let human = text(&analyze(&path, &[]));
    for part in [
        "HIGH_REQUEST_VOLUME `user_3` since 2026-03-30T21:00:00.000Z",
        "10000 of them in the hour from 2026-03-30T21:00:00.000Z",
        "an hour (median of ",
        "keys:      gen00003",
        "stop it:   authentication: { revocation: { keys: [\"gen00003\"] } }; the whole caller: \
         authentication: { revocation: { principals: [\"user_3\"] } }",
        "1 alert: ",
    ] {
        assert!(human.contains(part), "{part}\n{human}");
    }
    let generous = ["--max-requests", "20000", "--baseline-factor", "5000"];
    assert_eq!(analyze(&path, &generous).status.code(), Some(0));
    assert_eq!(analyze(&path, &["--until", "4h"]).status.code(), Some(0), "before it happened");
}

#[test]
fn bad_input_is_named() {
    let (log, _) = written(&History { days: 1, ..History::clean(end()) });
    let path = file("torn", log.replacen('\n', "\nnonsense\n", 1));
    let output = analyze(&path, &[]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output).contains("torn:2: expected ident"), "{}", text(&output));
    for (content, code) in [("", 1), ("x\ny\n", 1)] {
        assert_eq!(analyze(&file("nothing", content), &[]).status.code(), Some(code));
    }
    for wrong in [
        &["analyze"][..],
        &["analyze", "/nowhere/audit.log"],
        &["analyze", "--since", "soon", path.to_str().unwrap()],
        &["analyze", "--since", "1h", "--until", "2h", path.to_str().unwrap()],
        &["analyze", "--max-error-rate", "50", path.to_str().unwrap()],
        &["analyze", "--follow", "-"],
        &["report", "--by", "colour", path.to_str().unwrap()],
    ] {
        let output = audit(wrong);
        assert_eq!(output.status.code(), Some(3), "{wrong:?}: {}", text(&output));
    }
    let future = audit(&["analyze", path.to_str().unwrap(), "--now", "2030-01-01T00:00:00Z"]);
    assert!(text(&future).contains("no request is in the window: the log goes from 2026-03-"));
}

#[test]
fn following_tells_each_new_alert_once_through_a_rotation() {
    // the window of `--follow` ends now
    let now = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
    let now = UnixTime::parse(text(&now).trim()).unwrap();
    let incidents = [Incident::QuietInsider, Incident::Reconnaissance];
    let (log, labels) = written(&History::with(now, &incidents));
    let path = file("follow", "");
    let mut child = Command::new(env!("CARGO_BIN_EXE_mlgate"))
        .args(["audit", "analyze", "--follow", "--since", "26h", "--format", "json", path.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let alert: Json = serde_json::from_str(&line).unwrap();
        (alert["rule"].as_str().unwrap().to_owned(), alert["principal"].as_str().unwrap().to_owned())
    };
    let append = |text: &str| {
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    };
    // reconnaissance comes first; half of what follows goes to another file
    let lines: Vec<&str> = log.split_inclusive('\n').collect();
    let quiet = format!("\"timestamp\":\"{}\"", labels[0].since);
    let quiet = lines.iter().position(|line| line.contains("user_4") && line.contains(&quiet)).unwrap();
    append(&lines[..quiet].concat());
    assert_eq!(next(), (String::from("MULTI_MODEL_ACCESS"), String::from("user_5")));
    fs::rename(&path, path.with_extension("1")).unwrap();
    append(&lines[quiet..].concat());
    assert_eq!(next(), (String::from("HIGH_REQUEST_VOLUME"), String::from("user_4")));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    let mut rest = String::new();
    output.read_line(&mut rest).unwrap();
    assert_eq!(rest, "", "each alert once");
}

#[test]
fn a_report_adds_up_and_every_format_says_the_same() {
    let (log, _) = written(&History::with(end(), &[Incident::StolenKey]));
    let path = file("report", &log);
    let now = end().to_string();
    let report = |more: &[&str]| {
        let fixed = ["report", "--now", &now, "--since", "40d", path.to_str().unwrap()];
        let output = audit(&[&fixed[..], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        text(&output)
    };
    let json: Json =
        serde_json::from_str(&report(&["--by", "principal,status", "--format", "json"])).unwrap();
    let rows = json["rows"].as_array().unwrap();
    let sum = |member: &str| rows.iter().map(|row| row["counts"][member].as_u64().unwrap()).sum::<u64>();
    for member in ["requests", "denied", "errors", "input_bytes", "duration_ms"] {
        assert_eq!(json["total"][member], sum(member), "{member}");
    }
    let requests = u64::try_from(log.lines().filter(|line| line.contains("\"access\"")).count()).unwrap();
    assert_eq!((sum("requests"), rows[0]["principal"].as_str()), (requests, Some("batch_scoring")));

    let csv = report(&["--by", "team,model", "--csv"]);
    assert!(
        csv.starts_with("team,model,requests,denied,errors,aborted,input_bytes,output_bytes,seconds\r\n")
    );
    assert!(csv.lines().skip(1).all(|line| line.split(',').count() == 9), "{csv}");
    let human = report(&["--by", "team,model"]);
    assert_eq!(human.lines().count(), csv.lines().count() + 2, "a total and the window");
    assert!(human.contains(&format!("  {requests}  ")), "{human}");
    let days = report(&["--by", "day"]);
    let first: Vec<&str> = days.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
    assert!(first.starts_with(&["2026-02-28", "2026-03-01"]), "{first:?}");
}
