//! A [`Suite`]'s tables become what the gate says in each cell, and which cells are otherwise than expected.

use crate::config::Config;
use crate::filter::refusal::Reason;

use super::candidate::{Answer, Question};
use super::suite::{Expected, Row, Suite, Table};

/// One cell of a table.
#[derive(Clone, Copy, Debug)]
pub struct Cell<'a> {
    /// Whose table it is in.
    pub table: &'a Table,
    /// Its row.
    pub row: &'a Row,
    /// Its column.
    pub action: &'a str,
    /// What is expected of it.
    pub expected: &'a Expected,
}

// === impl Suite ===

impl Suite {
    /// Every cell, row by row.
    pub fn each(&self) -> impl Iterator<Item = Cell<'_>> {
        self.tables.iter().flat_map(Table::each)
    }
}

// === impl Table ===

impl Table {
    /// Every cell, row by row.
    pub fn each(&self) -> impl Iterator<Item = Cell<'_>> {
        self.rows.iter().flat_map(move |row| {
            let columns = self.actions.iter().zip(&row.expected);
            columns.map(move |(action, expected)| Cell { table: self, row, action, expected })
        })
    }
}

// === impl Cell ===

impl<'a> Cell<'a> {
    /// What policies are asked.
    pub fn question(&self) -> Question<'a> {
        Question {
            principal: &self.row.identity,
            resource: &self.row.about,
            listed: self.row.listed,
            action: self.action,
            environment: &self.table.environment,
            now: self.table.now,
            source: self.table.source,
        }
    }

    /// What a configuration says. A profile that does not exist lets nobody in.
    pub fn answer(&self, config: &Config) -> Answer {
        let profile = config.profiles.list.iter().find(|profile| profile.name == self.row.profile);
        profile.map_or_else(
            || Answer { refused: Some(Reason::ProfileUnknown), ..Answer::default() },
            |profile| self.question().ask(config, profile),
        )
    }
}

// === impl Expected ===

impl Expected {
    /// Whether the gate says what is expected.
    pub fn is_met_by(&self, answer: &Answer) -> bool {
        answer.is_allowed() == self.allowed
            && self.reason.is_none_or(|reason| answer.reason() == Some(reason))
            && self.policies.as_ref().is_none_or(|policies| *policies == answer.policies)
    }
}

impl std::fmt::Display for Expected {
    /// `denied (explicit_deny, nobody-deletes)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.allowed { "allowed" } else { "denied" })?;
        let mut why: Vec<&str> = self.reason.into_iter().collect();
        match self.policies.as_deref() {
            Some([]) => why.push("no policy"),
            Some(policies) => why.extend(policies.iter().map(String::as_str)),
            None => {}
        }
        if why.is_empty() { Ok(()) } else { write!(f, " ({})", why.join(", ")) }
    }
}
