//! A request whose model its body names: it waits until that body is complete, and is then decided.

use std::rc::Rc;

use crate::filter::refusal::{Reason, Refusal};
use crate::filter::step::{RequestEdits, Step};
use crate::filter::transaction::quota::Standing;
use crate::filter::transaction::{Approach, Need, State, Transaction, Waiting};
use crate::filter::worker::Taker;
use crate::host::{Body, Host};
use crate::resource::rules::PendingResource;
use crate::resource::scan;
use crate::resource::spec::PeekSpec;

/// How much of the request's body the proxy has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    Nothing,
    /// A piece, which it holds beside what it held before.
    Some,
    All,
}

/// A request whose model is not known.
#[derive(Debug)]
pub(super) struct Halted {
    caller: Approach,
    pending: PendingResource,
    /// `None` once the headers went on.
    edits: Option<RequestEdits>,
}

// === impl Transaction ===

impl Transaction {
    /// Holds the request for its body; where that came while somebody was asked who is calling, it decides at once.
    pub(super) fn wait_for_body(
        &mut self,
        caller: Approach,
        pending: PendingResource,
        edits: RequestEdits,
        host: &dyn Host,
    ) -> Result<Step, Refusal> {
        let bounds = self.worker.config.bounds;
        scan::readable(&caller.head.headers).map_err(Refusal::from)?;
        scan::left_to_body(caller.head.query()).map_err(Refusal::from)?;
        if caller.head.facts.end_of_stream {
            return Err(Reason::BodyAmbiguous.into());
        }
        // What does not fit into this machine's numbers (32 bits in the filter) is beyond the bound too.
        let fits = |length: &str| length.parse::<usize>().is_ok_and(|length| length <= bounds.body_held);
        if caller.head.headers.text("content-length").is_some_and(|length| !fits(length)) {
            return Err(Reason::BodyTooLarge.into());
        }
        let (step, edits) = match (self.received, self.worker.config.rules.peek()) {
            (Received::Nothing, PeekSpec::Stream) => (Step::Forward(edits), None),
            (Received::Nothing, PeekSpec::Hold | PeekSpec::Off) => (Step::Await, Some(edits)),
            // A piece came while we asked who is calling: the proxy holds it beside the headers, and would send both on
            // together.
            (Received::Some | Received::All, _) => (Step::Await, Some(edits)),
        };
        if self.exchange.held() > bounds.body_held {
            return Err(Reason::BodyTooLarge.into());
        }
        let taker = Taker::Caller(caller.identity.principal.clone());
        let halted = Halted { caller, pending, edits };
        if self.received == Received::All {
            return self.read_model(halted, host);
        }
        let place = self.enter_waiting(taker, host)?;
        self.wait(Need::Body(Box::new(halted)), host.monotonic().plus(bounds.wait), place);
        Ok(step)
    }

    /// More of the request's body is here: `size` bytes since the last time it was sent on.
    pub fn on_request_body(&mut self, size: usize, end_of_stream: bool, host: &dyn Host) -> Step {
        self.received = if end_of_stream { Received::All } else { Received::Some };
        match &self.state {
            State::Forwarded => {
                self.exchange.input(size, host);
                Step::Forward(RequestEdits::default())
            }
            State::Waiting(waiting) => {
                let decides = waiting.needs_body();
                self.exchange.held_input(size, host);
                if !decides {
                    // what comes while somebody else is asked is held by the proxy, within its own bounds
                    Step::Await
                } else if size > self.worker.config.bounds.body_held {
                    self.refuse(Reason::BodyTooLarge.into())
                } else if end_of_stream {
                    self.body_complete(host)
                } else {
                    Step::Await
                }
            }
            State::Idle | State::Answered => Step::Await,
        }
    }

    /// Trailers end a body that never said so itself.
    pub fn on_request_trailers(&mut self, host: &dyn Host) -> Step {
        self.received = Received::All;
        match &self.state {
            State::Forwarded => Step::Forward(RequestEdits::default()),
            // Headers that were held are sent on with what came behind them, and trailers among it would go on without
            // the body that we hold (Envoy 1.40): the root's tick takes these up.
            State::Waiting(waiting) if waiting.needs_body() && !self.held_headers => self.body_complete(host),
            State::Idle | State::Waiting(_) | State::Answered => Step::Await,
        }
    }

    pub(super) fn body_complete(&mut self, host: &dyn Host) -> Step {
        let State::Waiting(waiting) = std::mem::replace(&mut self.state, State::Idle) else {
            return Step::Await;
        };
        let Need::Body(halted) = waiting.need else {
            return self.refuse(Reason::BodyUnreadable.into());
        };
        self.read_model(*halted, host).unwrap_or_else(|refusal| self.refuse(refusal))
    }

    fn read_model(&mut self, halted: Halted, host: &dyn Host) -> Result<Step, Refusal> {
        let Halted { mut caller, pending, edits } = halted;
        let config = Rc::clone(&self.worker.config);
        let body = host.body(Body::Request, 0, self.exchange.held()).map_err(|_| Reason::BodyUnreadable)?;
        let model = scan::model_of_body(&body, config.bounds.json_depth)?;
        let asked = self.decide(&mut caller, config.rules.complete(&pending, &model), host)?;
        self.charge(Standing::of(caller, Some(asked), edits), host)
    }
}

// === impl Waiting ===

impl Waiting {
    pub(super) const fn needs_body(&self) -> bool {
        matches!(self.need, Need::Body(_))
    }
}
