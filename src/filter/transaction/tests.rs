use std::cell::RefCell;
use std::time::Duration;

use super::*;
use crate::audit::export::Trail;
use crate::config::{Config, Format, load};
use crate::host::fake::FakeHost;
use crate::http::pairs::Pairs;
use crate::identity::api_key::ApiKey;

mod lists;

const NOW: UnixTime = UnixTime::from_millis(1_770_000_000_000);

pub(super) struct Scene {
    pub(super) worker: Rc<Worker>,
    pub(super) host: FakeHost,
    pub(super) key: String,
}

use crate::time::UnixTime;

pub(super) fn scene(change: impl FnOnce(&mut serde_json::Value)) -> Scene {
    scene_with(change, &|_| None)
}

pub(super) fn scene_with(
    change: impl FnOnce(&mut serde_json::Value),
    environment: &dyn Fn(&str) -> Option<String>,
) -> Scene {
    let key = ApiKey::generate(&[7; 64]).unwrap();
    let mut document = serde_json::json!({
        "version": 1,
        "name": "gate",
        "consumers": [{
            "name": "user_1",
            "roles": ["scientist"],
            "credentials": {"api_keys": [{"id": key.id().to_string(), "digest": key.digest().to_string()}]},
        }],
        "resources": {"unlisted": "allow", "rules": [
            {"preset": "openai"},
            {"match": {"methods": ["POST"], "path": "/predict"}, "resource": {"type": "model", "id": "m"}, "action": "predict"},
        ]},
        "authorization": {"roles": {"scientist": {"permissions": ["predict"]}}},
        "limits": [{"name": "per-caller", "key": ["principal"], "rates": {"default": [{"limit": 2, "window": "1m"}]}}],
        "audit": {"collector": {"cluster": "audit"}, "chain": {"unkeyed": true}},
        "bounds": {"waiting": 1, "body_held": 64},
    });
    change(&mut document);
    let text = document.to_string();
    let config: Config = load(text.as_bytes(), Format::Json, environment).unwrap();
    let trail = Rc::new(RefCell::new(Trail::new(config.trail_settings())));
    Scene {
        worker: Rc::new(Worker::new(Rc::new(config), trail)),
        host: FakeHost::at(NOW),
        key: key.expose().to_owned(),
    }
}

impl Scene {
    pub(super) fn begin(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        end_of_stream: bool,
    ) -> (Transaction, Step) {
        let mut pairs = vec![(":method", "POST"), (":path", path), ("x-api-key", self.key.as_str())];
        pairs.extend_from_slice(headers);
        let mut transaction = Transaction::new(Rc::clone(&self.worker));
        let facts = StreamFacts { end_of_stream, ..StreamFacts::default() };
        let step = transaction.on_request_headers(&Pairs::write(&pairs), facts, &self.host);
        (transaction, step)
    }

    pub(super) fn chat(&self) -> (Transaction, Step) {
        self.begin("/v1/chat/completions", &[("content-type", "application/json")], false)
    }

    pub(super) fn body(&self, transaction: &mut Transaction, body: &str, end_of_stream: bool) -> Step {
        *self.host.request_body.borrow_mut() = body.as_bytes().to_vec();
        transaction.on_request_body(body.len(), end_of_stream, &self.host)
    }
}

pub(super) fn status(step: &Step) -> Option<u16> {
    match step {
        Step::Reply(reply) => Some(reply.status),
        Step::Forward(_) | Step::Await => None,
    }
}

pub(super) fn done(http_status: u16) -> EndFacts {
    EndFacts { http_status: Some(http_status), ..EndFacts::default() }
}

#[test]
fn an_allowed_request_goes_on_without_its_key_and_with_its_identity() {
    let scene = scene(|_| {});
    let (mut transaction, step) = scene.begin("/predict", &[("x_mlgate_principal", "root")], true);
    let Step::Forward(edits) = step else { panic!("{step:?}") };
    assert_eq!(edits.remove, ["x-api-key", "x_mlgate_principal"]);
    assert!(edits.set.contains(&(String::from("x-mlgate-principal"), b"user_1".to_vec())));
    let (event, _) = transaction.on_end(&done(200), &scene.host).unwrap();
    assert_eq!((event.status, event.reason, event.model_id.as_deref()), (Status::Success, None, Some("m")));
    assert_eq!(event.policies, ["role:scientist"]);
}

#[test]
fn a_caller_that_closes_on_its_whole_answer_has_not_left() {
    let scene = scene(|document| document["limits"] = serde_json::json!([]));
    let gone = |http_status| EndFacts { flags: 0x4000, ..done(http_status) };
    let end = |whole_request: bool, answer: &[(&str, &str)], passed: usize| {
        let (mut transaction, _) = scene.begin("/predict", &[], whole_request);
        transaction.on_response_headers(&Pairs::write(answer));
        transaction.on_response_body(passed, &scene.host);
        transaction.on_end(&gone(200), &scene.host).unwrap().0.status
    };
    assert_eq!(end(true, &[(":status", "204")], 0), Status::Success);
    assert_eq!(end(true, &[(":status", "200"), ("content-length", "5")], 5), Status::Success);
    assert_eq!(end(false, &[(":status", "204")], 0), Status::Aborted, "its request was not over");
    assert_eq!(end(true, &[(":status", "200"), ("content-length", "5")], 4), Status::Aborted);
    assert_eq!(end(true, &[(":status", "200"), ("content-length", "5")], 6), Status::Aborted);
    assert_eq!(end(true, &[(":status", "200")], 5), Status::Aborted, "nobody said how long it is");
}

#[test]
fn nothing_but_forwarded_lets_a_byte_through() {
    let scene = scene(|_| {});
    let mut idle = Transaction::new(Rc::clone(&scene.worker));
    assert_eq!(scene.body(&mut idle, "{}", true), Step::Await);
    assert_eq!(idle.on_request_trailers(&scene.host), Step::Await);
    let (mut answered, step) = scene.begin("/nowhere", &[], false);
    assert_eq!(status(&step), Some(403));
    assert_eq!(scene.body(&mut answered, "{}", true), Step::Await);
    assert_eq!(answered.on_request_trailers(&scene.host), Step::Await);
    assert_eq!(answered.on_deadline(&scene.host), Step::Await);
}

#[test]
fn a_body_is_held_until_it_is_complete_and_then_decides() {
    let scene = scene(|_| {});
    let (mut transaction, step) = scene.chat();
    assert!(matches!(step, Step::Forward(_)), "headers go on under `peek: stream`");
    assert_eq!(scene.body(&mut transaction, r#"{"mod"#, false), Step::Await);
    assert_eq!(
        scene.body(&mut transaction, r#"{"model":"gpt"}"#, true),
        Step::Forward(RequestEdits::default())
    );
    let (event, _) = transaction.on_end(&done(200), &scene.host).unwrap();
    assert_eq!(event.model_id.as_deref(), Some("gpt"));
    let whole =
        crate::audit::digest::DigestSettings { key: None, max_bytes: 1 << 20, inputs: true, outputs: true };
    let mut digest = whole.start();
    digest.update(br#"{"model":"gpt"}"#);
    assert_eq!(event.input_hash, Some(digest.finish().hash), "each byte once, in order");
}

#[test]
fn under_hold_the_headers_wait_too_and_are_edited_at_the_decision() {
    let scene = scene(|document| document["resources"]["body"] = serde_json::json!({"peek": "hold"}));
    let (mut transaction, step) = scene.chat();
    assert_eq!(step, Step::Await);
    let Step::Forward(edits) = scene.body(&mut transaction, r#"{"model":"gpt"}"#, true) else { panic!() };
    assert_eq!(edits.remove, ["x-api-key"]);
}

#[test]
fn trailers_complete_a_body() {
    let scene = scene(|_| {});
    let (mut transaction, _) = scene.chat();
    assert_eq!(scene.body(&mut transaction, r#"{"model":"gpt"}"#, false), Step::Await);
    assert_eq!(transaction.on_request_trailers(&scene.host), Step::Forward(RequestEdits::default()));
    let (mut empty, _) = scene.chat();
    assert_eq!(status(&empty.on_request_trailers(&scene.host)), Some(400), "trailers without a body");
}

#[test]
fn a_body_over_its_bound_is_refused_announced_or_not() {
    let scene = scene(|_| {});
    let announced = [("content-type", "application/json"), ("content-length", "65")];
    assert_eq!(status(&scene.begin("/v1/completions", &announced, false).1), Some(413));
    let (mut transaction, _) = scene.chat();
    assert_eq!(status(&scene.body(&mut transaction, &" ".repeat(65), false)), Some(413));
}

#[test]
fn a_wait_ends_by_its_deadline_and_gives_its_place_back() {
    let scene = scene(|_| {});
    let (mut first, _) = scene.chat();
    assert_eq!(first.waits_until(), Some(scene.host.monotonic().plus(Duration::from_secs(5))));
    assert_eq!(status(&scene.chat().1), Some(503), "one may wait");
    assert_eq!(status(&first.on_deadline(&scene.host)), Some(408));
    assert_eq!(scene.worker.waiting(), 0);
    assert_eq!(first.waits_until(), None);
    assert!(matches!(scene.chat().1, Step::Forward(_)), "dropped at once, so its place is free again");
    assert_eq!(scene.worker.waiting(), 0);
}

#[test]
fn a_caller_that_leaves_while_it_waits_is_recorded_as_aborted() {
    let scene = scene(|_| {});
    let (mut transaction, _) = scene.chat();
    let (event, _) = transaction.on_end(&EndFacts::default(), &scene.host).unwrap();
    assert_eq!((event.status, event.principal.as_deref()), (Status::Aborted, Some("user_1")));
    assert_eq!(scene.worker.waiting(), 0);
}

#[test]
fn a_limit_counts_only_what_was_allowed() {
    let scene = scene(|_| {});
    let refused: Vec<_> = (0..5).map(|_| status(&scene.begin("/nowhere", &[], true).1)).collect();
    assert_eq!(refused, [Some(403); 5]);
    let asked: Vec<_> = (0..3).map(|_| status(&scene.begin("/predict", &[], true).1)).collect();
    assert_eq!(asked, [None, None, Some(429)]);
}

#[test]
fn a_full_audit_queue_refuses_and_the_charge_is_given_back() {
    let scene = scene(|document| {
        document["audit"]["queue"] = serde_json::json!({"max_events": 1, "on_full": "deny"});
    });
    let (first, step) = scene.begin("/predict", &[], true);
    assert_eq!(status(&step), None);
    for _ in 0..5 {
        assert_eq!(
            status(&scene.begin("/predict", &[], true).1),
            Some(503),
            "charged again each time otherwise: 429"
        );
    }
    drop(first);
    assert_eq!(status(&scene.begin("/predict", &[], true).1), None);
}

#[test]
fn every_answer_carries_its_decision_id_and_nothing_of_the_upstreams() {
    let scene = scene(|_| {});
    let (mut transaction, _) = scene.begin("/predict", &[], true);
    let edits = transaction.on_response_headers(&Pairs::write(&[("x-mlgate-org", "x"), ("server", "y")]));
    assert_eq!(edits.remove, ["x-mlgate-org"]);
    let names: Vec<_> = edits.set.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["x-mlgate-decision-id", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]
    );
}

#[test]
fn our_own_answer_is_no_output() {
    let scene = scene(|_| {});
    *scene.host.response_body.borrow_mut() = b"{}".to_vec();
    for (path, output) in [("/nowhere", None), ("/predict", Some(2))] {
        let (mut transaction, _) = scene.begin(path, &[], true);
        transaction.on_response_body(2, &scene.host);
        assert_eq!(transaction.on_end(&done(200), &scene.host).unwrap().0.output_bytes, output, "{path}");
    }
}

#[test]
fn denials_alone_are_recorded_where_the_profile_says_so() {
    let scene = scene(|document| document["profiles"] = serde_json::json!({"default": {"audit": "denials"}}));
    let (mut allowed, _) = scene.begin("/predict", &[], true);
    assert!(allowed.on_end(&done(200), &scene.host).is_none());
    let (mut denied, _) = scene.begin("/nowhere", &[], true);
    assert!(denied.on_end(&done(403), &scene.host).is_some());
}

proptest::proptest! {
    #[test]
    fn no_head_and_no_body_trap(
        block in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        body in proptest::collection::vec(proptest::num::u8::ANY, 0..80),
        sizes in proptest::collection::vec(0_usize..120, 0..4),
    ) {
        let scene = scene(|_| {});
        let mut transaction = Transaction::new(Rc::clone(&scene.worker));
        transaction.on_request_headers(&block, StreamFacts::default(), &scene.host);
        let (mut waiting, _) = scene.chat();
        *scene.host.request_body.borrow_mut() = body;
        for size in sizes {
            transaction.on_request_body(size, false, &scene.host);
            waiting.on_request_body(size, false, &scene.host);
        }
        waiting.on_request_body(0, true, &scene.host);
        transaction.on_response_headers(&block);
        proptest::prop_assert!(transaction.on_end(&EndFacts::default(), &scene.host).is_some());
    }
}

#[test]
fn a_model_in_the_query_does_not_win_over_the_one_decided_about() {
    let scene = scene(|_| {});
    let json = [("content-type", "application/json")];
    let (mut transaction, step) = scene.begin("/v1/chat/completions?model=other", &json, false);
    assert_eq!(status(&step), Some(400));
    let (event, _) = transaction.on_end(&done(400), &scene.host).unwrap();
    assert_eq!((event.status, event.reason), (Status::Denied, Some("body_ambiguous")));
}

#[test]
fn an_answer_before_the_decision_is_held_if_it_is_a_success() {
    let scene = scene(|_| {});
    for (answer, hold) in [("200", true), ("307", false), ("x", true), ("404", false), ("503", false)] {
        let (mut waiting, _) = scene.chat();
        waiting.on_response_headers(&Pairs::write(&[(":status", answer)]));
        assert_eq!(waiting.holds_response(), hold, "{answer}");
        assert_eq!(status(&waiting.on_deadline(&scene.host)), Some(408));
        waiting.on_response_headers(&Pairs::write(&[(":status", "408")]));
        assert!(!waiting.holds_response());
    }
    let (mut forwarded, _) = scene.begin("/predict", &[], true);
    forwarded.on_response_headers(&Pairs::write(&[(":status", "200")]));
    assert!(!forwarded.holds_response());
}

#[test]
fn an_upstream_that_fails_before_the_decision_is_an_error() {
    let scene = scene(|_| {});
    let (mut waiting, _) = scene.chat();
    let (event, _) = waiting.on_end(&done(503), &scene.host).unwrap();
    assert_eq!((event.status, event.reason), (Status::Error, None));
}

#[test]
fn one_caller_cannot_take_every_place_among_the_waiting() {
    let scene = scene(|document| document["bounds"]["waiting"] = serde_json::json!(10));
    let mut slow = Vec::new();
    let refused = loop {
        match scene.chat() {
            (transaction, Step::Forward(_)) => slow.push(transaction),
            (_, step) => break status(&step),
        }
    };
    assert_eq!((slow.len(), refused), (8, Some(503)));
    let another = scene.worker.enter_waiting(Taker::Caller("another".into()), scene.host.monotonic());
    assert!(another.is_some());
    slow.clear();
    assert_eq!(scene.worker.waiting(), 1);
    assert!(matches!(scene.chat().1, Step::Forward(_)));
    drop(another);
    assert_eq!(scene.worker.waiting(), 0);
}
