//! What the gate costs: Envoy's CPU time for each request, as a ratio to the same Envoy without a filter and beside Envoy's
//! own JWT filter, all in one run and in alternated rounds.
//!
//! CPU time is what the scheduler gave the process, user and system, so that load on the machine blurs it less than it
//! blurs latency; each ratio is taken within one round, and of the rounds the median counts. What a request leaves to be
//! delivered is waited for and counted. `make bench` prints the table; figures of different runs are not comparable, so
//! `MLGATE_BENCH_AGAINST=older.wasm` measures an older module beside this one. `MLGATE_BENCH_CASES=key,cached` keeps the
//! cases whose names contain one of the words (and always the floor), `MLGATE_BENCH_ROUNDS=21` takes more rounds.

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

#[path = "support/document.rs"]
mod document;
#[path = "../../tests/jwt/tokens.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod tokens;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use jsonwebtoken::Algorithm;
use mlgate::identity::api_key::ApiKey;
use mlgate_integration::client::Http1;
use mlgate_integration::collector::Collector;
use mlgate_integration::{Cluster, Envoy, EnvoyBuilder, Plugin, Route, Stack, artifacts};
use serde_json::{Value, json};

use document::{ALL, CHAIN_KEY, Duties, ISSUER, claims, document};

/// Rounds, of which the median counts.
const ROUNDS: usize = 9;
/// Requests of one case in one round.
const REQUESTS: usize = 1_500;
/// Requests before the first round: V8 compiles a function well only after many calls.
const WARM_UP: usize = 4_500;
const CONNECTIONS: usize = 16;
/// More than the gate's cache of verified tokens holds, so that going round them never finds one there.
const TOKENS: usize = 6_000;
/// Longer than the gate waits before it delivers.
const SETTLE: Duration = Duration::from_millis(250);

/// One Envoy and what is asked of it.
struct Case {
    name: String,
    envoy: Envoy,
    /// Header and values, used in turn.
    header: &'static str,
    values: Vec<String>,
    next: usize,
    /// Of each round.
    micros: Vec<f64>,
}

/// What the cases are made of.
struct Bench {
    stack: Stack,
    upstream: Envoy,
    collector: Collector,
    wanted: Option<String>,
    /// What follows a case's name, and the module.
    modules: Vec<(&'static str, PathBuf)>,
    key: ApiKey,
    jwk: Value,
    cases: Vec<Case>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let pair = tokens::rsa();
    let mut bench = Bench::start(pair.jwk.clone()).await?;
    let tokens = if bench.wants("cold") { TOKENS } else { 1 };
    println!("signing {tokens} tokens …");
    let cold: Vec<String> =
        (0..tokens).map(|id| format!("Bearer {}", pair.token(Algorithm::RS256, &claims(id)))).collect();
    let one = vec![cold[0].clone()];
    let key = vec![bench.key.expose().to_owned()];
    let nothing = vec![String::from("-")];

    bench.add("no filter", bench.base(), "x-none", &nothing).await?;
    for (name, cached) in [("jwt_authn, RS256, no cache", false), ("jwt_authn, RS256, cached", true)] {
        bench
            .add(name, bench.base().http_filter(jwt_authn(&pair.jwk, cached)), "authorization", &one)
            .await?;
    }
    for (name, duties, header, values) in [
        ("gate: key, 1 policy, 2 rates, audit", ALL, "x-api-key", &key),
        ("gate: the same, 1,000 policies", Duties { policies: 1_000, ..ALL }, "x-api-key", &key),
        ("gate: the same, 1 policy, no rates", Duties { limits: false, ..ALL }, "x-api-key", &key),
        ("gate: the same, 1 policy, denials audited", Duties { audit: false, ..ALL }, "x-api-key", &key),
        ("gate: token cached, 1 policy, 2 rates, audit", ALL, "authorization", &one),
        ("gate: token cold, 1 policy, 2 rates, audit", ALL, "authorization", &cold),
        ("gate: refused, no credential", ALL, "x-none", &nothing),
    ] {
        for (mark, module) in bench.modules.clone() {
            let envoy = bench.base().plugin(bench.gate(&module, duties));
            bench.add(&format!("{name}{mark}"), envoy, header, values).await?;
        }
    }
    bench.run().await
}

// === impl Bench ===

impl Bench {
    async fn start(jwk: Value) -> anyhow::Result<Self> {
        let stack = Stack::create("bench")?;
        let upstream =
            EnvoyBuilder::new().concurrency(1).route(Route::direct("/", 200, "ok")).start(&stack).await?;
        let key = ApiKey::generate(&[7; 64]).unwrap();
        let environment = BTreeMap::from([("MLGATE_CHAIN_KEY_1".to_owned(), CHAIN_KEY.to_owned())]);
        let collector = Collector::start(&stack, &document(&key, &jwk, ALL), &environment).await?;
        let mut modules = vec![("", artifacts::filter_wasm()?)];
        modules.extend(std::env::var_os("MLGATE_BENCH_AGAINST").map(|path| (", older", path.into())));
        Ok(Self {
            stack,
            upstream,
            collector,
            wanted: std::env::var("MLGATE_BENCH_CASES").ok(),
            modules,
            key,
            jwk,
            cases: Vec::new(),
        })
    }

    /// An Envoy without a filter.
    fn base(&self) -> EnvoyBuilder {
        EnvoyBuilder::new()
            .concurrency(1)
            .cluster(Cluster::http1("model", self.upstream.address()))
            .cluster(Cluster::http1("audit", self.collector.address()))
            .route(Route::prefix("/", "model"))
    }

    fn gate(&self, module: &PathBuf, duties: Duties) -> Plugin {
        Plugin::new("mlgate", module)
            .configuration(document(&self.key, &self.jwk, duties).to_string())
            .environment("MLGATE_CHAIN_KEY_1", CHAIN_KEY)
    }

    fn wants(&self, name: &str) -> bool {
        self.wanted.as_ref().is_none_or(|words| words.split(',').any(|word| name.contains(word)))
    }

    async fn add(
        &mut self,
        name: &str,
        envoy: EnvoyBuilder,
        header: &'static str,
        values: &[String],
    ) -> anyhow::Result<()> {
        if self.cases.is_empty() || self.wants(name) {
            let envoy = envoy.start(&self.stack).await?;
            let (name, values) = (name.to_owned(), values.to_vec());
            self.cases.push(Case { name, envoy, header, values, next: 0, micros: Vec::new() });
        }
        Ok(())
    }

    async fn run(mut self) -> anyhow::Result<()> {
        let rounds = std::env::var("MLGATE_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok());
        let rounds = rounds.unwrap_or(ROUNDS);
        for case in &mut self.cases {
            case.ask(WARM_UP).await?;
        }
        for round in 0..rounds {
            // who comes first changes, so that nobody always has the warmer machine
            let order: Vec<usize> = (0..self.cases.len()).collect();
            let order: Vec<usize> = if round % 2 == 0 { order } else { order.into_iter().rev().collect() };
            for index in order {
                let micros = self.cases[index].ask(REQUESTS).await?;
                self.cases[index].micros.push(micros);
            }
        }
        let floor = self.cases[0].micros.clone();
        println!("{:<56} {:>10} {:>6} {:>12}", "case", "CPU us/req", "ratio", "of rounds");
        for case in &self.cases {
            let mut ratios: Vec<f64> =
                case.micros.iter().zip(&floor).map(|(own, floor)| own / floor).collect();
            ratios.sort_by(f64::total_cmp);
            let quarter = ratios.len() / 4;
            println!(
                "{:<56} {:>10.1} {:>6.2} {:>5.2} - {:.2}",
                case.name,
                median(&case.micros),
                median(&ratios),
                ratios[quarter],
                ratios[ratios.len() - 1 - quarter]
            );
        }
        for case in &self.cases {
            case.envoy.check_unharmed().await?;
        }
        Ok(())
    }
}

// === impl Case ===

impl Case {
    /// Envoy's CPU time for each of some requests, microseconds.
    async fn ask(&mut self, requests: usize) -> anyhow::Result<f64> {
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
                    if index >= requests {
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
        tokio::time::sleep(SETTLE).await;
        self.values = Arc::into_inner(values).unwrap_or_default();
        self.next += requests;
        Ok((cpu_nanos(pid) - before) as f64 / 1_000.0 / requests as f64)
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
