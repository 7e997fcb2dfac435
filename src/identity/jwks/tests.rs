use proptest::prelude::*;
use serde_json::json;

use super::*;

const N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4\
    d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-\
    KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGN\
    j8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
/// RFC 7515 appendix A.4.
const P521_X: &str =
    "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk";
const P521_Y: &str =
    "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2";
const ED: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

fn rsa_key() -> Json {
    json!({ "kty": "RSA", "kid": "a", "n": N, "e": "AQAB" })
}

fn ec_key() -> Json {
    json!({ "kty": "EC", "crv": "P-256", "kid": "b", "x": X, "y": Y })
}

fn ed_key() -> Json {
    json!({ "kty": "OKP", "crv": "Ed25519", "kid": "c", "x": ED })
}

fn with(key: &Json, name: &str, value: &Json) -> Json {
    let mut key = key.clone();
    key[name] = value.clone();
    key
}

fn served(key: &Json) -> Vec<&'static str> {
    let key = Key::from_jwk(key).unwrap();
    Algorithm::ALL.into_iter().filter(|algorithm| key.serves(*algorithm)).map(Algorithm::name).collect()
}

#[test]
fn a_key_serves_the_algorithms_of_its_kind() {
    assert_eq!(served(&rsa_key()), ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]);
    assert_eq!(served(&with(&rsa_key(), "alg", &json!("RS384"))), ["RS384"]);
    assert_eq!(served(&ec_key()), ["ES256"]);
    assert_eq!(served(&ed_key()), ["EdDSA"]);
    let p521 = json!({ "kty": "EC", "crv": "P-521", "x": P521_X, "y": P521_Y });
    assert_eq!(served(&p521), ["ES512"]);
    assert_eq!(served(&with(&rsa_key(), "alg", &json!("PS256"))), ["PS256"]);
    let secret = Secret::new(*b"0123456789abcdef0123456789abcdef");
    let key = Key::shared("s", &secret, Algorithm::HS256).unwrap();
    assert!(Algorithm::ALL.into_iter().all(|alg| key.serves(alg) == (alg == Algorithm::HS256)));
    for other in [Algorithm::HS384, Algorithm::HS512, Algorithm::RS256, Algorithm::EdDSA] {
        assert!(Key::shared("s", &secret, other).is_none(), "{other:?}");
    }
}

#[test]
fn a_shared_secret_as_a_jwk_is_as_long_as_the_hash() {
    let secret = |bytes: usize, alg: Option<&str>| {
        let mut jwk = json!({ "kty": "oct", "k": "AAAA".repeat(bytes / 3) });
        if let Some(alg) = alg {
            jwk["alg"] = json!(alg);
        }
        Key::from_secret_jwk(&jwk)
            .map(|key| Algorithm::ALL.into_iter().filter(|alg| key.serves(*alg)).count())
    };
    assert_eq!(secret(30, None), Err(InvalidJwk::Short));
    assert_eq!([secret(33, None), secret(48, None), secret(66, None)], [Ok(1), Ok(2), Ok(3)]);
    assert_eq!(secret(66, Some("HS384")), Ok(1));
    assert_eq!(secret(33, Some("HS384")), Err(InvalidJwk::Short));
    assert_eq!(secret(66, Some("RS256")), Err(InvalidJwk::Short));
    assert_eq!(Key::from_secret_jwk(&rsa_key()).err(), Some(InvalidJwk::Kind));
}

#[test]
fn what_is_not_a_public_key_for_signatures_is_refused() {
    use InvalidJwk::{Kind, Member, NotAnObject, Private, Purpose, Weak};
    let oct = json!({ "kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T" });
    for (key, expected) in [
        (json!("key"), NotAnObject),
        (oct, Private),
        (with(&rsa_key(), "d", &json!("AQAB")), Private),
        (with(&ed_key(), "use", &json!("enc")), Purpose),
        (with(&ed_key(), "use", &json!(7)), Member("use")),
        (with(&ed_key(), "key_ops", &json!(["sign"])), Purpose),
        (with(&ed_key(), "key_ops", &json!([])), Purpose),
        (with(&ed_key(), "key_ops", &json!("verify")), Member("key_ops")),
        (with(&ed_key(), "key_ops", &json!(["verify", "verify"])), Member("key_ops")),
        (with(&ed_key(), "crv", &json!("X25519")), Kind),
        (with(&ec_key(), "crv", &json!("P-521")), Member("x")),
        (with(&ec_key(), "crv", &json!("secp256k1")), Kind),
        (with(&rsa_key(), "kty", &json!("rsa")), Kind),
        (json!({}), Kind),
        (with(&rsa_key(), "alg", &json!("ES256")), InvalidJwk::Algorithm),
        (with(&rsa_key(), "alg", &json!("HS256")), InvalidJwk::Algorithm),
        (with(&rsa_key(), "alg", &json!("none")), InvalidJwk::Algorithm),
        (with(&rsa_key(), "alg", &json!("RSA-OAEP")), InvalidJwk::Algorithm),
        (with(&rsa_key(), "e", &json!("AQ")), Weak),
        (with(&rsa_key(), "kid", &json!("k".repeat(257))), Member("kid")),
        (with(&rsa_key(), "kid", &json!(1)), Member("kid")),
        (with(&rsa_key(), "n", &json!(format!("{N}="))), Member("n")),
        (with(&rsa_key(), "n", &json!(format!("AA{N}"))), Member("n")),
        (with(&rsa_key(), "n", &json!("AQAB")), Weak),
        (with(&rsa_key(), "e", &json!("")), Member("e")),
        (with(&rsa_key(), "e", &json!("AAEAAQ")), Member("e")),
        (with(&rsa_key(), "e", &json!("Aw")), Weak),
        (with(&rsa_key(), "e", &json!("AQAA")), Weak),
        (with(&rsa_key(), "e", &json!("AQAAAAE")), Weak),
        (with(&ec_key(), "x", &json!("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVA")), Member("x")),
        (with(&ec_key(), "y", &json!(null)), Member("y")),
        (with(&ec_key(), "y", &json!(X)), Weak),
        (with(&ed_key(), "x", &json!("AA")), Member("x")),
        // the neutral element, a point of order 8, and the neutral element spelt in another way
        (with(&ed_key(), "x", &json!("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")), Weak),
        (with(&ed_key(), "x", &json!("xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5KsA3o")), Weak),
        (with(&ed_key(), "x", &json!("7v_______________________________________38")), Weak),
    ] {
        assert_eq!(Key::from_jwk(&key).err(), Some(expected), "{key}");
    }
}

#[test]
fn a_list_of_operations_that_fills_a_document_takes_one_pass() {
    // as many as fit into 8 MiB: each against each would be a trillion comparisons
    let many: Vec<Json> = (0..1_000_000).map(|number| json!(format!("{number:x}"))).collect();
    assert_eq!(
        Key::from_jwk(&with(&ed_key(), "key_ops", &Json::Array(many))).err(),
        Some(InvalidJwk::Purpose)
    );
    let mixed = with(&ed_key(), "key_ops", &json!(["verify", 1]));
    assert_eq!(Key::from_jwk(&mixed).err(), Some(InvalidJwk::Member("key_ops")));
    assert!(Key::from_jwk(&with(&ed_key(), "key_ops", &json!(["sign", "verify"]))).is_ok());
}

#[test]
fn a_modulus_has_at_least_2048_bits_and_at_most_8192() {
    let modulus = |first: u8, bytes: usize| {
        use base64::Engine as _;
        let mut number = vec![first];
        number.resize(bytes.saturating_sub(1), 0);
        number.push(1);
        let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(number);
        Key::from_jwk(&with(&rsa_key(), "n", &json!(text))).is_ok()
    };
    assert!(modulus(0x80, 256));
    assert!(!modulus(0x7f, 256));
    assert!(modulus(0xff, 1024));
    assert!(!modulus(1, 1025));
}

#[test]
fn one_id_and_algorithm_is_one_key() {
    let mut set = KeySet::empty();
    let key = |json: &Json| Key::from_jwk(json).unwrap();
    assert!(set.insert(key(&rsa_key())));
    assert!(!set.insert(key(&with(&rsa_key(), "alg", &json!("RS256")))));
    // another kind may have the same id (RFC 7517 §4.5)
    assert!(set.insert(key(&with(&ec_key(), "kid", &json!("a")))));
    let ids = |found: Result<Vec<&Key>, NoKey>| {
        found.map(|keys| keys.iter().filter_map(|key| key.id().map(str::to_owned)).collect::<Vec<_>>())
    };
    assert_eq!(ids(set.find(Some("a"), Algorithm::ES256)), Ok(vec![String::from("a")]));
    assert_eq!(set.find(Some("b"), Algorithm::ES256).err(), Some(NoKey::Unknown));
    assert_eq!(ids(set.find(None, Algorithm::RS512)), Ok(vec![String::from("a")]));
    assert_eq!(set.find(None, Algorithm::EdDSA).err(), Some(NoKey::Unknown));
    assert!(set.insert(key(&with(&rsa_key(), "kid", &json!("z")))));
    assert_eq!(ids(set.find(None, Algorithm::RS512)), Ok(vec![String::from("a"), String::from("z")]));
    for more in ["y", "x", "w"] {
        assert!(set.find(None, Algorithm::RS512).is_ok());
        assert!(set.insert(key(&with(&rsa_key(), "kid", &json!(more)))));
    }
    assert_eq!(set.find(None, Algorithm::RS512).err(), Some(NoKey::Ambiguous), "more than are tried");
    assert_eq!(ids(set.find(Some("w"), Algorithm::RS512)), Ok(vec![String::from("w")]));
    assert_eq!(set.len(), 6);
}

proptest! {
    #[test]
    fn no_key_traps(kty in "RSA|EC|OKP|oct", crv in "P-256|P-384|Ed25519|x", n in "[A-Za-z0-9_-]{0,400}", x in "[A-Za-z0-9_-]{43}", y in "[A-Za-z0-9_-]{0,64}") {
        let _ = Key::from_jwk(&json!({ "kty": kty, "crv": crv, "n": n, "e": y, "x": x, "y": y }));
    }
}
