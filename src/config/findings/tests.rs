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
