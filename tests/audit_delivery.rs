//! A trail, a collector that does what collectors do, and a verifier that knows nothing of either: whatever fails
//! on the way, what arrives is intact but for losses that the trail itself declares.

#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a broken fixture should stop the test")]

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use mlgate::audit::chain::{MacKey, Signer};
use mlgate::audit::event::{AccessEvent, Status};
use mlgate::audit::export::{DEADLINE, HEARTBEAT, MAX_BACKOFF, Trail, TrailSettings};
use mlgate::audit::sealed::{Kind, SealedEvent};
use mlgate::audit::spec::OnFullSpec;
use mlgate::audit::verify::{Place, Report, Verdict, Verifier};
use mlgate::host::fake::FakeHost;
use mlgate::host::{CalloutId, Host as _};
use mlgate::time::UnixTime;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    /// Decisions.
    Record { count: u8, denied: bool },
    /// Refusals of callers nobody knows.
    Refuse { count: u8, sources: u8 },
    /// The root's tick.
    Tick,
    /// Time passes.
    Wait { millis: u32 },
    /// The oldest open callout ends.
    End(Ending),
    /// The proxy cannot start callouts, or can again.
    Dispatch { fails: bool },
    /// Another configuration.
    Configure,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    /// Stored and acknowledged.
    Acked,
    /// A part of it stored and acknowledged.
    Partly(u8),
    /// Stored, and the reply was lost.
    Unheard,
    /// The collector was away.
    Away(u16),
    /// The collector refused.
    Refused,
    /// It answered something else.
    Garbage,
    /// Neither stored nor answered.
    Lost,
}

struct World {
    host: FakeHost,
    trail: Trail,
    /// Callouts that nobody has answered.
    open: BTreeSet<usize>,
    seen: usize,
    stored: Vec<Vec<u8>>,
    recorded: u64,
}

fn settings(max_events: usize, on_full: OnFullSpec, keyed: bool) -> TrailSettings {
    TrailSettings {
        gate: String::from("gate"),
        version: String::from("0.1.0"),
        policy_revision: String::from("aa"),
        revision: None,
        cluster: String::from("audit"),
        path: String::from("/v1/audit"),
        max_events,
        max_bytes: 64 << 10,
        on_full,
        signer: if keyed { Signer::Keyed(key()) } else { Signer::Unkeyed },
    }
}

fn key() -> MacKey {
    MacKey::chain("c1", b"secret").unwrap()
}

impl World {
    fn new(settings: TrailSettings) -> Self {
        Self {
            host: FakeHost::at(UnixTime::from_millis(1_800_000_000_000)),
            trail: Trail::new(settings),
            open: BTreeSet::new(),
            seen: 0,
            stored: Vec::new(),
            recorded: 0,
        }
    }

    fn run(&mut self, op: &Op, settings: &TrailSettings) {
        match op {
            Op::Record { count, denied } => {
                for _ in 0..*count {
                    self.record(Some("alice"), *denied, None);
                }
            }
            Op::Refuse { count, sources } => {
                for source in 0..*count {
                    let source = source.checked_rem(*sources).unwrap_or(0);
                    self.record(None, true, Some(format!("10.0.0.{source}")));
                }
            }
            Op::Tick => self.trail.tick(&self.host),
            Op::Wait { millis } => self.host.advance(Duration::from_millis(u64::from(*millis))),
            Op::End(ending) => self.end(*ending),
            Op::Dispatch { fails } => self.host.dispatch_fails.set(*fails),
            Op::Configure => self.trail.config_changed(settings.clone(), &self.host),
        }
        let callouts = self.host.callouts.borrow().len();
        self.open.extend(self.seen..callouts);
        self.seen = callouts;
    }

    fn record(&mut self, principal: Option<&str>, denied: bool, source: Option<String>) {
        let reservation = self.trail.reserve().ok();
        let event = AccessEvent {
            timestamp: self.host.unix_time(),
            decision_id: format!("{:032x}", self.recorded),
            principal: principal.map(str::to_owned),
            source,
            status: if denied { Status::Denied } else { Status::Success },
            reason: denied.then_some("no_match"),
            ..AccessEvent::default()
        };
        self.trail.record(event, reservation, &self.host);
        self.recorded = self.recorded.saturating_add(1);
    }

    fn end(&mut self, ending: Ending) {
        let Some(call) = self.open.pop_first() else { return };
        let body = self.host.callouts.borrow().get(call).unwrap().body.clone();
        let lines: Vec<Vec<u8>> =
            body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
        let kept = match ending {
            Ending::Acked | Ending::Unheard => lines.len(),
            Ending::Partly(part) => usize::from(part).min(lines.len()),
            Ending::Away(_) | Ending::Refused | Ending::Garbage | Ending::Lost => 0,
        };
        let kept = lines.get(..kept).unwrap();
        self.stored.extend_from_slice(kept);
        let acked = kept.last().map(|line| SealedEvent::parse(line).unwrap());
        let acked = acked.map_or_else(
            || String::from("{\"acked\":{}}"),
            |event| format!("{{\"acked\":{{\"{}\":{}}}}}", event.chain, event.seq),
        );
        let (status, body) = match ending {
            Ending::Acked | Ending::Partly(_) => (Some(200), acked.as_str()),
            Ending::Away(status) => (Some(status), ""),
            Ending::Refused => (Some(422), "no"),
            Ending::Garbage => (Some(200), "{\"acked\":7"),
            Ending::Lost | Ending::Unheard => (None, ""),
        };
        let id = CalloutId(u32::try_from(call).unwrap());
        self.trail.on_reply(id, status, body.as_bytes(), &self.host);
    }

    /// The collector is well from now on.
    fn settle(&mut self, settings: &TrailSettings) {
        self.run(&Op::Dispatch { fails: false }, settings);
        self.trail.close(&self.host);
        for _ in 0..10_000 {
            self.run(&Op::Tick, settings);
            while !self.open.is_empty() {
                self.run(&Op::End(Ending::Acked), settings);
            }
            if self.trail.idle() {
                return;
            }
            self.host.advance(MAX_BACKOFF.max(DEADLINE));
        }
    }

    fn verify(&self, keyed: bool) -> Report {
        let mut verifier = Verifier::new(if keyed { vec![key()] } else { Vec::new() });
        let file: Rc<str> = Rc::from("log");
        for (line, event) in (1..).zip(&self.stored) {
            verifier.line(&Place { file: Rc::clone(&file), line }, event);
        }
        verifier.finish()
    }

    /// Decisions that arrived, each number once and each with its count.
    fn delivered(&self) -> u64 {
        let mut seen = BTreeSet::new();
        let mut sum: u64 = 0;
        for line in &self.stored {
            let event = SealedEvent::parse(line).unwrap();
            if event.kind == Kind::Access && seen.insert(event.seq) {
                let value: serde_json::Value = serde_json::from_slice(line).unwrap();
                let count = value.get("count").map_or(1, |count| count.as_u64().unwrap());
                sum = sum.saturating_add(count);
            }
        }
        sum
    }
}

fn endings() -> impl Strategy<Value = Ending> {
    prop_oneof![
        6 => Just(Ending::Acked),
        2 => any::<u8>().prop_map(Ending::Partly),
        2 => Just(Ending::Unheard),
        2 => prop_oneof![Just(429_u16), Just(502), Just(503), Just(504)].prop_map(Ending::Away),
        1 => Just(Ending::Garbage),
        1 => Just(Ending::Lost),
    ]
}

fn ops(endings: impl Strategy<Value = Ending> + 'static) -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0_u8..20, any::<bool>()).prop_map(|(count, denied)| Op::Record { count, denied }),
        2 => (any::<u8>(), 1_u8..100).prop_map(|(count, sources)| Op::Refuse { count, sources }),
        6 => Just(Op::Tick),
        3 => (0_u32..12_000).prop_map(|millis| Op::Wait { millis }),
        6 => endings.prop_map(Op::End),
        1 => any::<bool>().prop_map(|fails| Op::Dispatch { fails }),
        1 => Just(Op::Configure),
    ];
    proptest::collection::vec(op, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn nothing_is_lost_without_a_word(
        ops in ops(endings()), max_events in 1_usize..200, deny in any::<bool>(), keyed in any::<bool>(),
    ) {
        let on_full = if deny { OnFullSpec::Deny } else { OnFullSpec::DropOldest };
        let settings = settings(max_events, on_full, keyed);
        let mut world = World::new(settings.clone());
        for op in &ops {
            world.run(op, &settings);
        }
        world.settle(&settings);
        prop_assert!(world.trail.idle());
        prop_assume!(!world.stored.is_empty());

        let report = world.verify(keyed);
        let lost = world.trail.dropped_total();
        prop_assert_eq!(report.verdict, if lost > 0 { Verdict::Gaps } else { Verdict::Intact }, "{}", report);
        prop_assert!(report.chains.iter().all(|chain| chain.closed));
        prop_assert_eq!(report.lost, lost);
        prop_assert_eq!(world.delivered().saturating_add(lost), world.recorded);
    }

    /// With a collector that refuses for good, batches are given up. What was lost had numbers then, so the losses
    /// include the chain's own events; only that none of it goes unsaid can be asked.
    #[test]
    fn what_is_given_up_is_declared(
        ops in ops(prop_oneof![3 => Just(Ending::Refused), 1 => endings()]), keyed in any::<bool>(),
    ) {
        let settings = settings(1_000, OnFullSpec::DropOldest, keyed);
        let mut world = World::new(settings.clone());
        for op in ops.iter().cycle().take(ops.len().saturating_mul(2)) {
            world.run(op, &settings);
            world.run(&Op::Wait { millis: 6_000 }, &settings);
            world.run(&Op::Tick, &settings);
        }
        world.settle(&settings);
        prop_assume!(!world.stored.is_empty());
        let report = world.verify(keyed);
        let gaps = report.chains.iter().map(|chain| chain.gaps.total).sum::<u64>();
        // a gap may itself be given up: the next one then covers its number
        prop_assert_eq!(report.verdict, if gaps > 0 { Verdict::Gaps } else { Verdict::Intact }, "{}", report);
        prop_assert!(world.delivered().saturating_add(world.trail.dropped_total()) >= world.recorded);
    }
}

#[test]
fn a_collector_that_is_away_for_ten_seconds_costs_nothing_at_two_hundred_requests_a_second() {
    let settings = settings(10_000, OnFullSpec::DropOldest, true);
    let settings = TrailSettings { max_bytes: 16 << 20, ..settings };
    let mut world = World::new(settings.clone());
    for tick in 0..300 {
        world.run(&Op::Record { count: 20, denied: false }, &settings);
        world.run(&Op::Wait { millis: 100 }, &settings);
        world.run(&Op::Tick, &settings);
        let away = (100..200).contains(&tick);
        world.run(&Op::End(if away { Ending::Away(503) } else { Ending::Acked }), &settings);
    }
    assert_eq!(world.trail.dropped_total(), 0);
    assert!(world.trail.queued_events() <= 20, "{} wait", world.trail.queued_events());
    world.settle(&settings);
    let report = world.verify(true);
    assert_eq!((report.verdict, world.delivered()), (Verdict::Intact, 6_000), "{report}");
}

#[test]
fn five_thousand_events_a_second_leave_in_time_even_when_each_reply_takes_a_tick() {
    let settings = TrailSettings { max_bytes: 16 << 20, ..settings(10_000, OnFullSpec::DropOldest, true) };
    let mut world = World::new(settings.clone());
    let mut most = 0;
    for _ in 0..100 {
        for _ in 0..2 {
            world.run(&Op::Record { count: 250, denied: false }, &settings);
        }
        world.run(&Op::Wait { millis: 100 }, &settings);
        world.run(&Op::End(Ending::Acked), &settings);
        world.run(&Op::Tick, &settings);
        most = most.max(world.trail.queued_events());
    }
    assert!(most <= 1_001, "{most} waited");
    assert_eq!(world.trail.dropped_total(), 0);
}

#[test]
fn an_idle_hour_is_sixty_heartbeats() {
    let settings = settings(10, OnFullSpec::DropOldest, true);
    let mut world = World::new(settings.clone());
    world.trail.open(&world.host);
    for _ in 0..3_600 {
        world.run(&Op::Tick, &settings);
        world.run(&Op::End(Ending::Acked), &settings);
        world.run(&Op::Wait { millis: 1_000 }, &settings);
    }
    let beats =
        world.stored.iter().filter(|line| SealedEvent::parse(line).unwrap().kind == Kind::Heartbeat).count();
    assert!((58..=60).contains(&beats), "{beats} in {HEARTBEAT:?} each");
}
