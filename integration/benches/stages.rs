//! What the gate's own code costs natively, for each part of an admitted request: nothing but the core runs, over a host
//! that does next to nothing. Nanoseconds of this machine and hour are printed; instructions are the robust figure:
//!
//! ```sh
//! cargo bench -p mlgate-integration --bench stages --no-run
//! MLGATE_BENCH_CASES=key MLGATE_BENCH_ROUNDS=2000 valgrind --tool=callgrind --callgrind-out-file=target/stages.out \
//!     target/release/deps/stages-…
//! callgrind_annotate --inclusive=yes target/stages.out
//! ```

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
#[path = "support/quiet.rs"]
mod quiet;
#[path = "../../tests/jwt/tokens.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod tokens;

use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use jsonwebtoken::Algorithm;
use mlgate::audit::Trail;
use mlgate::config::{Format, load};
use mlgate::filter::step::Step;
use mlgate::filter::transaction::{EndFacts, Transaction};
use mlgate::filter::worker::Worker;
use mlgate::http::StreamFacts;
use mlgate::http::pairs::Pairs;
use mlgate::identity::api_key::ApiKey;

use document::{ALL, CHAIN_KEY, Duties, claims, document};
use quiet::QuietHost;

/// Requests, unless `MLGATE_BENCH_ROUNDS` says otherwise.
const REQUESTS: usize = 20_000;
/// As many as come between two deliveries of a busy worker.
const BATCH: usize = 500;
const PARTS: [&str; 5] = ["request head", "response head", "end", "record", "deliver"];

fn main() {
    let requests = std::env::var("MLGATE_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok());
    let requests = requests.unwrap_or(REQUESTS);
    let wanted = std::env::var("MLGATE_BENCH_CASES").ok();
    let wants =
        |name: &str| wanted.as_ref().is_none_or(|words| words.split(',').any(|word| name.contains(word)));
    let pair = tokens::rsa();
    let key = ApiKey::generate(&[7; 64]).unwrap();
    let secret = key.expose().to_owned();
    let token = |id: usize| format!("Bearer {}", pair.token(Algorithm::RS256, &claims(id)));
    println!("{:<34} {}", "ns per request", PARTS.map(|part| format!("{part:>14}")).join(""));
    for (name, duties, header, values) in [
        ("key, 1 policy, 2 rates, audit", ALL, "x-api-key", vec![secret.clone()]),
        ("key, 1,000 policies", Duties { policies: 1_000, ..ALL }, "x-api-key", vec![secret.clone()]),
        ("token cached", ALL, "authorization", vec![token(0)]),
        ("token cold", Duties { limits: false, ..ALL }, "authorization", (0..200).map(token).collect()),
        ("refused, no credential", ALL, "x-none", vec![String::from("-")]),
    ] {
        if wants(name) {
            let text = document(&key, &pair.jwk, duties).to_string();
            // none of the tokens of `cold` is remembered long enough to be found again
            let text = match name {
                "token cold" => text.replacen('{', r#"{"bounds":{"verified_tokens":16},"#, 1),
                _ => text,
            };
            let heads: Vec<Vec<u8>> = values.iter().map(|value| head(header, value)).collect();
            let took = measure(&text, &heads, requests);
            let nanos = took.map(|took| format!("{:>14.0}", took.as_nanos() as f64 / requests as f64));
            println!("{name:<34} {}", nanos.join(""));
        }
    }
}

/// Runs the requests and gives the time of each part.
fn measure(text: &str, heads: &[Vec<u8>], requests: usize) -> [Duration; 5] {
    let config = load(text.as_bytes(), Format::Json, &|_| Some(CHAIN_KEY.to_owned())).unwrap();
    let trail = Rc::new(RefCell::new(Trail::new(config.trail_settings())));
    let worker = Rc::new(Worker::new(Rc::new(config), trail));
    let host = QuietHost::now();
    let answer = Pairs::write(&[
        (":status", "200"),
        ("content-type", "application/json"),
        ("content-length", "2"),
        ("date", "Mon, 23 Nov 2026 12:00:00 GMT"),
        ("server", "envoy"),
        ("x-envoy-upstream-service-time", "0"),
    ]);
    let mut took = [Duration::ZERO; 5];
    for index in 0..requests {
        let mut transaction = Transaction::new(Rc::clone(&worker));
        let block = &heads[index % heads.len()];
        let mut at = Instant::now();
        let mut lap = |part: usize| {
            let now = Instant::now();
            took[part] += now - at;
            at = now;
        };
        let step = request_head(&mut transaction, block, &host);
        assert!(!matches!(step, Step::Await));
        lap(0);
        black_box(response_head(&mut transaction, &answer));
        lap(1);
        let event = end(&mut transaction, &host);
        lap(2);
        record(&worker, event, &host);
        lap(3);
        host.advance(Duration::from_micros(200));
        if index % BATCH == BATCH - 1 {
            deliver(&worker, &host);
            lap(4);
        }
    }
    took
}

/// What Envoy hands over for a small call.
fn head(header: &str, value: &str) -> Vec<u8> {
    Pairs::write(&[
        (":authority", "127.0.0.1:8080"),
        (":path", "/predict"),
        (":method", "GET"),
        (":scheme", "http"),
        (header, value),
        ("x-forwarded-proto", "http"),
        ("x-request-id", "3f0c9f4a-65a4-9c0a-8b6e-2f1f9e8c7d10"),
        ("user-agent", "bench/1.0"),
        ("accept", "*/*"),
    ])
}

// parts of their own in a profile
#[inline(never)]
fn request_head(transaction: &mut Transaction, block: &[u8], host: &QuietHost) -> Step {
    let facts = StreamFacts {
        source_address: Some(String::from("127.0.0.1:40000")),
        virtual_host: String::from("default"),
        end_of_stream: true,
        ..StreamFacts::default()
    };
    transaction.on_request_headers(block, facts, host)
}

#[inline(never)]
fn response_head(transaction: &mut Transaction, block: &[u8]) -> usize {
    transaction.on_response_headers(block).set.len()
}

#[inline(never)]
fn end(
    transaction: &mut Transaction,
    host: &QuietHost,
) -> Option<(mlgate::audit::AccessEvent, Option<mlgate::audit::queue::Reservation>)> {
    transaction.on_end(&EndFacts { http_status: Some(200), ..EndFacts::default() }, host)
}

#[inline(never)]
fn record(
    worker: &Worker,
    event: Option<(mlgate::audit::AccessEvent, Option<mlgate::audit::queue::Reservation>)>,
    host: &QuietHost,
) {
    if let Some((event, reservation)) = event {
        worker.trail.borrow_mut().record(event, reservation, host);
    }
}

#[inline(never)]
fn deliver(worker: &Worker, host: &QuietHost) {
    let mut trail = worker.trail.borrow_mut();
    trail.tick(host);
    while let Some((id, body)) = host.reply() {
        trail.on_reply(id, Some(200), &body, host);
    }
    assert!(trail.idle());
}
