//! Why a decision is what it is: every policy, clause by clause.

use super::attributes::{Attributes, Value};
use super::condition::truth::Lookup;
use super::condition::{Absence, ClauseTrace, Truth};
use super::spec::{EffectSpec, ModeSpec};
use super::{PolicySelection, PolicySet, Rule};
use crate::config::faults::segment;

/// What one policy, or one permission of a role, says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTrace {
    /// The policy's name; `role:<role>` for each of the role's permissions.
    pub policy: String,
    /// Where it is written, as a JSON pointer; an inherited permission stands at the role that it comes from.
    pub pointer: String,
    /// What it does when it matches.
    pub effect: EffectSpec,
    /// How it is written.
    pub mode: ModeSpec,
    /// `false`: not written with `mode: enforce` or not selected by the profile, so that it does not count.
    pub counts: bool,
    /// Whether it matches.
    pub truth: Truth,
    /// Its clauses; those of a role begin with the role itself.
    pub clauses: Vec<ClauseTrace>,
}

impl PolicySet {
    /// What every permission and policy says, whether or not it decides: roles by name, then policies as written.
    pub fn explain(&self, selection: &PolicySelection, attributes: &Attributes<'_>) -> Vec<PolicyTrace> {
        let combining = selection.combining().unwrap_or(self.combining);
        let lookup = Lookup { attributes, absence: combining.absence() };
        let mut traces = Vec::new();
        for (name, role) in &self.roles {
            let held = attributes.principal.roles.contains(name);
            let held = if held { Truth::True } else { Truth::False };
            for rule in &role.permissions {
                let clause = ClauseTrace {
                    pointer: format!("/authorization/roles/{}", segment(name)),
                    attribute: String::from("principal.roles"),
                    pattern: serde_json::Value::from(name.as_str()).to_string(),
                    seen: Some(Value::List(attributes.principal.roles.clone())),
                    truth: held.clone(),
                };
                traces.push(PolicyTrace {
                    policy: role.policy.to_string(),
                    pointer: rule.pointer(),
                    effect: EffectSpec::Allow,
                    mode: ModeSpec::Enforce,
                    counts: selection.has_role(role.place),
                    truth: if held == Truth::True { Truth::from(rule.matches(lookup)) } else { Truth::False },
                    clauses: std::iter::once(clause).chain(rule.clauses(lookup)).collect(),
                });
            }
        }
        for (index, policy) in self.policies.iter().enumerate() {
            traces.push(PolicyTrace {
                policy: policy.name.to_string(),
                pointer: policy.rule.pointer(),
                effect: policy.effect,
                mode: policy.mode,
                counts: policy.mode == ModeSpec::Enforce && selection.has_policy(index),
                truth: Truth::from(policy.rule.matches(lookup)),
                clauses: policy.rule.clauses(lookup).collect(),
            });
        }
        traces
    }
}

// === impl Rule ===

impl Rule {
    /// What each clause says, with its place in the document.
    pub fn trace(&self, attributes: &Attributes<'_>) -> impl Iterator<Item = ClauseTrace> {
        self.clauses(Lookup { attributes, absence: Absence::NoMatch })
    }

    fn clauses(&self, lookup: Lookup<'_>) -> impl Iterator<Item = ClauseTrace> + use<> {
        let pointer = self.pointer();
        let [claim, object] = self.conditions().map(|condition| condition.trace(&pointer, lookup));
        claim.into_iter().chain(object)
    }
}
