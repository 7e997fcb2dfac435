use serde_json::json;

use super::*;
use crate::identity::spec::ConsumerSpec;

fn compiled(specs: &Json) -> (Bindings, Vec<String>) {
    let specs: Vec<BindingSpec> = serde_json::from_value(specs.clone()).unwrap();
    let mut faults = Faults::default();
    let bindings = Bindings::compile(&specs, &|role| role.starts_with("role_"), "/bindings", &mut faults);
    (bindings, faults.iter().map(|fault| fault.pointer.clone()).collect())
}

fn bindings(specs: &Json) -> Bindings {
    let (bindings, faults) = compiled(specs);
    assert_eq!(faults, [""; 0]);
    bindings
}

fn caller(id: &str, roles: &[&str], tier: &str, given: &Json) -> Identity {
    let given = serde_json::from_value(given.clone()).unwrap();
    Identity {
        principal: id.to_owned(),
        roles: roles.iter().map(ToString::to_string).collect(),
        tier: tier.to_owned(),
        attributes: attributes::compile(&given, Category::Principal, "", &mut Faults::default()),
        ..Identity::anonymous()
    }
}

fn consumer(spec: Json) -> Consumer {
    let spec: ConsumerSpec = serde_json::from_value(spec).unwrap();
    Consumer::compile(&spec, &|_| true, "", &mut Faults::default())
}

fn text(identity: &Identity, name: &str) -> String {
    match identity.attributes.get(name) {
        Some(Value::Text(text)) => text.clone(),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_pattern_captures_one_segment() {
    let bound = bindings(&json!([
        { "principal": { "groups": "/ml/{team}/scientists" }, "roles": ["role_a"], "tier": "pro",
          "attributes": { "team": "{team}", "path": ["x-{team}", "y"], "level": 2 } },
    ]));
    for (groups, team) in [
        (json!("/ml/fraud/scientists"), Some("fraud")),
        (json!(["/other", "/ml/fraud/scientists", "/ml/churn/scientists"]), Some("fraud")),
        (json!("/ml/fraud/x/scientists"), None),
        (json!("/ml//scientists"), None),
        (json!("/ml/fraud/scientists/"), None),
        (json!("x/ml/fraud/scientists"), None),
        (json!("/ML/fraud/scientists"), None),
        (json!([]), None),
        (json!(true), None),
    ] {
        let settled =
            bound.settle(caller("jwt:corp:a", &["claimed"], "free", &json!({ "groups": groups })), None);
        let Some(team) = team else {
            assert_eq!(
                (settled.roles.as_slice(), settled.tier.as_str()),
                (&[String::from("claimed")][..], "free")
            );
            assert!(!settled.attributes.contains_key("team"), "{groups}");
            continue;
        };
        assert_eq!((settled.roles.as_slice(), settled.tier.as_str()), (&[String::from("role_a")][..], "pro"));
        assert_eq!(text(&settled, "team"), team);
        assert_eq!(settled.attributes.get("level"), Some(&Value::Number(2)));
        let path = vec![format!("x-{team}"), String::from("y")];
        assert_eq!(settled.attributes.get("path"), Some(&Value::List(path)));
    }
}

#[test]
fn the_first_binding_that_matches_wins_whole() {
    let bound = bindings(&json!([
        { "principal": { "org": "acme", "contractor": true }, "roles": ["role_guest"] },
        { "principal": { "org": ["acme", "sub-*"] }, "roles": ["role_staff"], "tier": "pro" },
        { "principal": { "id": "mtls:spiffe://acme.example/ns/{ns}/sa/{sa}" }, "attributes": { "team": "{ns}", "sa": "{sa}" } },
        { "principal": { "id": "*" }, "tier": "rest" },
    ]));
    let settle = |id: &str, given: Json| bound.settle(caller(id, &[], "default", &given), None);
    let guest = settle("a", json!({ "org": "acme", "contractor": true }));
    assert_eq!((guest.roles.as_slice(), guest.tier.as_str()), (&[String::from("role_guest")][..], "default"));
    for org in ["acme", "sub-x", "sub-"] {
        let staff = settle("a", json!({ "org": org, "contractor": false }));
        assert_eq!(
            (staff.roles.as_slice(), staff.tier.as_str()),
            (&[String::from("role_staff")][..], "pro"),
            "{org}"
        );
    }
    let workload = settle("mtls:spiffe://acme.example/ns/batch/sa/worker", json!({}));
    assert_eq!(
        (text(&workload, "team"), text(&workload, "sa")),
        (String::from("batch"), String::from("worker"))
    );
    assert_eq!(workload.tier, "default");
    assert_eq!(settle("mtls:spiffe://acme.example/ns/batch/sa/worker/x", json!({})).tier, "rest");
    assert_eq!(settle("a", json!({ "org": "acm" })).tier, "rest");
    assert_eq!(settle("a", json!({ "org": 7 })).tier, "rest");
}

#[test]
fn consumers_win_over_bindings_and_those_over_claims_one_by_one() {
    let bound = bindings(&json!([{
        "principal": { "org": "acme" }, "roles": ["role_bound"], "tier": "bound",
        "attributes": { "team": "bound", "desk": "bound" },
    }]));
    let claimed = || {
        let given = json!({ "org": "acme", "team": "claimed", "desk": "claimed", "floor": "claimed" });
        caller("jwt:corp:a", &["claimed"], "claimed", &given)
    };
    let plain = bound.settle(claimed(), None);
    assert_eq!((plain.roles.as_slice(), plain.tier.as_str()), (&[String::from("role_bound")][..], "bound"));
    assert_eq!(
        [text(&plain, "team"), text(&plain, "desk"), text(&plain, "floor")],
        ["bound", "bound", "claimed"]
    );

    let silent = bound.settle(claimed(), Some(&consumer(json!({ "name": "u" }))));
    assert_eq!((silent.principal.as_str(), silent.tier.as_str()), ("u", "bound"));
    assert_eq!(silent.roles, ["role_bound"]);

    let says =
        consumer(json!({ "name": "u", "roles": ["own"], "tier": "own", "attributes": { "team": "own" } }));
    let settled = bound.settle(claimed(), Some(&says));
    assert_eq!((settled.roles.as_slice(), settled.tier.as_str()), (&[String::from("own")][..], "own"));
    assert_eq!(
        [text(&settled, "team"), text(&settled, "desk"), text(&settled, "floor")],
        ["own", "bound", "claimed"]
    );

    // the pattern is asked of what the consumer says too, whatever a token claims
    let elsewhere =
        bound.settle(claimed(), Some(&consumer(json!({ "name": "u", "attributes": { "org": "x" } }))));
    assert_eq!((elsewhere.tier.as_str(), text(&elsewhere, "desk").as_str()), ("claimed", "claimed"));
}

#[test]
fn what_cannot_be_meant_is_a_fault() {
    for (spec, pointer) in [
        (json!({ "principal": {} }), "/principal"),
        (json!({ "principal": { "a b": "x" } }), "/principal/a b"),
        (json!({ "principal": { "a": "{x" } }), "/principal/a"),
        (json!({ "principal": { "a": "{x.y}" } }), "/principal/a"),
        (json!({ "principal": { "a": "/{x}/*" } }), "/principal/a"),
        (json!({ "principal": { "a": "/{x}{y}" } }), "/principal/a"),
        (json!({ "principal": { "a": ["{x}", "b"] } }), "/principal/a"),
        (json!({ "principal": { "a": 1.5 } }), "/principal/a"),
        (json!({ "principal": { "a": "{x}", "b": "{x}" } }), "/principal/b"),
        (json!({ "principal": { "a": "x" }, "roles": ["nobody"] }), "/roles/0"),
        (json!({ "principal": { "a": "{x}" }, "attributes": { "b": "{y}" } }), "/attributes/b"),
        (json!({ "principal": { "a": "{x}" }, "attributes": { "roles": ["{x}"] } }), "/attributes/roles"),
    ] {
        assert_eq!(compiled(&json!([spec])).1, [format!("/bindings/0{pointer}")], "{spec}");
    }
}
