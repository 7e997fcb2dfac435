use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::*;
use crate::config::tree::Tree;

fn faults(json: &str) -> Vec<String> {
    let tree = Tree::from_json(json.as_bytes()).unwrap();
    check(&words::DOCUMENT, tree.root()).into_vec().iter().map(ToString::to_string).collect()
}

/// A minimal document with `more` at its end.
fn document(more: &str) -> String {
    format!(
        r#"{{"version": 1, "name": "g", "resources": {{}}, "authorization": {{}},
            "audit": {{"collector": {{"cluster": "audit"}}, "chain": {{"unkeyed": true}}}}{more}}}"#
    )
}

#[test]
fn every_fault_is_found_at_once() {
    let found = faults(
        r#"{
        "version": 2,
        "nam": "g",
        "resources": {"unlisted": "dney", "rules": [{"action": 7}]},
        "authorization": {"combining": "permit_unless_deny", "roles": {"a b": {}}},
        "audit": {"collector": {"cluster": ""}, "chain": null},
        "rate_limit_service": {"cluster": "c", "domain": "d", "failure_mode": "open"},
        "limits": [{"name": "x", "key": [], "when": {"action": []}, "rates": {"default": [{"limit": 0, "window": "1"}]}}],
        "limits": {}
    }"#,
    );
    let expected = [
        "/version (line 2): `2` is out of range",
        "/nam (line 3): unknown word `nam`: did you mean `name`?",
        "/resources/unlisted (line 4): unknown choice `dney`",
        "/resources/rules/0/action (line 4): the number `7` cannot stand here: write a name",
        "/authorization/combining (line 5): unknown choice `permit_unless_deny`: write `deny_overrides` or",
        "/authorization/roles/a b (line 5): the name `a b` is not allowed here",
        "/audit/collector/cluster (line 6): `` is not well formed",
        "/audit/chain (line 6): nothing cannot stand here",
        "/rate_limit_service/failure_mode (line 7): unknown choice `open`",
        "/limits/0/when/action (line 8): an empty list",
        "/limits/0/rates/default/0/limit (line 8): `0` is out of range",
        "/limits/0/rates/default/0/window (line 8): `1` is not well formed: write a duration such as",
        "/limits (line 9): written twice, first on line 8",
        "/limits (line 9): an object cannot stand here",
        "/name (line 1): `name` is missing",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
}

#[test]
fn a_minimal_document_is_clean() {
    assert_eq!(faults(&document("")), [""; 0]);
}

#[test]
fn a_text_that_lost_its_quotes_is_explained() {
    let found = faults(&document(r#", "revision": {"id": 1000}"#));
    assert!(found[0].contains("needs quotes"), "{found:?}");
    let found = faults(&document(r#", "profiles": {"default": {"authenticate": false}}"#));
    assert!(found[0].contains("needs quotes"), "{found:?}");
}

#[test]
fn a_key_pasted_into_a_digest_is_not_repeated() {
    let found = faults(&document(
        r#", "consumers": [{"name": "u", "credentials": {"api_keys": [{"id": "12345678", "digest": "mlg_secret"}]}}]"#,
    ));
    assert_eq!(found.len(), 1);
    assert!(!found[0].contains("mlg_secret"), "{found:?}");
}

#[test]
fn more_faults_than_are_kept_are_counted() {
    let many = vec![r#""a b""#; 250].join(",");
    let found = faults(&document(&format!(r#", "consumers": [{{"name": "u", "roles": [{many}]}}]"#)));
    assert_eq!(found.len(), 201);
    assert!(found[200].contains("50 more faults"), "{}", found[200]);
}

#[test]
fn a_name_cannot_split_a_line_or_fill_the_log() {
    let found = faults(&document(&format!(r#", "a\nb": 1, "{}": 2"#, "x".repeat(100_000))));
    assert_eq!(found.len(), 2);
    assert!(found[0].starts_with("/a?b (line 2): unknown word `a?b`"), "{}", found[0]);
    assert!(found[1].len() < 2_000, "{}", found[1].len());
}

#[test]
fn hints_are_near_or_absent() {
    assert_eq!(meant("polices", &["policies", "roles"]), "did you mean `policies`?");
    assert_eq!(meant("xyz", &["policies", "roles"]), "write `policies` or `roles`");
    assert_eq!(distance("kitten", "sitting"), 3);
    assert_eq!(distance("", "abc"), 3);
    assert_eq!(distance("äb", "ab"), 1);
}

#[test]
fn a_pattern_says_what_its_function_says() {
    for grammar in GRAMMARS {
        let texts =
            proptest::string::string_regex(grammar.pattern.trim_start_matches('^').trim_end_matches('$'));
        let texts = texts.unwrap_or_else(|error| panic!("{}: {error}", grammar.pattern));
        let mut runner = TestRunner::deterministic();
        for _ in 0..200 {
            let text = texts.new_tree(&mut runner).unwrap().current();
            // a pattern cannot say what an address range is
            if !std::ptr::eq(*grammar, &raw const grammar::RANGE) {
                assert!((grammar.check)(&text), "{}: {text:?}", grammar.pattern);
            }
        }
        for wrong in ["", "\n", "a\u{85}"] {
            assert!(!(grammar.check)(wrong), "{}: {wrong:?}", grammar.pattern);
        }
    }
}

proptest! {
    #[test]
    fn words_are_as_far_from_each_other_as_back(left in "[a-d]{0,8}", right in "[a-d]{0,8}") {
        prop_assert_eq!(distance(&left, &right), distance(&right, &left));
        prop_assert_eq!(distance(&left, &right) == 0, left == right);
        prop_assert!(distance(&left, &right) <= left.len().max(right.len()));
    }
}

static GRAMMARS: &[&Grammar] = &[
    &grammar::ANY,
    &grammar::CONSUMER,
    &grammar::ENV,
    &grammar::GATE,
    &grammar::HEADER,
    &grammar::KEY_DIGEST,
    &grammar::KEY_ID,
    &grammar::METHOD,
    &grammar::NAME,
    &grammar::PATH,
    &grammar::RANGE,
    &grammar::SECRET_ID,
    &grammar::TOKEN,
];
