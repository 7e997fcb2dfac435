//! `mlgate render limitador`: global limits as Kuadrant's Limitador reads them, a list of limits whose conditions and
//! variables are expressions (CEL) over the descriptors of a call.
//!
//! All counters of a request are asked in one call, and which place a descriptor has there depends on which limits apply: an
//! expression finds its descriptor by its entries. Limitador wants every name in an expression to be known before it
//! evaluates it, those that `exists` and `filter` bind included, so these bind the one name that is known.

use clap::Args;
use mlgate::limits::remote::Counter;
use serde::Serialize;

use super::{Counted, Source, made_by, quoted};
use crate::{Exit, Format, Stop, print, print_json};

/// Print the limits file of Kuadrant's Limitador for the limits with `scope: global`
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct LimitadorCommand {
    #[command(flatten)]
    source: Source,
}

const HELP: &str = help!(
    "  mlgate render limitador gate.yaml > limits.yaml
  limitador-server limits.yaml memory"
);

/// One limit of Limitador.
#[derive(Serialize)]
struct Limit {
    namespace: String,
    name: String,
    max_value: u64,
    seconds: u64,
    conditions: Vec<String>,
    variables: Vec<String>,
}

/// Renders.
pub(super) fn run(command: &LimitadorCommand, format: Format) -> Result<Exit, Stop> {
    let Counted { domain, counters } = command.source.counted()?;
    let limits: Vec<Limit> = counters.iter().map(|counter| Limit::new(&domain, counter)).collect();
    match format {
        Format::Human => {
            let lines: String = limits.iter().map(Limit::yaml).collect();
            print(&format!("{}{lines}", made_by("limitador")))?;
        }
        Format::Json => print_json(&limits)?,
    }
    Ok(Exit::Fine)
}

// === impl Limit ===

impl Limit {
    fn new(domain: &str, counter: &Counter) -> Self {
        let fixed = counter.entries.iter().filter_map(|entry| {
            Some(format!("descriptors[{}] == {}", quoted(&entry.key), quoted(entry.value.as_ref()?)))
        });
        let is_it = fixed.collect::<Vec<_>>().join(" && ");
        let free = counter.entries.iter().filter(|entry| entry.value.is_none());
        let variable = |key: &str| format!("descriptors.filter(descriptors, {is_it})[0][{}]", quoted(key));
        Self {
            namespace: domain.to_owned(),
            name: counter.limit.clone(),
            max_value: counter.requests,
            seconds: counter.window.as_secs(),
            conditions: vec![format!("descriptors.exists(descriptors, {is_it})")],
            variables: free.map(|entry| variable(&entry.key)).collect(),
        }
    }

    fn yaml(&self) -> String {
        let list = |name: &str, expressions: &[String]| {
            if expressions.is_empty() {
                return format!("  {name}: []\n");
            }
            // No expression has a single quote: names are letters, digits, `_`, `-` and `.`.
            let lines = expressions.iter().map(|expression| format!("    - '{expression}'\n"));
            format!("  {name}:\n{}", lines.collect::<String>())
        };
        format!(
            "- namespace: {}\n  name: {}\n  max_value: {}\n  seconds: {}\n{}{}",
            quoted(&self.namespace),
            quoted(&self.name),
            self.max_value,
            self.seconds,
            list("conditions", &self.conditions),
            list("variables", &self.variables),
        )
    }
}
