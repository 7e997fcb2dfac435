//! Project Wycheproof's vectors on the filter's own verifier: a JWK (or a secret) and a signature as a JWS carries it.
//!
//! EdDSA and HMAC take the path that the filter takes. RSA and ECDSA take that of `host_or_wasm` where the host cannot,
//! since there is no Envoy here; the host's answers are tested in `integration/tests/jwt.rs`.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "vectors that cannot be read or are wrong should stop the test"
)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mlgate::host::Host as _;
use mlgate::host::fake::FakeHost;
use mlgate::identity::jwks::{Algorithm, Key};
use mlgate::identity::secret::Secret;
use serde_json::{Value as Json, json};
use wycheproof::TestResult::{self, Acceptable, Invalid, Valid};

/// How the vectors of one set were answered.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    /// Right signatures that were believed.
    believed: usize,
    /// Wrong ones that were not.
    refused: usize,
    /// Either answer is right.
    acceptable: usize,
    /// Under keys that no configuration may hold.
    weak: usize,
}

/// Runs one vector; the wrong answer stops the test.
fn judge(
    tally: &mut Tally,
    key: Option<&Key>,
    algorithm: Algorithm,
    text: &[u8],
    signature: &[u8],
    expected: TestResult,
    what: &str,
) {
    let Some(key) = key else { return tally.weak += 1 };
    let answer =
        key.verify(algorithm, text, signature, |check| FakeHost::default().verify_signature(check)).unwrap();
    match (expected, answer) {
        (Valid, true) => tally.believed += 1,
        (Invalid, false) => tally.refused += 1,
        (Acceptable, _) => tally.acceptable += 1,
        (Valid, false) | (Invalid, true) => panic!("{what}: answered {answer}"),
    }
}

fn base64url(bytes: &[u8]) -> Json {
    json!(URL_SAFE_NO_PAD.encode(bytes))
}

/// A number as JWKs hold it.
fn number(bytes: &[u8]) -> Json {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    base64url(&bytes[zeros..])
}

/// A coordinate as JWKs hold it.
fn coordinate(bytes: &[u8], length: usize) -> Json {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = &bytes[zeros..];
    base64url(&[vec![0; length - digits.len()], digits.to_vec()].concat())
}

#[test]
fn rsa_pkcs1() {
    use wycheproof::rsa_pkcs1_verify::{TestName::*, TestSet};
    let sets = [
        (Rsa2048Sha256, Algorithm::RS256),
        (Rsa2048Sha384, Algorithm::RS384),
        (Rsa2048Sha512, Algorithm::RS512),
        (Rsa3072Sha256, Algorithm::RS256),
        (Rsa3072Sha384, Algorithm::RS384),
        (Rsa3072Sha512, Algorithm::RS512),
        (Rsa4096Sha256, Algorithm::RS256),
        (Rsa4096Sha384, Algorithm::RS384),
        (Rsa4096Sha512, Algorithm::RS512),
    ];
    let mut tally = Tally::default();
    for (name, algorithm) in sets {
        for group in TestSet::load(name).unwrap().test_groups {
            let jwk = json!({ "kty": "RSA", "n": number(&group.key.n), "e": number(&group.key.e) });
            let key = Key::from_jwk(&jwk).ok();
            for test in group.tests {
                let what = format!("{name:?} {}", test.tc_id);
                judge(&mut tally, key.as_ref(), algorithm, &test.msg, &test.sig, test.result, &what);
            }
        }
    }
    assert_eq!(tally, Tally { believed: 63, refused: 2253, acceptable: 9, weak: 5 });
}

#[test]
fn rsa_pss() {
    use wycheproof::rsa_pss_verify::{TestName::*, TestSet};
    // `false`: signatures with another salt than the hash is long are none for a JWS, however right they are
    let sets = [
        (RsaPss2048Sha256Mgf1SaltLen32, Algorithm::PS256, true),
        (RsaPss3072Sha256Mgf1SaltLen32, Algorithm::PS256, true),
        (RsaPss4096Sha256Mgf1SaltLen32, Algorithm::PS256, true),
        (RsaPss2048Sha384Mgf1SaltLen48, Algorithm::PS384, true),
        (RsaPss4096Sha384Mgf1SaltLen48, Algorithm::PS384, true),
        (RsaPss4096Sha512Mgf1SaltLen64, Algorithm::PS512, true),
        (RsaPss2048Sha256Mgf1SaltLen0, Algorithm::PS256, false),
        (RsaPss2048Sha256Mgf1Sha1_20, Algorithm::PS256, false),
        (RsaPss4096Sha512Mgf1SaltLen32, Algorithm::PS512, false),
    ];
    let mut tally = Tally::default();
    for (name, algorithm, ours) in sets {
        for group in TestSet::load(name).unwrap().test_groups {
            let jwk = json!({ "kty": "RSA", "n": number(&group.key.n), "e": number(&group.key.e) });
            let key = Key::from_jwk(&jwk).ok();
            for test in group.tests {
                let what = format!("{name:?} {}", test.tc_id);
                let expected = match test.result {
                    Valid if !ours => Invalid,
                    // some of these are wrong there for their salt, and right here
                    _ if !ours => Acceptable,
                    expected => expected,
                };
                judge(&mut tally, key.as_ref(), algorithm, &test.msg, &test.sig, expected, &what);
            }
        }
    }
    assert_eq!(tally, Tally { believed: 511, refused: 530, acceptable: 132, weak: 0 });
}

#[test]
fn ecdsa_p1363() {
    use wycheproof::ecdsa::{TestName::*, TestSet};
    let mut tally = Tally::default();
    for (name, algorithm, curve, length) in [
        (EcdsaSecp256r1Sha256P1363, Algorithm::ES256, "P-256", 32),
        (EcdsaSecp384r1Sha384P1363, Algorithm::ES384, "P-384", 48),
        (EcdsaSecp521r1Sha512P1363, Algorithm::ES512, "P-521", 66),
    ] {
        for group in TestSet::load(name).unwrap().test_groups {
            let (x, y) = (&group.key.affine_x, &group.key.affine_y);
            let jwk =
                json!({ "kty": "EC", "crv": curve, "x": coordinate(x, length), "y": coordinate(y, length) });
            let key = Key::from_jwk(&jwk).unwrap();
            for test in group.tests {
                let what = format!("{name:?} {}", test.tc_id);
                judge(&mut tally, Some(&key), algorithm, &test.msg, &test.sig, test.result, &what);
            }
        }
    }
    assert_eq!(tally, Tally { believed: 597, refused: 263, acceptable: 0, weak: 0 });
}

#[test]
fn eddsa() {
    use wycheproof::eddsa::{TestName, TestSet};
    let mut tally = Tally::default();
    for group in TestSet::load(TestName::Ed25519).unwrap().test_groups {
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(&group.key.pk) });
        let key = Key::from_jwk(&jwk).unwrap();
        for test in group.tests {
            let what = format!("Ed25519 {}", test.tc_id);
            judge(&mut tally, Some(&key), Algorithm::EdDSA, &test.msg, &test.sig, test.result, &what);
        }
    }
    assert_eq!(tally, Tally { believed: 88, refused: 63, acceptable: 0, weak: 0 });
}

#[test]
fn hmac() {
    use wycheproof::mac::{TestName::*, TestSet};
    let mut tally = Tally::default();
    for (name, algorithm, bits) in [
        (HmacSha256, Algorithm::HS256, 256),
        (HmacSha384, Algorithm::HS384, 384),
        (HmacSha512, Algorithm::HS512, 512),
    ] {
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let key = Key::shared("k", &Secret::new(test.key.to_vec()), algorithm);
                // A JWS carries the whole MAC: a right one that was cut short is a wrong one (RFC 7518 §3.2).
                let expected = if group.tag_size == bits { test.result } else { Invalid };
                let what = format!("{name:?} {}", test.tc_id);
                judge(&mut tally, key.as_ref(), algorithm, &test.msg, &test.tag, expected, &what);
            }
        }
    }
    assert_eq!(tally, Tally { believed: 90, refused: 414, acceptable: 0, weak: 18 });
}
