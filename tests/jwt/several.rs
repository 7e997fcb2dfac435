//! A token beside a certificate, and what bindings make of claims.

use std::cell::RefCell;
use std::rc::Rc;

use jsonwebtoken::Algorithm as Alg;
use mlgate::config::document::BoundsSpec;
use mlgate::config::faults::Faults;
use mlgate::credentials::{Credentials, UnverifiedToken};
use mlgate::host::fake::FakeHost;
use mlgate::http::PeerCertificate;
use mlgate::http::certificate::Names;
use mlgate::identity::api_key::{ApiKeys, Listed};
use mlgate::identity::bindings::Bindings;
use mlgate::identity::introspection::{Answers, Introspection};
use mlgate::identity::jwt::Tokens;
use mlgate::identity::jwt::cache::Verified;
use mlgate::identity::keyring::Keyrings;
use mlgate::identity::mtls::Certificates;
use mlgate::identity::spec::{AuthenticationSpec, BindingSpec, ConsumerSpec};
use mlgate::identity::{Accepted, AuthenticationError, Authorities, Identity, Known, Method, authenticate};
use mlgate::policy::attributes::Value;
use mlgate::time::UnixTime;
use serde_json::{Value as Json, json};

use crate::gate::{NOW, changed, claims, with};
use crate::tokens::{SECRET, ed25519};

const WORKER: &str = "spiffe://acme.example/ns/batch/sa/worker";

fn caller(
    claimed: &Json,
    shown: Option<&str>,
    accepted: &Accepted,
) -> Result<Rc<Identity>, AuthenticationError> {
    let provider = changed(
        &json!({ "claims": { "roles": "roles", "attributes": { "groups": "groups", "team": "team" } } }),
    );
    let authentication: AuthenticationSpec = serde_json::from_value(
        json!({ "jwt": { "providers": [provider] }, "mtls": { "trust_domains": ["acme.example"] } }),
    )
    .unwrap();
    let consumers: Vec<ConsumerSpec> = serde_json::from_value(json!([{
        "name": "batch",
        "credentials": { "mtls": [{ "uri_san": WORKER }], "jwt": [{ "provider": "corp", "subject": "batch" }] },
    }]))
    .unwrap();
    let specs: Vec<BindingSpec> = serde_json::from_value(json!([{
        "principal": { "groups": "/ml/{team}/scientists" }, "roles": ["scientist"], "attributes": { "team": "{team}" },
    }]))
    .unwrap();
    let mut faults = Faults::default();
    let bindings = Rc::new(Bindings::compile(&specs, &|_| true, "/bindings", &mut faults));
    let secret = |_: &str| Some(SECRET.to_owned());
    let tokens =
        Tokens::compile(&consumers, &authentication, &bindings, &BoundsSpec::default(), &secret, &mut faults);
    let certificates = Certificates::compile(&consumers, &authentication, &bindings, &mut faults);
    assert!(faults.is_empty(), "{faults:?}");
    let token = ed25519().token(Alg::EdDSA, &with(&claims(), claimed));
    let mut presented = vec![Credentials::Token(UnverifiedToken(token.into_bytes()))];
    presented.extend(shown.map(|uri| {
        Credentials::Certificate(PeerCertificate {
            presented: true,
            valid: Some(true),
            names: Names { uri_sans: vec![uri.to_owned()], ..Names::default() },
            ..PeerCertificate::default()
        })
    }));
    let host = FakeHost::at(UnixTime::from_millis(NOW * 1000));
    let authorities = Authorities {
        keys: &ApiKeys::default(),
        listed: Listed::None,
        tokens: &tokens,
        certificates: &certificates,
        introspection: &Introspection::default(),
        known: Known {
            verified: &RefCell::new(Verified::new(10)),
            keyrings: &Keyrings::default(),
            introspected: &RefCell::default(),
            answers: &Answers::default(),
        },
        may_work: &|| Ok(()),
        host: &host,
    };
    authenticate(&presented, accepted, authorities).map(|authentication| authentication.caller().unwrap())
}

fn all(principal: Option<Method>) -> Accepted {
    Accepted::All { methods: vec![Method::Mtls, Method::Jwt], principal }
}

#[test]
fn a_binding_gives_roles_and_a_team_from_a_group_and_wins_over_claims() {
    let any = Accepted::Any(vec![Method::Jwt]);
    let claimed = json!({ "roles": ["admin"], "team": "self", "groups": ["/x", "/ml/fraud/scientists"] });
    let identity = caller(&claimed, None, &any).unwrap();
    assert_eq!(identity.roles, ["scientist"]);
    assert_eq!(identity.attributes.get("team"), Some(&Value::Text(String::from("fraud"))));
    let unbound = caller(&json!({ "roles": ["admin"], "team": "self" }), None, &any).unwrap();
    assert_eq!(unbound.roles, ["admin"]);
    assert_eq!(unbound.attributes.get("team"), Some(&Value::Text(String::from("self"))));
}

#[test]
fn a_token_and_a_certificate_are_one_caller_or_the_profile_says_whose_word_counts() {
    let other = "spiffe://acme.example/ns/x/sa/y";
    for (subject, shown, principal, expected) in [
        ("batch", Some(WORKER), None, Ok(("batch", "batch"))),
        ("alice", Some(WORKER), None, Err(AuthenticationError::Invalid)),
        ("alice", Some(WORKER), Some(Method::Jwt), Ok(("jwt:corp:alice", "batch"))),
        ("alice", Some(WORKER), Some(Method::Mtls), Ok(("batch", "jwt:corp:alice"))),
        (
            "alice",
            Some(other),
            Some(Method::Jwt),
            Ok(("jwt:corp:alice", "mtls:spiffe://acme.example/ns/x/sa/y")),
        ),
        ("alice", None, Some(Method::Jwt), Err(AuthenticationError::Missing)),
        ("alice", Some("urn:nobody"), Some(Method::Jwt), Err(AuthenticationError::Missing)),
    ] {
        let found = caller(&json!({ "sub": subject }), shown, &all(principal));
        let found =
            found.as_ref().map(|identity| (identity.principal.as_str(), identity.via[0].principal.as_str()));
        assert_eq!(found.map_err(|error| *error), expected, "{subject} {shown:?} {principal:?}");
    }
    let expired = caller(&json!({ "exp": NOW - 100 }), Some(WORKER), &all(Some(Method::Mtls)));
    assert_eq!(expired.unwrap_err(), AuthenticationError::Expired);
}
