//! What the rest of the document says about the attributes that a rule tests: whether they exist, and whether leaving
//! one out could turn the answer.

use super::Rule;
use super::attributes::{AttributeMap, Category};
use super::condition::comparison::Comparison;
use super::condition::{Block, Clause, Condition, Part};
use super::schema::{Designator, Schema};
use super::spec::EffectSpec;
use crate::config::faults::Faults;
use crate::resource::catalogue::Catalogue;

/// Which attributes exist.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Attributes of resources.
    pub catalogue: &'a Catalogue,
    /// Attributes of the environment.
    pub environment: &'a AttributeMap,
    /// Types of all of them.
    pub schema: &'a Schema,
}

/// How many resources a fault names.
const NAMED_RESOURCES: usize = 3;

// === impl Facts ===

impl Facts<'_> {
    /// Every fault of a rule that follows from what other parts of the document say. `counts`: it is not switched off.
    pub(super) fn check(
        self,
        rule: &Rule,
        effect: EffectSpec,
        counts: bool,
        pointer: &str,
        faults: &mut Faults,
    ) {
        self.check_environment(&rule.object, pointer, faults);
        if counts {
            let mut found = Vec::new();
            // what makes an allow certain of an attribute makes a deny dodge by it
            let grows = effect == EffectSpec::Allow;
            let both = [&rule.claim, &rule.object];
            let known = Known { certain: Vec::new(), grows }.with(both.into_iter().flat_map(present));
            for condition in both {
                dodgeable(condition, effect == EffectSpec::Allow, &known, &mut found);
            }
            found.sort_unstable_by_key(|attribute| (attribute.category, &attribute.name));
            found.dedup();
            for attribute in found {
                self.check_absence(attribute, rule, effect, pointer, faults);
            }
        }
    }

    /// The environment is written in the same document: what it does not name is a dangling reference.
    fn check_environment(self, object: &Condition, pointer: &str, faults: &mut Faults) {
        object.walk(pointer, &mut |pointer, part| {
            let Part::Clause(clause) = part else { return };
            for attribute in names(clause).filter(|attribute| attribute.category == Category::Environment) {
                let name = &*attribute.name;
                let is_known =
                    attribute.category.reserved().contains(&name) || self.environment.contains_key(name);
                if !is_known {
                    faults.at(
                        pointer,
                        format!("`environment.{name}` is not written"),
                        "write it under `environment`, or test another attribute",
                    );
                }
            }
        });
    }

    /// What an attribute that is missing turns in the caller's favour: a deny that does not match without it, an allow
    /// that matches without it.
    fn check_absence(
        self,
        attribute: &Designator,
        rule: &Rule,
        effect: EffectSpec,
        pointer: &str,
        faults: &mut Faults,
    ) {
        let full_name = &attribute.full_name;
        let name = &*attribute.name;
        let reserved = attribute.category.reserved().contains(&name);
        let (what, so) = match effect {
            EffectSpec::Allow => ("this allow says what must not be of", "would so be let in"),
            EffectSpec::Deny => ("this deny tests", "so could dodge"),
        };
        match (attribute.category, effect) {
            (Category::Principal, EffectSpec::Allow) if !reserved => faults.at(
                pointer,
                format!("{what} `{full_name}`, and a caller that lacks it {so}"),
                "ask for it beside this with `present: true`, or declare it `required` in `authorization.attributes`",
            ),
            (Category::Resource, _) if !reserved => {
                let lacking = self.lacking(name, &rule.object);
                if !lacking.is_empty() {
                    faults.at(
                        pointer,
                        format!("{what} `{full_name}`, which {} lacks and {so}", some_of(lacking)),
                        format!("give them `{name}` in the catalogue, narrow this by type or id, or declare it `required`"),
                    );
                } else if self.catalogue.allows_unlisted() && !self.names_listed_only(&rule.object) {
                    faults.at(
                        pointer,
                        format!("{what} `{full_name}`, which unlisted resources lack and {so}"),
                        "write `resources.unlisted: deny`, name listed resources by type and id, or declare it `required`",
                    );
                }
            }
            _ => {}
        }
    }

    /// Listed resources that the object may be about and that lack an attribute.
    fn lacking(self, name: &str, object: &Condition) -> Vec<String> {
        let mut lacking: Vec<String> = self
            .catalogue
            .iter()
            .filter(|resource| {
                object.may_match(Category::Resource, "type", &resource.kind)
                    && object.may_match(Category::Resource, "id", &resource.id)
                    && !resource.attributes.contains_key(name)
            })
            .map(|resource| format!("{} `{}`", resource.kind, resource.id))
            .collect();
        lacking.sort_unstable();
        lacking
    }

    fn names_listed_only(self, object: &Condition) -> bool {
        let kinds = object.only_texts(Category::Resource, "type");
        let ids = object.only_texts(Category::Resource, "id");
        let (Some(kinds), Some(ids)) = (kinds, ids) else { return false };
        let listed = |kind: &str, id: &str| self.catalogue.contains(kind, id);
        kinds.iter().all(|kind| ids.iter().all(|id| listed(kind, id)))
    }
}

/// The attributes that a clause looks at.
fn names(clause: &Clause) -> impl Iterator<Item = &Designator> {
    std::iter::once(clause.attribute()).chain(clause.comparison().others())
}

/// Attributes that must be there for a conjunction to hold.
fn present(condition: &Condition) -> impl Iterator<Item = &Designator> {
    let holding =
        |clause: &&Clause| !clause.is_negated() && !matches!(clause.comparison(), Comparison::Present(false));
    condition.clauses().iter().filter(holding).flat_map(names)
}

/// Attributes that are there whenever a part of a condition counts.
#[derive(Clone)]
struct Known<'c> {
    certain: Vec<&'c Designator>,
    /// Not where the part is negated: what must be there for it to hold may then be missing.
    grows: bool,
}

// === impl Known ===

impl<'c> Known<'c> {
    fn with(&self, more: impl Iterator<Item = &'c Designator>) -> Self {
        let mut known = self.clone();
        known.certain.extend(more.filter(|_| self.grows));
        known
    }
}

/// Attributes whose absence makes a condition `said`: what is true lets an allow in, what is false a deny by. `present`
/// asks for absence itself.
fn dodgeable<'c>(condition: &'c Condition, said: bool, known: &Known<'c>, found: &mut Vec<&'c Designator>) {
    for clause in condition.clauses() {
        if clause.is_negated() == said && !matches!(clause.comparison(), Comparison::Present(_)) {
            let open = |attribute: &&Designator| !attribute.required && !known.certain.contains(attribute);
            found.extend(names(clause).filter(open));
        }
    }
    for block in condition.blocks() {
        match block {
            Block::All(parts) => {
                let known = known.with(parts.iter().flat_map(present));
                parts.iter().for_each(|part| dodgeable(part, said, &known, found));
            }
            Block::Any(parts) => {
                parts.iter().for_each(|part| dodgeable(part, said, &known.with(present(part)), found));
            }
            Block::Not(part) => dodgeable(part, !said, &Known { grows: false, ..known.clone() }, found),
        }
    }
}

fn some_of(mut names: Vec<String>) -> String {
    let others = names.len().saturating_sub(NAMED_RESOURCES);
    names.truncate(NAMED_RESOURCES);
    let and = if others > 0 { format!(" and {others} more") } else { String::new() };
    format!("{}{and}", names.join(", "))
}
