use serde_json::{Value as Json, json};

use super::*;
use crate::config::faults::Faults;
use crate::credentials::{UnverifiedKey, UnverifiedToken};
use crate::host::fake::FakeHost;
use crate::http::PeerCertificate;
use crate::http::certificate::Names;
use crate::identity::AuthenticationError::{Invalid, Missing};
use crate::identity::api_key::{ApiKey, Listed, RANDOM_BYTES};
use crate::identity::bindings::Bindings;
use crate::identity::revocation::Revocation;
use crate::identity::spec::{AuthenticationSpec, ConsumerSpec};
use crate::time::UnixTime;

const WORKER: &str = "spiffe://acme.example/ns/batch/sa/worker";
const OTHER: &str = "spiffe://acme.example/ns/batch/sa/other";

/// `user_1` has a key and the worker's certificate, `user_2` a key.
struct Scene {
    keys: ApiKeys,
    certificates: Certificates,
    own: ApiKey,
    other: ApiKey,
}

fn key(seed: u8) -> ApiKey {
    ApiKey::generate(&[seed; RANDOM_BYTES]).unwrap()
}

fn scene() -> Scene {
    let (own, other) = (key(7), key(8));
    let entry = |key: &ApiKey, scope: Json| {
        let mut entry = json!({ "id": key.id().to_string(), "digest": key.digest().to_string() });
        entry.as_object_mut().unwrap().extend(scope.as_object().unwrap().clone());
        json!([entry])
    };
    let consumers: Vec<ConsumerSpec> = serde_json::from_value(json!([
        { "name": "user_1", "credentials": { "api_keys": entry(&own, json!({ "actions": ["predict"] })), "mtls": [{ "uri_san": WORKER }] } },
        { "name": "user_2", "credentials": { "api_keys": entry(&other, json!({})) } },
    ]))
    .unwrap();
    let authentication: AuthenticationSpec =
        serde_json::from_value(json!({ "mtls": { "trust_domains": ["acme.example"] } })).unwrap();
    let bindings = Rc::new(Bindings::default());
    let mut faults = Faults::default();
    let keys = ApiKeys::compile(&consumers, &authentication, &bindings, &|_| true, &|_| None, &mut faults);
    let certificates = Certificates::compile(&consumers, &authentication, &bindings, &mut faults);
    assert!(faults.is_empty(), "{faults:?}");
    Scene { keys, certificates, own, other }
}

impl Scene {
    fn caller(
        &self,
        presented: &[Credentials],
        accepted: &Accepted,
    ) -> Result<Rc<Identity>, AuthenticationError> {
        let host = FakeHost::at(UnixTime::from_millis(1_800_000_000_000));
        let authorities = Authorities {
            keys: &self.keys,
            listed: Listed::None,
            tokens: &Tokens::default(),
            certificates: &self.certificates,
            introspection: &Introspection::default(),
            known: Known {
                verified: &RefCell::default(),
                keyrings: &Keyrings::default(),
                introspected: &RefCell::default(),
                answers: &Answers::default(),
            },
            may_work: &anybody_may_work,
            host: &host,
        };
        authenticate(presented, accepted, authorities).map(|found| found.caller().unwrap())
    }

    fn principal(
        &self,
        presented: &[Credentials],
        accepted: &Accepted,
    ) -> Result<String, AuthenticationError> {
        self.caller(presented, accepted).map(|identity| identity.principal.clone())
    }
}

fn shown(key: &ApiKey) -> Credentials {
    Credentials::ApiKey(UnverifiedKey(key.expose().as_bytes().to_vec()))
}

fn certificate(uri: &str, valid: bool) -> Credentials {
    Credentials::Certificate(PeerCertificate {
        presented: true,
        valid: Some(valid),
        names: Names { uri_sans: vec![uri.to_owned()], ..Names::default() },
        ..PeerCertificate::default()
    })
}

fn all(principal: Option<Method>) -> Accepted {
    Accepted::All { methods: vec![Method::Mtls, Method::ApiKey], principal }
}

#[test]
fn any_takes_the_first_that_is_presented_and_skips_no_wrong_one() {
    let scene = scene();
    let key_first = Accepted::Any(vec![Method::ApiKey, Method::Mtls]);
    let certificate_first = Accepted::Any(vec![Method::Mtls, Method::ApiKey]);
    let keys_alone = Accepted::Any(vec![Method::ApiKey]);
    let (own, other, stranger) = (shown(&scene.own), shown(&scene.other), shown(&key(9)));
    let (worker, workload, rogue) =
        (certificate(WORKER, true), certificate(OTHER, true), certificate(WORKER, false));
    let unknown = certificate("urn:nobody", true);
    let own_workload = format!("mtls:{OTHER}");
    for (presented, accepted, expected) in [
        (vec![], &key_first, Err(Missing)),
        (vec![&other, &worker], &key_first, Ok("user_2")),
        (vec![&other, &worker], &certificate_first, Ok("user_1")),
        (vec![&workload], &key_first, Ok(own_workload.as_str())),
        (vec![&stranger, &worker], &key_first, Err(Invalid)),
        (vec![&other, &rogue], &certificate_first, Err(Invalid)),
        (vec![&other, &rogue], &key_first, Ok("user_2")),
        // bound to nobody: absent, not wrong
        (vec![&other, &unknown], &certificate_first, Ok("user_2")),
        (vec![&unknown], &certificate_first, Err(Missing)),
        // a certificate counts only where it is named
        (vec![&worker], &keys_alone, Err(Missing)),
        (vec![&rogue, &other], &keys_alone, Ok("user_2")),
        (vec![&own, &other], &key_first, Err(Invalid)),
        (vec![&own, &own], &key_first, Ok("user_1")),
    ] {
        let presented: Vec<Credentials> = presented.into_iter().cloned().collect();
        let found = scene.principal(&presented, accepted);
        assert_eq!(found.as_deref().map_err(|error| *error), expected, "{presented:?} {accepted:?}");
    }
}

#[test]
fn all_must_be_shown_right_and_agree() {
    let scene = scene();
    let (own, other, stranger) = (shown(&scene.own), shown(&scene.other), shown(&key(9)));
    let (worker, workload, rogue) =
        (certificate(WORKER, true), certificate(OTHER, true), certificate(WORKER, false));
    let unknown = certificate("urn:nobody", true);
    let own_workload = format!("mtls:{OTHER}");
    let agree = all(None);
    let by_key = all(Some(Method::ApiKey));
    let by_certificate = all(Some(Method::Mtls));
    for (presented, accepted, expected) in [
        (vec![&own, &worker], &agree, Ok("user_1")),
        (vec![&other, &worker], &agree, Err(Invalid)),
        (vec![&own, &workload], &agree, Err(Invalid)),
        (vec![&other, &worker], &by_key, Ok("user_2")),
        (vec![&other, &worker], &by_certificate, Ok("user_1")),
        (vec![&other, &workload], &by_certificate, Ok(own_workload.as_str())),
        (vec![&own], &by_key, Err(Missing)),
        (vec![&worker], &by_certificate, Err(Missing)),
        (vec![&own, &unknown], &by_key, Err(Missing)),
        (vec![&own, &rogue], &by_key, Err(Invalid)),
        (vec![&stranger, &worker], &by_certificate, Err(Invalid)),
        (vec![], &agree, Err(Missing)),
    ] {
        let presented: Vec<Credentials> = presented.into_iter().cloned().collect();
        let found = scene.principal(&presented, accepted);
        assert_eq!(found.as_deref().map_err(|error| *error), expected, "{presented:?} {accepted:?}");
    }
}

#[test]
fn what_one_credential_forbids_the_other_does_not_allow() {
    let scene = scene();
    let presented = [shown(&scene.own), certificate(WORKER, true)];
    let identity = scene.caller(&presented, &all(Some(Method::Mtls))).unwrap();
    assert_eq!(identity.credential.method, "mtls");
    assert_eq!(identity.scope.actions.as_deref(), Some(&[String::from("predict")][..]));
    let alone = scene.caller(&presented, &Accepted::Any(vec![Method::Mtls])).unwrap();
    assert_eq!((alone.scope.actions.as_ref(), alone.via.len()), (None, 0));
}

#[test]
fn a_revocation_reaches_the_credential_that_does_not_decide() {
    let scene = scene();
    let presented = [shown(&scene.other), certificate(WORKER, true)];
    let identity = scene.caller(&presented, &all(Some(Method::Mtls))).unwrap();
    assert_eq!((identity.principal.as_str(), identity.via.len()), ("user_1", 1));
    for (revoked, expected) in [
        (json!({ "keys": [scene.other.id().to_string()] }), Err(AuthenticationError::Revoked)),
        (json!({ "principals": ["user_2"] }), Err(AuthenticationError::Revoked)),
        (json!({ "principals": ["user_1"] }), Err(AuthenticationError::Revoked)),
        (json!({ "keys": [scene.own.id().to_string()] }), Ok(())),
    ] {
        let spec = serde_json::from_value(revoked.clone()).unwrap();
        let revocation = Revocation::compile(&spec, "", &mut Faults::default());
        assert_eq!(revocation.check(&identity), expected, "{revoked}");
    }
}

#[test]
fn more_credentials_than_are_looked_at_are_refused() {
    let scene = scene();
    let many = vec![Credentials::Token(UnverifiedToken(b"x".to_vec())); MAX_CREDENTIALS + 1];
    let accepted = Accepted::Any(vec![Method::ApiKey]);
    assert_eq!(scene.principal(&many, &accepted), Err(Invalid));
}
