use super::*;
use crate::host::fake::FakeHost;
use crate::identity::Identity;
use crate::policy::attributes::{AttributeMap, Value};
use crate::resource::Resource;

const KEY: HashKey = [7; 16];

/// What limits look at in a request for the model `m`, changed by `change`.
pub(in crate::limits) fn with_subject<T>(
    change: impl FnOnce(&mut Identity, &mut Resource, &mut Option<IpAddr>),
    act: impl FnOnce(&Subject<'_>) -> T,
) -> T {
    let mut identity = Identity::anonymous();
    let mut resource =
        Resource { kind: String::from("model"), id: String::from("m"), attributes: AttributeMap::new() };
    let mut source = None;
    change(&mut identity, &mut resource, &mut source);
    let environment = AttributeMap::new();
    let attributes = Attributes {
        principal: &identity,
        resource: &resource,
        action: "predict",
        environment: &environment,
        now: None,
        source: None,
    };
    act(&Subject { attributes: &attributes, source, route: None, profile: "default" })
}

/// The tag of a request changed by `change`, and the parts it lacks.
fn tag_of(
    words: &[&str],
    change: impl FnOnce(&mut Identity, &mut Resource, &mut Option<IpAddr>),
) -> (Tag, Vec<String>) {
    let key: Vec<_> = words.iter().map(|word| KeyPart::parse(word).unwrap()).collect();
    let mut missing = Vec::new();
    let tag = with_subject(change, |subject| {
        tag(&KEY, "limit", "default", &key, subject, |part| missing.push(part.to_string()))
    });
    (tag, missing)
}

fn from(address: &str) -> Tag {
    tag_of(&["source"], |_, _, source| *source = Some(address.parse().unwrap())).0
}

#[test]
fn words_are_read_and_written_alike() {
    for word in [
        "action",
        "credential",
        "model",
        "principal",
        "profile",
        "route",
        "source",
        "tier",
        "principal.org",
        "resource.stage",
        "environment.region",
    ] {
        assert_eq!(KeyPart::parse(word).map(|part| part.to_string()).as_deref(), Some(word));
    }
    for wrong in ["", "org", "user", "principal.", "request.path", "Principal", "action.x"] {
        assert_eq!(KeyPart::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn values_never_run_together() {
    let pair = |org: &str, team: &str| {
        tag_of(&["principal.org", "principal.team"], |identity, _, _| {
            identity.attributes.insert(String::from("org"), Value::Text(org.to_owned()));
            identity.attributes.insert(String::from("team"), Value::Text(team.to_owned()));
        })
        .0
    };
    assert_ne!(pair("a", "bc"), pair("ab", "c"));
    assert_ne!(pair("", "abc"), pair("abc", ""));
    assert_ne!(pair("a\u{1}b", "c"), pair("a", "b\u{1}c"), "a value cannot hold what separates values");
    assert_eq!(pair("a", "bc"), pair("a", "bc"));
}

#[test]
fn a_type_is_part_of_a_value() {
    let of = |value: Value| {
        tag_of(&["principal.x"], |identity, _, _| {
            identity.attributes.insert(String::from("x"), value);
        })
        .0
    };
    let text = |text: &str| String::from(text);
    let tags = [
        of(Value::Text(text("1"))),
        of(Value::Number(1)),
        of(Value::Bool(true)),
        of(Value::List(vec![text("1")])),
        of(Value::List(vec![text("1"), text("")])),
        of(Value::Text(text(""))),
        tag_of(&["principal.x"], |_, _, _| {}).0,
    ];
    for (index, one) in tags.iter().enumerate() {
        assert!(tags.iter().skip(index + 1).all(|other| other != one), "{index}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let (_, missing) = tag_of(
        &[
            "principal",
            "principal.org",
            "credential",
            "model",
            "route",
            "source",
            "tier",
            "profile",
            "action",
        ],
        |_, resource, _| resource.kind = String::from("dataset"),
    );
    assert_eq!(missing, ["principal.org", "credential", "model", "route", "source"]);
}

#[test]
fn sources_are_ipv4_addresses_and_ipv6_networks() {
    assert_eq!(from("::ffff:10.0.0.1"), from("10.0.0.1"));
    assert_ne!(from("10.0.0.1"), from("10.0.0.2"));
    assert_eq!(from("2001:db8:0:1::1"), from("2001:db8:0:1:ffff::2"));
    assert_ne!(from("2001:db8:0:1::1"), from("2001:db8:0:2::1"));
}

#[test]
fn limits_tiers_gates_and_secrets_are_counted_apart() {
    let (of_default, _) = tag_of(&["principal"], |_, _, _| {});
    assert_ne!(overflow_tag(&KEY, "limit", "default"), overflow_tag(&KEY, "limit", "pro"));
    assert_ne!(overflow_tag(&KEY, "limit", "default"), overflow_tag(&KEY, "limi", "tdefault"));
    assert_ne!(overflow_tag(&KEY, "limit", "default"), overflow_tag(&[8; 16], "limit", "default"));
    assert_ne!(overflow_tag(&KEY, "limit", "default"), of_default);
    assert_ne!(derive(b"secret", "a"), derive(b"secret", "b"));
    assert_ne!(derive(b"secret", "a"), derive(b"other", "a"));
}

#[test]
fn workers_agree_on_the_key_that_came_first() {
    let host = FakeHost::default();
    let first = agree("gate", 8, &host).unwrap();
    assert_eq!(agree("gate", 8, &host), Ok(first));
    assert_ne!(agree("other", 8, &host), Ok(first));
    host.shared.borrow_mut().clear();
    host.conflicts.set(1);
    let second = agree("gate", 8, &host).unwrap();
    assert_eq!(agree("gate", 8, &host), Ok(second));
    host.shared.borrow_mut().clear();
    host.conflicts.set(8);
    assert_eq!(agree("gate", 8, &host), Err(Unavailable));
}

#[test]
fn a_spoiled_key_is_replaced_for_all() {
    for spoiled in [vec![], vec![1], vec![2; 17], vec![1; 18]] {
        let host = FakeHost::default();
        host.shared.borrow_mut().insert(String::from("mlgate/1/gate/slots/key"), (spoiled, 3));
        let agreed = agree("gate", 8, &host).unwrap();
        assert_eq!(agree("gate", 8, &host), Ok(agreed));
    }
}
