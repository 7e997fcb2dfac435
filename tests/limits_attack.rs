//! Tables of limits under attack: a million callers, a network with a /48, clocks that step. Nobody who is over a limit
//! gets out of it that way, and nobody is shut out for good.
#![expect(clippy::unwrap_used, reason = "a broken fixture should stop the test")]
#![expect(clippy::disallowed_methods, reason = "the million takes as long as it takes")]
#![expect(clippy::arithmetic_side_effects, reason = "an overflow should stop the test")]

#[path = "support/shared_host.rs"]
mod shared_host;

use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mlgate::config::document::BoundsSpec;
use mlgate::identity::Identity;
use mlgate::limits::{Charge, Degraded, Limits};
use proptest::prelude::*;

use shared_host::{SharedHost, charge, charge_as, worker};

const MILLION: u64 = 1_000_000;
/// Two requests a day, for each principal and for each source.
const DAILY: &str = r#"[
    { "name": "per-caller", "key": ["principal"], "rates": { "default": [{ "limit": 2, "window": "24h" }] } },
    { "name": "per-source", "key": ["source"], "rates": { "default": [{ "limit": 2, "window": "24h" }] } }]"#;
/// A hundred an hour, one each 36 s.
const HOURLY: &str = r#"[{ "name": "per-source", "key": ["source"],
    "rates": { "default": [{ "limit": 100, "window": "1h" }] } }]"#;
/// Ten an hour, one each six minutes; three at once.
const BURSTY: &str = r#"[{ "name": "per-source", "key": ["source"],
    "rates": { "default": [{ "limit": 10, "window": "1h", "burst": 3 }] } }]"#;
const BURST: i64 = 3;
/// Seconds that one request costs.
const INCREMENT: i64 = 360;
const HOUR: Duration = Duration::from_secs(3600);

fn is_admitted(charge: &Charge) -> bool {
    matches!(charge, Charge::Admitted { .. })
}

/// The `number`th /64 under a prefix.
fn network(prefix: &str, number: u64) -> IpAddr {
    let prefix: Ipv6Addr = prefix.parse().unwrap();
    Ipv6Addr::from_bits(prefix.to_bits() | u128::from(number) << 64).into()
}

#[test]
fn a_million_callers_take_no_more_memory_and_free_nobody() {
    let limits = worker(DAILY);
    let host = SharedHost::new();
    let ask = |limits: &Limits, only: &str, number: u64| {
        charge(limits, only, &format!("caller-{number}"), Some(network("2001::", number)), &host)
    };
    let flood = |only: &str, numbers: Range<u64>| {
        let limits = worker(DAILY);
        numbers.for_each(|number| drop(ask(&limits, only, number)));
    };
    let over: Vec<(&str, u64)> = (0..20)
        .flat_map(|number| [("per-caller", u64::MAX - number), ("per-source", MILLION + number)])
        .collect();
    for (only, number) in &over {
        assert!(is_admitted(&ask(&limits, only, *number)) && is_admitted(&ask(&limits, only, *number)));
    }

    let (started, done) = (Instant::now(), AtomicBool::new(false));
    let asked = AtomicU64::new(0);
    thread::scope(|scope| {
        let halves = ["per-caller", "per-source"].map(|only| {
            let half = MILLION / 2;
            [(only, 0..half), (only, half..MILLION)]
        });
        let floods: Vec<_> = halves
            .into_iter()
            .flatten()
            .map(|(only, numbers)| scope.spawn(move || flood(only, numbers)))
            .collect();
        let during = scope.spawn(|| {
            let limits = worker(DAILY);
            while !done.load(Ordering::Relaxed) {
                for (only, number) in &over {
                    assert!(
                        !is_admitted(&ask(&limits, only, *number)),
                        "{only} {number} got out during the flood"
                    );
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        for flood in floods {
            flood.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        during.join().unwrap();
    });
    let (keys, bytes) = host.size();
    println!(
        "1,000,000 principals and 1,000,000 sources in {:.1?}: {keys} of {} keys, {bytes} of {} bytes; {} callers over \
         their limit asked {} times meanwhile",
        started.elapsed(),
        limits.max_keys(),
        limits.max_bytes(),
        over.len(),
        asked.into_inner(),
    );
    assert!(keys <= limits.max_keys() && limits.max_keys() == 8_192 + 2_048 + 1);
    assert!(bytes <= limits.max_bytes() && limits.max_bytes() < 5_000_000);
    for (only, number) in over {
        assert!(!is_admitted(&ask(&limits, only, number)), "{only} {number} got out after the flood");
    }
}

#[test]
fn a_network_with_a_48_frees_nobody_and_shuts_nobody_out_for_good() {
    let limits = worker(HOURLY);
    let host = SharedHost::standing_at(HOUR);
    let ask = |address: IpAddr| is_admitted(&charge(&limits, "*", "", Some(address), &host));
    let slots = u64::from(BoundsSpec::default().source_slots);
    // one who is over its limit, and one who has used half of it
    let (over, half) = (network("2001:db8:1::", 1), network("2001:db8:2::", 2));
    assert!((0..100).all(|_| ask(over)) && !ask(over));
    assert!((0..50).all(|_| ask(half)));
    // all addresses of one /64 are one caller, whose limit another one of them has used up
    assert!(!ask(IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8_0001_0001 << 64 | 0xdead_beef))));

    let flood = (0..4).flat_map(|_| 0..1 << 16);
    let admitted = flood.filter(|number| ask(network("2001:db8:ffff::", *number))).count();
    assert!(!ask(over), "the flood freed a caller over its limit");
    let left = (0..100).take_while(|_| ask(half)).count();
    assert_eq!(left, 50, "who had a slot keeps it, and what was left of it");
    // newcomers share what is left to newcomers: stricter, and never for longer than it takes the flood to be paid off
    let newcomers = (0..1_000).filter(|number| ask(network("2001:db8:3::", *number))).count();
    println!(
        "a /48 asks four times from each of 65,536 networks at once, {admitted} admitted, with {slots} slots; of 1,000 \
         newcomers after it {newcomers} are admitted"
    );
    host.set(HOUR * 2);
    assert!((0..1_000).all(|number| ask(network("2001:db8:3::", 5_000 + number))), "shut out after an hour");
    assert!((0..100).all(|_| ask(over)) && !ask(over), "its limit, an hour later");
}

#[test]
fn slots_that_the_attack_holds_are_told_as_degraded() {
    let limits = worker(HOURLY);
    let host = SharedHost::standing_at(HOUR);
    let (selection, nobody) = (limits.all(), Identity::anonymous());
    let ask = |address| charge_as(&limits, &selection, &nobody, Some(address), &host);
    for number in 0..1 << 16 {
        drop(ask(network("2001:db8:ffff::", number)));
    }
    let newcomer = ask(network("2001:db8:3::", 1));
    assert_eq!(newcomer.degraded, [Degraded::Slots]);
}

#[test]
fn a_clock_that_begins_anew_shuts_nobody_out() {
    let limits = worker(BURSTY);
    let host = SharedHost::standing_at(HOUR * 24 * 300);
    let address = Some(network("2001:db8::", 1));
    let ask = || charge(&limits, "*", "", address, &host);
    assert_eq!((0..10).filter(|_| is_admitted(&ask())).count(), 3);
    for time in [Duration::ZERO, Duration::from_secs(60)] {
        host.set(time);
        let admitted = (0..10).filter(|_| is_admitted(&ask())).count();
        // what stood there means nothing to this clock: one request passes, and nothing is left over
        assert_eq!(admitted, usize::from(time.is_zero()), "at {time:?}");
    }
    host.set(HOUR / 10);
    assert_eq!((0..10).filter(|_| is_admitted(&ask())).count(), 1, "one each six minutes, as ever");
    host.set(HOUR * 2);
    assert_eq!((0..10).filter(|_| is_admitted(&ask())).count(), 3, "a whole burst");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever the clock does, who waits as long as it was told is admitted, unless others were meanwhile; and each
    /// step back lets at most one request more pass than the rate promises of what the clock has shown since.
    #[test]
    fn steps_of_the_clock_free_nobody_and_shut_nobody_out(
        steps in prop::collection::vec((-200_000_i64..200_000, 0_usize..6), 1..60),
    ) {
        let limits = worker(BURSTY);
        let begin = 1_000_000_i64;
        let host = SharedHost::standing_at(Duration::from_secs(1_000_000));
        let ask = || charge(&limits, "*", "", Some(network("2001:db8::", 1)), &host);
        let (mut now, mut earned, mut back, mut admitted) = (begin, 0_i64, 0_i64, 0_i64);
        for (step, requests) in steps {
            now = (now + step).max(0);
            if step < 0 { back += 1 } else { earned += step.min(BURST * INCREMENT) }
            host.set(Duration::from_secs(now.try_into().unwrap()));
            let mut told = None;
            for _ in 0..requests {
                match ask() {
                    Charge::Admitted { .. } => admitted += 1,
                    Charge::Refused { retry_after, .. } => told = Some(retry_after),
                    Charge::Unavailable { .. } => prop_assert!(false, "unavailable"),
                }
            }
            if let Some(wait) = told {
                // never longer than a burst takes, but for the second that another worker's clock may be ahead
                let longest = u64::try_from(BURST * INCREMENT + 1).unwrap();
                prop_assert!(wait <= Duration::from_secs(longest), "{wait:?}");
            }
        }
        let promise = BURST + earned / INCREMENT + back;
        prop_assert!(admitted <= promise, "{admitted} admitted, {promise} promised");
        let Charge::Refused { retry_after, .. } = std::iter::repeat_with(ask).take(5).last().unwrap() else {
            return Err(TestCaseError::fail("five at once"));
        };
        host.set(Duration::from_secs(now.try_into().unwrap()) + retry_after);
        prop_assert!(is_admitted(&ask()), "told to wait {retry_after:?}");
    }
}
