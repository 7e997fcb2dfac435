use std::sync::Arc;

use mlgate::audit::analysis::Gather as _;
use mlgate::audit::analysis::detect::{Detector, Thresholds, Window};
use mlgate::audit::analysis::fact::Fact;
use mlgate::audit::analysis::usage::{Dimension, Usage};

use super::super::super::scan::Reading;
use super::*;

const NOW: i64 = 1_774_915_200_000;

/// What was read of these lines.
pub(in super::super) fn read(lines: &[String]) -> Read {
    let by = [Dimension::Hour, Dimension::Principal, Dimension::Model, Dimension::Reason, Dimension::Source];
    let mut usage = Usage::new(by.to_vec(), i64::MIN, i64::MAX);
    let mut detector = Detector::new(Window::new(NOW.saturating_sub(86_400_000), NOW));
    for line in lines {
        let fact = Fact::parse(line.as_bytes()).unwrap();
        usage.take(&fact);
        detector.take(&fact);
    }
    Read {
        files: vec![String::from("<audit>.log")],
        now: NOW,
        rows: usage.rows(),
        rows_cut: None,
        analysis: detector.analyze(&Thresholds::default()),
        reading: Reading::default(),
    }
}

fn line(seq: u32, principal: &str, model: &str, status: &str, reason: &str) -> String {
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    format!(
        "{{\"chain\":\"g/0\",\"model_id\":{},\"principal\":{},\"reason\":{},\"seq\":{seq},\"status\":\"{status}\",\
         \"timestamp\":\"2026-03-30T10:00:00Z\",\"type\":\"access\",\"v\":1}}",
        quoted(model),
        quoted(principal),
        quoted(reason),
    )
}

fn page(lines: &[String], query: &Query) -> String {
    html(&Content { read: Arc::new(read(lines)), chains: None, trouble: None }, query)
}

#[test]
fn what_a_log_holds_cannot_become_markup() {
    let evil = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>\u{202e}&amp;";
    let lines: Vec<String> = (0..30).map(|n| line(n, evil, evil, "denied", evil)).collect();
    for query in [Query::default(), Query::default().of_principal(evil).of_model(evil)] {
        let page = page(&lines, &query);
        for forbidden in ["<script", "<img", "onerror='", "\u{202e}"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert!(page.contains("&quot;&gt;&lt;script&gt;alert(1)"), "it is shown nevertheless");
        assert!(page.contains("HIGH_ERROR_RATE") && page.contains("&lt;audit&gt;.log"));
    }
}

#[test]
fn filters_show_what_they_say() {
    let lines = [
        line(1, "user_1", "m1", "success", ""),
        line(2, "user_1", "m2", "denied", "no_match"),
        line(3, "user_2", "m1", "success", ""),
    ];
    let requests = |query: &Query| {
        let page = page(&lines, query);
        page.split_once("<b>").unwrap().1.split_once("</b>").unwrap().0.to_owned()
    };
    let all = Query::default();
    assert_eq!(requests(&all), "3");
    assert_eq!(requests(&all.of_principal("user_1")), "2");
    assert_eq!(requests(&all.of_principal("user_1").of_model("m2")), "1");
    assert_eq!(requests(&all.of_principal("user_9")), "0");
    assert!(page(&lines, &all.of_principal("user_9")).contains("Nothing in this time"));
}

#[test]
fn a_number_is_grouped() {
    assert_eq!(
        [0, 999, 1000, 1_234_567].map(number),
        ["0", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]
    );
}
