//! What all requests of one configuration in one worker share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::audit::export::Trail;
use crate::config::Config;
use crate::filter::metrics::Metrics;
use crate::identity::jwt::cache::Verified;

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
    waiting: Cell<u32>,
}

// === impl Worker ===

impl Worker {
    /// A worker on which nobody waits.
    pub fn new(config: Rc<Config>, trail: Rc<RefCell<Trail>>) -> Self {
        let metrics = Metrics::new(&config.name, config.bounds.metric_series);
        let verified = RefCell::new(Verified::new(config.bounds.verified_tokens));
        Self { config, trail, metrics, verified, waiting: Cell::new(0) }
    }

    /// Takes a place among the waiting; `false` when all are taken.
    pub(super) fn enter_waiting(&self) -> bool {
        let free = self.waiting.get() < self.config.bounds.waiting;
        if free {
            self.waiting.set(self.waiting.get().saturating_add(1));
        }
        free
    }

    /// Gives the place back.
    pub(super) fn leave_waiting(&self) {
        self.waiting.set(self.waiting.get().saturating_sub(1));
    }

    /// Requests that wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.get()
    }
}
