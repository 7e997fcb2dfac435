use serde_json::{Value as Json, json};

use super::*;
use crate::http::Headers;
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
    PeerCertificate { names: Names { uri_sans: vec![uri.to_owned()], ..Names::default() }, ..valid() }
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
    let dns = |name: &str| PeerCertificate {
        names: Names { dns_sans: vec![name.to_owned()], ..Names::default() },
        ..valid()
    };
    let subject = |text: &str| PeerCertificate {
        names: Names { subject: Some(text.to_owned()), ..Names::default() },
        ..valid()
    };
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
    let mut foreign = with_uri("spiffe://evil.example/x");
    foreign.names.dns_sans.push(String::from("worker.acme.example"));
    foreign.names.subject = Some(String::from("CN=client-2"));
    assert_eq!(principal(&bound, &foreign).as_deref(), Ok("nobody"));
}

#[test]
fn a_certificate_of_two_consumers_is_refused() {
    let bound = certificates(&json!([{ "uri_san": WORKER }, { "dns_san": "one.example" }]));
    let with = |names: &[&str]| {
        let mut shown = with_uri(WORKER);
        shown.names.dns_sans = names.iter().map(ToString::to_string).collect();
        principal(&bound, &shown)
    };
    assert_eq!(with(&["one.example"]), Err(Invalid));
    assert_eq!(with(&["two.example", "one.example"]), Err(Invalid));
    assert_eq!(with(&["two.example"]).as_deref(), Ok("user_0"));
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

#[test]
fn any_of_several_names_binds_but_a_spiffe_id_stands_alone() {
    let bound = certificates(&json!([{ "dns_san": "two.example" }, { "uri_san": "urn:worker:5" }]));
    let with = |uri_sans: &[&str], dns_sans: &[&str]| {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let names = Names { uri_sans: texts(uri_sans), dns_sans: texts(dns_sans), subject: None };
        principal(&bound, &PeerCertificate { names, ..valid() })
    };
    assert_eq!(with(&[], &["x.example", "two.example"]).as_deref(), Ok("user_0"));
    assert_eq!(with(&["urn:x", "urn:worker:5"], &[]).as_deref(), Ok("user_1"));
    assert_eq!(with(&["urn:worker:5"], &["two.example"]), Err(Invalid), "two consumers");
    assert_eq!(with(&[WORKER, OTHER], &[]), Err(Invalid));
    assert_eq!(with(&["urn:worker:5", WORKER], &[]), Err(Invalid));
    assert_eq!(with(&["spiffe://evil.example/x", "urn:worker:5"], &[]), Err(Invalid));
}

#[test]
fn what_cannot_be_read_is_nobodys() {
    let bound = certificates(&json!([{ "uri_san": WORKER }]));
    assert_eq!(principal(&bound, &PeerCertificate { unreadable: true, ..with_uri(WORKER) }), Err(Invalid));
}

const HOP: &str = "spiffe://acme.example/ns/edge/sa/gateway";

fn hops(validation: &str) -> Certificates {
    let mtls = json!({
        "trust_domains": ["acme.example"],
        "peer_validation": validation,
        "trusted_hops": [{ "uri_san": HOP }, { "dns_san": "edge.example" }],
    });
    let (certificates, faults) = compiled(&mtls, &json!([{ "uri_san": WORKER }]));
    assert_eq!(faults, [""; 0]);
    certificates
}

fn behind(peer: PeerCertificate, headers: &[&str]) -> RequestHead {
    let headers =
        headers.iter().map(|value| (forwarded::HEADER.to_owned(), value.as_bytes().to_vec())).collect();
    let mut head = RequestHead { headers: Headers::new(headers), ..RequestHead::default() };
    head.facts.peer = peer;
    head
}

#[test]
fn a_hop_speaks_for_its_caller_and_nobody_else_is_heard() {
    let certificates = hops("attribute");
    let element = forwarded::tests::element(forwarded::tests::WORKER_PEM);
    let outcome = |peer: PeerCertificate, headers: &[&str]| {
        let mut head = behind(peer, headers);
        certificates.resolve(&mut head);
        principal(&certificates, &head.facts.peer)
    };
    let hop = || with_uri(HOP);
    assert_eq!(outcome(hop(), &[&element]).as_deref(), Ok("user_0"));
    assert_eq!(outcome(hop(), &[]).as_deref(), Ok("nobody"), "a hop is nobody itself");
    assert_eq!(outcome(hop(), &[&element, &element]), Err(Invalid));
    assert_eq!(outcome(hop(), &["URI=spiffe://acme.example/ns/batch/sa/worker"]), Err(Invalid));
    assert_eq!(outcome(hop(), &[""]), Err(Invalid));
    assert_eq!(outcome(with_uri(OTHER), &[&element]).as_deref(), Ok(format!("mtls:{OTHER}").as_str()));
    assert_eq!(outcome(PeerCertificate::default(), &[&element]).as_deref(), Ok("nobody"));
    assert_eq!(outcome(PeerCertificate { valid: Some(false), ..hop() }, &[&element]), Err(Invalid));
    assert_eq!(outcome(PeerCertificate { valid: None, ..hop() }, &[&element]), Err(Invalid));
    let named = |uri: &[&str]| {
        let mut peer = valid();
        peer.names.dns_sans = vec![String::from("Edge.example")];
        peer.names.uri_sans = uri.iter().map(ToString::to_string).collect();
        peer
    };
    assert_eq!(outcome(named(&[]), &[&element]).as_deref(), Ok("user_0"));
    assert_eq!(outcome(named(&["spiffe://evil.example/x"]), &[&element]).as_deref(), Ok("nobody"));
    let mut head = behind(hop(), &[&element]);
    certificates.resolve(&mut head);
    assert_eq!(head.facts.peer.hop, [HOP]);
    let asserted = hops("listener");
    let mut head = behind(PeerCertificate { valid: None, ..hop() }, &[&element]);
    asserted.resolve(&mut head);
    assert_eq!(principal(&asserted, &head.facts.peer).as_deref(), Ok("user_0"));
}

#[test]
fn a_hop_is_no_consumer() {
    let mtls = json!({ "trusted_hops": [{ "dns_san": "edge.example" }] });
    let at = "/consumers/0/credentials/mtls/0";
    assert_eq!(compiled(&mtls, &json!([{ "dns_san": "Edge.example" }])).1, [at]);
    let twice = json!({ "trusted_hops": [{ "dns_san": "a", "subject": "CN=a" }] });
    assert_eq!(compiled(&twice, &json!([])).1, ["/authentication/mtls/trusted_hops/0"]);
}
