use super::*;

fn policy(name: &str, effect: &str, team: &str, obligations: &Json) -> Json {
    json!({ "name": name, "effect": effect, "principal": { "team": team }, "obligations": obligations })
}

#[test]
fn obligations_of_all_that_decide_stand_together_in_any_order() {
    let mut policies = vec![
        policy(
            "b",
            "allow",
            "ml",
            &json!({ "add_headers": { "x-class": "secret", "x-b": "1" }, "charge_tier": "b" }),
        ),
        policy("a", "allow", "ml", &json!({ "add_headers": { "x-class": "internal" } })),
        policy("c", "allow", "ml", &json!({ "add_headers": { "x-class": "secret" }, "charge_tier": "c" })),
        policy("d", "allow", "other", &json!({ "charge_tier": "a", "audit_inputs": true })),
    ];
    for _ in 0..policies.len() {
        policies.rotate_left(1);
        let scene = Scene::new(&json!({ "policies": policies }), &[], &json!({ "team": "ml" }), &json!({}));
        let expected = Obligations {
            headers: vec![("x-b".into(), "1".into()), ("x-class".into(), "internal, secret".into())],
            tier: Some(String::from("b")),
            inputs: false,
        };
        assert_eq!(scene.decide().obligations, expected);
        assert_eq!(scene.set.obliged_headers(), ["x-b", "x-class"]);
        // nothing is owed for what does not pass
        let refused = scene.set.decide(&PolicySelection::all(), &scene.attributes(), false);
        assert_eq!(refused.obligations, Obligations::default());
    }
}

#[test]
fn an_obligation_cannot_touch_what_has_its_own_meaning() {
    let rows = [
        ("allow", json!({ "add_headers": { "x-data-class": "a b" } }), None),
        ("allow", json!({ "add_headers": { "x-mlgate-tier": "a" } }), Some("/add_headers/x-mlgate-tier")),
        ("allow", json!({ "add_headers": { "x_mlgate-tier": "a" } }), Some("/add_headers/x_mlgate-tier")),
        ("allow", json!({ "add_headers": { "authorization": "a" } }), Some("/add_headers/authorization")),
        (
            "allow",
            json!({ "add_headers": { "transfer-encoding": "a" } }),
            Some("/add_headers/transfer-encoding"),
        ),
        ("allow", json!({ "add_headers": { "x-forwarded-for": "a" } }), Some("/add_headers/x-forwarded-for")),
        ("allow", json!({ "add_headers": { "x-a": "a\r\nx-b: c" } }), Some("/add_headers/x-a")),
        ("allow", json!({ "add_headers": { "x-a": "é" } }), Some("/add_headers/x-a")),
        ("allow", json!({ "add_headers": { "x-a": " a" } }), Some("/add_headers/x-a")),
        ("deny", json!({ "charge_tier": "a" }), Some("")),
    ];
    for (effect, obligations, at) in rows {
        let (_, faults) =
            compile(&json!({ "policies": [policy("p", effect, "ml", &obligations)] }), &json!({}));
        let expected: Vec<String> = at.map(|at| format!("/policies/0/obligations{at}")).into_iter().collect();
        assert_eq!(faults, expected, "{obligations}");
    }
}
