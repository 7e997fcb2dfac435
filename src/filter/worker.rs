//! What all requests of one configuration in one worker share.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use crate::audit::export::Trail;
use crate::config::Config;
use crate::filter::lists::Lists;
use crate::filter::metrics::Metrics;
use crate::host::{CalloutId, Host};
use crate::identity::introspection::cache::Introspected;
use crate::identity::introspection::{Failure, QuestionKey};
use crate::identity::jwt::cache::Verified;
use crate::identity::keyring::Keyrings;
use crate::limits::remote::breaker::Breaker;
use crate::policy::Decision;
use crate::policy::attributes::Attributes;
use crate::policy::cache::{Decisions, Question};
use crate::remote::keeper::Reply;
use crate::remote::store::Store;
use crate::time::Monotonic;

/// See the module.
#[derive(Debug)]
pub struct Worker {
    /// The compiled document. Requests finish on the one they began with.
    pub config: Rc<Config>,
    /// Where events go.
    pub trail: Rc<RefCell<Trail>>,
    /// What is counted.
    pub metrics: Metrics,
    /// Tokens that were verified a short while ago: they end with this configuration.
    pub verified: RefCell<Verified>,
    /// Decisions of this configuration; `None` before the first.
    decisions: RefCell<Option<Decisions>>,
    /// What issuers said of tokens a short while ago: it ends with this configuration.
    pub introspected: RefCell<Introspected>,
    /// What comes without a push.
    pub lists: Lists,
    /// Where documents of other servers are kept.
    store: Store,
    /// Keys that issuers publish.
    pub keyrings: Keyrings,
    waiting: RefCell<Waiting>,
    /// Questions that somebody here has asked, and that are not answered yet.
    in_flight: RefCell<BTreeSet<QuestionKey>>,
    /// Of the rate limit service.
    breaker: Rc<Cell<Breaker>>,
    /// Of the endpoints that are asked about tokens.
    endpoints: RefCell<BTreeMap<usize, Breaker>>,
    /// How they failed last, where that was the last they did.
    failures: RefCell<BTreeMap<usize, Failure>>,
}

/// A place among the waiting, given back when it is dropped: however a wait ends, it cannot be lost.
#[derive(Debug)]
pub(super) struct Place {
    worker: Rc<Worker>,
    /// `None` once it is kept beyond the wait.
    taker: Option<Taker>,
}

/// Who takes a place.
#[derive(Clone, Debug)]
pub(super) enum Taker {
    /// A known caller, by its principal.
    Caller(String),
    /// Somebody of whom only the address is known, if that.
    Stranger(Option<IpAddr>),
}

/// A question that was asked for everybody here who has it, until it is dropped.
#[derive(Debug)]
pub(super) struct Flight {
    worker: Rc<Worker>,
    key: QuestionKey,
}

/// Places that are taken.
#[derive(Debug, Default)]
struct Waiting {
    total: u32,
    /// Of the total, those of strangers.
    strangers: u32,
    /// By taker; only those that have one.
    each: BTreeMap<String, u32>,
    /// Of the total, those of requests that are gone while what they called for goes on, at most until then.
    kept: Vec<(Monotonic, Taker)>,
}

/// A taker may take places while it has fewer than this many times those that are still free: alone four of five,
/// and whoever comes then still finds some.
const SHARE: u32 = 4;

// === impl Worker ===

impl Worker {
    /// A worker on which nobody waits.
    pub fn new(config: Rc<Config>, trail: Rc<RefCell<Trail>>) -> Self {
        let metrics = Metrics::new(&config.name, config.bounds.metric_series);
        let verified = RefCell::new(Verified::new(config.bounds.verified_tokens));
        let introspected = RefCell::new(Introspected::new(config.bounds.verified_tokens));
        let store = config.store.clone();
        let lists = Lists::new(&config, &store);
        let keyrings = config.tokens.keyrings(&config.name, &store);
        Self {
            config,
            trail,
            metrics,
            verified,
            introspected,
            lists,
            store,
            decisions: RefCell::default(),
            keyrings,
            waiting: RefCell::default(),
            in_flight: RefCell::default(),
            breaker: Rc::default(),
            endpoints: RefCell::default(),
            failures: RefCell::default(),
        }
    }

    /// Goes on with what other workers of this VM know: with what they have fetched, and with the breaker of one that
    /// asks the same service, since a dead one is paid for once, not once by each configuration.
    #[must_use]
    pub fn beside(mut self, others: &[Rc<Self>]) -> Self {
        if let Some(known) = others.last() {
            self.store = self.store.beside(&known.store);
            self.lists = Lists::new(&self.config, &self.store);
            self.keyrings = self.config.tokens.keyrings(&self.config.name, &self.store);
        }
        let cluster = |worker: &Self| worker.config.limits.service().map(|service| service.cluster.clone());
        let same = others.iter().rfind(|other| cluster(other) == cluster(&self));
        if let Some(known) = same {
            self.breaker = Rc::clone(&known.breaker);
        }
        self
    }

    /// What policies say, remembered where that is possible.
    pub(super) fn decide(
        &self,
        question: Question<'_>,
        attributes: &Attributes<'_>,
        host: &dyn Host,
    ) -> Rc<Decision> {
        let policies = &self.config.policies;
        let first = || {
            let mut secret = [0; 16];
            // without a secret nothing is remembered
            let max = host.random(&mut secret).map_or(0, |()| self.config.bounds.decisions);
            Decisions::new(max, secret)
        };
        let mut decisions = self.decisions.borrow_mut();
        decisions.get_or_insert_with(first).decide(policies, question, attributes)
    }

    /// Fetches what is due of other servers' documents. Only the root calls this.
    pub fn tick(&self, host: &dyn Host) {
        self.lists.tick(host);
        if let Some(lag) = self.lists.revocation_lag(host) {
            self.metrics.revocation_lag(lag, host);
        }
        self.keyrings.tick(host);
        for ring in self.keyrings.iter() {
            let ring = ring.borrow();
            if let Some(age) = ring.age(host) {
                self.metrics.jwks_age(ring.provider(), age, host);
            }
        }
    }

    /// A callout of [`Worker::tick`] was answered. Whether it was one. Only the root calls this.
    pub fn on_reply(&self, call: CalloutId, reply: &Reply<'_>, host: &dyn Host) -> bool {
        self.lists.on_reply(call, reply, host) || self.keyrings.on_reply(call, reply, host)
    }

    /// Whether there are documents of other servers, which [`Worker::tick`] must look at.
    pub fn has_documents(&self) -> bool {
        self.lists.is_any() || !self.keyrings.is_empty()
    }

    /// Takes a place among the waiting; `None` when all are taken, or the taker's share of them. Strangers together may
    /// have half of the places: whoever sends tokens that nobody knows keeps no known caller from waiting.
    pub(super) fn enter_waiting(self: &Rc<Self>, taker: Taker, now: Monotonic) -> Option<Place> {
        self.leave_kept(now);
        let mut waiting = self.waiting.borrow_mut();
        let places = self.config.bounds.waiting;
        let free = match &taker {
            Taker::Caller(_) => places.saturating_sub(waiting.total),
            Taker::Stranger(_) => {
                places.div_ceil(2).saturating_sub(waiting.strangers).min(places.saturating_sub(waiting.total))
            }
        };
        let name = taker.name();
        let own = waiting.each.get(&name).copied().unwrap_or(0);
        if own >= free.saturating_mul(SHARE) {
            return None;
        }
        waiting.total = waiting.total.saturating_add(1);
        waiting.strangers = waiting.strangers.saturating_add(taker.strangers());
        waiting.each.insert(name, own.saturating_add(1));
        drop(waiting);
        Some(Place { worker: Rc::clone(self), taker: Some(taker) })
    }

    /// Gives back the places that were kept until now.
    fn leave_kept(&self, now: Monotonic) {
        let kept = std::mem::take(&mut self.waiting.borrow_mut().kept);
        let (past, kept) = kept.into_iter().partition(|(until, _)| *until <= now);
        self.waiting.borrow_mut().kept = kept;
        let past: Vec<(Monotonic, Taker)> = past;
        past.iter().for_each(|(_, taker)| self.leave_waiting(taker));
    }

    fn leave_waiting(&self, taker: &Taker) {
        let mut waiting = self.waiting.borrow_mut();
        waiting.total = waiting.total.saturating_sub(1);
        waiting.strangers = waiting.strangers.saturating_sub(taker.strangers());
        let name = taker.name();
        match waiting.each.get_mut(&name) {
            Some(own) if *own > 1 => *own = own.saturating_sub(1),
            _ => drop(waiting.each.remove(&name)),
        }
    }

    /// Asks a question for everybody here; `None` when somebody has asked it and waits for the answer.
    pub(super) fn take_off(self: &Rc<Self>, key: QuestionKey) -> Option<Flight> {
        let first = self.in_flight.borrow_mut().insert(key);
        first.then(|| Flight { worker: Rc::clone(self), key })
    }

    /// Whether somebody here waits for the answer to this question.
    pub(super) fn is_in_flight(&self, key: &QuestionKey) -> bool {
        self.in_flight.borrow().contains(key)
    }

    /// Looks at the breaker of an endpoint that is asked about tokens, or tells it what happened.
    pub(super) fn with_endpoint<T>(&self, endpoint: usize, act: impl FnOnce(&mut Breaker) -> T) -> T {
        act(self.endpoints.borrow_mut().entry(endpoint).or_default())
    }

    /// Notes how an endpoint failed, if it did. Whether that is another way than the last time.
    pub(super) fn is_news(&self, endpoint: usize, failure: Option<Failure>) -> bool {
        let mut failures = self.failures.borrow_mut();
        let before = match failure {
            Some(failure) => failures.insert(endpoint, failure),
            None => failures.remove(&endpoint),
        };
        failure.is_some() && before != failure
    }

    /// Looks at the breaker of the rate limit service, or tells it what happened.
    pub(super) fn with_breaker<T>(&self, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.breaker.get();
        let told = act(&mut breaker);
        self.breaker.set(breaker);
        told
    }

    /// Requests that wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.borrow().total
    }
}

// === impl Taker ===

impl Taker {
    /// Principals have no `source:` before them: none of a method and no consumer is called so.
    fn name(&self) -> String {
        match self {
            Self::Caller(principal) => principal.clone(),
            Self::Stranger(Some(source)) => format!("source:{source}"),
            Self::Stranger(None) => String::from("source:"),
        }
    }

    const fn strangers(&self) -> u32 {
        match self {
            Self::Caller(_) => 0,
            Self::Stranger(_) => 1,
        }
    }
}

// === impl Place ===

impl Place {
    /// Keeps it although the wait is over: until then something goes on that was begun for it.
    pub(super) fn keep(mut self, until: Monotonic) {
        // as many as there are places, since each still takes one
        self.worker.waiting.borrow_mut().kept.extend(self.taker.take().map(|taker| (until, taker)));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(taker) = &self.taker {
            self.worker.leave_waiting(taker);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.worker.in_flight.borrow_mut().remove(&self.key);
    }
}
