//! `mlgate schema`.

use clap::Args;

use crate::{Exit, Stop, print_json};

/// Print the JSON Schema of a configuration, for editors and other checkers
#[derive(Clone, Copy, Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct SchemaCommand {}

const HELP: &str = help!(
    "  mlgate schema > mlgate.schema.json
  # the first line of a configuration, for editors with a YAML language server:
  # yaml-language-server: $schema=mlgate.schema.json"
);

/// Prints it.
pub(crate) fn run(_: SchemaCommand) -> Result<Exit, Stop> {
    print_json(&mlgate::config::schema::schema()).map(|()| Exit::Fine)
}
