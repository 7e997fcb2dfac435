use super::*;
use crate::host::fake::FakeHost;

fn failures(document: &str) -> Failures {
    let spec: FailuresSpec = serde_json::from_str(document).unwrap();
    let mut faults = Faults::default();
    let failures = Failures::compile(Some(&spec), "gate", &BoundsSpec::default(), None, &mut faults);
    assert!(faults.is_empty());
    failures.unwrap()
}

fn host() -> FakeHost {
    let host = FakeHost::default();
    host.advance(Duration::from_secs(3600));
    host
}

fn source(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

const FREE: Standing = Standing { blocked: None, degraded: None };

fn blocked(seconds: u64) -> Standing {
    Standing { blocked: Some(Duration::from_secs(seconds)), degraded: None }
}

#[test]
fn after_so_many_failures_a_source_is_blocked_for_as_long_as_it_says() {
    let (failures, host) = (failures("{}"), host());
    let mallory = source("203.0.113.7");
    for _ in 0..20 {
        assert_eq!(failures.look(mallory, &host), FREE);
        assert_eq!(failures.count(mallory, &host), FREE);
    }
    assert_eq!(failures.look(mallory, &host), blocked(300));
    host.advance(Duration::from_secs(100));
    // failing on does not prolong it
    assert_eq!(failures.count(mallory, &host), blocked(200));
    assert_eq!(failures.look(mallory, &host), blocked(200));
    assert_eq!(failures.look(source("203.0.113.8"), &host), FREE);
    host.advance(Duration::from_secs(200));
    assert_eq!(failures.look(mallory, &host), FREE);
    for _ in 0..19 {
        assert_eq!(failures.count(mallory, &host), FREE);
    }
    assert_eq!(failures.look(mallory, &host), FREE);
}

#[test]
fn failures_far_between_block_nobody() {
    let (failures, host) = (failures(r#"{ "limit": 3, "window": "30s" }"#), host());
    for _ in 0..100 {
        assert_eq!(failures.count(source("::1"), &host), FREE);
        host.advance(Duration::from_secs(10));
    }
    assert_eq!(failures.look(source("::1"), &host), FREE);
}

#[test]
fn a_block_may_be_shorter_than_the_window() {
    let (failures, host) = (failures(r#"{ "limit": 2, "window": "1h", "block": "1s" }"#), host());
    let mallory = source("203.0.113.7");
    for _ in 0..2 {
        assert_eq!(failures.count(mallory, &host), FREE);
    }
    for _ in 0..3 {
        assert_eq!(failures.look(mallory, &host), blocked(1));
        host.advance(Duration::from_secs(1));
        assert_eq!(failures.look(mallory, &host), FREE);
        // each further one is one too many
        assert_eq!(failures.count(mallory, &host), FREE);
    }
}

#[test]
fn one_customer_of_ipv6_is_one_source_and_an_ipv4_one_is_itself() {
    let (failures, host) = (failures(r#"{ "limit": 1 }"#), host());
    assert_eq!(failures.count(source("2001:db8:1:2::1"), &host), FREE);
    assert_eq!(failures.look(source("2001:db8:1:2:ffff::9"), &host), blocked(300));
    assert_eq!(failures.look(source("2001:db8:1:3::1"), &host), FREE);
    assert_eq!(failures.count(source("203.0.113.7"), &host), FREE);
    assert_eq!(failures.look(source("::ffff:203.0.113.7"), &host), blocked(300));
}

#[test]
fn a_source_that_is_not_known_is_nobody() {
    let (failures, host) = (failures(r#"{ "limit": 1 }"#), host());
    let unknown = Standing { blocked: None, degraded: Some(Degraded::FailureSource) };
    for _ in 0..3 {
        assert_eq!(failures.count(None, &host), unknown);
        assert_eq!(failures.look(None, &host), FREE);
    }
    assert!(host.shared.borrow().is_empty());
}

#[test]
fn a_full_table_forgets_newcomers_and_nobody_who_is_blocked() {
    let spec: FailuresSpec = serde_json::from_str(r#"{ "limit": 1 }"#).unwrap();
    let bounds = BoundsSpec { source_slots: 8, ..BoundsSpec::default() };
    let mut faults = Faults::default();
    let failures = Failures::compile(Some(&spec), "gate", &bounds, None, &mut faults).unwrap();
    let host = host();
    let at = |number: u8| Some(IpAddr::from([203, 0, 113, number]));
    let full = Standing { blocked: None, degraded: Some(Degraded::FailureSlots) };
    for number in 0..8 {
        assert_eq!(failures.count(at(number), &host), FREE);
    }
    for number in 8..200 {
        assert_eq!(failures.count(at(number), &host), full, "{number}");
        assert_eq!(failures.look(at(number), &host), FREE, "nobody pays for others");
    }
    for number in 0..8 {
        assert_eq!(failures.look(at(number), &host), blocked(300));
    }
    let used: usize = host.shared.borrow().iter().map(|(key, (value, _))| key.len() + value.len()).sum();
    assert!(u64::try_from(used).unwrap() <= failures.max_bytes() + 128, "{used}");
    host.advance(Duration::from_secs(300));
    assert_eq!(failures.count(at(9), &host), FREE);
    assert_eq!(failures.look(at(9), &host), blocked(300));
}

#[test]
fn shared_data_that_fails_opens_nothing_and_blocks_nobody() {
    let (failures, host) = (failures(r#"{ "limit": 1 }"#), host());
    let mallory = source("203.0.113.7");
    let unavailable = Standing { blocked: None, degraded: Some(Degraded::Failures) };
    host.conflicts.set(u32::MAX);
    assert_eq!(failures.count(mallory, &host), unavailable);
    host.conflicts.set(0);
    assert_eq!(failures.count(mallory, &host), FREE);
    // a value that is not ours counts as never written, and says so
    let key = host.shared.borrow().keys().find(|key| key.contains("failure_slots")).cloned().unwrap();
    host.shared.borrow_mut().insert(key, (vec![9; 40], 7));
    let corrupt = Standing { blocked: None, degraded: Some(Degraded::Corrupt) };
    assert_eq!(failures.look(mallory, &host), corrupt);
}

#[test]
fn a_clock_that_went_back_locks_nobody_out() {
    let (failures, host) = (failures(r#"{ "limit": 1 }"#), host());
    let mallory = source("203.0.113.7");
    assert_eq!(failures.count(mallory, &host), FREE);
    host.monotonic_nanos.set(1_000_000_000);
    assert_eq!(failures.look(mallory, &host), FREE);
}

#[test]
fn impossible_numbers_are_faults() {
    for (document, place) in [
        (r#"{ "limit": 0 }"#, "/authentication/failures/limit"),
        (r#"{ "block": "25h" }"#, "/authentication/failures/block"),
        (r#"{ "window": "400d" }"#, "/authentication/failures/window"),
    ] {
        let spec: FailuresSpec = serde_json::from_str(document).unwrap();
        let mut faults = Faults::default();
        let _ = Failures::compile(Some(&spec), "gate", &BoundsSpec::default(), None, &mut faults);
        let places: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(places, [place], "{document}");
    }
}
