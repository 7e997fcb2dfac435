use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::audit::event::{AccessEvent, Status};
use crate::filter::step::{LocalReply, RequestEdits, Step};
use crate::filter::transaction::tests::{Scene, done, scene, status};
use crate::filter::transaction::{EndFacts, Transaction};
use crate::host::{CalloutId, Host as _};
use crate::limits::remote::breaker::MAX_FAILURES;
use crate::limits::remote::fake::FakeService;

/// `RateLimitResponse { overall_code }`.
const OK: &[u8] = &[8, 1];
const OVER_LIMIT: &[u8] = &[8, 2];
const UNKNOWN: &[u8] = &[8, 0];

/// A local limit of 2 and a global one of 3 a minute, by principal.
fn global(mode: &str) -> Scene {
    with(mode, |_| {})
}

fn with(mode: &str, change: impl FnOnce(&mut Json)) -> Scene {
    scene(|document| {
        document["bounds"] = json!({ "waiting": 10, "body_held": 64 });
        document["limits"] = json!([
            { "name": "mine", "key": ["principal"], "rates": { "default": [{ "limit": 2, "window": "1m" }] } },
            { "name": "fleet", "key": ["principal", "source"], "scope": "global",
                "rates": { "default": [{ "limit": 3, "window": "1m" }] } },
        ]);
        document["rate_limit_service"] =
            json!({ "cluster": "ratelimit", "domain": "d", "failure_mode": mode });
        change(document);
    })
}

/// Without the local limit.
fn only_global(mode: &str) -> Scene {
    with(mode, |document| {
        document["limits"].as_array_mut().unwrap().remove(0);
    })
}

/// A request that waits for the service, whose call is the last one.
fn waiting(scene: &Scene) -> (Transaction, CalloutId) {
    let calls = scene.host.calls.borrow().len();
    let (transaction, step) = scene.begin("/predict", &[], true);
    assert_eq!(step, Step::Await);
    assert_eq!(scene.host.calls.borrow().len(), calls.saturating_add(1), "one call");
    (transaction, CalloutId(u32::try_from(calls).unwrap()))
}

fn answer(transaction: &mut Transaction, call: CalloutId, message: &[u8], scene: &Scene) -> Step {
    *scene.host.grpc_body.borrow_mut() = message.to_vec();
    transaction.on_call_answered(call, 0, message.len(), &scene.host).unwrap()
}

fn refusal(step: Step) -> LocalReply {
    match step {
        Step::Reply(reply) => reply,
        other => panic!("{other:?}"),
    }
}

fn header<'a>(reply: &'a LocalReply, name: &str) -> Option<&'a str> {
    reply.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn end(mut transaction: Transaction, http_status: u16, scene: &Scene) -> AccessEvent {
    transaction.on_end(&done(http_status), &scene.host).unwrap().0
}

fn limit_metric(limit: &str, outcome: &str, scene: &Scene) -> u64 {
    scene.host.metric(&format!("mlgate_limit_total.gate.=.gate.;.limit.=.{limit}.;.outcome.=.{outcome}.;"))
}

/// `n` requests, each answered by the service as `message` says.
fn statuses(n: usize, message: &[u8], scene: &Scene) -> Vec<Option<u16>> {
    (0..n)
        .map(|_| {
            let (mut transaction, step) = scene.begin("/predict", &[], true);
            if step != Step::Await {
                return status(&step);
            }
            let call = CalloutId(u32::try_from(scene.host.calls.borrow().len().saturating_sub(1)).unwrap());
            status(&answer(&mut transaction, call, message, scene))
        })
        .collect()
}

#[test]
fn a_request_waits_for_the_service_and_then_goes_on() {
    let scene = global("local");
    let (mut transaction, call) = waiting(&scene);
    assert_eq!(scene.worker.waiting(), 1);
    let Step::Forward(edits) = answer(&mut transaction, call, OK, &scene) else { panic!("held") };
    assert_eq!(edits.remove, ["x-api-key"], "headers wait too, so they are edited now");
    assert_eq!(scene.worker.waiting(), 0);
    let event = end(transaction, 200, &scene);
    assert_eq!(
        (event.status, event.degraded),
        (Status::Success, vec![String::from("limit_key:fleet/source")])
    );
}

#[test]
fn a_local_limit_is_asked_first_and_the_service_not_at_all_where_it_refuses() {
    let scene = global("local");
    assert_eq!(statuses(4, OK, &scene), [None, None, Some(429), Some(429)]);
    assert_eq!(scene.host.calls.borrow().len(), 2);
}

#[test]
fn over_the_limit_gives_back_what_was_charged_here() {
    let scene = global("local");
    for _ in 0..5 {
        let (mut transaction, call) = waiting(&scene);
        let reply = refusal(answer(&mut transaction, call, OVER_LIMIT, &scene));
        assert_eq!((reply.status, reply.details), (429, "rate_limited"));
        assert_eq!(header(&reply, "retry-after"), Some("60"), "the window, since the service gives no time");
        assert_eq!(header(&reply, "x-ratelimit-limit"), Some("3"));
        assert_eq!(end(transaction, 429, &scene).status, Status::Denied);
    }
    assert_eq!(limit_metric("fleet", "refused", &scene), 5);
    assert_eq!(statuses(3, OK, &scene), [None, None, Some(429)], "the local limit of 2 is whole");
}

#[test]
fn what_the_service_says_is_passed_on_once_each() {
    let scene = global("local");
    // response_headers_to_add: x-a: 1; request_headers_to_add: x-b: 2, x-mlgate-tier: root, x-api-key: k
    let field = |tag: u8, name: &str, value: &str| {
        let mut entry = vec![10, u8::try_from(name.len()).unwrap()];
        entry.extend(name.bytes());
        entry.extend([18, u8::try_from(value.len()).unwrap()]);
        entry.extend(value.bytes());
        [vec![tag, u8::try_from(entry.len()).unwrap()], entry].concat()
    };
    let fields = [
        field(26, "X-A", "1"),
        field(34, "x-b", "2"),
        field(34, "x-mlgate-tier", "root"),
        field(34, "x-api-key", "k"),
    ]
    .concat();
    let (mut transaction, call) = waiting(&scene);
    let Step::Forward(edits) = answer(&mut transaction, call, &[OK, &fields].concat(), &scene) else {
        panic!("held")
    };
    let set = |name: &str| edits.set.iter().filter(|(known, _)| known == name).collect::<Vec<_>>();
    assert_eq!(set("x-b").len(), 1);
    assert_eq!(set("x-api-key").len(), 0, "the gate takes it off");
    assert_eq!(set("x-mlgate-tier"), [&(String::from("x-mlgate-tier"), b"default".to_vec())]);
    let response = transaction.on_response_headers(&[]);
    assert_eq!(response.set.iter().filter(|(name, _)| name == "x-a").count(), 1);
    assert_eq!(end(transaction, 200, &scene).degraded.last().map(String::as_str), Some("rate_limit_headers"));
    let (mut transaction, call) = waiting(&scene);
    let reply = refusal(answer(&mut transaction, call, &[OVER_LIMIT, &fields].concat(), &scene));
    assert_eq!(header(&reply, "x-a"), Some("1"));
}

#[test]
fn a_service_that_says_nothing_is_followed_as_its_mode_says() {
    for (mode, expected) in [
        ("local", vec![None, None, None, Some(429)]),
        ("allow", vec![None, None, None, None]),
        ("deny", vec![Some(503), Some(503), Some(503), Some(503)]),
    ] {
        for garbage in [UNKNOWN, b"", b"\xff\xff", &[8, 77], b"<html>"] {
            let scene = only_global(mode);
            assert_eq!(statuses(4, garbage, &scene), expected, "{mode} {garbage:?}");
            assert_eq!(limit_metric("fleet", "unavailable", &scene), 4);
            let what = "mlgate_degraded_total.gate.=.gate.;.what.=.rate_limit_service.;";
            assert_eq!(scene.host.metric(what), 4);
        }
    }
}

#[test]
fn a_failed_call_is_told_in_the_event_and_in_the_answer() {
    let scene = only_global("deny");
    let (mut transaction, call) = waiting(&scene);
    *scene.host.grpc_body.borrow_mut() = OK.to_vec();
    let reply = refusal(transaction.on_call_answered(call, 14, OK.len(), &scene.host).unwrap());
    assert_eq!(
        (reply.status, reply.details, header(&reply, "retry-after")),
        (503, "limiter_unavailable", Some("1"))
    );
    let event = end(transaction, 503, &scene);
    assert_eq!((event.status, event.reason), (Status::Denied, Some("limiter_unavailable")));
    assert!(event.degraded.contains(&String::from("rate_limit_service")));
    let scene = only_global("local");
    let (mut transaction, call) = waiting(&scene);
    assert!(matches!(transaction.on_call_answered(call, 14, 0, &scene.host), Some(Step::Forward(_))));
    let event = end(transaction, 200, &scene);
    assert_eq!(event.status, Status::Success);
    assert_eq!(event.degraded, ["limit_key:fleet/source", "rate_limit_service"], "each once");
}

#[test]
fn under_deny_and_local_what_the_local_limits_charged_is_given_back() {
    let scene = global("deny");
    assert_eq!(statuses(5, UNKNOWN, &scene), [Some(503); 5], "charged twice and refused locally otherwise");
    let scene = with("local", |document| {
        document["limits"][0]["rates"]["default"][0]["limit"] = json!(4);
    });
    assert_eq!(statuses(8, UNKNOWN, &scene)[3..], [Some(429); 5]);
    assert_eq!(
        limit_metric("fleet", "refused", &scene),
        5,
        "and never by the other one, of which one is left"
    );
}

#[test]
fn a_message_that_is_too_long_is_not_read() {
    let scene = only_global("deny");
    let (mut transaction, call) = waiting(&scene);
    *scene.host.grpc_body.borrow_mut() = OK.to_vec();
    let step = transaction.on_call_answered(call, 0, (64 << 10) + 1, &scene.host).unwrap();
    assert_eq!(status(&step), Some(503));
}

#[test]
fn a_dead_service_is_paid_for_once() {
    let scene = only_global("allow");
    for _ in 0..MAX_FAILURES {
        let (mut transaction, call) = waiting(&scene);
        transaction.on_call_answered(call, 14, 0, &scene.host);
    }
    for _ in 0..20 {
        assert!(matches!(scene.begin("/predict", &[], true).1, Step::Forward(_)), "at once, without a call");
    }
    scene.host.advance(Duration::from_secs(1));
    let (mut probe, call) = waiting(&scene);
    assert!(matches!(scene.begin("/predict", &[], true).1, Step::Forward(_)), "one tries");
    answer(&mut probe, call, OK, &scene);
    waiting(&scene);
    waiting(&scene);
}

#[test]
fn the_next_configuration_does_not_pay_for_the_same_dead_service() {
    let scene = only_global("allow");
    for _ in 0..MAX_FAILURES {
        let (mut transaction, call) = waiting(&scene);
        transaction.on_call_answered(call, 14, 0, &scene.host);
    }
    let next = |change: fn(&mut Json), known: &Scene| {
        let scene = with("allow", change);
        let worker = Rc::into_inner(scene.worker).unwrap().beside(&[Rc::clone(&known.worker)]);
        Scene { worker: Rc::new(worker), host: scene.host, key: scene.key }
    };
    let elsewhere = next(|document| document["rate_limit_service"]["cluster"] = json!("other"), &scene);
    waiting(&elsewhere);
    let same = next(|document| document["rate_limit_service"]["domain"] = json!("other"), &scene);
    assert!(matches!(same.begin("/predict", &[], true).1, Step::Forward(_)), "without a call");
    assert!(same.host.calls.borrow().is_empty());
}

#[test]
fn a_call_that_cannot_start_is_no_answer() {
    for (mode, expected) in [("allow", None), ("local", None), ("deny", Some(503))] {
        let scene = only_global(mode);
        scene.host.call_fails.set(true);
        let (transaction, step) = scene.begin("/predict", &[], true);
        assert_eq!((status(&step), scene.worker.waiting(), transaction.waits_until()), (expected, 0, None));
        for _ in 0..10 {
            scene.begin("/predict", &[], true);
        }
        scene.host.call_fails.set(false);
        scene.begin("/predict", &[], true);
        assert!(scene.host.calls.borrow().is_empty(), "{mode}: these were failures too");
    }
}

#[test]
fn a_call_that_the_proxy_forgets_ends_by_our_own_deadline() {
    let scene = only_global("allow");
    let (mut transaction, call) = waiting(&scene);
    let deadline = scene.host.monotonic().plus(Duration::from_millis(100));
    assert_eq!(transaction.waits_until(), Some(deadline));
    assert!(matches!(transaction.on_deadline(&scene.host), Step::Forward(_)));
    assert_eq!(transaction.on_call_answered(call, 0, 2, &scene.host), None, "too late");
    assert_eq!((scene.worker.waiting(), transaction.waits_until()), (0, None));
}

#[test]
fn an_answer_to_another_question_is_none() {
    let scene = global("deny");
    let (mut transaction, call) = waiting(&scene);
    assert_eq!(transaction.on_call_answered(CalloutId(call.0.saturating_add(1)), 0, 2, &scene.host), None);
    assert!(transaction.waits_until().is_some());
    let (mut body, _) = scene.chat();
    assert_eq!(body.on_call_answered(call, 0, 2, &scene.host), None, "it waits for something else");
    let mut idle = Transaction::new(Rc::clone(&scene.worker));
    assert_eq!(idle.on_call_answered(call, 0, 2, &scene.host), None);
}

#[test]
fn nothing_goes_on_while_the_service_counts() {
    let scene = global("local");
    let (mut transaction, call) = {
        let (transaction, step) = scene.begin("/predict", &[], false);
        assert_eq!(step, Step::Await);
        (transaction, CalloutId(0))
    };
    let long = "x".repeat(200);
    assert_eq!(scene.body(&mut transaction, &long, false), Step::Await, "no bound of ours: no rule needs it");
    assert_eq!(scene.body(&mut transaction, &long, true), Step::Await);
    assert_eq!(transaction.on_request_trailers(&scene.host), Step::Await);
    assert!(matches!(answer(&mut transaction, call, OK, &scene), Step::Forward(_)));
    assert_eq!(transaction.on_request_trailers(&scene.host), Step::Forward(RequestEdits::default()));
    assert_eq!(end(transaction, 200, &scene).input_bytes, Some(200), "each byte once");
}

#[test]
fn a_body_that_decides_is_held_until_the_service_answers() {
    let scene = global("local");
    let (mut transaction, step) = scene.chat();
    assert!(matches!(step, Step::Forward(_)), "the headers went on under `peek: stream`");
    assert_eq!(scene.body(&mut transaction, r#"{"model":"gpt"}"#, false), Step::Await);
    assert!(scene.host.calls.borrow().is_empty());
    assert_eq!(transaction.on_request_trailers(&scene.host), Step::Await);
    assert_eq!(scene.host.calls.borrow().len(), 1);
    transaction.on_response_headers(&crate::http::pairs::Pairs::write(&[(":status", "200")]));
    assert!(transaction.holds_response(), "nor does an answer pass");
    assert_eq!(answer(&mut transaction, CalloutId(0), OK, &scene), Step::Forward(RequestEdits::default()));
    assert!(transaction.release_response() && !transaction.release_response());
    let event = end(transaction, 200, &scene);
    assert_eq!((event.model_id.as_deref(), event.input_bytes), (Some("gpt"), Some(15)));
}

#[test]
fn a_caller_that_leaves_while_the_service_counts_leaks_nothing_and_pays() {
    let scene = global("local");
    let (mut gone, _) = waiting(&scene);
    let (event, place) = gone.on_end(&EndFacts::default(), &scene.host).unwrap();
    assert_eq!((event.status, event.reason, place.is_none()), (Status::Aborted, None, true));
    assert_eq!(scene.worker.waiting(), 0);
    drop(waiting(&scene));
    assert_eq!(scene.worker.waiting(), 0, "torn down without an end");
    assert_eq!(status(&scene.begin("/predict", &[], true).1), Some(429), "both were charged");
}

#[test]
fn more_than_may_wait_are_refused_and_not_charged() {
    let scene = with("local", |document| document["bounds"]["waiting"] = json!(1));
    let (mut first, call) = waiting(&scene);
    for _ in 0..5 {
        assert_eq!(status(&scene.begin("/predict", &[], true).1), Some(503));
    }
    answer(&mut first, call, OK, &scene);
    waiting(&scene);
}

#[test]
fn a_full_audit_queue_refuses_after_the_service_too() {
    let scene = with("local", |document| {
        document["audit"]["queue"] = json!({ "max_events": 1, "on_full": "deny" });
    });
    let (mut first, call) = waiting(&scene);
    assert!(matches!(answer(&mut first, call, OK, &scene), Step::Forward(_)));
    for _ in 0..3 {
        let (mut next, call) = waiting(&scene);
        assert_eq!(refusal(answer(&mut next, call, OK, &scene)).details, "audit_unavailable");
    }
}

#[test]
fn two_gates_of_one_service_share_its_limit() {
    let scenes = [only_global("deny"), only_global("deny")];
    let service = FakeService::of(&scenes[0].worker.config.limits);
    let admitted = (0..8).filter(|turn| {
        let scene = &scenes[turn % 2];
        let (mut transaction, call) = waiting(scene);
        let message = scene.host.calls.borrow().last().unwrap().clone();
        let message = service.answer(&message, scene.host.unix_time());
        matches!(answer(&mut transaction, call, &message, scene), Step::Forward(_))
    });
    assert_eq!(admitted.count(), 3);
}

proptest::proptest! {
    #[test]
    fn no_answer_traps(
        message in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        status in 0_u32..20,
    ) {
        let scene = global("local");
        let (mut transaction, call) = waiting(&scene);
        *scene.host.grpc_body.borrow_mut() = message.clone();
        let step = transaction.on_call_answered(call, status, message.len(), &scene.host);
        proptest::prop_assert!(step.is_some());
        transaction.on_response_headers(&[]);
        proptest::prop_assert!(transaction.on_end(&EndFacts::default(), &scene.host).is_some());
        proptest::prop_assert_eq!(scene.worker.waiting(), 0);
    }
}
