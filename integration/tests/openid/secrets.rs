//! A thousand secrets that nobody else has, sent right and wrong while everything works and while everything fails: none of
//! them, none of their halves, and no Base64 of them is found in anything that the gate says or keeps.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::Bytes;
use http::Request;
use mlgate_integration::client::Http1;
use mlgate_integration::openid_provider::{DISCOVERY, Format, INTROSPECTION, KEYS};
use mlgate_integration::relay::Manner;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::scene::{CLIENT_SECRET, GATE, Pace, SLACK, Scene, WORKER, document, of_key, secrets};

/// Configured keys; every second one by a digest under a pepper.
const KEYS_CONFIGURED: usize = 150;
/// Of each kind of token.
const TOKENS: usize = 110;
/// Texts that lie in bodies, of callers and of the provider.
const MARKS: usize = 60;
/// Bytes that nobody has twice by chance.
const PIECE: usize = 14;
const PACE: Pace = Pace { cache_duration: "1s", cooldown: "1s", failed_refetch: "1s", max_stale: "1h" };

/// Pieces of secrets, each enough to say that a secret is there.
#[derive(Default)]
struct Pieces {
    pieces: HashSet<[u8; PIECE]>,
    secrets: HashSet<String>,
}

// === impl Pieces ===

impl Pieces {
    /// A secret; `public`: so many bytes of it are none.
    fn add(&mut self, secret: &str, public: usize) {
        let bytes = secret.as_bytes();
        let hidden = bytes.get(public..).unwrap_or_default();
        let halves = hidden.split_at(hidden.len() / 2);
        for part in [hidden, halves.0, halves.1] {
            let hexadecimal: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
            let encoded = [STANDARD.encode(part), URL_SAFE.encode(part), hexadecimal];
            for text in [part].into_iter().chain(encoded.iter().map(String::as_bytes)) {
                self.pieces.extend(text.first_chunk().copied());
            }
        }
        // as it stands in somebody's longer Base64
        self.pieces.extend(
            STANDARD.encode(secret).as_bytes().get(2 * PIECE..).and_then(<[u8]>::first_chunk).copied(),
        );
        self.secrets.insert(secret.to_owned());
    }

    /// Where the first of them is.
    fn find(&self, text: &[u8]) -> Option<String> {
        let at = text.windows(PIECE).position(|window| {
            <&[u8; PIECE]>::try_from(window).is_ok_and(|window| self.pieces.contains(window))
        })?;
        let around = text.get(at.saturating_sub(60)..(at + 2 * PIECE).min(text.len())).unwrap_or_default();
        Some(String::from_utf8_lossy(around).into_owned())
    }
}

fn key_id(number: usize) -> String {
    format!("key{number:05}")
}

/// A text that nobody else has.
fn mark(kind: &str, number: usize) -> String {
    let digest = Sha256::digest(format!("{kind} {number} {}", std::process::id()));
    digest.iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}

fn with_many_keys() -> Value {
    let mut document = document(PACE);
    let zeros = "0".repeat(64);
    let consumers = (0..KEYS_CONFIGURED).map(|number| {
        let kind = if number % 2 == 0 { "sha256" } else { "hmac-sha256:p1" };
        let keys = json!([{ "id": key_id(number), "digest": format!("{kind}:{zeros}") }]);
        json!({ "name": format!("c{number}"), "roles": ["reader"], "credentials": { "api_keys": keys } })
    });
    let consumers: Vec<Value> = consumers.collect();
    if let Some(all) = document["consumers"].as_array_mut() {
        all.extend(consumers);
    }
    document["authentication"]["api_key"] = json!({
        "peppers": [{ "id": "p1", "env": "MLGATE_PEPPER_1" }],
        "extract_from": { "headers": ["x-api-key", "authorization"], "params": ["api_key"], "cookies": ["api_key"] },
    });
    document["audit"]["digest"] = json!({
        "algorithm": "sha256", "keys": [{ "id": "d1", "env": "MLGATE_DIGEST_KEY_1" }], "inputs": true, "outputs": true,
    });
    document
}

/// Requests of every caller, one after the other on each of two connections; how many there were by status.
async fn send(scene: &Scene, requests: &[Request<Bytes>]) -> anyhow::Result<Vec<u16>> {
    let mut statuses = Vec::new();
    let mut connection = None;
    for (number, request) in requests.iter().enumerate() {
        let mut caller = match connection.take() {
            Some(caller) if number % 25 != 0 => caller,
            // any worker may have it
            _ => Http1::connect(scene.gate.envoy.address()).await?,
        };
        let answer = caller.call(request.clone()).await?;
        statuses.push(answer.status);
        if !answer.closes() {
            connection = Some(caller);
        }
    }
    Ok(statuses)
}

fn get(name: &str, value: &str) -> anyhow::Result<Request<Bytes>> {
    Ok(Request::get("/v1/models").header(name, value).body(Bytes::new())?)
}

fn bearer(token: &str) -> anyhow::Result<Request<Bytes>> {
    get("authorization", &format!("Bearer {token}"))
}

fn expanded(scene: &Scene, text: &str) -> anyhow::Result<String> {
    Ok(String::from_utf8(scene.gate.secrets.expand(text).map_err(anyhow::Error::msg)?)?)
}

/// Everything in a folder.
fn files(folder: &Path, texts: &mut Vec<(String, Vec<u8>)>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, texts)?;
        } else {
            texts.push((path.display().to_string(), fs::read(&path)?));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_of_a_thousand_secrets_is_found_in_what_the_gate_says() -> anyhow::Result<()> {
    let secrets = secrets(with_many_keys())?;
    let started = Scene::with("secrets", secrets, |_, builder| builder.plugin_log_level("debug")).await?;
    let Some(scene) = started else { return Ok(()) };
    let mut pieces = Pieces::default();
    let (mut right, mut wrong) = (Vec::new(), Vec::new());
    for value in scene.gate.secrets.environment.values() {
        pieces.add(value, 0);
    }
    let client = scene.gate.secrets.environment.get(CLIENT_SECRET).context("no secret")?;
    pieces.add(&STANDARD.encode(format!("{GATE}:{client}")), 8);

    const PUBLIC: usize = "mlg_key00000_".len();
    for number in 0..KEYS_CONFIGURED {
        let id = key_id(number);
        let (key, other) = (scene.gate.key(&id).to_owned(), expanded(&scene, &format!("${{wrong.{id}}}"))?);
        pieces.add(&key, PUBLIC);
        pieces.add(&other, PUBLIC);
        right.push(get("x-api-key", &key)?);
        wrong.push(match number % 4 {
            0 => get("x-api-key", &other)?,
            1 => bearer(&other)?,
            2 => get("cookie", &format!("a=b; api_key={other}"))?,
            _ => Request::get(format!("/v1/models?api_key={other}&x=1")).body(Bytes::new())?,
        });
    }
    for number in 0..TOKENS {
        let signed = scene.provider.token(WORKER, Format::Jwt("ES256")).await?;
        let stranger = of_key(&signed, &mark("key", number))?;
        // the same header as every other, which says nothing
        let header = signed.find('.').context("no token")? + 1;
        pieces.add(&signed, header);
        pieces.add(&stranger, 0);
        right.push(bearer(&signed)?);
        wrong.push(bearer(&stranger)?);
        let broken =
            format!("{}{}", signed.get(..signed.len() - 43).context("too short")?, mark("signature", number));
        pieces.add(&broken, header);
        wrong.push(bearer(&broken)?);

        let opaque = scene.provider.token(WORKER, Format::Opaque).await?;
        let nobodys = mark("opaque", number);
        let basic = STANDARD.encode(format!("user:{}", mark("basic", number)));
        for secret in [&opaque, &nobodys, &basic] {
            pieces.add(secret, 0);
        }
        right.push(bearer(&opaque)?);
        wrong.push(bearer(&nobodys)?);
        wrong.push(get("authorization", &format!("Basic {basic}"))?);
    }
    for number in 0..MARKS {
        let text = mark("body", number);
        pieces.add(&text, 0);
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": text }] }).to_string();
        let body = if number % 3 == 0 { body.replace('}', "") } else { body };
        let request = Request::post("/v1/chat/completions")
            .header("content-type", "application/json")
            .header("x-api-key", scene.gate.key(&key_id(number)));
        wrong.push(request.body(body.into())?);
    }

    // everything works
    let statuses = send(&scene, &right).await?;
    ensure!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    send(&scene, &wrong).await?;
    // and everything fails, with secrets in what the provider says
    let relay = scene.provider.relay();
    for number in 0..MARKS / 10 {
        let text = mark("said", number);
        pieces.add(&text, 0);
        let garbage = format!(r#"{{"active":tru "{text}" eyJhbGciOiJFUzI1NiJ9.{text}"#);
        let manner = match number % 5 {
            0 => Manner::ok("application/json", &garbage),
            1 => Manner::answer(
                "401 Unauthorized",
                &format!("www-authenticate: Basic realm={text}\r\n"),
                garbage.as_bytes(),
            ),
            2 => Manner::answer(
                "500 Internal Server Error",
                &format!("x-error: {text}\r\n"),
                garbage.as_bytes(),
            ),
            3 => Manner::Bytes(format!("HTTP/1.1 200 {text}\r\n: {text}\r\n\r\n").into()),
            _ => Manner::Closed,
        };
        relay.treat(manner.clone());
        for path in [KEYS, DISCOVERY, INTROSPECTION] {
            relay.treat_at(path, manner.clone());
        }
        let asked = relay.count(KEYS);
        relay.wait_for(KEYS, asked + 2, Duration::from_secs(6) + SLACK).await?;
        // what was believed a second ago is asked again
        let some: Vec<_> = right.iter().chain(&wrong).skip(number).step_by(7).cloned().collect();
        send(&scene, &some).await?;
    }
    let known = pieces.secrets.len();
    ensure!(known > 1_000, "only {known} secrets");

    let mut texts = Vec::new();
    for path in ["/stats", "/stats/prometheus", "/config_dump", "/clusters", "/listeners", "/server_info"] {
        texts.push((path.to_owned(), scene.gate.envoy.admin_get(path).await?.into_bytes()));
    }
    // logs, panics, what Envoy was given, and what the collector keeps
    let denied = |events: &[Value]| events.iter().any(|event| event["status"] == "denied");
    scene.gate.collector.wait_for("refusals", Duration::from_secs(20), denied).await?;
    files(scene.gate.stack.folder(), &mut texts)?;
    let size: usize = texts.iter().map(|(_, text)| text.len()).sum();
    for (what, text) in &texts {
        if let Some(found) = pieces.find(text) {
            anyhow::bail!("a secret is in {what}: …{found}…");
        }
    }
    println!(
        "{known} secrets, {} pieces of them: none in {} texts of {size} bytes",
        pieces.pieces.len(),
        texts.len()
    );

    // the control: each of them would have been found
    for secret in &pieces.secrets {
        let half = secret.len() / 2;
        for text in
            [secret.clone(), format!("a:{}", STANDARD.encode(secret)), secret.split_at(half).1.to_owned()]
        {
            ensure!(
                pieces.find(text.as_bytes()).is_some(),
                "a secret would not be found as {} bytes",
                text.len()
            );
        }
    }
    relay.treat(Manner::Pass);
    scene.check().await
}
