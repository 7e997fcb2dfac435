//! Roles become allow policies named `role:<role>`, one for each permission of their own and of the roles they
//! inherit (NIST RBAC, general role hierarchies).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::Value as Json;

use super::condition::{Condition, Section};
use super::facts::Facts;
use super::index::{Index, Over};
use super::spec::{EffectSpec, PermissionSpec, RoleSpec};
use super::{Place, ROLE_PREFIX, Rule, check_name};
use crate::config::faults::{Faults, segment};

/// One role with everything it grants.
#[derive(Clone, Debug)]
pub(super) struct Role {
    /// `role:<role>`.
    pub(super) policy: Rc<str>,
    /// Its place among the roles, for selections.
    pub(super) place: usize,
    /// Its own permissions, then those of the roles that it inherits.
    pub(super) permissions: Vec<Rc<Rule>>,
    /// The same, filed.
    pub(super) index: Index,
    pub(super) claims: Index,
}

/// How many roles there may be.
pub const MAX_ROLES: usize = 4096;

/// How many permissions all roles may have, inherited ones counted for each heir.
pub const MAX_PERMISSIONS: usize = 100_000;

pub(super) fn compile(
    specs: &BTreeMap<String, RoleSpec>,
    facts: Facts<'_>,
    pointer: &str,
    faults: &mut Faults,
) -> BTreeMap<String, Role> {
    if specs.len() > MAX_ROLES {
        faults.at(pointer, format!("there are more than {MAX_ROLES} roles"), "write fewer roles");
        return BTreeMap::new();
    }
    let mut own: BTreeMap<&str, Vec<Rc<Rule>>> = BTreeMap::new();
    for (name, spec) in specs {
        let pointer = format!("{pointer}/{}", segment(name));
        check_name(name, &pointer, faults);
        let role: Rc<str> = name.as_str().into();
        let permissions = spec.permissions.iter().enumerate().filter_map(|(index, json)| {
            let place = Place::Permission(Rc::clone(&role), index);
            compile_permission(json, place, facts, &format!("{pointer}/permissions/{index}"), faults)
        });
        own.insert(name, permissions.map(Rc::new).collect());
    }
    let mut roles = BTreeMap::new();
    let mut total: usize = 0;
    for (index, (name, spec)) in specs.iter().enumerate() {
        let pointer = format!("{pointer}/{}/inherits", segment(name));
        let mut permissions = own.get(name.as_str()).cloned().unwrap_or_default();
        for ancestor in ancestors(name, spec, specs, &pointer, faults) {
            permissions.extend(own.get(ancestor).into_iter().flatten().cloned());
        }
        total = total.saturating_add(permissions.len());
        if total > MAX_PERMISSIONS {
            faults.at(
                pointer,
                format!("the roles have more than {MAX_PERMISSIONS} permissions with those they inherit"),
                "write fewer permissions, or use a trailing `*`",
            );
            break;
        }
        let policy = Rc::from(format!("{ROLE_PREFIX}{name}"));
        let file = |over| Index::build(permissions.iter().map(Rc::as_ref).enumerate(), over);
        let (filed, claims) = (file(Over::Rule), file(Over::Claim));
        roles.insert(name.clone(), Role { policy, place: index, permissions, index: filed, claims });
    }
    roles
}

/// Every role that this one inherits, directly or not, each once. Unknown parents and cycles are faults.
fn ancestors<'s>(
    name: &str,
    spec: &'s RoleSpec,
    specs: &'s BTreeMap<String, RoleSpec>,
    pointer: &str,
    faults: &mut Faults,
) -> BTreeSet<&'s str> {
    for (index, parent) in spec.inherits.iter().enumerate() {
        if !specs.contains_key(parent) {
            faults.at(
                format!("{pointer}/{index}"),
                format!("no role is called `{parent}`"),
                "write one of `authorization.roles`",
            );
        }
    }
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = spec.inherits.iter().map(String::as_str).collect();
    while let Some(ancestor) = open.pop() {
        if let Some(spec) = specs.get(ancestor)
            && found.insert(ancestor)
        {
            open.extend(spec.inherits.iter().map(String::as_str));
        }
    }
    if found.contains(name) {
        faults.at(pointer, format!("`{name}` inherits itself"), "break the circle");
    }
    found
}

fn compile_permission(
    json: &Json,
    place: Place,
    facts: Facts<'_>,
    pointer: &str,
    faults: &mut Faults,
) -> Option<Rule> {
    match json {
        Json::String(_) => Some(Rule {
            claim: Condition::of_action(json, "", facts.schema, pointer, faults),
            object: Condition::default(),
            place,
        }),
        Json::Object(_) => {
            let spec: PermissionSpec = match serde_json::from_value(json.clone()) {
                Ok(spec) => spec,
                Err(error) => {
                    faults.at(pointer, format!("this is not a permission: {error}"), PERMISSION_REMEDY);
                    return None;
                }
            };
            let actions = Json::from(spec.actions);
            let claim = Condition::of_action(
                &actions,
                "actions",
                facts.schema,
                &format!("{pointer}/actions"),
                faults,
            );
            let mut part = |written, section, word: &str| {
                Condition::compile(written, section, facts.schema, &format!("{pointer}/{word}"), faults)
            };
            let object = part(&spec.resource, Section::Resource, "resource");
            let object = object.and(part(&spec.when, Section::When, "when"));
            let rule = Rule { claim, object, place };
            facts.check(&rule, EffectSpec::Allow, true, pointer, faults);
            Some(rule)
        }
        _ => {
            faults.at(pointer, "this is not a permission", PERMISSION_REMEDY);
            None
        }
    }
}

const PERMISSION_REMEDY: &str = "write an action, `*`, or an object of `actions`, `resource` and `when`";
