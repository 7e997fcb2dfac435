//! Tokens that pass, and pass no longer: by discovery, by introspection, across changes of keys.

use std::time::Duration;

use mlgate_integration::openid_provider::{DISCOVERY, Format, INTROSPECTION, KEYS};
use mlgate_integration::relay::Manner;
use tokio::time::{Instant, sleep};

use crate::scene::{GATE, POLL, Pace, SLACK, Scene, WORKER, document, of_key, secrets, verdict};

const PACE: Pace = Pace { cache_duration: "1s", cooldown: "1s", failed_refetch: "1s", max_stale: "1h" };
const SECOND: Duration = Duration::from_secs(1);
/// What the provider may take beside: one fetch.
const TIMEOUT: Duration = SECOND;

#[tokio::test]
async fn tokens_pass_by_discovery_and_by_introspection_until_they_are_taken_back() -> anyhow::Result<()> {
    let slow = Pace { cache_duration: "5m", cooldown: "10s", ..PACE };
    let Some(scene) = Scene::start("openid", document(slow)).await? else { return Ok(()) };
    let relay = scene.provider.relay();
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let token = scene.provider.token(WORKER, Format::Jwt(algorithm)).await?;
        for _ in 0..10 {
            let answer = scene.call(&token).await?;
            assert_eq!(answer.status, 200, "{algorithm}: {}", answer.text());
        }
        let seen = scene.model.last().expect("nothing came");
        assert_eq!(seen.header("x-mlgate-principal").as_deref(), Some("jwt:corp:worker"));
        assert_eq!(seen.header("x-mlgate-org").as_deref(), Some("acme"));
        assert_eq!(seen.header("authorization"), None);
    }
    assert_eq!((relay.count(DISCOVERY), relay.count(KEYS)), (1, 1), "one fetch for both workers");

    let token = scene.provider.token(WORKER, Format::Opaque).await?;
    for _ in 0..4 {
        let answer = scene.call(&token).await?;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let seen = scene.model.last().expect("nothing came");
    assert_eq!(seen.header("x-mlgate-principal").as_deref(), Some("opaque:opaque:worker"));
    assert_eq!(seen.header("authorization"), None);
    assert!(relay.count(INTROSPECTION) >= 1);
    let asked = relay.asked(INTROSPECTION);
    assert!(asked.iter().all(|asked| asked.method == "POST" && !asked.path.contains(&token)));

    scene.provider.revoke(WORKER, &token).await?;
    let took = scene.becomes(&token, 401, Some("credential_invalid"), SECOND + SECOND + SLACK).await?;
    println!(
        "revoked at the provider, refused {took:.2?} later; believed for 1 s (bound: 2 s, {SLACK:?} for the machine)"
    );

    // the gate's own client may ask about tokens; nobody's token is nobody's
    let answer = scene.call("nobodys-token").await?;
    assert_eq!(verdict(&answer), (401, Some("credential_invalid".into())));
    assert!(scene.provider.introspect(GATE, &token).await?["active"] == false);
    scene.check().await
}

#[tokio::test]
async fn a_new_key_needs_no_push_and_a_removed_one_ends_what_was_cached() -> anyhow::Result<()> {
    let Some(scene) = Scene::start("rotation", document(PACE)).await? else { return Ok(()) };
    let first = scene.provider.token(WORKER, Format::Jwt("RS256")).await?;
    assert_eq!(scene.call(&first).await?.status, 200);

    scene.provider.rotate(&["second", "first"]).await?;
    let second = scene.provider.token(WORKER, Format::Jwt("RS256")).await?;
    // at most one fetch a second: the first answer may be that nobody can say yet
    let took = scene.becomes(&second, 200, None, SECOND + TIMEOUT + SLACK).await?;
    println!("a token of a new key passed {took:.2?} after it was issued");
    assert_eq!(scene.call(&first).await?.status, 200, "the old key is still published");

    scene.provider.rotate(&["second"]).await?;
    let start = Instant::now();
    while scene.call(&first).await?.status == 200 {
        assert!(start.elapsed() < SECOND + SECOND + SLACK, "a removed key's token still passes");
        sleep(POLL).await;
    }
    println!(
        "a removed key's cached token was refused {:.2?} later; keys are looked for each second (bound: 2 s, {SLACK:?} for \
         the machine)",
        start.elapsed()
    );
    scene.becomes(&first, 401, Some("credential_invalid"), SECOND + TIMEOUT + SLACK).await?;
    assert_eq!(scene.call(&second).await?.status, 200);
    // by then a fetch has ended that did not have it
    scene
        .becomes(&of_key(&second, "nobodys")?, 401, Some("credential_invalid"), SECOND + TIMEOUT + SLACK)
        .await?;
    scene.check().await
}

#[tokio::test]
async fn an_issuer_that_says_it_is_another_is_not_believed() -> anyhow::Result<()> {
    let impostor = r#"{"issuer":"https://evil.example","jwks_uri":"https://idp.example/jwks"}"#;
    let secrets = secrets(document(PACE))?;
    let scene = Scene::with("impostor", secrets, |provider, builder| {
        provider.relay().treat_at(DISCOVERY, Manner::ok("application/json", impostor));
        builder
    });
    let Some(scene) = scene.await? else { return Ok(()) };
    let relay = scene.provider.relay();
    let token = scene.provider.token(WORKER, Format::Jwt("RS256")).await?;
    let answer = scene.call(&token).await?;
    assert_eq!(verdict(&answer), (503, Some("keys_unavailable".into())));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(relay.count(KEYS), 0);
    relay.treat(Manner::Pass);
    scene.becomes(&token, 200, None, SECOND + TIMEOUT + SLACK).await?;
    scene.check().await
}
