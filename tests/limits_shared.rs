//! Limits over one shared memory: threads stand for workers, a map behind a mutex for the proxy's shared data.
#![expect(clippy::unwrap_used, reason = "a broken fixture should stop the test")]
#![expect(clippy::disallowed_methods, reason = "threads need a clock that runs")]
#![expect(clippy::arithmetic_side_effects, reason = "an overflow should stop the test")]

#[path = "support/shared_host.rs"]
#[expect(dead_code, reason = "the tests of attacks use all of it")]
mod shared_host;

use std::thread;
use std::time::Instant;

use mlgate::identity::Identity;
use mlgate::limits::Charge;

use shared_host::{SharedHost, charge, charge_as, worker};

/// Sums what 8 workers at once count.
fn together(work: impl Fn() -> u64 + Sync) -> u64 {
    thread::scope(|scope| {
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(&work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    })
}

#[test]
fn eight_workers_admit_exactly_the_limit() {
    let specs = r#"[{ "name": "per-caller", "key": ["principal"],
        "rates": { "default": [{ "limit": 5, "window": "1h" }, { "limit": 100, "window": "1h" }] } }]"#;
    for round in 0..50 {
        // a new proxy each time, so that the workers race for the hash key as well
        let host = SharedHost::new();
        let admitted = together(|| {
            let limits = worker(specs);
            let mut admitted = 0_u64;
            for _ in 0..25 {
                match charge(&limits, "*", "alice", None, &host) {
                    Charge::Admitted { .. } => admitted += 1,
                    Charge::Refused { .. } => {}
                    // only five writes can succeed, so nobody conflicts more than five times
                    Charge::Unavailable { .. } => panic!("unavailable in round {round}"),
                }
            }
            admitted
        });
        assert_eq!(admitted, 5, "round {round}");
    }
}

#[test]
fn eight_workers_that_give_back_lose_and_gain_nothing() {
    let specs = r#"[{ "name": "per-caller", "key": ["principal"],
        "rates": { "default": [{ "limit": 20, "window": "24h" }] } }]"#;
    let host = SharedHost::new();
    let limits = worker(specs);
    // everybody takes and gives back for a while; a storm may make a worker give up, but never forget a charge
    let kept = together(|| {
        let limits = worker(specs);
        let mut kept = 0_u64;
        for _ in 0..500 {
            if let Charge::Admitted { receipt, .. } = charge(&limits, "*", "alice", None, &host)
                && limits.refund(receipt, &host).is_some()
            {
                kept += 1;
            }
        }
        kept
    });
    let mut admitted = 0_u64;
    while let Charge::Admitted { .. } = charge(&limits, "*", "alice", None, &host) {
        admitted += 1;
    }
    // each refund withheld the time it took: all of them together may cost one request, of 72 minutes
    let sum = admitted + kept;
    assert!((19..=20).contains(&sum), "{admitted} admitted, {kept} refunds failed");
}

#[test]
fn one_charge_costs() {
    let host = SharedHost::new();
    for (name, specs) in [
        (
            "one limit, one rate",
            r#"[{ "name": "a", "key": ["principal"], "rates": { "default": [
            { "limit": 1000000, "window": "1s" }] } }]"#,
        ),
        (
            "one limit, two rates",
            r#"[{ "name": "b", "key": ["principal", "model"], "rates": { "default": [
            { "limit": 1000000, "window": "1s" }, { "limit": 10000000, "window": "1m" }] } }]"#,
        ),
        (
            "one limit, refused",
            r#"[{ "name": "c", "key": ["principal"], "rates": { "default": [
            { "limit": 1, "window": "24h" }] } }]"#,
        ),
    ] {
        let limits = worker(specs);
        let (selection, identity) = (limits.all(), Identity::anonymous());
        let started = Instant::now();
        let turns = 100_000_u32;
        for _ in 0..turns {
            drop(charge_as(&limits, &selection, &identity, None, &host));
        }
        println!("{name}: {:?} each", started.elapsed().checked_div(turns).unwrap());
    }
}
