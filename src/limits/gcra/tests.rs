use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 3_600 * SECOND;

fn rate(limit: u64, window: Duration, burst: u64) -> Rate {
    Rate::new(limit, window, burst).unwrap()
}

fn admits(tats: &mut Tats, rates: &[Rate], now: u64) -> bool {
    match charge(tats, rates, now, 1) {
        Verdict::Admitted { tats: new, .. } => {
            *tats = new;
            true
        }
        Verdict::Refused { .. } => false,
    }
}

fn retry_after(tats: &Tats, rates: &[Rate], now: u64) -> Duration {
    match charge(tats, rates, now, 1) {
        Verdict::Admitted { .. } => panic!("admitted"),
        Verdict::Refused { retry_after, .. } => retry_after,
    }
}

/// The most that lie in any half-open window.
fn busiest(admitted: &[u64], window: Duration) -> u64 {
    let window = nanos(window);
    let mut first = 0;
    let mut most = 0;
    for (last, at) in admitted.iter().enumerate() {
        while admitted[first] + window <= *at {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most as u64
}

#[test]
fn a_burst_comes_at_once_and_then_one_per_increment() {
    let rates = [rate(6, Duration::from_secs(60), 3)];
    let mut tats = Tats::default();
    let at_once = (0..10).filter(|_| admits(&mut tats, &rates, START)).count();
    assert_eq!(at_once, 3);
    assert_eq!(retry_after(&tats, &rates, START), Duration::from_secs(10));
    assert!(!admits(&mut tats, &rates, START + 10 * SECOND - 1));
    assert!(admits(&mut tats, &rates, START + 10 * SECOND));
    assert!(!admits(&mut tats, &rates, START + 10 * SECOND));
}

#[test]
fn rounding_never_admits_one_more() {
    let rates = [rate(3, Duration::from_secs(1), 1)];
    let (mut tats, mut now, mut admitted) = (Tats::default(), START, 0);
    while now < START + SECOND {
        if admits(&mut tats, &rates, now) {
            admitted += 1;
        }
        now = next(now, AS_TOLD, &tats, &rates);
    }
    assert_eq!(admitted, 3);
}

#[test]
fn the_quota_is_of_the_rate_nearest_refusal() {
    let rates = [rate(100, Duration::from_secs(60), 20), rate(5, Duration::from_secs(1), 5)];
    let mut tats = Tats::default();
    for remaining in (0..5).rev() {
        let Verdict::Admitted { tats: new, quota: Some(quota) } = charge(&tats, &rates, START, 1) else {
            panic!("refused")
        };
        assert_eq!((quota.limit, quota.remaining), (5, remaining));
        tats = new;
    }
    let Verdict::Refused { retry_after, quota } = charge(&tats, &rates, START, 1) else { panic!("admitted") };
    assert_eq!(retry_after, Duration::from_millis(200));
    assert_eq!(quota, Quota { limit: 5, remaining: 0, reset: Duration::from_secs(1) });
}

#[test]
fn a_refusal_by_one_rate_charges_none() {
    let rates = [rate(100, Duration::from_secs(60), 100), rate(1, Duration::from_secs(1), 1)];
    let mut tats = Tats::default();
    assert!(admits(&mut tats, &rates, START));
    let before = tats;
    assert!(!admits(&mut tats, &rates, START));
    assert_eq!(tats, before);
}

#[test]
fn more_than_a_burst_never_fits() {
    let rates = [rate(10, Duration::from_secs(1), 3)];
    let Verdict::Refused { retry_after, .. } = charge(&Tats::default(), &rates, START, 4) else {
        panic!("admitted")
    };
    assert_eq!(retry_after, Duration::from_nanos(u64::MAX));
    assert!(matches!(charge(&Tats::default(), &rates, START, 3), Verdict::Admitted { .. }));
}

#[test]
fn a_clock_that_went_back_locks_nobody_out() {
    let rates = [rate(6, Duration::from_secs(60), 3)];
    let mut tats = Tats::default();
    while admits(&mut tats, &rates, START) {}
    let back = START - 3_000 * SECOND;
    assert!(admits(&mut tats, &rates, back), "the first request after it is admitted");
    assert!(!admits(&mut tats, &rates, back), "and uses up the burst");
    assert!(admits(&mut tats, &rates, back + 10 * SECOND), "after which the pace is as ever");
    assert!(!is_ahead(u64::MAX, START), "a time that no rate allows says nothing");
}

#[test]
fn a_worker_whose_clock_is_a_little_late_is_no_clock_that_went_back() {
    let rates = [rate(6, Duration::from_secs(60), 3)];
    let mut tats = Tats::default();
    while admits(&mut tats, &rates, START) {}
    assert!(!admits(&mut tats, &rates, START - SECOND / 2));
}

#[test]
fn numbers_that_cannot_be_counted_are_refused() {
    let minute = Duration::from_secs(60);
    assert_eq!(Rate::new(0, minute, 1), Err(InvalidRate::LimitZero));
    assert_eq!(Rate::new(1, minute, 0), Err(InvalidRate::BurstZero));
    assert_eq!(Rate::new(1, MAX_WINDOW + minute, 1), Err(InvalidRate::WindowTooLong));
    assert_eq!(Rate::new(60_000_001, minute, 1), Err(InvalidRate::TooFast));
    assert_eq!(Rate::new(1, MAX_WINDOW, 12), Err(InvalidRate::RefillTooLong));
    assert_eq!(Rate::new(1, minute, u64::MAX), Err(InvalidRate::RefillTooLong));
    assert_eq!(Rate::new(u64::MAX, Duration::from_nanos(1), u64::MAX), Err(InvalidRate::TooFast));
    assert!(Rate::new(60_000_000, minute, 60_000_000).is_ok());
}

#[test]
fn the_promise_names_its_numbers() {
    let minute = rate(100, Duration::from_secs(60), 20);
    assert_eq!(minute.to_string(), "at most 119 requests in any 1m per Envoy, 20 of them at once");
    assert_eq!(
        rate(1, Duration::from_millis(1_500), 1).to_string(),
        "at most 1 requests in any 1500ms per Envoy, 1 of them at once"
    );
}

fn any_rate() -> impl Strategy<Value = Rate> {
    (1_u64..40, 1_u64..5_000_000, 1_u64..40).prop_filter_map("a rate", |(limit, micros, burst)| {
        Rate::new(limit, Duration::from_micros(micros), burst).ok()
    })
}

fn any_rates() -> impl Strategy<Value = Vec<Rate>> {
    prop::collection::vec(any_rate(), 1..=MAX_RATES)
}

/// Pauses around what a rate cares for: none, a nanosecond, an increment, a window, as long as told.
fn any_pauses() -> impl Strategy<Value = Vec<u64>> {
    let pause = prop_oneof![
        4 => Just(0),
        2 => 0_u64..1_000,
        3 => 0_u64..1_000_000,
        1 => 0_u64..10_000_000_000,
        3 => Just(AS_TOLD),
    ];
    prop::collection::vec(pause, 1..150)
}

/// The time after a pause.
fn next(now: u64, pause: u64, tats: &Tats, rates: &[Rate]) -> u64 {
    match charge(tats, rates, now, 1) {
        Verdict::Refused { retry_after, .. } if pause == AS_TOLD => now + nanos(retry_after),
        Verdict::Admitted { .. } if pause == AS_TOLD => now,
        _ => now + pause,
    }
}

/// A pause until the next request is admitted.
const AS_TOLD: u64 = u64::MAX;

proptest! {
    #[test]
    fn any_window_admits_at_most_what_is_promised(rates in any_rates(), pauses in any_pauses()) {
        let (mut tats, mut now, mut admitted) = (Tats::default(), START, Vec::new());
        for pause in pauses {
            now = next(now, pause, &tats, &rates);
            if admits(&mut tats, &rates, now) {
                admitted.push(now);
            }
        }
        for rate in &rates {
            prop_assert!(busiest(&admitted, rate.window()) <= rate.promise());
        }
    }

    /// A bucket of tokens in exact fractions (of `window`), without any rounding.
    #[test]
    fn an_exact_token_bucket_admits_all_that_is_admitted(rates in any_rates(), pauses in any_pauses()) {
        let (mut tats, mut now) = (Tats::default(), START);
        let window = |rate: &Rate| u128::from(nanos(rate.window()));
        let mut tokens: Vec<_> = rates.iter().map(|rate| u128::from(rate.burst) * window(rate)).collect();
        for pause in pauses {
            let before = now;
            now = next(now, pause, &tats, &rates);
            for (tokens, rate) in tokens.iter_mut().zip(&rates) {
                let refilled = *tokens + u128::from(now - before) * u128::from(rate.limit);
                *tokens = refilled.min(u128::from(rate.burst) * window(rate));
            }
            if admits(&mut tats, &rates, now) {
                for (tokens, rate) in tokens.iter_mut().zip(&rates) {
                    prop_assert!(*tokens >= window(rate));
                    *tokens -= window(rate);
                }
            }
        }
    }

    #[test]
    fn retry_after_is_exact_to_the_nanosecond(rates in any_rates(), pauses in any_pauses()) {
        let (mut tats, mut now) = (Tats::default(), START);
        for pause in pauses {
            now = next(now, pause, &tats, &rates);
            if !admits(&mut tats, &rates, now) {
                let wait = nanos(retry_after(&tats, &rates, now));
                prop_assert!(wait > 0);
                prop_assert!(!admits(&mut tats.clone(), &rates, now + wait - 1));
                prop_assert!(admits(&mut tats.clone(), &rates, now + wait));
            }
        }
    }

    #[test]
    fn exactly_the_remaining_are_admitted_at_once(rates in any_rates(), pauses in any_pauses()) {
        let (mut tats, mut now) = (Tats::default(), START);
        for pause in pauses {
            now = next(now, pause, &tats, &rates);
            let Verdict::Admitted { tats: new, quota: Some(quota) } = charge(&tats, &rates, now, 1) else { continue };
            tats = new;
            let mut copy = tats;
            let more = (0..100).take_while(|_| admits(&mut copy, &rates, now)).count() as u64;
            prop_assert_eq!(more, quota.remaining);
        }
    }

    #[test]
    fn a_refund_at_once_leaves_no_trace(rates in any_rates(), pauses in any_pauses(), after in any_pauses()) {
        let (mut tats, mut now) = (Tats::default(), START);
        for pause in pauses {
            now = next(now, pause, &tats, &rates);
            admits(&mut tats, &rates, now);
        }
        let mut refunded = tats;
        if admits(&mut refunded, &rates, now) {
            refund(&mut refunded, &prices(&rates), 0);
        }
        for pause in after {
            now = next(now, pause, &tats, &rates);
            prop_assert_eq!(admits(&mut tats, &rates, now), admits(&mut refunded, &rates, now));
        }
    }

    /// Served is what was admitted and not given back, in whatever order and however late it was given back.
    #[test]
    fn refunds_never_let_more_through_than_promised(
        rates in any_rates(),
        steps in prop::collection::vec((0_u64..2_000_000, prop::option::weighted(0.3, 0_usize..8)), 1..300),
    ) {
        let (mut tats, mut now) = (Tats::default(), START);
        let (mut served, mut open) = (Vec::new(), Vec::new());
        for (pause, back) in steps {
            now += pause;
            match back {
                Some(which) if which < open.len() => {
                    refund(&mut tats, &prices(&rates), now - open.remove(which));
                }
                _ => {
                    if admits(&mut tats, &rates, now) {
                        open.push(now);
                    }
                    if open.len() > 8 {
                        served.push(open.remove(0));
                    }
                }
            }
        }
        served.extend(open);
        for rate in &rates {
            prop_assert!(busiest(&served, rate.window()) <= rate.promise());
        }
    }

    #[test]
    fn no_number_traps(
        stored in any::<Tats>(),
        rates in any_rates(),
        now in any::<u64>(),
        cost in any::<u64>(),
        elapsed in any::<u64>(),
        prices in any::<Tats>(),
    ) {
        charge(&stored, &rates, now, cost);
        let mut tats = stored;
        refund(&mut tats, &prices, elapsed);
        is_ahead(stored[0], now);
    }
}

fn prices(rates: &[Rate]) -> Tats {
    let mut prices = Tats::default();
    for (price, rate) in prices.iter_mut().zip(rates) {
        *price = rate.price(1);
    }
    prices
}
