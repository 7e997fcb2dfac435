use super::*;
use crate::config::{self, Format};

/// The findings of a document that ends with `more`, at the start of 2026.
fn found(more: &str) -> Vec<String> {
    let text = format!(
        r#"{{"version": 1, "name": "g",
            "audit": {{"collector": {{"cluster": "a"}}, "chain": {{"keys": [{{"id": "c1", "env": "C1"}}]}},
                       "digest": {{"inputs": false, "outputs": false}}}},
            "resources": {{"rules": [{{"preset": "openai"}},
                {{"match": {{"path": "/train"}}, "resource": {{"type": "job", "id": "x"}}, "action": "train"}}]}},
            {more}}}"#
    );
    let (document, _) = config::read(text.as_bytes(), Format::Json)
        .unwrap_or_else(|faults| panic!("{:?}", faults.into_vec()));
    let mut found = Faults::default();
    find(&document, UnixTime::parse("2026-01-01T00:00:00Z").unwrap(), &mut found);
    found.into_vec().into_iter().map(|finding| format!("{}: {}", finding.pointer, finding.what)).collect()
}

fn policies(list: &str) -> Vec<String> {
    found(&format!(
        r#""authorization": {{"roles": {{"tester": {{"permissions": ["read"]}}}}, "policies": [{list}]}}"#
    ))
}

/// Under `first_applicable`.
fn by_order(list: &str) -> Vec<String> {
    found(&format!(
        r#""authorization": {{"combining": "first_applicable", "roles": {{"tester": {{"permissions": ["read"]}}}},
            "policies": [{list}]}}"#
    ))
}

#[test]
fn a_sound_document_has_none() {
    assert_eq!(
        policies(
            r#"{"name": "a", "effect": "allow", "principal": {"roles": "tester"},
                "resource": {"type": ["job", "unknown"]}, "action": ["train", "nothing"]},
               {"name": "d", "effect": "deny", "when": {"environment.name": "x"}}"#
        ),
        [""; 0]
    );
}

#[test]
fn an_expired_key_is_found_and_one_that_ends_later_is_not() {
    let key = |end: &str| {
        found(&format!(
            r#""authorization": {{}}, "consumers": [{{"name": "u", "credentials": {{"api_keys": [
                {{"id": "00000000", "digest": "sha256:{}", "not_after": "{end}"}}]}}}}]"#,
            "0".repeat(64)
        ))
    };
    assert_eq!(key("2026-01-01T00:00:00.001Z"), [""; 0]);
    assert_eq!(
        key("2026-01-01T00:00:00Z"),
        [
            "/consumers/0/credentials/api_keys/0/not_after: the key `00000000` of `u` expired at 2026-01-01T00:00:00.000Z"
        ]
    );
}

#[test]
fn a_grant_of_everything_is_found() {
    let role = |permissions: &str| {
        found(&format!(r#""authorization": {{"roles": {{"r": {{"permissions": [{permissions}]}}}}}}"#))
    };
    for broad in [r#""*""#, r#"{"actions": ["read", "*"]}"#, r#"{"actions": ["*"], "when": {}}"#] {
        assert_eq!(role(broad), ["/authorization/roles/r/permissions/0: the role `r` may do everything"]);
    }
    assert_eq!(role(r#"{"actions": ["*"], "resource": {"org": "x"}}"#), [""; 0]);
    assert_eq!(
        policies(r#"{"name": "a", "effect": "allow"}"#),
        ["/authorization/policies/0: `a` lets everybody do everything"]
    );
    assert_eq!(policies(r#"{"name": "a", "effect": "allow", "mode": "off"}"#), [""; 0]);
    assert_eq!(policies(r#"{"name": "a", "effect": "deny"}"#), [""; 0]);
}

#[test]
fn what_no_request_can_match_is_found() {
    assert_eq!(
        policies(
            r#"{"name": "a", "effect": "deny", "action": ["tarin"]},
               {"name": "b", "effect": "deny", "principal": {"roles": "admin"}},
               {"name": "c", "effect": "deny", "when": {"resource.type": ["jobs"]}},
               {"name": "d", "effect": "deny", "resource": {"type": "job*"}, "action": ["t*"]}"#
        ),
        [
            "/authorization/policies/0/action: `a` can never match: no rule has the action `tarin`",
            "/authorization/policies/1/principal/roles: `b` can never match: there is no role `admin`",
            "/authorization/policies/2/when/resource.type: `c` can never match: no rule has the type `jobs`",
        ]
    );
    assert_eq!(
        found(r#""authorization": {"roles": {"r": {"permissions": ["reed"]}}}"#),
        ["/authorization/roles/r/permissions/0: no rule has the action `reed`"]
    );
}

#[test]
fn a_profile_that_leaves_a_deny_out_is_found() {
    let profile = |profile: &str| {
        found(&format!(
            r#""authorization": {{"policies": [{{"name": "no-one", "effect": "deny"}}]}},
               "profiles": {{"default": {{}}, "p": {profile}}}"#
        ))
    };
    for narrow in [r#"{"policies": ["other", "nobody-*"]}"#, r#"{"policies": "none"}"#] {
        assert_eq!(
            profile(narrow),
            ["/profiles/p/policies: the profile `p` leaves out `no-one`, which denies"]
        );
    }
    for whole in ["{}", r#"{"policies": ["no-*"]}"#, r#"{"policies": ["no-one"]}"#] {
        assert_eq!(profile(whole), [""; 0]);
    }
}

#[test]
fn weak_evidence_is_found() {
    let text = br#"{"version": 1, "name": "g", "resources": {}, "authorization": {},
        "audit": {"collector": {"cluster": "a"}, "chain": {"unkeyed": true}}}"#;
    let (document, _) = config::read(text, Format::Json).unwrap();
    let mut found = Faults::default();
    find(&document, UnixTime::from_millis(0), &mut found);
    let pointers: Vec<&str> = found.iter().map(|finding| finding.pointer.as_str()).collect();
    assert_eq!(pointers, ["/audit/chain/unkeyed", "/audit/digest"]);
}

#[test]
fn a_missing_variable_is_found_and_a_known_one_is_not() {
    let text = br#"{"version": 1, "name": "g", "resources": {}, "authorization": {},
        "audit": {"collector": {"cluster": "a"}, "chain": {"keys": [{"id": "c1", "env": "A"}, {"id": "c2", "env": "B"}]}}}"#;
    let (document, _) = config::read(text, Format::Json).unwrap();
    let mut found = Faults::default();
    environment(&document, &|name| (name == "A").then(|| String::from("secret")), &mut found);
    let pointers: Vec<&str> = found.iter().map(|finding| finding.pointer.as_str()).collect();
    assert_eq!(pointers, ["/audit/chain/keys/1/env"]);
}

#[test]
fn policies_that_say_nothing_beside_another_are_found() {
    let policy =
        |name: &str, effect: &str, more: &str| format!(r#"{{"name": "{name}", "effect": "{effect}"{more}}}"#);
    let read = r#", "action": ["read"], "resource": {"type": "model"}"#;
    let wide = r#", "action": ["read", "predict"], "resource": {"type": ["model", "job"]}"#;
    for (one, other, finding) in [
        (
            policy("a", "allow", read),
            policy("b", "allow", read),
            "/authorization/policies/1: `b` says the same as `a`",
        ),
        (
            policy("a", "allow", read),
            policy("b", "allow", wide),
            "/authorization/policies/0: `a` is shadowed by `b`, which asks for less and does the same",
        ),
        (
            policy("a", "deny", wide),
            policy("b", "deny", read),
            "/authorization/policies/1: `b` is shadowed by `a`, which asks for less and does the same",
        ),
        (
            policy("a", "allow", read),
            policy("b", "deny", wide),
            "/authorization/policies/0: `a` can never allow anything: `b` denies all that it names",
        ),
    ] {
        assert_eq!(policies(&format!("{one}, {other}")), [finding], "{one} {other}");
    }
    for (one, other) in [
        // a deny within an allow is what denies are for
        (policy("a", "allow", wide), policy("b", "deny", read)),
        (
            policy("a", "allow", read),
            policy("b", "allow", r#", "action": ["read"], "resource": {"type": "job"}"#),
        ),
        (
            policy("a", "allow", read),
            policy("b", "allow", r#", "action": ["predict"], "resource": {"type": "model"}"#),
        ),
        (
            policy("a", "allow", read),
            policy("b", "allow", r#", "action": ["read"], "resource": {"type": "model"}, "mode": "off""#),
        ),
    ] {
        assert_eq!(policies(&format!("{one}, {other}")), [""; 0], "{one} {other}");
    }
}

#[test]
fn narrower_prefixes_and_bounds_are_found() {
    let policy = |name: &str, when: &str| {
        format!(r#"{{"name": "{name}", "effect": "allow", "action": ["read"], "when": {{{when}}}}}"#)
    };
    let shadowed =
        ["/authorization/policies/0: `a` is shadowed by `b`, which asks for less and does the same"];
    for (narrow, wide) in [
        (r#""resource.id": "fraud_v2""#, r#""resource.id": "fraud_*""#),
        (r#""resource.id": "fraud_v*""#, r#""resource.id": ["a", "fraud_*"]"#),
        (r#""resource.id": ["x", "y"]"#, r#""resource.id": "*""#),
        (r#""principal.level": {"gt": 5}"#, r#""principal.level": {"gte": 6}"#),
        (r#""principal.level": {"gt": 5, "lt": 9}"#, r#""principal.level": {"gt": 3}"#),
        (r#""principal.level": {"lte": 5}"#, r#""principal.level": {"lt": 7}"#),
    ] {
        let found = policies(&format!("{}, {}", policy("a", narrow), policy("b", wide)));
        let same = narrow.contains("\"gt\": 5}");
        if same {
            assert_eq!(found, ["/authorization/policies/1: `b` says the same as `a`"], "{narrow} {wide}");
        } else {
            assert_eq!(found, shadowed, "{narrow} {wide}");
            let turned = policies(&format!("{}, {}", policy("b", wide), policy("a", narrow)));
            assert_eq!(turned.len(), 1, "{narrow} {wide}");
        }
    }
    for (one, other) in [
        (r#""resource.id": "fraud_v2""#, r#""resource.id": "{principal.org}_*""#),
        (r#""resource.id": "{principal.org}_a""#, r#""resource.id": "acme_*""#),
        (r#""principal.level": {"gt": 5}"#, r#""principal.level": {"lt": 9}"#),
        (r#""principal.level": {"gt": 5}"#, r#""principal.level": {"gt": 3, "lt": 9}"#),
        (r#""principal.level": {"not": 5}"#, r#""principal.level": {"gt": 3}"#),
    ] {
        assert_eq!(
            policies(&format!("{}, {}", policy("a", one), policy("b", other))),
            [""; 0],
            "{one} {other}"
        );
    }
}

#[test]
fn a_policy_that_contradicts_itself_is_found() {
    let policy = |more: &str| format!(r#"{{"name": "a", "effect": "allow", "action": ["read"], {more}}}"#);
    for (more, attribute) in [
        (r#""resource": {"type": "model"}, "when": {"resource.type": ["job"]}"#, "resource.type"),
        (
            r#""resource": {"type": "model"}, "when": {"principal.level": {"gt": 5, "lt": 6}}"#,
            "principal.level",
        ),
        (r#""principal": {"tier": ["a", "b"]}, "when": {"principal.tier": "c"}"#, "principal.tier"),
    ] {
        let found = policies(&policy(more));
        let wanted = format!("what it asks of `{attribute}` contradicts itself");
        assert!(found.iter().any(|finding| finding.contains(&wanted)), "{more}: {found:?}");
    }
    for more in [
        // a caller may be in both groups
        r#""principal": {"groups": "a"}, "when": {"principal.groups": "b"}"#,
        r#""resource": {"type": "model"}, "when": {"resource.type": ["job", "model"]}"#,
        r#""principal": {"tier": "a*"}, "when": {"principal.tier": "b"}"#,
        r#""principal": {"level": {"gte": 5}}, "when": {"principal.level": {"lte": 5}}"#,
    ] {
        let found = policies(&policy(more));
        assert!(!found.iter().any(|finding| finding.contains("contradicts")), "{more}: {found:?}");
    }
}

#[test]
fn what_stands_behind_a_wider_policy_is_never_reached() {
    let policy =
        |name: &str, effect: &str, more: &str| format!(r#"{{"name": "{name}", "effect": "{effect}"{more}}}"#);
    let read = r#", "action": ["read"], "resource": {"type": "model"}"#;
    let wide = r#", "action": ["read", "predict"], "resource": {"type": ["model", "job"]}"#;
    let (narrow_deny, wide_allow) = (policy("a", "deny", read), policy("b", "allow", wide));
    let found = by_order(&format!("{wide_allow}, {narrow_deny}"));
    assert_eq!(
        found,
        [
            "/authorization/policies/1: `a` is never reached: `b` stands before it and applies to all that it names"
        ]
    );
    assert_eq!(by_order(&format!("{narrow_deny}, {wide_allow}")), [""; 0]);
}
