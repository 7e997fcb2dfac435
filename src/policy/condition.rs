//! Patterns on attributes become a [`Condition`], and a condition and the attributes of a request become a [`Truth`].
//!
//! A condition is the conjunction of its clauses in Kleene's strong three-valued logic, which is what XACML 3.0 §7.11
//! asks of `Match` elements in an `AllOf`: a definite *false* makes the conjunction false whatever an erring clause
//! would have said, since no value of it could make the whole true; otherwise an error makes it an error. Both rules
//! look at all clauses, so the order of clauses never changes an answer and an error can never be hidden by a clause
//! that merely stands before it: for a deny, *error* means denied.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value as Json;

use crate::config::faults::{Faults, segment};
use crate::policy::attributes::{Attributes, Category, Value, ValueRef, is_attribute_name};

use pattern::{Match, Pattern};

mod pattern;

/// Clauses that must all hold. Without clauses it always holds.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    clauses: Vec<Clause>,
}

/// What a condition says of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    /// Every clause holds.
    True,
    /// Some clause does not hold.
    False,
    /// No clause fails to hold, but one could not be evaluated.
    Error(ConditionError),
}

/// An attribute whose type does not fit its pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConditionError {
    /// The attribute's full name: `resource.stage`.
    pub attribute: Rc<str>,
}

/// One clause of a condition and what became of it, for `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClauseTrace {
    /// The attribute's full name.
    pub attribute: String,
    /// The pattern as the document writes it (JSON).
    pub pattern: String,
    /// What the request had; `None`: nothing.
    pub seen: Option<Value>,
    /// What this clause says.
    pub truth: Truth,
}

#[derive(Clone, Debug)]
struct Clause {
    category: Category,
    name: Box<str>,
    full_name: Rc<str>,
    pattern: Pattern,
}

// === impl Condition ===

impl Condition {
    /// Compiles a map from attribute to pattern, found at `pointer`.
    ///
    /// With a `default` category the keys are names within it (`org`); without, they are full names
    /// (`environment.name`, `action`). Every fault is added to `faults`; a clause at fault is left out, so the result
    /// may only be used when there are none.
    pub fn compile(
        patterns: &BTreeMap<String, Json>,
        default: Option<Category>,
        pointer: &str,
        faults: &mut Faults,
    ) -> Self {
        let mut condition = Self::default();
        for (key, pattern) in patterns {
            let pointer = format!("{pointer}/{}", segment(key));
            let Some((category, name)) = attribute(key, default, &pointer, faults) else { continue };
            condition.push(category, name, pattern, &pointer, faults);
        }
        condition
    }

    /// The clause that the action matches `pattern`, which stands at `pointer`.
    pub fn of_action(pattern: &Json, pointer: &str, faults: &mut Faults) -> Self {
        let mut condition = Self::default();
        condition.push(Category::Action, "", pattern, pointer, faults);
        condition
    }

    /// This condition and `other`.
    pub fn and(mut self, other: Self) -> Self {
        self.clauses.extend(other.clauses);
        self
    }

    /// Whether it has no clauses.
    pub fn is_unconditional(&self) -> bool {
        self.clauses.is_empty()
    }

    /// Evaluates every clause that is needed.
    pub fn evaluate(&self, attributes: &Attributes<'_>) -> Truth {
        let mut erring: Option<&Rc<str>> = None;
        for clause in &self.clauses {
            match clause.evaluate(attributes) {
                Match::Yes => {}
                Match::No => return Truth::False,
                // the first in name order, so that the name does not depend on the order of clauses either
                Match::Error(name) => erring = Some(erring.map_or(name, |known| known.min(name))),
            }
        }
        erring.map_or(Truth::True, Truth::error)
    }

    /// What each clause says, in written order.
    pub fn trace(&self, attributes: &Attributes<'_>) -> Vec<ClauseTrace> {
        self.clauses
            .iter()
            .map(|clause| ClauseTrace {
                attribute: clause.full_name.to_string(),
                pattern: clause.pattern.text().to_owned(),
                seen: attributes.lookup(clause.category, &clause.name).map(ValueRef::to_value),
                truth: match clause.evaluate(attributes) {
                    Match::Yes => Truth::True,
                    Match::No => Truth::False,
                    Match::Error(name) => Truth::error(name),
                },
            })
            .collect()
    }

    /// The attributes it looks at, those that patterns substitute included; not sorted, may repeat.
    pub fn reads(&self) -> impl Iterator<Item = (Category, &str)> {
        self.clauses.iter().flat_map(|clause| {
            std::iter::once((clause.category, &*clause.name))
                .chain(clause.pattern.substitutes().map(|name| (Category::Principal, name)))
        })
    }

    /// The attributes that clauses test, each once as written, without what patterns substitute.
    pub(crate) fn tests(&self, category: Category) -> impl Iterator<Item = &str> {
        self.clauses.iter().filter(move |clause| clause.category == category).map(|clause| &*clause.name)
    }

    /// Whether the clauses on this attribute leave `value` possible, whoever asks: what `{principal.x}` stands for is
    /// not known, so it may be anything.
    pub(crate) fn may_match(&self, category: Category, name: &str, value: &str) -> bool {
        self.clauses
            .iter()
            .filter(|clause| clause.category == category && &*clause.name == name)
            .all(|clause| clause.pattern.may_match(value))
    }

    /// The texts that the attribute must be one of; `None` where it may be something else too.
    pub(crate) fn only_texts(&self, category: Category, name: &str) -> Option<Vec<&str>> {
        self.clauses
            .iter()
            .find(|clause| clause.category == category && &*clause.name == name)
            .and_then(|clause| clause.pattern.only_texts())
    }

    fn push(&mut self, category: Category, name: &str, pattern: &Json, pointer: &str, faults: &mut Faults) {
        if let Some(pattern) = Pattern::compile(pattern, pointer, faults) {
            self.clauses.push(Clause {
                category,
                name: Box::from(name),
                full_name: Rc::from(category.full_name(name)),
                pattern,
            });
        }
    }
}

// === impl Clause ===

impl Clause {
    fn evaluate<'a>(&'a self, attributes: &Attributes<'_>) -> Match<'a> {
        match attributes.lookup(self.category, &self.name) {
            Some(value) => self.pattern.matches(value, &self.full_name, attributes),
            // a missing attribute does not match (DESIGN: absence is not an error)
            None => Match::No,
        }
    }
}

// === impl Truth ===

impl Truth {
    /// The conjunction of two truths, as that of clauses.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::False, _) | (_, Self::False) => Self::False,
            (Self::Error(one), Self::Error(other)) => Self::Error(one.min(other)),
            (Self::Error(error), Self::True) | (Self::True, Self::Error(error)) => Self::Error(error),
            (Self::True, Self::True) => Self::True,
        }
    }

    fn error(attribute: &Rc<str>) -> Self {
        Self::Error(ConditionError { attribute: Rc::clone(attribute) })
    }
}

fn attribute<'k>(
    key: &'k str,
    default: Option<Category>,
    pointer: &str,
    faults: &mut Faults,
) -> Option<(Category, &'k str)> {
    let full = Category::split(key);
    match (default, full) {
        (Some(category), None) if is_attribute_name(key) => Some((category, key)),
        (None, Some((category, name))) if category == Category::Action || is_attribute_name(name) => {
            Some((category, name))
        }
        (Some(category), Some((written, name))) if category == written => {
            faults.at(pointer, format!("`{key}` repeats its category"), format!("write `{name}`"));
            None
        }
        (Some(_), _) => {
            faults.at(
                pointer,
                format!("`{key}` is not the name of an attribute here"),
                "write a name of letters, digits, `_`, `-` and `.`; other categories go under `when`",
            );
            None
        }
        (None, _) => {
            faults.at(
                pointer,
                format!("`{key}` is not the full name of an attribute"),
                "write `principal.<name>`, `resource.<name>`, `environment.<name>` or `action`",
            );
            None
        }
    }
}

#[cfg(test)]
mod tests;
