//! Policies become the places at which a document can be changed a little, so that tests of policies can be tried:
//! a change that no test notices shows what is not tested.

use serde_json::{Value as Json, json};

use super::PolicySet;
use super::condition::comparison::{Comparison, Order};
use super::condition::{Block, Clause, Part, Section};
use super::spec::ModeSpec;

/// One small change of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// What is changed: a clause, a block, or an `effect`.
    pub pointer: String,
    /// How.
    pub change: Change,
}

/// How a document is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The clause or block is taken out.
    Drop,
    /// What stands behind the attribute is put behind `not`.
    Negate,
    /// The operator and its operand are put behind `not`.
    NegateOperator,
    /// What stands behind `not` takes its place.
    Affirm,
    /// Another operator with the same operand, or another block: its word.
    Rename(&'static str),
    /// `present: true` becomes `false`, and the other way round.
    Flip,
    /// `allow` becomes `deny`, and the other way round.
    SwapEffect,
}

// === impl PolicySet ===

impl PolicySet {
    /// Every change of an enforced policy or of a permission, in the order of the document.
    pub fn mutations(&self) -> Vec<Mutation> {
        let mut found = Vec::new();
        for view in self.rules().filter(|view| view.mode == ModeSpec::Enforce) {
            let pointer = view.rule.pointer();
            if view.role.is_none() {
                found.push(Mutation { pointer: format!("{pointer}/effect"), change: Change::SwapEffect });
            } else if view.rule.owner() != view.role {
                continue; // inherited: it is changed where it is written
            }
            view.rule.walk(&mut |pointer, part| {
                let mut add = |change| found.push(Mutation { pointer: pointer.to_owned(), change });
                match part {
                    Part::Clause(clause) => found.extend(clause.mutations(pointer)),
                    Part::Block(Block::All(_)) => {
                        [Change::Drop, Change::Rename("any")].into_iter().for_each(&mut add)
                    }
                    Part::Block(Block::Any(_)) => {
                        [Change::Drop, Change::Rename("all")].into_iter().for_each(&mut add)
                    }
                    Part::Block(Block::Not(_)) => add(Change::Drop),
                }
            });
        }
        found
    }
}

// === impl Clause ===

impl Clause {
    fn mutations(&self, pointer: &str) -> Vec<Mutation> {
        let at = |pointer: &str, change| Mutation { pointer: pointer.to_owned(), change };
        match self.section() {
            // a permission without its action is none
            Section::Action("action") => return vec![at(pointer, Change::Drop)],
            Section::Action(_) => return Vec::new(),
            _ => {}
        }
        let operator = match self.comparison() {
            Comparison::Order(Order::Gt, _) => at(pointer, Change::Rename("gte")),
            Comparison::Order(Order::Gte, _) => at(pointer, Change::Rename("gt")),
            Comparison::Order(Order::Lt, _) => at(pointer, Change::Rename("lte")),
            Comparison::Order(Order::Lte, _) => at(pointer, Change::Rename("lt")),
            Comparison::Present(_) => at(pointer, Change::Flip),
            Comparison::Like(_) if self.is_negated() => at(pointer, Change::Affirm),
            Comparison::Like(_) => at(pointer, Change::Negate),
            comparison if self.is_negated() => {
                let operator = comparison.word().map_or(0, |word| word.len().saturating_add(1));
                let not = pointer.len().saturating_sub(operator);
                at(pointer.get(..not).unwrap_or_default(), Change::Affirm)
            }
            _ => at(pointer, Change::NegateOperator),
        };
        vec![at(pointer, Change::Drop), operator]
    }
}

// === impl Mutation ===

impl Mutation {
    /// Changes a document; `false` if there is nothing at the place.
    pub fn apply(&self, document: &mut Json) -> bool {
        let Some((holder, name)) = split(&self.pointer) else { return false };
        let Some(members) = document.pointer_mut(holder).and_then(Json::as_object_mut) else { return false };
        let Some(value) = members.remove(&name) else { return false };
        match self.change {
            Change::Drop => prune(document, holder),
            Change::Affirm => match value {
                Json::Object(inner) => members.extend(inner),
                short => document.pointer_mut(holder).into_iter().for_each(|place| *place = short.clone()),
            },
            Change::Flip => drop(members.insert(name, Json::from(value != true))),
            Change::Negate => drop(members.insert(name, json!({ "not": value }))),
            Change::NegateOperator => drop(members.insert(String::from("not"), json!({ name: value }))),
            Change::Rename(word) => drop(members.insert(word.to_owned(), value)),
            Change::SwapEffect => {
                let other = if value == "allow" { "deny" } else { "allow" };
                members.insert(name, Json::from(other));
            }
        }
        true
    }
}

/// An attribute without operators and a block without conditions go with their last.
fn prune(document: &mut Json, mut pointer: &str) {
    while let Some((holder, name)) = split(pointer) {
        let empty = match document.pointer(pointer) {
            Some(Json::Object(members)) => members.is_empty(),
            Some(Json::Array(items)) => items.is_empty(),
            _ => false,
        };
        if !empty {
            return;
        }
        match document.pointer_mut(holder) {
            Some(Json::Object(members)) => drop(members.remove(&name)),
            Some(Json::Array(items)) => match name.parse::<usize>() {
                Ok(index) if index < items.len() => drop(items.remove(index)),
                _ => return,
            },
            _ => return,
        }
        pointer = holder;
    }
}

/// Where something stands, and under which name (RFC 6901 §4).
fn split(pointer: &str) -> Option<(&str, String)> {
    let (holder, last) = pointer.rsplit_once('/')?;
    Some((holder, last.replace("~1", "/").replace("~0", "~")))
}
