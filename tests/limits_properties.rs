//! Promises of limits that no history of requests, no table however full and no foreign bytes may break.
#![expect(clippy::unwrap_used, reason = "a broken fixture should stop the test")]
#![expect(clippy::arithmetic_side_effects, reason = "a fault should stop the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use mlgate::config::document::BoundsSpec;
use mlgate::config::faults::Faults;
use mlgate::host::fake::FakeHost;
use mlgate::identity::Identity;
use mlgate::limits::{Charge, Charging, Degraded, Limits, Subject};
use mlgate::policy::attributes::{AttributeMap, Attributes};
use mlgate::resource::Resource;

/// A request: who of which tier, how long after the one before, and whether a later stage refuses it.
#[derive(Clone, Copy, Debug)]
struct Request {
    caller: u8,
    pro: bool,
    pause: Duration,
    taken_back: bool,
}

/// A few more than one bucket holds, so that some share the overflow and get a slot of their own later.
const CALLERS: u8 = 12;

fn any_request() -> impl Strategy<Value = Request> {
    let pause = prop_oneof![4 => Just(0), 3 => 0_u64..50_000_000, 1 => 0_u64..2_000_000_000];
    (0_u8..CALLERS, prop::bool::weighted(0.1), pause, prop::bool::weighted(0.1)).prop_map(
        |(caller, pro, pause, taken_back)| Request {
            caller,
            pro,
            pause: Duration::from_nanos(pause),
            taken_back,
        },
    )
}

fn compile(document: Json, slots: u32) -> Option<Limits> {
    let specs: Vec<_> = serde_json::from_value(document).ok()?;
    let bounds = BoundsSpec { principal_slots: slots, source_slots: slots, ..BoundsSpec::default() };
    let mut faults = Faults::default();
    let limits = Limits::compile(&specs, None, "gate", &bounds, Some(b"a secret"), &mut faults);
    faults.is_empty().then_some(limits)
}

fn charge(limits: &Limits, request: Request, host: &FakeHost) -> Charging {
    let mut identity = Identity::anonymous();
    identity.principal = request.caller.to_string();
    identity.tier = String::from(if request.pro { "pro" } else { "free" });
    let resource =
        Resource { kind: String::from("model"), id: String::from("m"), attributes: AttributeMap::new() };
    let environment = AttributeMap::new();
    let attributes = Attributes {
        principal: &identity,
        resource: &resource,
        action: "predict",
        environment: &environment,
        now: None,
        source: None,
    };
    let subject = Subject { attributes: &attributes, source: None, route: None, profile: "default" };
    limits.charge(&limits.all(), &subject, host)
}

/// The most that lie in any half-open window.
fn busiest(times: &[u64], window: Duration) -> usize {
    let window = u64::try_from(window.as_nanos()).unwrap();
    let within = |from: u64| times.iter().filter(|at| (from..from + window).contains(at)).count();
    times.iter().map(|from| within(*from)).max().unwrap_or(0)
}

fn two_limits() -> Json {
    json!([
        { "name": "per-caller", "key": ["principal"], "rates": {
            "default": [{ "limit": 3, "window": "1s", "burst": 2 }],
            "pro": [{ "limit": 7, "window": "1s" }, { "limit": 10, "window": "3s", "burst": 4 }],
        } },
        { "name": "all", "key": [], "rates": { "default": [{ "limit": 50, "window": "1s", "burst": 9 }] } },
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// More callers than slots, whose charges are given back now and then: whoever has to share a slot, waits for one or
    /// gets one, is served at most what is promised.
    #[test]
    fn nobody_is_served_more_than_promised_in_a_table_that_is_too_small(
        requests in prop::collection::vec(any_request(), 1..400),
        together in any::<bool>(),
    ) {
        let document = if together { two_limits() } else { json!([two_limits()[0]]) };
        let (host, limits) = (FakeHost::default(), compile(document, 8).unwrap());
        host.advance(Duration::from_secs(3_600));
        let mut served: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        let mut open = Vec::new();
        for request in requests {
            host.advance(request.pause);
            if let Charge::Admitted { receipt, .. } = charge(&limits, request, &host).charge {
                if request.taken_back {
                    open.push(receipt);
                } else {
                    served.entry((request.caller, request.pro)).or_default().push(host.monotonic_nanos.get());
                }
            }
            if open.len() > 2 {
                prop_assert_eq!(limits.refund(open.remove(0), &host), None);
            }
        }
        for ((_, pro), times) in &served {
            let promises = if *pro { vec![(1, 13), (3, 13)] } else { vec![(1, 4)] };
            for (seconds, promise) in promises {
                prop_assert!(busiest(times, Duration::from_secs(seconds)) <= promise);
            }
        }
        let everybody: Vec<_> = served.into_values().flatten().collect();
        prop_assert!(!together || busiest(&everybody, Duration::from_secs(1)) <= 58);
    }

    /// A table with room for everybody forgets nobody and mixes nobody up: each caller is answered as if alone.
    #[test]
    fn callers_do_not_notice_each_other(requests in prop::collection::vec(any_request(), 1..200)) {
        let document = json!([two_limits()[0]]);
        let (host, limits) = (FakeHost::default(), compile(document.clone(), 65_536).unwrap());
        let alone: Vec<_> = (0..CALLERS * 2)

.map(|_| (FakeHost::default(), compile(document.clone(), 65_536).unwrap()))
            .collect();
        let admitted = |charging: &Charging| matches!(charging.charge, Charge::Admitted { .. });
        for request in requests {
            host.advance(request.pause);
            let (own_host, own_limits) = &alone[usize::from(request.caller) * 2 + usize::from(request.pro)];
            own_host.monotonic_nanos.set(host.monotonic_nanos.get());
            prop_assert_eq!(
                admitted(&charge(&limits, request, &host)),
                admitted(&charge(own_limits, request, own_host))
            );
        }
    }

    /// Whatever stands in shared data, there is an answer, and an hour later everybody is served again.
    #[test]
    fn foreign_bytes_neither_trap_nor_lock_out(
        request in any_request(),
        layout in prop_oneof![Just(1_u8), any::<u8>()],
        entries in prop::collection::vec(any::<u8>(), 0..1_000),
        whole in any::<bool>(),
    ) {
        let (host, limits) = (FakeHost::default(), compile(two_limits(), 8).unwrap());
        host.advance(Duration::from_secs(3_600));
        let mut value = vec![layout];
        value.extend(entries);
        if whole {
            value.truncate(1 + (value.len() - 1) / 48 * 48);
        }
        host.shared.borrow_mut().insert(String::from("mlgate/1/gate/principal_slots/0"), (value, 1));
        charge(&limits, request, &host);
        host.advance(Duration::from_secs(3_600));
        let charging = charge(&limits, request, &host);
        prop_assert!(
            matches!(charging.charge, Charge::Admitted { .. }) || charging.degraded.contains(&Degraded::Slots),
            "{:?}", charging
        );
    }

    /// Numbers of every size are either refused with a place or can be charged.
    #[test]
    fn no_numbers_of_a_configuration_trap(
        limit in prop_oneof![0_u64..100, any::<u64>()],
        burst in prop::option::of(prop_oneof![0_u64..100, any::<u64>()]),
        window in prop_oneof![1_u64..100, 0_u64..4_000_000_000],
        slots in any::<u32>(),
        request in any_request(),
    ) {
        let mut rate = json!({ "limit": limit, "window": format!("{window}ms") });
        if let Some(burst) = burst {
            rate["burst"] = json!(burst);
        }
        let document = json!([{ "name": "l", "key": ["principal"], "rates": { "default": [rate] } }]);
        if let Some(limits) = compile(document, slots) {
            let host = FakeHost::default();
            charge(&limits, request, &host);
            prop_assert!(limits.max_keys() > 0 && limits.max_bytes() > 0);
            prop_assert!(limits.iter().all(|limit| limit.promises().len() == 1));
        }
    }
}
