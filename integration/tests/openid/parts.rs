//! The provider and the relay themselves, without a gate: what the other tests stand on.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mlgate_integration::openid_provider::{
    AUDIENCE, Client, DISCOVERY, Format, ISSUER, KEYS, OpenIdProvider,
};
use mlgate_integration::relay::Manner;
use mlgate_integration::{Relay, Stack, client};
use serde_json::{Value, json};

fn part(token: &str, number: usize) -> anyhow::Result<Value> {
    let part = token.split('.').nth(number).unwrap_or_default();
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part)?)?)
}

#[tokio::test]
async fn the_provider_issues_explains_revokes_and_rotates() -> anyhow::Result<()> {
    let stack = Stack::create("openid-provider")?;
    let worker = Client {
        id: String::from("worker"),
        secret: "0123456789abcdef".repeat(2),
        claims: json!({ "org": "acme" }),
    };
    let lifetime = Duration::from_secs(120);
    let Some(provider) = OpenIdProvider::start(&stack, lifetime, &["first"], &[worker]).await? else {
        return Ok(());
    };
    let relay = provider.relay();
    let said = client::get(relay.address(), DISCOVERY).await?.json()?;
    assert_eq!(said["issuer"], ISSUER);
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let token = provider.token("worker", Format::Jwt(algorithm)).await?;
        let head = json!({ "alg": algorithm, "typ": "at+jwt", "kid": format!("first-{algorithm}") });
        assert_eq!(part(&token, 0)?, head);
        let claims = part(&token, 1)?;
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!(ISSUER), &json!(AUDIENCE)));
        assert_eq!((&claims["sub"], &claims["org"]), (&json!("worker"), &json!("acme")));
    }
    let opaque = provider.token("worker", Format::Opaque).await?;
    assert!(!opaque.contains('.'), "not opaque");

    provider.rotate(&["second", "first"]).await?;
    let token = provider.token("worker", Format::Jwt("RS256")).await?;
    assert_eq!(part(&token, 0)?["kid"], "second-RS256");
    let keys = client::get(relay.address(), KEYS).await?.json()?;
    let ids = |keys: &Value| keys["keys"].as_array().map_or(0, Vec::len);
    assert_eq!(ids(&keys), 6);
    provider.rotate(&["second"]).await?;
    assert_eq!(ids(&client::get(relay.address(), KEYS).await?.json()?), 3);

    // what was issued before the keys changed
    let meaning = provider.introspect("worker", &opaque).await?;
    assert_eq!((&meaning["active"], &meaning["org"]), (&json!(true), &json!("acme")));
    provider.revoke("worker", &opaque).await?;
    assert_eq!(provider.introspect("worker", &opaque).await?, json!({ "active": false }));
    assert_eq!((relay.count(DISCOVERY), relay.count(KEYS)), (1, 2), "only what went through it");
    Ok(())
}

#[tokio::test]
async fn the_relay_is_slow_closed_or_says_what_it_is_told() -> anyhow::Result<()> {
    let relay = Relay::alone().await?;
    let behind = Relay::before(relay.address()).await?;
    relay.treat(Manner::ok("text/plain", "hello"));
    for address in [relay.address(), behind.address()] {
        let answer = client::get(address, "/a?b").await?;
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    }
    assert_eq!((relay.count("/a"), behind.count("/a"), behind.count("/b")), (2, 1, 0));
    assert!(relay.asked("/a")[1].head.contains("x-forwarded-proto: https"));

    let late = Duration::from_millis(120);
    behind.treat_at("/late", Manner::Late(late));
    let start = Instant::now();
    assert_eq!(client::get(behind.address(), "/late").await?.status, 200);
    assert!(start.elapsed() >= late);
    behind.treat(Manner::Closed);
    assert!(client::get(behind.address(), "/a").await.is_err());
    assert_eq!(behind.count("/"), 3);

    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".into();
    behind.treat(Manner::Endless { head, piece: "1\r\n \r\n".into() });
    let endless = tokio::time::timeout(late, client::get(behind.address(), "/a")).await;
    assert!(endless.is_err(), "an end");
    Ok(())
}
