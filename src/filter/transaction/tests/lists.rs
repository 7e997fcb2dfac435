//! Lists that come without a push, as requests meet them.

use serde_json::{Value as Json, json};

use super::*;
use crate::http::pairs::Pairs;
use crate::remote::keeper::Reply;

/// A second key, which only a list knows.
fn listed_key() -> ApiKey {
    ApiKey::generate(&[9; 64]).unwrap()
}

fn listed(consumer: &Json) -> String {
    let (key, mut consumer) = (listed_key(), consumer.clone());
    consumer["credentials"] =
        json!({ "api_keys": [{ "id": key.id().to_string(), "digest": key.digest().to_string() }] });
    json!({ "version": 1, "consumers": [consumer] }).to_string()
}

fn source(name: &str) -> Json {
    json!({ "cluster": "control", "uri": format!("http://control/lists/{name}.json"), "interval": "1s", "max_stale": "10s" })
}

fn with_revocation(document: &mut Json) {
    document["authentication"] = json!({ "revocation": source("revoked") });
    document["limits"] = json!([]);
}

fn with_credentials(document: &mut Json) {
    document["authentication"] = json!({ "credentials_list": source("keys") });
    document["limits"] = json!([]);
}

impl Scene {
    /// One tick, and an answer to what it asked for, if it asked.
    fn served(&self, status: u16, body: &str) -> bool {
        let before = self.host.callouts.borrow().len();
        self.worker.lists.tick(&self.host);
        let asked = self.host.callouts.borrow().len() > before;
        if asked {
            *self.host.response_body.borrow_mut() = body.as_bytes().to_vec();
            let reply = Reply { status: Some(status), etag: Some("\"1\""), size: body.len() };
            let call = CalloutId(u32::try_from(before).unwrap());
            assert!(self.worker.lists.on_reply(call, &reply, &self.host));
        }
        asked
    }

    /// The next look, `seconds` later.
    fn later(&self, seconds: u64, status: u16, body: &str) {
        self.host.advance(Duration::from_secs(seconds));
        assert!(self.served(status, body));
    }

    /// What a key is told: nothing where it is let in.
    fn told(&self, key: &str) -> Option<(u16, &'static str)> {
        let pairs = [(":method", "POST"), (":path", "/predict"), ("x-api-key", key)];
        let mut transaction = Transaction::new(Rc::clone(&self.worker));
        let facts = StreamFacts { end_of_stream: true, ..StreamFacts::default() };
        match transaction.on_request_headers(&Pairs::write(&pairs), facts, &self.host) {
            Step::Reply(reply) => Some((reply.status, reply.details)),
            Step::Forward(_) => None,
            Step::Await => panic!("it waits"),
        }
    }
}

use crate::host::CalloutId;

const UNAVAILABLE: Option<(u16, &str)> = Some((503, "revocation_unavailable"));
const REVOKED: Option<(u16, &str)> = Some((401, "credential_revoked"));
const EMPTY: &str = r#"{"version":1}"#;
const USER_1: &str = r#"{"version":1,"principals":["user_1"]}"#;

#[test]
fn nobody_is_let_in_before_it_is_known_what_is_revoked_nor_when_that_is_too_old() {
    let scene = scene(with_revocation);
    assert_eq!(scene.told(&scene.key), UNAVAILABLE);
    assert!(scene.served(200, EMPTY));
    assert_eq!(scene.told(&scene.key), None);
    scene.host.advance(Duration::from_millis(9_999));
    assert_eq!(scene.told(&scene.key), None, "not so old yet");
    scene.host.advance(Duration::from_millis(1));
    assert_eq!(scene.told(&scene.key), UNAVAILABLE);
    scene.later(0, 200, EMPTY);
    assert_eq!(scene.told(&scene.key), None);
}

#[test]
fn a_wrong_credential_stays_wrong_and_an_unavailable_answer_says_when_to_come_back() {
    let scene = scene(with_revocation);
    assert_eq!(scene.told("mlg_wrong"), Some((401, "credential_invalid")));
    let (_, step) = scene.begin("/predict", &[], true);
    let Step::Reply(reply) = step else { panic!("{step:?}") };
    assert!(reply.headers.iter().any(|(name, value)| name == "retry-after" && value != "0"), "{reply:?}");
}

#[test]
fn what_a_list_takes_back_is_refused_from_then_on_and_again_let_in_when_it_does_not() {
    let scene = scene(with_revocation);
    assert!(scene.served(200, EMPTY));
    assert_eq!(scene.told(&scene.key), None);
    scene.later(1, 200, USER_1);
    assert_eq!(scene.told(&scene.key), REVOKED);
    scene.later(1, 304, "");
    assert_eq!(scene.told(&scene.key), REVOKED);
    let key = ApiKey::parse(scene.key.as_bytes()).unwrap().id().to_string();
    scene.later(1, 200, &json!({ "version": 1, "keys": [key] }).to_string());
    assert_eq!(scene.told(&scene.key), REVOKED);
    scene.later(1, 200, EMPTY);
    assert_eq!(scene.told(&scene.key), None);
}

#[test]
fn a_bad_list_never_takes_the_place_of_a_good_one() {
    let scene = scene(with_revocation);
    assert!(scene.served(200, USER_1));
    for (status, body) in [
        (200, ""),
        (200, "<html>"),
        (200, r#"{"version":1,"keys":["#),
        (200, r#"{"version":1,"unknown":1}"#),
        (200, r#"{"version":2}"#),
        (404, EMPTY),
        (500, EMPTY),
        (204, EMPTY),
    ] {
        scene.later(1, status, body);
        assert_eq!(scene.told(&scene.key), REVOKED, "{status} {body}");
    }
}

#[test]
fn the_words_of_the_document_and_the_list_add_up() {
    let scene = scene(|document| {
        with_revocation(document);
        document["authentication"]["revocation"]["principals"] = json!(["user_1"]);
    });
    assert_eq!(scene.told(&scene.key), REVOKED, "what is known is said, list or no list");
    assert!(scene.served(200, EMPTY));
    assert_eq!(scene.told(&scene.key), REVOKED);
}

#[test]
fn who_shows_nothing_needs_no_list() {
    let scene = scene(|document| {
        with_revocation(document);
        document["profiles"] = json!({
            "default": {},
            "open": { "authenticate": "none", "authorize": "none", "match": { "path": "/predict" } },
        });
        document["routes"] = json!({ "*": "open" });
    });
    assert_eq!(scene.told("anything"), None);
}

#[test]
fn a_request_that_waits_is_asked_again_when_the_list_has_changed() {
    let scene = scene(with_revocation);
    assert!(scene.served(200, EMPTY));
    let (mut waits, step) = scene.chat();
    assert!(matches!(step, Step::Forward(_)), "headers go on under `peek: stream`");
    scene.later(1, 200, USER_1);
    let step = scene.body(&mut waits, r#"{"model":"gpt"}"#, true);
    let Step::Reply(reply) = step else { panic!("{step:?}") };
    assert_eq!((reply.status, reply.details), (401, "credential_revoked"));
    let (event, _) = waits.on_end(&done(401), &scene.host).unwrap();
    assert_eq!((event.reason, event.principal.as_deref()), (Some("credential_revoked"), Some("user_1")));
}

#[test]
fn what_is_charged_before_a_revocation_is_found_is_given_back() {
    let scene = scene(|document| {
        let limits = document["limits"].clone();
        with_revocation(document);
        document["limits"] = limits;
    });
    assert!(scene.served(200, EMPTY));
    let (mut waits, _) = scene.chat();
    scene.later(1, 200, USER_1);
    assert_eq!(status(&scene.body(&mut waits, r#"{"model":"gpt"}"#, true)), Some(401));
    scene.later(1, 200, EMPTY);
    // two are allowed in a minute
    assert_eq!(scene.told(&scene.key), None);
    assert_eq!(scene.told(&scene.key), None);
    assert_eq!(scene.told(&scene.key), Some((429, "rate_limited")));
}

#[test]
fn the_lag_is_the_age_of_the_list_in_force() {
    let scene = scene(with_revocation);
    assert_eq!(scene.worker.lists.revocation_lag(&scene.host), Some(Duration::ZERO));
    assert!(scene.served(500, ""));
    scene.host.advance(Duration::from_secs(3));
    assert_eq!(scene.worker.lists.revocation_lag(&scene.host), Some(Duration::from_secs(3)), "never had");
    assert!(scene.served(200, EMPTY));
    assert_eq!(scene.worker.lists.revocation_lag(&scene.host), Some(Duration::ZERO));
    scene.host.advance(Duration::from_secs(7));
    assert_eq!(scene.worker.lists.revocation_lag(&scene.host), Some(Duration::from_secs(7)));
    assert_eq!(super::scene(|_| {}).worker.lists.revocation_lag(&scene.host), None);
}

#[test]
fn a_key_of_a_list_is_let_in_while_it_is_listed() {
    let scene = scene(with_credentials);
    let key = listed_key();
    let told = || scene.told(key.expose());
    assert_eq!(told(), Some((503, "credentials_unavailable")), "it may be right");
    assert_eq!(scene.told(&scene.key), None, "a configured key needs no list");
    assert!(scene.served(200, &listed(&json!({ "name": "user_9", "roles": ["scientist"] }))));
    assert_eq!(told(), None);
    scene.later(1, 200, r#"{"version":1,"consumers":[]}"#);
    assert_eq!(told(), Some((401, "credential_invalid")));
    scene.later(1, 200, &listed(&json!({ "name": "user_1" })));
    assert_eq!(told(), None, "more keys of a configured consumer, with its roles");
    scene.host.advance(Duration::from_secs(10));
    assert_eq!(told(), Some((503, "credentials_unavailable")), "too old");
    assert_eq!(scene.told(&scene.key), None);
    // a key with wrong check digits is wrong, whatever a list says
    assert_eq!(scene.told(&key.expose().replace("mlg_", "mlg-")), Some((401, "credential_invalid")));
}

#[test]
fn a_list_that_the_configuration_would_not_take_changes_nothing() {
    let scene = scene(with_credentials);
    assert!(scene.served(200, &listed(&json!({ "name": "user_9", "roles": ["scientist"] }))));
    for consumer in [
        json!({ "name": "user_9", "roles": ["admin"] }),
        json!({ "name": "user_1", "roles": ["scientist"] }),
        json!({ "name": "jwt:corp:eve" }),
    ] {
        scene.later(1, 200, &listed(&consumer));
        assert_eq!(scene.told(listed_key().expose()), None, "{consumer}");
    }
    let log = scene.host.log.borrow();
    let told: Vec<&str> = log.iter().map(|(_, line)| line.as_str()).collect();
    assert!(told.iter().any(|line| line.contains("/consumers/0/roles/0")), "{told:?}");
    assert!(!told.iter().any(|line| line.contains("sha256:")), "{told:?}");
}

#[test]
fn a_listed_caller_can_be_revoked_too() {
    let scene = scene(|document| {
        with_credentials(document);
        document["authentication"]["revocation"] = json!({ "principals": ["user_9"] });
    });
    assert!(scene.served(200, &listed(&json!({ "name": "user_9", "roles": ["scientist"] }))));
    assert_eq!(scene.told(listed_key().expose()), REVOKED);
}

#[test]
fn the_next_configuration_of_a_vm_goes_on_with_the_list_that_is_there() {
    let before = scene(with_revocation);
    assert!(before.served(200, USER_1));
    let mut after = scene(with_revocation);
    let trail = Rc::clone(&after.worker.trail);
    let worker = Worker::new(Rc::clone(&after.worker.config), trail);
    after.worker = Rc::new(worker.beside(std::slice::from_ref(&before.worker)));
    assert_eq!(after.told(&after.key), REVOKED, "without a look of its own");
}
