//! What the document says of attributes becomes a [`Condition`], and a condition and the attributes of a request
//! become a [`Truth`].
//!
//! A condition is a conjunction of clauses, one attribute each, and of blocks: `all`, `any` and `not` of conditions.
//! It mirrors the document, so the place of each clause follows from where it stands ([`Condition::walk`]).

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value as Json, json};

use crate::config::faults::{Faults, segment};
use crate::policy::attributes::{Attributes, Category, ValueRef, is_attribute_name};
use crate::policy::schema::{Designator, Schema};

use comparison::Comparison;
use pattern::Pattern;
use truth::{Lookup, Match};

pub mod comparison;
pub mod pattern;
pub mod trace;
pub mod truth;

pub use trace::ClauseTrace;
pub use truth::{Absence, ConditionError, Flaw, Truth};

/// Clauses and blocks that must all hold. Without any it always holds.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    clauses: Vec<Clause>,
    blocks: Vec<Block>,
}

/// Conditions within a `when`.
#[derive(Clone, Debug)]
pub enum Block {
    /// `all`: every one holds.
    All(Vec<Condition>),
    /// `any`: at least one holds.
    Any(Vec<Condition>),
    /// `not`: it does not hold.
    Not(Box<Condition>),
}

/// What is asked of one attribute.
#[derive(Clone, Debug)]
pub struct Clause {
    attribute: Rc<Designator>,
    section: Section,
    negated: bool,
    comparison: Comparison,
}

/// The word under which a clause stands, which says how its attribute is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The action itself, under this word; without one where a permission is nothing but an action.
    Action(&'static str),
    /// `principal`: names of the principal's attributes.
    Principal,
    /// `resource`: names of the resource's attributes.
    Resource,
    /// `when`: full names, and blocks.
    When,
}

/// A part of a condition, with its place in the document.
#[derive(Clone, Copy, Debug)]
pub enum Part<'c> {
    /// One clause.
    Clause(&'c Clause),
    /// One block; its parts follow.
    Block(&'c Block),
}

/// How deep blocks may be nested.
pub const MAX_DEPTH: usize = 8;

/// How many clauses one condition may have, those in blocks included.
pub const MAX_CLAUSES: usize = 256;

// === impl Condition ===

impl Condition {
    /// Compiles a map from attribute to what is asked of it, found at `pointer`, under the word of `section`. Every
    /// fault is added to `faults`; a clause at fault is left out, so the result may only be used when there are none.
    pub fn compile(
        written: &BTreeMap<String, Json>,
        section: Section,
        schema: &Schema,
        pointer: &str,
        faults: &mut Faults,
    ) -> Self {
        let mut compiler = Compiler { section, schema, faults, clauses: 0 };
        let members = written.iter().map(|(key, json)| (key.as_str(), json));
        let condition = compiler.condition(members, 0, pointer);
        if compiler.clauses > MAX_CLAUSES {
            faults.at(
                pointer,
                format!("more than {MAX_CLAUSES} clauses"),
                "list values in one clause, or write several policies",
            );
        }
        condition
    }

    /// The clause that the action is one of `patterns`, which stand at `pointer` under `word`.
    pub fn of_action(
        patterns: &Json,
        word: &'static str,
        schema: &Schema,
        pointer: &str,
        faults: &mut Faults,
    ) -> Self {
        let pattern = Pattern::compile(patterns, schema, pointer, faults);
        let clauses = pattern.map(|pattern| Clause {
            attribute: schema.designator(Category::Action, ""),
            section: Section::Action(word),
            negated: false,
            comparison: Comparison::Like(pattern),
        });
        Self { clauses: clauses.into_iter().collect(), blocks: Vec::new() }
    }

    /// This condition and `other`.
    pub fn and(mut self, other: Self) -> Self {
        self.clauses.extend(other.clauses);
        self.blocks.extend(other.blocks);
        self
    }

    /// Its clauses outside of blocks, which all must hold.
    pub fn clauses(&self) -> &[Clause] {
        &self.clauses
    }

    /// Its blocks, which all must hold.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Whether it has no clauses and no blocks.
    pub fn is_unconditional(&self) -> bool {
        self.clauses.is_empty() && self.blocks.is_empty()
    }

    /// What it says of a request.
    pub fn evaluate(&self, attributes: &Attributes<'_>) -> Truth {
        Truth::from(self.matches(Lookup { attributes, absence: Absence::NoMatch }))
    }

    pub(crate) fn matches<'c>(&'c self, lookup: Lookup<'_>) -> Match<'c> {
        let clauses = self.clauses.iter().map(|clause| clause.matches(lookup));
        if self.blocks.is_empty() {
            return Match::all(clauses);
        }
        Match::all(clauses.chain(self.blocks.iter().map(|block| block.matches(lookup))))
    }

    /// The attributes it looks at, those that clauses compare with included; may repeat.
    pub fn reads(&self) -> Vec<(Category, &str)> {
        let mut reads = Vec::new();
        self.each_clause(&mut |clause| {
            let attributes = std::iter::once(&*clause.attribute).chain(clause.comparison.others());
            reads.extend(attributes.map(|attribute| (attribute.category, &*attribute.name)));
        });
        reads
    }

    /// Every clause, those in blocks included.
    pub fn each_clause<'c>(&'c self, visit: &mut dyn FnMut(&'c Clause)) {
        self.clauses.iter().for_each(&mut *visit);
        self.blocks.iter().flat_map(Block::parts).for_each(|part| part.each_clause(visit));
    }

    /// Whether the clauses on this attribute leave `value` possible, whoever asks: what other attributes hold is not
    /// known, so it may be anything. Blocks are not looked into.
    pub(crate) fn may_match(&self, category: Category, name: &str, value: &str) -> bool {
        self.patterns(category, name).all(|pattern| pattern.may_match(value))
    }

    /// The texts that the attribute must be one of; `None` where it may be something else too.
    pub(crate) fn only_texts(&self, category: Category, name: &str) -> Option<Vec<&str>> {
        self.patterns(category, name).next().and_then(Pattern::only_texts)
    }

    fn patterns(&self, category: Category, name: &str) -> impl Iterator<Item = &Pattern> {
        self.clauses.iter().filter_map(move |clause| match &clause.comparison {
            Comparison::Like(pattern) if clause.is_on(category, name) && !clause.negated => Some(pattern),
            _ => None,
        })
    }
}

// === impl Block ===

impl Block {
    /// The conditions in it.
    pub fn parts(&self) -> &[Condition] {
        match self {
            Self::All(parts) | Self::Any(parts) => parts,
            Self::Not(part) => std::slice::from_ref(part),
        }
    }

    /// Its word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::All(_) => "all",
            Self::Any(_) => "any",
            Self::Not(_) => "not",
        }
    }

    pub(crate) fn matches<'c>(&'c self, lookup: Lookup<'_>) -> Match<'c> {
        match self {
            Self::All(parts) => Match::all(parts.iter().map(|part| part.matches(lookup))),
            Self::Any(parts) => Match::any(parts.iter().map(|part| part.matches(lookup))),
            Self::Not(part) => part.matches(lookup).not(),
        }
    }
}

// === impl Clause ===

impl Clause {
    /// The attribute that it names.
    pub fn attribute(&self) -> &Designator {
        &self.attribute
    }

    pub(crate) fn shared_attribute(&self) -> Rc<Designator> {
        Rc::clone(&self.attribute)
    }

    /// What it does with it.
    pub const fn comparison(&self) -> &Comparison {
        &self.comparison
    }

    /// Whether it is written as `not`.
    pub const fn is_negated(&self) -> bool {
        self.negated
    }

    /// Under which word of a policy it stands.
    pub const fn section(&self) -> Section {
        self.section
    }

    /// What the document writes behind the attribute.
    pub fn to_json(&self) -> Json {
        let written = self.comparison.to_json();
        if self.negated { json!({ "not": written }) } else { written }
    }

    /// What it says of a request.
    pub fn evaluate(&self, attributes: &Attributes<'_>) -> Truth {
        Truth::from(self.matches(Lookup { attributes, absence: Absence::NoMatch }))
    }

    pub(crate) fn matches<'c>(&'c self, lookup: Lookup<'_>) -> Match<'c> {
        self.matches_value(lookup.value(&self.attribute), lookup)
    }

    /// What it says where its attribute has the value `found`: clauses on one attribute need not each look it up.
    pub(crate) fn matches_value<'c>(&'c self, found: Option<ValueRef<'_>>, lookup: Lookup<'_>) -> Match<'c> {
        let said = self.comparison.matches(&self.attribute, found, lookup);
        if self.negated { said.not() } else { said }
    }

    pub(crate) fn is_on(&self, category: Category, name: &str) -> bool {
        self.attribute.category == category && &*self.attribute.name == name
    }
}

/// What it takes to compile one condition.
struct Compiler<'s, 'f> {
    section: Section,
    schema: &'s Schema,
    faults: &'f mut Faults,
    /// How many clauses there have been.
    clauses: usize,
}

// === impl Compiler ===

impl Compiler<'_, '_> {
    fn condition<'j>(
        &mut self,
        members: impl Iterator<Item = (&'j str, &'j Json)>,
        depth: usize,
        pointer: &str,
    ) -> Condition {
        let mut condition = Condition::default();
        for (key, json) in members {
            let pointer = format!("{pointer}/{}", segment(key));
            if self.section == Section::When && matches!(key, "all" | "any" | "not") {
                condition.blocks.extend(self.block(key, json, depth, &pointer));
            } else if let Some((category, name)) = self.attribute(key, &pointer) {
                let attribute = self.schema.designator(category, name);
                self.asked(&attribute, json, &pointer, &mut condition.clauses);
            }
        }
        condition
    }

    fn block(&mut self, word: &str, json: &Json, depth: usize, pointer: &str) -> Option<Block> {
        if depth >= MAX_DEPTH {
            self.faults.at(
                pointer,
                format!("blocks are nested more than {MAX_DEPTH} deep"),
                "write several policies",
            );
            return None;
        }
        let inner = depth.saturating_add(1);
        let mut part = |json: &Json, pointer: &str| match json {
            Json::Object(members) if !members.is_empty() => {
                Some(self.condition(members.iter().map(|(key, json)| (key.as_str(), json)), inner, pointer))
            }
            _ => {
                self.faults.at(
                    pointer,
                    "this is no condition",
                    "write attributes by their full name, `all`, `any` or `not`",
                );
                None
            }
        };
        if word == "not" {
            return part(json, pointer).map(|part| Block::Not(Box::new(part)));
        }
        let list = json.as_array().map(Vec::as_slice).unwrap_or_default();
        let parts: Vec<_> = list
            .iter()
            .enumerate()
            .filter_map(|(index, json)| part(json, &format!("{pointer}/{index}")))
            .collect();
        if list.is_empty() {
            self.faults.at(pointer, format!("`{word}` of nothing"), "write a list of conditions");
            return None;
        }
        Some(if word == "all" { Block::All(parts) } else { Block::Any(parts) })
    }

    /// The short form is one clause, an object one for each of its operators.
    fn asked(&mut self, attribute: &Rc<Designator>, json: &Json, pointer: &str, to: &mut Vec<Clause>) {
        let Json::Object(operators) = json else {
            let pattern = Pattern::compile(json, self.schema, pointer, self.faults);
            return self.push(attribute, false, pattern.map(Comparison::Like), pointer, to);
        };
        if operators.is_empty() {
            self.faults.at(
                pointer,
                "no operator is written",
                "write a value, or an operator and its operand",
            );
        }
        for (word, operand) in operators {
            let pointer = format!("{pointer}/{}", segment(word));
            if word != "not" {
                let comparison = Comparison::compile(word, operand, self.schema, &pointer, self.faults);
                self.push(attribute, false, comparison, &pointer, to);
                continue;
            }
            let comparison = match operand {
                Json::Object(inner) => match inner.iter().next().filter(|_| inner.len() == 1) {
                    Some((word, operand)) if word != "not" => {
                        let pointer = format!("{pointer}/{}", segment(word));
                        Comparison::compile(word, operand, self.schema, &pointer, self.faults)
                    }
                    _ => {
                        self.faults.at(
                            &pointer,
                            "`not` takes one operator",
                            "write a value or one operator; under `when`, a block `not` takes any condition",
                        );
                        None
                    }
                },
                short => Pattern::compile(short, self.schema, &pointer, self.faults).map(Comparison::Like),
            };
            self.push(attribute, true, comparison, &pointer, to);
        }
    }

    fn push(
        &mut self,
        attribute: &Rc<Designator>,
        negated: bool,
        comparison: Option<Comparison>,
        pointer: &str,
        to: &mut Vec<Clause>,
    ) {
        let Some(comparison) = comparison else { return };
        let types = self.schema.types(attribute.category, &attribute.name);
        if !types.comparable(comparison.types(self.schema)) {
            self.faults.at(
                pointer,
                format!("`{}` is {types}, which can never be compared with this", attribute.full_name),
                "correct the value, or the attribute's own",
            );
        }
        self.clauses = self.clauses.saturating_add(1);
        if self.clauses <= MAX_CLAUSES {
            to.push(Clause { attribute: Rc::clone(attribute), section: self.section, negated, comparison });
        }
    }

    fn attribute<'k>(&mut self, key: &'k str, pointer: &str) -> Option<(Category, &'k str)> {
        let default = match self.section {
            Section::Action(_) | Section::When => None,
            Section::Principal => Some(Category::Principal),
            Section::Resource => Some(Category::Resource),
        };
        let full = Category::split(key);
        match (default, full) {
            (Some(category), None) if is_attribute_name(key) => Some((category, key)),
            (None, Some((category, name))) if category == Category::Action || is_attribute_name(name) => {
                Some((category, name))
            }
            (Some(category), Some((written, name))) if category == written => {
                self.faults.at(pointer, format!("`{key}` repeats its category"), format!("write `{name}`"));
                None
            }
            (Some(_), _) => {
                self.faults.at(
                    pointer,
                    format!("`{key}` is not the name of an attribute here"),
                    "write a name of letters, digits, `_`, `-` and `.`; other categories go under `when`",
                );
                None
            }
            (None, _) => {
                self.faults.at(
                    pointer,
                    format!("`{key}` is not the full name of an attribute"),
                    "write `principal.<name>`, `resource.<name>`, `environment.<name>` or `action`",
                );
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
