//! What libraries take and a gate must not: second spellings of right signatures, keys used for what they are not for,
//! tokens of another kind.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm as Alg;
use mlgate::config::faults::Faults;
use mlgate::identity::jwks::Algorithm;
use mlgate::identity::jwt::{TokenError, Tokens};
use mlgate::identity::spec::AuthenticationSpec;
use rsa::BigUint;
use serde_json::{Value as Json, json};

use crate::gate::*;
use crate::p521;
use crate::tokens::{SECRET, ed25519, p256, p384, rsa, shared};

/// A gate whose filter verifies what the proxy cannot.
fn lenient(words: &Json) -> Gate {
    let (tokens, faults) =
        compiled_with(&json!({ "providers": [changed(words)], "signatures": "host_or_wasm" }));
    assert_eq!(faults, [""; 0]);
    Gate { tokens, ..gate() }
}

fn compiled_with(jwt: &Json) -> (Tokens, Vec<String>) {
    let authentication: AuthenticationSpec = serde_json::from_value(json!({ "jwt": jwt })).unwrap();
    let mut faults = Faults::default();
    let secret = |_: &str| Some(SECRET.repeat(2));
    let tokens = Tokens::compile(
        &[],
        &authentication,
        &std::rc::Rc::default(),
        &mlgate::config::document::BoundsSpec::default(),
        &secret,
        &mut faults,
    );
    (tokens, faults.iter().map(|fault| fault.pointer.clone()).collect())
}

/// A token and the bytes of its signature.
fn apart(token: &str) -> (&str, Vec<u8>) {
    let (text, signature) = token.rsplit_once('.').unwrap();
    (text, URL_SAFE_NO_PAD.decode(signature).unwrap())
}

fn with_signature(token: &str, signature: &[u8]) -> String {
    format!("{}.{}", apart(token).0, URL_SAFE_NO_PAD.encode(signature))
}

/// The tokens of ECDSA with the length of each half of their signatures.
fn ecdsa() -> [(String, usize); 3] {
    [
        (p256().token(Alg::ES256, &claims()), 32),
        (p384().token(Alg::ES384, &claims()), 48),
        (p521::token(&claims()), 66),
    ]
}

fn every_curve() -> Gate {
    let keys = json!({ "keys": [p256().jwk, p384().jwk, p521::jwk()] });
    let words =
        json!({ "local_jwks": keys, "algorithms": ["ES256", "ES384", "ES512"], "hmac_secrets": null });
    gate_of(&[changed(&words)], &json!([]))
}

#[test]
fn rfc_7518_3_4_a_signature_on_a_curve_has_one_length() {
    for (token, half) in ecdsa() {
        assert!(every_curve().verify(&token).is_ok(), "{half}");
        let (_, right) = apart(&token);
        assert_eq!(right.len(), half * 2);
        let (r, s) = right.split_at(half);
        for wrong in [
            Vec::new(),
            right[..right.len() - 1].to_vec(),
            [&right[..], &[0]].concat(),
            [&[0], &right[..]].concat(),
            // zeros in front of both numbers change neither
            [&[0], r, &[0], s].concat(),
            right.repeat(2),
            r.to_vec(),
        ] {
            let refused = every_curve().verify(&with_signature(&token, &wrong)).unwrap_err();
            assert_eq!(refused, TokenError::SignatureWrong, "{half}: {} bytes", wrong.len());
        }
    }
}

#[test]
fn rfc_7518_3_4_der_is_no_signature_of_a_jws() {
    for (token, half) in ecdsa() {
        let (_, right) = apart(&token);
        let (r, s) = right.split_at(half);
        let integer = |number: &[u8]| {
            let number: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
            let sign: &[u8] = if number[0] & 0x80 != 0 { &[0] } else { &[] };
            let length = u8::try_from(number.len() + sign.len()).unwrap();
            [&[2, length], sign, &number[..]].concat()
        };
        let numbers = [integer(r), integer(s)].concat();
        let length = u8::try_from(numbers.len()).unwrap();
        let header = if length < 128 { vec![0x30, length] } else { vec![0x30, 0x81, length] };
        let der = [header, numbers].concat();
        assert_eq!(
            every_curve().verify(&with_signature(&token, &der)).unwrap_err(),
            TokenError::SignatureWrong
        );
    }
}

#[test]
fn a_signature_of_zeros_is_none() {
    // what psychic signatures were made of (CVE-2022-21449)
    for (token, half) in ecdsa() {
        let (_, right) = apart(&token);
        let (r, s) = right.split_at(half);
        let zeros = vec![0; half];
        let one = [&zeros[1..], &[1]].concat();
        for wrong in [
            [&zeros[..], &zeros].concat(),
            [r, &zeros].concat(),
            [&zeros, s].concat(),
            [&one[..], &one].concat(),
            vec![0xff; half * 2],
        ] {
            let refused = every_curve().verify(&with_signature(&token, &wrong)).unwrap_err();
            assert_eq!(refused, TokenError::SignatureWrong, "{half}");
        }
    }
}

#[test]
fn rfc_8032_5_1_7_a_signature_of_ed25519_has_one_spelling() {
    /// The order of the group, little endian.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let token = ed25519().token(Alg::EdDSA, &claims());
    assert!(gate().verify(&token).is_ok());
    let (_, right) = apart(&token);
    let (point, number) = right.split_at(32);
    let mut carry = 0_u16;
    let more: Vec<u8> = number
        .iter()
        .zip(ORDER)
        .map(|(left, right)| {
            let sum = u16::from(*left) + u16::from(right) + carry;
            carry = sum >> 8;
            sum.to_le_bytes()[0]
        })
        .collect();
    assert_eq!(carry, 0, "it still fits into 32 bytes");
    let zero = [0; 32];
    let neutral = [&[1][..], &[0; 31]].concat();
    let high = [&number[..31], &[number[31] | 0x80]].concat();
    for wrong in [
        [point, &more].concat(),
        [point, &high].concat(),
        [point, &zero].concat(),
        [&neutral, number].concat(),
        [&neutral, &zero[..]].concat(),
        [&right[..], &[0]].concat(),
        right[..63].to_vec(),
        Vec::new(),
    ] {
        assert_eq!(refused(&with_signature(&token, &wrong)), TokenError::SignatureWrong);
    }
}

#[test]
fn rfc_8017_5_2_2_a_signature_of_rsa_is_smaller_than_the_modulus() {
    let modulus = BigUint::from_bytes_be(&URL_SAFE_NO_PAD.decode(rsa().jwk["n"].as_str().unwrap()).unwrap());
    let gate = lenient(&json!({ "algorithms": ["RS256", "PS256"], "hmac_secrets": null }));
    for algorithm in [Alg::RS256, Alg::PS256] {
        // one in two has room for the modulus in as many bytes
        let room = (0..100).find_map(|jti| {
            let token = rsa().token(algorithm, &with(&claims(), &json!({ "jti": jti.to_string() })));
            let second = (BigUint::from_bytes_be(&apart(&token).1) + &modulus).to_bytes_be();
            (second.len() == 256).then_some((token, second))
        });
        let (token, second) = room.unwrap();
        assert!(gate.verify(&token).is_ok(), "{algorithm:?}");
        assert_eq!(
            gate.verify(&with_signature(&token, &second)).unwrap_err(),
            TokenError::SignatureWrong,
            "{algorithm:?}"
        );
        let (_, right) = apart(&token);
        for wrong in [&[&[0], &right[..]].concat()[..], &right[1..], &[0; 256], &[0xff; 256], &[]] {
            let refused = gate.verify(&with_signature(&token, wrong)).unwrap_err();
            assert_eq!(refused, TokenError::SignatureWrong, "{algorithm:?}");
        }
    }
}

#[test]
fn pss_is_verified_only_where_it_is_configured() {
    let names = ["PS256", "PS384", "PS512"];
    for (algorithm, name) in [Alg::PS256, Alg::PS384, Alg::PS512].into_iter().zip(names) {
        let token = rsa().token(algorithm, &claims());
        let expected = TokenError::AlgorithmRefused { algorithm: Algorithm::parse(name) };
        assert_eq!(refused(&token), expected);
        let words = json!({ "algorithms": ["RS256", name], "hmac_secrets": null });
        // Envoy's function knows no PSS, so it must not be the one that is asked
        let (_, faults) = compiled_with(&json!({ "providers": [changed(&words)] }));
        assert_eq!(faults, ["/authentication/jwt/providers/0/algorithms"]);
        let gate = lenient(&words);
        assert!(gate.verify(&token).is_ok(), "{name}");
        // the padding is part of the algorithm
        let other =
            rsa().sign(Alg::RS256, &header(&json!({ "alg": name, "kid": "rsa" })), &claims().to_string());
        assert_eq!(gate.verify(&other).unwrap_err(), TokenError::SignatureWrong);
        let other =
            rsa().sign(algorithm, &header(&json!({ "alg": "RS256", "kid": "rsa" })), &claims().to_string());
        assert_eq!(gate.verify(&other).unwrap_err(), TokenError::SignatureWrong);
        // a key that is for one of them is for it alone
        let only = with(&rsa().jwk, &json!({ "alg": "RS256" }));
        let words = with(&words, &json!({ "local_jwks": { "keys": [only] } }));
        assert_eq!(lenient(&words).verify(&token).unwrap_err(), TokenError::KeyUnknown);
    }
}

#[test]
fn rfc_7518_3_2_a_secret_is_as_long_as_the_hash_of_each_algorithm() {
    let secrets = json!([{ "id": "shared", "env": "SECRET" }]);
    let words = json!({ "algorithms": ["HS256", "HS384"], "hmac_secrets": secrets, "local_jwks": null });
    assert_eq!(
        compiled(&[changed(&words)], &json!([])).1,
        ["/authentication/jwt/providers/0/hmac_secrets/0/env"]
    );
    let (tokens, faults) = compiled_with(&json!({ "providers": [changed(&words)] }));
    assert_eq!(faults, [""; 0], "64 bytes serve both");
    let gate = Gate { tokens, ..gate() };
    // under the shorter secret, whatever the algorithm
    let refused = gate.verify(&shared().token(Alg::HS384, &claims())).unwrap_err();
    assert_eq!(refused, TokenError::SignatureWrong);
    let refused = gate.verify(&shared().token(Alg::HS512, &claims())).unwrap_err();
    assert_eq!(refused, TokenError::AlgorithmRefused { algorithm: Some(Algorithm::HS512) });
}

#[test]
fn rfc_8725_3_6_neither_compressed_nor_encrypted() {
    for (parameter, value) in [("zip", "DEF"), ("enc", "A128GCM")] {
        let token = altered(&json!({ parameter: value }), &json!({}));
        assert_eq!(refused(&token), TokenError::HeaderRefused { parameter });
    }
    // five parts are a JWE (RFC 7516 §7.1)
    let good = altered(&json!({}), &json!({}));
    assert_eq!(refused(&format!("{good}.AAAA.AAAA")), TokenError::Malformed);
}

#[test]
fn rfc_8725_3_12_a_token_of_another_kind_is_no_access_token() {
    let of = |typ: &Json, words: &Json| altered(&json!({ "typ": typ }), words);
    let plain = |words: &Json| of(&json!("JWT"), words);
    for (words, refused) in [
        (json!({}), false),
        (json!({ "nonce": "n-1" }), true),
        (json!({ "at_hash": "77QmUPtjPfzWtF2AnpK9RQ" }), true),
        (json!({ "c_hash": "LDktKdoQak3Pk0cnXxCltA" }), true),
        (json!({ "typ": "ID" }), true),
        (json!({ "typ": "Refresh" }), true),
        (json!({ "typ": "Offline" }), true),
        (json!({ "typ": "Logout" }), true),
        (json!({ "typ": "Bearer" }), false),
        (json!({ "typ": "Bearer", "nonce": "n-1" }), false),
        (json!({ "typ": "Bearer", "at_hash": "77QmUPtjPfzWtF2AnpK9RQ" }), true),
        (json!({ "token_use": "id" }), true),
        (json!({ "token_use": "access" }), false),
        (json!({ "token_type": "refresh" }), true),
        (json!({ "token_use": "access", "token_type": "refresh" }), true),
        (json!({ "events": { "http://schemas.openid.net/event/backchannel-logout": {} } }), true),
        (json!({ "typ": "model" }), false),
    ] {
        for typ in [json!("JWT"), Json::Null] {
            let found = gate().verify(&of(&typ, &words)).map(|_| ());
            assert_eq!(found, if refused { Err(TokenError::TypeRefused) } else { Ok(()) }, "{typ} {words}");
        }
        // what its header calls an access token is one (RFC 9068 §2.1)
        assert!(gate().verify(&of(&json!("at+jwt"), &words)).is_ok(), "{words}");
    }
    let only = gate_of(&[changed(&json!({ "token_types": ["at+jwt"] }))], &json!([]));
    assert_eq!(only.verify(&plain(&json!({}))).unwrap_err(), TokenError::TypeRefused);
    assert!(only.verify(&of(&json!("application/at+jwt"), &json!({}))).is_ok());
    assert_eq!(only.host.checks.get(), 0, "no signature work for another type");
    let any = gate_of(&[changed(&json!({ "token_types": ["jwt", "id_token"] }))], &json!([]));
    assert!(any.verify(&plain(&json!({ "nonce": "n-1", "at_hash": "x" }))).is_ok());
    assert_eq!(any.verify(&plain(&json!({ "typ": "Refresh" }))).unwrap_err(), TokenError::TypeRefused);
    assert_eq!(any.verify(&of(&json!("at+jwt"), &json!({}))).unwrap_err(), TokenError::TypeRefused);
}

#[test]
fn a_key_set_in_which_a_member_occurs_twice_is_refused() {
    let document = |jwk: &str| {
        format!(
            r#"{{"version":1,"authentication":{{"jwt":{{"providers":[{{"name":"a","local_jwks":{{"keys":[{jwk}]}}}}]}}}}}}"#
        )
    };
    for (jwk, twice) in [
        (r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#, false),
        (r#"{"kty":"OKP","crv":"Ed25519","x":"AA","x":"BB"}"#, true),
        (r#"{"kty":"OKP","crv":"Ed25519","x":"AA","\u0078":"BB"}"#, true),
    ] {
        let faults =
            mlgate::config::read(document(jwk).as_bytes(), mlgate::config::Format::Json).err().unwrap();
        let at = faults.iter().any(|fault| fault.pointer.contains("/local_jwks/keys/0/x"));
        assert_eq!(at, twice, "{jwk}: {:?}", faults.iter().collect::<Vec<_>>());
    }
}
