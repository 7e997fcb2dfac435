//! What a token says, what is remembered of it, and what becomes of it.

use jsonwebtoken::Algorithm as Alg;
use mlgate::identity::jwt::TokenError;
use mlgate::policy::attributes::Value;
use mlgate::time::UnixTime;
use serde_json::{Value as Json, json};

use crate::gate::*;
use crate::tokens::{ed25519, rsa};

#[test]
fn rfc_8725_3_9_a_token_for_somebody_else_is_refused() {
    for (audience, expected) in [
        (json!("model-gateway2"), TokenError::AudienceRefused),
        (json!(["a", "b"]), TokenError::AudienceRefused),
        (json!([]), TokenError::AudienceRefused),
        (json!(["model-gateway", 7]), invalid("aud")),
        (json!({ "model-gateway": true }), invalid("aud")),
        (Json::Null, missing("aud")),
    ] {
        assert_eq!(refused(&altered(&json!({}), &json!({ "aud": audience }))), expected, "{audience}");
    }
    let token = altered(&json!({}), &json!({ "aud": ["a", "model-gateway"] }));
    assert!(gate().verify(&token).is_ok());
}

#[test]
fn rfc_8725_2_4_a_member_that_occurs_twice_is_refused() {
    let twice = r#"{"alg":"EdDSA","alg":"HS256","kid":"ed25519"}"#;
    assert_eq!(refused(&ed25519().sign(Alg::EdDSA, twice, &claims().to_string())), TokenError::Malformed);
    for twice in
        [r#""sub":"bob","sub":"alice""#, r#""a":{"b":[{"c":1,"c":2}]}"#, r#""\u0073ub":"bob","sub":"alice""#]
    {
        let text =
            claims().to_string().replacen('{', &format!("{{{twice},"), 1).replace(r#","sub":"alice","#, ",");
        assert_eq!(
            refused(&ed25519().sign(Alg::EdDSA, &header(&json!({})), &text)),
            TokenError::Malformed,
            "{text}"
        );
    }
}

#[test]
fn a_time_of_the_wrong_type_is_no_absent_time() {
    for claim in ["exp", "nbf", "iat"] {
        for wrong in [json!("1900000000"), json!(-1), json!(1e300), json!(true), json!([]), json!({})] {
            let token = altered(&json!({}), &json!({ claim: wrong }));
            assert_eq!(refused(&token), invalid(claim), "{claim} {wrong}");
        }
        // a null cannot be written with `altered`, which takes it for absence
        let text = with(&claims(), &json!({ claim: 0 }))
            .to_string()
            .replace(&format!("\"{claim}\":0"), &format!("\"{claim}\":null"));
        assert_eq!(refused(&ed25519().sign(Alg::EdDSA, &header(&json!({})), &text)), invalid(claim));
    }
    assert_eq!(refused(&altered(&json!({}), &json!({ "exp": null }))), missing("exp"));
    let gate = gate();
    assert!(gate.verify(&altered(&json!({}), &json!({ "nbf": null, "iat": null }))).is_ok());
    let fraction = altered(&json!({}), &json!({ "exp": 1_800_000_000.5, "jti": null }));
    assert!(gate.at(NOW + 60).verify(&fraction).is_ok());
    assert!(gate.at(NOW + 61).verify(&fraction).is_err());
}

#[test]
fn times_hold_to_the_skew_and_not_beyond() {
    let token = altered(&json!({}), &json!({ "nbf": NOW, "iat": NOW, "exp": NOW + 300 }));
    let seconds = |seconds: i64| UnixTime::from_millis(seconds * 1000);
    for (now, expected) in [
        (NOW - 61, Err(TokenError::NotYetValid { at: seconds(NOW), now: seconds(NOW - 61) })),
        (NOW - 60, Ok(())),
        (NOW + 359, Ok(())),
        (NOW + 360, Err(TokenError::Expired { at: seconds(NOW + 300), now: seconds(NOW + 360) })),
    ] {
        assert_eq!(gate().at(now).verify(&token).map(|_| ()), expected, "{}", now - NOW);
    }
    let token = altered(&json!({}), &json!({ "nbf": null, "iat": NOW }));
    let expected = TokenError::IssuedLater { at: seconds(NOW), now: seconds(NOW - 61) };
    assert_eq!(gate().at(NOW - 61).verify(&token).unwrap_err(), expected);
    let exact = gate_of(&[changed(&json!({ "clock_skew": "1ms" }))], &json!([]));
    assert!(exact.at(NOW + 299).verify(&altered(&json!({}), &json!({}))).is_ok());
    assert!(exact.at(NOW + 301).verify(&altered(&json!({}), &json!({}))).is_err());
}

#[test]
fn a_token_that_lives_too_long_is_refused() {
    let gate = gate_of(&[changed(&json!({ "max_lifetime": "15m" }))], &json!([]));
    let lives = |seconds: i64| altered(&json!({}), &json!({ "iat": NOW, "exp": NOW + seconds }));
    assert!(gate.verify(&lives(900)).is_ok());
    assert_eq!(gate.verify(&lives(901)).unwrap_err(), TokenError::LivesTooLong);
    assert_eq!(gate.verify(&altered(&json!({}), &json!({ "iat": null }))).unwrap_err(), missing("iat"));
}

#[test]
fn a_token_needs_a_subject() {
    for (subject, expected) in [
        (Json::Null, missing("sub")),
        (json!(""), invalid("sub")),
        (json!(7), invalid("sub")),
        (json!(["alice"]), invalid("sub")),
        (json!("a\r\nb"), invalid("sub")),
        (json!("a".repeat(257)), invalid("sub")),
    ] {
        assert_eq!(refused(&altered(&json!({}), &json!({ "sub": subject }))), expected, "{subject}");
    }
    assert_eq!(refused(&altered(&json!({}), &json!({ "jti": 7 }))), invalid("jti"));
    assert_eq!(refused(&altered(&json!({}), &json!({ "jti": "j".repeat(257) }))), invalid("jti"));
}

#[test]
fn a_verified_token_is_remembered_and_its_time_is_not() {
    let gate = gate();
    let token = rsa().token(Alg::RS256, &claims());
    for _ in 0..3 {
        assert!(gate.verify(&token).is_ok());
    }
    assert_eq!(gate.host.checks.get(), 1);
    assert!(gate.at(NOW + 299).verify(&token).is_ok());
    assert!(gate.at(NOW + 301).verify(&token).is_ok());
    assert_eq!(gate.host.checks.get(), 2, "five minutes are over");
    assert!(matches!(gate.at(NOW + 360).verify(&token), Err(TokenError::Expired { .. })));
    // a wrong token never gets in
    let mut wrong = token.clone();
    wrong.replace_range(wrong.len() - 8..wrong.len() - 4, "AAAA");
    for _ in 0..2 {
        assert_eq!(gate.at(NOW).verify(&wrong).unwrap_err(), TokenError::SignatureWrong);
    }
    assert_eq!(gate.verified.borrow().len(), 1);
}

#[test]
fn claims_become_roles_tier_and_attributes() {
    let mapped = changed(&json!({
        "claims": {
            "subject": "preferred_username",
            "roles": ["realm_access", "roles"],
            "scopes": "scp",
            "tier": "https://acme.example/plan",
            "attributes": { "org": "org", "groups": "groups", "level": "level", "staff": "staff", "absent": ["a", "b"] },
        },
        "scopes": { "models:predict": ["predict"], "models:read": ["read", "predict"] },
    }));
    let gate = gate_of(&[mapped], &json!([]));
    let full = json!({
        "preferred_username": "al:ice", "realm_access": { "roles": ["data_scientist", "viewer"] },
        "scp": "openid models:predict models:read", "https://acme.example/plan": "pro",
        "org": "acme", "groups": ["/ml"], "level": 3, "staff": true,
    });
    let identity = gate.verify(&altered(&json!({}), &full)).unwrap();
    assert_eq!((identity.principal.as_str(), identity.name.as_str()), ("jwt:corp:al:ice", "al:ice"));
    assert_eq!(identity.roles, ["data_scientist", "viewer"]);
    assert_eq!(identity.tier, "pro");
    let attributes: Vec<_> =
        identity.attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    assert_eq!(
        attributes,
        [
            ("groups", Value::List(vec![String::from("/ml")])),
            ("level", Value::Number(3)),
            ("org", Value::Text(String::from("acme"))),
            ("staff", Value::Bool(true)),
        ]
    );
    assert_eq!(identity.scope.actions.as_deref(), Some(&[String::from("predict"), String::from("read")][..]));
    assert_eq!(identity.credential.scopes, ["openid", "models:predict", "models:read"]);
    // without scopes a map of scopes allows nothing
    let identity = gate.verify(&altered(&json!({}), &with(&full, &json!({ "scp": null })))).unwrap();
    assert_eq!(identity.scope.actions.as_deref(), Some(&[][..]));
    // a claim of another type is an error, not absence
    for (claim, wrong, name) in [
        ("preferred_username", json!(7), "preferred_username"),
        ("realm_access", json!("admin"), "realm_access.roles"),
        ("realm_access", json!({ "roles": [7] }), "realm_access.roles"),
        ("scp", json!(7), "scp"),
        ("https://acme.example/plan", json!(["pro"]), "https://acme.example/plan"),
        ("org", json!({}), "org"),
        ("level", json!(1.5), "level"),
    ] {
        let token = altered(&json!({}), &with(&full, &json!({ claim: wrong })));
        assert_eq!(gate.verify(&token).unwrap_err(), invalid(name));
    }
}

#[test]
fn what_the_configuration_says_of_a_consumer_wins() {
    let consumers = json!([{
        "name": "user_1", "roles": ["analyst"], "tier": "pro", "attributes": { "org": "acme" },
        "credentials": { "jwt": [{ "provider": "corp", "subject": "alice" }] },
    }, {
        "name": "user_2", "credentials": { "jwt": [{ "provider": "corp", "subject": "bob" }] },
    }]);
    let mapping = json!({ "roles": "roles", "tier": "plan", "attributes": { "org": "org", "team": "team" } });
    let gate = gate_of(&[changed(&json!({ "claims": mapping }))], &consumers);
    let said = json!({ "roles": ["admin"], "plan": "free", "org": "evil", "team": "x" });
    let identity = gate.verify(&altered(&json!({}), &said)).unwrap();
    assert_eq!((identity.principal.as_str(), identity.name.as_str()), ("user_1", "user_1"));
    assert_eq!((identity.roles.clone(), identity.tier.as_str()), (vec![String::from("analyst")], "pro"));
    assert_eq!(identity.attributes["org"], Value::Text(String::from("acme")));
    assert_eq!(identity.attributes["team"], Value::Text(String::from("x")));
    // what it does not say is the token's
    let identity = gate.verify(&altered(&json!({}), &with(&said, &json!({ "sub": "bob" })))).unwrap();
    assert_eq!((identity.principal.as_str(), identity.tier.as_str()), ("user_2", "free"));
    assert_eq!(identity.roles, ["admin"]);
}

#[test]
fn faults_are_found_at_once() {
    let private = json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA", "d": "AA" });
    let providers = [
        changed(&json!({ "local_jwks": { "keys": [private, ed25519().jwk, ed25519().jwk] } })),
        changed(&json!({ "issuer": "https://b.example", "hmac_secrets": [{ "id": "a", "env": "SHORT" }] })),
        changed(&json!({ "name": "c", "algorithms": ["RS256"] })),
        changed(&json!({
            "name": "d", "issuer": "https://d.example", "algorithms": ["RS256"], "hmac_secrets": null,
            "local_jwks": null, "claims": { "attributes": { "roles": "r" } },
        })),
    ];
    let consumers = json!([
        { "name": "a", "credentials": { "jwt": [
            { "provider": "corp", "subject": "x" }, { "provider": "nobody", "subject": "x" } ] } },
        { "name": "b", "credentials": { "jwt": [{ "provider": "corp", "subject": "x" }] } },
    ]);
    let at = |rest: &str| format!("/authentication/jwt/providers/{rest}");
    let expected = [
        at("0/local_jwks/keys/0"),
        at("0/local_jwks/keys/2"),
        at("1/name"),
        at("1/hmac_secrets/0/env"),
        at("2/issuer"),
        at("2/algorithms"),
        at("3"),
        at("3/claims/attributes/roles"),
        String::from("/consumers/0/credentials/jwt/1/provider"),
        String::from("/consumers/1/credentials/jwt/0/subject"),
    ];
    assert_eq!(compiled(&providers, &consumers).1, expected);
}
