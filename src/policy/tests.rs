use serde_json::{Value as Json, json};

use super::*;
use crate::identity::Identity;
use crate::policy::attributes::{AttributeMap, Value};
use crate::policy::schema::Schema;
use crate::resource::Resource;
use crate::resource::rules::ResourceRules;
use crate::resource::spec::ResourcesSpec;

mod absence;
mod cache;
mod combining;
mod mutations;
mod obligations;
mod properties;

struct Scene {
    set: PolicySet,
    principal: Identity,
    resource: Resource,
    action: String,
    environment: AttributeMap,
}

impl Scene {
    fn new(authorization: &Json, roles: &[&str], principal: &Json, resource: &Json) -> Self {
        Self::of(compile(authorization, &json!({})), roles, principal, resource, true)
    }

    /// `clean`: without faults. Those of absence leave a set that works, and properties want it.
    fn of(
        (set, faults): (PolicySet, Vec<String>),
        roles: &[&str],
        principal: &Json,
        resource: &Json,
        clean: bool,
    ) -> Self {
        assert!(!clean || faults.is_empty(), "{faults:?}");
        let mut identity = Identity::anonymous();
        identity.roles = roles.iter().map(ToString::to_string).collect();
        identity.attributes = map(principal, Category::Principal);
        Self {
            set,
            principal: identity,
            resource: Resource {
                kind: String::from("model"),
                id: String::from("fraud_v2"),
                attributes: map(resource, Category::Resource),
            },
            action: String::from("predict"),
            environment: environment(),
        }
    }

    fn attributes(&self) -> Attributes<'_> {
        Attributes {
            principal: &self.principal,
            resource: &self.resource,
            action: &self.action,
            environment: &self.environment,
            now: None,
            source: None,
        }
    }

    fn decide(&self) -> Decision {
        self.set.decide(&PolicySelection::all(), &self.attributes(), true)
    }

    fn selected(&self, selection: &Json) -> Decision {
        let mut faults = Faults::default();
        let selection = PolicySelection::compile(Some(selection), &self.set, "/p", &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
        self.set.decide(&selection, &self.attributes(), true)
    }
}

fn environment() -> AttributeMap {
    map(&json!({ "name": "production", "zone": 1 }), Category::Environment)
}

fn map(json: &Json, category: Category) -> AttributeMap {
    let mut faults = Faults::default();
    let map = attributes::compile(&serde_json::from_value(json.clone()).unwrap(), category, "", &mut faults);
    assert!(faults.is_empty(), "{faults:?}");
    map
}

fn compile(authorization: &Json, resources: &Json) -> (PolicySet, Vec<String>) {
    let spec: AuthorizationSpec = serde_json::from_value(authorization.clone()).unwrap();
    let resources: ResourcesSpec = serde_json::from_value(resources.clone()).unwrap();
    let rules = ResourceRules::compile(&resources, "", &mut Faults::default());
    let mut faults = Faults::default();
    let schema = Schema::compile(&spec.attributes, "/attributes", &mut faults);
    let facts = Facts { catalogue: rules.catalogue(), environment: &environment(), schema: &schema };
    let set = PolicySet::compile(&spec, facts, "", &mut faults);
    (set, faults.iter().map(|fault| fault.pointer.clone()).collect())
}

fn decision(refused: Option<Reason>, policies: &[&str], errors: &[(&str, &str)]) -> Decision {
    Decision {
        refused,
        policies: policies.iter().map(ToString::to_string).collect(),
        errors: errors
            .iter()
            .map(|(policy, attribute)| PolicyError {
                policy: (*policy).to_owned(),
                attribute: (*attribute).to_owned(),
                flaw: Flaw::Type,
            })
            .collect(),
        shadow: Vec::new(),
        obligations: Obligations::default(),
    }
}

fn story() -> Json {
    json!({
        "roles": {
            "admin": { "permissions": ["*"] },
            "data_scientist": { "permissions": [
                { "actions": ["read", "predict"], "resource": { "org": "{principal.org}" } }, "train", "evaluate",
            ] },
            "analyst": { "inherits": ["viewer"], "permissions": ["query", "predict"] },
            "viewer": { "permissions": ["read"] },
        },
        "policies": [
            { "name": "team", "effect": "allow", "principal": { "team": "data_science" },
              "resource": { "type": "model", "org": "{principal.org}" }, "action": ["read", "predict"] },
            { "name": "no-delete", "effect": "deny", "resource": { "type": "model" }, "action": ["delete"],
              "when": { "environment.name": "production" } },
        ],
    })
}

#[test]
fn a_role_grants_its_permissions_and_those_it_inherits() {
    let rows: [(&[&str], &str, Decision); 8] = [
        (&["viewer"], "read", decision(None, &["role:viewer"], &[])),
        (&["viewer"], "predict", decision(Some(Reason::Role), &[], &[])),
        (&["analyst"], "read", decision(None, &["role:analyst"], &[])),
        (&["analyst", "viewer"], "read", decision(None, &["role:analyst", "role:viewer"], &[])),
        (&["data_scientist"], "predict", decision(None, &["role:data_scientist"], &[])),
        (&["admin"], "anything", decision(None, &["role:admin"], &[])),
        (&["admin"], "delete", decision(Some(Reason::ExplicitDeny), &["no-delete"], &[])),
        (&["unknown"], "read", decision(Some(Reason::Role), &[], &[])),
    ];
    for (roles, action, expected) in rows {
        let mut scene = Scene::new(&story(), roles, &json!({ "org": "acme" }), &json!({ "org": "acme" }));
        scene.action = action.to_owned();
        assert_eq!(scene.decide(), expected, "{roles:?} {action}");
    }
}

#[test]
fn no_match_means_that_something_of_the_callers_names_the_action() {
    let decide = |roles: &[&str], principal: Json| {
        Scene::new(&story(), roles, &principal, &json!({ "org": "other" })).decide().refused
    };
    assert_eq!(decide(&["data_scientist"], json!({ "org": "acme" })), Some(Reason::NoMatch));
    assert_eq!(decide(&[], json!({ "org": "acme", "team": "data_science" })), Some(Reason::NoMatch));
    assert_eq!(decide(&[], json!({ "org": "acme", "team": "sales" })), Some(Reason::Role));
    assert_eq!(decide(&[], json!({})), Some(Reason::Role));
}

#[test]
fn an_allow_is_overridden_by_denies_then_errors_then_the_scope() {
    let policy = |name: &str, effect: &str, org: Json| json!({ "name": name, "effect": effect, "principal": { "org": org } });
    let decide = |policies: Vec<Json>, scope_ok: bool| {
        let scene = Scene::new(&json!({ "policies": policies }), &[], &json!({ "org": "acme" }), &json!({}));
        scene.set.decide(&PolicySelection::all(), &scene.attributes(), scope_ok)
    };
    let allow = policy("allow", "allow", json!("acme"));
    let deny = policy("deny", "deny", json!("ac*"));
    let erring_deny = policy("erring", "deny", json!(1));
    let erring_allow = policy("erring", "allow", json!(1));
    let error: &[(&str, &str)] = &[("erring", "principal.org")];

    assert_eq!(decide(vec![allow.clone()], true), decision(None, &["allow"], &[]));
    assert_eq!(decide(vec![allow.clone()], false), decision(Some(Reason::Scope), &[], &[]));
    assert_eq!(decide(vec![allow.clone(), erring_allow.clone()], true), decision(None, &["allow"], error));
    assert_eq!(decide(vec![erring_allow], true), decision(Some(Reason::NoMatch), &[], error));
    assert_eq!(
        decide(vec![allow.clone(), erring_deny.clone()], true),
        decision(Some(Reason::PolicyError), &["erring"], error)
    );
    assert_eq!(decide(vec![allow.clone(), erring_deny.clone()], false).refused, Some(Reason::PolicyError));
    assert_eq!(
        decide(vec![erring_deny, allow, deny], false),
        decision(Some(Reason::ExplicitDeny), &["deny"], error)
    );
}

#[test]
fn a_policy_that_is_off_does_not_count() {
    let scene = Scene::new(
        &json!({ "policies": [
            { "name": "a", "effect": "allow" },
            { "name": "d", "effect": "deny", "mode": "off", "principal": { "org": "acme" } },
            { "name": "e", "effect": "deny", "mode": "off", "principal": { "org": 1 } },
        ] }),
        &[],
        &json!({ "org": "acme" }),
        &json!({}),
    );
    assert_eq!(scene.decide(), decision(None, &["a"], &[]));
    assert_eq!(scene.set.reads(), []);
}

#[test]
fn a_profile_selects_policies_and_roles_by_name() {
    let authorization = json!({
        "roles": { "reader": { "permissions": ["predict"] }, "writer": { "permissions": ["predict"] } },
        "policies": [
            { "name": "allow-a", "effect": "allow" },
            { "name": "allow-b", "effect": "allow" },
            { "name": "deny", "effect": "deny" },
        ],
    });
    let scene = Scene::new(&authorization, &["reader", "writer"], &json!({}), &json!({}));
    let rows = [
        (json!(["allow-*"]), decision(None, &["allow-a", "allow-b"], &[])),
        (json!(["allow-b"]), decision(None, &["allow-b"], &[])),
        (json!(["role:writer"]), decision(None, &["role:writer"], &[])),
        (json!(["role:*"]), decision(None, &["role:reader", "role:writer"], &[])),
        (json!(["allow-a", "role:r*", "deny"]), decision(Some(Reason::ExplicitDeny), &["deny"], &[])),
        (json!(["*"]), decision(Some(Reason::ExplicitDeny), &["deny"], &[])),
        (json!("none"), decision(Some(Reason::Role), &[], &[])),
    ];
    for (selection, expected) in rows {
        assert_eq!(scene.selected(&selection), expected, "{selection}");
    }
    let places = |selection: Json| {
        let mut faults = Faults::default();
        PolicySelection::compile(Some(&selection), &scene.set, "/p", &mut faults);
        faults.into_vec().into_iter().map(|fault| fault.pointer).collect::<Vec<_>>()
    };
    for nothing in [json!([]), json!("all"), json!("None"), json!(1), json!({})] {
        assert_eq!(places(nothing.clone()), ["/p"], "{nothing}");
    }
    assert_eq!(places(json!(["allow", "role:reader", "x*", 1, "writer"])), ["/p/0", "/p/2", "/p/3", "/p/4"]);
}

#[test]
fn every_fault_is_reported_with_its_place() {
    let (_, faults) = compile(
        &json!({
            "roles": {
                "a": { "inherits": ["b"], "permissions": [1, { "actions": [] }, { "actions": ["x"], "who": {} }] },
                "b": { "inherits": ["c", "ghost"] },
                "c": { "inherits": ["a"] },
                "heir": { "inherits": ["a"] },
                "role:x": { "permissions": [{ "actions": ["x"], "when": { "environment.nmae": "x", "org": "x" } }] },
            },
            "policies": [
                { "name": "twice", "effect": "allow" },
                { "name": "twice", "effect": "allow" },
                { "name": "all*", "effect": "allow" },
                { "name": "", "effect": "deny", "action": [], "principal": { "resource.x": 1 },
                  "resource": { "x": null }, "when": { "environment.absent": "x" } },
            ],
        }),
        &json!({}),
    );
    assert_eq!(
        faults,
        [
            "/roles/a/permissions/0",
            "/roles/a/permissions/1/actions",
            "/roles/a/permissions/2",
            "/roles/role:x",
            "/roles/role:x/permissions/0/when/org",
            "/roles/role:x/permissions/0/when/environment.nmae",
            "/roles/a/inherits",
            "/roles/b/inherits/1",
            "/roles/b/inherits",
            "/roles/c/inherits",
            "/policies/1/name",
            "/policies/2/name",
            "/policies/3/name",
            "/policies/3/action",
            "/policies/3/principal/resource.x",
            "/policies/3/resource/x",
            "/policies/3/when/environment.absent",
        ]
    );
    assert_eq!(compile(&json!({}), &json!({})).1, [""]);
}

#[test]
fn a_deny_cannot_be_dodged_by_a_resource_that_lacks_what_it_tests() {
    let catalogue = json!([
        { "type": "model", "id": "a", "stage": "production" },
        { "type": "model", "id": "b" },
        { "type": "dataset", "id": "d", "stage": "raw" },
    ]);
    let rows = [
        (json!({ "stage": "production" }), false, true),
        (json!({ "type": "model", "stage": "production" }), false, true),
        (json!({ "type": "dataset", "stage": "raw" }), false, false),
        (json!({ "type": "dataset", "stage": "raw" }), true, true),
        (json!({ "type": "m*", "id": "a", "stage": "*" }), false, false),
        (json!({ "type": "model", "id": ["a"], "stage": "*" }), true, false),
        (json!({ "type": "model", "id": ["a", "x"], "stage": "*" }), true, true),
        (json!({ "type": "model", "id": "{principal.id}", "stage": "*" }), false, true),
        (json!({ "type": "model", "id": "*" }), true, false),
    ];
    for (resource, allow_unlisted, at_fault) in rows {
        let unlisted = if allow_unlisted { "allow" } else { "deny" };
        for (effect, mode, counts) in
            [("deny", "enforce", true), ("deny", "off", false), ("allow", "enforce", false)]
        {
            let policy = json!({ "name": "p", "effect": effect, "mode": mode, "resource": resource });
            let resources = json!({ "catalogue": catalogue, "unlisted": unlisted });
            let (_, faults) = compile(&json!({ "policies": [policy] }), &resources);
            assert_eq!(!faults.is_empty(), at_fault && counts, "{policy} {unlisted}: {faults:?}");
        }
    }
    let when = json!({ "name": "p", "effect": "deny", "when": { "resource.stage": "production" } });
    let (_, faults) = compile(&json!({ "policies": [when] }), &json!({ "catalogue": catalogue }));
    assert_eq!(faults, ["/policies/0"]);
}

#[test]
fn the_attributes_that_any_policy_reads_are_known() {
    let scene = Scene::new(&story(), &[], &json!({}), &json!({}));
    let reads: Vec<_> = scene.set.reads().iter().map(|(category, name)| category.full_name(name)).collect();
    assert_eq!(
        reads,
        [
            "principal.org",
            "principal.roles",
            "principal.team",
            "resource.org",
            "resource.type",
            "environment.name",
        ]
    );
}

#[test]
fn an_explanation_shows_every_clause_of_every_policy() {
    let scene = Scene::new(
        &story(),
        &["viewer"],
        &json!({ "team": "data_science", "org": 1 }),
        &json!({ "org": "x" }),
    );
    let traces = scene.set.explain(&PolicySelection::all(), &scene.attributes());
    let names: Vec<_> = traces.iter().map(|trace| trace.policy.as_str()).collect();
    assert_eq!(names.iter().filter(|name| **name == "role:analyst").count(), 3);
    assert_eq!(names.last(), Some(&"no-delete"));
    let team = traces.iter().find(|trace| trace.policy == "team").unwrap();
    let clauses: Vec<_> =
        team.clauses.iter().map(|clause| (clause.attribute.as_str(), &clause.truth)).collect();
    assert!(matches!(team.truth, Truth::Error(_)));
    assert!(matches!(
        clauses.as_slice(),
        [
            ("action", Truth::True),
            ("principal.team", Truth::True),
            ("resource.org", Truth::Error(_)),
            ("resource.type", Truth::True),
        ]
    ));
    let viewer = traces.iter().find(|trace| trace.policy == "role:viewer").unwrap();
    assert_eq!(viewer.clauses.first().map(|clause| &clause.truth), Some(&Truth::True));
    assert_eq!(viewer.truth, Truth::False);
    assert_eq!(
        viewer.clauses.first().and_then(|clause| clause.seen.clone()),
        Some(Value::List(vec![String::from("viewer")]))
    );
}
