//! `mlgate audit analyze`, read by a program.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use crate::artifacts::{self, shown};

/// What `mlgate audit analyze` said.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// Its exit code.
    pub exit: Option<i32>,
    alerts: Vec<Value>,
}

// === impl Analysis ===

impl Analysis {
    /// A principal's alerts, in the order of their rules.
    pub fn of(&self, principal: &str) -> Vec<&Value> {
        let mut alerts: Vec<&Value> =
            self.alerts.iter().filter(|alert| text(alert, "/principal") == principal).collect();
        alerts.sort_by_key(|alert| text(alert, "/rule"));
        alerts
    }

    /// Rule and caller of each alert.
    pub fn all(&self) -> Vec<(&str, &str)> {
        self.alerts.iter().map(|alert| (text(alert, "/rule"), text(alert, "/principal"))).collect()
    }
}

/// Runs it.
pub fn analyze(logs: &[&Path], more: &[&str]) -> anyhow::Result<Analysis> {
    let output = Command::new(artifacts::command()?)
        .args(["audit", "analyze", "--format", "json"])
        .args(more)
        .args(logs)
        .output()
        .context("cannot run mlgate audit analyze")?;
    let report: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        let logs: Vec<String> = logs.iter().map(|log| shown(log)).collect();
        format!("mlgate audit analyze {}: {}", logs.join(" "), String::from_utf8_lossy(&output.stderr).trim())
    })?;
    let alerts = report.get("alerts").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(Analysis { exit: output.status.code(), alerts })
}

/// A text in an alert, empty where there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
