//! What the gate costs: Envoy's CPU time for each request, as a ratio to the same Envoy without a filter and beside Envoy's
//! own JWT filter, all in one run and in alternated rounds.
//!
//! CPU time is what the scheduler gave the process, so that load on the machine blurs it less than it blurs latency.
//! `make bench` prints the table; figures of different runs are not comparable.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement that cannot run should stop, and prints what it saw"
)]

#[path = "../../tests/jwt/tokens.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Request;
use jsonwebtoken::Algorithm;
use mlgate::identity::api_key::ApiKey;
use mlgate_integration::client::Http1;
use mlgate_integration::collector::Collector;
use mlgate_integration::{Cluster, Envoy, EnvoyBuilder, Plugin, Route, Stack, artifacts};
use serde_json::{Value, json};

/// Rounds, of which the median counts.
const ROUNDS: usize = 5;
/// Requests of one case in one round.
const REQUESTS: usize = 2_000;
const CONNECTIONS: usize = 16;
/// More than the gate's cache of verified tokens holds, so that going round them never finds one there.
const TOKENS: usize = 6_000;
const ISSUER: &str = "https://issuer.example";
const CHAIN_KEY: &str = "0123456789abcdef0123456789abcdef";

struct Case {
    name: &'static str,
    envoy: Envoy,
    /// Header and values, used in turn.
    header: &'static str,
    values: Vec<String>,
    next: usize,
    micros: Vec<f64>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let stack = Stack::create("bench")?;
    let upstream =
        EnvoyBuilder::new().concurrency(1).route(Route::direct("/", 200, "ok")).start(&stack).await?;
    let pair = tokens::rsa();
    let key = ApiKey::generate(&[7; 64]).unwrap();
    let environment = BTreeMap::from([("MLGATE_CHAIN_KEY_1".to_owned(), CHAIN_KEY.to_owned())]);
    let collector = Collector::start(&stack, &document(&key, &pair.jwk, 1), &environment).await?;
    let base = || {
        EnvoyBuilder::new()
            .concurrency(1)
            .cluster(Cluster::http1("model", upstream.address()))
            .cluster(Cluster::http1("audit", collector.address()))
            .route(Route::prefix("/", "model"))
    };
    println!("signing {TOKENS} tokens …");
    let cold: Vec<String> =
        (0..TOKENS).map(|id| format!("Bearer {}", pair.token(Algorithm::RS256, &claims(id)))).collect();
    let one = vec![cold[0].clone()];
    let gate = |policies| {
        Plugin::new("mlgate", artifacts::filter_wasm().unwrap())
            .configuration(document(&key, &pair.jwk, policies).to_string())
            .environment("MLGATE_CHAIN_KEY_1", CHAIN_KEY)
    };
    let none = Vec::new;
    let mut cases = Vec::new();
    let mut add = |name, envoy, header, values| {
        cases.push(Case { name, envoy, header, values, next: 0, micros: none() });
    };
    let value = vec![key.expose().to_owned()];
    add("no filter", base().start(&stack).await?, "x-none", vec![String::from("-")]);
    add(
        "jwt_authn, RS256, no cache",
        base().http_filter(jwt_authn(&pair.jwk, false)).start(&stack).await?,
        "authorization",
        one.clone(),
    );
    add(
        "jwt_authn, RS256, cached",
        base().http_filter(jwt_authn(&pair.jwk, true)).start(&stack).await?,
        "authorization",
        one.clone(),
    );
    add(
        "gate: key, 1 policy, 2 rates, audit",
        base().plugin(gate(1)).start(&stack).await?,
        "x-api-key",
        value.clone(),
    );
    add(
        "gate: key, 1,000 policies, 2 rates, audit",
        base().plugin(gate(1_000)).start(&stack).await?,
        "x-api-key",
        value,
    );
    add(
        "gate: token cached, 1 policy, 2 rates, audit",
        base().plugin(gate(1)).start(&stack).await?,
        "authorization",
        one,
    );
    add(
        "gate: token cold, 1 policy, 2 rates, audit",
        base().plugin(gate(1)).start(&stack).await?,
        "authorization",
        cold,
    );
    add(
        "gate: refused, no credential",
        base().plugin(gate(1)).start(&stack).await?,
        "x-none",
        vec![String::from("-")],
    );

    for round in 0..=ROUNDS {
        for case in &mut cases {
            let micros = case.run().await?;
            // the first round warms up
            if round > 0 {
                case.micros.push(micros);
            }
        }
    }
    let floor = median(&cases[0].micros);
    println!("{:<46} {:>12} {:>7}", "case", "CPU us/req", "ratio");
    for case in &cases {
        let micros = median(&case.micros);
        println!("{:<46} {micros:>12.1} {:>7.2}", case.name, micros / floor);
    }
    for case in &cases {
        case.envoy.check_unharmed().await?;
    }
    Ok(())
}

impl Case {
    /// Envoy's CPU time for each request of one round, microseconds.
    async fn run(&mut self) -> anyhow::Result<f64> {
        let pid = self.envoy.process().pid();
        let before = cpu_nanos(pid);
        let next = Arc::new(AtomicUsize::new(0));
        let values = Arc::new(std::mem::take(&mut self.values));
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let (next, values, header, from) =
                (Arc::clone(&next), Arc::clone(&values), self.header, self.next);
            let address = self.envoy.address();
            clients.push(tokio::spawn(async move {
                let mut client = Http1::connect(address).await?;
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= REQUESTS {
                        return anyhow::Ok(());
                    }
                    let value = &values[(from + index) % values.len()];
                    let request = Request::get("/predict").header(header, value).body(Bytes::new())?;
                    let status = client.call(request).await?.status;
                    let expected =
                        if header == "x-none" { [200, 401].contains(&status) } else { status == 200 };
                    anyhow::ensure!(expected, "{status}");
                }
            }));
        }
        for client in clients {
            client.await??;
        }
        self.values = Arc::into_inner(values).unwrap_or_default();
        self.next += REQUESTS;
        Ok((cpu_nanos(pid) - before) as f64 / 1_000.0 / REQUESTS as f64)
    }
}

/// What the scheduler gave all threads of a process (`/proc/<pid>/task/*/schedstat`), nanoseconds.
fn cpu_nanos(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0)
    };
    tasks.map(|task| of(task.unwrap())).sum()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn claims(id: usize) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    json!({
        "iss": ISSUER, "aud": "model-gateway", "sub": "alice", "jti": id.to_string(),
        "iat": now, "exp": now + 3_600, "org": "acme", "roles": ["scientist"],
    })
}

fn document(key: &ApiKey, jwk: &Value, policies: usize) -> Value {
    let other = |index| {
        json!({
            "name": format!("p{index}"), "effect": "allow",
            "principal": {"org": format!("org{index}")}, "action": ["predict"],
        })
    };
    let mut all: Vec<Value> = (1..policies).map(other).collect();
    all.push(json!({"name": "own", "effect": "allow", "principal": {"org": "acme"}, "action": ["predict"]}));
    json!({
        "version": 1,
        "name": "gate",
        "consumers": [{"name": "user_1", "attributes": {"org": "acme"}, "credentials": {
            "api_keys": [{"id": key.id().to_string(), "digest": key.digest().to_string()}]}}],
        "authentication": {"jwt": {"providers": [{
            "name": "corp", "issuer": ISSUER, "audiences": ["model-gateway"], "algorithms": ["RS256"],
            "local_jwks": {"keys": [jwk]}, "claims": {"attributes": {"org": "org"}},
        }]}},
        "resources": {"unlisted": "allow", "rules": [
            {"match": {"methods": ["GET"], "path": "/predict"}, "resource": {"type": "model", "id": "m"}, "action": "predict"},
        ]},
        "authorization": {"policies": all},
        "limits": [{"name": "per-caller", "key": ["principal"], "rates": {"default": [
            {"limit": 100_000_000, "window": "1h"}, {"limit": 900_000, "window": "1s"}]}}],
        "audit": {
            "collector": {"cluster": "audit"},
            "chain": {"keys": [{"id": "c1", "env": "MLGATE_CHAIN_KEY_1"}]},
            "digest": {"inputs": false, "outputs": false},
        },
        "profiles": {"default": {"authenticate": {"any": ["api_key", "jwt"]}}},
    })
}

fn jwt_authn(jwk: &Value, cached: bool) -> Value {
    let mut provider = json!({
        "issuer": ISSUER,
        "audiences": ["model-gateway"],
        "local_jwks": {"inline_string": json!({"keys": [jwk]}).to_string()},
    });
    if cached {
        provider["jwt_cache_config"] = json!({"jwt_cache_size": 100});
    }
    json!({
        "name": "jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {"corp": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "corp"}}],
        },
    })
}
