use serde_json::{Value as Json, json};

use super::*;
use crate::identity::AuthenticationError::Invalid;
use crate::identity::DEFAULT_TIER;

const WORKER: &str = "spiffe://acme.example/ns/batch/sa/worker";
const OTHER: &str = "spiffe://acme.example/ns/batch/sa/other";

fn compiled(mtls: &Json, credentials: &Json) -> (Certificates, Vec<String>) {
    let authentication = serde_json::from_value(json!({ "mtls": mtls })).unwrap();
    let consumers: Vec<ConsumerSpec> = credentials
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(number, named)| json!({ "name": format!("user_{number}"), "tier": "pro", "credentials": { "mtls": [named] } }))
        .map(|consumer| serde_json::from_value(consumer).unwrap())
        .collect();
    let mut faults = Faults::default();
    let certificates = Certificates::compile(&consumers, &authentication, &Rc::default(), &mut faults);
    (certificates, faults.iter().map(|fault| fault.pointer.clone()).collect())
}

fn certificates(credentials: &Json) -> Certificates {
    let (certificates, faults) = compiled(&json!({ "trust_domains": ["acme.example"] }), credentials);
    assert_eq!(faults, [""; 0]);
    certificates
}

fn valid() -> PeerCertificate {
    PeerCertificate { presented: true, valid: Some(true), ..PeerCertificate::default() }
}

fn with_uri(uri: &str) -> PeerCertificate {
    PeerCertificate { uri_san: Some(uri.to_owned()), ..valid() }
}

/// `Ok(None)` becomes `nobody`.
fn principal(certificates: &Certificates, shown: &PeerCertificate) -> Result<String, AuthenticationError> {
    let identity = certificates.authenticate(shown)?;
    Ok(identity.map_or_else(|| String::from("nobody"), |identity| identity.principal.clone()))
}

#[test]
fn a_consumer_is_bound_by_any_of_four_names() {
    let bound = certificates(&json!([
        { "uri_san": WORKER },
        { "dns_san": "Worker.Acme.example" },
        { "subject": "CN=client-1,O=Acme\\, Inc." },
        { "common_name": "client-2" },
        { "uri_san": "urn:worker:5" },
    ]));
    let dns = |name: &str| PeerCertificate { dns_san: Some(name.to_owned()), ..valid() };
    let subject = |text: &str| PeerCertificate { subject: Some(text.to_owned()), ..valid() };
    for (shown, expected) in [
        (with_uri(WORKER), "user_0"),
        (with_uri("urn:worker:5"), "user_4"),
        (with_uri("urn:worker:55"), "nobody"),
        (with_uri("URN:worker:5"), "nobody"),
        (dns("worker.acme.example"), "user_1"),
        (dns("WORKER.acme.EXAMPLE"), "user_1"),
        (dns("worker.acme.example."), "nobody"),
        (dns("x.worker.acme.example"), "nobody"),
        (subject("CN=client-1,O=Acme\\, Inc."), "user_2"),
        (subject("CN=client-1,O=Acme\\, Inc.,C=DE"), "nobody"),
        (subject("O=x,CN=client-2"), "user_3"),
        (subject("CN=client-22"), "nobody"),
        (subject("O=x\\,CN=client-2"), "nobody"),
        (subject("CN=client-2,CN=y"), "nobody"),
        (subject("OU=client-2"), "nobody"),
        (dns("client-2"), "nobody"),
        (valid(), "nobody"),
    ] {
        assert_eq!(principal(&bound, &shown).as_deref(), Ok(expected), "{shown:?}");
    }
    let identity = bound.authenticate(&with_uri(WORKER)).unwrap().unwrap();
    assert_eq!((identity.tier.as_str(), identity.name.as_str()), ("pro", "user_0"));
    assert_eq!((identity.credential.method.as_str(), identity.credential.id.as_str()), ("mtls", WORKER));
}

#[test]
fn a_certificate_counts_only_once_the_proxy_says_that_it_is_valid() {
    let asks_proxy = certificates(&json!([{ "uri_san": WORKER }]));
    let listener = json!({ "trust_domains": ["acme.example"], "peer_validation": "listener" });
    let (asserted, _) = compiled(&listener, &json!([{ "uri_san": WORKER }]));
    let absent = AuthenticationError::Missing;
    for (presented, valid, asked, under_listener) in [
        (true, Some(true), Ok("user_0"), Ok("user_0")),
        (true, Some(false), Err(Invalid), Ok("user_0")),
        // an Envoy before 1.39
        (true, None, Err(Invalid), Ok("user_0")),
        (false, Some(true), Err(absent), Err(absent)),
        (false, Some(false), Err(absent), Err(absent)),
        (false, None, Err(absent), Err(absent)),
    ] {
        let shown = PeerCertificate { presented, valid, ..with_uri(WORKER) };
        for (certificates, expected) in [(&asks_proxy, asked), (&asserted, under_listener)] {
            let expected = match expected {
                Err(AuthenticationError::Missing) => Ok("nobody"),
                other => other,
            };
            assert_eq!(
                principal(certificates, &shown).as_deref().map_err(|error| *error),
                expected,
                "{shown:?}"
            );
        }
    }
}

#[test]
fn nothing_counts_where_certificates_are_not_configured() {
    assert_eq!(principal(&Certificates::default(), &with_uri(WORKER)).as_deref(), Ok("nobody"));
    assert!(!Certificates::default().is_configured());
}

#[test]
fn a_workload_of_a_trusted_domain_is_a_caller_of_its_own() {
    let bound = certificates(&json!([{ "uri_san": WORKER }]));
    let identity = bound.authenticate(&with_uri(OTHER)).unwrap().unwrap();
    assert_eq!(identity.principal, format!("mtls:{OTHER}"));
    assert_eq!((identity.name.as_str(), identity.tier.as_str()), (OTHER, DEFAULT_TIER));
    assert_eq!((identity.credential.method.as_str(), identity.credential.id.as_str()), ("mtls", OTHER));
    for (uri, expected) in [
        ("spiffe://acme.example", Ok("nobody")),
        ("spiffe://evil.example/ns/batch/sa/worker", Ok("nobody")),
        ("spiffe://acme.example.evil/ns/batch/sa/worker", Ok("nobody")),
        ("https://acme.example/ns/batch/sa/worker", Ok("nobody")),
        ("spiffe://acme.example/ns/batch/sa/worker/", Err(Invalid)),
        ("spiffe://acme.example//ns", Err(Invalid)),
        ("spiffe://ACME.example/ns", Err(Invalid)),
        ("SPIFFE://acme.example/ns", Err(Invalid)),
        ("spiffe://acme.example/%6es", Err(Invalid)),
    ] {
        assert_eq!(principal(&bound, &with_uri(uri)).as_deref().map_err(|error| *error), expected, "{uri}");
    }
}

#[test]
fn without_trust_domains_only_consumers_are_callers() {
    let (bound, faults) = compiled(&json!({}), &json!([{ "uri_san": WORKER }]));
    assert_eq!(faults, [""; 0]);
    assert_eq!(principal(&bound, &with_uri(WORKER)).as_deref(), Ok("user_0"));
    assert_eq!(principal(&bound, &with_uri(OTHER)).as_deref(), Ok("nobody"));
}

#[test]
fn another_domains_authority_names_no_consumer_of_ours() {
    let bound = certificates(&json!([{ "dns_san": "worker.acme.example" }, { "common_name": "client-2" }]));
    let foreign = PeerCertificate {
        dns_san: Some(String::from("worker.acme.example")),
        subject: Some(String::from("CN=client-2")),
        ..with_uri("spiffe://evil.example/x")
    };
    assert_eq!(principal(&bound, &foreign).as_deref(), Ok("nobody"));
}

#[test]
fn a_certificate_of_two_consumers_is_refused() {
    let bound = certificates(&json!([{ "uri_san": WORKER }, { "dns_san": "one.example" }]));
    let both = PeerCertificate { dns_san: Some(String::from("one.example")), ..with_uri(WORKER) };
    assert_eq!(principal(&bound, &both), Err(Invalid));
    let one = PeerCertificate { dns_san: Some(String::from("two.example")), ..both };
    assert_eq!(principal(&bound, &one).as_deref(), Ok("user_0"));
}

#[test]
fn a_name_that_is_too_long_is_none() {
    let long = format!("urn:{}", "x".repeat(MAX_NAME));
    let (bound, _) = compiled(&json!({}), &json!([{ "uri_san": long }]));
    assert_eq!(principal(&bound, &with_uri(&long)).as_deref(), Ok("nobody"));
}

#[test]
fn what_cannot_be_meant_is_a_fault() {
    let mtls = json!({ "trust_domains": ["acme.example"] });
    let at = "/consumers/0/credentials/mtls/0";
    for (named, pointer) in [
        (json!({}), at.to_owned()),
        (json!({ "uri_san": WORKER, "dns_san": "x" }), at.to_owned()),
        (json!({ "uri_san": "spiffe://acme.example/x/" }), format!("{at}/uri_san")),
        (json!({ "uri_san": "spiffe://evil.example/x" }), format!("{at}/uri_san")),
        (json!({ "subject": "client-1" }), format!("{at}/subject")),
    ] {
        assert_eq!(compiled(&mtls, &json!([named])).1, [pointer], "{named}");
    }
    let twice = json!([{ "dns_san": "a.example" }, { "dns_san": "A.example" }]);
    assert_eq!(compiled(&mtls, &twice).1, ["/consumers/1/credentials/mtls/0"]);
    assert_eq!(compiled(&Json::Null, &json!([{ "common_name": "x" }])).1, [at]);
    let domains = json!({ "trust_domains": ["acme.example", "spiffe://acme.example"] });
    assert_eq!(compiled(&domains, &json!([])).1, ["/authentication/mtls/trust_domains/1"]);
}
