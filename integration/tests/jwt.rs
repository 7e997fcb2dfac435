//! Tokens of every algorithm in a real Envoy: the proxy checks RSA and ECDSA, the filter EdDSA and HS256.

#![expect(clippy::disallowed_methods, reason = "tokens are made for the time in which the test runs")]

#[path = "../../tests/jwt/p521.rs"]
mod p521;
#[path = "../../tests/jwt/tokens.rs"]
mod tokens;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use jsonwebtoken::Algorithm;
use mlgate::envoy::CAPABILITIES;
use mlgate_integration::collector::Collector;
use mlgate_integration::{
    Answer, Cluster, Envoy, EnvoyBuilder, ModelServer, Plugin, Route, Stack, artifacts, client,
};
use serde_json::{Value as Json, json};
use tokio::time::timeout;

use tokens::{Pair, SECRET, confused, ed25519, p256, p384, rsa, shared};

/// What runs.
struct Scene {
    model: ModelServer,
    collector: Collector,
    envoy: Envoy,
    _stack: Stack,
}

const BOUND: Duration = Duration::from_secs(20);
const CHAIN_KEY: &str = "0123456789abcdef0123456789abcdeffedcba98";
const ISSUER: &str = "https://issuer.example";

const ALL: [(Algorithm, fn() -> Pair); 7] = [
    (Algorithm::RS256, rsa),
    (Algorithm::RS384, rsa),
    (Algorithm::RS512, rsa),
    (Algorithm::ES256, p256),
    (Algorithm::ES384, p384),
    (Algorithm::EdDSA, ed25519),
    (Algorithm::HS256, shared),
];

// === impl Scene ===

impl Scene {
    async fn start(name: &str, forward: bool, edit: fn(&mut Json)) -> anyhow::Result<Self> {
        let document = json!({
            "version": 1,
            "name": "gate",
            "consumers": [{ "name": "user_1", "roles": ["reader"], "credentials": {
                "jwt": [{ "provider": "corp", "subject": "bob" }] } }],
            "authentication": { "jwt": { "providers": [{
                "name": "corp",
                "issuer": ISSUER,
                "audiences": ["model-gateway"],
                "algorithms": ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA", "HS256"],
                "local_jwks": { "keys": [rsa().jwk, p256().jwk, p384().jwk, p521::jwk(), ed25519().jwk] },
                "hmac_secrets": [{ "id": "shared", "env": "MLGATE_JWT_SECRET_1" }],
                "scopes": { "models:read": ["list"] },
                "claims": { "roles": ["realm_access", "roles"], "tier": "plan", "attributes": { "org": "org" } },
                "forward": forward,
            }] } },
            "resources": { "unlisted": "allow", "rules": [{ "preset": "openai" }] },
            "authorization": { "roles": { "reader": { "permissions": ["list"] } } },
            "audit": {
                "collector": { "cluster": "audit" },
                "chain": { "keys": [{ "id": "c1", "env": "MLGATE_CHAIN_KEY_1" }] },
            },
        });
        let stack = Stack::create(name)?;
        let model = ModelServer::start().await?;
        let environment = BTreeMap::from([("MLGATE_CHAIN_KEY_1".to_owned(), CHAIN_KEY.to_owned())]);
        let collector = Collector::start(&stack, &document, &environment).await?;
        let plugin = Plugin::new("mlgate", artifacts::filter_wasm()?)
            .configuration(document.to_string())
            .environment("MLGATE_CHAIN_KEY_1", CHAIN_KEY)
            .environment("MLGATE_JWT_SECRET_1", SECRET);
        let envoy = EnvoyBuilder::new()
            .concurrency(1)
            .plugin(plugin)
            .cluster(Cluster::http1("model", model.address()))
            .cluster(Cluster::http1("audit", collector.address()))
            .route(Route::prefix("/", "model"))
            .edit(edit)
            .start(&stack)
            .await?;
        Ok(Self { model, collector, envoy, _stack: stack })
    }

    async fn call(&self, token: &str) -> anyhow::Result<Answer> {
        let request = Request::get("/v1/models").header("authorization", format!("Bearer {token}"));
        client::call(self.envoy.address(), request.body(Bytes::new())?).await
    }

    /// A refusal, which does not reach the upstream.
    async fn check_refused(&self, token: &str, reason: &str, what: &str) -> anyhow::Result<()> {
        let before = self.model.count();
        let answer = self.call(token).await?;
        assert_eq!((answer.status, text(&answer.json()?, "/reason")), (401, reason.to_owned()), "{what}");
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        assert!(challenge.contains("error=\"invalid_token\""), "{what}: {challenge}");
        assert_eq!(self.model.count(), before, "{what}");
        Ok(())
    }

    /// The event of an answer, once it has arrived.
    async fn event(&self, answer: &Answer) -> anyhow::Result<Json> {
        let decision = answer.header("x-mlgate-decision-id").context("no decision id")?;
        let told = async {
            loop {
                let events = self.collector.events()?;
                if let Some(event) = events.into_iter().find(|event| text(event, "/decision_id") == decision)
                {
                    return anyhow::Ok(event);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(BOUND, told).await.context("not in the log")?
    }
}

/// Takes the function away by which the proxy checks signatures, and nothing else.
fn without_signatures(bootstrap: &mut Json) {
    const FILTER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config/vm_config";
    let others = CAPABILITIES.iter().filter(|name| **name != "proxy_call_foreign_function");
    let allowed: serde_json::Map<String, Json> = others.map(|name| ((*name).to_owned(), json!({}))).collect();
    if let Some(Json::Object(config)) = bootstrap.pointer_mut(FILTER) {
        let restriction = json!({ "allowed_capabilities": allowed });
        config.insert("capability_restriction_config".to_owned(), restriction);
    }
}

fn text(value: &Json, pointer: &str) -> String {
    value.pointer(pointer).and_then(Json::as_str).unwrap_or_default().to_owned()
}

fn claims(subject: &str, lives: i64) -> anyhow::Result<Json> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    Ok(json!({
        "iss": ISSUER, "aud": ["model-gateway"], "sub": subject, "jti": "t-1", "scope": "openid models:read",
        "iat": now.saturating_sub(600), "exp": now.saturating_add(lives),
        "realm_access": { "roles": ["reader"] }, "plan": "pro", "org": "acme",
    }))
}

/// The same token with some letters of its signature changed.
fn wrong(token: &str) -> anyhow::Result<String> {
    let (text, signature) = token.rsplit_once('.').context("no signature")?;
    let changed = if signature.starts_with("AAAA") { "BBBB" } else { "AAAA" };
    Ok(format!("{text}.{changed}{}", signature.get(4..).context("too short")?))
}

#[tokio::test]
async fn tokens_of_every_algorithm_pass_and_wrong_ones_do_not() -> anyhow::Result<()> {
    let scene = Scene::start("jwt", false, |_| ()).await?;
    for (algorithm, pair) in ALL {
        let what = format!("{algorithm:?}");
        let token = pair().token(algorithm, &claims("alice", 300)?);
        // wrong ones first: none may be remembered, and a right one must not make them right
        scene.check_refused(&wrong(&token)?, "credential_invalid", &what).await?;
        for _ in 0..2 {
            let answer = scene.call(&token).await?;
            assert_eq!(answer.status, 200, "{what}: {}", answer.text());
            let seen = scene.model.last().context("nothing came")?;
            let header = |name: &str| seen.header(name).unwrap_or_default();
            assert_eq!(header("x-mlgate-principal"), "jwt:corp:alice", "{what}");
            assert_eq!((header("x-mlgate-tier"), header("x-mlgate-org")), ("pro".into(), "acme".into()));
            assert_eq!(seen.header("authorization"), None, "{what}: the token reached the upstream");
        }
        scene.check_refused(&wrong(&token)?, "credential_invalid", &what).await?;
        scene.check_refused(&token.replace('.', ".."), "credential_invalid", &what).await?;
        let old = pair().token(algorithm, &claims("alice", -61)?);
        scene.check_refused(&old, "credential_expired", &what).await?;
        // signed by the same algorithm with claims of another token
        let other = pair().token(algorithm, &claims("root", 300)?);
        let (text, _) = other.rsplit_once('.').context("no signature")?;
        let (_, signature) = token.rsplit_once('.').context("no signature")?;
        scene.check_refused(&format!("{text}.{signature}"), "credential_invalid", &what).await?;
    }
    scene.envoy.check_unharmed().await
}

/// A token with another signature.
fn with_signature(token: &str, signature: &[u8]) -> String {
    let text = token.rsplit_once('.').map_or(token, |(text, _)| text);
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn signature(token: &str) -> anyhow::Result<Vec<u8>> {
    Ok(URL_SAFE_NO_PAD.decode(token.rsplit_once('.').context("no signature")?.1)?)
}

/// The sum of two numbers of one length, big-endian; `None` where it has more bytes.
fn sum(left: &[u8], right: &[u8]) -> Option<Vec<u8>> {
    let mut carry = 0_u16;
    let mut sum: Vec<u8> = left
        .iter()
        .zip(right)
        .rev()
        .map(|(left, right)| {
            let digit = carry.saturating_add(u16::from(*left)).saturating_add(u16::from(*right));
            carry = digit >> 8;
            digit.to_le_bytes()[0]
        })
        .collect();
    sum.reverse();
    (carry == 0).then_some(sum)
}

#[tokio::test]
async fn the_proxy_takes_no_second_spelling_of_a_signature() -> anyhow::Result<()> {
    let scene = Scene::start("jwt-spellings", false, |_| ()).await?;
    let claims = claims("alice", 300)?;
    for (what, token, half) in [
        ("ES256", p256().token(Algorithm::ES256, &claims), 32),
        ("ES384", p384().token(Algorithm::ES384, &claims), 48),
        ("ES512", p521::token(&claims), 66),
    ] {
        let right = signature(&token)?;
        let (r, s) = right.split_at_checked(half).context("too short")?;
        let (zeros, ones) = (vec![0; half], vec![0xff; half]);
        for wrong in [
            Vec::new(),
            zeros.repeat(2),
            ones.repeat(2),
            [r, &zeros].concat(),
            [&zeros, s].concat(),
            [&[0], r, &[0], s].concat(),
            [&right[..], &[0]].concat(),
            right.repeat(2),
            // what the proxy itself reads, which no JWS carries
            [&[0x30, 6, 2, 1][..], &[1, 2, 1, 1]].concat(),
        ] {
            scene.check_refused(&with_signature(&token, &wrong), "credential_invalid", what).await?;
        }
        assert_eq!(scene.call(&token).await?.status, 200, "{what}");
    }
    let modulus = URL_SAFE_NO_PAD.decode(text(&rsa().jwk, "/n"))?;
    // one in two has room for the modulus in as many bytes
    let mut found = None;
    for number in 0..100 {
        let mut claims = claims.clone();
        claims["jti"] = json!(number.to_string());
        let token = rsa().token(Algorithm::RS256, &claims);
        if let Some(second) = sum(&signature(&token)?, &modulus) {
            found = Some((token, second));
            break;
        }
    }
    let (token, second) = found.context("no signature has room")?;
    let right = signature(&token)?;
    for wrong in [&second, &[&[0], &right[..]].concat(), &vec![0; 256], &vec![0xff; 256], &Vec::new()] {
        scene.check_refused(&with_signature(&token, wrong), "credential_invalid", "RS256").await?;
    }
    // PSS under the name of the other padding
    let header = r#"{"alg":"RS256","kid":"rsa"}"#;
    let pss = rsa().sign(Algorithm::PS256, header, &claims.to_string());
    scene.check_refused(&pss, "credential_invalid", "PSS").await?;
    assert_eq!(scene.call(&token).await?.status, 200);
    // nor an ID token where an access token is due
    let mut id_token = claims.clone();
    id_token["nonce"] = json!("n-1");
    let id_token =
        ed25519().sign(Algorithm::EdDSA, r#"{"alg":"EdDSA","kid":"ed25519"}"#, &id_token.to_string());
    scene.check_refused(&id_token, "credential_invalid", "an ID token").await?;
    scene.envoy.check_unharmed().await
}

#[tokio::test]
async fn where_the_proxy_may_not_check_signatures_nobody_passes_by_them() -> anyhow::Result<()> {
    let scene = Scene::start("jwt-restricted", false, without_signatures).await?;
    for (algorithm, pair) in ALL {
        let answer = scene.call(&pair().token(algorithm, &claims("alice", 300)?)).await?;
        let by_filter = matches!(algorithm, Algorithm::EdDSA | Algorithm::HS256);
        assert_eq!(answer.status, if by_filter { 200 } else { 503 }, "{algorithm:?}: {}", answer.text());
        if !by_filter {
            assert_eq!(text(&answer.json()?, "/reason"), "keys_unavailable");
            assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
        }
    }
    assert_eq!(scene.model.count(), 2);
    scene.envoy.check_unharmed().await
}

#[tokio::test]
async fn a_token_that_brings_its_own_trust_is_refused() -> anyhow::Result<()> {
    let scene = Scene::start("jwt-trust", false, |_| ()).await?;
    let claims = claims("alice", 300)?.to_string();
    let modulus = text(&rsa().jwk, "/n");
    for (what, token) in [
        (
            "a public key as a secret",
            confused(modulus.as_bytes()).sign(Algorithm::HS256, r#"{"alg":"HS256","kid":"rsa"}"#, &claims),
        ),
        ("no algorithm", ed25519().sign(Algorithm::EdDSA, r#"{"alg":"none","kid":"ed25519"}"#, &claims)),
        ("another algorithm", rsa().sign(Algorithm::PS256, r#"{"alg":"PS256","kid":"rsa"}"#, &claims)),
        ("another hash", rsa().sign(Algorithm::RS512, r#"{"alg":"RS256","kid":"rsa"}"#, &claims)),
        (
            "a key of its own",
            ed25519().sign(
                Algorithm::EdDSA,
                &json!({ "alg": "EdDSA", "jwk": ed25519().jwk }).to_string(),
                &claims,
            ),
        ),
        (
            "a critical extension",
            ed25519().sign(
                Algorithm::EdDSA,
                r#"{"alg":"EdDSA","kid":"ed25519","crit":["x"],"x":1}"#,
                &claims,
            ),
        ),
    ] {
        scene.check_refused(&token, "credential_invalid", what).await?;
    }
    // hostile bytes do not harm a worker
    for token in ["..", "a.b.c", "e30.e30.", "eyJhbGciOiJSUzI1NiJ9.e30.AAAA", &"x.".repeat(6000)] {
        scene.check_refused(token, "credential_invalid", token).await?;
    }
    scene.envoy.check_unharmed().await
}

#[tokio::test]
async fn an_event_names_the_token_and_the_consumer_it_belongs_to() -> anyhow::Result<()> {
    let scene = Scene::start("jwt-event", true, |_| ()).await?;
    let token = rsa().token(Algorithm::RS256, &claims("bob", 300)?);
    let answer = scene.call(&token).await?;
    assert_eq!(answer.status, 200);
    let seen = scene.model.last().context("nothing came")?;
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {token}")), "the provider forwards");
    assert_eq!(seen.header("x-mlgate-principal"), Some(String::from("user_1")));
    let event = scene.event(&answer).await?;
    let expected = json!({ "method": "jwt", "issuer": ISSUER, "jti": "t-1" });
    assert_eq!(event.get("credential"), Some(&expected));
    assert_eq!(event.get("scopes"), Some(&json!(["openid", "models:read"])));
    assert_eq!(text(&event, "/principal"), "user_1");
    // a scope that allows other things
    let mut narrow = claims("bob", 300)?;
    narrow["scope"] = json!("openid");
    let answer = scene.call(&rsa().token(Algorithm::RS256, &narrow)).await?;
    assert_eq!((answer.status, text(&answer.json()?, "/reason")), (403, String::from("access_denied")));
    assert_eq!(text(&scene.event(&answer).await?, "/reason"), "scope");
    let logged = std::fs::read_to_string(scene.collector.log())?;
    assert!(!logged.contains(token.rsplit_once('.').context("no signature")?.1));
    scene.envoy.check_unharmed().await
}
