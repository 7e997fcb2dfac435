//! Which policies apply where: the `policies` of a profile become a [`PolicySelection`].

use serde_json::Value as Json;

use super::combining::Combining;
use super::{EffectSpec, ModeSpec, PolicySet};
use crate::config::faults::Faults;

/// A choice among the policies and roles of one [`PolicySet`].
#[derive(Clone, Debug, Default)]
pub struct PolicySelection {
    /// `None`: all.
    chosen: Option<Chosen>,
    /// `None`: as `authorization` says.
    combining: Option<Combining>,
}

#[derive(Clone, Debug)]
struct Chosen {
    policies: Vec<bool>,
    roles: Vec<bool>,
}

// === impl PolicySelection ===

impl PolicySelection {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// Compiles what a profile writes, at `pointer`: absent for all, `none`, or a list of names and `role:<role>`,
    /// where a trailing `*` is a prefix. An empty list and a name that matches nothing are faults.
    pub fn compile(spec: Option<&Json>, set: &PolicySet, pointer: &str, faults: &mut Faults) -> Self {
        let Some(spec) = spec else { return Self::all() };
        let mut chosen =
            Chosen { policies: vec![false; set.policies.len()], roles: vec![false; set.roles.len()] };
        let list = match spec {
            Json::String(word) if word == "none" => return Self::of(chosen),
            Json::Array(list) if !list.is_empty() => list,
            _ => {
                faults.at(
                    pointer,
                    "this selects no policies",
                    "write `none`, a list of names, or leave the word out for all",
                );
                return Self::of(chosen);
            }
        };
        for (index, pattern) in list.iter().enumerate() {
            let pointer = format!("{pointer}/{index}");
            let Json::String(pattern) = pattern else {
                faults.at(pointer, "this is not a name", "write a policy's name or `role:<role>`");
                continue;
            };
            let names = |name: &str| match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == pattern,
            };
            let mut found = false;
            let policies = chosen.policies.iter_mut().zip(set.policies.iter().map(|policy| &*policy.name));
            let roles = chosen.roles.iter_mut().zip(set.roles.values().map(|role| &*role.policy));
            for (is_chosen, name) in policies.chain(roles) {
                if names(name) {
                    *is_chosen = true;
                    found = true;
                }
            }
            if !found {
                faults.at(
                    pointer,
                    format!("no policy is called `{pattern}`"),
                    "write a policy's name, `role:<role>`, or a prefix of one with a trailing `*`",
                );
            }
        }
        Self::of(chosen)
    }

    /// The same policies, combined as a profile writes it at `pointer`. Where what is not denied is allowed there must
    /// be something that denies.
    pub fn combined(mut self, how: Combining, set: &PolicySet, pointer: &str, faults: &mut Faults) -> Self {
        let denies = set.policies.iter().enumerate().any(|(index, policy)| {
            policy.effect == EffectSpec::Deny && policy.mode == ModeSpec::Enforce && self.has_policy(index)
        });
        if how == Combining::PermitUnlessDeny && !denies {
            faults.at(
                pointer,
                "no policy denies here, so that this lets everybody do everything",
                "name policies that deny, or write `authorize: none`",
            );
        }
        self.combining = Some(how);
        self
    }

    pub(super) const fn combining(&self) -> Option<Combining> {
        self.combining
    }

    const fn of(chosen: Chosen) -> Self {
        Self { chosen: Some(chosen), combining: None }
    }

    pub(super) fn has_policy(&self, index: usize) -> bool {
        self.chosen.as_ref().is_none_or(|chosen| chosen.policies.get(index).copied().unwrap_or(false))
    }

    pub(super) fn has_role(&self, index: usize) -> bool {
        self.chosen.as_ref().is_none_or(|chosen| chosen.roles.get(index).copied().unwrap_or(false))
    }
}
