//! What the machine gives a command: its variables, or a file of them, and the time.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use mlgate::time::UnixTime;

use crate::{Stop, read_file};

/// Where secrets named in a configuration are looked up.
#[derive(Clone)]
pub(crate) enum Environment {
    /// A file with a line `NAME=value` for each.
    File(BTreeMap<String, String>),
    /// The command's own.
    Process,
}

// === impl Environment ===

impl Environment {
    /// The file's, or without one the command's own.
    pub(crate) fn open(file: Option<&Path>) -> Result<Self, Stop> {
        let Some(path) = file else { return Ok(Self::Process) };
        let text = String::from_utf8(read_file(path)?)
            .map_err(|_| Stop::invalid(path.display(), "not UTF-8", "write lines `NAME=value`"))?;
        let mut variables = BTreeMap::new();
        for (number, line) in (1_usize..).zip(text.lines()) {
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            // the line may hold a secret: it is not repeated
            let (name, value) = line.split_once('=').ok_or_else(|| {
                Stop::invalid(
                    format_args!("{}:{number}", path.display()),
                    "a line without `=`",
                    "write `NAME=value`",
                )
            })?;
            variables.insert(name.trim().to_owned(), value.to_owned());
        }
        Ok(Self::File(variables))
    }

    /// The value of a variable; an empty one counts as missing.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        match self {
            Self::File(variables) => variables.get(name).cloned(),
            Self::Process => std::env::var_os(name).and_then(|value| value.into_string().ok()),
        }
        .filter(|value| !value.is_empty())
    }

    /// The value of a variable, or one that stands in for it, so that everything else can be looked at.
    pub(crate) fn value_or_stand_in(&self, name: &str) -> Option<String> {
        Some(self.value(name).unwrap_or_else(|| String::from(STAND_IN)))
    }
}

/// As long as a good secret, and no secret.
const STAND_IN: &str = "this variable is missing, and this text stands in for its value.";

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "a command has no host to ask")]
pub(crate) fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime::from_millis(0).plus(since)
}
