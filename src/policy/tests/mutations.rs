use super::*;
use crate::policy::mutation::{Change, Mutation};

fn document() -> Json {
    json!({ "authorization": {
        "roles": {
            "heir": { "inherits": ["reader"], "permissions": ["train"] },
            "reader": { "permissions": [{ "actions": ["read"], "resource": { "stage": "raw" } }] },
        },
        "policies": [
            { "name": "a", "effect": "allow", "principal": { "not": "x", "level": { "gte": 2, "not": { "equals": 3 } } },
              "action": ["read"] },
            { "name": "d", "effect": "deny", "when": { "any": [{ "principal.level": { "present": true } },
              { "resource.id": { "equals": "x" } }], "not": { "principal.team": { "not": "ml" } } } },
            { "name": "o", "effect": "deny", "mode": "off", "principal": { "org": "acme" } },
        ],
    } })
}

fn set(document: &Json) -> PolicySet {
    let (set, faults) = super::compile(&document["authorization"], &json!({}));
    assert!(faults.is_empty(), "{faults:?} {document}");
    set
}

#[test]
fn every_clause_block_and_effect_can_be_changed() {
    let document = document();
    let mutations = set(&document).mutations();
    let list: Vec<(&str, Change)> =
        mutations.iter().map(|mutation| (mutation.pointer.as_str(), mutation.change)).collect();
    let policies = "/authorization/policies";
    let expected: Vec<(String, Change)> = [
        ("0/effect", Change::SwapEffect),
        ("0/action", Change::Drop),
        ("0/principal/level/gte", Change::Drop),
        ("0/principal/level/gte", Change::Rename("gt")),
        ("0/principal/level/not/equals", Change::Drop),
        ("0/principal/level/not", Change::Affirm),
        ("0/principal/not", Change::Drop),
        ("0/principal/not", Change::Negate),
        ("1/effect", Change::SwapEffect),
        ("1/when/any", Change::Drop),
        ("1/when/any", Change::Rename("all")),
        ("1/when/any/0/principal.level/present", Change::Drop),
        ("1/when/any/0/principal.level/present", Change::Flip),
        ("1/when/any/1/resource.id/equals", Change::Drop),
        ("1/when/any/1/resource.id/equals", Change::NegateOperator),
        ("1/when/not", Change::Drop),
        ("1/when/not/principal.team/not", Change::Drop),
        ("1/when/not/principal.team/not", Change::Affirm),
    ]
    .into_iter()
    .map(|(place, change)| (format!("{policies}/{place}"), change))
    .collect();
    let reader = "/authorization/roles/reader/permissions/0/resource/stage";
    assert_eq!(list[..2], [(reader, Change::Drop), (reader, Change::Negate)]);
    assert_eq!(
        list[2..],
        expected.iter().map(|(place, change)| (place.as_str(), *change)).collect::<Vec<_>>()
    );
}

#[test]
fn a_changed_document_is_another_that_still_loads() {
    let document = document();
    for mutation in set(&document).mutations() {
        let mut changed = document.clone();
        assert!(mutation.apply(&mut changed), "{mutation:?}");
        assert_ne!(changed, document, "{mutation:?}");
        let spec: AuthorizationSpec = serde_json::from_value(changed["authorization"].clone())
            .unwrap_or_else(|e| panic!("{mutation:?}: {e}"));
        assert_eq!(spec.policies.len(), 3);
        let (_, faults) = super::compile(&changed["authorization"], &json!({}));
        // a swapped or negated policy may be one that a document must not have, which a test would notice too
        let meant = |fault: &String| fault == "/policies/0" || fault == "/policies/1";
        assert!(faults.iter().all(meant) || faults.is_empty(), "{mutation:?}: {faults:?} {changed}");
    }
    let nowhere =
        Mutation { pointer: String::from("/authorization/policies/9/effect"), change: Change::SwapEffect };
    assert!(!nowhere.apply(&mut document.clone()));
}
