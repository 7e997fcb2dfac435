//! What the command says of the log that the story leaves behind: it is intact, a copy with one changed byte is not, and
//! whose key was stolen stands out.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::Stack;
use crate::analysis::analyze;
use crate::collector::{Collector, Verdict};

/// A verdict, and whether it is the right one.
#[derive(Debug)]
pub struct Finding {
    /// What was asked about.
    pub title: String,
    /// What the command said.
    pub verdict: Verdict,
    /// Whether it should say that.
    pub expected: bool,
}

/// The alerts that the story must lead to: rule and caller.
const ALERTS: [(&str, &str); 1] = [("HIGH_ERROR_RATE", "user_3")];
/// The event that is tampered with, and what its byte becomes: a stolen key's call is blamed on somebody else.
const BEFORE: &str = r#""user_id":"user_3""#;
const AFTER: &str = r#""user_id":"user_1""#;

/// All verdicts.
pub fn findings(collector: &Collector, stack: &Stack) -> anyhow::Result<Vec<Finding>> {
    let intact = collector.verify()?;
    let (copy, change) = tampered(collector.log(), stack)?;
    let changed = collector.verify_log(&copy)?;
    let suspects = collector.analyze()?;
    let found = analyze(&[collector.log()], &[])?;
    Ok(vec![
        Finding {
            title: "The audit log of all this".to_owned(),
            expected: intact.exit == Some(0) && !intact.text.contains("not closed"),
            verdict: intact,
        },
        Finding {
            title: format!("A copy with one byte changed, {change}"),
            expected: changed.exit == Some(1) && changed.text.contains("tampered.log:"),
            verdict: changed,
        },
        Finding {
            title: "Who in it is suspicious".to_owned(),
            expected: suspects.exit == Some(2) && found.all() == ALERTS,
            verdict: suspects,
        },
    ])
}

/// A copy of the log in which one byte is another.
fn tampered(log: &Path, stack: &Stack) -> anyhow::Result<(PathBuf, String)> {
    let text = fs::read_to_string(log)?;
    let Some(place) = text.match_indices(BEFORE).map(|(place, _)| place).nth(1) else {
        bail!("no event with {BEFORE}");
    };
    let (head, tail) = text.split_at_checked(place).context("not at a letter")?;
    let line = head.lines().count();
    let changed = [head, &tail.replacen(BEFORE, AFTER, 1)].concat();
    Ok((stack.write("tampered.log", changed)?, format!("line {line}: {BEFORE} becomes {AFTER}")))
}
