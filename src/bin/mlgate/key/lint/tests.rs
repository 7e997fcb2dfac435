use mlgate::config::{self, Format as Form};
use serde_json::{Value as Json, json};

use super::*;

const NOW: &str = "2026-06-15T00:00:00Z";
const SOON: &str = "2026-07-15T00:00:00Z";

fn time(text: &str) -> UnixTime {
    UnixTime::parse(text).unwrap()
}

/// A document whose consumer `user_1` has these keys.
fn document(keys: &Json, revocation: &Json) -> Document {
    let document = json!({
        "version": 1,
        "name": "gate",
        "consumers": [{ "name": "user_1", "credentials": { "api_keys": keys } }],
        "authentication": { "revocation": revocation },
        "resources": { "rules": [{ "preset": "openai" }] },
        "authorization": { "roles": { "any": { "permissions": ["*"] } } },
        "audit": { "collector": { "cluster": "audit" }, "chain": { "unkeyed": true } },
    });
    config::read(document.to_string().as_bytes(), Form::Json).unwrap().0
}

/// A key with nothing to find but what `with` makes of it.
fn key(id: &str, with: &Json) -> Json {
    let mut key = json!({
        "id": id,
        "digest": format!("hmac-sha256:p1:{}", "0".repeat(64)),
        "not_after": "2027-01-01T00:00:00Z",
        "actions": ["predict"],
    });
    for (name, value) in with.as_object().unwrap() {
        key[name] = value.clone();
        if value.is_null() {
            key.as_object_mut().unwrap().remove(name);
        }
    }
    key
}

fn found(document: &Document, usage: Option<&Usage>) -> Vec<(String, String)> {
    let found = lint(document, usage, time(NOW), time(SOON));
    found
        .into_iter()
        .map(|finding| (format!("{} {}", finding.kind, finding.fault.pointer), finding.fault.what))
        .collect()
}

fn kinds(keys: &Json, revocation: &Json) -> Vec<String> {
    found(&document(keys, revocation), None).into_iter().map(|(kind, _)| kind).collect()
}

fn usage(lines: &[(&str, &str, &str)]) -> Usage {
    let mut usage = Usage::of(["oldkey00", "newkey00"].into_iter());
    for (time, id, source) in lines {
        let event = json!({
            "type": "access", "timestamp": time, "source": source, "credential": { "method": "api_key", "id": id },
        });
        usage.line(event.to_string().as_bytes());
    }
    usage
}

#[test]
fn each_weakness_of_a_key_has_its_word_and_place() {
    let plain = format!("sha256:{}", "0".repeat(64));
    let at = |kind: &str, word: &str| vec![format!("{kind} /consumers/0/credentials/api_keys/0{word}")];
    for (with, expected) in [
        (json!({}), vec![]),
        (json!({ "not_after": "2026-06-15T00:00:00Z" }), at("expired", "/not_after")),
        (json!({ "not_after": "2026-06-15T00:00:00.001Z" }), at("expiring", "/not_after")),
        (json!({ "not_after": SOON }), at("expiring", "/not_after")),
        (json!({ "not_after": "2026-07-15T00:00:00.001Z" }), vec![]),
        (json!({ "not_after": null }), at("endless", "")),
        (json!({ "actions": null }), at("unscoped", "")),
        (json!({ "actions": null, "source_ranges": ["10.0.0.0/8"] }), vec![]),
        (json!({ "digest": plain }), at("pepperless", "/digest")),
        // what cannot be used any more is not reviewed further
        (
            json!({ "not_after": "2026-01-01T00:00:00Z", "actions": null, "digest": plain }),
            at("expired", "/not_after"),
        ),
    ] {
        assert_eq!(kinds(&json!([key("oldkey00", &with)]), &json!({})), expected, "{with}");
    }
}

#[test]
fn a_consumer_without_credentials_and_what_was_revoked_are_found() {
    assert_eq!(kinds(&json!([]), &json!({})), ["keyless /consumers/0"]);
    let revoked = ["revoked /consumers/0/credentials/api_keys/0"];
    for revocation in [json!({ "keys": ["oldkey00"] }), json!({ "principals": ["user_1"] })] {
        assert_eq!(kinds(&json!([key("oldkey00", &json!({ "not_after": null }))]), &revocation), revoked);
    }
    assert!(kinds(&json!([key("oldkey00", &json!({}))]), &json!({ "keys": ["gone0000"] })).is_empty());
}

fn pair() -> Document {
    document(
        &json!([
            key("oldkey00", &json!({ "not_after": "2026-06-20T00:00:00Z" })),
            key("newkey00", &json!({ "not_before": "2026-06-13T00:00:00Z" })),
        ]),
        &json!({}),
    )
}

#[test]
fn a_pair_is_one_finding_and_a_log_says_how_far_the_rotation_is() {
    let what = |usage: Option<&Usage>| {
        let found = found(&pair(), usage);
        let (kind, what) = found.first().cloned().unwrap();
        assert_eq!(kind, "overlap /consumers/0/credentials/api_keys/0/not_after");
        (what, found.len())
    };
    let both = "the key `oldkey00` of `user_1` and its successor `newkey00` are both valid until 2026-06-20T00:00:00.000Z";
    assert_eq!(what(None), (both.to_owned(), 1));
    // before the new one began, there was nothing else to use
    let early = ("2026-06-12T00:00:00Z", "oldkey00", "10.0.0.1");
    let late = ("2026-06-14T00:00:00Z", "oldkey00", "10.0.0.2");
    let new = ("2026-06-14T12:00:00Z", "newkey00", "10.0.0.1");
    for (lines, expected, findings) in [
        (
            vec![early, late, new],
            "; the old one is still used by 10.0.0.2, last at 2026-06-14T00:00:00.000Z; the new one is used, last at 2026-06-14T12:00:00.000Z",
            1,
        ),
        (
            vec![early, new],
            "; nobody uses the old one any more, the new one is used, last at 2026-06-14T12:00:00.000Z",
            1,
        ),
        (
            vec![late],
            "; the old one is still used by 10.0.0.2, last at 2026-06-14T00:00:00.000Z; the new one is not used yet",
            2,
        ),
    ] {
        assert_eq!(what(Some(&usage(&lines))), (format!("{both}{expected}"), findings), "{lines:?}");
    }
}

#[test]
fn keys_that_only_lie_side_by_side_are_no_pair() {
    for (old, new) in [
        // no end, no beginning, a beginning that is still to come, and one after the end
        (json!({ "not_after": null }), json!({ "not_before": "2026-06-13T00:00:00Z" })),
        (json!({ "not_after": "2026-06-20T00:00:00Z" }), json!({})),
        (json!({ "not_after": "2026-06-20T00:00:00Z" }), json!({ "not_before": "2026-06-16T00:00:00Z" })),
        (json!({ "not_after": "2026-06-14T00:00:00Z" }), json!({ "not_before": "2026-06-14T12:00:00Z" })),
    ] {
        let kinds = kinds(&json!([key("oldkey00", &old), key("newkey00", &new)]), &json!({}));
        assert!(kinds.iter().all(|kind| !kind.starts_with("overlap")), "{kinds:?}");
    }
}

#[test]
fn a_key_that_no_log_shows_is_unused_unless_it_has_not_begun() {
    let keys = json!([
        key("oldkey00", &json!({})),
        key("newkey00", &json!({ "not_before": "2026-12-01T00:00:00Z" })),
    ]);
    let document = document(&keys, &json!({}));
    let unused = found(&document, Some(&usage(&[])));
    assert_eq!(unused.first().unwrap().0, "unused /consumers/0/credentials/api_keys/0");
    assert_eq!(unused.len(), 1);
    assert!(found(&document, Some(&usage(&[("2026-06-01T00:00:00Z", "oldkey00", "10.0.0.1")]))).is_empty());
}

#[test]
fn a_revoked_key_that_is_still_shown_says_by_whom() {
    let document = document(&json!([key("oldkey00", &json!({}))]), &json!({ "keys": ["oldkey00"] }));
    let found = found(&document, Some(&usage(&[("2026-06-14T00:00:00Z", "oldkey00", "203.0.113.7")])));
    assert_eq!(
        found.first().unwrap().1,
        "the key `oldkey00` of `user_1` was revoked, and was last shown at 2026-06-14T00:00:00.000Z by 203.0.113.7"
    );
}
