//! Every kind of document that is no set of keys, served where the keys should be: the keys from before go on, and a bad key
//! among good ones spoils none.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use bytes::Bytes;
use jsonwebtoken::Algorithm;
use mlgate::cases;
use mlgate_integration::gate::Gate;
use mlgate_integration::relay::Manner;
use mlgate_integration::{Answer, Cluster, ModelServer, Relay};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::pairs::{Pair, ed25519, p256};
use crate::scene::{self, POLL, Pace, SLACK};

/// What is served, and whether a key that came with it may be used.
type Case = (&'static str, Manner, bool);

const PACE: Pace = Pace { cache_duration: "1s", cooldown: "1s", failed_refetch: "1s", max_stale: "1h" };
/// Two fetches of everything, each with its interval and its timeout.
const TWICE: Duration = Duration::from_secs(5);

/// What every case serves first: the old key.
fn old() -> Value {
    json!({ "keys": [ed25519().jwk] })
}

/// Both keys, and others.
fn among(others: &[Value]) -> String {
    let mut keys = others.to_vec();
    keys.push(ed25519().jwk);
    keys.extend_from_slice(others);
    keys.push(p256().jwk);
    json!({ "keys": keys }).to_string()
}

/// As an issuer serves it.
fn served(body: impl AsRef<[u8]>) -> Manner {
    Manner::ok("application/json", body)
}

/// A key of so many bits that nobody has.
fn weak(bits: usize) -> Value {
    json!({ "kty": "RSA", "kid": "weak", "n": "_".repeat(bits / 6), "e": "AQAB" })
}

fn gzip(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut child = Command::new("gzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().context("no input")?.write_all(text.as_bytes())?;
    Ok(child.wait_with_output()?.stdout)
}

fn cases() -> anyhow::Result<Vec<Case>> {
    let new = json!({ "keys": [p256().jwk] }).to_string();
    let deep = "[".repeat(100_000);
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let key = p256().jwk.to_string();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut key = p256().jwk;
        change(&mut key);
        key
    };
    let head = |headers: &str| Bytes::from(format!("HTTP/1.1 200 OK\r\n{headers}\r\n"));
    let invalid = |bytes: &[u8]| [br#"{"a":""#, bytes, br#"","keys":["#, key.as_bytes(), b"]}"].concat();
    let many = |count: usize| {
        let strangers: Vec<Value> =
            (0..count).map(|number| with(&|key| key["kid"] = json!(format!("k{number}")))).collect();
        let mut all = json!({ "keys": strangers });
        all["keys"][count / 2] = p256().jwk;
        served(all.to_string())
    };
    let doubled = format!(r#"{{"keys":[{key}],"keys":[{key}]}}"#);
    let doubled_inside = among(&[]).replacen(r#""kid":"p256""#, r#""kid":"x","kid":"p256""#, 1);
    Ok(vec![
        // no document
        ("nothing", served(""), false),
        ("no JSON", served("keys: []"), false),
        ("a page", Manner::ok("text/html", "<!doctype html><html><body>Log in</body></html>"), false),
        ("half of it", served(new.get(..new.len() / 2).unwrap_or_default()), false),
        ("something behind it", served(format!("{new}{new}")), false),
        ("a byte order mark before it", served(format!("\u{feff}{new}")), false),
        ("UTF-16", served(new.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()), false),
        ("NULs", served(vec![0; 10_000]), false),
        ("a NUL in a text", served(invalid(b"\0")), false),
        ("no UTF-8", served(invalid(b"\xff\xfe\xc0\x80")), false),
        ("deep", served(&deep), false),
        ("deep in the list", served(format!(r#"{{"keys":{deep}"#)), false),
        ("larger than may be", served(format!(r#"{{"a":"{}","keys":[{key}]}}"#, "x".repeat(5 << 20))), false),
        ("compressed", Manner::answer("200 OK", "content-encoding: gzip\r\n", &gzip(&new)?), false),
        // no set
        ("a number", served("7"), false),
        ("a list", served(format!("[{key}]")), false),
        ("no keys", served("{}"), false),
        ("an empty set", served(r#"{"keys":[]}"#), false),
        ("keys that are null", served(r#"{"keys":null}"#), false),
        ("keys that are an object", served(format!(r#"{{"keys":{{"0":{key}}}}}"#)), false),
        ("a second set", served(doubled), false),
        ("101 keys", many(101), false),
        ("10,000 keys", many(10_000), false),
        // no key that may be used
        (
            "keys of wrong types",
            served(r#"{"keys":[null,7,"x",[],{},true,{"kty":7},{"kty":"EC","x":[]}]}"#),
            false,
        ),
        (
            "a key to encrypt with",
            served(json!({ "keys": [with(&|key| key["use"] = json!("enc"))] }).to_string()),
            false,
        ),
        (
            "a shared secret",
            served(
                r#"{"keys":[{"kty":"oct","kid":"p256","alg":"HS256","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}]}"#,
            ),
            false,
        ),
        ("weak keys", served(json!({ "keys": [weak(512), weak(1024)] }).to_string()), false),
        (
            "a point that is not on the curve",
            served(json!({ "keys": [with(&|key| key["y"] = key["x"].clone())] }).to_string()),
            false,
        ),
        // no answer
        ("500", Manner::answer("500 Internal Server Error", "", new.as_bytes()), false),
        ("204", Manner::answer("204 No Content", "", b""), false),
        (
            "206",
            Manner::answer("206 Partial Content", "content-range: bytes 0-9/10\r\n", new.as_bytes()),
            false,
        ),
        ("elsewhere", Manner::answer("302 Found", "location: /good\r\n", new.as_bytes()), false),
        (
            "304 that nobody asked for",
            Manner::answer("304 Not Modified", "etag: \"never-seen\"\r\n", b""),
            false,
        ),
        (
            "a body that breaks off",
            Manner::Bytes(format!("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{new}").into()),
            false,
        ),
        ("a closed connection", Manner::Closed, false),
        ("no HTTP", Manner::Bytes(Bytes::from_static(b"SSH-2.0-OpenSSH_9.2\r\n")), false),
        ("silence", Manner::Endless { head: Bytes::new(), piece: Bytes::new() }, false),
        (
            "headers without end",
            Manner::Endless { head: "HTTP/1.1 200 OK\r\n".into(), piece: "a: b\r\n".into() },
            false,
        ),
        (
            "chunks without end",
            Manner::Endless { head: head("transfer-encoding: chunked\r\n"), piece: "1\r\n \r\n".into() },
            false,
        ),
        (
            "a flood without end",
            Manner::Endless {
                head: head("transfer-encoding: chunked\r\n"),
                piece: format!("10000\r\n{}\r\n", " ".repeat(1 << 16)).into(),
            },
            false,
        ),
        // good keys, with company or in a strange dress
        ("a wrong content type", Manner::ok("image/png", among(&[])), true),
        (
            "members that nobody knows",
            served(among(&[]).replacen('{', r#"{"x":[{"keys":[]}],"":null,"#, 1)),
            true,
        ),
        (
            "keys of wrong types among others",
            served(among(&[json!(null), json!(7), json!("x"), json!([]), json!({}), json!({ "kty": 7 })])),
            true,
        ),
        (
            "secrets, weak and unknown keys among others",
            served(among(&[
                json!({ "kty": "oct", "k": "c2VjcmV0" }),
                weak(512),
                json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA" }),
                with(&|key| key["use"] = json!("enc")),
                with(&|key| key["crv"] = json!("P-521")),
                with(&|key| key["y"] = key["x"].clone()),
            ])),
            true,
        ),
        (
            "a deep key among others",
            served(among(&[]).replacen(
                r#"{"keys":["#,
                &format!(r#"{{"keys":[{{"kty":"EC","x":{}}},"#, nested(100)),
                1,
            )),
            true,
        ),
        (
            "an enormous name among others",
            served(among(&[json!({ "kty": "EC", "kid": "x".repeat(100_000) })])),
            true,
        ),
        (
            "a key with a member twice among others",
            served(doubled_inside.replacen(r#"]}"#, &format!(",{key}]}}"), 1)),
            true,
        ),
    ])
}

fn document(count: usize) -> Value {
    let providers = (0..count).map(|number| {
        let uri = format!("https://keys.example/jwks/{number}/");
        json!({
            "name": format!("p{number}"),
            "issuer": issuer(number),
            "audiences": ["model-gateway"],
            "algorithms": ["EdDSA", "ES256"],
            "remote_jwks": PACE.on(json!({ "cluster": "keys", "uri": uri })),
            "claims": { "roles": ["roles"] },
        })
    });
    json!({
        "version": 1,
        "name": "gate",
        "consumers": scene::consumers(),
        "authentication": { "jwt": { "providers": providers.collect::<Vec<_>>() } },
        "resources": { "unlisted": "allow", "rules": [{ "preset": "openai" }] },
        "authorization": { "roles": { "reader": { "permissions": ["list"] } } },
        "audit": {
            "collector": { "cluster": "audit" },
            "chain": { "keys": [{ "id": "c1", "env": "MLGATE_CHAIN_KEY_1" }] },
        },
        "shared_data": { "keys": [{ "id": "s1", "env": "MLGATE_SHARED_KEY_1" }] },
    })
}

fn issuer(number: usize) -> String {
    format!("https://issuer-{number}.example")
}

/// A token that nobody has seen before.
fn token(number: usize, pair: &Pair, algorithm: Algorithm) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let claims = json!({
        "iss": issuer(number), "aud": "model-gateway", "sub": "worker", "roles": ["reader"],
        "iat": now.as_secs(), "exp": now.as_secs() + 300, "jti": now.as_nanos().to_string(),
    });
    Ok(pair.token(algorithm, &claims))
}

/// One fresh token of each provider; what becomes of it.
async fn each(
    gate: &Gate,
    count: usize,
    pair: fn() -> Pair,
    algorithm: Algorithm,
) -> anyhow::Result<BTreeMap<usize, Answer>> {
    let mut answers = BTreeMap::new();
    let mut calls = JoinSet::new();
    let address = gate.envoy.address();
    for number in 0..count {
        let token = token(number, &pair(), algorithm)?;
        calls.spawn(async move { anyhow::Ok((number, scene::call_at(address, &token).await?)) });
    }
    while let Some(call) = calls.join_next().await {
        let (number, answer) = call??;
        answers.insert(number, answer);
    }
    Ok(answers)
}

/// Until each provider accepts such a token.
async fn accepted(gate: &Gate, count: usize, pair: fn() -> Pair, algorithm: Algorithm) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let answers = each(gate, count, pair, algorithm).await?;
        let refused: Vec<_> = answers.iter().filter(|(_, answer)| answer.status != 200).collect();
        if refused.is_empty() {
            return Ok(());
        }
        ensure!(start.elapsed() < TWICE + SLACK * 3, "still refused: {refused:?}");
        sleep(POLL).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_set_of_keys_takes_nothing_away() -> anyhow::Result<()> {
    let cases = cases()?;
    let relay = Relay::alone().await?;
    relay.treat(served(old().to_string()));
    let model = ModelServer::start().await?;
    let secrets = cases::Gate::of(document(cases.len())).map_err(anyhow::Error::msg)?;
    let keys = Cluster::http1("keys", relay.address());
    let upstream = Cluster::http1("model", model.address());
    let gate = Gate::start("hostile-keys", secrets, upstream, |builder| builder.cluster(keys)).await?;
    accepted(&gate, cases.len(), ed25519, Algorithm::EdDSA).await?;

    relay.forget();
    for (number, (_, manner, _)) in cases.iter().enumerate() {
        relay.treat_at(&format!("/jwks/{number}/"), manner.clone());
    }
    let start = Instant::now();
    for (number, (what, ..)) in cases.iter().enumerate() {
        // the third says that the second has ended
        relay.wait_for(&format!("/jwks/{number}/"), 3, TWICE + SLACK * 3).await.context(*what)?;
    }
    println!("{} hostile answers, each three times, in {:.1?}", cases.len(), start.elapsed());
    let old_ones = each(&gate, cases.len(), ed25519, Algorithm::EdDSA).await?;
    let new_ones = each(&gate, cases.len(), p256, Algorithm::ES256).await?;
    let mut wrong = Vec::new();
    for (number, (what, _, is_used)) in cases.iter().enumerate() {
        for (key, answer, wanted) in [
            ("the old key", &old_ones[&number], &[200][..]),
            ("a new key", &new_ones[&number], if *is_used { &[200] } else { &[401, 503] }),
        ] {
            if !wanted.contains(&answer.status) {
                wrong.push(format!("{key}, after {what}: {} {}", answer.status, answer.text()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for _ in 0..20 {
        assert_eq!(scene::keyed(&gate).await?.status, 200);
    }
    gate.check_one_life().await?;

    // and whoever comes to reason is believed again
    relay.treat(served(json!({ "keys": [p256().jwk] }).to_string()));
    accepted(&gate, cases.len(), p256, Algorithm::ES256).await?;
    let log = gate.envoy.log()?;
    assert!(!log.contains("keys: []") && !log.contains("Log in"), "what was served is in the log");
    gate.check_one_life().await
}
