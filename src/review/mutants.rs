//! A configuration becomes its mutants: configurations that differ in one small thing, which tests should notice.

use serde_json::Value as Json;

use crate::config::Config;
use crate::config::compile::Environment;
use crate::config::document::Document;
use crate::config::faults::{Faults, segment};
use crate::policy::ROLE_PREFIX;
use crate::policy::mutation::{Change, Mutation};
use crate::policy::spec::ModeSpec;

use super::Candidate;

/// One way to change a document.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// How reports and lists of equivalent ones call it: policy, place in it, change.
    pub name: String,
    /// What is changed.
    pub pointer: String,
    edit: Edit,
}

#[derive(Clone, Debug)]
enum Edit {
    /// A clause, block or effect.
    Mutation(Mutation),
    /// One element of a list is taken out.
    Element(usize),
    /// The policy does not count.
    Off,
}

// === impl Candidate ===

impl Candidate {
    /// Every mutant: flipped operators and effects, dropped clauses, blocks, elements of lists, permissions and policies.
    pub fn mutants(&self) -> Vec<Mutant> {
        let authorization = &self.document.authorization;
        let mut mutants: Vec<Mutant> = Vec::new();
        let whole = self.tree.to_json();
        for (index, policy) in authorization.policies.iter().enumerate() {
            if policy.mode == ModeSpec::Enforce {
                let pointer = format!("/authorization/policies/{index}");
                elements(&whole, &pointer, &mut |list, index| self.element(list, index, &mut mutants));
                mutants.push(self.mutant(pointer, "taken out", Edit::Off));
            }
        }
        for name in authorization.roles.keys() {
            let pointer = format!("/authorization/roles/{}", segment(name));
            for list in ["permissions", "inherits"] {
                let pointer = format!("{pointer}/{list}");
                let length = whole.pointer(&pointer).and_then(Json::as_array).map_or(0, Vec::len);
                (0..length).for_each(|index| self.element(&pointer, index, &mut mutants));
            }
            let permissions = format!("{pointer}/permissions");
            elements(&whole, &permissions, &mut |list, index| self.element(list, index, &mut mutants));
        }
        for mutation in self.config.policies.mutations() {
            let change = said(mutation.change);
            mutants.push(self.mutant(mutation.pointer.clone(), &change, Edit::Mutation(mutation)));
        }
        mutants.sort_by_key(|mutant| self.tree.line_of(&mutant.pointer));
        mutants
    }

    fn element(&self, list: &str, index: usize, mutants: &mut Vec<Mutant>) {
        let value = self.written(&format!("{list}/{index}")).unwrap_or_default();
        // a long one is known by its place
        let value = value.as_str().map_or_else(|| index.to_string(), |text| format!("`{text}`"));
        mutants.push(self.mutant(list.to_owned(), &format!("without {value}"), Edit::Element(index)));
    }

    fn mutant(&self, pointer: String, change: &str, edit: Edit) -> Mutant {
        let parts: Vec<&str> = pointer.split('/').skip(2).collect();
        let (policy, within) = match parts.as_slice() {
            ["policies", index, within @ ..] => {
                let policy = index
                    .parse()
                    .ok()
                    .and_then(|index: usize| self.document.authorization.policies.get(index));
                (policy.map_or_else(|| (*index).to_owned(), |policy| policy.name.clone()), within.join("/"))
            }
            ["roles", role, within @ ..] => {
                (format!("{ROLE_PREFIX}{}", role.replace("~1", "/").replace("~0", "~")), within.join("/"))
            }
            other => (String::from("authorization"), other.join("/")),
        };
        let name = if within.is_empty() {
            format!("{policy}: {change}")
        } else {
            format!("{policy}: {within}: {change}")
        };
        Mutant { name, pointer, edit }
    }

    /// The configuration that a mutant is. `None`: it is none, so that nobody can load it.
    pub fn mutate(&self, mutant: &Mutant, environment: Environment<'_>) -> Option<Config> {
        let mut json = self.tree.to_json();
        if !mutant.apply(&mut json) {
            return None;
        }
        let document: Document = serde_json::from_value(json).ok()?;
        let mut faults = Faults::default();
        let config = Config::compile(&document, String::new(), environment, &mut faults);
        faults.is_empty().then_some(config)
    }
}

// === impl Mutant ===

impl Mutant {
    fn apply(&self, document: &mut Json) -> bool {
        match &self.edit {
            Edit::Mutation(mutation) => mutation.apply(document),
            Edit::Element(index) => {
                let list = document.pointer_mut(&self.pointer).and_then(Json::as_array_mut);
                list.filter(|list| *index < list.len()).map(|list| list.remove(*index)).is_some()
            }
            Edit::Off => {
                let policy = document.pointer_mut(&self.pointer).and_then(Json::as_object_mut);
                policy.map(|policy| policy.insert(String::from("mode"), Json::from("off"))).is_some()
            }
        }
    }
}

/// Lists of several elements below a pointer.
fn elements(whole: &Json, pointer: &str, visit: &mut dyn FnMut(&str, usize)) {
    match whole.pointer(pointer) {
        Some(Json::Array(list)) => {
            let texts =
                list.iter().all(Json::is_string) && list.len() > 1 && !pointer.ends_with("/permissions");
            for index in 0..list.len() {
                if texts {
                    visit(pointer, index);
                } else {
                    elements(whole, &format!("{pointer}/{index}"), visit);
                }
            }
        }
        Some(Json::Object(members)) => {
            for name in members.keys() {
                elements(whole, &format!("{pointer}/{}", segment(name)), visit);
            }
        }
        _ => {}
    }
}

fn said(change: Change) -> String {
    match change {
        Change::Drop => String::from("dropped"),
        Change::Negate | Change::NegateOperator => String::from("negated"),
        Change::Affirm => String::from("no longer negated"),
        Change::Rename(word) => format!("becomes `{word}`"),
        Change::Flip => String::from("flipped"),
        Change::SwapEffect => String::from("swapped"),
    }
}
