//! A trail: events of one gate on their way to one collector, from the queue to the acknowledgement.
//!
//! One batch is on its way at a time. While it is not acknowledged the very same bytes are sent again, however
//! long the collector is away; what happens meanwhile waits in the queue, and overflows by its rule. A collector
//! that answers and refuses is asked [`MAX_REFUSED`] times; then the batch is given up and a `gap` with its range
//! takes its place, linked to the last event lost.
//!
//! Nothing but the root context may call what starts callouts: [`Trail::tick`], [`Trail::on_reply`],
//! [`Trail::close`]. A reply may never come, so each callout has a deadline here beside the proxy's own timeout.

use std::collections::VecDeque;
use std::time::Duration;

use self::batch::{Batch, Flight, MAX_BATCH_EVENTS, Reply};
use crate::audit::chain::{Chain, Signer};
use crate::audit::event::{
    AccessEvent, AuditEvent, ConfigEvent, Draft, GapEvent, GapReason, OpenEvent, Revision, Status,
};
use crate::audit::queue::{Full, Next, Queue, QueueSettings, RefusalKey, Reservation, Worth};
use crate::audit::spec::OnFullSpec;
use crate::host::{Callout, CalloutId, Host, Level};
use crate::time::Monotonic;

pub mod batch;
mod last_chain;

/// An idle chain says that it lives.
pub const HEARTBEAT: Duration = Duration::from_secs(60);

/// The proxy's timeout of one call.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// When a call without a reply is taken for lost.
pub const DEADLINE: Duration = Duration::from_secs(8);

/// The first wait after a failure; doubles with each.
pub const BACKOFF: Duration = Duration::from_millis(200);

/// The longest wait between tries.
pub const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// The longest time that a collector is left alone because it asked for that (`Retry-After`).
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Permanent refusals of one batch before it is given up.
pub const MAX_REFUSED: u32 = 20;

/// What one trail is for.
#[derive(Clone, Debug)]
pub struct TrailSettings {
    /// Name of the gate: `[a-z0-9_-]`, 1 to 32.
    pub gate: String,
    /// Of the filter.
    pub version: String,
    /// SHA-256 of the canonical configuration.
    pub policy_revision: String,
    /// What the document says of itself.
    pub revision: Option<Revision>,
    /// Envoy's name of the collector's cluster.
    pub cluster: String,
    /// Path of the `POST`.
    pub path: String,
    /// Decisions that may wait.
    pub max_events: usize,
    /// Their bytes.
    pub max_bytes: usize,
    /// What happens beyond.
    pub on_full: OnFullSpec,
    /// Who vouches for the events.
    pub signer: Signer,
}

/// See the module. One per gate and collector in one VM, shared by the roots of two configurations.
#[derive(Debug)]
pub struct Trail {
    settings: TrailSettings,
    chain: Option<Chain>,
    queue: Queue,
    batches: VecDeque<Batch>,
    closing: bool,
    failures: u32,
    refused: u32,
    retry_at: Monotonic,
    quiet_since: Monotonic,
    degraded: bool,
    given_up: u64,
    told_dropped: u64,
    told_queued: u64,
}

// === impl TrailSettings ===

impl TrailSettings {
    const fn queue(&self) -> QueueSettings {
        QueueSettings { max_events: self.max_events, max_bytes: self.max_bytes, on_full: self.on_full }
    }
}

// === impl Trail ===

impl Trail {
    /// A trail without a chain; the first event opens one.
    pub fn new(settings: TrailSettings) -> Self {
        Self {
            queue: Queue::new(settings.queue()),
            settings,
            chain: None,
            batches: VecDeque::new(),
            closing: false,
            failures: 0,
            refused: 0,
            retry_at: Monotonic::default(),
            quiet_since: Monotonic::default(),
            degraded: false,
            given_up: 0,
            told_dropped: 0,
            told_queued: 0,
        }
    }

    /// Whether events under these settings belong here. If not they need a trail of their own: a chain is of one
    /// gate, goes to one collector and is keyed from its first event to its last, or not at all.
    pub fn fits(&self, settings: &TrailSettings) -> bool {
        self.settings.gate == settings.gate
            && self.settings.cluster == settings.cluster
            && self.settings.path == settings.path
            && self.settings.signer.is_keyed() == settings.signer.is_keyed()
            && !self.closing
    }

    /// Opens the chain: call it with the VM's first stream. Later calls do nothing. Without random bytes there is no
    /// chain yet: events wait, and the tick tries again.
    pub fn open(&mut self, host: &dyn Host) {
        let mut nonce = [0; 16];
        if self.chain.is_some() || host.random(&mut nonce).is_err() {
            return;
        }
        let chain = Chain::new(&self.settings.gate, nonce);
        let prev_chain = last_chain::exchange(&self.settings, chain.id(), host);
        self.chain = Some(chain);
        self.quiet_since = host.monotonic();
        let open = OpenEvent {
            timestamp: host.unix_time(),
            version: self.settings.version.clone(),
            policy_revision: self.settings.policy_revision.clone(),
            prev_chain,
        };
        self.queue.push_open(AuditEvent::Open(open).draft(&self.settings.gate));
        if self.settings.revision.is_some() {
            self.push_config(None, host);
        }
    }

    /// The configuration that took effect last.
    pub fn policy_revision(&self) -> &str {
        &self.settings.policy_revision
    }

    /// A configuration that [fits](Self::fits) takes effect.
    pub fn config_changed(&mut self, settings: TrailSettings, host: &dyn Host) {
        let before = std::mem::replace(&mut self.settings, settings);
        self.queue.set(self.settings.queue());
        if self.chain.is_some() {
            self.push_config(Some(before.policy_revision), host);
        }
    }

    /// A place for the event of a request that is about to be admitted; dropping it gives the place back.
    pub fn reserve(&self) -> Result<Reservation, Full> {
        self.queue.reserve()
    }

    /// Takes one event, with the place that was reserved for it.
    pub fn record(&mut self, event: AccessEvent, reservation: Option<Reservation>, host: &dyn Host) {
        if self.closing {
            // a stream that outlived the close: it gets a chain of its own, since nothing may follow a `close`
            self.closing = false;
            self.chain = None;
        }
        self.open(host);
        let gate = &self.settings.gate;
        let event = Box::new(event);
        if event.is_coalescible() {
            let key = RefusalKey {
                reason: event.reason.unwrap_or_default(),
                principal: event.principal.clone(),
                source: event.source.clone(),
                profile: event.profile.clone(),
            };
            let stands_for_many = AccessEvent {
                timestamp: event.timestamp,
                decision_id: event.decision_id.clone(),
                status: event.status,
                reason: event.reason,
                http_status: event.http_status,
                policy_revision: event.policy_revision.clone(),
                ..AccessEvent::default()
            };
            let draft = AuditEvent::Access(event).draft(gate);
            self.queue.push_refusal(key, draft, || AuditEvent::Access(Box::new(stands_for_many)).draft(gate));
        } else {
            let worth = match event.status {
                _ if event.is_strangers() => Worth::Stranger,
                Status::Denied => Worth::Denial,
                Status::Aborted | Status::Error | Status::Success => Worth::Routine,
            };
            self.queue.push(AuditEvent::Access(event).draft(gate), worth, reservation);
        }
    }

    /// Sends what waits and looks after what is on its way. Call it every 100 ms or so while not [idle](Self::idle),
    /// and at least once per [`HEARTBEAT`].
    pub fn tick(&mut self, host: &dyn Host) {
        let now = host.monotonic();
        let mut late = false;
        for batch in &mut self.batches {
            if batch.flight.is_some_and(|flight| flight.deadline <= now) {
                batch.flight = None;
                late = true;
            }
        }
        if late {
            self.failed("no reply", host);
        }
        if !self.queue.is_empty() {
            self.open(host);
        }
        if self.chain.is_some() && !self.closing && self.idle() && now.since(self.quiet_since) >= HEARTBEAT {
            let heartbeat = AuditEvent::Heartbeat(host.unix_time());
            self.queue.push_control(heartbeat.draft(&self.settings.gate));
        }
        self.send(host);
    }

    /// Takes the reply to a callout: `None` for a timeout or a failure of the proxy. `false`: not one of ours.
    pub fn on_reply(&mut self, id: CalloutId, status: Option<u16>, body: &[u8], host: &dyn Host) -> bool {
        let is_it = |batch: &Batch| batch.flight.is_some_and(|flight| flight.id == id);
        let Some(at) = self.batches.iter().position(is_it) else { return false };
        let Some(batch) = self.batches.get_mut(at) else { return false };
        batch.flight = None;
        match Reply::read(status, body, &batch.chain) {
            Reply::Acked(seq) => {
                let progress = batch.acknowledge(seq);
                if batch.seals.is_empty() {
                    self.batches.remove(at);
                }
                if progress {
                    self.delivered(host);
                } else {
                    self.failed("nothing acknowledged", host);
                }
            }
            Reply::Refused(status) => self.refused(status, host),
            Reply::Failed => {
                let what =
                    status.map_or_else(|| String::from("no reply"), |status| format!("status {status}"));
                self.failed(&what, host);
            }
        }
        // a full batch need not wait for the tick
        if !self.batches.is_empty() || self.queue.len() >= MAX_BATCH_EVENTS {
            self.send(host);
        }
        true
    }

    /// The collector did not take a batch and said how long it wants to be left alone.
    pub fn leave_alone(&mut self, wait: Duration, host: &dyn Host) {
        self.retry_at = self.retry_at.max(host.monotonic().plus(wait.min(MAX_RETRY_AFTER)));
    }

    /// A root leaves and others stay: sends once more, and expects no reply, since none comes to a root that is gone.
    /// What was taken all the same is sent again by the next tick and known to the collector.
    pub fn hand_over(&mut self, host: &dyn Host) {
        self.send(host);
        for batch in &mut self.batches {
            batch.flight = None;
        }
    }

    /// Ends the chain and sends everything that is left. Call it from the last root's `on_done`.
    pub fn close(&mut self, host: &dyn Host) {
        if !self.closing {
            self.closing = true;
            if !self.queue.is_empty() {
                self.open(host);
            }
            if self.chain.is_some() {
                self.queue.push_control(AuditEvent::Close(host.unix_time()).draft(&self.settings.gate));
            }
            self.retry_at = host.monotonic();
        }
        self.send(host);
    }

    /// Whether nothing waits and nothing is on its way.
    pub fn idle(&self) -> bool {
        self.queue.is_empty() && self.batches.is_empty()
    }

    /// How [queued events](Self::queued_events) changed since this was asked last: each worker adds its own to what all
    /// have. A trail that closes has none to wait for.
    pub fn take_queued(&mut self) -> i64 {
        let now = if self.closing { 0 } else { self.queued_events() };
        let before = std::mem::replace(&mut self.told_queued, now);
        now.checked_signed_diff(before).unwrap_or(0)
    }

    /// Events that no collector has acknowledged: `mlgate_audit_queue_events`.
    pub fn queued_events(&self) -> u64 {
        let sealed = self.batches.iter().map(|batch| batch.seals.len());
        let events = sealed.fold(self.queue.len(), usize::saturating_add);
        u64::try_from(events).unwrap_or(u64::MAX)
    }

    /// Events lost since this was asked last.
    pub const fn take_dropped(&mut self) -> u64 {
        let total = self.dropped_total();
        let new = total.saturating_sub(self.told_dropped);
        self.told_dropped = total;
        new
    }

    /// Events lost and declared: `mlgate_audit_dropped_total`.
    pub const fn dropped_total(&self) -> u64 {
        self.queue.dropped_total().saturating_add(self.given_up)
    }

    /// Whether the collector did not take the last batch.
    pub const fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// The chain's id once it is open.
    pub fn chain(&self) -> Option<&str> {
        self.chain.as_ref().map(Chain::id)
    }

    fn push_config(&mut self, before: Option<String>, host: &dyn Host) {
        let config = ConfigEvent {
            timestamp: host.unix_time(),
            policy_revision: self.settings.policy_revision.clone(),
            prev_policy_revision: before,
            revision: self.settings.revision.clone(),
        };
        self.queue.push_control(AuditEvent::Config(config).draft(&self.settings.gate));
    }

    /// Starts every callout that may start now.
    fn send(&mut self, host: &dyn Host) {
        let now = host.monotonic();
        self.seal(now, host);
        if now < self.retry_at {
            return;
        }
        let authority = self.settings.cluster.clone();
        let mut error = None;
        for batch in self.batches.iter_mut().filter(|batch| batch.flight.is_none()) {
            let callout = Callout {
                cluster: self.settings.cluster.clone(),
                path: self.settings.path.clone(),
                method: "POST",
                authority: authority.clone(),
                headers: vec![("content-type", String::from("application/x-ndjson"))],
                body: batch.body.clone(),
                timeout: TIMEOUT,
            };
            match host.dispatch(&callout) {
                Ok(id) => batch.flight = Some(Flight { id, deadline: now.plus(DEADLINE) }),
                Err(why) => {
                    error = Some(why);
                    break;
                }
            }
        }
        if let Some(error) = error {
            self.failed(&format!("{error:?}"), host);
        }
    }

    /// Moves events from the queue into batches: into one while none is unacknowledged, and all of them at the end.
    fn seal(&mut self, now: Monotonic, host: &dyn Host) {
        if self.chain.is_none() {
            return;
        }
        let closing = self.closing;
        while !self.queue.is_empty() && (self.closing || self.batches.is_empty()) {
            // INVARIANT: only the last batch grows, and only while nothing of it is on its way
            let chain = self.chain().unwrap_or_default().to_owned();
            let grows =
                |batch: &mut Batch| batch.flight.is_none() && batch.chain == chain && !batch.is_full(closing);
            let mut batch = self.batches.pop_back_if(grows).unwrap_or_else(|| Batch::of(&chain));
            self.fill(&mut batch, host);
            self.batches.push_back(batch);
            self.quiet_since = now;
        }
    }

    fn fill(&mut self, batch: &mut Batch, host: &dyn Host) {
        while !batch.is_full(self.closing) {
            let draft = match self.queue.pop() {
                Some(Next::Event(draft)) => draft,
                Some(Next::Lost(count)) => self.gap(count, GapReason::Overflow, None, host),
                None => break,
            };
            self.append(batch, &draft);
        }
    }

    fn append(&mut self, batch: &mut Batch, draft: &Draft) {
        if let Some(chain) = &mut self.chain {
            let seal = chain.seal(draft, &self.settings.signer, &mut batch.body);
            batch.body.push(b'\n');
            batch.seals.push_back((seal, batch.body.len()));
        }
    }

    fn gap(&self, count: u64, reason: GapReason, range: Option<(u64, u64)>, host: &dyn Host) -> Draft {
        let gap = GapEvent { timestamp: host.unix_time(), count, reason, range };
        AuditEvent::Gap(gap).draft(&self.settings.gate)
    }

    fn delivered(&mut self, host: &dyn Host) {
        self.failures = 0;
        self.refused = 0;
        self.retry_at = host.monotonic();
        if self.degraded {
            self.degraded = false;
            host.log(Level::Info, &format!("audit collector `{}` takes events again", self.settings.cluster));
        }
    }

    /// Waits before the next try: at least half of the doubled time, the rest is chance, so that many workers
    /// do not come back in step.
    fn failed(&mut self, what: &str, host: &dyn Host) {
        if !self.degraded {
            self.degraded = true;
            host.log(
                Level::Warn,
                &format!(
                    "audit collector `{}` did not take events ({what}): they wait",
                    self.settings.cluster
                ),
            );
        }
        let wait =
            BACKOFF.saturating_mul(1_u32.checked_shl(self.failures.min(16)).unwrap_or(1)).min(MAX_BACKOFF);
        self.failures = self.failures.saturating_add(1);
        let mut chance = [u8::MAX];
        let _all_of_it = host.random(&mut chance);
        let half = wait.checked_div(2).unwrap_or(wait);
        let rest = half.saturating_mul(u32::from(chance[0])).checked_div(255).unwrap_or(half);
        let wait = half.saturating_add(rest);
        self.retry_at = host.monotonic().plus(wait);
    }

    fn refused(&mut self, status: u16, host: &dyn Host) {
        self.refused = self.refused.saturating_add(1);
        self.failed(&format!("status {status}"), host);
        // the gap must follow what is lost; in a closed chain nothing can, so it is tried until the VM ends
        let last = self.batches.len() == 1 && !self.closing;
        if self.refused < MAX_REFUSED || !last {
            return;
        }
        let chain = self.chain().unwrap_or_default().to_owned();
        let Some(batch) = self.batches.pop_front_if(|batch| batch.chain == chain) else { return };
        let (Some((first, _)), Some((last, _))) = (batch.seals.front(), batch.seals.back()) else { return };
        let count = u64::try_from(batch.seals.len()).unwrap_or(u64::MAX);
        host.log(
            Level::Error,
            &format!(
                "audit collector `{}` refuses events with status {status}: {count} are given up",
                self.settings.cluster
            ),
        );
        self.given_up = self.given_up.saturating_add(count);
        self.refused = 0;
        let draft = self.gap(count, GapReason::Refused, Some((first.seq, last.seq)), host);
        let mut next = Batch::of(&batch.chain);
        self.append(&mut next, &draft);
        self.fill(&mut next, host);
        self.batches.push_front(next);
    }
}

#[cfg(test)]
mod tests;
