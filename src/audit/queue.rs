//! Events wait here in the order in which they happened, within two bounds. What does not fit is counted, and the
//! count comes out at the place of the loss.
//!
//! Three kinds never compete for one place: what a chain says of itself, decisions, and refusals that anybody on
//! the network can cause. The last are kept one by one only while they are few.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::audit::event::Draft;
use crate::audit::spec::OnFullSpec;

/// Bytes that a reserved place counts for until its event is known.
pub const RESERVED_BYTES: usize = 4 << 10;

/// Events of the chain itself that may wait: `open`, `config`, `heartbeat`, `close`.
pub const MAX_CONTROL: usize = 64;

/// Unauthenticated refusals that may wait before equal ones are counted together.
pub const FLOOD_AFTER: usize = 64;

/// Unauthenticated refusals that may wait; beyond, they are counted together by reason alone.
pub const MAX_REFUSALS: usize = 1024;

/// Bytes of the unauthenticated refusals that may wait; beyond as for [`MAX_REFUSALS`].
pub const MAX_REFUSAL_BYTES: usize = 1 << 20;

/// What a decision is worth when there is no room for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// Whatever became of a request of nobody in particular: anybody can make any number of them, so they go first.
    Stranger,
    /// A known caller's, allowed.
    Routine,
    /// A known caller's, denied: the last to go.
    Denial,
}

/// What may wait, and what happens beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Decisions that may wait.
    pub max_events: usize,
    /// Their bytes.
    pub max_bytes: usize,
    /// What happens beyond: [`OnFullSpec::DropOldest`] forgets the oldest of the least [`Worth`].
    pub on_full: OnFullSpec,
}

/// A place for one decision under [`OnFullSpec::Deny`]. Dropping it gives the place back.
#[derive(Debug)]
#[must_use]
pub struct Reservation {
    held: Option<Rc<Cell<usize>>>,
}

/// No place is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What makes unauthenticated refusals equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusalKey {
    /// The inner word.
    pub reason: &'static str,
    /// Whose request it was, where that is known: nobody's refusal may be told as another's.
    pub principal: Option<String>,
    /// The caller's address; `None` stands for all of them once there are too many.
    pub source: Option<String>,
    /// The route's profile.
    pub profile: Option<String>,
}

/// What leaves the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// An event.
    Event(Draft),
    /// So many events were lost here.
    Lost(u64),
}

/// See the module.
#[derive(Debug)]
pub struct Queue {
    settings: QueueSettings,
    reserved: Rc<Cell<usize>>,
    order: u64,
    control: VecDeque<Waiting>,
    denials: VecDeque<Waiting>,
    routine: VecDeque<Waiting>,
    strangers: VecDeque<Waiting>,
    bytes: usize,
    refusals: Refusals,
    lost: Option<Lost>,
    dropped: u64,
}

#[derive(Debug)]
struct Waiting {
    order: u64,
    draft: Draft,
}

#[derive(Clone, Copy, Debug)]
struct Lost {
    /// Of the latest event lost.
    order: u64,
    count: u64,
}

#[derive(Debug, Default)]
struct Refusals {
    waiting: VecDeque<(RefusalKey, Waiting)>,
    /// Key to order; orders ascend in `waiting`.
    index: BTreeMap<RefusalKey, u64>,
    bytes: usize,
}

// === impl Queue ===

impl Queue {
    /// An empty queue.
    pub fn new(settings: QueueSettings) -> Self {
        Self {
            settings,
            reserved: Rc::default(),
            order: 0,
            control: VecDeque::new(),
            denials: VecDeque::new(),
            routine: VecDeque::new(),
            strangers: VecDeque::new(),
            bytes: 0,
            refusals: Refusals::default(),
            lost: None,
            dropped: 0,
        }
    }

    /// Changes the bounds; what waits already stays unless it must go for the next.
    pub const fn set(&mut self, settings: QueueSettings) {
        self.settings = settings;
    }

    /// A place for the decision on a request that is about to be admitted.
    pub fn reserve(&self) -> Result<Reservation, Full> {
        if self.settings.on_full == OnFullSpec::DropOldest {
            return Ok(Reservation { held: None });
        }
        if self.is_full_for(RESERVED_BYTES) {
            return Err(Full);
        }
        self.reserved.set(self.reserved.get().saturating_add(1));
        Ok(Reservation { held: Some(Rc::clone(&self.reserved)) })
    }

    /// The first event of a chain, before whatever waits.
    pub fn push_open(&mut self, draft: Draft) {
        self.control.push_front(Waiting { order: 0, draft });
    }

    /// An event of the chain itself.
    pub fn push_control(&mut self, draft: Draft) {
        let order = self.next_order();
        self.control.push_back(Waiting { order, draft });
        if self.control.len() > MAX_CONTROL {
            // not the first: it may be `open`
            if let Some(gone) = self.control.remove(1) {
                self.lose(gone.order, gone.draft.count);
            }
        }
    }

    /// A decision, with the place that was reserved for it.
    pub fn push(&mut self, draft: Draft, worth: Worth, reservation: Option<Reservation>) {
        let reserved = reservation.is_some_and(|reservation| reservation.held.is_some());
        let order = self.next_order();
        let bytes = size(&draft);
        // a place was kept for the one; whoever comes without is lost rather than what a place was kept for
        if self.settings.on_full == OnFullSpec::Deny && !reserved && self.is_full_for(bytes) {
            self.lose(order, draft.count);
            return;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        let lane = match worth {
            Worth::Stranger => &mut self.strangers,
            Worth::Routine => &mut self.routine,
            Worth::Denial => &mut self.denials,
        };
        lane.push_back(Waiting { order, draft });
        if self.settings.on_full == OnFullSpec::DropOldest {
            while self.is_over() {
                let lanes = [&mut self.strangers, &mut self.routine, &mut self.denials];
                let Some(gone) = lanes.into_iter().find_map(VecDeque::pop_front) else { break };
                self.bytes = self.bytes.saturating_sub(size(&gone.draft));
                self.lose(gone.order, gone.draft.count);
            }
        }
    }

    /// A refusal that anybody can cause. `by_reason` writes one that stands for many callers.
    pub fn push_refusal(&mut self, key: RefusalKey, draft: Draft, by_reason: impl FnOnce() -> Draft) {
        if self.refusals.waiting.len() >= FLOOD_AFTER && self.refusals.count(&key) {
            return;
        }
        let order = self.next_order();
        if self.refusals.waiting.len() < MAX_REFUSALS
            && self.refusals.bytes.saturating_add(size(&draft)) <= MAX_REFUSAL_BYTES
        {
            self.refusals.push(key, Waiting { order, draft });
            return;
        }
        let key = RefusalKey { reason: key.reason, principal: None, source: None, profile: None };
        if !self.refusals.count(&key) {
            // one for each reason at most, and reasons are few
            self.refusals.push(key, Waiting { order, draft: by_reason() });
        }
    }

    /// The oldest event, or the loss before it.
    pub fn pop(&mut self) -> Option<Next> {
        let fronts = [
            self.control.front().map(|waiting| waiting.order),
            self.refusals.waiting.front().map(|(_, waiting)| waiting.order),
            self.denials.front().map(|waiting| waiting.order),
            self.routine.front().map(|waiting| waiting.order),
            self.strangers.front().map(|waiting| waiting.order),
        ];
        let first = fronts.into_iter().flatten().min();
        if let Some(lost) = self.lost
            && first.is_none_or(|first| lost.order < first)
        {
            self.lost = None;
            return Some(Next::Lost(lost.count));
        }
        let lane = fronts.iter().position(|front| front.is_some() && *front == first)?;
        let waiting = match lane {
            0 => self.control.pop_front(),
            1 => self.refusals.pop(),
            _ => {
                let lane = match lane {
                    2 => &mut self.denials,
                    3 => &mut self.routine,
                    _ => &mut self.strangers,
                };
                let waiting = lane.pop_front();
                let bytes = waiting.as_ref().map_or(0, |waiting| size(&waiting.draft));
                self.bytes = self.bytes.saturating_sub(bytes);
                waiting
            }
        };
        waiting.map(|waiting| Next::Event(waiting.draft))
    }

    /// Events that wait.
    pub fn len(&self) -> usize {
        self.decisions().saturating_add(self.control.len()).saturating_add(self.refusals.waiting.len())
    }

    /// Whether nothing waits, not even a loss to be told.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.lost.is_none()
    }

    /// Bytes of what waits.
    pub const fn bytes(&self) -> usize {
        self.bytes.saturating_add(self.refusals.bytes)
    }

    /// Events lost since the beginning.
    pub const fn dropped_total(&self) -> u64 {
        self.dropped
    }

    fn decisions(&self) -> usize {
        self.denials.len().saturating_add(self.routine.len()).saturating_add(self.strangers.len())
    }

    fn is_over(&self) -> bool {
        self.bytes > self.settings.max_bytes || self.decisions() > self.settings.max_events
    }

    fn is_full_for(&self, bytes: usize) -> bool {
        let reserved = self.reserved.get();
        let waiting = self.bytes.saturating_add(reserved.saturating_mul(RESERVED_BYTES));
        self.decisions().saturating_add(reserved) >= self.settings.max_events
            || waiting.saturating_add(bytes) > self.settings.max_bytes
    }

    /// Zero is the order of `open`.
    const fn next_order(&mut self) -> u64 {
        self.order = self.order.saturating_add(1);
        self.order
    }

    fn lose(&mut self, order: u64, coalesced: Option<u64>) {
        let count = coalesced.unwrap_or(1);
        self.dropped = self.dropped.saturating_add(count);
        let lost = self.lost.unwrap_or(Lost { order, count: 0 });
        self.lost = Some(Lost { order: lost.order.max(order), count: lost.count.saturating_add(count) });
    }
}

// === impl Refusals ===

impl Refusals {
    /// Counts one more of an equal refusal that waits already.
    fn count(&mut self, key: &RefusalKey) -> bool {
        let Some(order) = self.index.get(key) else { return false };
        let at = self.waiting.partition_point(|(_, waiting)| waiting.order < *order);
        let Some((_, waiting)) = self.waiting.get_mut(at) else { return false };
        waiting.draft.count = Some(waiting.draft.count.unwrap_or(1).saturating_add(1));
        true
    }

    fn push(&mut self, key: RefusalKey, waiting: Waiting) {
        self.bytes = self.bytes.saturating_add(size(&waiting.draft));
        self.index.insert(key.clone(), waiting.order);
        self.waiting.push_back((key, waiting));
    }

    fn pop(&mut self) -> Option<Waiting> {
        let (key, waiting) = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(size(&waiting.draft));
        if self.index.get(&key) == Some(&waiting.order) {
            self.index.remove(&key);
        }
        Some(waiting)
    }
}

// === impl Reservation ===

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(reserved) = &self.held {
            reserved.set(reserved.get().saturating_sub(1));
        }
    }
}

const fn size(draft: &Draft) -> usize {
    draft.bytes.len()
}

#[cfg(test)]
mod tests;
