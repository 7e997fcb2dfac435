//! `mlgate key hash`.

use std::path::PathBuf;

use clap::Args;
use mlgate::identity::api_key::ApiKey;

use super::{Entry, digest, pepper};
use crate::environment::Environment;
use crate::{Exit, Format, Stop, print, print_json, read_file};

/// Print the id and the digest of an API key, as the configuration holds them
///
/// The key is read from standard input or a file: what stands on a command line can be read by others on the machine,
/// and stays in the shell's history.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct HashCommand {
    /// A file that holds the key and nothing else; `-` is standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Key the digest with a pepper of the configuration, read from this environment variable
    #[arg(long, value_name = "ID=ENV")]
    pepper: Option<String>,
}

const HELP: &str = help!(
    "  mlgate key hash < key.txt
  mlgate key hash key.txt --pepper p1=MLGATE_PEPPER_1
  mlgate key hash --format json < key.txt | jq -r .digest"
);

/// Hashes a key.
pub(super) fn run(command: &HashCommand, format: Format) -> Result<Exit, Stop> {
    if command.file.as_os_str().as_encoded_bytes().starts_with(b"mlg_") {
        // not repeated: it would stand in one place more
        return Err(Stop::invalid(
            "FILE",
            "a key on the command line can be read by others",
            "write it to standard input, and replace this one with `mlgate key rotate`",
        ));
    }
    let pepper = command.pepper.as_deref().map(|text| pepper(text, &Environment::Process)).transpose()?;
    let bytes = read_file(&command.file)?;
    let key = ApiKey::parse(bytes.trim_ascii()).map_err(|_| {
        Stop::invalid(
            command.file.display(),
            "this is not one whole key",
            "give all of `mlg_<id>_<secret>` and nothing else, as `mlgate key new` printed it",
        )
    })?;
    let entry = Entry {
        id: key.id().to_string(),
        digest: digest(&key, pepper.as_ref()).to_string(),
        ..Entry::default()
    };
    match format {
        Format::Human => print(&entry.lines().join("\n"))?,
        Format::Json => print_json(&entry)?,
    }
    Ok(Exit::Fine)
}
