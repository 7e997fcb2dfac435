use sha2::{Digest, Sha256};

use super::*;
use crate::audit::canonical::Tree;
use crate::audit::chain::hex;
use crate::host::fake::FakeHost;
use crate::host::{HostError, Version};
use crate::time::UnixTime;

fn settings(max_events: usize) -> TrailSettings {
    TrailSettings {
        gate: String::from("gate"),
        version: String::from("0.1.0"),
        policy_revision: String::from("aa"),
        revision: None,
        cluster: String::from("audit"),
        path: String::from("/v1/audit"),
        max_events,
        max_bytes: 1 << 20,
        on_full: OnFullSpec::DropOldest,
        signer: Signer::Unkeyed,
    }
}

fn host() -> FakeHost {
    FakeHost::at(UnixTime::from_millis(1_800_000_000_000))
}

fn access(host: &FakeHost, id: u64) -> AccessEvent {
    AccessEvent {
        timestamp: host.unix_time(),
        decision_id: format!("{id:032x}"),
        principal: Some(String::from("alice")),
        status: Status::Success,
        ..AccessEvent::default()
    }
}

/// The events of one callout.
fn sent(host: &FakeHost, at: usize) -> Vec<Tree> {
    let callouts = host.callouts.borrow();
    callouts[at].body.split_inclusive(|byte| *byte == b'\n').map(|line| Tree::parse(line).unwrap()).collect()
}

fn sent_seqs(host: &FakeHost, at: usize) -> Vec<u64> {
    sent(host, at).iter().map(|event| event.count("seq").unwrap()).collect()
}

fn calls(host: &FakeHost) -> usize {
    host.callouts.borrow().len()
}

fn reply(trail: &mut Trail, host: &FakeHost, call: u32, status: Option<u16>) -> bool {
    trail.on_reply(CalloutId(call), status, b"", host)
}

fn ack(trail: &mut Trail, host: &FakeHost, call: u32, seq: u64) {
    let body = format!("{{\"acked\":{{\"{}\":{seq}}}}}", trail.chain().unwrap());
    assert!(trail.on_reply(CalloutId(call), Some(200), body.as_bytes(), host));
}

/// Lets time pass until the trail tries again.
fn later(trail: &mut Trail, host: &FakeHost) {
    host.advance(MAX_BACKOFF);
    trail.tick(host);
}

#[test]
fn a_collector_is_left_alone_for_as_long_as_it_asks() {
    let (host, mut trail) = (host(), Trail::new(settings(100)));
    trail.record(access(&host, 1), None, &host);
    for (asked, wait) in [(30, Duration::from_secs(30)), (u64::MAX, MAX_RETRY_AFTER)] {
        trail.tick(&host);
        let before = calls(&host);
        assert!(reply(&mut trail, &host, u32::try_from(before - 1).unwrap(), Some(503)));
        trail.leave_alone(Duration::from_secs(asked), &host);
        host.advance(wait - Duration::from_millis(1));
        trail.tick(&host);
        assert_eq!(calls(&host), before, "{asked} s");
        host.advance(Duration::from_millis(1));
    }
    trail.tick(&host);
    assert_eq!(calls(&host), 3);
}

#[test]
fn what_workers_tell_of_their_queues_adds_up() {
    let (host, mut trail) = (host(), Trail::new(settings(100)));
    trail.open(&host);
    trail.record(access(&host, 1), None, &host);
    assert_eq!((trail.take_queued(), trail.take_queued()), (2, 0));
    trail.tick(&host);
    ack(&mut trail, &host, 0, 1);
    assert_eq!(trail.take_queued(), -2);
    trail.record(access(&host, 2), None, &host);
    assert_eq!(trail.take_queued(), 1);
    trail.close(&host);
    assert_eq!(
        (trail.take_queued(), trail.take_queued()),
        (-1, 0),
        "a trail that is gone leaves nothing behind"
    );
}

#[test]
fn events_are_sent_once_and_forgotten_when_acknowledged() {
    let (host, mut trail) = (host(), Trail::new(settings(100)));
    trail.open(&host);
    trail.open(&host);
    trail.record(access(&host, 1), None, &host);
    assert_eq!((calls(&host), trail.queued_events()), (0, 2), "nothing is sent outside the root's callbacks");
    trail.tick(&host);
    trail.tick(&host);
    assert_eq!((calls(&host), sent_seqs(&host, 0)), (1, vec![0, 1]));
    let callout = host.callouts.borrow()[0].clone();
    assert_eq!(
        (callout.cluster.as_str(), callout.path.as_str(), callout.method),
        ("audit", "/v1/audit", "POST")
    );
    assert_eq!(callout.headers, [("content-type", String::from("application/x-ndjson"))]);
    ack(&mut trail, &host, 0, 1);
    assert!(trail.idle() && !trail.is_degraded());
    assert_eq!(sent(&host, 0)[0].text("type"), Some("open"));
    assert!(!reply(&mut trail, &host, 0, Some(200)), "a second reply is nobody's");
}

#[test]
fn a_partial_acknowledgement_sends_the_rest_again_and_only_that() {
    let (host, mut trail) = (host(), Trail::new(settings(100)));
    for id in 0..4 {
        trail.record(access(&host, id), None, &host);
    }
    trail.tick(&host);
    ack(&mut trail, &host, 0, 2);
    assert_eq!(sent_seqs(&host, 1), [3, 4]);
    assert_eq!(sent(&host, 1), sent(&host, 0)[3..]);
    ack(&mut trail, &host, 1, 4);
    assert!(trail.idle());
}

#[test]
fn while_the_collector_is_away_the_same_bytes_are_sent_again_for_ever() {
    let (host, mut trail) = (host(), Trail::new(settings(100)));
    trail.record(access(&host, 1), None, &host);
    trail.tick(&host);
    for (call, status) in
        [None, Some(503), Some(429), Some(502), Some(504), Some(500)].iter().cycle().take(200).enumerate()
    {
        assert!(reply(&mut trail, &host, u32::try_from(call).unwrap(), *status));
        trail.tick(&host);
        assert_eq!(calls(&host), call + 1, "no try before the wait is over");
        later(&mut trail, &host);
        assert_eq!(calls(&host), call + 2);
    }
    assert!(trail.is_degraded());
    let first = host.callouts.borrow()[0].body.clone();
    assert!(host.callouts.borrow().iter().all(|callout| callout.body == first));
    ack(&mut trail, &host, 200, 1);
    assert!(trail.idle() && !trail.is_degraded());
    assert_eq!(host.log.borrow().len(), 2, "one line when it begins, one when it ends");
}

#[test]
fn a_reply_that_never_comes_is_given_up_and_a_late_one_changes_nothing() {
    let (host, mut trail) = (host(), Trail::new(settings(100)));
    trail.record(access(&host, 1), None, &host);
    trail.tick(&host);
    host.advance(DEADLINE);
    trail.tick(&host);
    assert!(trail.is_degraded());
    assert!(!reply(&mut trail, &host, 0, Some(400)));
    later(&mut trail, &host);
    assert_eq!(calls(&host), 2);
}

#[test]
fn who_comes_after_a_root_does_not_wait_for_its_replies() {
    let (host, mut trail) = (host(), Trail::new(settings(100)));
    trail.record(access(&host, 1), None, &host);
    trail.tick(&host);
    trail.record(access(&host, 2), None, &host);
    trail.hand_over(&host);
    let before = calls(&host);
    trail.tick(&host);
    assert!(calls(&host) > before, "at once, not when the reply is overdue");
    assert_eq!(sent_seqs(&host, before).first(), Some(&0));
}

#[test]
fn a_proxy_that_cannot_dispatch_is_asked_again() {
    let (host, mut trail) = (host(), Trail::new(settings(100)));
    trail.record(access(&host, 1), None, &host);
    host.dispatch_fails.set(true);
    trail.tick(&host);
    host.dispatch_fails.set(false);
    trail.tick(&host);
    assert_eq!(calls(&host), 0);
    later(&mut trail, &host);
    assert_eq!(sent_seqs(&host, 0), [0, 1]);
}

#[test]
fn a_batch_refused_for_good_becomes_a_gap_that_follows_it() {
    let (host, mut trail) = (host(), Trail::new(settings(100)));
    for id in 0..3 {
        trail.record(access(&host, id), None, &host);
    }
    trail.tick(&host);
    ack(&mut trail, &host, 0, 1);
    trail.record(access(&host, 3), None, &host);
    for call in 1..=MAX_REFUSED {
        assert!(reply(&mut trail, &host, call, Some(422)));
        later(&mut trail, &host);
    }
    let at = calls(&host) - 1;
    let events = sent(&host, at);
    assert_eq!(sent_seqs(&host, at), [4, 5]);
    let gap = &events[0];
    assert_eq!((gap.text("type"), gap.text("reason")), (Some("gap"), Some("refused")));
    assert_eq!((gap.count("from"), gap.count("to"), gap.count("count")), (Some(2), Some(3), Some(2)));
    let lost = host.callouts.borrow()[0].body.clone();
    let last = lost.strip_suffix(b"\n").unwrap().rsplit(|byte| *byte == b'\n').next().unwrap();
    assert_eq!(gap.text("prev"), Some(hex(&Sha256::digest(last)).as_str()));
    assert_eq!((trail.dropped_total(), trail.take_dropped(), trail.take_dropped()), (2, 2, 0));
    ack(&mut trail, &host, u32::try_from(at).unwrap(), 5);
    assert!(trail.idle());
}

#[test]
fn overflow_is_counted_at_its_place_and_denials_go_last() {
    let (host, mut trail) = (host(), Trail::new(settings(3)));
    trail.record(AccessEvent { status: Status::Denied, ..access(&host, 0) }, None, &host);
    for id in 1..6 {
        trail.record(access(&host, id), None, &host);
    }
    trail.tick(&host);
    let kinds: Vec<_> = sent(&host, 0)
        .iter()
        .map(|event| {
            (
                event.text("type").unwrap().to_owned(),
                event.text("decision_id").map_or(99, |id| id.parse().unwrap()),
            )
        })
        .collect();
    let expected = [("open", 99), ("access", 0), ("gap", 99), ("access", 4), ("access", 5)];
    assert_eq!(kinds, expected.map(|(kind, id)| (String::from(kind), id)));
    assert_eq!(sent(&host, 0)[2].count("count"), Some(3));
    assert_eq!(trail.dropped_total(), 3);
}

#[test]
fn an_idle_chain_says_that_it_lives_and_a_busy_one_need_not() {
    let (host, mut trail) = (host(), Trail::new(settings(10)));
    trail.tick(&host);
    host.advance(HEARTBEAT * 2);
    trail.tick(&host);
    assert_eq!(calls(&host), 0, "without a stream there is no chain");
    trail.open(&host);
    trail.tick(&host);
    ack(&mut trail, &host, 0, 0);
    host.advance(HEARTBEAT / 2);
    trail.tick(&host);
    assert_eq!(calls(&host), 1);
    host.advance(HEARTBEAT / 2);
    trail.tick(&host);
    assert_eq!(sent(&host, 1)[0].text("type"), Some("heartbeat"));
    host.advance(HEARTBEAT * 3);
    trail.tick(&host);
    assert_eq!(trail.queued_events(), 1, "heartbeats do not pile up behind a collector that is away");
}

#[test]
fn a_closing_trail_sends_everything_at_once_with_the_close_last() {
    let (host, mut trail) = (host(), Trail::new(settings(5_000)));
    trail.record(access(&host, 0), None, &host);
    trail.tick(&host);
    for id in 1..3_000 {
        trail.record(access(&host, id), None, &host);
    }
    trail.close(&host);
    trail.close(&host);
    assert_eq!(calls(&host), 2);
    let events = sent(&host, 1);
    assert_eq!((events.len(), events.last().unwrap().text("type")), (3_000, Some("close")));
    ack(&mut trail, &host, 1, 3_001);
    assert!(!trail.idle());
    assert!(reply(&mut trail, &host, 0, None));
    later(&mut trail, &host);
    ack(&mut trail, &host, 2, 1);
    assert!(trail.idle());
}

#[test]
fn what_comes_after_the_close_gets_a_chain_of_its_own() {
    let (host, mut trail) = (host(), Trail::new(settings(10)));
    trail.record(access(&host, 0), None, &host);
    trail.close(&host);
    let closed = trail.chain().unwrap().to_owned();
    trail.record(access(&host, 1), None, &host);
    assert_ne!(trail.chain(), Some(closed.as_str()));
    let acked = format!("{{\"acked\":{{\"{closed}\":2}}}}");
    assert!(trail.on_reply(CalloutId(0), Some(200), acked.as_bytes(), &host));
    trail.tick(&host);
    let events = sent(&host, 1);
    assert_eq!(sent_seqs(&host, 1), [0, 1]);
    assert_eq!(events[0].text("prev_chain"), Some(closed.as_str()));
}

#[test]
fn a_trail_without_streams_closes_without_a_word() {
    let (host, mut trail) = (host(), Trail::new(settings(10)));
    trail.close(&host);
    trail.tick(&host);
    assert!(trail.idle() && calls(&host) == 0);
}

#[test]
fn a_new_configuration_is_recorded_with_both_revisions() {
    let (host, mut trail) = (host(), Trail::new(settings(10)));
    let revision = Revision { id: Some(String::from("4f2c")), ..Revision::default() };
    trail.config_changed(TrailSettings { revision: Some(revision.clone()), ..settings(10) }, &host);
    trail.record(access(&host, 0), None, &host);
    let next = TrailSettings { policy_revision: String::from("bb"), revision: None, ..settings(10) };
    assert!(trail.fits(&next));
    trail.config_changed(next, &host);
    trail.tick(&host);
    let events = sent(&host, 0);
    let kinds: Vec<_> = events.iter().filter_map(|event| event.text("type")).collect();
    assert_eq!(kinds, ["open", "config", "access", "config"]);
    assert_eq!(events[1].member("revision").unwrap().text("id"), Some("4f2c"));
    assert_eq!(
        (events[3].text("prev_policy_revision"), events[3].text("policy_revision")),
        (Some("aa"), Some("bb"))
    );
    let elsewhere = TrailSettings { cluster: String::from("other"), ..settings(10) };
    assert!(!trail.fits(&elsewhere));
}

#[test]
fn a_place_that_was_reserved_is_kept_and_a_dropped_one_is_given_back() {
    let (host, mut trail) = (host(), Trail::new(TrailSettings { on_full: OnFullSpec::Deny, ..settings(2) }));
    let first = trail.reserve().unwrap();
    let second = trail.reserve().unwrap();
    assert!(trail.reserve().is_err());
    drop(second);
    let second = trail.reserve().unwrap();
    let denial = AccessEvent { status: Status::Denied, reason: Some("no_match"), ..access(&host, 9) };
    trail.record(denial, None, &host);
    trail.record(access(&host, 1), Some(first), &host);
    trail.record(access(&host, 2), Some(second), &host);
    assert!(trail.reserve().is_err());
    trail.tick(&host);
    let kinds: Vec<_> = sent(&host, 0).iter().map(|event| event.text("type").unwrap().to_owned()).collect();
    assert_eq!(kinds, ["open", "gap", "access", "access"], "the one without a place is lost, and counted");
    assert!(trail.reserve().is_ok());
}

#[test]
fn without_random_bytes_events_wait_for_a_chain() {
    struct Dry(FakeHost);
    impl Host for Dry {
        fn unix_time(&self) -> UnixTime {
            self.0.unix_time()
        }
        fn monotonic(&self) -> Monotonic {
            self.0.monotonic()
        }
        fn random(&self, _: &mut [u8]) -> Result<(), HostError> {
            Err(HostError::Failed(10))
        }
        fn shared(&self, key: &str) -> Result<Option<crate::host::Versioned>, HostError> {
            self.0.shared(key)
        }
        fn compare_and_set(&self, key: &str, value: &[u8], expected: Version) -> Result<(), HostError> {
            self.0.compare_and_set(key, value, expected)
        }
        fn body(&self, body: crate::host::Body, start: usize, length: usize) -> Result<Vec<u8>, HostError> {
            self.0.body(body, start, length)
        }
        fn dispatch(&self, callout: &Callout) -> Result<CalloutId, HostError> {
            self.0.dispatch(callout)
        }
        fn define_metric(
            &self,
            kind: crate::host::MetricKind,
            name: &str,
        ) -> Result<crate::host::MetricId, HostError> {
            self.0.define_metric(kind, name)
        }
        fn add(&self, metric: crate::host::MetricId, by: i64) {
            self.0.add(metric, by);
        }
        fn record(&self, metric: crate::host::MetricId, value: u64) {
            self.0.record(metric, value);
        }
        fn log(&self, level: Level, line: &str) {
            self.0.log(level, line);
        }
    }
    let dry = Dry(host());
    let mut trail = Trail::new(settings(10));
    trail.record(access(&dry.0, 1), None, &dry);
    trail.tick(&dry);
    assert_eq!((calls(&dry.0), trail.queued_events()), (0, 1));
    trail.tick(&dry.0);
    assert_eq!(sent_seqs(&dry.0, 0), [0, 1]);
    assert_eq!(sent(&dry.0, 0)[0].text("type"), Some("open"));
}

#[test]
fn a_shared_value_that_is_not_a_chain_is_nobodys_predecessor() {
    let host = host();
    Trail::new(settings(10)).open(&host);
    for value in host.shared.borrow_mut().values_mut() {
        value.0 = b"\x01gate/../../etc".to_vec();
    }
    let mut trail = Trail::new(settings(10));
    trail.open(&host);
    trail.tick(&host);
    assert_eq!(sent(&host, 0)[0].member("prev_chain"), None);
    host.conflicts.set(u32::MAX);
    Trail::new(settings(10)).open(&host);
}

#[test]
fn nobodys_refusals_are_counted_as_anothers() {
    let (host, mut trail) = (host(), Trail::new(settings(100)));
    for id in 0..400 {
        let principal = if id % 2 == 0 { "alice" } else { "bob" };
        let refused = AccessEvent {
            principal: Some(String::from(principal)),
            status: Status::Denied,
            reason: Some("audit_unavailable"),
            source: Some(String::from("10.0.0.1")),
            ..access(&host, id)
        };
        trail.record(refused, None, &host);
    }
    trail.tick(&host);
    let told = |principal: &str| -> u64 {
        let events = sent(&host, 0);
        let theirs = events.iter().filter(|event| event.text("principal") == Some(principal));
        theirs.map(|event| event.count("count").unwrap_or(1)).sum()
    };
    assert_eq!((told("alice"), told("bob")), (200, 200));
    assert!(sent(&host, 0).len() < 100, "a flood is coalesced");
}
