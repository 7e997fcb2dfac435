//! What it costs to look an API key up among 10, 1,000 and 100,000: instructions, counted by valgrind, since the clock of a
//! busy machine says little about ten percent. Without valgrind (Debian, Ubuntu: apt-get install valgrind) the medians of
//! alternated rounds are printed instead, and nothing is judged. `make bench` runs it.

#![expect(
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement that cannot run should stop, and prints what it saw"
)]

use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use mlgate::config::faults::Faults;
use mlgate::identity::api_key::{ApiKey, ApiKeys, Listed};
use mlgate::identity::bindings::Bindings;
use mlgate::identity::spec::{AuthenticationSpec, ConsumerSpec};
use mlgate::time::UnixTime;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Keys in the table: compared with the fewest.
const COUNTS: [usize; 3] = [10, 1_000, 100_000];
/// Keys of one consumer.
const EACH: usize = 100;
const LOOKUPS: usize = 10_000;
const ROUNDS: usize = 9;
/// What the most keys may cost, times what the fewest do.
const BOUND: f64 = 1.1;
/// Tells this program that it is the one that is counted: so many keys.
const KEYS: &str = "MLGATE_LOOKUP_KEYS";
/// Which keys are looked up: `known` or `stranger`.
const WHO: &str = "MLGATE_LOOKUP_WHO";

/// A table and what is presented to it.
struct Scene {
    keys: ApiKeys,
    known: Vec<ApiKey>,
    strangers: Vec<ApiKey>,
}

fn main() -> anyhow::Result<()> {
    if let Ok(count) = std::env::var(KEYS) {
        let scene = Scene::of(count.parse()?);
        look_up(&scene, scene.presented(&std::env::var(WHO)?));
        return Ok(());
    }
    println!("one lookup of an API key; {LOOKUPS} lookups each");
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("there is no valgrind here: nanoseconds, medians of {ROUNDS} alternated rounds, not judged");
        return clocked();
    }
    println!("{:>9}  {:>22}  {:>22}", "keys", "instructions, known", "instructions, stranger");
    let mut fewest = None;
    for count in COUNTS {
        let costs = [counted(count, "known")?, counted(count, "stranger")?];
        let base = *fewest.get_or_insert(costs);
        let shown = |at: usize| format!("{:.1} ({:.4}x)", costs[at], costs[at] / base[at]);
        println!("{count:>9}  {:>22}  {:>22}", shown(0), shown(1));
        ensure!((0..2).all(|at| costs[at] <= base[at] * BOUND), "more than {BOUND} times as much");
    }
    Ok(())
}

/// Instructions of one lookup in a process of its own, by valgrind.
fn counted(count: usize, who: &str) -> anyhow::Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=*key_lookup::look_up*")
        .arg(std::env::current_exe()?)
        .env(KEYS, count.to_string())
        .env(WHO, who)
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text.lines().find_map(|line| line.split_once("Collected :")).context(text.to_string())?.1;
    let collected: u32 = collected.trim().parse()?;
    ensure!(output.status.success() && collected > 0, "nothing was counted: {text}");
    Ok(f64::from(collected) / LOOKUPS as f64)
}

fn clocked() -> anyhow::Result<()> {
    let scenes: Vec<Scene> = COUNTS.into_iter().map(Scene::of).collect();
    let mut rounds = vec![Vec::new(); scenes.len()];
    for _ in 0..ROUNDS {
        for (scene, rounds) in scenes.iter().zip(&mut rounds) {
            let start = Instant::now();
            look_up(scene, &scene.known);
            rounds.push(start.elapsed().as_nanos() as f64 / LOOKUPS as f64);
        }
    }
    for (count, mut rounds) in COUNTS.into_iter().zip(rounds) {
        rounds.sort_by(f64::total_cmp);
        println!("{count:>9}  {:>10.0} ns", rounds.get(ROUNDS / 2).context("no round")?);
    }
    Ok(())
}

#[inline(never)]
fn look_up(scene: &Scene, presented: &[ApiKey]) {
    let now = UnixTime::from_millis(1_800_000_000_000);
    for key in presented.iter().cycle().take(LOOKUPS) {
        let _ = black_box(scene.keys.authenticate(key.expose().as_bytes(), Listed::None, now));
    }
}

// === impl Scene ===

impl Scene {
    fn of(count: usize) -> Self {
        let all: Vec<ApiKey> = (0..count).map(|number| key("known", number)).collect();
        let consumer = |(number, keys): (usize, &[ApiKey])| {
            let keys = keys
                .iter()
                .map(|key| json!({ "id": key.id().to_string(), "digest": key.digest().to_string() }));
            let keys: Vec<Value> = keys.collect();
            let document =
                json!({ "name": format!("consumer-{number}"), "credentials": { "api_keys": keys } });
            serde_json::from_value(document).unwrap()
        };
        let consumers: Vec<ConsumerSpec> = all.chunks(EACH).enumerate().map(consumer).collect();
        let mut faults = Faults::default();
        let keys = ApiKeys::compile(
            &consumers,
            &AuthenticationSpec::default(),
            &Bindings::default(),
            &|_| true,
            &|_| None,
            &mut faults,
        );
        assert_eq!(keys.len(), count, "{faults:?}");
        // spread over the whole table
        let known: Vec<ApiKey> = all.into_iter().step_by((count / 1_000).max(1)).collect();
        let now = UnixTime::from_millis(0);
        assert!(
            known.iter().all(|key| keys.authenticate(key.expose().as_bytes(), Listed::None, now).is_ok())
        );
        Self { keys, known, strangers: (0..1_000).map(|number| key("stranger", number)).collect() }
    }

    fn presented(&self, who: &str) -> &[ApiKey] {
        if who == "known" { &self.known } else { &self.strangers }
    }
}

fn key(kind: &str, number: usize) -> ApiKey {
    let half = |half: u8| Sha256::digest(format!("{kind} {number} {half}"));
    ApiKey::generate(&[half(0), half(1)].concat()).unwrap()
}
