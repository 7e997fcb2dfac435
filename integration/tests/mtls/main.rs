//! Real TLS: certificates that the test makes, through the real Envoy, to a caller or a refusal. And the direction of
//! a listener.

use std::sync::Arc;

use mlgate_integration::{ModelServer, Stack, artifacts, client};
use serde_json::{Value, json};

use scene::{OTHER, Says, Scene, WITH_ALL_NAMES, WITH_VALIDITY, WORKER, builder, document, says_valid, uris};

mod hops;
mod scene;

#[tokio::test]
async fn an_envoy_that_cannot_say_what_is_valid_lets_nobody_in_by_attribute() -> anyhow::Result<()> {
    if artifacts::envoy_minor()? >= WITH_VALIDITY {
        return Ok(());
    }
    let mtls = json!({"trust_domains": ["acme.example"], "peer_validation": "attribute"});
    let scene = Scene::start("mtls-old", &mtls, false, "ACCEPT_UNTRUSTED").await?;
    for authority in [&scene.authority, &scene.rogue] {
        assert_eq!(scene.shown(&authority.issue(uris(&[WORKER]))?).await?, "401 credential_invalid");
    }
    assert_eq!(scene.outcome(scene.client(None)?).await?, "401 credential_missing");
    scene.envoy.check_unharmed().await
}

#[tokio::test]
async fn where_the_listener_lets_anybody_in_only_what_the_proxy_verified_counts() -> anyhow::Result<()> {
    if !says_valid("each row of `peer_validation: attribute`")? {
        return Ok(());
    }
    let mtls = json!({"trust_domains": ["acme.example"], "peer_validation": "attribute"});
    let scene = Scene::start("mtls-attribute", &mtls, false, "ACCEPT_UNTRUSTED").await?;
    let ours = |says| scene.authority.issue(says);
    let shows_all = artifacts::envoy_minor()? >= WITH_ALL_NAMES;
    let either = |all: &'static str, first: &'static str| if shows_all { all } else { first };
    let workload = "mtls:spiffe://acme.example/ns/search/sa/indexer of search";
    for (what, pair, expected) in [
        ("valid", ours(uris(&[WORKER]))?, "batch"),
        ("valid, of the domain", ours(uris(&[OTHER]))?, workload),
        ("valid, of another domain", ours(uris(&["spiffe://evil.example/x"]))?, "401 credential_missing"),
        ("valid, malformed", ours(uris(&["spiffe://acme.example/x/"]))?, "401 credential_invalid"),
        ("two SPIFFE IDs", ours(uris(&[WORKER, OTHER]))?, either("401 credential_invalid", "batch")),
        (
            "a SPIFFE ID after another URI",
            ours(uris(&["urn:x", WORKER]))?,
            either("401 credential_invalid", "401 credential_missing"),
        ),
        ("a later URI", ours(uris(&["urn:x", "urn:y"]))?, either("second", "401 credential_missing")),
        (
            "DNS, of two consumers",
            ours(Says { names: &["one.example", "two.example"], ..Says::default() })?,
            either("401 credential_invalid", "legacy"),
        ),
        (
            "DNS, a later one",
            ours(Says { names: &["x.example", "two.example"], ..Says::default() })?,
            either("second", "401 credential_missing"),
        ),
        ("common name", ours(Says { common_name: "client-1", ..Says::default() })?, "legacy"),
        ("subject", ours(Says { common_name: "client-2", ..Says::default() })?, "exact"),
        (
            "common name in disguise",
            ours(Says { common_name: "x,CN=client-1", ..Says::default() })?,
            "401 credential_missing",
        ),
        ("expired", ours(Says { expired: true, ..uris(&[WORKER]) })?, "401 credential_invalid"),
        ("rogue", scene.rogue.issue(uris(&[WORKER]))?, "401 credential_invalid"),
        ("rogue, of nobody", scene.rogue.issue(uris(&["urn:x"]))?, "401 credential_invalid"),
    ] {
        assert_eq!(scene.shown(&pair).await?, expected, "{what}");
    }
    assert_eq!(scene.outcome(scene.client(None)?).await?, "401 credential_missing");
    scene.envoy.check_unharmed().await
}

#[tokio::test]
async fn the_proxy_calls_no_certificate_of_a_resumed_session_valid() -> anyhow::Result<()> {
    if !says_valid("sessions that are resumed under `peer_validation: attribute`")? {
        return Ok(());
    }
    let mtls = json!({"trust_domains": ["acme.example"], "peer_validation": "attribute"});
    for (resumes, later) in [(true, "401 credential_invalid"), (false, "batch")] {
        let scene = Scene::with_resumption("mtls-resumed", &mtls, false, "ACCEPT_UNTRUSTED", resumes).await?;
        let rogue = scene.client(Some(&scene.rogue.issue(uris(&[WORKER]))?))?;
        let valid = scene.client(Some(&scene.authority.issue(uris(&[WORKER]))?))?;
        for expected in ["batch", later, later] {
            assert_eq!(scene.outcome(Arc::clone(&rogue)).await?, "401 credential_invalid");
            assert_eq!(scene.outcome(Arc::clone(&valid)).await?, expected, "resumption: {resumes}");
        }
        let reused = scene.envoy.statistics("ssl.session_reused").await?;
        assert_eq!(reused.iter().any(|(_, count)| *count > 0), resumes, "{reused:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_listener_that_verifies_can_be_taken_at_its_word() -> anyhow::Result<()> {
    let mtls = json!({"trust_domains": ["acme.example"], "peer_validation": "listener"});
    let scene = Scene::start("mtls-listener", &mtls, true, "VERIFY_TRUST_CHAIN").await?;
    assert_eq!(scene.shown(&scene.authority.issue(uris(&[WORKER]))?).await?, "batch");
    let refused = [
        scene.authority.issue(Says { expired: true, ..uris(&[WORKER]) })?,
        scene.rogue.issue(uris(&[WORKER]))?,
    ];
    for pair in &refused {
        assert!(scene.shown(pair).await.is_err(), "the handshake succeeded");
    }
    assert!(scene.outcome(scene.client(None)?).await.is_err(), "the handshake succeeded");
    scene.envoy.check_unharmed().await
}

#[tokio::test]
async fn where_the_operators_word_is_wrong_anybody_is_whom_he_says() -> anyhow::Result<()> {
    let mtls = json!({"trust_domains": ["acme.example"], "peer_validation": "listener"});
    let scene = Scene::start("mtls-trap", &mtls, false, "ACCEPT_UNTRUSTED").await?;
    // the reason why `attribute` is the default
    assert_eq!(scene.shown(&scene.rogue.issue(uris(&[WORKER]))?).await?, "batch");
    scene.envoy.check_unharmed().await
}

#[tokio::test]
async fn streams_that_leave_a_workload_are_refused_by_name() -> anyhow::Result<()> {
    fn outbound(bootstrap: &mut Value) {
        let listener = bootstrap.pointer_mut("/static_resources/listeners/0").unwrap();
        listener.as_object_mut().unwrap().insert("traffic_direction".into(), json!("OUTBOUND"));
    }
    fn inbound(bootstrap: &mut Value) {
        let listener = bootstrap.pointer_mut("/static_resources/listeners/0").unwrap();
        listener.as_object_mut().unwrap().insert("traffic_direction".into(), json!("INBOUND"));
    }
    fn gateway(bootstrap: &mut Value) {
        *bootstrap.pointer_mut("/node/id").unwrap() = json!("router~10.0.0.1~gateway-1.default~default.svc");
        outbound(bootstrap);
    }
    fn sidecar(bootstrap: &mut Value) {
        *bootstrap.pointer_mut("/node/id").unwrap() = json!("sidecar~10.0.0.1~router~.default~default.svc");
        outbound(bootstrap);
    }
    let stack = Stack::create("direction")?;
    let model = ModelServer::start().await?;
    let edits: [(scene::Edit, u16, &str); 5] = [
        (|_| {}, 401, "credential_missing"),
        (inbound, 401, "credential_missing"),
        (gateway, 401, "credential_missing"),
        (outbound, 403, "access_denied"),
        (sidecar, 403, "access_denied"),
    ];
    for (edit, status, reason) in edits {
        let envoy = builder(&model, &document(&json!({})))?.edit(edit).start(&stack).await?;
        let answer = client::get(envoy.address(), "/v1/models").await?;
        let problem = answer.json()?;
        let read = problem.pointer("/reason").and_then(Value::as_str).unwrap_or_default();
        assert_eq!((answer.status, read), (status, reason));
        let refused = envoy.statistics("direction_refused").await?;
        assert_eq!(
            refused.iter().map(|(_, value)| value).sum::<u64>(),
            u64::from(status == 403),
            "{refused:?}"
        );
        envoy.check_unharmed().await?;
    }
    Ok(())
}
