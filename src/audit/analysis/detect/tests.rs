#![expect(clippy::arithmetic_side_effects, reason = "an overflow should stop the test")]

use super::*;
use crate::audit::analysis::samples;

const DAY: i64 = 24 * HOUR_MS;

/// The window is the 31st day.
const NOW: i64 = 31 * DAY;

struct History(Vec<String>);

impl History {
    /// `count` requests of `a`, one a second from `at` on.
    fn requests(mut self, at: i64, count: i64, status: &str, more: &str) -> Self {
        self.0.extend((0..count).map(|n| samples::access(at + n * 1000, "a", status, more)));
        self
    }

    /// `hourly` requests at 9, 10 and 11 o'clock on each of the days.
    fn office(mut self, days: std::ops::Range<i64>, hourly: i64) -> Self {
        for day in days {
            for hour in 9..12 {
                self = self.requests(day * DAY + hour * HOUR_MS, hourly, "success", "");
            }
        }
        self
    }

    fn alerts(&self) -> Vec<Alert> {
        let analysis = analyze(&self.0);
        assert_eq!(analysis.alerts_total, analysis.alerts.len());
        let mut backwards = self.0.clone();
        backwards.reverse();
        assert_eq!(analyze(&backwards), analysis, "the order of lines changed something");
        analysis.alerts
    }
}

fn analyze(lines: &[String]) -> Analysis {
    let mut threads = [0, 1].map(|_| Detector::new(Window::new(NOW - DAY, NOW)));
    for (index, line) in lines.iter().enumerate() {
        threads[index % 2].take(&Fact::parse(line.as_bytes()).unwrap());
    }
    let [mut whole, other] = threads;
    whole.merge(other);
    whole.analyze(&Thresholds::default())
}

fn history() -> History {
    History(Vec::new())
}

#[test]
fn a_thousand_requests_in_the_window_are_no_alert_and_one_more_is() {
    let hours = |last: i64| {
        (0..9).fold(history(), |history, n| {
            history.requests(30 * DAY + n * HOUR_MS, if n == 8 { last } else { 100 }, "success", "")
        })
    };
    assert_eq!(hours(200).alerts(), []);
    let alerts = hours(201).alerts();
    assert_eq!(alerts.len(), 1);
    assert_eq!((alerts[0].rule(), alerts[0].since), ("HIGH_REQUEST_VOLUME", 30 * DAY + 8 * HOUR_MS));
}

#[test]
fn who_stays_under_the_limit_is_found_by_its_own_median() {
    let quiet = || history().office(0..30, 10);
    let evening = 30 * DAY + 20 * HOUR_MS;
    assert_eq!(quiet().requests(evening, 100, "success", "").alerts(), []);
    let alerts = quiet().requests(evening, 101, "success", "").alerts();
    let Evidence::HighRequestVolume { requests, burst: Some(burst), normal: Some(normal), .. } =
        &alerts[0].evidence
    else {
        panic!("{alerts:?}")
    };
    assert_eq!((*requests, burst.requests, burst.limit, burst.hour), (101, 101, 100, evening));
    assert_eq!((normal.median_hour, normal.active_hours, normal.in_window), (10, 90, false));
    assert!(alerts[0].to_string().contains("10 an hour (median of 90 active hours before the window)"));
}

#[test]
fn a_busy_caller_may_be_as_busy_as_ever() {
    let busy = history().office(0..30, 300).office(30..31, 330);
    assert_eq!(busy.alerts(), []);
}

#[test]
fn without_a_past_the_other_hours_of_the_window_say_what_is_normal() {
    let day = (0..8).fold(history(), |history, n| {
        history.requests(30 * DAY + n * HOUR_MS, if n == 6 { 300 } else { 8 }, "success", "")
    });
    let alerts = day.alerts();
    assert!(alerts[0].normal().starts_with("8 an hour (median of 8 active hours of the window itself)"));
    let few = (0..3).fold(history(), |history, n| {
        history.requests(30 * DAY + n * HOUR_MS, if n == 2 { 900 } else { 8 }, "success", "")
    });
    assert_eq!(few.alerts(), [], "three hours are no habit");
}

#[test]
fn one_denied_call_is_no_alert_and_eleven_of_twenty_are() {
    let morning = 30 * DAY + 9 * HOUR_MS;
    assert_eq!(history().requests(morning, 19, "denied", "").alerts(), []);
    let mix = |bad: i64| {
        history().requests(morning, 20 - bad, "success", "").requests(
            morning + HOUR_MS,
            bad,
            "error",
            ",\"reason\":\"reset\"",
        )
    };
    assert_eq!(mix(10).alerts(), []);
    let alerts = mix(11).office(3..4, 5).alerts();
    assert_eq!((alerts[0].rule(), alerts[0].since), ("HIGH_ERROR_RATE", morning + HOUR_MS));
    assert_eq!(alerts[0].seen(), "11 of 20 requests denied or failed, 55 % (reset (11))");
    assert_eq!(alerts[0].normal(), "0 of 15 requests denied or failed, 0 % before the window");
}

#[test]
fn five_models_are_no_alert_and_six_are_denied_or_not() {
    let models = |count: i64| {
        (0..count).fold(history().office(10..12, 2), |history, n| {
            let status = if n % 2 == 0 { "success" } else { "denied" };
            let more = format!(",\"model_id\":\"m{n}\"");
            history.requests(30 * DAY + n * 60_000, 2, status, &more)
        })
    };
    assert_eq!(models(5).alerts(), []);
    let alerts = models(6).requests(20 * DAY, 1, "success", ",\"model_id\":\"m0\"").alerts();
    assert_eq!((alerts.len(), alerts[0].rule()), (1, "MULTI_MODEL_ACCESS"));
    assert_eq!(alerts[0].seen(), "6 models, 5 of them for the first time: m0, m1, m2, m3, m4, m5");
    assert_eq!(
        (alerts[0].normal().as_str(), alerts[0].since),
        ("1 model before the window", 30 * DAY + 60_000)
    );
    assert_eq!(
        models(300)
            .alerts()
            .iter()
            .map(Alert::seen)
            .filter(|seen| seen.starts_with("more than 100 models"))
            .count(),
        1
    );
}

#[test]
fn a_coalesced_event_counts_for_what_it_says_and_sources_are_apart() {
    let refusal = |source: &str, count: i64| {
        samples::access(
            30 * DAY + count,
            "anonymous",
            "denied",
            &format!(",\"count\":{count},\"reason\":\"credential_invalid\",\"source\":\"{source}\""),
        )
    };
    let lines = [refusal("10.0.0.1", 1001), refusal("10.0.0.2", 15), refusal("10.0.0.3", 19)];
    let analysis = analyze(&lines);
    let rules: Vec<(&str, String)> =
        analysis.alerts.iter().map(|alert| (alert.rule(), alert.caller.to_string())).collect();
    let first = String::from("nobody authenticated, from `10.0.0.1`");
    assert_eq!(rules, [("HIGH_REQUEST_VOLUME", first.clone()), ("HIGH_ERROR_RATE", first)]);
    assert!(analysis.alerts[0].remedy().contains("nothing to revoke"));
    assert_eq!((analysis.totals.requests, analysis.totals.denied), (1035, 1035));
}

#[test]
fn what_is_open_to_all_may_be_asked_for_often() {
    let lines: Vec<String> = (0..5000)
        .map(|n| samples::access(30 * DAY + n * 1000, "anonymous", "success", ",\"source\":\"10.0.0.9\""))
        .collect();
    assert_eq!(analyze(&lines).alerts, []);
}

#[test]
fn the_revocation_is_in_the_words_of_the_configuration() {
    let key = ",\"credential\":{\"id\":\"k7f3a2b9\",\"method\":\"api_key\"},\"source\":\"203.0.113.9\"";
    let alerts = history().requests(30 * DAY, 1001, "success", key).alerts();
    assert_eq!(
        alerts[0].remedy(),
        "authentication: { revocation: { keys: [\"k7f3a2b9\"] } }; \
         the whole caller: authentication: { revocation: { principals: [\"a\"] } }"
    );
    assert_eq!(alerts[0].keys.names, [(String::from("k7f3a2b9"), 1001)]);
    let json = serde_json::to_value(&alerts[0]).unwrap();
    assert_eq!(json["revocation"], serde_json::json!({ "keys": ["k7f3a2b9"], "principals": ["a"] }));
    assert_eq!((&json["rule"], &json["requests"]), (&"HIGH_REQUEST_VOLUME".into(), &1001.into()));
}

#[test]
fn a_hostile_name_cannot_write_to_the_terminal() {
    let name = "\u{1b}[2J\"\u{202e}\n";
    let lines: Vec<String> = (0..30).map(|n| samples::access(30 * DAY + n, name, "denied", "")).collect();
    let analysis = analyze(&lines);
    let text = analysis.alerts[0].to_string();
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
    assert!(text.contains(r#"principals: ["\u001b[2J\"\u202e\u000a"]"#), "{text}");
}

#[test]
fn a_window_that_moves_on_forgets() {
    let mut detector = Detector::new(Window::new(NOW - DAY, i64::MAX));
    for line in history().requests(30 * DAY, 1001, "success", "").0 {
        detector.take(&Fact::parse(line.as_bytes()).unwrap());
    }
    assert_eq!(detector.analyze(&Thresholds::default()).alerts_total, 1);
    detector.advance(Window::new(NOW + HOUR_MS, i64::MAX));
    assert_eq!(detector.analyze(&Thresholds::default()).alerts_total, 0);
    detector.advance(Window::new(NOW + 40 * DAY, i64::MAX));
    assert!(detector.principals.sorted().is_empty());
}
