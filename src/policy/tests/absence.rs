//! Leaving something out must not turn an answer: what a document cannot rule out is a fault of it.

use super::*;

fn places(policy: &Json, declared: &Json) -> Vec<String> {
    let catalogue = json!([
        { "type": "model", "id": "a", "stage": "production", "level": 1 },
        { "type": "model", "id": "b", "level": 2 },
        { "type": "dataset", "id": "d", "stage": "raw", "level": 1 },
    ]);
    let mut policy = policy.clone();
    policy["name"] = json!("p");
    let authorization = json!({ "policies": [policy], "attributes": declared });
    compile(&authorization, &json!({ "catalogue": catalogue })).1
}

#[test]
fn an_allow_says_what_must_not_be_only_of_what_is_there() {
    let none = json!({});
    let required = json!({
        "principal.clearance": { "type": "text", "required": true },
        "resource.stage": { "type": "text", "required": true },
    });
    let rows = [
        (json!({ "principal": { "clearance": { "not": "low" } } }), true),
        (json!({ "principal": { "clearance": { "not": "low", "present": true } } }), false),
        (json!({ "principal": { "clearance": "high" } }), false),
        (json!({ "principal": { "clearance": { "present": false } } }), false),
        (json!({ "principal": { "roles": { "not": "guest" }, "id": { "not": "x" } } }), false),
        (json!({ "resource": { "stage": { "not": "production" } } }), true),
        (json!({ "resource": { "type": "dataset", "stage": { "not": "production" } } }), false),
        (json!({ "resource": { "level": { "not": 2 } } }), false),
        (json!({ "when": { "not": { "principal.clearance": "low" } } }), true),
        (json!({ "when": { "not": { "not": { "principal.clearance": "low" } } } }), false),
        (json!({ "when": { "not": { "principal.clearance": { "not": "low" } } } }), false),
        (
            json!({ "principal": { "clearance": "*" }, "when": { "not": { "principal.clearance": "low" } } }),
            false,
        ),
        (
            json!({ "when": {
                "any": [{ "action": "read" }, { "not": { "principal.clearance": "low" } }],
            } }),
            true,
        ),
        (
            json!({ "when": { "any": [
                { "action": "read" },
                { "principal.clearance": "*", "not": { "principal.clearance": "low" } },
            ] } }),
            false,
        ),
        (
            json!({ "when": { "all": [
                { "principal.clearance": { "present": true } }, { "not": { "principal.clearance": "low" } },
            ] } }),
            false,
        ),
        // what must be there for the inside to hold need not be there for it not to
        (
            json!({ "when": { "not": { "any": [{ "principal.clearance": "*", "resource.level": 1 }] } } }),
            true,
        ),
        (json!({ "resource": { "id": { "not": "{principal.home}" } } }), true),
        (json!({ "principal": { "home": "*" }, "resource": { "id": { "not": "{principal.home}" } } }), false),
        (json!({ "when": { "environment.source": { "not": { "in_cidr": "10.0.0.0/8" } } } }), false),
    ];
    for (mut policy, at_fault) in rows {
        policy["effect"] = json!("allow");
        let found = places(&policy, &none);
        assert_eq!(!found.is_empty(), at_fault, "{policy}: {found:?}");
        let found = places(&policy, &required);
        let still = policy.to_string().contains("principal.home") && at_fault;
        assert_eq!(!found.is_empty(), still, "{policy}: {found:?}");
        policy["mode"] = json!("off");
        assert!(places(&policy, &none).is_empty(), "{policy}");
    }
}

#[test]
fn a_deny_in_blocks_cannot_be_dodged_either() {
    let rows = [
        (json!({ "when": { "any": [{ "resource.stage": "production" }, { "action": "x" }] } }), true),
        (json!({ "when": { "not": { "resource.stage": "raw" } } }), false),
        (json!({ "when": { "not": { "resource.stage": { "not": "raw" } } } }), true),
        (json!({ "resource": { "stage": { "not": "raw" } } }), false),
        (json!({ "resource": { "stage": { "equals": "raw" } } }), true),
        (json!({ "resource": { "stage": { "present": true } } }), false),
        (json!({ "resource": { "level": { "gte": 2 } } }), false),
        (json!({ "principal": { "clearance": "low" } }), false),
    ];
    for (mut policy, at_fault) in rows {
        policy["effect"] = json!("deny");
        let found = places(&policy, &json!({}));
        assert_eq!(!found.is_empty(), at_fault, "{policy}: {found:?}");
        let required = json!({ "resource.stage": { "type": "text", "required": true } });
        assert!(places(&policy, &required).is_empty(), "{policy}");
    }
}
