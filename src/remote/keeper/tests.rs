use super::*;
use crate::host::fake::FakeHost;
use crate::identity::secret::{NamedSecret, Secret};
use crate::time::UnixTime;

/// A document of one word; `bad` is none.
struct Word;

impl Kind for Word {
    type Document = String;
    fn read(&self, body: &[u8]) -> Result<String, Unreadable> {
        match std::str::from_utf8(body) {
            Ok(word) if word != "bad" && !word.is_empty() => Ok(word.to_owned()),
            _ => Err(Unreadable(String::from("not a word"))),
        }
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn source() -> Source {
    Source {
        cluster: String::from("idp"),
        authority: String::from("idp.example"),
        path: String::from("/keys"),
        timeout: seconds(2),
        interval: seconds(300),
        cooldown: seconds(10),
        failed_refetch: seconds(1),
        max_stale: seconds(3600),
        max_bytes: 64,
    }
}

fn store() -> Store {
    Store::new(&[NamedSecret { id: String::from("s1"), secret: Secret::new("secret") }])
}

/// Workers of one process that have the same key.
fn workers<const N: usize>() -> (FakeHost, [Keeper<Word>; N]) {
    let host = FakeHost::at(UnixTime::parse("2026-01-01T00:00:00Z").unwrap());
    (host, std::array::from_fn(|_| keeper(store())))
}

fn keeper(store: Store) -> Keeper<Word> {
    Keeper::new(Word, String::from("a word"), source(), String::from("key"), store)
}

fn fetches(host: &FakeHost) -> usize {
    host.callouts.borrow().len()
}

/// Answers the last callout that was started.
fn answer(keeper: &mut Keeper<Word>, host: &FakeHost, status: u16, etag: Option<&str>, body: &str) {
    *host.response_body.borrow_mut() = body.as_bytes().to_vec();
    let call = CalloutId(u32::try_from(fetches(host).saturating_sub(1)).unwrap());
    assert!(keeper.on_reply(call, &Reply { status: Some(status), etag, size: body.len() }, host));
}

fn word(keeper: &mut Keeper<Word>, host: &FakeHost) -> Option<String> {
    keeper.document(host).map(|word| word.to_string())
}

#[test]
fn one_worker_fetches_and_all_have_it() {
    let (host, [mut a, mut b]) = workers();
    a.tick(&host);
    b.tick(&host);
    assert_eq!(fetches(&host), 1);
    assert_eq!(word(&mut b, &host), None);
    answer(&mut a, &host, 200, None, "one");
    assert_eq!(word(&mut a, &host).as_deref(), Some("one"));
    assert_eq!(word(&mut b, &host).as_deref(), Some("one"), "a request needs no tick to see it");
    assert_eq!(a.generation(), b.generation());
    assert_ne!(a.generation(), Generation::NONE);
    for _ in 0..299 {
        host.advance(seconds(1));
        a.tick(&host);
        b.tick(&host);
    }
    assert_eq!(fetches(&host), 1);
}

#[test]
fn a_worker_that_comes_later_has_it_at_once() {
    let (host, [mut a]) = workers();
    a.tick(&host);
    answer(&mut a, &host, 200, None, "one");
    let mut late = keeper(store());
    assert_eq!(word(&mut late, &host).as_deref(), Some("one"));
    late.tick(&host);
    assert_eq!(fetches(&host), 1);
}

#[test]
fn it_is_fetched_again_after_the_interval_and_only_if_it_has_changed() {
    let (host, [mut a, mut b]) = workers();
    a.tick(&host);
    answer(&mut a, &host, 200, Some("\"v1\""), "one");
    b.tick(&host);
    host.advance(seconds(300));
    b.tick(&host);
    a.tick(&host);
    assert_eq!(fetches(&host), 2);
    let asked = host.callouts.borrow()[1].headers.clone();
    assert!(asked.contains(&("if-none-match", String::from("\"v1\""))), "{asked:?}");
    answer(&mut b, &host, 304, None, "");
    assert_eq!(b.age(&host), Some(Duration::ZERO));
    a.tick(&host);
    assert_eq!(a.age(&host), Some(Duration::ZERO));
    host.advance(seconds(300));
    a.tick(&host);
    answer(&mut a, &host, 200, Some("\"v2\""), "two");
    let before = b.generation();
    b.tick(&host);
    assert_eq!(word(&mut b, &host).as_deref(), Some("two"));
    assert_ne!(b.generation(), before);
}

#[test]
fn a_304_that_nobody_asked_for_is_a_failure() {
    let (host, [mut a]) = workers();
    a.tick(&host);
    answer(&mut a, &host, 304, None, "");
    assert!(a.has_failed() && word(&mut a, &host).is_none());
    host.advance(seconds(1));
    a.tick(&host);
    answer(&mut a, &host, 200, Some("not quoted\r\nx: y"), "one");
    host.advance(seconds(300));
    a.tick(&host);
    assert_eq!(host.callouts.borrow()[2].headers.len(), 1, "an unfit tag is not sent back");
}

#[test]
fn nothing_bad_takes_the_place_of_what_is_good() {
    let (host, [mut a]) = workers();
    a.tick(&host);
    answer(&mut a, &host, 200, None, "one");
    let long = "x".repeat(65);
    for (count, (status, body)) in
        [(500, "two"), (301, "two"), (204, ""), (200, "bad"), (200, &long), (200, "")].into_iter().enumerate()
    {
        host.advance(seconds(300));
        a.tick(&host);
        assert_eq!(fetches(&host), count + 2);
        answer(&mut a, &host, status, None, body);
        assert!(a.has_failed() && a.is_stale(&host));
        assert_eq!(word(&mut a, &host).as_deref(), Some("one"));
    }
    let log = host.log.borrow();
    assert_eq!(log.len(), 4, "one line for each new way to fail: {log:?}");
}

#[test]
fn failures_are_retried_after_a_while_and_not_before() {
    let (host, [mut a, mut b]) = workers();
    a.tick(&host);
    answer(&mut a, &host, 503, None, "");
    for _ in 0..9 {
        host.advance(Duration::from_millis(100));
        a.tick(&host);
        b.tick(&host);
        assert_eq!(fetches(&host), 1);
    }
    assert_eq!(b.retry_after(&host), Duration::from_millis(100));
    host.advance(Duration::from_millis(100));
    b.tick(&host);
    assert_eq!(fetches(&host), 2);
    answer(&mut b, &host, 200, None, "one");
    a.tick(&host);
    assert_eq!(word(&mut a, &host).as_deref(), Some("one"));
}

#[test]
fn a_document_is_used_until_it_is_too_old() {
    let (host, [mut a]) = workers();
    a.tick(&host);
    answer(&mut a, &host, 200, None, "one");
    host.dispatch_fails.set(true);
    for _ in 0..3599 {
        host.advance(seconds(1));
        a.tick(&host);
    }
    assert_eq!(word(&mut a, &host).as_deref(), Some("one"));
    host.advance(seconds(1));
    assert_eq!(word(&mut a, &host), None);
    host.dispatch_fails.set(false);
    a.tick(&host);
    answer(&mut a, &host, 200, None, "one");
    assert_eq!(word(&mut a, &host).as_deref(), Some("one"));
}

#[test]
fn a_wall_clock_that_is_set_back_makes_nothing_younger() {
    let (host, [mut a]) = workers();
    a.tick(&host);
    answer(&mut a, &host, 200, None, "one");
    host.unix_millis.set(0);
    host.monotonic_nanos.set(host.monotonic_nanos.get() + 3_600_000_000_000);
    assert_eq!(word(&mut a, &host), None);
}

#[test]
fn a_wish_is_granted_once_per_cooldown_and_process() {
    let (host, [mut a, mut b]) = workers();
    a.tick(&host);
    assert_eq!(b.want(&host), Wanted::Coming, "one is running");
    answer(&mut a, &host, 200, None, "one");
    assert_eq!(a.want(&host), Wanted::After(seconds(10)));
    host.advance(seconds(4));
    assert_eq!(b.want(&host), Wanted::After(seconds(6)));
    host.advance(seconds(6));
    assert_eq!(a.want(&host), Wanted::Coming);
    assert_eq!(b.want(&host), Wanted::Coming);
    let turn = a.turn();
    b.tick(&host);
    a.tick(&host);
    assert_eq!(fetches(&host), 2);
    answer(&mut b, &host, 200, None, "one");
    a.tick(&host);
    assert_ne!(a.turn(), turn);
    for _ in 0..9 {
        host.advance(seconds(1));
        a.tick(&host);
        b.tick(&host);
        assert_eq!(fetches(&host), 2, "the wish of both is granted");
    }
}

#[test]
fn a_wish_that_failed_is_not_retried_while_the_document_is_fresh() {
    let (host, [mut a]) = workers();
    a.tick(&host);
    answer(&mut a, &host, 200, None, "one");
    host.advance(seconds(10));
    assert_eq!(a.want(&host), Wanted::Coming);
    a.tick(&host);
    answer(&mut a, &host, 503, None, "");
    for _ in 0..200 {
        host.advance(seconds(1));
        a.tick(&host);
    }
    assert_eq!(fetches(&host), 2);
    assert!(!a.is_stale(&host));
}

#[test]
fn a_dead_leaders_lease_ends() {
    let (host, [mut a, mut b]) = workers();
    a.tick(&host);
    drop(a);
    for _ in 0..29 {
        host.advance(Duration::from_millis(100));
        b.tick(&host);
        assert_eq!(fetches(&host), 1);
    }
    host.advance(Duration::from_millis(100));
    b.tick(&host);
    assert_eq!(fetches(&host), 2);
}

#[test]
fn an_answer_that_never_comes_is_a_failure_and_one_that_comes_late_is_nobodys() {
    let (host, [mut a, mut b]) = workers();
    a.tick(&host);
    host.advance(Duration::from_millis(2_500));
    a.tick(&host);
    assert!(a.has_failed());
    assert!(!a.on_reply(CalloutId(0), &Reply { status: Some(200), etag: None, size: 3 }, &host));
    // without a tick of the leader's, its lease ends and the answer comes after another has it
    host.advance(seconds(1));
    a.tick(&host);
    assert_eq!(fetches(&host), 2);
    host.advance(seconds(3));
    b.tick(&host);
    assert_eq!(fetches(&host), 3);
    *host.response_body.borrow_mut() = b"old".to_vec();
    assert!(a.on_reply(CalloutId(1), &Reply { status: Some(200), etag: None, size: 3 }, &host));
    assert_eq!(word(&mut a, &host), None);
    answer(&mut b, &host, 200, None, "new");
    a.tick(&host);
    assert_eq!(word(&mut a, &host).as_deref(), Some("new"));
}

#[test]
fn who_is_slower_to_take_the_lease_fetches_nothing() {
    let (host, [mut a]) = workers();
    host.conflicts.set(1);
    a.tick(&host);
    assert_eq!(fetches(&host), 0);
    a.tick(&host);
    assert_eq!(fetches(&host), 1);
    host.conflicts.set(1);
    answer(&mut a, &host, 200, None, "one");
    assert_eq!(word(&mut a, &host).as_deref(), Some("one"));
}

#[test]
fn what_somebody_else_wrote_is_not_believed() {
    let (host, [mut a, mut b]) = workers();
    a.tick(&host);
    answer(&mut a, &host, 200, None, "one");
    // a body that is not the one that was sealed
    let (body, version) = host.shared.borrow().get("key/1").cloned().unwrap();
    assert_eq!(body, b"one");
    host.shared.borrow_mut().insert(String::from("key/1"), (b"evil".to_vec(), version + 1));
    assert_eq!(word(&mut b, &host), None);
    host.advance(seconds(1));
    b.tick(&host);
    assert_eq!(fetches(&host), 2, "what is gone is fetched again");
    answer(&mut b, &host, 200, None, "one");
    assert_eq!(word(&mut b, &host).as_deref(), Some("one"));
    // a head that nobody sealed
    let forged = Record { attempts: 1, ..Record::default() }.write();
    host.shared.borrow_mut().insert(String::from("key"), (forged, 99));
    a.tick(&host);
    assert_eq!(word(&mut a, &host).as_deref(), Some("one"), "what was known stays");
    assert_eq!(word(&mut keeper(store()), &host), None);
}

#[test]
fn a_record_that_was_there_before_is_not_believed_again() {
    let (host, [mut a]) = workers();
    a.tick(&host);
    answer(&mut a, &host, 200, None, "one");
    let old = host.shared.borrow().clone();
    host.advance(seconds(300));
    a.tick(&host);
    answer(&mut a, &host, 200, None, "two");
    let (head, body) = (old["key"].0.clone(), old["key/1"].0.clone());
    host.shared
        .borrow_mut()
        .extend([(String::from("key"), (head, 1_000)), (String::from("key/1"), (body, 1_000))]);
    a.tick(&host);
    assert_eq!(word(&mut a, &host).as_deref(), Some("two"));
    // it is worth as much as none: a fetch mends it, for those who come too
    host.advance(seconds(1));
    a.tick(&host);
    assert_eq!(fetches(&host), 3);
    answer(&mut a, &host, 200, None, "two");
    assert_eq!(word(&mut keeper(store()), &host).as_deref(), Some("two"));
}

#[test]
fn a_body_that_cannot_be_shared_takes_nothing_away() {
    let (host, [mut a]) = workers();
    a.tick(&host);
    answer(&mut a, &host, 200, None, "one");
    host.advance(seconds(300));
    a.tick(&host);
    host.conflicts.set(4);
    answer(&mut a, &host, 200, None, "two");
    assert_eq!(host.conflicts.get(), 0);
    host.advance(seconds(10));
    a.tick(&host);
    assert_eq!(fetches(&host), 3);
    assert_eq!(word(&mut keeper(store()), &host).as_deref(), Some("one"));
    answer(&mut a, &host, 200, None, "two");
    assert_eq!(word(&mut keeper(store()), &host).as_deref(), Some("two"));
}

#[test]
fn whoever_keeps_spoiling_the_record_makes_nobody_busy() {
    let (host, [mut a]) = workers();
    for version in 1_000..1_100 {
        host.shared.borrow_mut().insert(String::from("key"), (b"junk".to_vec(), version));
        a.tick(&host);
        host.advance(Duration::from_millis(100));
    }
    assert!(fetches(&host) <= 10, "{}", fetches(&host));
}

#[test]
fn without_a_key_each_worker_fetches_for_itself() {
    let host = FakeHost::at(UnixTime::parse("2026-01-01T00:00:00Z").unwrap());
    let (mut a, mut b) = (keeper(Store::new(&[])), keeper(Store::new(&[])));
    a.tick(&host);
    answer(&mut a, &host, 200, None, "one");
    b.tick(&host);
    assert_eq!(fetches(&host), 2);
    assert_eq!(word(&mut a, &host).as_deref(), Some("one"));
    assert_eq!(word(&mut b, &host), None);
    assert!(host.shared.borrow().is_empty());
}

#[test]
fn a_call_that_cannot_be_started_is_a_failure_like_any_other() {
    let (host, [mut a]) = workers();
    host.dispatch_fails.set(true);
    for _ in 0..50 {
        a.tick(&host);
        host.advance(Duration::from_millis(100));
    }
    assert!(a.has_failed());
    assert_eq!(host.log.borrow().len(), 1);
    host.dispatch_fails.set(false);
    host.advance(seconds(1));
    a.tick(&host);
    answer(&mut a, &host, 200, None, "one");
    assert_eq!(word(&mut a, &host).as_deref(), Some("one"));
}

#[test]
fn a_change_takes_no_longer_than_the_bound() {
    // interval, timeout, lease of a holder that died, tick
    assert_eq!(source().bound(), seconds(300 + 2 + 3) + Duration::from_millis(100));
}
