//! From the bytes to the signature.

use std::rc::Rc;

use jsonwebtoken::Algorithm as Alg;
use mlgate::config::document::BoundsSpec;
use mlgate::config::faults::Faults;
use mlgate::host::HostError;
use mlgate::identity::jwks::Algorithm;
use mlgate::identity::jwt::{TokenError, Tokens};
use mlgate::identity::keyring::Keyrings;
use mlgate::identity::spec::AuthenticationSpec;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::gate::*;
use crate::tokens::{SECRET, confused, ed25519, p256, rsa, shared};

#[test]
fn a_right_token_of_each_algorithm_passes() {
    for (algorithm, pair) in ALL {
        let gate = gate();
        let identity = gate.verify(&pair().token(algorithm, &claims())).unwrap();
        assert_eq!(identity.principal, "jwt:corp:alice", "{algorithm:?}");
        assert_eq!(identity.credential.issuer.as_deref(), Some("https://issuer.example"));
        assert_eq!(identity.credential.token_id.as_deref(), Some("t-1"));
        let by_host = u32::from(!matches!(algorithm, Alg::EdDSA | Alg::HS256));
        assert_eq!(gate.host.checks.get(), by_host, "{algorithm:?}: the host checks what it can");
    }
}

#[test]
fn one_wrong_bit_of_any_part_is_refused() {
    for (algorithm, pair) in ALL {
        let token = pair().token(algorithm, &claims());
        let dots: Vec<usize> = token.match_indices('.').map(|(at, _)| at).collect();
        // the first letter of the signature, one in its middle, and one that carries no unused bits at its end
        for at in [dots[1] + 1, (dots[1] + token.len()) / 2, token.len() - 2] {
            let mut wrong = token.clone().into_bytes();
            wrong[at] = if wrong[at] == b'A' { b'B' } else { b'A' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert_eq!(refused(&wrong), TokenError::SignatureWrong, "{algorithm:?} {at}");
        }
        // other claims under the same signature
        let other = pair().token(algorithm, &with(&claims(), &json!({ "sub": "admin" })));
        let forged = format!("{}{}", &other[..other.rfind('.').unwrap()], &token[dots[1]..]);
        assert_eq!(refused(&forged), TokenError::SignatureWrong, "{algorithm:?}");
        // half of a signature, none, and more than one
        let short = &token[..dots[1] + 1 + (token.len() - dots[1]) / 2 / 4 * 4];
        assert_eq!(refused(short), TokenError::SignatureWrong, "{algorithm:?}");
        assert_eq!(refused(&token[..=dots[1]]), TokenError::SignatureWrong, "{algorithm:?}");
        assert!(gate().verify(&format!("{token}AAAA")).is_err(), "{algorithm:?}");
    }
}

#[test]
fn rfc_8725_2_1_a_token_that_says_none_is_refused() {
    for name in ["none", "None", "NONE", "nOnE"] {
        let token = altered(&json!({ "alg": name }), &json!({}));
        assert_eq!(refused(&token), TokenError::AlgorithmRefused { algorithm: None }, "{name}");
        let unsigned = &token[..=token.rfind('.').unwrap()];
        assert_eq!(refused(unsigned), TokenError::AlgorithmRefused { algorithm: None }, "{name}");
    }
}

#[test]
fn rfc_8725_2_1_a_public_key_is_no_shared_secret() {
    let modulus = rsa().jwk["n"].as_str().unwrap().to_owned();
    for secret in [modulus.into_bytes(), rsa().jwk.to_string().into_bytes()] {
        let token = confused(&secret).sign(
            Alg::HS256,
            &header(&json!({ "alg": "HS256", "kid": "rsa" })),
            &claims().to_string(),
        );
        assert_eq!(refused(&token), TokenError::KeyUnknown);
    }
}

#[test]
fn rfc_8725_3_1_an_algorithm_that_the_provider_does_not_list_is_refused() {
    for (algorithm, pair) in ALL {
        let name = format!("{algorithm:?}");
        let rest: Vec<&str> = ["RS256", "RS384", "RS512", "ES256", "ES384", "EdDSA"]
            .into_iter()
            .filter(|n| **n != name)
            .collect();
        let gate = gate_of(&[changed(&json!({ "algorithms": rest, "hmac_secrets": null }))], &json!([]));
        let expected = TokenError::AlgorithmRefused { algorithm: Algorithm::parse(&name) };
        assert_eq!(gate.verify(&pair().token(algorithm, &claims())).unwrap_err(), expected);
        assert_eq!(gate.host.checks.get(), 0, "no signature work for {name}");
    }
}

#[test]
fn rfc_8725_3_1_a_key_serves_its_own_algorithm_alone() {
    let key = with(&rsa().jwk, &json!({ "alg": "RS256" }));
    let gate = gate_of(&[changed(&json!({ "local_jwks": { "keys": [key] } }))], &json!([]));
    assert!(gate.verify(&rsa().token(Alg::RS256, &claims())).is_ok());
    assert_eq!(gate.verify(&rsa().token(Alg::RS512, &claims())).unwrap_err(), TokenError::KeyUnknown);
    // the id of a key of another kind
    let token = altered(&json!({ "kid": "p256" }), &json!({}));
    assert_eq!(refused(&token), TokenError::KeyUnknown);
}

#[test]
fn rfc_8725_3_8_only_a_configured_issuer_is_believed() {
    for (issuer, expected) in [
        (json!("https://issuer.example/"), TokenError::IssuerUnknown),
        (json!("https://ISSUER.example"), TokenError::IssuerUnknown),
        (json!(""), TokenError::IssuerUnknown),
        (json!(["https://issuer.example"]), invalid("iss")),
        (Json::Null, missing("iss")),
    ] {
        assert_eq!(refused(&altered(&json!({}), &json!({ "iss": issuer }))), expected, "{issuer}");
    }
}

#[test]
fn rfc_8725_3_8_an_issuer_signs_with_its_own_keys() {
    let other = changed(&json!({
        "name": "other", "issuer": "https://other.example", "hmac_secrets": null, "algorithms": ["RS256"],
        "local_jwks": { "keys": [rsa().jwk] },
    }));
    let corp = changed(&json!({ "local_jwks": { "keys": [p256().jwk] } }));
    let gate = gate_of(&[corp, other], &json!([]));
    assert!(gate.verify(&p256().token(Alg::ES256, &claims())).is_ok());
    assert_eq!(gate.verify(&rsa().token(Alg::RS256, &claims())).unwrap_err(), TokenError::KeyUnknown);
    let theirs = with(&claims(), &json!({ "iss": "https://other.example" }));
    assert_eq!(gate.verify(&rsa().token(Alg::RS256, &theirs)).unwrap().principal, "jwt:other:alice");
    let refused = gate.verify(&p256().token(Alg::ES256, &theirs)).unwrap_err();
    assert_eq!(refused, TokenError::AlgorithmRefused { algorithm: Some(Algorithm::ES256) });
}

#[test]
fn rfc_8725_3_10_a_token_brings_neither_keys_nor_places_of_keys() {
    for parameter in ["jwk", "jku", "x5u", "x5c"] {
        let token = altered(&json!({ parameter: "https://attacker.example" }), &json!({}));
        assert_eq!(refused(&token), TokenError::HeaderRefused { parameter });
    }
    for kid in [json!(7), json!("k".repeat(257)), json!(["ed25519"])] {
        let token = altered(&json!({ "kid": kid }), &json!({}));
        assert_eq!(refused(&token), TokenError::HeaderRefused { parameter: "kid" });
    }
    for kid in ["../ed25519", "ed25519'--", "ED25519", ""] {
        assert_eq!(refused(&altered(&json!({ "kid": kid }), &json!({}))), TokenError::KeyUnknown, "{kid}");
    }
}

#[test]
fn rfc_8725_3_11_a_token_of_another_type_is_refused() {
    for kind in ["secevent+jwt", "dpop+jwt", "id_token", "logout+jwt", "JOSE", ""] {
        assert_eq!(refused(&altered(&json!({ "typ": kind }), &json!({}))), TokenError::TypeRefused, "{kind}");
    }
    for kind in [json!("JWT"), json!("at+JWT"), json!("application/at+jwt"), Json::Null] {
        assert!(gate().verify(&altered(&json!({ "typ": kind }), &json!({}))).is_ok(), "{kind}");
    }
    let token = altered(&json!({ "typ": 7 }), &json!({}));
    assert_eq!(refused(&token), TokenError::HeaderRefused { parameter: "typ" });
}

#[test]
fn rfc_7515_4_1_11_what_we_must_understand_and_do_not_is_refused() {
    for (parameter, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("cty", json!("JWT")),
    ] {
        let token = altered(&json!({ parameter: value }), &json!({}));
        assert_eq!(refused(&token), TokenError::HeaderRefused { parameter });
    }
}

#[test]
fn only_three_parts_of_strict_base64url_are_a_token() {
    let good = altered(&json!({}), &json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let (head, payload, signature) = (parts[0], parts[1], parts[2]);
    // 64 bytes leave four unused bits in the last letter: another letter is another spelling of the same signature
    let (start, last) = signature.split_at(signature.len() - 1);
    let respelt = format!("{start}{}", char::from(last.as_bytes()[0] + 1));
    for wrong in [
        String::new(),
        String::from(".."),
        String::from("..."),
        format!("{head}.{payload}"),
        format!("{good}."),
        format!("{good}.{signature}"),
        format!(".{good}"),
        format!("{good}="),
        format!("{good} "),
        format!("{head}=.{payload}.{signature}"),
        format!("{head}.{payload}.{respelt}"),
        format!("{head}.{payload}.{}", signature.replace(['-', '_'], "+")).replacen("..", ".+.", 1) + "+",
        format!("{head}.{payload}.\u{e9}"),
        ed25519().sign(Alg::EdDSA, "[]", &claims().to_string()),
        ed25519().sign(Alg::EdDSA, "", &claims().to_string()),
        ed25519().sign(Alg::EdDSA, &header(&json!({})), "\"alice\""),
        ed25519().sign(Alg::EdDSA, &header(&json!({})), &format!("{} ", claims())[1..]),
        ed25519().sign(Alg::EdDSA, &header(&json!({})), &format!("{}{}", claims(), claims())),
        ed25519().sign(Alg::EdDSA, &header(&json!({ "deep": deep(17) })), &claims().to_string()),
    ] {
        assert_eq!(refused(&wrong), TokenError::Malformed, "{wrong}");
    }
    let token = ed25519().sign(Alg::EdDSA, &header(&json!({ "alg": null })), &claims().to_string());
    assert_eq!(refused(&token), TokenError::HeaderRefused { parameter: "alg" });
    assert!(gate().verify(&altered(&json!({ "deep": deep(14) }), &json!({}))).is_ok());
}

fn deep(levels: usize) -> Json {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

#[test]
fn a_token_is_no_larger_than_the_bound() {
    let padded = |length: usize| altered(&json!({}), &json!({ "p": "x".repeat(length) }));
    let fits = (16 << 10) - 700;
    assert!(gate().verify(&padded(fits * 3 / 4)).is_ok());
    assert_eq!(refused(&padded(16 << 10)), TokenError::TooLarge);
}

#[test]
fn a_token_that_names_no_key_is_tried_with_a_few() {
    let token = altered(&json!({ "kid": null }), &json!({}));
    assert!(gate().verify(&token).is_ok());
    let others = |count: usize| {
        // the key of RFC 8032 §7.1, test 2
        let other =
            json!({ "kty": "OKP", "crv": "Ed25519", "x": "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw" });
        let mut keys = vec![other; count];
        keys.push(ed25519().jwk);
        gate_of(&[changed(&json!({ "local_jwks": { "keys": keys } }))], &json!([]))
    };
    assert!(others(3).verify(&token).is_ok());
    assert_eq!(others(4).verify(&token).unwrap_err(), TokenError::KeyAmbiguous);
    assert!(others(4).verify(&altered(&json!({}), &json!({}))).is_ok());
    let forged = ed25519().sign(Alg::EdDSA, &header(&json!({ "kid": null })), &claims().to_string());
    let forged = format!("{}AAAA", &forged[..forged.len() - 4]);
    assert!(matches!(others(3).verify(&forged), Err(TokenError::SignatureWrong | TokenError::Malformed)));
}

#[test]
fn a_host_that_cannot_say_is_no_permission() {
    let gate = gate();
    gate.host.verifies_nothing.set(true);
    let token = rsa().token(Alg::RS256, &claims());
    assert_eq!(gate.verify(&token).unwrap_err(), TokenError::Unverifiable(HostError::NotFound));
    assert!(gate.verified.borrow().is_empty());
    // what the filter verifies itself does not need the host
    assert!(gate.verify(&ed25519().token(Alg::EdDSA, &claims())).is_ok());
    assert!(gate.verify(&shared().token(Alg::HS256, &claims())).is_ok());
}

#[test]
fn where_it_is_configured_the_filter_verifies_what_the_host_cannot() {
    let authentication: AuthenticationSpec =
        serde_json::from_value(json!({ "jwt": { "providers": [provider()], "signatures": "host_or_wasm" } }))
            .unwrap();
    let secret = |_: &str| Some(SECRET.to_owned());
    let tokens = Tokens::compile(
        &[],
        &authentication,
        &Rc::default(),
        &BoundsSpec::default(),
        &secret,
        &mut Faults::default(),
    );
    let gate = Gate { tokens, ..gate() };
    gate.host.verifies_nothing.set(true);
    for (algorithm, pair) in ALL {
        assert!(gate.verify(&pair().token(algorithm, &claims())).is_ok(), "{algorithm:?}");
        let mut wrong = pair().token(algorithm, &claims());
        wrong.replace_range(wrong.len() - 8..wrong.len() - 4, "AAAA");
        assert_eq!(gate.verify(&wrong).unwrap_err(), TokenError::SignatureWrong, "{algorithm:?}");
    }
}

#[test]
fn nothing_of_a_token_is_in_an_error() {
    let token = altered(&json!({ "typ": "s3cret" }), &json!({}));
    let error = refused(&token);
    assert!(!format!("{error} {error:?}").contains("s3cret"));
    assert!(format!("{:?}", gate().tokens).contains("SharedSecret(Secret(..))"));
    assert!(!format!("{:?}", gate().tokens).contains(SECRET));
}

proptest! {
    #[test]
    fn no_bytes_trap(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let gate = gate();
        prop_assert!(gate.tokens.verify(&bytes, &gate.verified, &Keyrings::default(), &gate.host).is_err());
    }

    #[test]
    fn no_three_parts_trap(header in ".{0,60}", claims in ".{0,60}", signature in "[A-Za-z0-9_-]{0,90}") {
        let token = ed25519().sign(Alg::EdDSA, &header, &claims);
        prop_assert!(gate().verify(&token).is_err());
        let at = token.rfind('.').unwrap();
        let forged = format!("{}.{signature}", &token[..at]);
        prop_assert!(gate().verify(&forged).is_err());
    }

    #[test]
    fn no_change_of_a_right_token_passes(at in 0_usize..400, byte in any::<u8>()) {
        let token = ed25519().token(Alg::EdDSA, &claims());
        let mut changed = token.clone().into_bytes();
        let at = at % changed.len();
        prop_assume!(changed[at] != byte);
        changed[at] = byte;
        let gate = gate();
        prop_assert!(gate.tokens.verify(&changed, &gate.verified, &Keyrings::default(), &gate.host).is_err());
    }
}
