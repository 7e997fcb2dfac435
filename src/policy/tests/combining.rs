use super::*;
use crate::policy::Shadowed;
use crate::policy::combining::Combining;

/// Policies by what they say of the request: `a` matches, `n` does not, `e` errs, `m` looks for what is missing.
fn policies(words: &[&str]) -> Json {
    let policies: Vec<Json> = words
        .iter()
        .map(|word| {
            let (name, what) = word.split_once('=').unwrap();
            let (effect, says) = what.split_once(' ').unwrap();
            let (says, mode) = says.split_once(' ').unwrap_or((says, "enforce"));
            let principal = match says {
                "yes" => json!({ "org": "acme" }),
                "no" => json!({ "org": "other" }),
                "error" => json!({ "org": 1 }),
                _ => json!({ "unheard": "x" }),
            };
            json!({ "name": name, "effect": effect, "principal": principal, "mode": mode })
        })
        .collect();
    json!({ "policies": policies, "roles": { "reader": { "permissions": ["predict"] } } })
}

fn decide(how: Combining, roles: &[&str], words: &[&str], scope_ok: bool) -> Decision {
    let scene = Scene::new(&policies(words), roles, &json!({ "org": "acme" }), &json!({}));
    let mut faults = Faults::default();
    let selection = PolicySelection::all().combined(how, &scene.set, "/p", &mut faults);
    scene.set.decide(&selection, &scene.attributes(), scope_ok)
}

#[test]
fn the_first_that_applies_decides() {
    let error: &[(&str, &str)] = &[("e", "principal.org")];
    let rows: [(&[&str], &[&str], Decision); 11] = [
        (&["a=allow yes", "d=deny yes"], &[], decision(None, &["a"], &[])),
        (&["d=deny yes", "a=allow yes"], &["reader"], decision(Some(Reason::ExplicitDeny), &["d"], &[])),
        (&["n=deny no", "a=allow yes", "b=allow yes"], &["reader"], decision(None, &["a"], &[])),
        (&["e=deny error", "a=allow yes"], &[], decision(Some(Reason::PolicyError), &["e"], error)),
        (&["e=allow error", "a=allow yes"], &["reader"], decision(Some(Reason::PolicyError), &["e"], error)),
        (&["a=allow yes", "e=deny error"], &[], decision(None, &["a"], error)),
        (&["m=deny missing", "a=allow yes"], &[], decision(None, &["a"], &[])),
        (&["d=deny no"], &["reader"], decision(None, &["role:reader"], &[])),
        (&["d=deny yes off", "a=allow yes"], &[], decision(None, &["a"], &[])),
        (&["d=deny yes"], &["reader"], decision(Some(Reason::ExplicitDeny), &["d"], &[])),
        (&["n=allow no"], &[], decision(Some(Reason::Role), &[], &[])),
    ];
    for (words, roles, expected) in rows {
        assert_eq!(decide(Combining::FirstApplicable, roles, words, true), expected, "{words:?}");
    }
    let decide = |words: &[&str]| decide(Combining::FirstApplicable, &[], words, false).refused;
    assert_eq!(decide(&["a=allow yes"]), Some(Reason::Scope));
    assert_eq!(decide(&["d=deny yes"]), Some(Reason::ExplicitDeny));
    assert_eq!(decide(&["n=allow no"]), Some(Reason::Scope));
}

#[test]
fn what_no_deny_forbids_is_permitted_unless_something_is_missing() {
    let missing = Decision {
        errors: vec![PolicyError {
            policy: String::from("m"),
            attribute: String::from("principal.unheard"),
            flaw: Flaw::Missing,
        }],
        ..decision(Some(Reason::PolicyError), &["m"], &[])
    };
    let rows: [(&[&str], bool, Decision); 6] = [
        (&["d=deny no"], true, decision(None, &[], &[])),
        (&["d=deny no", "a=allow no"], true, decision(None, &[], &[])),
        (&["d=deny yes", "a=allow yes"], true, decision(Some(Reason::ExplicitDeny), &["d"], &[])),
        (&["e=deny error"], true, decision(Some(Reason::PolicyError), &["e"], &[("e", "principal.org")])),
        (&["m=deny missing", "a=allow yes"], true, missing),
        (&["d=deny no"], false, decision(Some(Reason::Scope), &[], &[])),
    ];
    for (words, scope_ok, expected) in rows {
        assert_eq!(decide(Combining::PermitUnlessDeny, &[], words, scope_ok), expected, "{words:?}");
    }
}

#[test]
fn a_profile_that_permits_what_is_not_denied_names_a_deny() {
    let scene = Scene::new(
        &policies(&["a=allow yes", "d=deny yes", "s=deny yes shadow"]),
        &[],
        &json!({ "org": "acme" }),
        &json!({}),
    );
    for (selection, at_fault) in [("a", true), ("d", false), ("s", true)] {
        let mut faults = Faults::default();
        let selection = json!([selection]);
        let selected = PolicySelection::compile(Some(&selection), &scene.set, "/p", &mut faults);
        selected.combined(Combining::PermitUnlessDeny, &scene.set, "/c", &mut faults);
        assert_eq!(!faults.is_empty(), at_fault, "{selection}: {faults:?}");
    }
}

#[test]
fn a_policy_in_shadow_mode_is_named_where_it_would_turn_the_answer() {
    use Combining::{DenyOverrides, FirstApplicable, PermitUnlessDeny};
    let denies = |policy: &str| Shadowed { policy: policy.to_owned(), denies: true };
    let allows = |policy: &str| Shadowed { policy: policy.to_owned(), denies: false };
    let rows: [(Combining, &[&str], Vec<Shadowed>); 12] = [
        (DenyOverrides, &["a=allow yes", "s=deny yes shadow"], vec![denies("s")]),
        (DenyOverrides, &["a=allow yes", "s=deny error shadow"], vec![denies("s")]),
        (DenyOverrides, &["a=allow yes", "s=deny no shadow"], vec![]),
        (DenyOverrides, &["d=deny yes", "s=deny yes shadow"], vec![]),
        (DenyOverrides, &["s=allow yes shadow"], vec![allows("s")]),
        (DenyOverrides, &["d=deny yes", "s=allow yes shadow"], vec![]),
        (DenyOverrides, &["a=allow yes", "s=allow error shadow"], vec![]),
        (
            DenyOverrides,
            &["a=allow yes", "t=deny yes shadow", "s=deny yes shadow"],
            vec![denies("s"), denies("t")],
        ),
        (FirstApplicable, &["s=deny yes shadow", "a=allow yes"], vec![denies("s")]),
        (FirstApplicable, &["a=allow yes", "s=deny yes shadow"], vec![]),
        (FirstApplicable, &["s=allow yes shadow", "d=deny yes"], vec![allows("s")]),
        (PermitUnlessDeny, &["d=deny no", "s=deny missing shadow"], vec![denies("s")]),
    ];
    for (how, words, expected) in rows {
        let said = decide(how, &[], words, true);
        assert_eq!(said.shadow, expected, "{how:?} {words:?}");
        assert!(!said.policies.contains(&String::from("s")), "{words:?}");
        let without: Vec<&str> = words.iter().copied().filter(|word| !word.ends_with("shadow")).collect();
        let alone = decide(how, &[], &without, true);
        assert_eq!(
            (said.refused.is_none(), said.policies, said.errors),
            (alone.refused.is_none(), alone.policies, alone.errors)
        );
    }
}
