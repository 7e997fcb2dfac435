//! An Envoy document becomes findings: what would make the gate useless, and what could not be looked at.

use serde::Serialize;

use crate::config::document::Document;
use crate::config::faults::{Fault, Faults, MAX_FAULTS};
use crate::config::tree::Tree;
use crate::envoy::parts::Parts;
use crate::envoy::place::{Place, twice};
use crate::envoy::rule::{File, Finding, Rule};

mod clusters;
mod gate;
mod listeners;
mod routes;
mod tls;

/// What came of a review.
#[derive(Debug, Default, Serialize)]
pub struct Review {
    /// Dangers, in the order of the file; no more than [`MAX_FAULTS`].
    pub findings: Vec<Finding>,
    /// How many more there were.
    #[serde(skip_serializing_if = "is_zero")]
    pub more: usize,
    /// What is delivered from elsewhere, or cannot be told from a file.
    pub not_checked: Vec<Note>,
}

/// Something that was not looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Note {
    /// JSON pointer into the Envoy document.
    pub pointer: String,
    /// Its line, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What it is.
    pub what: String,
}

/// What every part of a review needs.
struct Reviewer<'a> {
    document: &'a Document,
    configuration: &'a Tree,
    parts: Parts<'a>,
    review: Review,
}

/// Reviews an Envoy document that is to run a configuration.
///
/// # Errors
/// One fault where the document is not of Envoy.
pub fn review(envoy: &Tree, document: &Document, configuration: &Tree) -> Result<Review, Faults> {
    let Some(parts) = Parts::of(envoy) else {
        let mut faults = Faults::default();
        faults.at(
            "",
            "neither a bootstrap, nor a `/config_dump`, nor a file of resources",
            "name Envoy's own configuration",
        );
        return Err(faults);
    };
    let mut reviewer = Reviewer { document, configuration, parts, review: Review::default() };
    reviewer.all(envoy);
    let mut review = reviewer.review;
    for finding in &mut review.findings {
        let tree = if finding.file == File::Envoy { envoy } else { configuration };
        finding.fault.line = tree.line_of(&finding.fault.pointer);
    }
    for note in &mut review.not_checked {
        note.line = envoy.line_of(&note.pointer).filter(|_| !note.pointer.is_empty());
    }
    review.findings.sort_by_key(|finding| (finding.file, finding.fault.line));
    review.not_checked.sort();
    review.not_checked.dedup();
    Ok(review)
}

// === impl Reviewer ===

impl Reviewer<'_> {
    fn all(&mut self, envoy: &Tree) {
        let mut pointers = Vec::new();
        twice(&Place::root(envoy.root()), &mut pointers);
        for pointer in pointers {
            self.find(Rule::Twice, pointer, "stands here a second time");
        }
        for (pointer, what) in std::mem::take(&mut self.parts.unseen) {
            self.note(pointer, format!("{what}, delivered from elsewhere"));
        }
        self.admin();
        self.version();
        self.listeners();
        self.clusters();
    }

    /// A danger in the Envoy document.
    fn find(&mut self, rule: Rule, pointer: impl Into<String>, what: impl Into<String>) {
        self.push(rule, File::Envoy, pointer.into(), what.into());
    }

    /// A danger in the configuration.
    fn find_in_configuration(&mut self, rule: Rule, pointer: impl Into<String>, what: impl Into<String>) {
        self.push(rule, File::Configuration, pointer.into(), what.into());
    }

    fn push(&mut self, rule: Rule, file: File, pointer: String, what: String) {
        if self.review.findings.len() >= MAX_FAULTS {
            self.review.more = self.review.more.saturating_add(1);
            return;
        }
        let fault = Fault { pointer, line: None, what, remedy: rule.remedy().to_owned() };
        self.review.findings.push(Finding { rule, file, fault });
    }

    /// Something that is not looked at.
    fn note(&mut self, pointer: impl Into<String>, what: impl Into<String>) {
        if self.review.not_checked.len() < MAX_FAULTS {
            self.review.not_checked.push(Note { pointer: pointer.into(), line: None, what: what.into() });
        }
    }

    fn admin(&mut self) {
        let address =
            self.parts.admin.as_ref().and_then(|admin| admin.at(&["address", "socket_address", "address"]));
        let Some(address) = address else { return };
        let text = address.text().unwrap_or_default();
        if !text.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
            self.find(Rule::AdminOpen, address.pointer, format!("the admin interface listens on `{text}`"));
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}
