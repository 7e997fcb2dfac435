//! Faults: everything wrong with a document, each with its place and its remedy.

use std::fmt;

use serde::Serialize;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fault {
    /// JSON pointer (RFC 6901) into the document; empty for the whole.
    pub pointer: String,
    /// Line of the source, from 1, where the source has lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What is wrong: lower case, no full stop, input in backticks.
    pub what: String,
    /// What would be right.
    pub remedy: String,
}

/// Collects faults; nothing stops at the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    list: Vec<Fault>,
    /// How many more there were.
    more: usize,
}

/// No more faults than this are kept of one document; the rest is counted in a last one.
pub const MAX_FAULTS: usize = 200;

// === impl Faults ===

impl Faults {
    /// Adds one.
    pub fn at(&mut self, pointer: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) {
        self.push(Fault { pointer: pointer.into(), line: None, what: what.into(), remedy: remedy.into() });
    }

    /// Adds one that may know its line.
    pub fn push(&mut self, fault: Fault) {
        if self.list.len() < MAX_FAULTS {
            self.list.push(fault);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len().saturating_add(self.more)
    }

    /// All of them, in the order of discovery; at the end of [`MAX_FAULTS`] one that counts the rest.
    pub fn into_vec(mut self) -> Vec<Fault> {
        if self.more > 0 {
            self.list.push(Fault {
                pointer: String::new(),
                line: None,
                what: format!("{} more faults", self.more),
                remedy: String::from("correct the others first"),
            });
        }
        self.list
    }

    /// Those that are kept.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.list.iter()
    }

    /// Fills in lines that are known by pointer.
    pub fn locate(&mut self, line_of: impl Fn(&str) -> Option<u32>) {
        for fault in &mut self.list {
            if fault.line.is_none() {
                fault.line = line_of(&fault.pointer);
            }
        }
    }
}

// === impl Fault ===

impl Fault {
    /// The pointer for a log or a terminal: `/` for the whole, never more than one line.
    pub fn place(&self) -> String {
        if self.pointer.is_empty() {
            return String::from("/");
        }
        self.pointer.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place())?;
        if let Some(line) = self.line {
            write!(f, " (line {line})")?;
        }
        write!(f, ": {}: {}", self.what, self.remedy)
    }
}

/// One pointer segment, escaped (RFC 6901 §3).
pub fn segment(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
