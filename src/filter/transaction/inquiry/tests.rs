use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::audit::event::{AccessEvent, Status};
use crate::filter::step::{RequestEdits, Step};
use crate::filter::transaction::tests::{Scene, done, scene_with, status};
use crate::filter::transaction::{Call, EndFacts, Transaction};
use crate::host::{CalloutId, Host as _};
use crate::http::certificate::Names;
use crate::http::pairs::Pairs;
use crate::http::{PeerCertificate, StreamFacts};
use crate::limits::remote::breaker::MAX_FAILURES;

const TOKEN: &str = "Bearer 2YotnFZFEjr1zCsicMWpAA";
const ALICE: &str = r#"{"active":true,"sub":"alice","iss":"https://idp.example","aud":"models","exp":1770000600,"roles":["scientist"],"jti":"t1"}"#;
const PREDICT: &str = "/predict";
const CHAT: &str = "/v1/chat/completions";
const WORKER: &str = "spiffe://acme.example/worker";

fn opaque(change: impl FnOnce(&mut Json)) -> Scene {
    scene_with(
        |document| {
            document["bounds"] = json!({ "waiting": 10, "body_held": 64 });
            document["limits"] = json!([]);
            document["authentication"] = json!({ "introspection": [{
                "name": "idp", "issuer": "https://idp.example", "cluster": "idp", "uri": "https://idp.example/introspect",
                "client_id": "gate", "client_secret_env": "SECRET", "audiences": ["models"],
                "claims": { "roles": "roles" },
            }] });
            change(document);
        },
        &|name| (name == "SECRET").then(|| String::from("s3cret")),
    )
}

fn scene() -> Scene {
    opaque(|_| {})
}

fn begin(scene: &Scene, path: &str, token: &str, end_of_stream: bool) -> (Transaction, Step) {
    from(scene, path, token, StreamFacts { end_of_stream, ..StreamFacts::default() })
}

fn from(scene: &Scene, path: &str, token: &str, facts: StreamFacts) -> (Transaction, Step) {
    let pairs = [
        (":method", "POST"),
        (":path", path),
        ("authorization", token),
        ("content-type", "application/json"),
    ];
    let mut transaction = Transaction::new(std::rc::Rc::clone(&scene.worker));
    let step = transaction.on_request_headers(&Pairs::write(&pairs), facts, &scene.host);
    (transaction, step)
}

/// A request that waits for the issuer, whose call is the last one.
fn asking(scene: &Scene, path: &str, end_of_stream: bool) -> (Transaction, CalloutId) {
    let calls = asked(scene);
    let (transaction, step) = begin(scene, path, TOKEN, end_of_stream);
    assert_eq!((step, asked(scene)), (Step::Await, calls.saturating_add(1)));
    (transaction, CalloutId(u32::try_from(calls).unwrap()))
}

fn asked(scene: &Scene) -> usize {
    scene.host.callouts.borrow().len()
}

fn answer(transaction: &mut Transaction, call: CalloutId, body: &str, scene: &Scene) -> Step {
    reply(transaction, call, "200", body, scene)
}

fn reply(transaction: &mut Transaction, call: CalloutId, status: &str, body: &str, scene: &Scene) -> Step {
    *scene.host.response_body.borrow_mut() = body.as_bytes().to_vec();
    let block = Pairs::write(&[(":status", status)]);
    transaction.on_callout_answered(call, &block, body.len(), &scene.host).unwrap()
}

fn end(mut transaction: Transaction, http_status: u16, scene: &Scene) -> AccessEvent {
    transaction.on_end(&done(http_status), &scene.host).unwrap().0
}

#[test]
fn a_request_waits_for_the_issuer_and_then_goes_on_as_its_caller() {
    let scene = scene();
    let (mut transaction, call) = asking(&scene, PREDICT, true);
    assert_eq!((scene.worker.waiting(), transaction.awaits(Call::Http(call))), (1, true));
    let callout = scene.host.callouts.borrow().first().cloned().unwrap();
    assert_eq!((callout.cluster.as_str(), callout.path.as_str()), ("idp", "/introspect"));
    assert_eq!(callout.body, b"token=2YotnFZFEjr1zCsicMWpAA&token_type_hint=access_token");
    assert!(callout.headers.contains(&("authorization", String::from("Basic Z2F0ZTpzM2NyZXQ="))));

    let Step::Forward(edits) = answer(&mut transaction, call, ALICE, &scene) else { panic!("held") };
    assert_eq!(edits.remove, ["authorization"], "headers wait too, so they are edited now");
    assert!(edits.set.contains(&(String::from("x-mlgate-principal"), b"opaque:idp:alice".to_vec())));
    assert_eq!(scene.worker.waiting(), 0);
    let event = end(transaction, 200, &scene);
    let credential = event.credential.unwrap();
    assert_eq!((credential.method.as_str(), credential.jti.as_deref()), ("introspection", Some("t1")));
    assert_eq!(event.principal.as_deref(), Some("opaque:idp:alice"));
    assert!(
        !format!("{:?}{:?}", event.attributes, scene.host.log.borrow()).contains("2YotnFZFEjr1zCsicMWpAA")
    );
}

#[test]
fn what_an_issuer_said_is_believed_for_a_while_and_never_beyond_the_end() {
    let scene = scene();
    let (mut first, call) = asking(&scene, PREDICT, true);
    answer(&mut first, call, ALICE, &scene);
    assert!(matches!(begin(&scene, PREDICT, TOKEN, true).1, Step::Forward(_)));
    assert_eq!(asked(&scene), 1);
    scene.host.advance(Duration::from_secs(30));
    let (mut second, call) = asking(&scene, PREDICT, true);
    let soon = ALICE.replace("1770000600", "1770000035");
    assert!(matches!(answer(&mut second, call, &soon, &scene), Step::Forward(_)));
    scene.host.advance(Duration::from_secs(5));
    asking(&scene, PREDICT, true);
}

#[test]
fn what_no_issuer_knows_is_refused_and_remembered_for_a_short_while() {
    let scene = scene();
    let (mut first, call) = asking(&scene, PREDICT, true);
    assert_eq!(status(&answer(&mut first, call, r#"{"active":false}"#, &scene)), Some(401));
    assert_eq!(end(first, 401, &scene).reason, Some("credential_invalid"));
    assert_eq!(status(&begin(&scene, PREDICT, TOKEN, true).1), Some(401));
    assert_eq!(asked(&scene), 1);
    scene.host.advance(Duration::from_secs(10));
    asking(&scene, PREDICT, true);
}

#[test]
fn an_answer_that_says_nothing_refuses_without_blaming_the_caller() {
    for (status_line, body) in [
        ("401", "{}"),
        ("403", ""),
        ("404", ALICE),
        ("500", ALICE),
        ("503", ALICE),
        ("302", ""),
        ("200", ""),
        ("200", "<html>"),
        ("200", "[]"),
        ("200", r#"{"sub":"alice"}"#),
        ("200", r#"{"active":"true","sub":"alice"}"#),
        ("200", r#"{"active":1,"sub":"alice"}"#),
        ("200", r#"{"active":false,"active":true,"sub":"alice"}"#),
        ("x", ALICE),
    ] {
        let scene = scene();
        let (mut transaction, call) = asking(&scene, PREDICT, true);
        let step = reply(&mut transaction, call, status_line, body, &scene);
        let Step::Reply(answer) = step else { panic!("{status_line} {body}") };
        assert_eq!(
            (answer.status, answer.details),
            (503, "introspection_unavailable"),
            "{status_line} {body}"
        );
        assert!(answer.headers.iter().any(|(name, _)| name == "retry-after"));
        assert!(scene.host.log.borrow().iter().any(|(_, line)| line.contains("introspection `idp`")));
        asking(&scene, PREDICT, true);
    }
}

#[test]
fn an_answer_that_is_too_long_or_too_deep_says_nothing() {
    for body in [
        format!(r#"{{"active":true,"sub":"alice","x":"{}"}}"#, "x".repeat(64 << 10)),
        format!(r#"{{"active":true,"sub":"alice","x":{}{}}}"#, "[".repeat(20), "]".repeat(20)),
    ] {
        let scene = scene();
        let (mut transaction, call) = asking(&scene, PREDICT, true);
        assert_eq!(status(&answer(&mut transaction, call, &body, &scene)), Some(503));
    }
}

#[test]
fn nobody_is_waited_for_longer_than_a_call_may_take() {
    let scene = scene();
    let (mut transaction, call) = asking(&scene, PREDICT, true);
    assert_eq!(transaction.waits_until(), Some(scene.host.monotonic().plus(Duration::from_millis(1050))));
    assert!(!transaction.is_due(&scene.host));
    scene.host.advance(Duration::from_millis(1050));
    assert!(transaction.is_due(&scene.host));
    assert_eq!(status(&transaction.on_due(&scene.host)), Some(503));
    assert_eq!(scene.worker.waiting(), 0);
    let block = Pairs::write(&[(":status", "200")]);
    assert_eq!(transaction.on_callout_answered(call, &block, 0, &scene.host), None, "too late");
}

#[test]
fn a_dead_issuer_is_paid_for_once() {
    let scene = scene();
    for _ in 0..MAX_FAILURES {
        let (mut transaction, call) = asking(&scene, PREDICT, true);
        assert_eq!(status(&reply(&mut transaction, call, "504", "", &scene)), Some(503));
    }
    let calls = asked(&scene);
    assert_eq!(status(&begin(&scene, PREDICT, TOKEN, true).1), Some(503));
    assert_eq!(asked(&scene), calls);
    scene.host.advance(Duration::from_secs(1));
    let (mut transaction, call) = asking(&scene, PREDICT, true);
    assert!(matches!(answer(&mut transaction, call, ALICE, &scene), Step::Forward(_)));
}

#[test]
fn an_issuer_that_goes_on_failing_is_logged_once() {
    let scene = scene();
    let lines = || scene.host.log.borrow().iter().filter(|(_, line)| line.contains("`idp`")).count();
    for (status, expected) in [("500", 1), ("500", 1), ("404", 2), ("404", 2), ("200", 2), ("404", 3)] {
        scene.host.advance(Duration::from_secs(60));
        let (mut transaction, call) = asking(&scene, PREDICT, true);
        reply(&mut transaction, call, status, r#"{"active":false}"#, &scene);
        assert_eq!(lines(), expected, "{status}");
    }
}

#[test]
fn a_token_that_an_issuer_rejects_by_status_makes_no_issuer_dead() {
    let scene = scene();
    for _ in 0..20 {
        let (mut transaction, call) = asking(&scene, PREDICT, true);
        reply(&mut transaction, call, "400", "", &scene);
    }
}

#[test]
fn a_call_that_cannot_be_made_refuses() {
    let scene = scene();
    scene.host.dispatch_fails.set(true);
    assert_eq!(status(&begin(&scene, PREDICT, TOKEN, true).1), Some(503));
    assert_eq!(scene.worker.waiting(), 0);
}

#[test]
fn what_cannot_be_a_token_is_not_asked_about() {
    let scene = scene();
    for token in ["a b", "a\"b", "ä", "=", "a=b", "mlg=x{}"] {
        let step = begin(&scene, PREDICT, &format!("Bearer {token}"), true).1;
        assert_eq!((status(&step), asked(&scene)), (Some(401), 0), "{token}");
    }
    let long = format!("Bearer {}", "a".repeat(17 << 10));
    assert_eq!((status(&begin(&scene, PREDICT, &long, true).1), asked(&scene)), (Some(401), 0));
}

#[test]
fn requests_with_the_same_token_wait_for_one_answer() {
    let scene = scene();
    let (mut first, call) = asking(&scene, PREDICT, true);
    let (mut second, step) = begin(&scene, PREDICT, TOKEN, true);
    assert_eq!((step, asked(&scene)), (Step::Await, 1));
    assert!(!second.is_due(&scene.host));
    answer(&mut first, call, ALICE, &scene);
    assert!(second.is_due(&scene.host));
    assert!(matches!(second.on_due(&scene.host), Step::Forward(_)));
    assert_eq!((asked(&scene), scene.worker.waiting()), (1, 0));
}

#[test]
fn whoever_waits_beside_one_that_leaves_asks_itself() {
    let scene = scene();
    let (mut first, _) = asking(&scene, PREDICT, true);
    let (mut second, _) = begin(&scene, PREDICT, TOKEN, true);
    let event = first.on_end(&EndFacts::default(), &scene.host).unwrap().0;
    assert_eq!((event.status, event.principal), (Status::Aborted, None));
    drop(first);
    assert!(second.is_due(&scene.host));
    assert_eq!(second.on_due(&scene.host), Step::Await);
    assert_eq!(asked(&scene), 2);
    assert!(matches!(answer(&mut second, CalloutId(1), ALICE, &scene), Step::Forward(_)));
}

#[test]
fn whoever_leaves_keeps_the_place_until_the_call_is_over() {
    let scene = opaque(|document| document["bounds"] = json!({ "waiting": 1, "body_held": 64 }));
    let (mut first, _) = asking(&scene, PREDICT, true);
    first.on_end(&EndFacts::default(), &scene.host).unwrap();
    drop(first);
    let other = "Bearer another";
    scene.host.advance(Duration::from_millis(999));
    assert_eq!((status(&begin(&scene, PREDICT, other, true).1), asked(&scene)), (Some(503), 1));
    assert_eq!(scene.worker.waiting(), 1);
    scene.host.advance(Duration::from_millis(1));
    let (second, step) = begin(&scene, PREDICT, other, true);
    assert_eq!((step, asked(&scene), scene.worker.waiting()), (Step::Await, 2, 1));
    drop(second);
    assert_eq!(scene.worker.waiting(), 0);
}

#[test]
fn strangers_leave_half_of_the_places_to_known_callers() {
    let scene = scene();
    let mut waiting = Vec::new();
    let refused = loop {
        let source = waiting.len().saturating_add(1);
        let facts = StreamFacts {
            source_address: Some(format!("10.0.0.{source}:4000")),
            end_of_stream: true,
            ..StreamFacts::default()
        };
        let token = format!("Bearer garbage{source}");
        match from(&scene, PREDICT, &token, facts) {
            (transaction, Step::Await) => waiting.push(transaction),
            (_, step) => break status(&step),
        }
    };
    assert_eq!((waiting.len(), refused), (5, Some(503)));
    assert!(matches!(scene.chat().1, Step::Forward(_)), "a known caller waits for its body");
}

#[test]
fn a_body_that_decides_comes_after_the_caller_is_known() {
    let scene = scene();
    let (mut transaction, call) = asking(&scene, CHAT, false);
    assert!(matches!(answer(&mut transaction, call, ALICE, &scene), Step::Forward(_)), "headers go on");
    assert_eq!(scene.worker.waiting(), 1, "and it waits on, for the body");
    assert_eq!(scene.body(&mut transaction, r#"{"model"#, false), Step::Await);
    let step = scene.body(&mut transaction, r#"{"model":"gpt"}"#, true);
    assert_eq!(step, Step::Forward(RequestEdits::default()));
    assert_eq!(end(transaction, 200, &scene).model_id.as_deref(), Some("gpt"));
}

/// Trailers of a request whose headers were held are taken up by the next tick.
fn trailers_then_tick(transaction: &mut Transaction, scene: &Scene) -> Step {
    assert!(!transaction.is_due(&scene.host));
    assert_eq!(transaction.on_request_trailers(&scene.host), Step::Await);
    assert!(transaction.is_due(&scene.host));
    transaction.on_due(&scene.host)
}

#[test]
fn trailers_do_not_go_on_while_the_headers_before_them_do() {
    let scene = scene();
    let (mut transaction, call) = asking(&scene, CHAT, false);
    assert!(matches!(answer(&mut transaction, call, ALICE, &scene), Step::Forward(_)));
    assert_eq!(scene.body(&mut transaction, r#"{"model":"gpt"}"#, false), Step::Await);
    assert_eq!(trailers_then_tick(&mut transaction, &scene), Step::Forward(RequestEdits::default()));
    assert_eq!(scene.worker.waiting(), 0);
    scene.host.advance(Duration::from_secs(30));
    let (mut empty, call) = asking(&scene, CHAT, false);
    assert!(matches!(answer(&mut empty, call, ALICE, &scene), Step::Forward(_)));
    scene.host.request_body.borrow_mut().clear();
    assert_eq!(status(&trailers_then_tick(&mut empty, &scene)), Some(400), "trailers without a body");
}

#[test]
fn a_piece_that_came_before_the_caller_was_known_is_not_sent_on_with_the_headers() {
    // the proxy shows bodies although headers are held (`allow_on_headers_stop_iteration`)
    for (peek, trailers) in [("stream", false), ("stream", true), ("hold", false), ("hold", true)] {
        let scene = opaque(|document| document["resources"]["body"] = json!({ "peek": peek }));
        let (mut transaction, call) = asking(&scene, CHAT, false);
        assert_eq!(scene.body(&mut transaction, r#"{"mod"#, false), Step::Await);
        assert_eq!(answer(&mut transaction, call, ALICE, &scene), Step::Await, "{peek}");
        let step = if trailers {
            assert_eq!(scene.body(&mut transaction, r#"{"model":"gpt"}"#, false), Step::Await);
            trailers_then_tick(&mut transaction, &scene)
        } else {
            scene.body(&mut transaction, r#"{"model":"gpt"}"#, true)
        };
        let Step::Forward(edits) = step else { panic!("{peek}") };
        assert_eq!(edits.remove, ["authorization"], "{peek}");
    }
}

#[test]
fn a_body_that_is_complete_before_the_caller_is_known_decides_at_once() {
    for trailers in [false, true] {
        let scene = scene();
        let (mut transaction, call) = asking(&scene, CHAT, false);
        assert_eq!(scene.body(&mut transaction, r#"{"model":"gpt"}"#, !trailers), Step::Await);
        if trailers {
            assert_eq!(transaction.on_request_trailers(&scene.host), Step::Await);
        }
        // the fake host has one body; the answer is read first
        let body = std::mem::take(&mut *scene.host.request_body.borrow_mut());
        *scene.host.request_body.borrow_mut() = body;
        let Step::Forward(edits) = answer(&mut transaction, call, ALICE, &scene) else { panic!() };
        assert_eq!(edits.remove, ["authorization"]);
        assert_eq!(end(transaction, 200, &scene).model_id.as_deref(), Some("gpt"));
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_once_it_matters() {
    let scene = scene();
    let large = " ".repeat(65);
    let (mut transaction, call) = asking(&scene, CHAT, false);
    assert_eq!(scene.body(&mut transaction, &large, false), Step::Await);
    assert_eq!(status(&answer(&mut transaction, call, ALICE, &scene)), Some(413));
    scene.host.advance(Duration::from_secs(60));
    let (mut transaction, call) = asking(&scene, PREDICT, false);
    assert_eq!(scene.body(&mut transaction, &large, true), Step::Await);
    assert!(matches!(answer(&mut transaction, call, ALICE, &scene), Step::Forward(_)));
}

#[test]
fn everything_else_that_is_wanted_is_checked_before_anybody_is_asked() {
    let scene = opaque(|document| {
        document["authentication"]["mtls"] = json!({ "trust_domains": ["acme.example"] });
        document["profiles"] = json!({ "default": { "authenticate": { "all": ["introspection", "mtls"], "principal": "introspection" } } });
    });
    assert_eq!(status(&begin(&scene, PREDICT, TOKEN, true).1), Some(401));
    let peer = |valid| PeerCertificate {
        presented: true,
        valid: Some(valid),
        names: Names { uri_sans: vec![WORKER.into()], ..Names::default() },
        ..PeerCertificate::default()
    };
    let facts = |valid| StreamFacts { peer: peer(valid), end_of_stream: true, ..StreamFacts::default() };
    assert_eq!(status(&from(&scene, PREDICT, TOKEN, facts(false)).1), Some(401));
    assert_eq!(asked(&scene), 0);
    let (mut transaction, step) = from(&scene, PREDICT, TOKEN, facts(true));
    assert_eq!((step, asked(&scene)), (Step::Await, 1));
    assert!(matches!(answer(&mut transaction, CalloutId(0), ALICE, &scene), Step::Forward(_)));
    let event = end(transaction, 200, &scene);
    assert_eq!(event.via.as_deref(), Some("mtls:spiffe://acme.example/worker"));
}

#[test]
fn a_revoked_token_is_refused_however_lately_it_was_asked_about() {
    let scene = opaque(|document| {
        document["authentication"]["revocation"] =
            json!({ "tokens": [{ "issuer": "https://idp.example", "jti": "t1" }] });
    });
    let (mut transaction, call) = asking(&scene, PREDICT, true);
    assert_eq!(status(&answer(&mut transaction, call, ALICE, &scene)), Some(401));
    assert_eq!(end(transaction, 401, &scene).reason, Some("credential_revoked"));
}

#[test]
fn the_next_issuer_is_asked_only_about_what_this_one_does_not_know() {
    let scene = opaque(|document| {
        let mut second = document["authentication"]["introspection"][0].clone();
        second["name"] = json!("partner");
        second["issuer"] = json!("https://partner.example");
        document["authentication"]["introspection"].as_array_mut().unwrap().push(second);
        document["bindings"] = json!([{ "principal": { "id": "opaque:*" }, "roles": ["scientist"] }]);
    });
    let theirs = ALICE.replace("idp.example", "partner.example");
    let (mut transaction, call) = asking(&scene, PREDICT, true);
    assert_eq!(answer(&mut transaction, call, r#"{"active":false}"#, &scene), Step::Await);
    assert_eq!(asked(&scene), 2);
    assert!(matches!(answer(&mut transaction, CalloutId(1), &theirs, &scene), Step::Forward(_)));
    assert_eq!(end(transaction, 200, &scene).principal.as_deref(), Some("opaque:partner:alice"));
    for (body, code) in [("<html>", "503"), (theirs.as_str(), "401")] {
        scene.host.advance(Duration::from_secs(60));
        let (mut transaction, call) = asking(&scene, PREDICT, true);
        let calls = asked(&scene);
        let step = answer(&mut transaction, call, body, &scene);
        assert_eq!(status(&step).map(|code| code.to_string()).as_deref(), Some(code), "{body}");
        assert_eq!(asked(&scene), calls, "nobody else is asked");
    }
}

#[test]
fn together_all_questions_take_no_longer_than_one_wait() {
    let scene = opaque(|document| {
        document["bounds"]["wait"] = json!("300ms");
        let mut second = document["authentication"]["introspection"][0].clone();
        second["name"] = json!("partner");
        document["authentication"]["introspection"].as_array_mut().unwrap().push(second);
    });
    let (mut transaction, call) = asking(&scene, PREDICT, true);
    let end = transaction.waits_until();
    assert_eq!(end, Some(scene.host.monotonic().plus(Duration::from_millis(300))));
    scene.host.advance(Duration::from_millis(200));
    assert_eq!(answer(&mut transaction, call, r#"{"active":false}"#, &scene), Step::Await);
    assert_eq!(transaction.waits_until(), end);
}
