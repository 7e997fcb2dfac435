use proptest::prelude::*;

use super::*;
use crate::audit::canonical::Tree;
use crate::audit::chain::{Chain, MacKey, Signer};

fn sealed(event: &AuditEvent, keyed: bool) -> Vec<u8> {
    let signer = if keyed { Signer::Keyed(MacKey::chain("c1", b"secret").unwrap()) } else { Signer::Unkeyed };
    let mut chain = Chain::new("gate", [1; 16]);
    let draft = event.draft("gate");
    chain.seal(&draft, &signer, &mut Vec::new());
    let mut line = Vec::new();
    chain.seal(&draft, &signer, &mut line);
    line
}

fn canonical_by_the_library(line: &[u8]) -> Vec<u8> {
    let value: serde_json::Value = serde_json::from_slice(line).unwrap();
    serde_json_canonicalizer::to_vec(&value).unwrap()
}

#[test]
fn a_full_event_carries_every_field_under_its_name() {
    let text = |text: &str| Some(String::from(text));
    let list = |texts: &[&str]| texts.iter().map(|text| String::from(*text)).collect::<Vec<_>>();
    let event = AuditEvent::Access(Box::new(AccessEvent {
        timestamp: UnixTime::parse("2026-02-27T10:00:00.25Z").unwrap(),
        decision_id: String::from("0f"),
        request_id: text("r"),
        trace_id: text("t"),
        principal: text("jwt:corp:alice"),
        user_id: text("alice"),
        org: text("acme"),
        roles: list(&["b", "a"]),
        tier: text("pro"),
        team: text("ds"),
        scopes: list(&["models:predict"]),
        credential: Some(CredentialFacts {
            method: String::from("jwt"),
            id: text("k1"),
            issuer: text("https://i"),
            jti: text("j"),
        }),
        via: text("mtls:x"),
        resource: Some(ResourceFacts { kind: String::from("model"), id: String::from("fraud") }),
        model_id: text("fraud"),
        action: text("predict"),
        attributes: BTreeMap::from([
            (
                Category::Resource,
                AttributeMap::from([(String::from("org"), Value::Text(String::from("acme")))]),
            ),
            (
                Category::Principal,
                AttributeMap::from([
                    (String::from("groups"), Value::List(list(&["g"]))),
                    (String::from("level"), Value::Number(-3)),
                    (String::from("admin"), Value::Bool(false)),
                ]),
            ),
            (Category::Environment, AttributeMap::new()),
        ]),
        method: text("POST"),
        host: text("h"),
        route: text("rt"),
        profile: text("default"),
        status: Status::Denied,
        reason: Some("explicit_deny"),
        policies: list(&["p"]),
        shadow: list(&["s"]),
        path: text("/predict"),
        policy_revision: text("aa"),
        http_status: Some(403),
        duration_ms: Some(0),
        input_hash: text("sha256:00"),
        output_hash: text("sha256:01"),
        input_bytes: Some(7),
        output_bytes: Some(8),
        partial: true,
        input_tokens: Some(1),
        output_tokens: Some(2),
        source: text("10.0.0.1"),
        degraded: list(&["limiter"]),
    }));
    let mut draft = event.draft("gate");
    draft.count = Some(4);
    let mut line = Vec::new();
    Chain::new("gate", [1; 16]).seal(&draft, &Signer::Unkeyed, &mut line);
    assert_eq!(
        String::from_utf8(line).unwrap(),
        "{\"action\":\"predict\",\"attributes\":{\"principal\":{\"admin\":false,\"groups\":[\"g\"],\"level\":-3},\
         \"resource\":{\"org\":\"acme\"}},\"chain\":\"gate/01010101010101010101010101010101\",\"count\":4,\
         \"credential\":{\"id\":\"k1\",\"issuer\":\"https://i\",\"jti\":\"j\",\"method\":\"jwt\"},\
         \"decision_id\":\"0f\",\"degraded\":[\"limiter\"],\"duration_ms\":0,\"gate\":\"gate\",\"host\":\"h\",\
         \"http_status\":403,\"input_bytes\":7,\"input_hash\":\"sha256:00\",\"input_tokens\":1,\"mac\":\"unkeyed\",\
         \"method\":\"POST\",\"model_id\":\"fraud\",\"org\":\"acme\",\"output_bytes\":8,\"output_hash\":\"sha256:01\",\
         \"output_tokens\":2,\"partial\":true,\"path\":\"/predict\",\"policies\":[\"p\"],\"policy_revision\":\"aa\",\
         \"principal\":\"jwt:corp:alice\",\"profile\":\"default\",\"reason\":\"explicit_deny\",\"request_id\":\"r\",\
         \"resource\":{\"id\":\"fraud\",\"type\":\"model\"},\"roles\":[\"b\",\"a\"],\"route\":\"rt\",\
         \"scopes\":[\"models:predict\"],\"seq\":0,\"shadow\":[\"s\"],\"source\":\"10.0.0.1\",\"status\":\"denied\",\
         \"team\":\"ds\",\"tier\":\"pro\",\"timestamp\":\"2026-02-27T10:00:00.250Z\",\"trace_id\":\"t\",\
         \"type\":\"access\",\"user_id\":\"alice\",\"v\":1,\"via\":\"mtls:x\"}"
    );
}

#[test]
fn what_is_absent_is_left_out() {
    let line = sealed(&AuditEvent::Access(Box::default()), false);
    let Tree::Object(members) = Tree::parse(&line).unwrap() else { panic!("not an object") };
    let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["chain", "decision_id", "gate", "mac", "prev", "seq", "status", "timestamp", "type", "v"]
    );
}

#[test]
fn an_event_too_large_loses_its_lists_and_says_so() {
    let many: Vec<String> = std::iter::repeat_with(|| "é\u{1}".repeat(5_000)).take(1_000).collect();
    let long = Some("\u{1}".repeat(100_000));
    let access = AccessEvent {
        roles: many.clone(),
        scopes: many.clone(),
        policies: many,
        path: long.clone(),
        host: long.clone(),
        request_id: long,
        ..AccessEvent::default()
    };
    let line = sealed(&AuditEvent::Access(Box::new(access)), true);
    assert!(line.len() < MAX_EVENT_BYTES, "{}", line.len());
    let tree = Tree::parse(&line).unwrap();
    assert_eq!(tree.member("degraded"), Some(&Tree::List(vec![String::from("event_cut")])));
    assert!(tree.text("path").unwrap().ends_with('…'));
    assert_eq!(tree.member("roles"), None);
}

fn text() -> impl Strategy<Value = Option<String>> {
    proptest::option::of(any::<String>())
}

fn list() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(any::<String>(), 0..3)
}

fn attributes() -> impl Strategy<Value = BTreeMap<Category, AttributeMap>> {
    let category = prop_oneof![
        Just(Category::Action),
        Just(Category::Environment),
        Just(Category::Principal),
        Just(Category::Resource)
    ];
    let value = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        list().prop_map(Value::List),
        any::<i64>().prop_map(Value::Number),
        any::<String>().prop_map(Value::Text),
    ];
    proptest::collection::btree_map(
        category,
        proptest::collection::btree_map(any::<String>(), value, 0..6),
        0..4,
    )
}

fn access() -> impl Strategy<Value = AuditEvent> {
    let status =
        prop_oneof![Just(Status::Aborted), Just(Status::Denied), Just(Status::Error), Just(Status::Success)];
    (
        proptest::collection::vec(text(), 22),
        proptest::collection::vec(list(), 5),
        proptest::collection::vec(proptest::option::of(any::<u64>()), 5),
        attributes(),
        status,
        any::<(bool, bool, i64)>(),
    )
        .prop_map(|(mut texts, mut lists, numbers, attributes, status, (resource, partial, millis))| {
            let mut next = || texts.pop().flatten();
            let mut next_list = || lists.pop().unwrap();
            AuditEvent::Access(Box::new(AccessEvent {
                timestamp: UnixTime::from_millis(millis),
                decision_id: next().unwrap_or_default(),
                request_id: next(),
                trace_id: next(),
                principal: next(),
                user_id: next(),
                org: next(),
                roles: next_list(),
                tier: next(),
                team: next(),
                scopes: next_list(),
                credential: resource.then(|| CredentialFacts {
                    method: next().unwrap_or_default(),
                    id: next(),
                    issuer: next(),
                    jti: next(),
                }),
                via: next(),
                resource: resource
                    .then(|| ResourceFacts { kind: next().unwrap_or_default(), id: String::from("id") }),
                model_id: next(),
                action: next(),
                attributes,
                method: next(),
                host: next(),
                route: next(),
                profile: next(),
                status,
                reason: partial.then_some("no_match"),
                policies: next_list(),
                shadow: next_list(),
                path: next(),
                policy_revision: next(),
                http_status: partial.then_some(200),
                duration_ms: numbers[0],
                input_hash: next(),
                output_hash: None,
                input_bytes: numbers[1],
                output_bytes: numbers[2],
                partial,
                input_tokens: numbers[3],
                output_tokens: numbers[4],
                source: None,
                degraded: next_list(),
            }))
        })
}

fn events() -> impl Strategy<Value = AuditEvent> {
    let time = any::<i64>().prop_map(UnixTime::from_millis);
    prop_oneof![
        4 => access(),
        1 => time.clone().prop_map(AuditEvent::Close),
        1 => time.clone().prop_map(AuditEvent::Heartbeat),
        1 => (time.clone(), any::<String>(), text()).prop_map(|(timestamp, version, prev_chain)| {
            AuditEvent::Open(OpenEvent { timestamp, policy_revision: version.clone(), version, prev_chain })
        }),
        1 => (time.clone(), text(), text(), list()).prop_map(|(timestamp, id, change, approved_by)| {
            let prev_policy_revision = id.clone();
            let revision = Some(Revision { id, change, approved_by });
            let policy_revision = String::from("x");
            AuditEvent::Config(ConfigEvent { timestamp, policy_revision, prev_policy_revision, revision })
        }),
        1 => (time, any::<u64>(), proptest::option::of(any::<(u64, u64)>())).prop_map(
            |(timestamp, count, range)| {
                AuditEvent::Gap(GapEvent { timestamp, count, reason: GapReason::Overflow, range })
            }
        ),
    ]
}

proptest! {
    #[test]
    fn every_sealed_event_is_canonical(event in events(), keyed in any::<bool>()) {
        let line = sealed(&event, keyed);
        prop_assert_eq!(String::from_utf8(canonical_by_the_library(&line)), String::from_utf8(line));
    }
}
