use serde_json::{Value as Json, json};

use super::*;
use crate::config::{Format, load};
use crate::identity::api_key::{ApiKey, Listed};
use crate::identity::{AuthenticationError, Identity};
use crate::time::UnixTime;

const NOW: UnixTime = UnixTime::from_millis(1_800_000_000_000);

fn key(seed: u8) -> ApiKey {
    ApiKey::generate(&[seed; 64]).unwrap()
}

fn entry(key: &ApiKey) -> Json {
    json!({ "id": key.id().to_string(), "digest": key.digest().to_string() })
}

/// A configuration with the key 1 of `user_1`.
fn config() -> Config {
    let document = json!({
        "version": 1,
        "name": "gate",
        "consumers": [{
            "name": "user_1", "roles": ["viewer"], "tier": "pro", "attributes": { "org": "acme", "clearance": 2 },
            "credentials": { "api_keys": [entry(&key(1))] },
        }],
        "bindings": [{ "principal": { "id": "*" }, "attributes": { "bound": "yes" } }],
        "authentication": {
            "api_key": { "peppers": [{ "id": "p1", "env": "PEPPER" }] },
            "credentials_list": { "cluster": "control", "uri": "http://control/keys.json" },
        },
        "resources": { "rules": [{ "preset": "openai" }] },
        "authorization": {
            "roles": { "viewer": { "permissions": ["read"] } },
            "attributes": { "principal.level": { "type": "number" } },
        },
        "audit": { "collector": { "cluster": "audit" }, "chain": { "unkeyed": true } },
    });
    load(document.to_string().as_bytes(), Format::Json, &|_| Some(String::from("pepper"))).unwrap()
}

fn read(config: &Config, list: &str) -> Result<ApiKeys, Vec<String>> {
    let (_, reader) = config.lists.credentials.as_ref().unwrap();
    let pointers = |faults: Faults| faults.iter().map(|fault| fault.pointer.clone()).collect();
    reader.read(list.as_bytes(), &config.api_keys).map_err(pointers)
}

fn list(consumers: &Json) -> String {
    json!({ "version": 1, "consumers": consumers }).to_string()
}

fn caller(config: &Config, list: &ApiKeys, key: &ApiKey) -> Result<Rc<Identity>, AuthenticationError> {
    config.api_keys.authenticate(key.expose().as_bytes(), Listed::Known(list), NOW)
}

#[test]
fn a_list_adds_consumers_and_adds_keys_to_those_of_the_configuration() {
    let config = config();
    let pepper = key(4).keyed_digest("p1", &crate::identity::secret::Secret::new("pepper"));
    let list = read(
        &config,
        &list(&json!([
            { "name": "user_1", "credentials": { "api_keys": [entry(&key(2))] } },
            { "name": "user_9", "roles": ["viewer"], "attributes": { "org": "widgets", "new": true }, "credentials": { "api_keys": [
                entry(&key(3)),
                { "id": key(4).id().to_string(), "digest": pepper.to_string(), "not_after": "2026-01-01T00:00:00Z" },
            ] } },
        ])),
    )
    .unwrap();
    let known = caller(&config, &list, &key(2)).unwrap();
    assert_eq!((known.principal.as_str(), known.tier.as_str()), ("user_1", "pro"));
    assert_eq!(known.credential.id, key(2).id().to_string());
    let listed = caller(&config, &list, &key(3)).unwrap();
    assert_eq!((listed.principal.as_str(), listed.tier.as_str()), ("user_9", "default"));
    assert_eq!(listed.roles, ["viewer"]);
    assert!(listed.attributes.contains_key("bound"), "bindings are for everybody");
    assert_eq!(caller(&config, &list, &key(4)), Err(AuthenticationError::Expired), "under a pepper");
    assert_eq!(caller(&config, &list, &key(5)), Err(AuthenticationError::Invalid));
    assert!(caller(&config, &list, &key(1)).is_ok(), "its own key");
}

#[test]
fn what_the_configuration_would_not_take_refuses_the_list_whole() {
    let config = config();
    let other = entry(&key(2));
    for (consumers, pointer) in [
        (json!([{ "name": "user_9", "roles": ["admin"] }]), "/consumers/0/roles/0"),
        (json!([{ "name": "user_1", "tier": "free" }]), "/consumers/0"),
        (json!([{ "name": "user_1", "roles": ["viewer"] }]), "/consumers/0"),
        (json!([{ "name": "user_1", "attributes": { "org": "other" } }]), "/consumers/0"),
        (json!([{ "name": "user_9" }, { "name": "user_9" }]), "/consumers/1/name"),
        (json!([{ "name": "anonymous" }]), "/consumers/0/name"),
        (
            json!([{ "name": "user_9", "attributes": { "clearance": "high" } }]),
            "/consumers/0/attributes/clearance",
        ),
        (json!([{ "name": "user_9", "attributes": { "level": "2" } }]), "/consumers/0/attributes/level"),
        (json!([{ "name": "user_9", "attributes": { "id": "user_1" } }]), "/consumers/0/attributes/id"),
        // another's key, twice the same key, and a digest under a pepper that nobody has
        (
            json!([{ "name": "user_9", "credentials": { "api_keys": [entry(&key(1))] } }]),
            "/consumers/0/credentials/api_keys/0/id",
        ),
        (
            json!([{ "name": "user_9", "credentials": { "api_keys": [other, other] } }]),
            "/consumers/0/credentials/api_keys/1/id",
        ),
        (
            json!([{ "name": "user_9", "credentials": { "api_keys": [{ "id": "aaaaaaaa", "digest": format!("hmac-sha256:p2:{}", "0".repeat(64)) }] } }]),
            "/consumers/0/credentials/api_keys/0/digest",
        ),
        (
            json!([{ "name": "user_9", "credentials": { "mtls": [{ "dns_san": "a" }] } }]),
            "/consumers/0/credentials/mtls",
        ),
        (json!([{ "name": "user_9", "credentials": { "jwt": [] } }]), "/consumers/0/credentials/jwt"),
        (json!([{ "name": "user_9", "password": "x" }]), "/consumers/0/password"),
        (json!({ "name": "user_9" }), "/consumers"),
    ] {
        assert_eq!(read(&config, &list(&consumers)).unwrap_err(), [pointer], "{consumers}");
    }
    for (text, pointer) in [
        ("", ""),
        ("<html>", ""),
        ("{\"version\":1,\"consumers\":[", ""),
        ("{\"version\":1}", "/consumers"),
        ("{\"consumers\":[]}", "/version"),
        ("{\"version\":2,\"consumers\":[]}", "/version"),
        ("{\"version\":1,\"consumers\":[],\"consumers\":[]}", "/consumers"),
    ] {
        assert_eq!(read(&config, text).unwrap_err(), [pointer], "{text}");
    }
}

#[test]
fn a_key_may_move_into_the_configuration_without_a_gap() {
    let config = config();
    let same = list(&json!([{ "name": "user_1", "credentials": { "api_keys": [entry(&key(1))] } }]));
    let listed = read(&config, &same).unwrap();
    assert!(listed.is_empty());
    assert!(caller(&config, &listed, &key(1)).is_ok());
}

#[test]
fn no_fault_repeats_a_key_or_a_digest() {
    let config = config();
    let whole = key(2).expose().to_owned();
    let consumers = json!([{ "name": "user_9", "credentials": { "api_keys": [
        { "id": whole, "digest": whole },
        { "id": key(3).id().to_string(), "digest": format!("{}0", key(3).digest()) },
    ] } }]);
    let (_, reader) = config.lists.credentials.as_ref().unwrap();
    let faults = reader.read(list(&consumers).as_bytes(), &config.api_keys).unwrap_err();
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(told.len() >= 3, "{told:?}");
    for told in told {
        assert!(!told.contains(&whole) && !told.contains(&key(3).digest().to_string()), "{told}");
    }
}
