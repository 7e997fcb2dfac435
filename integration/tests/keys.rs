//! Keys that an issuer publishes, in a real Envoy of two workers: fetched once, rotated, missing, gone for a while and
//! gone for too long. The issuer is a relay that answers as it is told and counts.

#![expect(clippy::disallowed_methods, reason = "tokens are made for the time in which the test runs")]

#[path = "../../tests/jwt/tokens.rs"]
#[expect(dead_code, reason = "other tests have other tokens")]
mod tokens;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Request;
use jsonwebtoken::Algorithm;
use mlgate::cases;
use mlgate_integration::collector::text;
use mlgate_integration::gate::Gate;
use mlgate_integration::relay::Manner;
use mlgate_integration::{Answer, Cluster, ModelServer, Relay, client};
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use tokens::{Pair, ed25519, p256, rsa};

/// What runs.
struct Scene {
    issuer: Relay,
    model: ModelServer,
    gate: Gate,
}

/// For whatever must happen soon; a machine that does ten things at once is slow.
const BOUND: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
const ISSUER: &str = "https://issuer.example";
const KEYS: &str = "/keys";
const DISCOVERY: &str = "/.well-known/openid-configuration";

// === impl Scene ===

impl Scene {
    /// A gate whose provider has these words beside its name, before an issuer that treats its first callers so.
    async fn start(name: &str, words: Json, keyed: bool, manners: &[(&str, Manner)]) -> anyhow::Result<Self> {
        let issuer = Relay::alone().await?;
        for (path, manner) in manners {
            issuer.treat_at(path, manner.clone());
        }
        let mut provider = json!({
            "name": "corp", "issuer": ISSUER, "audiences": ["model-gateway"],
            "algorithms": ["RS256", "ES256", "EdDSA"],
            "claims": { "roles": ["realm_access", "roles"] },
        });
        let (Json::Object(provider_words), Json::Object(words)) = (&mut provider, words) else {
            bail!("no words")
        };
        provider_words.extend(words);
        let shared = if keyed { json!([{ "id": "s1", "env": "MLGATE_SHARED_KEY_1" }]) } else { json!([]) };
        let document = json!({
            "version": 1,
            "name": "gate",
            "consumers": [{ "name": "user_1", "roles": ["reader"], "credentials": {
                "api_keys": [{ "id": "alice001", "digest": format!("sha256:{}", "0".repeat(64)) }] } }],
            "authentication": { "jwt": { "providers": [provider] } },
            "resources": { "unlisted": "allow", "rules": [{ "preset": "openai" }] },
            "authorization": { "roles": { "reader": { "permissions": ["list"] } } },
            "audit": {
                "collector": { "cluster": "audit" },
                "chain": { "keys": [{ "id": "c1", "env": "MLGATE_CHAIN_KEY_1" }] },
            },
            "shared_data": { "keys": shared },
        });
        let model = ModelServer::start().await?;
        let secrets = cases::Gate::of(document).map_err(anyhow::Error::msg)?;
        let idp = Cluster::http1("idp", issuer.address());
        let upstream = Cluster::http1("model", model.address());
        let gate = Gate::start(name, secrets, upstream, |builder| builder.cluster(idp)).await?;
        Ok(Self { issuer, model, gate })
    }

    /// Each call has a connection of its own, so that either worker may have it.
    async fn call(&self, token: &str) -> anyhow::Result<Answer> {
        let request = Request::get("/v1/models").header("authorization", format!("Bearer {token}"));
        client::call(self.gate.envoy.address(), request.body(Bytes::new())?).await
    }

    async fn reason(&self, token: &str) -> anyhow::Result<(u16, String)> {
        let answer = self.call(token).await?;
        Ok((answer.status, answer.reason().unwrap_or_default()))
    }

    /// Calls until the answer is this, and gives it.
    async fn until(&self, token: &str, status: u16, reason: &str) -> anyhow::Result<Answer> {
        let since = Instant::now();
        loop {
            let answer = self.call(token).await?;
            if answer.status == status && answer.reason().unwrap_or_default() == reason {
                return Ok(answer);
            }
            if since.elapsed() > BOUND {
                bail!("still {} {:?}, not {status} {reason}", answer.status, answer.reason());
            }
            sleep(POLL).await;
        }
    }

    async fn check_key_works(&self) -> anyhow::Result<()> {
        let request = Request::get("/v1/models").header("x-api-key", self.gate.key("alice001"));
        let answer = client::call(self.gate.envoy.address(), request.body(Bytes::new())?).await?;
        assert_eq!(answer.status, 200, "another credential: {}", answer.text());
        Ok(())
    }
}

fn remote(more: &Json) -> Json {
    let mut remote = json!({
        "cluster": "idp", "uri": format!("{ISSUER}{KEYS}"), "timeout": "1s", "cache_duration": "1h",
        "cooldown": "3s", "failed_refetch_duration": "1s", "max_stale": "2h",
    });
    if let (Json::Object(words), Json::Object(more)) = (&mut remote, more) {
        words.extend(more.clone());
    }
    json!({ "remote_jwks": remote })
}

fn jwks(keys: &[Pair]) -> Manner {
    let keys: Vec<&Json> = keys.iter().map(|pair| &pair.jwk).collect();
    Manner::ok("application/json", json!({ "keys": keys }).to_string())
}

fn down() -> Manner {
    Manner::answer("503 Service Unavailable", "", b"")
}

fn claims() -> anyhow::Result<Json> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    Ok(json!({
        "iss": ISSUER, "aud": "model-gateway", "sub": "alice", "iat": now.saturating_sub(10),
        "exp": now.saturating_add(600), "realm_access": { "roles": ["reader"] },
    }))
}

fn ed() -> anyhow::Result<String> {
    Ok(ed25519().token(Algorithm::EdDSA, &claims()?))
}

/// A token whose key nobody has ever published.
fn invented(id: &str) -> anyhow::Result<String> {
    let header = json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": id }).to_string();
    Ok(ed25519().sign(Algorithm::EdDSA, &header, &claims()?.to_string()))
}

#[tokio::test]
async fn one_worker_fetches_for_all_and_a_new_key_is_found_when_it_is_used() -> anyhow::Result<()> {
    let scene = Scene::start("keys", remote(&json!({})), true, &[(KEYS, jwks(&[ed25519(), rsa()]))]).await?;
    // before anybody asks
    scene.issuer.wait_for(KEYS, 1, BOUND).await?;
    let asked = scene.issuer.asked(KEYS);
    assert!(asked[0].head.contains("host: issuer.example"), "{}", asked[0].head);
    for _ in 0..20 {
        let answer = scene.call(&ed()?).await?;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(scene.call(&rsa().token(Algorithm::RS256, &claims()?)).await?.status, 200);
    assert_eq!(scene.issuer.count(KEYS), 1, "two workers and a main thread");

    // rotation: the issuer signs with a key that was not there
    scene.issuer.treat_at(KEYS, jwks(&[ed25519(), p256()]));
    let rotated = p256().token(Algorithm::ES256, &claims()?);
    scene.until(&rotated, 200, "").await?;
    assert_eq!(scene.issuer.count(KEYS), 2);
    // and the other one is gone in every worker, although it was verified a moment ago
    let gone = rsa().token(Algorithm::RS256, &claims()?);
    let since = Instant::now();
    let mut refused = 0_u32;
    while refused < 20 {
        refused = if scene.call(&gone).await?.status == 200 { 0 } else { refused.saturating_add(1) };
        assert!(since.elapsed() < BOUND, "a key that was taken back still lets somebody in");
    }
    scene.check_key_works().await?;
    scene.gate.check_one_life().await
}

#[tokio::test]
async fn invented_keys_cost_one_fetch_per_cooldown_and_cost_nobody_else_anything() -> anyhow::Result<()> {
    let scene =
        Scene::start("keys-invented", remote(&json!({})), true, &[(KEYS, jwks(&[ed25519()]))]).await?;
    scene.until(&ed()?, 200, "").await?;
    let since = Instant::now();
    let (mut unavailable, mut invalid, mut number) = (0_u32, 0_u32, 0_u32);
    while since.elapsed() < Duration::from_secs(10) {
        number = number.saturating_add(1);
        let answer = scene.call(&invented(&format!("invented {number}"))?).await?;
        match (answer.status, answer.reason().as_deref()) {
            (503, Some("keys_unavailable")) => {
                let rest: u64 = answer.header("retry-after").context("no retry-after")?.parse()?;
                assert!((1..=3).contains(&rest), "the rest of the cooldown is {rest}");
                unavailable = unavailable.saturating_add(1);
            }
            (401, Some("credential_invalid")) => invalid = invalid.saturating_add(1),
            other => bail!("{other:?}"),
        }
        assert_eq!(scene.call(&ed()?).await?.status, 200);
        scene.check_key_works().await?;
    }
    let took = since.elapsed().as_secs();
    let fetches = scene.issuer.count(KEYS);
    // one at the start, one at once when its cooldown is over, one after each further one
    let most = usize::try_from(took.div_euclid(3))?.saturating_add(2);
    assert!((3..=most).contains(&fetches), "{fetches} fetches in {took} s, at most {most}");
    let apart = scene.issuer.asked(KEYS);
    for pair in apart.windows(2) {
        let between = pair[1].at.duration_since(pair[0].at);
        assert!(between >= Duration::from_millis(2_900), "{between:?} between two fetches");
    }
    assert!(unavailable > 0 && invalid > 0, "{unavailable} unavailable, {invalid} invalid");
    println!(
        "{number} invented keys in {took} s: {fetches} fetches, {unavailable} unavailable, {invalid} invalid"
    );
    scene.gate.check_one_life().await
}

#[tokio::test]
async fn known_keys_serve_while_the_issuer_is_down_until_they_are_too_old() -> anyhow::Result<()> {
    let words = remote(&json!({ "cache_duration": "1s", "max_stale": "8s" }));
    let scene = Scene::start("keys-down", words, true, &[(KEYS, down())]).await?;
    // never fetched: 503, and not the caller's fault
    let answer = scene.until(&ed()?, 503, "keys_unavailable").await?;
    assert!(answer.header("retry-after").is_some());
    scene.check_key_works().await?;
    scene.issuer.treat_at(KEYS, jwks(&[ed25519()]));
    scene.until(&ed()?, 200, "").await?;
    // what it serves is bad from now on, in every way
    let good = Instant::now();
    let manners = [
        down(),
        Manner::ok("text/html", "<html>keys</html>"),
        Manner::ok("application/json", r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#),
        Manner::ok("application/json", vec![b' '; 300 << 10]),
        Manner::ok("application/json", r#"{"keys":"#.repeat(20_000)),
        Manner::Closed,
    ];
    for manner in manners {
        scene.issuer.treat_at(KEYS, manner);
        let before = scene.issuer.count(KEYS);
        while scene.issuer.count(KEYS) == before && good.elapsed() < Duration::from_secs(6) {
            let answer = scene.call(&ed()?).await?;
            assert!(
                answer.status == 200 || good.elapsed() > Duration::from_secs(7),
                "{:?} after {:?}",
                answer.reason(),
                good.elapsed()
            );
            sleep(POLL).await;
        }
    }
    scene.until(&ed()?, 503, "keys_unavailable").await?;
    let after = good.elapsed();
    assert!(after >= Duration::from_secs(7), "too old after {after:?}");
    scene.check_key_works().await?;
    // what was let in by keys that should have been newer says so
    let told = scene.gate.collector.wait_for("a degraded event", BOUND, |events| {
        events.iter().any(|event| event.pointer("/degraded/0").and_then(Json::as_str) == Some("jwks"))
    });
    told.await?;
    // and when it is back, so are its callers
    scene.issuer.treat_at(KEYS, jwks(&[ed25519()]));
    scene.until(&ed()?, 200, "").await?;
    let metrics = scene.gate.envoy.admin_get("/stats?filter=jwks_age").await?;
    assert!(metrics.contains("mlgate_jwks_age_seconds") && metrics.contains("corp"), "{metrics}");
    let log = scene.gate.envoy.log()?;
    assert!(log.contains("the keys of `corp` could not be fetched: the status was 503"), "not in the log");
    assert!(log.contains("the keys of `corp` can be fetched again"), "not in the log");
    scene.gate.check_one_life().await
}

#[tokio::test]
async fn callers_wait_for_the_first_keys_of_an_issuer_that_says_where_they_are() -> anyhow::Result<()> {
    let document = json!({ "issuer": ISSUER, "jwks_uri": format!("{ISSUER}{KEYS}?v=1") }).to_string();
    let words = json!({ "discovery": { "cluster": "idp", "timeout": "5s" } });
    let manners = [(DISCOVERY, Manner::ok("application/json", &document)), (KEYS, jwks(&[ed25519()]))];
    let scene = Scene::start("keys-discovery", words, true, &manners).await?;
    let token = ed()?;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let request = Request::get("/v1/models").header("authorization", format!("Bearer {token}"));
        let (to, request) = (scene.gate.envoy.address(), request.body(Bytes::new())?);
        calls.spawn(async move { client::call(to, request).await });
    }
    while let Some(answer) = calls.join_next().await {
        let answer = answer??;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!((scene.issuer.count(DISCOVERY), scene.issuer.count(KEYS)), (1, 1));
    assert_eq!(scene.issuer.asked(KEYS)[0].path, format!("{KEYS}?v=1"));
    assert_eq!(scene.model.count(), 20);
    scene.gate.check_one_life().await
}

#[tokio::test]
async fn a_document_of_another_issuer_lets_nobody_in() -> anyhow::Result<()> {
    let document =
        json!({ "issuer": "https://evil.example", "jwks_uri": format!("{ISSUER}{KEYS}") }).to_string();
    let words = json!({ "discovery": { "cluster": "idp" } });
    let manners = [(DISCOVERY, Manner::ok("application/json", &document)), (KEYS, jwks(&[ed25519()]))];
    let scene = Scene::start("keys-evil", words, true, &manners).await?;
    scene.issuer.wait_for(DISCOVERY, 2, BOUND).await?;
    scene.until(&ed()?, 503, "keys_unavailable").await?;
    assert_eq!((scene.issuer.count(KEYS), scene.model.count()), (0, 0));
    scene.gate.check_one_life().await
}

#[tokio::test]
async fn without_a_key_of_shared_data_each_worker_fetches_for_itself() -> anyhow::Result<()> {
    let scene = Scene::start("keys-alone", remote(&json!({})), false, &[(KEYS, jwks(&[ed25519()]))]).await?;
    for _ in 0..20 {
        assert_eq!(scene.reason(&ed()?).await?, (200, String::new()));
    }
    // two workers and the main thread
    let fetches = scene.issuer.count(KEYS);
    assert!((2..=3).contains(&fetches), "{fetches} fetches");
    assert_eq!(text(&scene.gate.secrets.document, "name"), "gate");
    scene.gate.check_one_life().await
}
