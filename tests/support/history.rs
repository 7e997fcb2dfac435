//! Generated audit histories: callers with a daily rhythm, and incidents that are labelled. Events are genuine sealed
//! events that `mlgate audit verify` accepts; that they are generated shows in the gate's name, and nobody vouches
//! for them (`mac` is `unkeyed`).
//!
//! The same settings give the same bytes: chance and identifiers come from the seed alone.

#![expect(clippy::arithmetic_side_effects, reason = "an overflow should stop the generator")]

use std::io::{self, Write};

use mlgate::audit::chain::{Chain, Signer, hex};
use mlgate::audit::event::{
    AccessEvent, AuditEvent, CredentialFacts, Draft, OpenEvent, ResourceFacts, Status,
};
use mlgate::audit::queue::{Next, Queue, QueueSettings, RefusalKey};
use mlgate::audit::spec::OnFullSpec;
use mlgate::time::UnixTime;

/// The name of the gate that never was.
pub const GATE: &str = "generated";

/// What a history consists of.
#[derive(Clone, Debug)]
pub struct History {
    /// Its end, taken back to the full hour; incidents are in its last 24 hours.
    pub until: UnixTime,
    /// Its length; 31 for a day and the 30 that say what is normal.
    pub days: u32,
    /// Callers; at least 8, one of them a service that works at night.
    pub callers: u32,
    /// What goes wrong.
    pub incidents: Vec<Incident>,
    /// Where chance begins.
    pub seed: u64,
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incident {
    /// Somebody without an identity tries keys from one address.
    AddressProbing,
    /// An employee who leaves: 10 requests an hour for a month, then 10 000 in one, no minute of it over the limit.
    Insider,
    /// A principal tries what it may not, patiently.
    Probing,
    /// As the insider, but under any fixed threshold: 400 in an hour.
    QuietInsider,
    /// A principal looks around among models.
    Reconnaissance,
    /// A batch service sends everything again and again, 300 requests a second.
    RetryLoop,
    /// A key is used from elsewhere, as fast as it goes.
    StolenKey,
}

/// What an analysis should find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// What went wrong.
    pub incident: Incident,
    /// The principal, or the address where nobody was authenticated.
    pub caller: String,
    /// The alerts that are due, no more and no less.
    pub rules: &'static [&'static str],
    /// The beginning.
    pub since: UnixTime,
}

/// Writes events to `out`, worker by worker in the order of time.
struct Writer<'a, W> {
    out: &'a mut W,
    chains: [Chain; WORKERS],
    line: Vec<u8>,
}

/// Splitmix64: chance that can be repeated.
struct Chance(u64);

struct Planned {
    at: i64,
    draft: Draft,
}

const WORKERS: usize = 2;
const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * HOUR;

/// Requests of a person in an hour, in tenths of its usual ten, from 8 to 18 o'clock UTC.
const RHYTHM: [u64; 10] = [4, 9, 12, 10, 6, 9, 12, 11, 8, 4];
const MODELS: [&str; 4] = ["churn_v3", "credit_scoring_v1", "demand_forecast_v2", "fraud_detector_v2"];
const SERVICE: &str = "batch_scoring";

// === impl History ===

impl History {
    /// A month of eight callers and the day after it, without incidents.
    pub fn clean(until: UnixTime) -> Self {
        Self { until, days: 31, callers: 8, incidents: Vec::new(), seed: 1 }
    }

    /// The same with incidents.
    pub fn with(until: UnixTime, incidents: &[Incident]) -> Self {
        Self { incidents: incidents.to_vec(), ..Self::clean(until) }
    }

    /// Its beginning.
    pub fn since(&self) -> UnixTime {
        UnixTime::from_millis(self.end() - i64::from(self.days) * DAY)
    }

    /// Writes one event on each line, and says what an analysis should find.
    pub fn write(&self, out: &mut impl Write) -> io::Result<Vec<Label>> {
        let mut chance = Chance(self.seed);
        let mut writer = Writer::open(out, &mut chance, self.since())?;
        let mut hour = self.since().millis();
        while hour < self.end() {
            let mut planned = Vec::new();
            self.plan(hour, &mut chance, &mut planned);
            for incident in &self.incidents {
                incident.plan(hour, self.end() - DAY, &mut chance, &mut planned);
            }
            planned.sort_by_key(|planned| planned.at);
            for planned in &planned {
                writer.seal(chance.below(2), &planned.draft)?;
            }
            hour += HOUR;
        }
        writer.close(UnixTime::from_millis(self.end()))?;
        Ok(self.incidents.iter().map(|incident| incident.label(self.end() - DAY)).collect())
    }

    fn end(&self) -> i64 {
        self.until.millis().div_euclid(HOUR) * HOUR
    }

    /// What normal callers do in an hour.
    fn plan(&self, hour: i64, chance: &mut Chance, planned: &mut Vec<Planned>) {
        let of_day = hour.div_euclid(HOUR).rem_euclid(24);
        // 1970 began on a Thursday
        let weekend = (hour.div_euclid(DAY) + 3).rem_euclid(7) >= 5;
        let share = usize::try_from(of_day - 8).ok().and_then(|index| RHYTHM.get(index));
        if let Some(share) = share.filter(|_| !weekend) {
            for number in 1..self.callers {
                let count = share * chance.between(5, 16) / 10;
                for _ in 0..count {
                    planned.push(Planned::normal(&person(number), number, hour, chance));
                }
            }
        }
        if of_day == 2 {
            for _ in 0..chance.between(120, 181) {
                planned.push(Planned::normal(SERVICE, 0, hour, chance));
            }
        }
    }
}

// === impl Incident ===

impl Incident {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::AddressProbing,
        Self::Insider,
        Self::Probing,
        Self::QuietInsider,
        Self::Reconnaissance,
        Self::RetryLoop,
        Self::StolenKey,
    ];

    /// As the generator's arguments and labels name it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::AddressProbing => "address_probing",
            Self::Insider => "insider",
            Self::Probing => "probing",
            Self::QuietInsider => "quiet_insider",
            Self::Reconnaissance => "reconnaissance",
            Self::RetryLoop => "retry_loop",
            Self::StolenKey => "stolen_key",
        }
    }

    /// Hours of the last day in which it happens: the first, and how many.
    const fn hours(self) -> (i64, i64) {
        match self {
            Self::AddressProbing => (3, 1),
            Self::Insider => (21, 1),
            Self::Probing => (13, 8),
            Self::QuietInsider => (20, 1),
            Self::Reconnaissance => (16, 2),
            Self::RetryLoop => (4, 1),
            Self::StolenKey => (14, 1),
        }
    }

    fn label(self, last_day: i64) -> Label {
        const VOLUME: &[&str] = &["HIGH_REQUEST_VOLUME"];
        const ERRORS: &[&str] = &["HIGH_ERROR_RATE"];
        const BOTH: &[&str] = &["HIGH_ERROR_RATE", "HIGH_REQUEST_VOLUME"];
        let (caller, rules) = match self {
            Self::AddressProbing => (String::from("198.51.100.7"), ERRORS),
            Self::Insider => (person(3), VOLUME),
            Self::Probing => (person(6), ERRORS),
            Self::QuietInsider => (person(4), VOLUME),
            Self::Reconnaissance => (person(5), &["MULTI_MODEL_ACCESS"][..]),
            Self::RetryLoop => (String::from(SERVICE), BOTH),
            Self::StolenKey => (person(2), BOTH),
        };
        let since = UnixTime::from_millis(last_day + self.hours().0 * HOUR);
        Label { incident: self, caller, rules, since }
    }

    /// What it does in an hour.
    fn plan(self, hour: i64, last_day: i64, chance: &mut Chance, planned: &mut Vec<Planned>) {
        let (first, hours) = self.hours();
        let begun = hour - last_day - first * HOUR;
        if !(0..hours * HOUR).contains(&begun) {
            return;
        }
        let mut add = |at: i64, caller: u32, change: &dyn Fn(&mut AccessEvent)| {
            let name = if caller == 0 { String::from(SERVICE) } else { person(caller) };
            let mut event = access(&name, caller, hour + at, chance);
            change(&mut event);
            planned.push(Planned::of(event));
        };
        match self {
            Self::Insider => (0..10_000).for_each(|n| add(n * 360, 3, &|_| {})),
            Self::QuietInsider => (0..400).for_each(|n| add(n * 9_000, 4, &|_| {})),
            // 100 a minute are admitted, the others are not
            Self::StolenKey => (0..5_000).for_each(|n| {
                add(5 * MINUTE + n * 240, 2, &|event| {
                    event.source = Some(String::from("203.0.113.66"));
                    if n % 250 >= 100 {
                        refuse(event, "rate_limited", 429);
                    }
                });
            }),
            Self::RetryLoop => (0..18_000).for_each(|n| {
                add(10 * MINUTE + n * 10 / 3, 0, &|event| {
                    if n >= 1_200 {
                        refuse(event, "rate_limited", 429);
                    }
                });
            }),
            Self::Reconnaissance => (0..7).for_each(|n| {
                for again in 0..2 {
                    add(n * 8 * MINUTE + again * 2_000, 5, &|event| {
                        name_model(event, &format!("candidate_model_{}", n + begun / HOUR * 7));
                        if n % 2 == 0 {
                            refuse(event, "no_match", 403);
                        }
                    });
                }
            }),
            Self::Probing => (0..45).for_each(|n| {
                add(n * 79_000, 6, &|event| {
                    let reason = if n % 3 == 0 { "explicit_deny" } else { "no_match" };
                    event.action = Some(String::from(if n % 3 == 0 { "delete" } else { "export" }));
                    if n % 10 != 0 {
                        refuse(event, reason, 403);
                    }
                });
            }),
            Self::AddressProbing => flood(hour, 600, chance, planned),
        }
    }
}

// === impl Planned ===

impl Planned {
    fn of(event: AccessEvent) -> Self {
        let at = event.timestamp.millis();
        Self { at, draft: AuditEvent::Access(Box::new(event)).draft(GATE) }
    }

    /// A request as most are; a few are refused or fail.
    fn normal(caller: &str, number: u32, hour: i64, chance: &mut Chance) -> Self {
        let at = hour + i64::try_from(chance.below(3_600_000)).unwrap_or(0);
        let mut event = access(caller, number, at, chance);
        match chance.below(200) {
            0 | 1 => refuse(&mut event, "no_match", 403),
            2 => {
                event.status = Status::Error;
                event.reason = Some("upstream_status");
                event.http_status = Some(503);
            }
            _ => {}
        }
        Self::of(event)
    }
}

// === impl Writer ===

impl<'a, W: Write> Writer<'a, W> {
    fn open(out: &'a mut W, chance: &mut Chance, timestamp: UnixTime) -> io::Result<Self> {
        let chains = [(); WORKERS].map(|()| Chain::new(GATE, chance.bytes()));
        let mut writer = Self { out, chains, line: Vec::new() };
        let open = AuditEvent::Open(OpenEvent {
            timestamp,
            version: String::from("0.0.0-generated"),
            policy_revision: REVISION.to_owned(),
            prev_chain: None,
        });
        for worker in [0, 1] {
            writer.seal(worker, &open.draft(GATE))?;
        }
        Ok(writer)
    }

    fn close(&mut self, timestamp: UnixTime) -> io::Result<()> {
        for worker in [0, 1] {
            self.seal(worker, &AuditEvent::Close(timestamp).draft(GATE))?;
        }
        self.out.flush()
    }

    fn seal(&mut self, worker: u64, draft: &Draft) -> io::Result<()> {
        let [first, second] = &mut self.chains;
        let chain = if worker == 0 { first } else { second };
        self.line.clear();
        chain.seal(draft, &Signer::Unkeyed, &mut self.line);
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }
}

// === impl Chance ===

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn between(&mut self, first: u64, end: u64) -> u64 {
        first + self.below(end - first)
    }

    fn bytes(&mut self) -> [u8; 16] {
        (u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes()
    }

    fn hash(&mut self) -> String {
        format!("sha256:{}{}", hex(&self.bytes()), hex(&self.bytes()))
    }
}

const REVISION: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn person(number: u32) -> String {
    format!("user_{number}")
}

/// A request that succeeds. Each caller has its own team, address, key and up to three models.
fn access(caller: &str, number: u32, at: i64, chance: &mut Chance) -> AccessEvent {
    let service = number == 0;
    let models = 1 + u64::from(number % 3);
    let model = (u64::from(number) + if service { 0 } else { chance.below(models) }) % 4;
    let model = usize::try_from(model).ok().and_then(|index| MODELS.get(index)).copied().unwrap_or_default();
    let team = ["data_science", "fraud", "marketing", "risk"];
    let team =
        usize::try_from(number % 4).ok().and_then(|index| team.get(index)).copied().unwrap_or_default();
    let mut event = AccessEvent {
        timestamp: UnixTime::from_millis(at),
        decision_id: hex(&chance.bytes()),
        request_id: Some(hex(&chance.bytes())),
        principal: Some(caller.to_owned()),
        user_id: Some(caller.to_owned()),
        org: Some(String::from("acme")),
        roles: vec![String::from(if service { "service" } else { "data_scientist" })],
        tier: Some(String::from(if service { "batch" } else { "pro" })),
        team: Some(team.to_owned()),
        credential: Some(CredentialFacts {
            method: String::from("api_key"),
            id: Some(format!("gen{number:05}")),
            ..CredentialFacts::default()
        }),
        action: Some(String::from("predict")),
        method: Some(String::from("POST")),
        host: Some(String::from("models.acme.example")),
        profile: Some(String::from("default")),
        status: Status::Success,
        policies: vec![String::from("role:data_scientist")],
        policy_revision: Some(REVISION.to_owned()),
        http_status: Some(200),
        duration_ms: Some(chance.between(8, 120)),
        input_hash: Some(chance.hash()),
        output_hash: Some(chance.hash()),
        input_bytes: Some(chance.between(200, 4_000)),
        output_bytes: Some(chance.between(50, 900)),
        source: Some(format!("10.0.{}.{}", number / 250, 1 + number % 250)),
        ..AccessEvent::default()
    };
    name_model(&mut event, model);
    event
}

fn name_model(event: &mut AccessEvent, model: &str) {
    event.model_id = Some(model.to_owned());
    event.resource = Some(ResourceFacts { kind: String::from("model"), id: model.to_owned() });
    event.path = Some(format!("/v1/models/{model}:predict"));
}

fn refuse(event: &mut AccessEvent, reason: &'static str, status: u16) {
    event.status = Status::Denied;
    event.reason = Some(reason);
    event.http_status = Some(status);
    event.duration_ms = Some(0);
    (event.output_hash, event.output_bytes) = (None, None);
}

/// Keys that do not exist, from one address within two minutes: through the queue of the filter, which counts equal
/// ones together.
fn flood(hour: i64, count: i64, chance: &mut Chance, planned: &mut Vec<Planned>) {
    let source = Some(String::from("198.51.100.7"));
    let settings = QueueSettings { max_events: 100, max_bytes: 1 << 20, on_full: OnFullSpec::DropOldest };
    let mut queue = Queue::new(settings);
    let mut last = hour;
    for n in 0..count {
        last = hour + 7 * MINUTE + n * 200;
        let mut event = AccessEvent {
            timestamp: UnixTime::from_millis(last),
            decision_id: hex(&chance.bytes()),
            source: source.clone(),
            method: Some(String::from("POST")),
            profile: Some(String::from("default")),
            ..AccessEvent::default()
        };
        refuse(&mut event, "credential_invalid", 401);
        let draft = AuditEvent::Access(Box::new(event)).draft(GATE);
        let key = RefusalKey {
            reason: "credential_invalid",
            principal: None,
            source: source.clone(),
            profile: None,
        };
        let by_reason = draft.clone();
        queue.push_refusal(key, draft, || by_reason);
    }
    while let Some(next) = queue.pop() {
        if let Next::Event(draft) = next {
            planned.push(Planned { at: last, draft });
        }
    }
}
