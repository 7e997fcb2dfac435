use std::time::Duration;

use super::*;
use crate::host::fake::FakeHost;
use crate::limits::gcra::Quota;

const OVERFLOW: Tag = [0xff; 16];

fn table(slots: u32) -> Table {
    Table::new("gate", "principal_slots", slots, 1, 8)
}

fn tag(number: u64) -> Tag {
    let mut tag = Tag::default();
    tag[..8].copy_from_slice(&number.to_le_bytes());
    tag[8] = 1;
    tag
}

fn rates(limit: u64) -> [Rate; 1] {
    [Rate::new(limit, Duration::from_secs(60), limit).unwrap()]
}

fn charge(table: &Table, who: Tag, rates: &[Rate], host: &FakeHost) -> (Result<bool, Unavailable>, Trouble) {
    let trouble = Trouble::default();
    let bill = Bill { tag: who, overflow: &|| OVERFLOW, rates, cost: 1 };
    let charged = table.charge(&bill, host, &trouble);
    (charged.map(|(verdict, _)| matches!(verdict, Verdict::Admitted { .. })), trouble)
}

fn admits(table: &Table, who: Tag, rates: &[Rate], host: &FakeHost) -> bool {
    charge(table, who, rates, host).0.unwrap()
}

#[test]
fn there_are_at_most_as_many_keys_as_promised_and_no_more_bytes() {
    let (host, table) = (FakeHost::default(), table(64));
    for number in 0..10_000 {
        admits(&table, tag(number), &rates(3), &host);
    }
    let shared = host.shared.borrow();
    assert_eq!((shared.len() as u64, table.max_keys()), (8, 8));
    let bytes: usize = shared.iter().map(|(key, (value, _))| key.len() + value.len()).sum();
    assert_eq!(bytes as u64, table.max_bytes(), "every way and the overflow are in use");
}

#[test]
fn who_is_over_a_limit_stays_over_it_whoever_else_comes() {
    let (host, table) = (FakeHost::default(), table(8));
    let rates = rates(2);
    assert!(admits(&table, tag(0), &rates, &host) && admits(&table, tag(0), &rates, &host));
    for number in 1..1_000 {
        admits(&table, tag(number), &rates, &host);
        assert!(!admits(&table, tag(0), &rates, &host));
    }
}

#[test]
fn newcomers_to_a_full_bucket_share_one_entry_and_say_so() {
    let (host, table) = (FakeHost::default(), table(8));
    let rates = rates(2);
    for number in 0..8 {
        let (admitted, trouble) = charge(&table, tag(number), &rates, &host);
        assert!(admitted.unwrap() && !trouble.overflow.get());
    }
    let shared: Vec<_> = (8..12).map(|number| charge(&table, tag(number), &rates, &host)).collect();
    let admitted: Vec<_> = shared.iter().map(|(admitted, _)| admitted.unwrap()).collect();
    assert_eq!(admitted, [true, true, false, false]);
    assert!(shared.iter().all(|(_, trouble)| trouble.overflow.get()));
    assert!(admits(&table, tag(0), &rates, &host), "who has a slot keeps it");
}

#[test]
fn a_slot_passes_on_when_it_is_paid_off() {
    let (host, table) = (FakeHost::default(), table(8));
    let rates = rates(2);
    for number in 0..8 {
        admits(&table, tag(number), &rates, &host);
    }
    host.advance(Duration::from_secs(30));
    let (admitted, trouble) = charge(&table, tag(8), &rates, &host);
    assert!(admitted.unwrap() && !trouble.overflow.get());
}

#[test]
fn a_slot_after_the_overflow_is_no_fresh_start() {
    let (host, table) = (FakeHost::default(), table(8));
    let slow = rates(2);
    admits(&table, tag(0), &rates(60), &host); // paid off after a second
    for number in 1..8 {
        admits(&table, tag(number), &slow, &host);
    }
    assert!(admits(&table, tag(8), &slow, &host) && admits(&table, tag(8), &slow, &host));
    host.advance(Duration::from_secs(1));
    let (admitted, trouble) = charge(&table, tag(8), &slow, &host);
    assert!(!admitted.unwrap() && !trouble.overflow.get());
    host.advance(Duration::from_secs(29));
    assert!(admits(&table, tag(8), &slow, &host));
    assert!(!admits(&table, tag(8), &slow, &host));
}

#[test]
fn a_refund_finds_the_overflow_too() {
    let (host, table) = (FakeHost::default(), table(8));
    let rates = rates(1);
    for number in 0..8 {
        admits(&table, tag(number), &rates, &host);
    }
    let bill = Bill { tag: tag(8), overflow: &|| OVERFLOW, rates: &rates, cost: 1 };
    let (_, charged) = table.charge(&bill, &host, &Trouble::default()).unwrap();
    assert!(!admits(&table, tag(9), &rates, &host));
    let prices = [rates[0].price(1), 0, 0, 0];
    table.refund(&charged, &prices, &host, &Trouble::default()).unwrap();
    assert!(admits(&table, tag(9), &rates, &host));
}

#[test]
fn a_value_of_another_form_counts_as_never_written_and_is_counted() {
    for value in [vec![9, 9, 9], vec![1, 2, 3], vec![0; 49], vec![2; 49], vec![1; 48]] {
        let (host, table) = (FakeHost::default(), table(8));
        host.shared.borrow_mut().insert(String::from("mlgate/1/gate/principal_slots/0"), (value, 7));
        let (admitted, trouble) = charge(&table, tag(0), &rates(1), &host);
        assert!(admitted.unwrap() && trouble.corrupt.get());
        let (admitted, trouble) = charge(&table, tag(0), &rates(1), &host);
        assert!(!admitted.unwrap() && !trouble.corrupt.get(), "it was repaired");
    }
}

#[test]
fn a_removed_value_is_fresh_and_no_fault() {
    let (host, table) = (FakeHost::default(), table(8));
    host.shared.borrow_mut().insert(String::from("mlgate/1/gate/principal_slots/0"), (Vec::new(), 7));
    let (admitted, trouble) = charge(&table, tag(0), &rates(1), &host);
    assert!(admitted.unwrap() && !trouble.corrupt.get());
}

#[test]
fn slots_that_claim_to_be_live_for_ever_pass_on() {
    let (host, table) = (FakeHost::default(), table(8));
    let mut value = vec![1];
    value.resize(1 + WAYS * ENTRY_BYTES, 0xfe);
    host.shared.borrow_mut().insert(String::from("mlgate/1/gate/principal_slots/0"), (value, 7));
    let (admitted, trouble) = charge(&table, tag(0), &rates(1), &host);
    assert!(admitted.unwrap() && !trouble.overflow.get());
}

#[test]
fn a_conflict_is_tried_again_up_to_the_bound() {
    let (host, table) = (FakeHost::default(), table(8));
    host.conflicts.set(7);
    assert_eq!(charge(&table, tag(0), &rates(2), &host).0, Ok(true));
    host.conflicts.set(8);
    assert_eq!(charge(&table, tag(0), &rates(2), &host).0, Err(Unavailable));
    assert_eq!(charge(&table, tag(0), &rates(2), &host).0, Ok(true), "the failed one was not charged");
    assert_eq!(charge(&table, tag(0), &rates(2), &host).0, Ok(false));
}

#[test]
fn an_overflow_filled_by_an_earlier_configuration_makes_room() {
    let (host, table) = (FakeHost::default(), table(8));
    let rates = rates(1);
    for number in 0..8 {
        admits(&table, tag(number), &rates, &host);
    }
    let bill = |overflow: &'static dyn Fn() -> Tag| Bill { tag: tag(8), overflow, rates: &rates, cost: 1 };
    table.charge(&bill(&|| [1; 16]), &host, &Trouble::default()).unwrap();
    let (verdict, _) = table.charge(&bill(&|| [2; 16]), &host, &Trouble::default()).unwrap();
    assert!(matches!(verdict, Verdict::Admitted { quota: Some(Quota { remaining: 0, .. }), .. }));
    assert!(host.shared.borrow().values().all(|(value, _)| value.len() == 1 + 9 * ENTRY_BYTES));
}
