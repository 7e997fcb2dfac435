//! One configuration in one worker: reads it, ticks for those that wait, delivers what is recorded.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use crate::audit::export::Trail;
use crate::config;
use crate::filter::step::Step;
use crate::filter::transaction::{Call, Transaction};
use crate::filter::worker::Worker;
use crate::host::{Body, CalloutId, Host, Level};
use crate::http::pairs::Pairs;
use crate::plugin::abi;
use crate::plugin::host::ProxyHost;
use crate::plugin::http_context::{Http, Unconfigured, resume, text};
use crate::remote::keeper::Reply;

/// The root context.
pub(super) struct Root {
    shared: Rc<Shared>,
    worker: Option<Rc<Worker>>,
}

/// What a root and its streams share.
pub(super) struct Shared {
    id: u32,
    period: Cell<u32>,
    gateway: OnceCell<bool>,
    waiters: RefCell<BTreeMap<u32, Weak<RefCell<Transaction>>>>,
}

thread_local! {
    /// Of each root of this VM that has a configuration, in the order in which they got it: a new root goes on with the
    /// trail of those before it.
    static WORKERS: RefCell<Vec<Rc<Worker>>> = const { RefCell::new(Vec::new()) };
}

/// Milliseconds between looks at those that wait.
const WAITING_TICK: u32 = 10;
/// Milliseconds between deliveries while there is something to deliver, and between looks at documents of other servers.
const DELIVERY_TICK: u32 = 100;
/// Milliseconds between heartbeats of an idle chain.
const IDLE_TICK: u32 = 10_000;

/// How Istio's ids of gateways begin.
const GATEWAY: &str = "router~";

/// Bytes of a plugin configuration; the host itself has no bound.
const MAX_CONFIGURATION: usize = 64 << 20;

/// Bytes of a collector's answer.
const MAX_ANSWER: usize = 1 << 20;

// === impl Root ===

impl Root {
    /// A root that has not read its configuration.
    pub(super) fn new(id: u32) -> Self {
        let shared =
            Shared { id, period: Cell::new(0), gateway: OnceCell::new(), waiters: RefCell::default() };
        Self { shared: Rc::new(shared), worker: None }
    }

    /// Tells those for whom there is something to do.
    fn tell_due(&self) {
        for (id, waiter) in self.shared.waiting_if(|waiter| waiter.is_due(&ProxyHost)) {
            self.tell(id, &waiter, |waiter| Some(waiter.on_due(&ProxyHost)));
        }
    }

    /// Hands a call's answer to the stream that waits for it: one that asked on a tick has its answer here. `false` where
    /// none does.
    fn hand_on(&self, call: Call, event: impl Fn(&mut Transaction) -> Option<Step>) -> bool {
        let mut waiting = self.shared.waiting_if(|waiter| waiter.awaits(call)).into_iter();
        let Some((id, waiter)) = waiting.next() else { return false };
        self.tell(id, &waiter, event);
        true
    }

    /// Acts for a stream outside of its own callbacks. The status of each context switch is checked: after a failed one
    /// the previous context stays effective, and an answer would go to the wrong stream.
    fn tell(&self, id: u32, waiter: &RefCell<Transaction>, event: impl Fn(&mut Transaction) -> Option<Step>) {
        if abi::set_effective_context(id).is_ok() {
            let step = event(&mut waiter.borrow_mut());
            // it may wait for something else now
            if waiter.borrow().waits_until().is_none() {
                self.shared.forget(id);
            }
            if let Some(step) = step {
                resume(waiter, step);
            }
        } else {
            self.shared.forget(id);
        }
        let _ = abi::set_effective_context(self.shared.id);
    }

    /// The next tick is as far away as what is left allows.
    fn rearm(&self, trail_idle: bool) {
        let waiting = !self.shared.waiters.borrow().is_empty();
        let period = match (waiting, trail_idle) {
            (true, _) => WAITING_TICK,
            (false, false) => DELIVERY_TICK,
            (false, true) => IDLE_TICK,
        };
        if self.shared.period.replace(period) != period {
            abi::set_tick_period(period);
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, _headers: usize, body_size: usize, _trailers: usize) {
        let headers = abi::headers(abi::Map::Callout).unwrap_or_default();
        let call = CalloutId(token);
        let answered =
            |waiter: &mut Transaction| waiter.on_callout_answered(call, &headers, body_size, &ProxyHost);
        if self.hand_on(Call::Http(call), answered) {
            return;
        }
        let Some(worker) = &self.worker else { return };
        let text = |wanted: &[u8]| -> Option<&str> {
            let (_, value) = Pairs::read(&headers).into_iter().flatten().find(|(name, _)| *name == wanted)?;
            std::str::from_utf8(value).ok()
        };
        let number = |wanted: &[u8]| -> Option<u16> { text(wanted)?.parse().ok() };
        let status = number(b":status");
        if worker.on_reply(call, &Reply { status, etag: text(b"etag"), size: body_size }, &ProxyHost) {
            self.tell_due();
            return;
        }
        let body = ProxyHost.body(Body::Callout, 0, body_size.min(MAX_ANSWER)).unwrap_or_default();
        let mut trail = worker.trail.borrow_mut();
        let is_known = trail.on_reply(call, status, &body, &ProxyHost);
        // a date is not read: the wait is then as long as any other
        if let (true, Some(429 | 503), Some(seconds)) = (is_known, status, number(b"retry-after")) {
            trail.leave_alone(Duration::from_secs(seconds.into()), &ProxyHost);
        }
    }

    fn on_grpc_call_response(&mut self, token: u32, status: u32, size: usize) {
        let call = CalloutId(token);
        self.hand_on(Call::Grpc(call), |waiter| waiter.on_call_answered(call, status, size, &ProxyHost));
    }

    fn on_done(&mut self) -> bool {
        if let Some(worker) = self.worker.take() {
            worker.metrics.config(&worker.config.revision, false, &ProxyHost);
            let mut trail = worker.trail.borrow_mut();
            match heir(&worker) {
                None => trail.close(&ProxyHost),
                Some(heir) => {
                    // The proxy takes a root that it still has when its configuration comes back, and says nothing of it.
                    if trail.policy_revision() == worker.config.revision {
                        trail.config_changed(heir.config.trail_settings(), &ProxyHost);
                    }
                    trail.hand_over(&ProxyHost);
                }
            }
            worker.metrics.audit(trail.take_queued(), trail.take_dropped(), &ProxyHost);
        }
        true
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let bytes = abi::buffer(abi::Buffer::PluginConfiguration, 0, size.min(MAX_CONFIGURATION));
        let environment = |name: &str| environment(name);
        match config::load(&bytes.unwrap_or_default(), config::Format::Plugin, &environment) {
            Ok(config) => {
                let config = Rc::new(config);
                let (trail, is_taken_over) = trail_of(&config);
                if is_taken_over {
                    // The root before this one may leave something behind, and no request need come.
                    self.shared.deliver_soon();
                }
                let worker = WORKERS.with_borrow_mut(|workers| {
                    let worker = Rc::new(Worker::new(config, trail).beside(workers));
                    workers.push(Rc::clone(&worker));
                    worker
                });
                if worker.has_documents() {
                    // what other servers have is fetched before anybody asks for it
                    self.shared.deliver_soon();
                }
                if let Some(before) = self.worker.replace(worker) {
                    heir(&before);
                }
                true
            }
            Err(faults) => {
                for fault in faults.iter() {
                    ProxyHost.log(Level::Error, &format!("mlgate: configuration refused: {fault}"));
                }
                false
            }
        }
    }

    fn on_tick(&mut self) {
        if let Some(worker) = &self.worker {
            worker.tick(&ProxyHost);
        }
        self.tell_due();
        let idle = self.worker.as_ref().is_none_or(|worker| {
            let mut trail = worker.trail.borrow_mut();
            trail.tick(&ProxyHost);
            worker.metrics.audit(trail.take_queued(), trail.take_dropped(), &ProxyHost);
            worker.metrics.config(&worker.config.revision, true, &ProxyHost);
            trail.idle() && !worker.has_documents()
        });
        self.rearm(idle);
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(match &self.worker {
            Some(worker) => Box::new(Http::new(context_id, Rc::clone(worker), Rc::clone(&self.shared))),
            None => Box::new(Unconfigured),
        })
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

// === impl Shared ===

impl Shared {
    /// Streams that wait, and of which this is so.
    fn waiting_if(&self, is_so: impl Fn(&Transaction) -> bool) -> Vec<(u32, Rc<RefCell<Transaction>>)> {
        let waiters = self.waiters.borrow();
        let alive = waiters.iter().filter_map(|(id, waiter)| Some((*id, waiter.upgrade()?)));
        alive.filter(|(_, waiter)| is_so(&waiter.borrow())).collect()
    }

    /// A stream begins to wait.
    pub(super) fn await_tick(&self, id: u32, waiter: &Rc<RefCell<Transaction>>) {
        self.waiters.borrow_mut().insert(id, Rc::downgrade(waiter));
        self.tick_within(WAITING_TICK);
    }

    /// A stream waits no longer, or is gone. Between our context's end and the host's, the host would still take an
    /// answer for it and then trap on the missing context: whoever is gone must be out of the table.
    pub(super) fn forget(&self, id: u32) {
        self.waiters.borrow_mut().remove(&id);
    }

    /// Whether this proxy is a gateway of Istio's, whose listeners are called outbound although their callers come from
    /// outside. A proxy's id never changes.
    pub(super) fn is_gateway(&self) -> bool {
        *self.gateway.get_or_init(|| text("xds\0node\0id").is_some_and(|id| id.starts_with(GATEWAY)))
    }

    /// There is something to deliver.
    pub(super) fn deliver_soon(&self) {
        self.tick_within(DELIVERY_TICK);
    }

    /// Setting a period restarts the timer, so it is set only to make it shorter.
    fn tick_within(&self, period: u32) {
        let current = self.period.get();
        if current == 0 || current > period {
            self.period.set(period);
            abi::set_tick_period(period);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the host's side: the VM's environment")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The trail of this gate and collector in this VM, and whether another root has it too; else a new one.
fn trail_of(config: &config::Config) -> (Rc<RefCell<Trail>>, bool) {
    let settings = config.trail_settings();
    WORKERS.with_borrow(|workers| {
        let mut trails = workers.iter().map(|worker| &worker.trail);
        match trails.find(|trail| trail.borrow().fits(&settings)) {
            Some(known) => {
                known.borrow_mut().config_changed(settings, &ProxyHost);
                (Rc::clone(known), true)
            }
            None => (Rc::new(RefCell::new(Trail::new(settings))), false),
        }
    })
}

/// Takes a worker off the list, and gives the one that was configured last of those that stay with its trail.
fn heir(leaving: &Rc<Worker>) -> Option<Rc<Worker>> {
    WORKERS.with_borrow_mut(|workers| {
        workers.retain(|known| !Rc::ptr_eq(known, leaving));
        workers.iter().rfind(|known| Rc::ptr_eq(&known.trail, &leaving.trail)).map(Rc::clone)
    })
}
