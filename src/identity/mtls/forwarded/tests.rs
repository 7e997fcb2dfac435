use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;

use super::*;

/// O=Acme, Inc., CN=worker-1; one URI SAN, two DNS SANs, an address of mail and one of the network.
pub(in crate::identity::mtls) const WORKER_PEM: &str =
    include_str!("../../../../tests/certificates/worker.pem");

/// CN=other; one URI SAN.
const OTHER_PEM: &str = include_str!("../../../../tests/certificates/other.pem");

const HOP_DIGEST: &str = "ab54d286a1b1c0b5b6f0c0a1f4b1f1b3e7b1bd6f7c1b4a0b2d3c4e5f60718293";

fn encoded(pem: &str) -> String {
    utf8_percent_encode(pem, NON_ALPHANUMERIC).to_string()
}

fn digest(pem: &str) -> String {
    let der = decode(encoded(pem).as_bytes()).unwrap();
    Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As Envoy 1.40 writes one.
pub(in crate::identity::mtls) fn element(pem: &str) -> String {
    format!(
        "By=spiffe://acme.example/ns/edge/sa/gateway;Hash={};Cert=\"{}\";Subject=\"CN=worker-1,O=Acme\\\\, Inc.\";\
         URI=spiffe://acme.example/ns/batch/sa/worker;DNS=one.example;DNS=two.example",
        digest(pem),
        encoded(pem)
    )
}

fn uri(header: &str) -> Result<String, InvalidCertificate> {
    read(header.as_bytes(), Some(HOP_DIGEST))
        .map(|names| names.map_or_else(|| String::from("none"), |names| names.uri_sans.join(" ")))
}

const WORKER: &str = "spiffe://acme.example/ns/batch/sa/worker";

#[test]
fn all_names_come_of_the_certificate_itself() {
    let names = read(element(WORKER_PEM).as_bytes(), None).unwrap().unwrap();
    assert_eq!(names.uri_sans, [WORKER]);
    assert_eq!(names.dns_sans, ["one.example", "two.example"]);
    assert_eq!(names.subject.as_deref(), Some("CN=worker-1,O=Acme\\, Inc."));
    // what stands beside it says nothing
    let other = element(WORKER_PEM)
        .replace("URI=spiffe://acme.example/ns/batch/sa/worker", "URI=spiffe://evil.example/x");
    assert_eq!(uri(&other).as_deref(), Ok(WORKER));
    let bare = format!("hash={};CERT=\"{}\"", digest(WORKER_PEM).to_uppercase(), encoded(WORKER_PEM));
    assert_eq!(uri(&bare).as_deref(), Ok(WORKER));
}

#[test]
fn the_element_that_this_listener_added_is_passed_over() {
    let ours =
        format!("By=urn:us;Hash={HOP_DIGEST};Subject=\"\";URI=spiffe://acme.example/ns/edge/sa/gateway");
    let both = format!("{},{ours}", element(WORKER_PEM));
    assert_eq!(uri(&both).as_deref(), Ok(WORKER));
    assert_eq!(read(both.as_bytes(), None), Err(InvalidCertificate));
    assert_eq!(uri(&ours).as_deref(), Ok("none"), "the hop said nothing of its caller");
    assert_eq!(uri(&format!("{ours},{}", element(WORKER_PEM))), Err(InvalidCertificate));
    assert_eq!(uri(&format!("{both},{ours}")), Err(InvalidCertificate));
    assert_eq!(uri(&format!("{both},")), Err(InvalidCertificate));
}

#[test]
fn whoever_puts_pairs_or_elements_into_a_name_gains_nothing() {
    let (hash, cert) = (digest(WORKER_PEM), encoded(WORKER_PEM));
    let forged = format!("Hash={hash};Cert=\"{cert}\"");
    let genuine = element(OTHER_PEM);
    let without = format!("By=urn:hop;Hash={};Subject=\"\";URI=urn:x", digest(OTHER_PEM));
    for (what, header) in [
        ("a second certificate in a name", format!("{genuine};{forged}")),
        ("and nothing else of the hop's", format!("{genuine};Cert=\"{cert}\"")),
    ] {
        let named = uri(&header);
        assert_eq!(named.as_deref(), Ok("spiffe://acme.example/ns/search/sa/indexer"), "{what}");
    }
    for (what, header) in [
        ("an element in a name", format!("{genuine},{forged}")),
        ("before what the hop appended", format!("{forged},{genuine}")),
        ("where the hop sends no certificate", format!("{without};{forged}")),
        ("the same, by the certificate alone", format!("{without};Cert=\"{cert}\"")),
        ("the same, in an element", format!("{without},{forged}")),
        ("another certificate than the hash says", format!("Hash={};Cert=\"{cert}\"", digest(OTHER_PEM))),
        ("no hash", format!("Cert=\"{cert}\"")),
        ("no certificate", format!("Hash={hash};URI={WORKER}")),
        ("a name before it", format!("Hash={hash};URI={WORKER};Cert=\"{cert}\"")),
        ("no end of a quote", format!("Hash={hash};Cert=\"{cert}")),
        ("something after a quote", format!("Hash={hash};Cert=\"{cert}\"x")),
        ("two certificates in one", format!("Hash={hash};Cert=\"{cert}{cert}\"")),
        ("nothing", String::new()),
        ("no pair", String::from("x")),
        ("many writers", format!("{}{forged}", "By=urn:x;".repeat(MAX_BY + 1))),
    ] {
        assert_eq!(uri(&header), Err(InvalidCertificate), "{what}");
    }
}

#[test]
fn a_certificate_that_is_too_long_or_none_is_not_read() {
    let long = format!("-----BEGIN CERTIFICATE-----{}-----END CERTIFICATE-----", "A".repeat(64 << 10));
    for text in [
        "",
        "x",
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----%-----END CERTIFICATE-----",
        &long,
    ] {
        assert_eq!(decode(text.as_bytes()), Err(InvalidCertificate), "{:.40}", text);
    }
    let der = decode(encoded(WORKER_PEM).as_bytes()).unwrap();
    assert!(Names::read(&der).is_ok());
    for end in 0..der.len() {
        assert_eq!(Names::read(&der[..end]), Err(InvalidCertificate), "cut at {end}");
    }
    assert_eq!(Names::read(&[der.as_slice(), b"x"].concat()), Err(InvalidCertificate));
}

proptest! {
    #[test]
    fn no_header_and_no_certificate_trap(header in ".{0,80}", at in 0_usize..530, byte: u8) {
        let _ = uri(&header);
        let _ = uri(&format!("{},{header}", element(WORKER_PEM)));
        let mut der = decode(encoded(WORKER_PEM).as_bytes()).unwrap();
        let at = at.min(der.len().saturating_sub(1));
        der[at] = byte;
        let _ = Names::read(&der);
    }

    /// Whatever a caller's certificate says, the caller is whoever that certificate names, or is refused.
    #[test]
    fn a_name_of_any_text_is_no_other_certificate(name in "[ -~]{0,120}") {
        let header = element(OTHER_PEM).replace("two.example", &name);
        let named = uri(&header);
        prop_assert!(named.is_err() || named.as_deref() == Ok("spiffe://acme.example/ns/search/sa/indexer"), "{named:?}");
    }
}
