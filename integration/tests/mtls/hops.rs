//! What a second Envoy before the gate says of its callers.

use anyhow::Context;
use mlgate_integration::{EnvoyBuilder, ModelServer, Stack};
use serde_json::json;

use crate::scene::{
    Authority, OTHER, SERVER, Says, Scene, WORKER, behind_tls, builder, document, forwards, says_valid, uris,
};

const HOP: &str = "spiffe://acme.example/ns/edge/sa/gateway";

#[tokio::test]
async fn who_calls_a_trusted_hop_is_who_the_hop_says() -> anyhow::Result<()> {
    if !says_valid("hops under `peer_validation: attribute`")? {
        return Ok(());
    }
    let mtls = json!({
        "trust_domains": ["acme.example"],
        "trusted_hops": [{"uri_san": HOP}],
    });
    let whole = json!({"cert": true, "uri": true, "dns": true, "subject": true});
    let workload = "mtls:spiffe://acme.example/ns/search/sa/indexer of search";
    for ours in ["FORWARD_ONLY", "APPEND_FORWARD"] {
        let scene = Scene::behind_hops(&format!("mtls-hops-{ours}"), &mtls, ours).await?;
        let edge = scene.hop("edge", HOP, "SANITIZE_SET", &whole).await?;
        let issue = |says| scene.authority.issue(says);
        let batch = issue(uris(&[WORKER]))?;
        // what a header of a caller's own says, as far as the caller can write it
        let spoofed = format!("Hash={};URI={WORKER}", "ab".repeat(32));
        let header = [("x-forwarded-client-cert", spoofed.as_str())];
        for (what, pair, headers, expected) in [
            ("a consumer", Some(&batch), &[][..], "batch"),
            ("a workload", Some(&issue(uris(&[OTHER]))?), &[], workload),
            (
                "a later DNS name",
                Some(&issue(Says { names: &["x.example", "two.example"], ..Says::default() })?),
                &[],
                "second",
            ),
            (
                "a common name",
                Some(&issue(Says { common_name: "client-1", ..Says::default() })?),
                &[],
                "legacy",
            ),
            ("a subject", Some(&issue(Says { common_name: "client-2", ..Says::default() })?), &[], "exact"),
            ("two SPIFFE IDs", Some(&issue(uris(&[WORKER, OTHER]))?), &[], "401 credential_invalid"),
            (
                "a name that is a pair too",
                Some(&issue(uris(&["urn:x;URI=spiffe://acme.example/ns/batch/sa/worker"]))?),
                &[],
                "401 credential_missing",
            ),
            (
                "a name that is an element too",
                Some(&issue(uris(&["urn:x,Hash=00;URI=spiffe://acme.example/ns/batch/sa/worker"]))?),
                &[],
                "401 credential_invalid",
            ),
            ("nobody", None, &[], "401 credential_missing"),
            ("nobody, who says more", None, &header, "401 credential_missing"),
            ("another, who says more", Some(&issue(uris(&[OTHER]))?), &header, workload),
        ] {
            let outcome = scene.outcome_at(edge.address(), scene.client(pair)?, headers).await?;
            assert_eq!(outcome, expected, "{what}, {ours}");
        }
        // not through the hop
        for (what, pair, expected) in [
            ("a caller itself", &batch, "batch"),
            ("another, who says more", &issue(uris(&[OTHER]))?, workload),
            ("a rogue hop", &scene.rogue.issue(uris(&[HOP]))?, "401 credential_invalid"),
            (
                "the hop, of a caller without a certificate in the header",
                &issue(uris(&[HOP]))?,
                "401 credential_invalid",
            ),
        ] {
            let outcome = scene.outcome_at(scene.envoy.address(), scene.client(Some(pair))?, &header).await?;
            assert_eq!(outcome, expected, "{what}, {ours}");
        }
        let stranger =
            scene.hop("stranger", "spiffe://acme.example/ns/edge/sa/other", "SANITIZE_SET", &whole).await?;
        let outcome = scene.outcome_at(stranger.address(), scene.client(Some(&batch))?, &[]).await?;
        assert_eq!(
            outcome, "mtls:spiffe://acme.example/ns/edge/sa/other of edge",
            "a hop that nobody trusts, {ours}"
        );
        // hops that are set up otherwise let nobody in
        for (what, how, set) in [
            ("no certificate", "SANITIZE_SET", json!({"uri": true})),
            ("appends", "APPEND_FORWARD", whole.clone()),
        ] {
            let other = scene.hop("otherwise", HOP, how, &set).await?;
            let outcome = scene.outcome_at(other.address(), scene.client(Some(&batch))?, &header).await?;
            assert_eq!(outcome, "401 credential_invalid", "{what}, {ours}");
        }
        scene.envoy.check_unharmed().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_revoked_workload_is_refused_by_any_name_of_its_certificate() -> anyhow::Result<()> {
    if !says_valid("revocation of SPIFFE IDs under `peer_validation: attribute`")? {
        return Ok(());
    }
    let stack = Stack::create("mtls-revoked")?;
    let model = ModelServer::start().await?;
    let (authority, rogue) = (Authority::new("acme")?, Authority::new("acme")?);
    let server = authority.issue(Says { names: &[SERVER], ..Says::default() })?;
    let mut document =
        document(&json!({"trust_domains": ["acme.example"], "trusted_hops": [{"uri_san": HOP}]}));
    *document.pointer_mut("/authentication").context("no authentication")? = json!({
        "mtls": {"trust_domains": ["acme.example"], "trusted_hops": [{"uri_san": HOP}]},
        "revocation": {"spiffe_ids": [WORKER, HOP]},
    });
    let mut bootstrap = builder(&model, &document)?.bootstrap();
    behind_tls(&mut bootstrap, &server, &authority, false, "ACCEPT_UNTRUSTED", false)?;
    forwards(&mut bootstrap, "FORWARD_ONLY", &json!({}))?;
    let envoy = EnvoyBuilder::new().whole(bootstrap).start(&stack).await?;
    let scene = Scene { envoy, model, authority, rogue };
    for (what, says, expected) in [
        ("by its consumer's SPIFFE ID", uris(&[WORKER]), "401 credential_revoked"),
        ("by another name", Says { names: &["two.example"], ..uris(&[WORKER]) }, "401 credential_invalid"),
        (
            "by a common name beside it",
            Says { common_name: "client-9", ..uris(&[WORKER]) },
            "401 credential_revoked",
        ),
        ("another workload", uris(&[OTHER]), "mtls:spiffe://acme.example/ns/search/sa/indexer of search"),
    ] {
        assert_eq!(scene.shown(&scene.authority.issue(says)?).await?, expected, "{what}");
    }
    let edge = scene.hop("revoked-edge", HOP, "SANITIZE_SET", &json!({"cert": true})).await?;
    let other = scene.authority.issue(uris(&[OTHER]))?;
    let outcome = scene.outcome_at(edge.address(), scene.client(Some(&other))?, &[]).await?;
    assert_eq!(outcome, "401 credential_revoked", "what a revoked hop says");
    scene.envoy.check_unharmed().await
}
