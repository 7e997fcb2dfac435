//! Attribute-based policies, and what the rest of the document says about the attributes that they test.

use super::condition::{Condition, Section};
use super::facts::Facts;
use super::obligations::Obligations;
use super::spec::{ModeSpec, PolicySpec};
use super::{Place, Policy, Rule, check_name};
use crate::config::faults::Faults;

use serde_json::Value as Json;

/// How many policies there may be.
pub const MAX_POLICIES: usize = 100_000;

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
        policies.push(compile_policy(spec, index, facts, &pointer, faults));
    }
    policies
}

fn compile_policy(
    spec: &PolicySpec,
    index: usize,
    facts: Facts<'_>,
    pointer: &str,
    faults: &mut Faults,
) -> Policy {
    let action = spec.action.as_deref().map_or_else(Condition::default, |actions| {
        let actions = Json::from(actions);
        Condition::of_action(&actions, "action", facts.schema, &format!("{pointer}/action"), faults)
    });
    let mut part = |written, section, word: &str| {
        Condition::compile(written, section, facts.schema, &format!("{pointer}/{word}"), faults)
    };
    let claim = action.and(part(&spec.principal, Section::Principal, "principal"));
    let object = part(&spec.resource, Section::Resource, "resource");
    let object = object.and(part(&spec.when, Section::When, "when"));
    let rule = Rule { claim, object, place: Place::Policy(index) };
    facts.check(&rule, spec.effect, spec.mode != ModeSpec::Off, pointer, faults);
    let written = spec.obligations.as_ref();
    let obligations = written.map(|written| {
        let pointer = format!("{pointer}/obligations");
        Box::new(Obligations::compile(written, spec.effect, &pointer, faults))
    });
    Policy { name: spec.name.as_str().into(), effect: spec.effect, mode: spec.mode, rule, obligations }
}
