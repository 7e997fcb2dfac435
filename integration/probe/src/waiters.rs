//! Streams of this VM that wait for a tick, by context id, and the counters that the proofs read.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use crate::host;
use crate::plan::Plan;

/// Where a stream stands; shared between it and the table, since the root cannot reach into a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Answered,
    Deciding,
    Forwarded,
    Waiting,
}

#[derive(Clone, Debug)]
pub struct Waiter {
    pub root: u32,
    pub plan: Plan,
    pub since: Instant,
    pub state: Rc<Cell<State>>,
}

/// What the plugin's configuration and the VM's life have set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    pub forget: bool,
    pub left: u32,
    pub dead: u32,
    pub decided: u32,
}

thread_local! {
    static WAITERS: RefCell<BTreeMap<u32, Waiter>> = const { RefCell::new(BTreeMap::new()) };
    static CALLS: RefCell<BTreeMap<u32, u32>> = const { RefCell::new(BTreeMap::new()) };
    static SETTINGS: Cell<Settings> = const { Cell::new(Settings { forget: false, left: 0, dead: 0, decided: 0 }) };
}

pub fn settings() -> Settings {
    SETTINGS.get()
}

pub fn configure(forget: bool) {
    SETTINGS.set(Settings {
        forget,
        left: host::define_counter("probe.left_while_waiting"),
        dead: host::define_counter("probe.effective_context_refused"),
        decided: host::define_counter("probe.decided_by_tick"),
    });
}

pub fn insert(context: u32, waiter: Waiter) {
    WAITERS.with_borrow_mut(|waiters| waiters.insert(context, waiter));
}

/// Takes a waiter off the table; called from `Drop`, so no answer can go to a stream that is gone.
pub fn remove(context: u32) -> Option<Waiter> {
    WAITERS.with_borrow_mut(|waiters| waiters.remove(&context))
}

/// Takes every waiter of this root whose time has come.
pub fn due(root: u32) -> Vec<(u32, Waiter)> {
    WAITERS.with_borrow_mut(|waiters| {
        let is_due = |waiter: &Waiter| {
            waiter.root == root && waiter.plan.wait.is_some_and(|wait| waiter.since.elapsed() >= wait)
        };
        waiters.extract_if(.., |_, waiter| is_due(waiter)).collect()
    })
}

/// Remembers for which stream the root has called.
pub fn called(token: u32, context: u32) {
    CALLS.with_borrow_mut(|calls| calls.insert(token, context));
}

pub fn answered(token: u32) -> Option<u32> {
    CALLS.with_borrow_mut(|calls| calls.remove(&token))
}
