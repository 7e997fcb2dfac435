//! Who answers for keys and revocation must be verified.

use serde_json::{Value as Json, json};

use crate::config::tree::Tree;
use crate::config::{self, Format};
use crate::envoy::clusters::named;
use crate::envoy::parts::Parts;
use crate::envoy::place::Place;
use crate::envoy::review::{Review, Reviewer};
use crate::envoy::rule::Rule;

const CONFIGURATION: &str = r#"{"version": 1, "name": "g", "resources": {"rules": []}, "authorization": {"roles": {}},
    "audit": {"collector": {"cluster": "audit"}, "chain": {"unkeyed": true}}}"#;

/// Where the cluster is found to be unverified, or what is noted.
fn verdict(cluster: &Json) -> Result<(), Vec<String>> {
    let (document, configuration) = config::read(CONFIGURATION.as_bytes(), Format::Json).unwrap();
    let tree = Tree::of_proxy(cluster.to_string().as_bytes(), Format::Json).unwrap();
    let mut reviewer = Reviewer {
        document: &document,
        configuration: &configuration,
        parts: Parts::default(),
        review: Review::default(),
    };
    reviewer.verified(&Place::root(tree.root()), "idp");
    assert!(reviewer.review.findings.iter().all(|finding| finding.rule == Rule::ClusterUnverified));
    let found = reviewer.review.findings.into_iter().map(|finding| finding.fault.pointer);
    let all: Vec<String> =
        found.chain(reviewer.review.not_checked.into_iter().map(|note| note.what)).collect();
    if all.is_empty() { Ok(()) } else { Err(all) }
}

fn with_tls(common: &Json) -> Json {
    json!({"name": "idp", "transport_socket": {"name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "idp.example", "common_tls_context": common}}})
}

#[test]
fn a_server_must_prove_its_name_by_an_authority() {
    let ca = json!({"filename": "ca.pem"});
    let names = json!([{"san_type": "DNS", "matcher": {"exact": "idp.example"}}]);
    let named = json!({"trusted_ca": ca, "match_typed_subject_alt_names": names});
    assert_eq!(verdict(&with_tls(&json!({"validation_context": named}))), Ok(()));
    let combined = json!({"combined_validation_context": {"default_validation_context": named}});
    assert_eq!(verdict(&with_tls(&combined)), Ok(()));
    let mut by_sni = with_tls(&json!({"validation_context": {"trusted_ca": ca}}));
    by_sni["transport_socket"]["typed_config"]["auto_sni_san_validation"] = json!(true);
    assert_eq!(verdict(&by_sni), Ok(()));
}

#[test]
fn a_server_that_proves_nothing_is_found() {
    const TLS: &str = "/transport_socket/typed_config";
    let ca = json!({"filename": "ca.pem"});
    let raw = json!({"name": "idp", "transport_socket": {"name": "raw", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}});
    for (cluster, at) in [
        (json!({"name": "idp"}), "/transport_socket".to_owned()),
        (raw, "/transport_socket".to_owned()),
        (with_tls(&json!({})), TLS.to_owned()),
        (
            with_tls(&json!({"validation_context": {}})),
            format!("{TLS}/common_tls_context/validation_context/trusted_ca"),
        ),
        (
            with_tls(&json!({"validation_context": {"trusted_ca": ca}})),
            format!("{TLS}/common_tls_context/validation_context/match_typed_subject_alt_names"),
        ),
    ] {
        assert_eq!(verdict(&cluster), Err(vec![at]), "{cluster}");
    }
    let elsewhere = with_tls(&json!({"validation_context_sds_secret_config": {"name": "ca"}}));
    assert_eq!(
        verdict(&elsewhere),
        Err(vec!["what verifies the server of `idp`, delivered from elsewhere".to_owned()])
    );
}

#[test]
fn each_cluster_is_named_where_its_pointer_leads() {
    let full = include_bytes!("../../../../envoy/config/full.yaml");
    let (document, tree) = config::read(full, Format::Yaml).unwrap();
    let named = named(&document);
    for cluster in &named {
        let written = tree.at(&cluster.pointer).map(crate::config::tree::Node::to_json);
        assert_eq!(written, Some(json!(cluster.name)), "{}", cluster.pointer);
    }
    assert!(named.len() > 4, "{named:?}");
}
