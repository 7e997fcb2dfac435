//! A denial becomes a change of attributes that would flip it, from which no part can be left out.
//!
//! The search goes by what a change asks of the world: first other attributes of the caller, then of the environment and of
//! the resource, last another action or another resource. A step makes one more policy allow, or one that denies not speak;
//! which values do that is tried on the clauses themselves, and the whole on the gate's own decision. What is found is no
//! advice: it says what the policies would take.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::config::Config;
use crate::filter::profile::Profile;
use crate::filter::refusal::Reason;
use crate::policy::RuleView;
use crate::policy::attributes::{Category, Value};
use crate::policy::combining::Combining;
use crate::policy::condition::truth::{Lookup, Match};
use crate::policy::condition::{Block, Clause, Condition};
use crate::policy::spec::EffectSpec;

use super::candidate::Question;
use world::{Changes, World};

mod values;
mod world;

/// What is known of flipping a denial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flipping {
    /// These changes allow it, and none of them can be left out.
    By(Vec<Change>),
    /// No change of attributes does, and this is why.
    Never(&'static str),
    /// None was found among those that were tried.
    NotFound,
}

/// One attribute, and what it would have to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its category.
    pub category: Category,
    /// Its name within the category.
    pub name: String,
    /// What it is; `None`: absent.
    pub from: Option<Value>,
    /// What it would have to be; `None`: absent.
    pub to: Option<Value>,
}

/// Combinations of changes that are looked at.
const MAX_STATES: usize = 2000;

/// Ways on from one combination.
const MAX_WAYS: usize = 64;

/// Values that are tried for one clause.
const MAX_VALUES: usize = 24;

/// Times that a part of a policy is asked.
const MAX_TRIES: u32 = 300_000;

/// Values that policies name, for one attribute.
const MAX_POOL: usize = 32;

/// Changes of which every part is left out in turn, together with every other.
const MAX_SUBSETS: usize = 10;

/// What would flip a denial of `question`.
pub fn flip(config: &Config, profile: &Profile, question: &Question<'_>) -> Flipping {
    if !profile.authorize || !question.listed {
        return Flipping::Never(
            "no policy is asked: no rule or no entry of the catalogue names the resource",
        );
    }
    if !question.principal.scope.allows(question.resource, question.action, question.source) {
        return Flipping::Never("the credential itself may not be used for this, or not from here");
    }
    let traces = config.policies.explain(&profile.policies, &question.attributes());
    let rules = config.policies.rules().zip(traces).filter(|(_, trace)| trace.counts).map(|(rule, _)| rule);
    let search = Search::of(config, profile, World::of(question), rules.collect());
    let all = |rule: &RuleView<'_>| rule.rule.conditions().into_iter().all(Condition::is_unconditional);
    let by_order = config.policies.combining(&profile.policies) == Combining::FirstApplicable;
    if !by_order && search.rules.iter().any(|rule| rule.effect == EffectSpec::Deny && all(rule)) {
        return Flipping::Never("a policy denies everything");
    }
    // under permit-unless-deny it is a deny that has to go
    let no_allow = search.rules.iter().all(|rule| rule.effect == EffectSpec::Deny);
    if no_allow && search.refused(&Changes::new()).is_some_and(|(_, by)| by.is_empty()) {
        return Flipping::Never("no policy that counts here allows anything");
    }
    search.run()
}

struct Search<'a> {
    config: &'a Config,
    profile: &'a Profile,
    start: World,
    rules: Vec<RuleView<'a>>,
    /// Values that policies name, by attribute: what one does not speak of, another may allow.
    pool: BTreeMap<(Category, String), Vec<Value>>,
    tries: Cell<u32>,
}

// === impl Search ===

impl<'a> Search<'a> {
    fn of(config: &'a Config, profile: &'a Profile, start: World, rules: Vec<RuleView<'a>>) -> Self {
        let mut pool: BTreeMap<(Category, String), Vec<Value>> = BTreeMap::new();
        for rule in &rules {
            for condition in rule.rule.conditions() {
                condition.each_clause(&mut |clause| {
                    let attribute = clause.attribute();
                    let known = pool.entry((attribute.category, attribute.name.to_string())).or_default();
                    for value in values::wanted(clause.comparison(), &start) {
                        if known.len() < MAX_POOL && !known.contains(&value) {
                            known.push(value);
                        }
                    }
                });
            }
        }
        Self { config, profile, start, rules, pool, tries: Cell::new(0) }
    }

    /// The cheapest combination first.
    fn run(&self) -> Flipping {
        let mut open = BinaryHeap::new();
        let mut states: Vec<Changes> = vec![Changes::new()];
        let mut known = BTreeSet::new();
        open.push(Reverse((0_u32, 0_usize)));
        while let Some(Reverse((_, index))) = open.pop() {
            let Some(changes) = states.get(index).cloned() else { continue };
            let Some((reason, by)) = self.refused(&changes) else {
                return Flipping::By(self.named(&self.least(changes)));
            };
            for way in self.ways(&changes, reason, &by) {
                let digest = format!("{way:?}");
                if states.len() < MAX_STATES && known.insert(digest) {
                    open.push(Reverse((cost(&way), states.len())));
                    states.push(way);
                }
            }
        }
        Flipping::NotFound
    }

    /// Why it is refused, and by which policies.
    fn refused(&self, changes: &Changes) -> Option<(Reason, Vec<String>)> {
        let world = self.start.with(changes);
        let answer = world.question().ask(self.config, self.profile);
        answer.refused.map(|reason| (reason, answer.policies))
    }

    fn allows(&self, changes: &Changes) -> bool {
        self.refused(changes).is_none()
    }

    /// Combinations with one more step.
    fn ways(&self, changes: &Changes, reason: Reason, by: &[String]) -> Vec<Changes> {
        let mut ways = Vec::new();
        match reason {
            Reason::ExplicitDeny | Reason::PolicyError => {
                let first = by.first().map(String::as_str);
                for rule in self.rules.iter().filter(|rule| Some(rule.policy) == first) {
                    ways.extend(self.rule(rule, false, changes));
                }
            }
            Reason::NoMatch | Reason::Role => {
                let allows = self.rules.iter().filter(|rule| rule.effect == EffectSpec::Allow);
                for rule in allows.take_while(|_| self.tries.get() < MAX_TRIES) {
                    ways.extend(self.rule(rule, true, changes));
                }
            }
            _ => {}
        }
        ways.sort_by_key(cost);
        ways.truncate(MAX_WAYS);
        ways
    }

    /// Ways to make a rule hold, or not hold.
    fn rule(&self, rule: &RuleView<'_>, want: bool, changes: &Changes) -> Vec<Changes> {
        let mut starts = vec![changes.clone()];
        if let Some(role) = rule.role {
            let roles = (Category::Principal, String::from("roles"));
            let held = match self.start.with(changes).value(roles.0, &roles.1) {
                Some(Value::List(held)) => held,
                _ => Vec::new(),
            };
            if want && !held.iter().any(|held| held == role) {
                if changes.contains_key(&roles) {
                    return Vec::new();
                }
                let mut with = held;
                with.push(role.to_owned());
                let mut changes = changes.clone();
                changes.insert(roles, Some(Value::List(with)));
                starts = vec![changes];
            }
        }
        let parts: Vec<Part<'_>> = rule.rule.conditions().into_iter().map(Part::Condition).collect();
        starts.iter().flat_map(|start| self.conjunction(&parts, want, start)).collect()
    }

    /// Ways to make all parts hold, or one of them not.
    fn conjunction(&self, parts: &[Part<'_>], want: bool, changes: &Changes) -> Vec<Changes> {
        if want { self.every(parts, true, changes) } else { self.some(parts, false, changes) }
    }

    /// Every part says what is wanted.
    fn every(&self, parts: &[Part<'_>], want: bool, changes: &Changes) -> Vec<Changes> {
        let mut ways = vec![changes.clone()];
        for part in parts {
            ways = ways.iter().flat_map(|way| self.part(*part, want, way)).collect();
            ways.sort_by_key(cost);
            ways.truncate(MAX_VALUES);
        }
        // a later part may have undone an earlier one
        ways.retain(|way| parts.iter().all(|part| self.says(*part, way) == Some(want)));
        ways
    }

    /// Some part says what is wanted.
    fn some(&self, parts: &[Part<'_>], want: bool, changes: &Changes) -> Vec<Changes> {
        parts.iter().flat_map(|part| self.part(*part, want, changes)).collect()
    }

    fn part(&self, part: Part<'_>, want: bool, changes: &Changes) -> Vec<Changes> {
        if self.says(part, changes) == Some(want) {
            return vec![changes.clone()];
        }
        match part {
            Part::Condition(condition) => self.conjunction(&condition_parts(condition), want, changes),
            Part::Block(Block::Not(inner)) => self.part(Part::Condition(inner), !want, changes),
            Part::Block(Block::All(inner)) => {
                let parts: Vec<_> = inner.iter().map(Part::Condition).collect();
                self.conjunction(&parts, want, changes)
            }
            Part::Block(Block::Any(inner)) => {
                let parts: Vec<_> = inner.iter().map(Part::Condition).collect();
                if want { self.some(&parts, true, changes) } else { self.every(&parts, false, changes) }
            }
            Part::Clause(clause) => self.clause(clause, want, changes),
        }
    }

    /// Values of one attribute, or of what it is compared with, under which the clause says what is wanted.
    fn clause(&self, clause: &Clause, want: bool, changes: &Changes) -> Vec<Changes> {
        let world = self.start.with(changes);
        let mut found: BTreeMap<String, Changes> = BTreeMap::new();
        let attribute = clause.attribute();
        let pool = self.pool.get(&(attribute.category, attribute.name.to_string()));
        for (attribute, to) in values::of(clause, &world, pool.map(Vec::as_slice).unwrap_or_default()) {
            if changes.contains_key(&attribute) || world.value(attribute.0, &attribute.1) == to {
                continue;
            }
            let mut way = changes.clone();
            way.insert(attribute, to);
            if self.says(Part::Clause(clause), &way) == Some(want) {
                found.insert(format!("{way:?}"), way);
            }
        }
        let mut ways: Vec<Changes> = found.into_values().collect();
        ways.sort_by_key(cost);
        ways.truncate(MAX_VALUES);
        ways
    }

    /// What a part says; `None`: it errs.
    fn says(&self, part: Part<'_>, changes: &Changes) -> Option<bool> {
        self.tries.set(self.tries.get().saturating_add(1));
        let world = self.start.with(changes);
        let question = world.question();
        let attributes = question.attributes();
        let absence = self.config.policies.combining(&self.profile.policies).absence();
        let lookup = Lookup { attributes: &attributes, absence };
        let said = match part {
            Part::Clause(clause) => clause.matches(lookup),
            Part::Block(block) => block.matches(lookup),
            Part::Condition(condition) => condition.matches(lookup),
        };
        match said {
            Match::Yes => Some(true),
            Match::No => Some(false),
            Match::Error(..) => None,
        }
    }

    /// The smallest part of `changes` that allows.
    fn least(&self, mut changes: Changes) -> Changes {
        if changes.len() <= MAX_SUBSETS {
            let all: Vec<_> = changes.iter().map(|(attribute, to)| (attribute.clone(), to.clone())).collect();
            let mut subsets: Vec<u32> =
                (0..1_u32.checked_shl(u32::try_from(all.len()).unwrap_or(0)).unwrap_or(1)).collect();
            subsets.sort_by_key(|subset| subset.count_ones());
            let of = |subset: u32| -> Changes {
                let chosen = all.iter().enumerate().filter(|(bit, _)| {
                    subset.checked_shr(u32::try_from(*bit).unwrap_or(31)).is_some_and(|rest| rest & 1 == 1)
                });
                chosen.map(|(_, change)| change.clone()).collect()
            };
            return subsets.into_iter().map(of).find(|subset| self.allows(subset)).unwrap_or(changes);
        }
        loop {
            let without = |attribute: &(Category, String)| {
                let mut fewer = changes.clone();
                fewer.remove(attribute);
                fewer
            };
            let Some(fewer) = changes.keys().map(without).find(|fewer| self.allows(fewer)) else {
                return changes;
            };
            changes = fewer;
        }
    }

    fn named(&self, changes: &Changes) -> Vec<Change> {
        let named = changes.iter().map(|((category, name), to)| Change {
            category: *category,
            name: name.clone(),
            from: self.start.value(*category, name),
            to: to.clone(),
        });
        named.collect()
    }
}

/// A part of a condition.
#[derive(Clone, Copy)]
enum Part<'c> {
    Block(&'c Block),
    Clause(&'c Clause),
    Condition(&'c Condition),
}

fn condition_parts(condition: &Condition) -> Vec<Part<'_>> {
    let clauses = condition.clauses().iter().map(Part::Clause);
    clauses.chain(condition.blocks().iter().map(Part::Block)).collect()
}

/// What a combination asks of the world.
fn cost(changes: &Changes) -> u32 {
    let one = |((category, name), to): (&(Category, String), &Option<Value>)| {
        let of = match (category, name.as_str()) {
            (Category::Principal, "id") => 200,
            (Category::Principal, _) => 10,
            (Category::Environment, _) => 20,
            (Category::Resource, "type" | "id") => 400,
            (Category::Resource, _) => 30,
            (Category::Action, _) => 300,
        };
        // rather another value than none
        if to.is_none() { 5_u32.saturating_add(of) } else { of }
    };
    changes.iter().map(one).fold(0, u32::saturating_add)
}

// === impl Change ===

impl Change {
    /// `principal.clearance`.
    pub fn attribute(&self) -> String {
        self.category.full_name(&self.name)
    }
}
