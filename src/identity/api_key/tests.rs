use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config::faults::Faults;
use crate::identity::AuthenticationError::{Expired, Invalid};
use crate::identity::bindings::Bindings;
use crate::identity::spec::{AuthenticationSpec, ConsumerSpec};
use crate::time::UnixTime;

// digests and check digits were computed with Python's zlib and hashlib
const KEY: &str = "mlg_k7f3a2b9_0123456789ABCDEFGHIJKLMNOPQRSTUV2LJgwY";
const PADDED: &str = "mlg_00000000_00000000000000000000000000000153006fu3";
const DIGEST: &str = "sha256:f43e348ab0d7ecb0cdc83da67e3cefa55ac4f006b72eb151ca886f3bb4b3ec61";
const KEYED: &str = "hmac-sha256:p1:c7528a2b2292e20bd7510c238a7c507bb7dd7640a57b11ace60d2f6ddebbe871";
const NOW: UnixTime = UnixTime::from_millis(1_800_000_000_000);

fn compile(consumers: &serde_json::Value) -> (ApiKeys, Vec<String>) {
    let consumers: Vec<ConsumerSpec> = serde_json::from_value(consumers.clone()).unwrap();
    let authentication: AuthenticationSpec = serde_json::from_value(json!({
        "api_key": { "peppers": [{ "id": "p0", "env": "ZERO" }, { "id": "p1", "env": "ONE" }] }
    }))
    .unwrap();
    let environment = BTreeMap::from([("ZERO", "salt"), ("ONE", "pepper")]);
    let mut faults = Faults::default();
    let keys = ApiKeys::compile(
        &consumers,
        &authentication,
        &Bindings::default(),
        &|role| role == "viewer",
        &|name| environment.get(name).map(ToString::to_string),
        &mut faults,
    );
    (keys, faults.iter().map(|fault| fault.pointer.clone()).collect())
}

fn one(key: &serde_json::Value) -> ApiKeys {
    let consumers = json!([{ "name": "user_1", "roles": ["viewer"], "tier": "pro", "credentials": { "api_keys": [key] } }]);
    let (keys, faults) = compile(&consumers);
    assert!(faults.is_empty(), "{faults:?}");
    keys
}

#[test]
fn the_grammar_is_checked_to_the_last_digit() {
    assert!(ApiKey::parse(KEY.as_bytes()).is_ok());
    assert!(ApiKey::parse(PADDED.as_bytes()).is_ok());
    let wrong = [
        "",
        "mlg_",
        KEY.strip_suffix('Y').unwrap(),
        &format!("{KEY}0"),
        &KEY.replacen('m', " ", 1),
        &KEY.replace("mlg_", "MLG_"),
        &KEY.replace("k7f3a2b9_", "k7f3a2b9-"),
        &KEY.replace("k7f3a2b9", "K7f3a2b9"),
        &KEY.replace('V', "é"),
        &PADDED.replace("006fu3", "6fu300"),
    ];
    for wrong in wrong {
        assert_eq!(ApiKey::parse(wrong.as_bytes()), Err(MalformedKey), "{wrong}");
    }
}

#[test]
fn digests_are_over_the_whole_key() {
    let key = ApiKey::parse(KEY.as_bytes()).unwrap();
    assert_eq!(key.digest().to_string(), DIGEST);
    assert_eq!(key.keyed_digest("p1", &Secret::new("pepper")).to_string(), KEYED);
    for text in [DIGEST, KEYED] {
        assert_eq!(KeyDigest::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn a_key_is_not_shown_by_accident() {
    let key = ApiKey::parse(KEY.as_bytes()).unwrap();
    assert_eq!(format!("{key:?}"), "ApiKey(mlg_k7f3a2b9_..)");
    assert_eq!(key.expose(), KEY);
}

#[test]
fn random_bytes_that_would_favour_a_digit_are_skipped() {
    // 252..=255 are beyond 7 * 36, and 248..=255 beyond 4 * 62
    let mut random = vec![255, 252, 251];
    random.extend([0; 7]);
    random.extend([248, 247, 255]);
    random.extend([1; 31]);
    let key = ApiKey::generate(&random).unwrap();
    assert!(key.expose().starts_with("mlg_z0000000_z1111111111111111111111111111111"));
    assert_eq!(ApiKey::generate(&random[1..]).map(|key| key.id()), Ok(key.id()));
    assert_eq!(ApiKey::generate(&[0; 39]), Err(RandomnessExhausted));
    assert_eq!(ApiKey::generate(&[255; 4096]), Err(RandomnessExhausted));
}

#[test]
fn the_right_key_gives_the_consumer_and_its_scope() {
    for digest in [DIGEST, KEYED] {
        let keys = one(&json!({ "id": "k7f3a2b9", "digest": digest, "models": ["fraud_*"] }));
        let identity = keys.authenticate(KEY.as_bytes(), Listed::None, NOW).unwrap();
        assert_eq!(identity.principal, "user_1");
        assert_eq!(identity.tier, "pro");
        assert_eq!(identity.roles, ["viewer"]);
        assert_eq!((&*identity.credential.method, &*identity.credential.id), ("api_key", "k7f3a2b9"));
        assert_eq!(identity.scope.models.as_deref(), Some([String::from("fraud_*")].as_slice()));
    }
}

#[test]
fn unknown_wrong_and_malformed_keys_are_invalid() {
    let keys = one(&json!({ "id": "k7f3a2b9", "digest": DIGEST }));
    let other = ApiKey::generate(&[7; RANDOM_BYTES]).unwrap();
    let same_id = {
        let mut random: Vec<u8> = b"k7f3a2b9".iter().map(|digit| position(ID_DIGITS, *digit)).collect();
        random.extend([9; 32]);
        ApiKey::generate(&random).unwrap()
    };
    assert_eq!(same_id.id().to_string(), "k7f3a2b9");
    for presented in [PADDED, other.expose(), same_id.expose(), "", "mlg_k7f3a2b9", &KEY.replace('V', "W")] {
        assert_eq!(keys.authenticate(presented.as_bytes(), Listed::None, NOW), Err(Invalid), "{presented}");
    }
    // the pepper that the digest names is the one that counts
    let wrong_pepper = one(&json!({ "id": "k7f3a2b9", "digest": KEYED.replace(":p1:", ":p0:") }));
    assert_eq!(wrong_pepper.authenticate(KEY.as_bytes(), Listed::None, NOW), Err(Invalid));
    // equal to what unknown keys are compared with
    let zeros = format!("sha256:{}", "0".repeat(64));
    let keys = one(&json!({ "id": "k7f3a2b9", "digest": zeros }));
    assert_eq!(keys.authenticate(KEY.as_bytes(), Listed::None, NOW), Err(Invalid));
    assert_eq!(ApiKeys::default().authenticate(KEY.as_bytes(), Listed::None, NOW), Err(Invalid));
}

fn position(digits: &[u8], digit: u8) -> u8 {
    u8::try_from(digits.iter().position(|known| *known == digit).unwrap()).unwrap()
}

#[test]
fn a_key_is_valid_from_its_first_to_before_its_last_moment() {
    let keys = one(&json!({
        "id": "k7f3a2b9", "digest": DIGEST, "not_before": "2026-01-01T00:00:00Z", "not_after": "2026-02-01T00:00:00Z",
    }));
    let at = |text: &str| {
        keys.authenticate(KEY.as_bytes(), Listed::None, UnixTime::parse(text).unwrap()).map(|_| ())
    };
    assert_eq!(at("2025-12-31T23:59:59.999Z"), Err(Invalid));
    assert_eq!(at("2026-01-01T00:00:00Z"), Ok(()));
    assert_eq!(at("2026-01-31T23:59:59.999Z"), Ok(()));
    assert_eq!(at("2026-02-01T00:00:00Z"), Err(Expired));
}

#[test]
fn that_a_key_has_expired_is_said_only_to_its_holder() {
    let wrong = DIGEST.replace("f43e", "0000");
    let keys = one(&json!({ "id": "k7f3a2b9", "digest": wrong, "not_after": "2020-01-01T00:00:00Z" }));
    assert_eq!(keys.authenticate(KEY.as_bytes(), Listed::None, NOW), Err(Invalid));
}

#[test]
fn every_fault_of_consumers_is_reported_with_its_place() {
    let key = |id: &str| json!({ "id": id, "digest": DIGEST });
    let (_, faults) = compile(&json!([
        { "name": "anonymous", "roles": ["viewer", "nobody"], "tier": "" },
        { "name": "a:b", "attributes": { "roles": [], "x": null, "f": 1.5, "a b": 1 } },
        { "name": "", "credentials": { "api_keys": [key("aaaaaaaa"), key("aaaaaaaa"), key("AAAAAAAA"), key("a")] } },
        { "name": "twice" },
        { "name": "twice", "credentials": { "api_keys": [
            { "id": "bbbbbbbb", "digest": "md5:00" },
            { "id": "cccccccc", "digest": KEYED.replace(":p1:", ":p9:") },
            { "id": "dddddddd", "digest": DIGEST.to_uppercase() },
            { "id": "eeeeeeee", "digest": format!("{DIGEST}00") },
            { "id": "ffffffff", "digest": DIGEST, "source_ranges": ["10.0.0.0/8", "10.0.0.1", "::/129"] },
            { "id": "gggggggg", "digest": DIGEST, "models": [], "actions": [], "source_ranges": [] },
            { "id": "hhhhhhhh", "digest": DIGEST, "not_before": "2026-01-01T00:00:00Z", "not_after": "2026-01-01T00:00:00Z" },
        ] } },
    ]));
    let keys = |index: usize, word: &str| format!("/consumers/4/credentials/api_keys/{index}/{word}");
    let expected = [
        "/consumers/0/name".into(),
        "/consumers/0/roles/1".into(),
        "/consumers/0/tier".into(),
        "/consumers/1/name".into(),
        "/consumers/1/attributes/a b".into(),
        "/consumers/1/attributes/f".into(),
        "/consumers/1/attributes/roles".into(),
        "/consumers/1/attributes/x".into(),
        "/consumers/2/name".into(),
        "/consumers/2/credentials/api_keys/1/id".into(),
        "/consumers/2/credentials/api_keys/2/id".into(),
        "/consumers/2/credentials/api_keys/3/id".into(),
        "/consumers/4/name".into(),
        keys(0, "digest"),
        keys(1, "digest"),
        keys(2, "digest"),
        keys(3, "digest"),
        keys(4, "source_ranges/1"),
        keys(4, "source_ranges/2"),
        keys(5, "models"),
        keys(5, "actions"),
        keys(5, "source_ranges"),
        keys(6, "not_after"),
    ];
    assert_eq!(faults, expected);
}

proptest! {
    #[test]
    fn generated_keys_are_well_formed(random in prop::collection::vec(any::<u8>(), 128)) {
        let key = ApiKey::generate(&random).unwrap();
        prop_assert_eq!(ApiKey::parse(key.expose().as_bytes()), Ok(key));
        prop_assert_eq!(key.expose().len(), 51);
    }

    #[test]
    fn one_changed_byte_never_passes(index in 0_usize..51, byte in any::<u8>()) {
        // a CRC-32 finds every error burst of up to 32 bits
        let mut text = KEY.as_bytes().to_vec();
        prop_assume!(text[index] != byte);
        text[index] = byte;
        prop_assert_eq!(ApiKey::parse(&text), Err(MalformedKey));
    }

    #[test]
    fn arbitrary_bytes_are_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let keys = one(&json!({ "id": "k7f3a2b9", "digest": DIGEST }));
        prop_assert_eq!(keys.authenticate(&bytes, Listed::None, NOW), Err(Invalid));
        let _ = KeyDigest::parse(&String::from_utf8_lossy(&bytes));
    }
}
