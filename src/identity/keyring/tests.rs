use super::*;
use crate::host::fake::FakeHost;
use crate::identity::secret::{NamedSecret, Secret};
use crate::time::UnixTime;

const X: [&str; 2] =
    ["uT16PxMEbcJl_07MYANHzRcILL2BT9k2arAJbrQZ0qM", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn origin(place: Place) -> Origin {
    Origin {
        provider: String::from("corp"),
        issuer: String::from("https://idp.example"),
        place,
        cluster: String::from("idp"),
        pace: Pace {
            timeout: seconds(2),
            interval: seconds(300),
            cooldown: seconds(10),
            failed_refetch: seconds(1),
            max_stale: seconds(3600),
        },
        bounds: SetBounds { keys: 100, depth: 64 },
        max_bytes: 1 << 18,
    }
}

fn at(uri: &str) -> Origin {
    origin(Place::Uri(Uri::parse(uri).unwrap()))
}

fn discovered() -> Origin {
    let uri = Discovery { issuer: String::from("https://idp.example") }.uri().unwrap();
    origin(Place::Discovery { uri, cluster: String::from("www") })
}

/// The keyrings of one worker of a process whose workers share a key.
fn worker(origin: &Origin) -> Keyrings {
    let key = NamedSecret { id: String::from("s1"), secret: Secret::new("secret") };
    Keyrings::new(std::iter::once(Some(origin)), "gate", &Store::new(&[key]))
}

fn host() -> FakeHost {
    FakeHost::at(UnixTime::parse("2026-01-01T00:00:00Z").unwrap())
}

fn jwks(ids: &[&str]) -> String {
    let key = |(id, x): (&&str, &&str)| format!(r#"{{"kty":"OKP","kid":"{id}","crv":"Ed25519","x":"{x}"}}"#);
    let keys: Vec<String> = ids.iter().zip(&X).map(key).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

fn fetches(host: &FakeHost) -> usize {
    host.callouts.borrow().len()
}

/// Answers the last callout that was started.
fn answer(worker: &Keyrings, host: &FakeHost, status: u16, body: &str) {
    *host.response_body.borrow_mut() = body.as_bytes().to_vec();
    let call = CalloutId(u32::try_from(fetches(host).saturating_sub(1)).unwrap());
    assert!(worker.on_reply(call, &Reply { status: Some(status), etag: None, size: body.len() }, host));
}

fn find(worker: &Keyrings, id: &str, host: &FakeHost) -> Result<(), NoKeys> {
    worker.find(0, Some(id), Algorithm::EdDSA, host).map(drop)
}

fn ticket(found: Result<(), NoKeys>) -> KeysTicket {
    match found {
        Err(NoKeys::Coming(ticket)) => ticket,
        other => panic!("{other:?}"),
    }
}

/// A worker that has read these keys a moment ago.
fn with_keys(ids: &[&str]) -> (Keyrings, FakeHost) {
    let (worker, host) = (worker(&at("https://idp.example/keys")), host());
    worker.tick(&host);
    answer(&worker, &host, 200, &jwks(ids));
    (worker, host)
}

#[test]
fn the_first_token_waits_for_the_first_fetch() {
    let (worker, host) = (worker(&at("https://idp.example/keys")), host());
    let ticket = ticket(find(&worker, "a", &host));
    assert!(!worker.is_over(ticket) && worker.generation(0, &host).is_none());
    worker.tick(&host);
    assert!(!worker.is_over(ticket));
    answer(&worker, &host, 200, &jwks(&["a"]));
    assert!(worker.is_over(ticket));
    assert_eq!(find(&worker, "a", &host), Ok(()));
    assert!(worker.generation(0, &host).is_some());
}

#[test]
fn where_the_first_fetch_failed_nobody_waits_until_the_next() {
    let (worker, host) = (worker(&at("https://idp.example/keys")), host());
    worker.tick(&host);
    let ticket = ticket(find(&worker, "a", &host));
    answer(&worker, &host, 503, "");
    assert!(worker.is_over(ticket));
    assert_eq!(find(&worker, "a", &host), Err(NoKeys::After(seconds(1))));
}

#[test]
fn an_unknown_key_is_looked_for_once_and_then_refused() {
    let (worker, host) = with_keys(&["a"]);
    assert_eq!(find(&worker, "b", &host), Err(NoKeys::After(seconds(10))), "nobody has looked for it");
    host.advance(seconds(10));
    let ticket = ticket(find(&worker, "b", &host));
    worker.tick(&host);
    assert_eq!(fetches(&host), 2);
    answer(&worker, &host, 200, &jwks(&["a"]));
    assert!(worker.is_over(ticket));
    assert_eq!(find(&worker, "b", &host), Err(NoKeys::Unknown));
    assert_eq!(find(&worker, "c", &host), Err(NoKeys::After(seconds(10))), "nobody has looked for it");
    assert_eq!(find(&worker, "a", &host), Ok(()));
    worker.tick(&host);
    assert_eq!(fetches(&host), 2);
}

#[test]
fn a_new_key_is_found_when_it_is_used() {
    let (worker, host) = with_keys(&["a"]);
    let before = worker.generation(0, &host);
    host.advance(seconds(10));
    find(&worker, "b", &host).unwrap_err();
    worker.tick(&host);
    answer(&worker, &host, 200, &jwks(&["a", "b"]));
    assert_eq!(find(&worker, "b", &host), Ok(()));
    assert_ne!(worker.generation(0, &host), before);
}

#[test]
fn a_missing_key_is_looked_for_again_when_the_cooldown_is_over() {
    let (worker, host) = with_keys(&["a"]);
    host.advance(seconds(10));
    find(&worker, "b", &host).unwrap_err();
    worker.tick(&host);
    answer(&worker, &host, 200, &jwks(&["a"]));
    host.advance(seconds(10));
    ticket(find(&worker, "b", &host));
    worker.tick(&host);
    answer(&worker, &host, 200, &jwks(&["a", "b"]));
    assert_eq!(find(&worker, "b", &host), Ok(()));
}

#[test]
fn a_key_that_nobody_could_look_for_is_not_missing() {
    let (worker, host) = with_keys(&["a"]);
    host.advance(seconds(10));
    find(&worker, "b", &host).unwrap_err();
    worker.tick(&host);
    answer(&worker, &host, 503, "");
    assert_eq!(find(&worker, "b", &host), Err(NoKeys::After(seconds(10))));
}

#[test]
fn a_missing_key_that_is_looked_for_again_in_vain_is_missing_no_longer() {
    let (worker, host) = with_keys(&["a"]);
    host.advance(seconds(10));
    ticket(find(&worker, "b", &host));
    worker.tick(&host);
    answer(&worker, &host, 200, &jwks(&["a"]));
    assert_eq!(find(&worker, "b", &host), Err(NoKeys::Unknown));
    host.advance(seconds(10));
    ticket(find(&worker, "b", &host));
    worker.tick(&host);
    answer(&worker, &host, 503, "");
    assert_eq!(find(&worker, "b", &host), Err(NoKeys::After(seconds(10))), "nobody could say");
}

#[test]
fn a_thousand_invented_keys_cost_one_fetch_per_cooldown() {
    let (worker, host) = with_keys(&["a"]);
    for number in 0..1_000 {
        host.advance(Duration::from_millis(100));
        let _ = find(&worker, &format!("invented {number}"), &host);
        assert_eq!(find(&worker, "a", &host), Ok(()));
        let before = fetches(&host);
        worker.tick(&host);
        if fetches(&host) > before {
            answer(&worker, &host, 200, &jwks(&["a"]));
        }
    }
    // 100 seconds
    assert_eq!(fetches(&host), 11);
    assert!(worker.iter().all(|ring| ring.borrow().missing.len() <= MAX_MISSING));
}

#[test]
fn the_wait_for_a_fetch_of_another_worker_ends_with_it() {
    let host = host();
    let (a, b) = (worker(&at("https://idp.example/keys")), worker(&at("https://idp.example/keys")));
    a.tick(&host);
    let ticket = ticket(find(&b, "a", &host));
    b.tick(&host);
    assert_eq!(fetches(&host), 1);
    answer(&a, &host, 200, &jwks(&["a"]));
    b.tick(&host);
    assert!(b.is_over(ticket));
    assert_eq!(find(&b, "a", &host), Ok(()));
}

#[test]
fn a_token_that_names_no_key_has_whatever_serves_it() {
    let (worker, host) = with_keys(&["a", "b"]);
    assert!(worker.find(0, None, Algorithm::EdDSA, &host).is_ok());
    host.advance(seconds(10));
    assert!(matches!(worker.find(0, None, Algorithm::RS256, &host), Err(NoKeys::Coming(_))));
    assert_eq!(find(&worker, "a", &host), Ok(()));
    assert!(worker.find(0, Some("a"), Algorithm::RS256, &host).is_ok(), "no fetch would help it");
}

#[test]
fn keys_that_are_too_old_are_no_keys_and_nobody_waits_for_others() {
    let (worker, host) = with_keys(&["a"]);
    for _ in 0..3600 {
        assert_eq!(find(&worker, "a", &host), Ok(()));
        host.advance(seconds(1));
        let before = fetches(&host);
        worker.tick(&host);
        if fetches(&host) > before {
            answer(&worker, &host, 200, "<html>");
        }
    }
    assert!(matches!(find(&worker, "a", &host), Err(NoKeys::After(_))));
    assert!(worker.generation(0, &host).is_none());
    host.advance(seconds(1));
    worker.tick(&host);
    answer(&worker, &host, 200, &jwks(&["a"]));
    assert_eq!(find(&worker, "a", &host), Ok(()));
}

#[test]
fn an_issuer_says_where_its_keys_are() {
    let (worker, host) = (worker(&discovered()), host());
    let ticket = ticket(find(&worker, "a", &host));
    worker.tick(&host);
    answer(&worker, &host, 200, r#"{"issuer":"https://idp.example","jwks_uri":"https://keys.example/v1"}"#);
    assert!(worker.is_over(ticket), "the next wait is for the keys");
    let ticket = match find(&worker, "a", &host) {
        Err(NoKeys::Coming(ticket)) => ticket,
        other => panic!("{other:?}"),
    };
    worker.tick(&host);
    {
        let callouts = host.callouts.borrow();
        let asked: Vec<_> =
            callouts.iter().map(|c| (c.cluster.as_str(), c.authority.as_str(), c.path.as_str())).collect();
        assert_eq!(
            asked,
            [("www", "idp.example", "/.well-known/openid-configuration"), ("idp", "keys.example", "/v1")]
        );
    }
    answer(&worker, &host, 200, &jwks(&["a"]));
    assert!(worker.is_over(ticket));
    assert_eq!(find(&worker, "a", &host), Ok(()));
}

#[test]
fn keys_that_move_serve_until_the_new_ones_are_read() {
    let (worker, host) = (worker(&discovered()), host());
    let document =
        |path: &str| format!(r#"{{"issuer":"https://idp.example","jwks_uri":"https://keys.example{path}"}}"#);
    worker.tick(&host);
    answer(&worker, &host, 200, &document("/v1"));
    worker.tick(&host);
    answer(&worker, &host, 200, &jwks(&["a"]));
    host.advance(seconds(299));
    host.dispatch_fails.set(false);
    host.advance(seconds(1));
    // the discovery document is due first, and the keys of the old place at the same time
    worker.tick(&host);
    assert_eq!(fetches(&host), 4);
    *host.response_body.borrow_mut() = document("/v2").into_bytes();
    let size = host.response_body.borrow().len();
    assert!(worker.on_reply(CalloutId(2), &Reply { status: Some(200), etag: None, size }, &host));
    assert_eq!(find(&worker, "a", &host), Ok(()));
    worker.tick(&host);
    assert_eq!(host.callouts.borrow().last().map(|callout| callout.path.clone()).as_deref(), Some("/v2"));
    answer(&worker, &host, 404, "");
    assert_eq!(find(&worker, "a", &host), Ok(()));
    host.advance(seconds(1));
    worker.tick(&host);
    answer(&worker, &host, 200, &jwks(&["b"]));
    assert_eq!(find(&worker, "b", &host), Ok(()));
    assert_ne!(find(&worker, "a", &host), Ok(()));
}

fn document(path: &str) -> String {
    format!(r#"{{"issuer":"https://idp.example","jwks_uri":"https://keys.example{path}"}}"#)
}

/// Answers what is asked from the `from`th callout on, also what is asked because of an answer.
fn serve(worker: &Keyrings, host: &FakeHost, place: &str, keys: &[(&str, &[&str])], from: &mut usize) {
    worker.tick(host);
    while *from < fetches(host) {
        let path = host.callouts.borrow()[*from].path.clone();
        let served = keys.iter().find(|(known, _)| *known == path).map(|(_, ids)| jwks(ids));
        let body = served.unwrap_or_else(|| document(place));
        *host.response_body.borrow_mut() = body.as_bytes().to_vec();
        let call = CalloutId(u32::try_from(*from).unwrap());
        assert!(worker.on_reply(call, &Reply { status: Some(200), etag: None, size: body.len() }, host));
        *from = from.saturating_add(1);
        worker.tick(host);
    }
}

#[test]
fn keys_that_were_read_long_ago_take_no_place_of_fresh_ones_when_the_issuer_moves_back() {
    let (worker, host) = (worker(&discovered()), host());
    let mut served = 0;
    serve(&worker, &host, "/v1", &[("/v1", &["a"])], &mut served);
    assert_eq!(find(&worker, "a", &host), Ok(()));
    for _ in 0..4 {
        host.advance(seconds(300));
        serve(&worker, &host, "/v2", &[("/v1", &["a"]), ("/v2", &["b"])], &mut served);
    }
    assert_eq!(find(&worker, "b", &host), Ok(()));
    host.advance(seconds(300));
    // the issuer moves back, and the old place is asked only with the next tick
    worker.tick(&host);
    let (asked, size) = (fetches(&host), document("/v1").len());
    let call = host.callouts.borrow().iter().rposition(|callout| callout.cluster == "www").unwrap();
    *host.response_body.borrow_mut() = document("/v1").into_bytes();
    let reply = Reply { status: Some(200), etag: None, size };
    assert!(worker.on_reply(CalloutId(u32::try_from(call).unwrap()), &reply, &host));
    assert_eq!(find(&worker, "b", &host), Ok(()), "those of the new place are the newest");
    worker.tick(&host);
    assert_eq!(fetches(&host), asked + 1);
    answer(&worker, &host, 200, &jwks(&["a", "b"]));
    assert_eq!((find(&worker, "a", &host), find(&worker, "b", &host)), (Ok(()), Ok(())));
}
