use serde_json::{Value as Json, json};

use super::*;
use crate::identity::AuthenticationError::{Expired, Invalid};

const NOW: UnixTime = UnixTime::from_millis(1_770_000_000_000);

fn compile(change: &Json) -> (Introspection, Vec<String>) {
    let mut spec = json!({
        "name": "idp", "issuer": "https://idp.example", "cluster": "idp", "uri": "https://idp.example/introspect?x=1",
        "client_id": "gate", "client_secret_env": "SECRET",
    });
    spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let specs: Vec<IntrospectionSpec> = serde_json::from_value(json!([spec])).unwrap();
    let mut faults = Faults::default();
    let environment = |name: &str| (name == "SECRET").then(|| String::from("p w:ä%~*"));
    let bindings = Rc::new(Bindings::default());
    let compiled = Introspection::compile(&specs, &bindings, 16 << 10, &environment, "/i", &mut faults);
    (compiled, faults.iter().map(|fault| fault.pointer.clone()).collect())
}

fn question(token: &str) -> Question {
    Question { endpoint: 0, digest: [0; 32], token: UnverifiedToken(token.as_bytes().to_vec()) }
}

fn verdict(change: &Json, members: &Json) -> Verdict {
    let mut answer = json!({ "active": true, "sub": "alice" });
    answer.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let (compiled, faults) = compile(change);
    assert!(faults.is_empty(), "{faults:?}");
    compiled.read(&question("t"), Some(200), Some(answer.to_string().as_bytes()), NOW)
}

#[test]
fn a_token_and_the_gates_credentials_are_encoded_as_a_form() {
    let (compiled, faults) = compile(&json!({ "client_id": "the gate:1" }));
    assert!(faults.is_empty(), "{faults:?}");
    let callout = compiled.callout(&question("a+b/c~d.e_f-g==")).unwrap();
    let body = String::from_utf8(callout.body).unwrap();
    assert_eq!(body, "token=a%2Bb%2Fc%7Ed.e_f-g%3D%3D&token_type_hint=access_token");
    assert_eq!((callout.authority.as_str(), callout.path.as_str()), ("idp.example", "/introspect?x=1"));
    // base64 of `the+gate%3A1:p+w%3A%C3%A4%25%7E*`
    let expected = "Basic dGhlK2dhdGUlM0ExOnArdyUzQSVDMyVBNCUyNSU3RSo=";
    assert!(callout.headers.contains(&("authorization", String::from(expected))), "{:?}", callout.headers);
}

#[test]
fn an_active_token_is_a_caller_when_it_is_for_us_and_now() {
    let nothing = json!({});
    let ours = json!({ "audiences": ["models"] });
    for (change, members, refused) in [
        (&nothing, json!({}), None),
        (&nothing, json!({ "iss": "https://idp.example", "aud": ["x", "y"], "exp": 1_770_000_001 }), None),
        (&nothing, json!({ "iss": "https://evil.example" }), Some(Invalid)),
        (&nothing, json!({ "iss": 1 }), Some(Invalid)),
        (&ours, json!({ "aud": "models" }), None),
        (&ours, json!({ "aud": ["x", "models"] }), None),
        (&ours, json!({ "aud": "other" }), Some(Invalid)),
        (&ours, json!({}), Some(Invalid)),
        (&ours, json!({ "aud": { "models": 1 } }), Some(Invalid)),
        (&nothing, json!({ "exp": 1_769_999_941 }), None),
        (&nothing, json!({ "exp": 1_769_999_940 }), Some(Expired)),
        (&nothing, json!({ "exp": "1770000600" }), Some(Invalid)),
        (&nothing, json!({ "nbf": 1_770_000_061 }), Some(Invalid)),
        (&nothing, json!({ "nbf": 1_770_000_060 }), None),
        (&nothing, json!({ "iat": 1_770_000_061 }), Some(Invalid)),
        (&nothing, json!({ "sub": null }), Some(Invalid)),
        (&nothing, json!({ "sub": "" }), Some(Invalid)),
        (&nothing, json!({ "sub": "a\nb" }), Some(Invalid)),
        (&nothing, json!({ "sub": 7 }), Some(Invalid)),
        (&nothing, json!({ "jti": 7 }), Some(Invalid)),
        (&nothing, json!({ "scope": 7 }), Some(Invalid)),
    ] {
        match (verdict(change, &members), refused) {
            (Verdict::Active(active), None) => assert_eq!(active.identity.principal, "opaque:idp:alice"),
            (Verdict::Refused(error), Some(expected)) => assert_eq!(error, expected, "{members}"),
            (verdict, expected) => panic!("{members}: {verdict:?}, not {expected:?}"),
        }
    }
}

#[test]
fn claims_and_scopes_mean_what_the_words_say() {
    let change = json!({
        "claims": { "subject": "username", "roles": ["realm", "roles"], "tier": "plan", "attributes": { "org": "org" } },
        "scopes": { "models:predict": ["predict"], "models:read": ["read"] },
        "forward": true,
    });
    let members = json!({
        "username": "al", "realm": { "roles": ["a", "b"] }, "plan": "pro", "org": "acme",
        "scope": "openid models:predict", "jti": "j1",
    });
    let Verdict::Active(active) = verdict(&change, &members) else { panic!("refused") };
    let identity = active.identity;
    assert_eq!((identity.principal.as_str(), identity.tier.as_str()), ("opaque:idp:al", "pro"));
    assert_eq!(identity.roles, ["a", "b"]);
    assert_eq!(identity.scope.actions.as_deref(), Some(&[String::from("predict")][..]));
    assert!(identity.credential.forward);
    assert_eq!(identity.credential.issuer.as_deref(), Some("https://idp.example"));
    assert_eq!(identity.credential.scopes, ["openid", "models:predict"]);
}

#[test]
fn an_issuer_that_is_not_configured_is_what_the_answer_says() {
    let open = json!({ "issuer": null });
    let issuer = |change: &Json, members: Json| match verdict(change, &members) {
        Verdict::Active(active) => active.identity.credential.issuer.clone(),
        verdict => panic!("{verdict:?}"),
    };
    let theirs = json!({ "iss": "https://any.example", "jti": "j1" });
    assert_eq!(issuer(&open, theirs).as_deref(), Some("https://any.example"));
    assert_eq!(issuer(&open, json!({ "jti": "j1" })), None);
    assert_eq!(issuer(&json!({}), json!({})).as_deref(), Some("https://idp.example"));
    let long = json!({ "iss": format!("https://{}", "x".repeat(4096)) });
    assert_eq!(verdict(&open, &long), Verdict::Refused(Invalid));
}

#[test]
fn a_list_of_an_answer_has_at_most_256_elements() {
    let change = json!({
        "claims": { "roles": "roles", "attributes": { "org": "org" } },
        "scopes": { "w": ["predict", "read"] },
    });
    let list = |length: usize| Json::Array(vec![json!("w"); length]);
    for (name, most, more) in [
        ("roles", list(256), list(257)),
        ("org", list(256), list(257)),
        ("scope", list(256), list(257)),
        ("scope", json!("w ".repeat(256)), json!("w ".repeat(257))),
    ] {
        let Verdict::Active(active) = verdict(&change, &json!({ name: most })) else { panic!("{name}") };
        if name == "scope" {
            let actions = active.identity.scope.actions.as_deref();
            assert_eq!(actions, Some(&[String::from("predict"), String::from("read")][..]));
        }
        assert_eq!(verdict(&change, &json!({ name: more })), Verdict::Refused(Invalid), "{name}");
    }
}

#[test]
fn an_answer_is_kept_no_longer_than_the_token_lives() {
    let (compiled, _) = compile(&json!({ "cache_duration": "1m" }));
    let until = |members: Json| {
        let verdict = verdict(&json!({}), &members);
        let until = compiled.keep_until(&question("t"), &verdict, NOW);
        until.millis().saturating_sub(NOW.millis())
    };
    assert_eq!(until(json!({})), 60_000);
    assert_eq!(until(json!({ "exp": 1_770_000_030 })), 30_000);
    assert_eq!(until(json!({ "exp": 1_769_999_990 })), -10_000, "within the skew, and never kept");
    assert_eq!(until(json!({ "iss": "https://evil.example" })), 10_000);
}

#[test]
fn what_cannot_be_asked_is_a_fault_at_its_word() {
    for (change, expected) in [
        (json!({ "uri": "idp.example" }), vec!["/i/0/uri"]),
        (json!({ "client_secret_env": "NO" }), vec!["/i/0/client_secret_env"]),
        (json!({ "timeout": "6s", "cache_duration": "6m" }), vec!["/i/0/timeout", "/i/0/cache_duration"]),
        (json!({ "claims": { "attributes": { "roles": "x" } } }), vec!["/i/0/claims/attributes/roles"]),
    ] {
        assert_eq!(compile(&change).1, expected, "{change}");
    }
}

proptest::proptest! {
    #[test]
    fn no_answer_traps(status in proptest::option::of(0_u16..700), body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let (compiled, _) = compile(&json!({}));
        let verdict = compiled.read(&question("t"), status, Some(&body), NOW);
        proptest::prop_assert!(!matches!(verdict, Verdict::Active(_)));
    }
}
