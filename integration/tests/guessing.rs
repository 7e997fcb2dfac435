//! Guesses and forgeries through the real Envoy: two workers count them together and exactly, and whoever is right goes on.

#![expect(clippy::arithmetic_side_effects, reason = "an overflow should stop the test")]

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::Request;
use mlgate::cases;
use mlgate_integration::client::{self, Answer, Http1};
use mlgate_integration::gate::{Gate, behind_one_hop};
use mlgate_integration::{Cluster, ModelServer};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// What is looked at before a source is blocked.
const LIMIT: usize = 20;
/// Wrong credentials of one source, and the connections that they share.
const GUESSES: usize = 200;
const CONNECTIONS: usize = 8;

fn document() -> Value {
    let digest = format!("sha256:{}", "0".repeat(64));
    json!({
        "version": 1,
        "name": "guessing",
        "consumers": [{"name": "alice", "roles": ["any"], "credentials": {"api_keys": [{"id": "alice001", "digest": digest}]}}],
        "authentication": {
            // the harness is the proxy in front, and says who is calling
            "source": {"trust": "xff"},
            "failures": {"limit": LIMIT, "window": "1h", "block": "5m"},
            "jwt": {"providers": [{
                "name": "corp",
                "issuer": "https://issuer.example",
                "audiences": ["model-gateway"],
                "algorithms": ["HS256"],
                "hmac_secrets": [{"id": "h1", "env": "MLGATE_JWT_SECRET_1"}],
            }]},
        },
        "resources": {"unlisted": "allow", "rules": [
            {"match": {"path": "/v1/{model}"}, "resource": {"type": "model", "id": "{model}"}, "action": "read"},
        ]},
        "authorization": {
            "roles": {"any": {"permissions": ["read"]}},
            "policies": [{"name": "corp-reads", "effect": "allow", "principal": {"id": "jwt:corp:*"}, "action": ["read"]}],
        },
        "audit": {
            "collector": {"cluster": "audit"},
            "chain": {"keys": [{"id": "c1", "env": "MLGATE_CHAIN_KEY_1"}]},
        },
        "shared_data": {"keys": [{"id": "s1", "env": "MLGATE_SHARED_KEY_1"}]},
    })
}

/// What a caller at `source` presents, in the words of cases.
fn request(gate: &cases::Gate, source: &str, header: &str, value: &str) -> anyhow::Result<Request<Bytes>> {
    let value = String::from_utf8(gate.expand(value).map_err(anyhow::Error::msg)?)?;
    let builder = Request::get("/v1/m").header("x-forwarded-for", source).header(header, value);
    Ok(builder.body(Bytes::new())?)
}

/// How often each status and reason was answered to guesses on eight connections at once.
async fn guesses(
    gate: &Gate,
    source: &str,
    header: &'static str,
    value: &str,
) -> anyhow::Result<BTreeMap<(u16, String), usize>> {
    let mut callers = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let mut http = Http1::connect(gate.envoy.address()).await?;
        let requests: Vec<_> = (0..GUESSES / CONNECTIONS)
            .map(|number| {
                let value = value.replace("{n}", &format!("{connection}-{number}"));
                request(&gate.secrets, source, header, &value)
            })
            .collect::<Result<_, _>>()?;
        callers.spawn(async move {
            let mut answers = Vec::new();
            for request in requests {
                answers.push(http.call(request).await?);
            }
            anyhow::Ok(answers)
        });
    }
    let mut tally = BTreeMap::new();
    while let Some(answers) = callers.join_next().await {
        for answer in answers?? {
            if answer.status == 429 {
                let after: u64 = answer.header("retry-after").context("no retry-after")?.parse()?;
                ensure!((200..=300).contains(&after), "come back after {after} s of a block of 300 s");
            }
            *tally.entry((answer.status, reason(&answer)?)).or_default() += 1;
        }
    }
    Ok(tally)
}

fn reason(answer: &Answer) -> anyhow::Result<String> {
    if answer.status == 200 {
        return Ok(String::new());
    }
    Ok(answer.json()?.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned())
}

fn exactly() -> BTreeMap<(u16, String), usize> {
    BTreeMap::from([
        ((401, String::from("credential_invalid")), LIMIT),
        ((429, String::from("blocked")), GUESSES - LIMIT),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_count_guesses_exactly_and_stop_nobody_who_is_right() -> anyhow::Result<()> {
    let model = ModelServer::start().await?;
    let secrets = cases::Gate::of(document()).map_err(anyhow::Error::msg)?;
    let upstream = Cluster::http1("model", model.address());
    let gate = Gate::start("guessing", secrets, upstream, |builder| builder.edit(behind_one_hop)).await?;
    let status = async |source: &str, header: &str, value: &str| {
        let request = request(&gate.secrets, source, header, value)?;
        anyhow::Ok(client::call(gate.envoy.address(), request).await?.status)
    };

    let forger = "203.0.113.7";
    let tally = guesses(&gate, forger, "authorization", "Bearer ${forged.corp.eve-{n}}").await?;
    assert_eq!(tally, exactly(), "forged tokens");
    let guesser = "2001:db8:1:2::1";
    let tally = guesses(&gate, guesser, "x-api-key", "${wrong.alice001}").await?;
    assert_eq!(tally, exactly(), "guessed keys");
    assert_eq!(model.count(), 0);

    // the same source, the same customer, others
    for (source, key, token) in [
        (forger, 200, 429),
        (guesser, 200, 429),
        ("2001:db8:1:2:ffff::9", 200, 429),
        ("203.0.113.8", 200, 200),
        ("2001:db8:1:3::1", 200, 200),
    ] {
        assert_eq!(status(source, "x-api-key", "${key.alice001}").await?, key, "a right key from {source}");
        let fresh = format!("Bearer ${{jwt.corp.bob.at={}}}", source.replace([':', '.'], "-"));
        assert_eq!(status(source, "authorization", &fresh).await?, token, "a new token from {source}");
    }
    // what is no guess blocks nobody
    let tally = guesses(&gate, "203.0.113.9", "authorization", "Bearer ${expired.corp.bob}").await?;
    assert_eq!(tally, BTreeMap::from([((401, String::from("credential_expired")), GUESSES)]));
    assert_eq!(status("203.0.113.9", "authorization", "Bearer ${jwt.corp.carol}").await?, 200);
    gate.check_one_life().await
}
