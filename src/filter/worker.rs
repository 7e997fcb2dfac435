//! What all requests of one configuration in one worker share.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::audit::export::Trail;
use crate::config::Config;
use crate::filter::lists::Lists;
use crate::filter::metrics::Metrics;
use crate::host::Host;
use crate::identity::jwt::cache::Verified;
use crate::limits::remote::breaker::Breaker;
use crate::policy::Decision;
use crate::policy::attributes::Attributes;
use crate::policy::cache::{Decisions, Question};
use crate::remote::store::Store;

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
    /// What comes without a push.
    pub lists: Lists,
    /// Where documents of other servers are kept.
    store: Store,
    waiting: RefCell<Waiting>,
    /// Of the rate limit service.
    breaker: Rc<Cell<Breaker>>,
}

/// Places that are taken.
#[derive(Debug, Default)]
struct Waiting {
    total: u32,
    /// By principal; only those that have one.
    each: BTreeMap<String, u32>,
}

/// A principal may take places while it has fewer than this many times those that are still free: alone four of five,
/// and whoever comes then still finds some.
const SHARE: u32 = 4;

// === impl Worker ===

impl Worker {
    /// A worker on which nobody waits.
    pub fn new(config: Rc<Config>, trail: Rc<RefCell<Trail>>) -> Self {
        let metrics = Metrics::new(&config.name, config.bounds.metric_series);
        let verified = RefCell::new(Verified::new(config.bounds.verified_tokens));
        let store = config.store.clone();
        let lists = Lists::new(&config, &store);
        let (decisions, waiting, breaker) = (RefCell::default(), RefCell::default(), Rc::default());
        Self { config, trail, metrics, verified, decisions, lists, store, waiting, breaker }
    }

    /// Goes on with what other workers of this VM know: with what they have fetched, and with the breaker of one that
    /// asks the same service, since a dead one is paid for once, not once by each configuration.
    #[must_use]
    pub fn beside(mut self, others: &[Rc<Self>]) -> Self {
        if let Some(known) = others.last() {
            self.store = self.store.beside(&known.store);
            self.lists = Lists::new(&self.config, &self.store);
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

    /// Takes a place among the waiting; `false` when all are taken, or this principal's share of them.
    pub(super) fn enter_waiting(&self, principal: &str) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let free = self.config.bounds.waiting.saturating_sub(waiting.total);
        let own = waiting.each.get(principal).copied().unwrap_or(0);
        let enters = own < free.saturating_mul(SHARE);
        if enters {
            waiting.total = waiting.total.saturating_add(1);
            waiting.each.insert(principal.to_owned(), own.saturating_add(1));
        }
        enters
    }

    /// Gives the place back.
    pub(super) fn leave_waiting(&self, principal: &str) {
        let mut waiting = self.waiting.borrow_mut();
        waiting.total = waiting.total.saturating_sub(1);
        match waiting.each.get_mut(principal) {
            Some(own) if *own > 1 => *own = own.saturating_sub(1),
            _ => drop(waiting.each.remove(principal)),
        }
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
