//! `mlgate render ratelimit`: global limits as `envoyproxy/ratelimit` reads them, a tree of descriptors.

use std::time::Duration;

use clap::Args;
use mlgate::limits::remote::Counter;
use serde::Serialize;

use super::{Counted, Source, made_by, quoted};
use crate::{Exit, Format, Stop, print, print_json};

/// Print the configuration of `envoyproxy/ratelimit` for the limits with `scope: global`
///
/// It counts windows of one second, minute, hour, day, week or month (30 days); older versions of it end at the day.
/// Limits of other windows are refused: `mlgate render limitador` takes any.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct RatelimitCommand {
    #[command(flatten)]
    source: Source,
}

const HELP: &str = help!("  mlgate render ratelimit gate.yaml > ratelimit/config/mlgate.yaml");

/// One file.
#[derive(Serialize)]
struct File {
    domain: String,
    descriptors: Vec<Descriptor>,
}

/// A key, the value that it must have where only one is meant, and what is counted or what must follow.
#[derive(Serialize)]
struct Descriptor {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit: Option<RateLimit>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    descriptors: Vec<Self>,
}

#[derive(Serialize)]
struct RateLimit {
    unit: &'static str,
    requests_per_unit: u64,
}

/// Renders.
pub(super) fn run(command: &RatelimitCommand, format: Format) -> Result<Exit, Stop> {
    let Counted { domain, counters } = command.source.counted()?;
    let odd: Vec<String> = counters.iter().filter(|counter| unit(counter).is_none()).map(name).collect();
    if !odd.is_empty() {
        return Err(Stop::invalid(
            command.source.place(),
            format!("this service has no unit for the windows of {}", odd.join(", ")),
            "write 1s, 1m, 1h, 1d, 7d or 30d, or use `mlgate render limitador`, which takes any window",
        ));
    }
    let mut file = File { domain, descriptors: Vec::new() };
    for counter in &counters {
        file.add(counter);
    }
    match format {
        Format::Human => print(&format!("{}{}", made_by("ratelimit"), file.yaml()))?,
        Format::Json => print_json(&file)?,
    }
    Ok(Exit::Fine)
}

// === impl File ===

impl File {
    fn add(&mut self, counter: &Counter) {
        let Some(unit) = unit(counter) else { return };
        let mut level = &mut self.descriptors;
        let mut entries = counter.entries.iter().peekable();
        while let Some(entry) = entries.next() {
            let same = |at: &Descriptor| at.key == entry.key && at.value == entry.value;
            let index = level.iter().position(same).unwrap_or(level.len());
            if index == level.len() {
                level.push(Descriptor {
                    key: entry.key.clone(),
                    value: entry.value.clone(),
                    rate_limit: None,
                    descriptors: Vec::new(),
                });
            }
            let Some(at) = level.get_mut(index) else { return };
            if entries.peek().is_none() {
                at.rate_limit = Some(RateLimit { unit, requests_per_unit: counter.requests });
            }
            level = &mut at.descriptors;
        }
    }

    fn yaml(&self) -> String {
        let mut text = format!("domain: {}\ndescriptors:\n", quoted(&self.domain));
        for descriptor in &self.descriptors {
            descriptor.write(1, &mut text);
        }
        text
    }
}

// === impl Descriptor ===

impl Descriptor {
    fn write(&self, depth: usize, text: &mut String) {
        let margin = "    ".repeat(depth);
        let dash = margin.get(2..).unwrap_or_default();
        text.push_str(&format!("{dash}- key: {}\n", quoted(&self.key)));
        if let Some(value) = &self.value {
            text.push_str(&format!("{margin}value: {}\n", quoted(value)));
        }
        if let Some(RateLimit { unit, requests_per_unit }) = &self.rate_limit {
            text.push_str(&format!(
                "{margin}rate_limit: {{ unit: {unit}, requests_per_unit: {requests_per_unit} }}\n"
            ));
        }
        if !self.descriptors.is_empty() {
            text.push_str(&format!("{margin}descriptors:\n"));
        }
        for descriptor in &self.descriptors {
            descriptor.write(depth.saturating_add(1), text);
        }
    }
}

fn unit(counter: &Counter) -> Option<&'static str> {
    UNITS
        .into_iter()
        .find(|(_, seconds)| counter.window == Duration::from_secs(*seconds))
        .map(|(unit, _)| unit)
}

/// `fleet (rates=pro, window=5m)`
fn name(counter: &Counter) -> String {
    let fixed = counter.entries.iter().skip(1);
    let fixed = fixed.filter_map(|entry| Some(format!("{}={}", entry.key, entry.value.as_ref()?)));
    format!("`{}` ({})", counter.limit, fixed.collect::<Vec<_>>().join(", "))
}

/// How the service calls a window of so many seconds.
const UNITS: [(&str, u64); 6] =
    [("second", 1), ("minute", 60), ("hour", 3600), ("day", 86_400), ("week", 604_800), ("month", 2_592_000)];
