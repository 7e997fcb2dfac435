//! Attribute-based policies, and what the rest of the document says about the attributes that they test.

use super::attributes::{AttributeMap, Category};
use super::condition::Condition;
use super::spec::{EffectSpec, ModeSpec, PolicySpec};
use super::{Policy, Rule, check_name};
use crate::config::faults::Faults;
use crate::resource::catalogue::Catalogue;

use serde_json::Value as Json;

/// Which attributes exist.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) catalogue: &'a Catalogue,
    pub(super) environment: &'a AttributeMap,
}

/// How many policies there may be.
pub const MAX_POLICIES: usize = 100_000;

/// How many resources a fault names.
const NAMED_RESOURCES: usize = 3;

pub(super) fn compile(
    specs: &[PolicySpec],
    facts: Facts<'_>,
    pointer: &str,
    faults: &mut Faults,
) -> Vec<Policy> {
    if specs.len() > MAX_POLICIES {
        faults.at(pointer, format!("there are more than {MAX_POLICIES} policies"), "write fewer policies");
        return Vec::new();
    }
    let mut names = std::collections::BTreeMap::new();
    let mut policies = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        let pointer = format!("{pointer}/{index}");
        let name = format!("{pointer}/name");
        check_name(&spec.name, &name, faults);
        if let Some(first) = names.insert(spec.name.as_str(), index) {
            faults.at(
                name,
                format!("a second policy is called `{}`", spec.name),
                format!("give it another name than `/authorization/policies/{first}` has"),
            );
        }
        policies.push(compile_policy(spec, facts, &pointer, faults));
    }
    policies
}

fn compile_policy(spec: &PolicySpec, facts: Facts<'_>, pointer: &str, faults: &mut Faults) -> Policy {
    let mut claim = Condition::default();
    if let Some(actions) = &spec.action {
        let actions = Json::from(actions.as_slice());
        claim = Condition::of_action(&actions, &format!("{pointer}/action"), faults);
    }
    let principal = Some(Category::Principal);
    let claim =
        claim.and(Condition::compile(&spec.principal, principal, &format!("{pointer}/principal"), faults));
    let resource = Some(Category::Resource);
    let object = Condition::compile(&spec.resource, resource, &format!("{pointer}/resource"), faults)
        .and(Condition::compile(&spec.when, None, &format!("{pointer}/when"), faults));
    let enforced = spec.mode == ModeSpec::Enforce;
    facts.check_environment(&object, pointer, faults);
    if spec.effect == EffectSpec::Deny && enforced {
        facts.check_deny(&object, pointer, faults);
    }
    Policy { name: spec.name.as_str().into(), effect: spec.effect, enforced, rule: Rule { claim, object } }
}

// === impl Facts ===

impl Facts<'_> {
    /// The environment is written in the same document: what it does not name is a dangling reference.
    pub(super) fn check_environment(&self, object: &Condition, pointer: &str, faults: &mut Faults) {
        for name in object.tests(Category::Environment) {
            if !self.environment.contains_key(name) {
                faults.at(
                    format!("{pointer}/when/environment.{name}"),
                    format!("`environment.{name}` is not written"),
                    "write it under `environment`, or test another attribute",
                );
            }
        }
    }

    /// A missing attribute does not match, so that a deny could be dodged by what lacks the attribute it tests.
    fn check_deny(&self, object: &Condition, pointer: &str, faults: &mut Faults) {
        for name in object.tests(Category::Resource).filter(|name| !matches!(*name, "id" | "type")) {
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
            if !lacking.is_empty() {
                let others = lacking.len().saturating_sub(NAMED_RESOURCES);
                lacking.truncate(NAMED_RESOURCES);
                let and = if others > 0 { format!(" and {others} more") } else { String::new() };
                faults.at(
                    pointer,
                    format!(
                        "this deny tests `resource.{name}`, which {}{and} lacks and so could dodge",
                        lacking.join(", ")
                    ),
                    format!("give them `{name}` in the catalogue, or narrow the deny by type or id"),
                );
            } else if self.catalogue.allows_unlisted() && !self.names_listed_only(object) {
                faults.at(
                    pointer,
                    format!(
                        "this deny tests `resource.{name}`, which unlisted resources lack and so could dodge"
                    ),
                    "write `resources.unlisted: deny`, or name listed resources by type and id",
                );
            }
        }
    }

    fn names_listed_only(&self, object: &Condition) -> bool {
        let kinds = object.only_texts(Category::Resource, "type");
        let ids = object.only_texts(Category::Resource, "id");
        let (Some(kinds), Some(ids)) = (kinds, ids) else { return false };
        let listed = |kind: &str, id: &str| self.catalogue.contains(kind, id);
        kinds.iter().all(|kind| ids.iter().all(|id| listed(kind, id)))
    }
}
