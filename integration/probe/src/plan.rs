//! The text of `x-plan` → what to do.

use std::time::Duration;

/// What one stream is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    pub id: String,
    pub when: When,
    pub wait: Option<Duration>,
    pub act: Act,
    pub trace: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Headers,
    Hold,
    Stream,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Deny,
    Edit,
    Errand(String),
    Resume,
}

impl Plan {
    pub fn parse(text: &str, id: String) -> Self {
        let act = match word(text, "do") {
            Some("deny") => Act::Deny,
            Some("edit") => Act::Edit,
            Some("errand") => Act::Errand(word(text, "errand").unwrap_or_default().to_owned()),
            _ => Act::Resume,
        };
        let when = match word(text, "when") {
            Some("hold") => When::Hold,
            Some("stream") => When::Stream,
            _ => When::Headers,
        };
        let wait = word(text, "wait").and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
        Self { id, when, wait, act, trace: word(text, "trace").is_some() }
    }
}

/// The value of `key=value`, empty for a bare `key`.
pub fn word<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split(';').find_map(|word| {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        (name == key).then_some(value)
    })
}
