//! Conditions read: each clause and block with its place in the document, and what a clause says of a request.

use super::truth::{Lookup, Truth};
use super::{Block, Clause, Condition, Part, Section};
use crate::config::faults::segment;
use crate::policy::attributes::{Value, ValueRef};

/// One clause of a condition and what became of it, for `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClauseTrace {
    /// Where it stands, as a JSON pointer into the document.
    pub pointer: String,
    /// The attribute's full name.
    pub attribute: String,
    /// What the document writes behind it (JSON).
    pub pattern: String,
    /// What the request had; `None`: nothing.
    pub seen: Option<Value>,
    /// What this clause says.
    pub truth: Truth,
}

// === impl Condition ===

impl Condition {
    /// Every clause and block in written order, with its place. `pointer` is that of what the condition belongs to:
    /// a policy, a permission, or for the condition of a block that condition itself.
    pub fn walk<'c>(&'c self, pointer: &str, visit: &mut dyn FnMut(&str, Part<'c>)) {
        self.parts(pointer, false, visit);
    }

    /// What each clause says, those in blocks included. `pointer` as for [`Condition::walk`].
    pub(crate) fn trace(&self, pointer: &str, lookup: Lookup<'_>) -> Vec<ClauseTrace> {
        let mut traces = Vec::new();
        self.walk(pointer, &mut |pointer, part| {
            if let Part::Clause(clause) = part {
                traces.push(clause.trace(pointer, lookup));
            }
        });
        traces
    }

    /// `inside` a block the word `when` is in the pointer already.
    fn parts<'c>(&'c self, pointer: &str, inside: bool, visit: &mut dyn FnMut(&str, Part<'c>)) {
        for clause in &self.clauses {
            visit(&clause.place(pointer, inside), Part::Clause(clause));
        }
        for block in &self.blocks {
            let pointer = format!("{pointer}{}/{}", if inside { "" } else { "/when" }, block.word());
            visit(&pointer, Part::Block(block));
            match block {
                Block::Not(part) => part.parts(&pointer, true, visit),
                Block::All(parts) | Block::Any(parts) => {
                    for (index, part) in parts.iter().enumerate() {
                        part.parts(&format!("{pointer}/{index}"), true, visit);
                    }
                }
            }
        }
    }
}

// === impl Clause ===

impl Clause {
    fn trace(&self, pointer: &str, lookup: Lookup<'_>) -> ClauseTrace {
        let seen = lookup.attributes.lookup(self.attribute.category, &self.attribute.name);
        ClauseTrace {
            pointer: pointer.to_owned(),
            attribute: self.attribute.full_name.to_string(),
            pattern: self.to_json().to_string(),
            seen: seen.map(ValueRef::to_value),
            truth: Truth::from(self.matches(lookup)),
        }
    }

    /// Its place below `pointer`: the section, the attribute as it is written there, and operators.
    fn place(&self, pointer: &str, inside: bool) -> String {
        let attribute = match self.section {
            Section::Action("") => return pointer.to_owned(),
            Section::Action(word) => return format!("{pointer}/{word}"),
            Section::Principal => format!("principal/{}", segment(&self.attribute.name)),
            Section::Resource => format!("resource/{}", segment(&self.attribute.name)),
            Section::When if inside => segment(&self.attribute.full_name).to_string(),
            Section::When => format!("when/{}", segment(&self.attribute.full_name)),
        };
        let mut place = format!("{pointer}/{attribute}");
        for word in self.negated.then_some("not").into_iter().chain(self.comparison.word()) {
            place.push('/');
            place.push_str(word);
        }
        place
    }
}
