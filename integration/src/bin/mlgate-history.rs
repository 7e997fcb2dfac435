//! Writes a generated audit history to standard output, and to standard error what an analysis of it should find.
//!
//! `mlgate-history [days=31] [callers=12] [until=TIME] [seed=1] [incidents=all|none|NAME,NAME] > history.log`

#![expect(clippy::print_stderr, reason = "labels go beside the history")]

use std::io::BufWriter;

use anyhow::{Context, bail};
use mlgate::time::UnixTime;
use mlgate_integration::history::{History, Incident};

fn main() -> anyhow::Result<()> {
    let until = UnixTime::parse("2026-03-31T00:00:00Z").ok().context("the default end")?;
    let mut history = History::with(until, &Incident::ALL);
    for argument in std::env::args().skip(1) {
        let (name, value) =
            argument.split_once('=').with_context(|| format!("`{argument}` is not NAME=VALUE"))?;
        match name {
            "days" => history.days = value.parse()?,
            "callers" => history.callers = value.parse()?,
            "seed" => history.seed = value.parse()?,
            "until" => history.until = UnixTime::parse(value).ok().context("`until` is not RFC 3339")?,
            "incidents" => history.incidents = incidents(value)?,
            _ => bail!("`{name}` is none of days, callers, seed, until, incidents"),
        }
    }
    let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    for label in history.write(&mut out)? {
        let rules = label.rules.join(" ");
        eprintln!("{} {} {rules} since {}", label.incident.word(), label.caller, label.since);
    }
    Ok(())
}

fn incidents(text: &str) -> anyhow::Result<Vec<Incident>> {
    match text {
        "all" => Ok(Incident::ALL.to_vec()),
        "none" => Ok(Vec::new()),
        names => names
            .split(',')
            .map(|name| {
                let found = Incident::ALL.into_iter().find(|incident| incident.word() == name);
                found.with_context(|| format!("`{name}` is no incident"))
            })
            .collect(),
    }
}
