//! What is remembered is what would be decided.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::properties::{attributes, authorization, scene};
use super::{Scene, story};
use crate::config::faults::Faults;
use crate::policy::PolicySelection;
use crate::policy::cache::{Decisions, Question};
use crate::time::UnixTime;

const ALL: usize = 0;

fn ask(selection: &PolicySelection, profile: usize, scope_ok: bool) -> Question<'_> {
    Question { profile, selection, scope_ok }
}

fn reading(attribute: &str) -> Scene {
    let authorization = json!({ "policies": [
        { "name": "p", "effect": "allow", "action": ["predict"], "when": { attribute: { "present": true } } },
    ] });
    Scene::new(&authorization, &[], &json!({}), &json!({}))
}

#[test]
fn requests_that_are_alike_to_all_policies_are_decided_once() {
    let selection = PolicySelection::all();
    let mut scene = Scene::new(&story(), &["admin"], &json!({ "org": "acme" }), &json!({ "org": "acme" }));
    let mut decisions = Decisions::new(10, [7; 16]);
    for unread in ["a", "b", "c"] {
        scene.principal.principal = unread.to_owned();
        decisions.decide(&scene.set, ask(&selection, ALL, true), &scene.attributes());
    }
    assert_eq!(decisions.len(), 1);
    decisions.decide(&scene.set, ask(&selection, ALL, false), &scene.attributes());
    assert_eq!(decisions.len(), 2);
    scene.action = String::from("read");
    decisions.decide(&scene.set, ask(&selection, ALL, true), &scene.attributes());
    assert_eq!(decisions.len(), 3);
}

#[test]
fn profiles_do_not_share_decisions() {
    let scene = Scene::new(&story(), &["admin"], &json!({}), &json!({}));
    let all = PolicySelection::all();
    let none = PolicySelection::compile(Some(&json!("none")), &scene.set, "/p", &mut Faults::default());
    let mut decisions = Decisions::new(10, [7; 16]);
    for _ in 0..2 {
        assert!(decisions.decide(&scene.set, ask(&all, 0, true), &scene.attributes()).is_allowed());
        assert!(!decisions.decide(&scene.set, ask(&none, 1, true), &scene.attributes()).is_allowed());
    }
}

#[test]
fn nothing_is_remembered_where_the_time_or_the_address_counts() {
    for attribute in ["environment.now", "environment.time", "environment.weekday", "environment.source"] {
        let scene = reading(attribute);
        let mut decisions = Decisions::new(10, [7; 16]);
        let selection = PolicySelection::all();
        let now = |now| crate::policy::attributes::Attributes {
            now,
            source: now.map(|_| "10.0.0.1".parse().unwrap()),
            ..scene.attributes()
        };
        let noon = UnixTime::from_millis(43_200_000);
        for (attributes, allowed) in [(now(None), false), (now(Some(noon)), true), (now(None), false)] {
            let said = decisions.decide(&scene.set, ask(&selection, ALL, true), &attributes);
            assert_eq!(said.is_allowed(), allowed, "{attribute}");
        }
        assert!(decisions.is_empty(), "{attribute}");
    }
    assert!(reading("environment.name").set.is_timeless());
}

#[test]
fn lists_and_texts_of_the_same_bytes_are_told_apart() {
    let authorization = json!({ "policies": [
        { "name": "p", "effect": "allow", "action": ["predict"], "principal": { "x": "ab" } },
    ] });
    let selection = PolicySelection::all();
    let mut decisions = Decisions::new(100, [7; 16]);
    let values = [
        json!("ab"),
        json!(["ab"]),
        json!(["a", "b"]),
        json!([]),
        json!(""),
        json!("a"),
        json!(1),
        json!(true),
    ];
    for value in values.iter().chain(&values) {
        let scene = Scene::new(&authorization, &[], &json!({ "x": value }), &json!({}));
        let said = decisions.decide(&scene.set, ask(&selection, ALL, true), &scene.attributes());
        assert_eq!(*said, scene.decide(), "{value}");
    }
    assert_eq!(decisions.len(), values.len());
}

#[test]
fn there_are_never_more_than_allowed_and_none_of_endless_attributes() {
    let authorization = json!({ "policies": [
        { "name": "p", "effect": "allow", "action": ["predict"], "principal": { "x": "a*" } },
    ] });
    let selection = PolicySelection::all();
    for max in [0, 1, 2, 7, 100] {
        let mut decisions = Decisions::new(max, [7; 16]);
        for number in 0..300 {
            let scene = Scene::new(&authorization, &[], &json!({ "x": format!("a{number}") }), &json!({}));
            decisions.decide(&scene.set, ask(&selection, ALL, true), &scene.attributes());
            assert!(decisions.len() <= max, "{max}");
        }
    }
    let long = Scene::new(&authorization, &[], &json!({ "x": "a".repeat(5000) }), &json!({}));
    let mut decisions = Decisions::new(10, [7; 16]);
    assert!(decisions.decide(&long.set, ask(&selection, ALL, true), &long.attributes()).is_allowed());
    assert!(decisions.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_remembered_is_what_would_be_decided(
        authorization in authorization(),
        requests in prop::collection::vec((attributes(), attributes(), prop::collection::vec("r[0-2]", 0..2), any::<bool>()), 1..12),
        max in 0_usize..8,
    ) {
        let mut decisions = Decisions::new(max, [7; 16]);
        let selection = PolicySelection::all();
        let set = scene(&authorization, &[], &json!({}), &json!({})).set;
        for (principal, resource, roles, scope_ok) in requests.iter().chain(&requests) {
            let (principal, resource): (Json, Json) = (json!(principal), json!(resource));
            let asked = scene(&json!({ "policies": [] }), roles, &principal, &resource);
            let said = decisions.decide(&set, ask(&selection, ALL, *scope_ok), &asked.attributes());
            prop_assert_eq!(&*said, &set.decide(&selection, &asked.attributes(), *scope_ok));
        }
    }
}
