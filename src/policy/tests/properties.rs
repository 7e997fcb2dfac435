//! The evaluator against a second one that reads the document itself, one policy at a time and without compiling.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::Scene;
use crate::filter::refusal::Reason;
use crate::policy::attributes::Category;
use crate::policy::condition::Flaw;
use crate::policy::obligations::Obligations;
use crate::policy::{Decision, PolicyError, PolicySelection, Shadowed};

/// `None`: an error.
type Ternary = Option<bool>;

/// A request as JSON: `principal`, `resource`, `environment`, `action`.
struct Naive<'a> {
    request: &'a Json,
}

impl Naive<'_> {
    fn attribute(&self, full_name: &str) -> Option<&Json> {
        full_name.split('.').try_fold(self.request, |value, part| value.get(part))
    }

    fn pattern(&self, pattern: &Json, value: Option<&Json>) -> Ternary {
        let Some(value) = value else { return Some(false) };
        match (pattern, value) {
            (Json::Array(list), _) => {
                let said: Vec<_> = list.iter().map(|one| self.pattern(one, Some(value))).collect();
                if said.contains(&Some(true)) {
                    Some(true)
                } else if said.contains(&None) {
                    None
                } else {
                    Some(false)
                }
            }
            (Json::String(text), _) if text == "*" => Some(true),
            (Json::String(text), _) if text == "{principal.x}" => {
                let own = self.attribute("principal.x");
                match (own, value) {
                    (None, _) => Some(false),
                    (Some(Json::String(own)), _) if own.is_empty() => Some(false),
                    (Some(Json::Array(own)), Json::Array(seen)) => {
                        Some(own.iter().any(|one| one != "" && seen.contains(one)))
                    }
                    (Some(Json::Array(own)), Json::String(_)) => Some(own.contains(value) && value != ""),
                    (Some(own @ Json::String(_)), Json::Array(seen)) => Some(seen.contains(own)),
                    (Some(Json::Number(_)), Json::Number(_))
                    | (Some(Json::Bool(_)), Json::Bool(_))
                    | (Some(Json::String(_)), Json::String(_)) => Some(own == Some(value)),
                    _ => None,
                }
            }
            (Json::String(text), Json::Array(list)) => {
                Some(list.iter().any(|one| one.as_str().is_some_and(|one| like(text, one))))
            }
            (Json::String(text), Json::String(value)) => Some(like(text, value)),
            (Json::Number(_), Json::Number(_)) | (Json::Bool(_), Json::Bool(_)) => Some(pattern == value),
            _ => None,
        }
    }

    /// Kleene's tables by hand. `Err` has the first erring attribute by name.
    fn all(&self, clauses: &[(String, Json)]) -> Result<bool, String> {
        let said: Vec<_> = clauses.iter().map(|(name, asked)| self.asked(name, asked)).collect();
        if said.contains(&Ok(false)) {
            return Ok(false);
        }
        said.into_iter().filter_map(Result::err).min().map_or(Ok(true), Err)
    }

    fn asked(&self, name: &str, asked: &Json) -> Result<bool, String> {
        let parts = |list: &Json| -> Vec<_> {
            list.as_array().unwrap().iter().map(|part| self.all(&members(part))).collect()
        };
        let not = |said: Result<bool, String>| said.map(|said| !said);
        match name {
            "all" => not(either(parts(asked).into_iter().map(not).collect())),
            "any" => either(parts(asked)),
            "not" => not(self.all(&members(asked))),
            _ => match asked.as_object() {
                None => self.pattern(asked, self.attribute(name)).ok_or_else(|| name.to_owned()),
                Some(operators) => {
                    let said = operators.iter().map(|(word, operand)| match word.as_str() {
                        "not" => not(self.asked(name, operand)),
                        word if word != "present" && self.attribute(name).is_none() => Ok(false),
                        word => {
                            self.operator(word, operand, self.attribute(name)).ok_or_else(|| name.to_owned())
                        }
                    });
                    not(either(said.map(not).collect()))
                }
            },
        }
    }

    fn operator(&self, word: &str, operand: &Json, value: Option<&Json>) -> Ternary {
        if word == "present" {
            return Some(value.is_some() == *operand);
        }
        let value = value?;
        match (word, value, operand) {
            ("equals", Json::Array(list), Json::String(_)) => Some(list.contains(operand)),
            ("equals", _, _) if value.is_string() == operand.is_string() && !value.is_array() => {
                (std::mem::discriminant(value) == std::mem::discriminant(operand)).then(|| value == operand)
            }
            ("gte", Json::Number(_), Json::Number(_)) => Some(value.as_i64() >= operand.as_i64()),
            ("lt", Json::Number(_), Json::Number(_)) => Some(value.as_i64() < operand.as_i64()),
            _ => None,
        }
    }

    /// What is in shadow mode is enforced for once, one policy at a time.
    fn decide(&self, authorization: &Json, scope_ok: bool) -> Decision {
        let mut said = self.without_shadow(authorization, scope_ok);
        for (index, policy) in authorization["policies"].as_array().unwrap().iter().enumerate() {
            if policy["mode"] != "shadow" {
                continue;
            }
            let mut enforced = authorization.clone();
            enforced["policies"][index]["mode"] = json!("enforce");
            if self.without_shadow(&enforced, scope_ok).is_allowed() != said.is_allowed() {
                let policy = policy["name"].as_str().unwrap().to_owned();
                said.shadow.push(Shadowed { policy, denies: said.is_allowed() });
            }
        }
        said.shadow.sort();
        said
    }

    fn without_shadow(&self, authorization: &Json, scope_ok: bool) -> Decision {
        let mut found: [Vec<String>; 3] = Default::default();
        let mut errors = Vec::new();
        let mut named = false;
        for (name, effect, claim, object) in rules(authorization, self.request) {
            let whole: Vec<_> = claim.iter().chain(&object).cloned().collect();
            match (self.all(&whole), effect.as_str()) {
                (Ok(true), "deny") => found[0].push(name),
                (Ok(true), _) => found[2].push(name),
                (Err(attribute), effect) => {
                    errors.push(PolicyError { policy: name.clone(), attribute, flaw: Flaw::Type });
                    if effect == "deny" {
                        found[1].push(name);
                    }
                }
                (Ok(false), _) => {}
            }
            named |= effect == "allow" && self.all(&claim) != Ok(false);
        }
        let (refused, mut policies) = match &found {
            [denies, _, _] if !denies.is_empty() => (Some(Reason::ExplicitDeny), denies.clone()),
            [_, erring, _] if !erring.is_empty() => (Some(Reason::PolicyError), erring.clone()),
            _ if !scope_ok => (Some(Reason::Scope), vec![]),
            [_, _, allows] if !allows.is_empty() => (None, allows.clone()),
            _ if named => (Some(Reason::NoMatch), vec![]),
            _ => (Some(Reason::Role), vec![]),
        };
        policies.sort();
        policies.dedup();
        errors.sort();
        errors.dedup();
        Decision { refused, policies, errors, shadow: Vec::new(), obligations: Obligations::default() }
    }
}

fn either(said: Vec<Result<bool, String>>) -> Result<bool, String> {
    if said.contains(&Ok(true)) {
        return Ok(true);
    }
    said.into_iter().filter_map(Result::err).min().map_or(Ok(false), Err)
}

fn members(condition: &Json) -> Clauses {
    condition.as_object().unwrap().clone().into_iter().collect()
}

fn like(pattern: &str, text: &str) -> bool {
    if pattern.ends_with('*') { text.starts_with(pattern.trim_end_matches('*')) } else { pattern == text }
}

type Clauses = Vec<(String, Json)>;

/// Name, effect, claim, object of everything that applies to the caller.
fn rules(authorization: &Json, request: &Json) -> Vec<(String, String, Clauses, Clauses)> {
    let clauses = |value: &Json, prefix: &str| -> Clauses {
        let map = value.as_object().cloned().unwrap_or_default();
        map.into_iter().map(|(name, pattern)| (format!("{prefix}{name}"), pattern)).collect()
    };
    let action = |value: &Json| -> Clauses {
        if value.is_null() { vec![] } else { vec![("action".into(), value.clone())] }
    };
    let mut rules = Vec::new();
    for role in request["principal"]["roles"].as_array().unwrap() {
        let mut open = vec![role.as_str().unwrap().to_owned()];
        let mut seen = vec![];
        while let Some(next) = open.pop() {
            if seen.contains(&next) {
                continue;
            }
            let spec = &authorization["roles"][&next];
            for permission in spec["permissions"].as_array().into_iter().flatten() {
                let (claim, object) = if permission.is_string() {
                    (action(permission), vec![])
                } else {
                    (action(&permission["actions"]), clauses(&permission["resource"], "resource."))
                };
                rules.push((format!("role:{}", role.as_str().unwrap()), "allow".into(), claim, object));
            }
            open.extend(
                spec["inherits"].as_array().into_iter().flatten().map(|one| one.as_str().unwrap().into()),
            );
            seen.push(next);
        }
    }
    for policy in authorization["policies"].as_array().unwrap() {
        if policy["mode"] != "enforce" {
            continue;
        }
        let mut claim = action(&policy["action"]);
        claim.extend(clauses(&policy["principal"], "principal."));
        let mut object = clauses(&policy["resource"], "resource.");
        object.extend(clauses(&policy["when"], ""));
        let text = |word: &str| policy[word].as_str().unwrap().to_owned();
        rules.push((text("name"), text("effect"), claim, object));
    }
    rules
}

fn pattern() -> impl Strategy<Value = Json> {
    let text = prop::sample::select(vec!["a", "b", "a*", "*", "{principal.x}"]).prop_map(Json::from);
    prop_oneof![
        4 => text.clone(),
        1 => prop::collection::vec(text, 1..3).prop_map(Json::from),
        1 => (0..2).prop_map(Json::from),
        1 => any::<bool>().prop_map(Json::from),
    ]
}

fn value() -> impl Strategy<Value = Json> {
    prop_oneof![
        4 => prop::sample::select(vec!["", "a", "b", "ab"]).prop_map(Json::from),
        1 => prop::collection::vec(prop::sample::select(vec!["", "a", "b"]), 0..3).prop_map(Json::from),
        1 => (0..2).prop_map(Json::from),
        1 => any::<bool>().prop_map(Json::from),
    ]
}

/// What is asked of an attribute; `not` beside `present`, without which an allow must not have it.
fn asked() -> impl Strategy<Value = Json> {
    prop_oneof![
        6 => pattern(),
        1 => prop::sample::select(vec!["a", "b"]).prop_map(|text| json!({ "equals": text })),
        1 => (0..3).prop_map(|number| json!({ "gte": number, "present": true })),
        1 => any::<bool>().prop_map(|present| json!({ "present": present })),
        1 => pattern().prop_map(|pattern| json!({ "not": pattern, "present": true })),
        1 => (0..3).prop_map(|number| json!({ "not": { "lt": number }, "present": true })),
    ]
}

fn clauses() -> impl Strategy<Value = BTreeMap<String, Json>> {
    prop::collection::btree_map("[xy]", asked(), 0..3)
}

/// A `when` with blocks.
fn when() -> impl Strategy<Value = Json> {
    let name = prop::sample::select(vec!["principal.x", "principal.y", "resource.x", "resource.y"]);
    let clause = prop::collection::btree_map(name, asked(), 1..3).prop_map(|clauses| json!(clauses));
    clause.prop_recursive(2, 6, 3, |inner| {
        let list = prop::collection::vec(inner.clone(), 1..3);
        prop_oneof![
            list.clone().prop_map(|list| json!({ "any": list })),
            list.prop_map(|list| json!({ "all": list })),
            inner.prop_map(|inner| json!({ "not": inner })),
        ]
    })
}

fn actions() -> impl Strategy<Value = Json> {
    prop::collection::vec(prop::sample::select(vec!["read", "predict", "*", "pre*"]), 1..3)
        .prop_map(Json::from)
}

fn policy() -> impl Strategy<Value = Json> {
    let effect = prop::sample::select(vec!["allow", "allow", "deny"]);
    let mode = prop::sample::select(vec!["enforce", "enforce", "enforce", "off", "shadow"]);
    let when = prop::option::of(when());
    (effect, mode, clauses(), clauses(), prop::option::of(actions()), when).prop_map(
        |(effect, mode, principal, resource, action, when)| {
            let mut policy =
                json!({ "effect": effect, "mode": mode, "principal": principal, "resource": resource });
            if let Some(action) = action {
                policy["action"] = action;
            }
            if let Some(when) = when {
                policy["when"] = when;
            }
            policy
        },
    )
}

fn role() -> impl Strategy<Value = Vec<Json>> {
    let permission = prop_oneof![
        prop::sample::select(vec!["read", "predict", "*"]).prop_map(Json::from),
        (actions(), clauses())
            .prop_map(|(actions, resource)| json!({ "actions": actions, "resource": resource })),
    ];
    prop::collection::vec(permission, 0..3)
}

/// Roles inherit the next one, so that there is no circle.
pub(super) fn authorization() -> impl Strategy<Value = Json> {
    (prop::collection::vec((role(), any::<bool>()), 0..4), prop::collection::vec(policy(), 1..16)).prop_map(
        |(roles, mut policies)| {
            let count = roles.len();
            let roles: Map<String, Json> = roles
                .into_iter()
                .enumerate()
                .map(|(index, (permissions, inherits))| {
                    let next = index.saturating_add(1);
                    let inherits = if inherits && next < count { vec![format!("r{next}")] } else { vec![] };
                    (format!("r{index}"), json!({ "permissions": permissions, "inherits": inherits }))
                })
                .collect();
            for (index, policy) in policies.iter_mut().enumerate() {
                policy["name"] = format!("p{index}").into();
            }
            json!({ "roles": roles, "policies": policies })
        },
    )
}

/// Half of the time the attributes are such that no type is wrong.
pub(super) fn attributes() -> impl Strategy<Value = BTreeMap<String, Json>> {
    prop_oneof![
        prop::collection::btree_map("[xy]", prop::sample::select(vec!["a", "b"]).prop_map(Json::from), 0..3),
        prop::collection::btree_map("[xy]", value(), 0..3),
    ]
}

pub(super) fn scene(authorization: &Json, roles: &[String], principal: &Json, resource: &Json) -> Scene {
    let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
    Scene::of(super::compile(authorization, &json!({})), &roles, principal, resource, false)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn it_agrees_with_a_naive_evaluator_in_every_order(
        authorization in authorization(),
        roles in prop::collection::vec("r[0-4]", 0..3),
        principal in attributes(),
        resource in attributes(),
        scope_ok in any::<bool>(),
        turn in any::<prop::sample::Index>(),
    ) {
        let scene = scene(&authorization, &roles, &json!(principal), &json!(resource));
        let said = scene.set.decide(&PolicySelection::all(), &scene.attributes(), scope_ok);

        let mut request = json!({
            "principal": principal, "resource": resource, "action": "predict",
            "environment": { "name": "production", "zone": 1 },
        });
        request["principal"]["roles"] = json!(roles);
        let naive = Naive { request: &request };
        prop_assert_eq!(&said, &naive.decide(&authorization, scope_ok));

        // never allowed while an enforced deny errs or matches
        let denied = rules(&authorization, &request).iter().any(|(_, effect, claim, object)| {
            let whole: Vec<_> = claim.iter().chain(object).cloned().collect();
            effect == "deny" && naive.all(&whole) != Ok(false)
        });
        prop_assert!(!(denied && said.is_allowed()));
        prop_assert!(!said.is_allowed() || scope_ok);

        // the same policies in another order
        let mut turned = authorization.clone();
        let policies = turned["policies"].as_array_mut().unwrap();
        let by = turn.index(policies.len());
        policies.rotate_left(by);
        policies.reverse();
        let other = super::Scene { set: super::compile(&turned, &json!({})).0, ..scene };
        prop_assert_eq!(&said, &other.set.decide(&PolicySelection::all(), &other.attributes(), scope_ok));

        // an explanation says the same of each policy
        let traces = other.set.explain(&PolicySelection::all(), &other.attributes());
        let matching = |deny: bool| traces.iter().any(|trace| {
            let is_deny = trace.effect == crate::policy::spec::EffectSpec::Deny;
            trace.counts && is_deny == deny && trace.truth == crate::policy::condition::Truth::True
        });
        prop_assert_eq!(said.refused == Some(Reason::ExplicitDeny), matching(true));
        prop_assert!(!said.is_allowed() || matching(false));
    }

    #[test]
    fn an_attribute_that_nothing_reads_changes_nothing(
        authorization in authorization(),
        principal in attributes(),
        resource in attributes(),
        added in value(),
    ) {
        let before = scene(&authorization, &[], &json!(principal), &json!(resource));
        let said = before.decide();
        let mut unread = json!(principal);
        unread["unread"] = added;
        let after = scene(&authorization, &[], &unread, &json!(resource));
        prop_assert_eq!(said, after.decide());
        let known = |category: &Category, name: &str| before.attributes().lookup(*category, name);
        for (category, name) in before.set.reads() {
            prop_assert_ne!(name.as_str(), "unread");
            prop_assert_eq!(known(category, name), after.attributes().lookup(*category, name));
        }
    }
}
