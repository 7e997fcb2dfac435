//! What one decision costs against so many policies: mlgate beside Cedar, Rego and Casbin, in one run.
//!
//! Each figure is the median of alternated rounds, since machines are noisy. `make bench-core` runs it natively and on
//! Wasm. `bench-core decide 10000 500` only decides so often against so many policies, so that somebody else can count
//! instructions (`peers/instructions.py`); with `denied` behind it the request that nothing allows, with
//! `remembered` the same request again and again.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement asks the clock and prints"
)]
#![expect(clippy::float_arithmetic, clippy::as_conversions, reason = "ratios for people")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use mlgate::policy::cache::Decisions;
use mlgate_peers::cedar::{Cedar, CedarAsk};
use mlgate_peers::gate::{Gate, GateAsk};
use mlgate_peers::organisation::Organisation;
use mlgate_peers::rego::Rego;

/// One engine against one number of policies.
struct Contest {
    engine: &'static str,
    policies: usize,
    decide: Box<dyn FnMut() -> anyhow::Result<bool>>,
    /// Nanoseconds a decision, one for each round.
    rounds: Vec<f64>,
}

const FEWEST: usize = 10;
const MOST: usize = 10_000;
const COUNTS: [usize; 4] = [FEWEST, 100, 1_000, MOST];
/// The row of requests that nothing allows.
const DENIED: &str = "mlgate, denied";
/// Rounds, of which the median counts.
const ROUNDS: usize = 7;
/// Decisions that may be remembered, as by default.
const REMEMBERED: usize = 4096;
/// How long one engine decides in one round, at least.
const ROUND: Duration = Duration::from_millis(20);

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => compare(),
        ["decide", policies, times] => decide(policies.parse()?, times.parse()?, ""),
        ["decide", policies, times, how @ ("denied" | "remembered")] => {
            decide(policies.parse()?, times.parse()?, how)
        }
        _ => anyhow::bail!("usage: bench-core [decide POLICIES TIMES [denied|remembered]]"),
    }
}

fn decide(policies: usize, times: usize, how: &str) -> anyhow::Result<()> {
    let organisation = Organisation::of(policies);
    let world = organisation.world();
    let denied = how == "denied";
    let ask = if denied { organisation.stranger() } else { organisation.ask() };
    let (gate, ask) = (Gate::of(&world)?, GateAsk::of(&ask.ask(), &world)?);
    let mut decisions = Decisions::new(REMEMBERED, [0; 16]);
    for _ in 0..times {
        let allowed =
            if how == "remembered" { gate.recalls(&ask, &mut decisions) } else { gate.is_allowed(&ask)? };
        anyhow::ensure!(black_box(allowed) != denied, "another answer than expected");
    }
    Ok(())
}

fn compare() -> anyhow::Result<()> {
    let mut contests = Vec::new();
    for count in COUNTS {
        let organisation = Organisation::of(count);
        add(&mut contests, &organisation, count)?;
        let (denies, ask) = (gate(&organisation)?.0, organisation.stranger());
        let ask = GateAsk::of(&ask.ask(), &organisation.world())?;
        anyhow::ensure!(!denies.is_allowed(&ask)?, "a stranger is allowed at {count}");
        contests.push(Contest::new(DENIED, count, move || Ok(!denies.is_allowed(&ask)?)));
        let hostile = Organisation::hostile(count);
        let (gate, ask) = gate(&hostile)?;
        contests.push(Contest::new("mlgate, nothing separates", count, move || gate.is_allowed(&ask)));
    }
    for contest in &mut contests {
        // what is compared must be the same answer: the one policy that speaks allows
        let allowed = (contest.decide)()?;
        anyhow::ensure!(allowed, "{} denies at {}", contest.engine, contest.policies);
    }
    for _ in 0..ROUNDS {
        for contest in &mut contests {
            contest.round()?;
        }
    }
    print(&contests);
    Ok(())
}

fn add(contests: &mut Vec<Contest>, organisation: &Organisation, count: usize) -> anyhow::Result<()> {
    let (gate, ask) = gate(organisation)?;
    contests.push(Contest::new("mlgate", count, move || gate.is_allowed(&ask)));
    let world = organisation.world();
    let cedar = Cedar::of(&world)?;
    let ask = CedarAsk::of(&organisation.ask().ask(), &world)?;
    contests.push(Contest::new("cedar-policy", count, move || cedar.is_allowed(&ask)));
    let mut rego = Rego::of(organisation)?;
    let input = Rego::input(&organisation.ask())?;
    contests.push(Contest::new("regorus", count, move || rego.is_allowed(&input)));
    #[cfg(not(target_arch = "wasm32"))]
    {
        use mlgate_peers::casbin::Casbin;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let casbin = runtime.block_on(Casbin::of(organisation))?;
        let ask = Casbin::ask(&organisation.ask());
        contests.push(Contest::new("casbin", count, move || casbin.is_allowed(&ask)));
    }
    Ok(())
}

fn gate(organisation: &Organisation) -> anyhow::Result<(Gate, GateAsk)> {
    let world = organisation.world();
    Ok((Gate::of(&world)?, GateAsk::of(&organisation.ask().ask(), &world)?))
}

fn print(contests: &[Contest]) {
    let mut table: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for contest in contests {
        table.entry(contest.engine).or_default().push(contest.median());
    }
    println!("{:<28}{}", "ns a decision, policies:", COUNTS.map(|count| format!("{count:>12}")).concat());
    for (engine, medians) in &table {
        let cells: String = medians.iter().map(|nanos| format!("{nanos:>12.0}")).collect();
        println!("{engine:<28}{cells}");
    }
    let Some(ours) = table.get("mlgate") else { return };
    if let (Some(few), Some(many)) = (ours.first(), ours.last()) {
        println!("\nmlgate: {} policies cost {:.2} times what {} cost", MOST, many / few, FEWEST);
        for (engine, medians) in table.iter().filter(|(engine, _)| !engine.starts_with("mlgate")) {
            if let Some(theirs) = medians.last() {
                println!("{engine}: {:.0} times mlgate at {}", theirs / many, MOST);
            }
        }
    }
}

// === impl Contest ===

impl Contest {
    fn new(
        engine: &'static str,
        policies: usize,
        decide: impl FnMut() -> anyhow::Result<bool> + 'static,
    ) -> Self {
        Self { engine, policies, decide: Box::new(decide), rounds: Vec::new() }
    }

    fn round(&mut self) -> anyhow::Result<()> {
        let mut decisions: u32 = 0;
        let mut batch: u32 = 1;
        let start = Instant::now();
        while start.elapsed() < ROUND {
            for _ in 0..batch {
                black_box((self.decide)()?);
            }
            decisions = decisions.saturating_add(batch);
            // so that asking the clock does not count
            batch = batch.saturating_mul(2).min(1 << 12);
        }
        self.rounds.push(start.elapsed().as_nanos() as f64 / f64::from(decisions));
        Ok(())
    }

    fn median(&self) -> f64 {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        rounds.get(rounds.len() / 2).copied().unwrap_or(f64::NAN)
    }
}
