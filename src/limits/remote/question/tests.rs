use serde_json::json;

use super::*;
use crate::config::document::BoundsSpec;
use crate::config::faults::Faults;
use crate::identity::Identity;
use crate::limits::key::tests::with_subject;
use crate::limits::spec::{LimitSpec, ServiceSpec};
use crate::policy::attributes::Value;
use crate::resource::Resource;

fn limits(document: serde_json::Value) -> Limits {
    let specs: Vec<LimitSpec> = serde_json::from_value(document).unwrap();
    let service: ServiceSpec = serde_json::from_value(json!({ "cluster": "c", "domain": "d" })).unwrap();
    let mut faults = Faults::default();
    let limits = Limits::compile(&specs, Some(&service), "gate", &BoundsSpec::default(), None, &mut faults);
    assert_eq!(faults.into_vec(), []);
    limits
}

/// What is asked about a caller changed by `change`.
fn asked(
    limits: &Limits,
    change: impl FnOnce(&mut Identity, &mut Resource, &mut Option<std::net::IpAddr>),
) -> Option<Question> {
    with_subject(change, |subject| limits.question(&limits.all(), subject))
}

fn counting(key: &[&str]) -> Limits {
    limits(json!([{ "name": "l", "key": key, "scope": "global",
        "rates": { "default": [{ "limit": 1, "window": "60s" }] } }]))
}

/// The value of the one part of a key, as it is sent for an attribute `a`.
fn sent(value: Value) -> String {
    let question = asked(&counting(&["principal.a"]), |identity, _, _| {
        identity.attributes.insert(String::from("a"), value);
    });
    question.unwrap().descriptors[0].entries[1].value.clone()
}

fn text(text: &str) -> String {
    sent(Value::Text(text.to_owned()))
}

#[test]
fn each_rate_that_applies_is_a_descriptor() {
    let limits = limits(json!([
        { "name": "mine", "key": [], "rates": { "default": [{ "limit": 1, "window": "1m" }] } },
        { "name": "all", "key": [], "scope": "global", "rates": { "default": [{ "limit": 1, "window": "1d" }] } },
        { "name": "org", "key": ["principal.org", "model"], "scope": "global", "rates": {
            "default": [{ "limit": 1, "window": "1m" }],
            "pro": [{ "limit": 1, "window": "90s" }, { "limit": 1, "window": "1h" }],
        } },
    ]));
    let of_tier = |tier: &str| {
        let question = asked(&limits, |identity, _, _| {
            identity.tier = tier.to_owned();
            identity.attributes.insert(String::from("org"), Value::Text(String::from("acme")));
        });
        question.unwrap().to_string()
    };
    assert_eq!(
        of_tier("pro"),
        "[limit=all, rates=default, window=1d] \
         [limit=org, principal.org=acme, model=m, rates=pro, window=90s] \
         [limit=org, principal.org=acme, model=m, rates=pro, window=1h]"
    );
    assert_eq!(
        of_tier("unheard-of"),
        "[limit=all, rates=default, window=1d] [limit=org, principal.org=acme, model=m, rates=default, window=1m]"
    );
}

#[test]
fn every_descriptor_is_one_of_the_counters_and_every_counter_can_be_asked() {
    let limits = limits(json!([
        { "name": "a", "key": ["tier", "source"], "scope": "global", "rates": {
            "default": [{ "limit": 1, "window": "1m" }], "pro": [{ "limit": 1, "window": "1s" }] } },
        { "name": "b", "key": [], "scope": "global", "rates": { "default": [{ "limit": 1, "window": "1d" }] } },
    ]));
    let mut reached = std::collections::BTreeSet::new();
    for tier in ["default", "pro"] {
        let question = asked(&limits, |identity, _, _| identity.tier = tier.to_owned()).unwrap();
        for descriptor in question.descriptors {
            let fits = limits.counters().position(|counter| {
                counter
                    .entries
                    .iter()
                    .map(|entry| &entry.key)
                    .eq(descriptor.entries.iter().map(|entry| &entry.key))
                    && counter.entries.iter().zip(&descriptor.entries).all(|(counted, entry)| {
                        counted.value.as_ref().is_none_or(|value| *value == entry.value)
                    })
            });
            reached.insert(fits.unwrap());
        }
    }
    assert_eq!(reached.len(), limits.counters().count());
}

#[test]
fn a_limit_whose_when_says_no_is_not_asked_and_one_that_errs_is() {
    let limits =
        limits(json!([{ "name": "l", "key": [], "scope": "global", "when": { "principal.org": "acme" },
        "rates": { "default": [{ "limit": 1, "window": "1m" }] } }]));
    assert_eq!(asked(&limits, |_, _, _| {}), None);
    let question = asked(&limits, |identity, _, _| {
        identity.attributes.insert(String::from("org"), Value::Number(1));
    });
    assert_eq!(question.unwrap().degraded, [Degraded::Condition]);
}

#[test]
fn no_value_is_empty_and_what_is_missing_is_named() {
    let question =
        asked(&counting(&["credential", "source", "route", "principal.org"]), |_, _, _| {}).unwrap();
    assert_eq!(question.unknown, ["l/credential", "l/source", "l/route", "l/principal.org"]);
    let values: Vec<_> = question.descriptors[0].entries.iter().map(|entry| entry.value.as_str()).collect();
    assert_eq!(values, ["l", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, "default", "1m"]);
    assert!(text("").starts_with(DIGEST_PREFIX), "known and empty is a caller of its own");
}

#[test]
fn credentials_and_addresses_are_sent_by_what_is_public_and_counted_together() {
    let question = asked(&counting(&["credential", "source"]), |identity, _, source| {
        identity.credential.method = String::from("api_key");
        identity.credential.id = String::from("k7f3a2b9");
        *source = Some("2001:db8:0:1:a::7".parse().unwrap());
    });
    assert_eq!(
        question.unwrap().to_string(),
        "[limit=l, credential=api_key:k7f3a2b9, source=2001:db8:0:1::/64, rates=default, window=1m]"
    );
    let question = asked(&counting(&["source"]), |_, _, source| {
        *source = Some("::ffff:192.0.2.1".parse().unwrap());
    });
    assert!(question.unwrap().to_string().contains("source=192.0.2.1,"));
}

#[test]
fn what_a_service_could_read_otherwise_is_sent_as_a_digest() {
    assert_eq!(text("user_1@acme: é"), "user_1@acme: é");
    assert_eq!(text(&"x".repeat(MAX_VALUE)), "x".repeat(MAX_VALUE));
    assert_eq!(
        (sent(Value::Number(-7)), sent(Value::Bool(true))),
        (String::from("-7"), String::from("true"))
    );
    let long = "x".repeat(MAX_VALUE + 1);
    for odd in ["a\nb", "\0", UNKNOWN, "sha256:00", "x_principal.a_y", "a_rates_b", long.as_str()] {
        let sent = text(odd);
        assert_eq!((sent.len(), sent.starts_with(DIGEST_PREFIX)), (71, true), "{odd}");
    }
    let list = |items: &[&str]| sent(Value::List(items.iter().map(|item| (*item).to_owned()).collect()));
    assert_ne!(list(&["a", "b"]), list(&["a, b"]));
    assert_ne!(list(&["a", "b"]), list(&["b", "a"]));
}

proptest::proptest! {
    #[test]
    fn different_texts_are_different_values_of_bounded_size(a in "\\PC{0,300}", b in "(\\(unknown\\)|sha256:[a-f]{2}|_rates_|\\PC{0,5})") {
        let (sent_a, sent_b) = (text(&a), text(&b));
        proptest::prop_assert_eq!(a == b, sent_a == sent_b);
        for sent in [sent_a, sent_b] {
            proptest::prop_assert!((1..=MAX_VALUE).contains(&sent.len()) && sent != UNKNOWN);
        }
    }
}

#[test]
fn the_message_is_what_the_service_reads() {
    let question = asked(&counting(&["model"]), |_, _, _| {}).unwrap();
    let request = RateLimitRequest::decode(question.message("d").as_slice()).unwrap();
    assert_eq!((request.domain.as_str(), request.hits_addend), ("d", 1));
    assert_eq!(request.descriptors, question.descriptors);
    assert_eq!(
        question.message("d"),
        b"\x0a\x01d\x12\x38\x0a\x0a\x0a\x05limit\x12\x01l\x0a\x0a\x0a\x05model\x12\x01m\
          \x0a\x10\x0a\x05rates\x12\x07default\x0a\x0c\x0a\x06window\x12\x021m\x18\x01"
    );
}
