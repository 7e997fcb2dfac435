//! The members of audit events, from events that have all of them.

use std::collections::{BTreeMap, BTreeSet};

use mlgate::audit::chain::{Chain, MacKey, Signer};
use mlgate::audit::event::{
    AccessEvent, AuditEvent, ConfigEvent, CredentialFacts, GapEvent, GapReason, OpenEvent, ResourceFacts,
    Revision, Status,
};
use mlgate::policy::attributes::{Category, Value};
use mlgate::time::UnixTime;
use serde_json::Value as Json;

use crate::table;

#[test]
fn each_member_of_each_type_has_its_row() {
    let mut code: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in events() {
        for name in members(&event) {
            code.entry(name).or_default().insert(event.kind().to_owned());
        }
    }
    // Only the queue counts events together, and only these.
    code.entry("count".to_owned()).or_default().insert("access".to_owned());
    let kinds = code.values().flatten().cloned().collect::<BTreeSet<_>>();
    let mut document = BTreeMap::new();
    for row in table("Audit events") {
        let [name, types, ..] = row.as_slice() else { panic!("a short row: {row:?}") };
        let types = match types.as_str() {
            "all" => kinds.clone(),
            types => types.split(", ").map(|kind| kind.trim_matches('`').to_owned()).collect(),
        };
        let known = document.insert(name.trim_matches('`').to_owned(), types);
        assert_eq!(known, None, "{name} twice");
    }
    assert_eq!(document, code, "left: docs/reference.md, right: the code");
}

/// The members of the second event of a chain, `credential.id` for those inside.
fn members(event: &AuditEvent) -> BTreeSet<String> {
    let signer = Signer::Keyed(MacKey::chain("c1", b"key").unwrap());
    let mut chain = Chain::new("gate", [7; 16]);
    let draft = event.draft("gate");
    let _first = chain.seal(&draft, &signer, &mut Vec::new());
    let mut line = Vec::new();
    let _second = chain.seal(&draft, &signer, &mut line);
    let Json::Object(event) = serde_json::from_slice(&line).unwrap() else { panic!("not an object") };
    let mut names = BTreeSet::new();
    for (name, value) in event {
        match value {
            Json::Object(inner) if name != "attributes" => {
                names.extend(inner.keys().map(|inner| format!("{name}.{inner}")));
            }
            _ => {
                names.insert(name);
            }
        }
    }
    names
}

fn events() -> Vec<AuditEvent> {
    let timestamp = UnixTime::from_millis(0);
    let some = || Some("x".to_owned());
    let list = || vec!["x".to_owned()];
    let attributes = BTreeMap::from([("org".to_owned(), Value::Text("acme".to_owned()))]);
    let credential =
        CredentialFacts { method: "api_key".to_owned(), id: some(), issuer: some(), jti: some() };
    // Written out whole: a new member does not compile without its row.
    let access = AccessEvent {
        timestamp,
        decision_id: "00".to_owned(),
        request_id: some(),
        trace_id: some(),
        principal: some(),
        user_id: some(),
        org: some(),
        roles: list(),
        tier: some(),
        team: some(),
        scopes: list(),
        credential: Some(credential),
        via: some(),
        resource: Some(ResourceFacts { kind: "model".to_owned(), id: "m".to_owned() }),
        model_id: some(),
        action: some(),
        attributes: BTreeMap::from([(Category::Principal, attributes)]),
        method: some(),
        host: some(),
        route: some(),
        profile: some(),
        status: Status::Denied,
        reason: Some("no_match"),
        policies: list(),
        shadow: list(),
        path: some(),
        policy_revision: some(),
        http_status: Some(403),
        duration_ms: Some(1),
        input_hash: some(),
        output_hash: some(),
        input_bytes: Some(1),
        output_bytes: Some(1),
        partial: true,
        input_tokens: Some(1),
        output_tokens: Some(1),
        source: some(),
        degraded: list(),
    };
    let revision = Revision { id: some(), change: some(), approved_by: list() };
    let config = ConfigEvent {
        timestamp,
        policy_revision: "x".to_owned(),
        prev_policy_revision: some(),
        revision: Some(revision),
    };
    let open =
        OpenEvent { timestamp, version: "x".to_owned(), policy_revision: "x".to_owned(), prev_chain: some() };
    let gap = GapEvent { timestamp, count: 1, reason: GapReason::Refused, range: Some((1, 2)) };
    vec![
        AuditEvent::Access(Box::new(access)),
        AuditEvent::Close(timestamp),
        AuditEvent::Config(config),
        AuditEvent::Gap(gap),
        AuditEvent::Heartbeat(timestamp),
        AuditEvent::Open(open),
    ]
}
