//! What would flip a denial, for people and for programs.

use std::fmt;

use mlgate::review::flip::Flipping;
use serde::Serialize;
use serde_json::Value as Json;

use super::stages::value;

/// See the module.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Flip {
    /// All of these, and none can be left out.
    Changes(Vec<Change>),
    /// Nothing does, and why.
    Never(&'static str),
    /// This is all that can be said.
    NotFound(&'static str),
}

/// One attribute.
#[derive(Debug, Serialize)]
pub(super) struct Change {
    attribute: String,
    /// Absent: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Json>,
    /// Absent: it would have to have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Json>,
}

// === impl Flip ===

impl From<Flipping> for Flip {
    fn from(flipping: Flipping) -> Self {
        match flipping {
            Flipping::By(changes) => {
                let change = |change: &mlgate::review::flip::Change| Change {
                    attribute: change.attribute(),
                    from: change.from.as_ref().map(value),
                    to: change.to.as_ref().map(value),
                };
                Self::Changes(changes.iter().map(change).collect())
            }
            Flipping::Never(why) => Self::Never(why),
            Flipping::NotFound => Self::NotFound("no change of attributes was found that would"),
        }
    }
}

impl fmt::Display for Flip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changes(changes) => {
                let said: Vec<String> = changes.iter().map(ToString::to_string).collect();
                write!(f, "would be allowed if {}", said.join(", and "))
            }
            Self::Never(why) => write!(f, "no change of attributes would: {why}"),
            Self::NotFound(what) => f.write_str(what),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word =
            |json: &Option<Json>| json.as_ref().map_or_else(|| String::from("absent"), Json::to_string);
        write!(f, "{} were {} (is {})", self.attribute, word(&self.to), word(&self.from))
    }
}
