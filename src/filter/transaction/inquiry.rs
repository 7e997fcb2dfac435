//! Who is calling, where somebody else must say it: the request waits for an answer, and is then looked at again from its
//! credentials on.
//!
//! An answer is kept beside the request as well as in the worker's cache, so that a full cache asks nobody twice. Requests
//! of one worker that have the same question wait for one answer; whoever waits beside another asks itself when that one
//! is gone without an answer.

use crate::filter::refusal::{Reason, Refusal};
use crate::filter::step::Step;
use crate::filter::transaction::quota::GRACE;
use crate::filter::transaction::{Call, Need, State, Transaction, Waiting};
use crate::filter::worker::{Flight, Taker};
use crate::host::{Body, CalloutId, Host, Level};
use crate::http::{RequestHead, pairs};
use crate::identity::introspection::answer::MAX_ANSWER;
use crate::identity::introspection::{Answers, Failure, Question, Verdict};
use crate::identity::{Identity, Inquiry};
use crate::time::Monotonic;

/// A request whose caller is not known.
#[derive(Debug)]
pub(super) struct Stranger {
    pub(super) head: RequestHead,
    pub(super) profile: usize,
    /// What was answered about it so far.
    pub(super) answers: Answers,
}

/// A question about a request's caller.
#[derive(Debug)]
pub(super) struct Inquiring {
    stranger: Stranger,
    inquiry: Inquiry,
    awaited: Awaited,
    since: Monotonic,
}

/// How the answer comes.
#[derive(Debug)]
enum Awaited {
    /// To a call of this request.
    Call { id: CalloutId, _flight: Flight },
    /// Through the worker's cache: another request has asked.
    Beside,
}

// === impl Stranger ===

impl Stranger {
    pub(super) fn new(head: RequestHead, profile: usize) -> Self {
        Self { head, profile, answers: Answers::default() }
    }
}

// === impl Inquiring ===

impl Inquiring {
    pub(super) const fn call(&self) -> Option<CalloutId> {
        match &self.awaited {
            Awaited::Call { id, .. } => Some(*id),
            Awaited::Beside => None,
        }
    }
}

// === impl Transaction ===

impl Transaction {
    /// Asks, or waits for the answer that another request asked for.
    pub(super) fn inquire(
        &mut self,
        stranger: Stranger,
        inquiry: Inquiry,
        host: &dyn Host,
    ) -> Result<Step, Refusal> {
        let now = host.monotonic();
        // several questions may follow each other: together they take no longer than one wait
        let end = self.exchange.started().plus(self.worker.config.bounds.wait);
        if now >= end {
            return Err(self.without_word(&inquiry, host));
        }
        let place = self.enter_waiting(Taker::Stranger(stranger.head.source), host)?;
        let (awaited, until) = match &inquiry {
            Inquiry::Introspection(question) => {
                let awaited = match self.worker.take_off(question.key()) {
                    Some(flight) => Awaited::Call { id: self.call(question, host)?, _flight: flight },
                    None => Awaited::Beside,
                };
                let patience = self.worker.config.introspection.timeout(question).saturating_add(GRACE);
                (awaited, now.plus(patience))
            }
            // the root fetches them, for everybody
            Inquiry::Keys(_) => (Awaited::Beside, end),
        };
        let inquiring = Inquiring { stranger, inquiry, awaited, since: now };
        self.held_headers = true;
        self.wait(Need::Caller(Box::new(inquiring)), until.min(end), place);
        Ok(Step::Await)
    }

    fn call(&self, question: &Question, host: &dyn Host) -> Result<CalloutId, Refusal> {
        let now = host.monotonic();
        let config = &self.worker.config;
        let unavailable = || {
            self.worker.metrics.degraded("introspection", host);
            Refusal::from(Reason::IntrospectionUnavailable)
        };
        if !self.worker.with_endpoint(question.endpoint(), |breaker| breaker.admits(now)) {
            return Err(unavailable());
        }
        let callout = config.introspection.callout(question).ok_or_else(unavailable)?;
        host.dispatch(&callout).map_err(|_| {
            self.worker.with_endpoint(question.endpoint(), |breaker| breaker.failed(now));
            unavailable()
        })
    }

    /// An HTTP call was answered: with this header block, and a body of `size` bytes. `None` where nobody waits for it any
    /// more: nothing is to be done.
    pub fn on_callout_answered(
        &mut self,
        call: CalloutId,
        block: &[u8],
        size: usize,
        host: &dyn Host,
    ) -> Option<Step> {
        if !self.awaits(Call::Http(call)) {
            return None;
        }
        let inquiring = self.inquiring()?;
        let Inquiry::Introspection(question) = inquiring.inquiry else {
            // INVARIANT: whoever waits for keys has made no call
            let refusal = self.without_word(&inquiring.inquiry, host);
            return Some(self.refuse(refusal));
        };
        let body = if size <= MAX_ANSWER { host.body(Body::Callout, 0, size).ok() } else { None };
        let verdict = self.worker.config.introspection.read(
            &question,
            pairs::status(block),
            body.as_deref(),
            host.unix_time(),
        );
        self.heard(&question, &verdict, host);
        self.worker.metrics.duration("introspection", host.monotonic().since(inquiring.since), host);
        let mut stranger = inquiring.stranger;
        stranger.answers.add(&question, verdict);
        // the others look at the cache only when nobody is on the way any more
        drop(inquiring.awaited);
        Some(self.proceed(stranger, host).unwrap_or_else(|refusal| self.refuse(refusal)))
    }

    /// What the worker keeps of an answer.
    fn heard(&self, question: &Question, verdict: &Verdict, host: &dyn Host) {
        let now = host.monotonic();
        let config = &self.worker.config;
        let end = config.introspection.keep_until(question, verdict, host.unix_time());
        self.worker.introspected.borrow_mut().insert(question.key(), verdict, host.unix_time(), end);
        self.worker.with_endpoint(question.endpoint(), |breaker| match verdict {
            Verdict::Unavailable(Failure::Silent | Failure::Unauthorized) => breaker.failed(now),
            _ => breaker.succeeded(),
        });
        let failure = match verdict {
            Verdict::Unavailable(failure) => Some(*failure),
            _ => None,
        };
        let is_news = self.worker.is_news(question.endpoint(), failure);
        if let Some(failure) = failure {
            self.worker.metrics.degraded("introspection", host);
            if is_news {
                // not one line for each: the breaker does not stop answers that say nothing
                let name = config.introspection.name(question);
                host.log(Level::Warn, &format!("mlgate: introspection `{name}`: {failure}"));
            }
        }
    }

    /// Whether the root's tick has to look at this request again, since no callback of its own will.
    pub(super) fn is_answered_elsewhere(&self, need: &Need) -> bool {
        match need {
            Need::Caller(inquiring) => match (&inquiring.awaited, &inquiring.inquiry) {
                (Awaited::Beside, Inquiry::Introspection(question)) => {
                    !self.worker.is_in_flight(&question.key())
                }
                (Awaited::Beside, Inquiry::Keys(ticket)) => self.worker.keyrings.is_over(*ticket),
                (Awaited::Call { .. }, _) => false,
            },
            Need::Body(_) | Need::Quota(_) => false,
        }
    }

    /// Whoever asked for this request too is done: the answer is there, or has to be asked for again.
    pub(super) fn ask_again(&mut self, host: &dyn Host) -> Step {
        let Some(inquiring) = self.inquiring() else { return Step::Await };
        self.proceed(inquiring.stranger, host).unwrap_or_else(|refusal| self.refuse(refusal))
    }

    /// Nobody answered in time.
    pub(super) fn unanswered(&mut self, host: &dyn Host) -> Step {
        let Some(inquiring) = self.inquiring() else { return Step::Await };
        match (&inquiring.inquiry, &inquiring.awaited) {
            (Inquiry::Introspection(question), Awaited::Call { .. }) => {
                self.heard(question, &Verdict::Unavailable(Failure::Silent), host);
                self.refuse(Reason::IntrospectionUnavailable.into())
            }
            (inquiry, _) => {
                let refusal = self.without_word(inquiry, host);
                self.refuse(refusal)
            }
        }
    }

    fn without_word(&self, inquiry: &Inquiry, host: &dyn Host) -> Refusal {
        match inquiry {
            Inquiry::Introspection(_) => {
                self.worker.metrics.degraded("introspection", host);
                Reason::IntrospectionUnavailable.into()
            }
            Inquiry::Keys(_) => {
                self.worker.metrics.degraded("jwks", host);
                Reason::KeysUnavailable.into()
            }
        }
    }

    /// Says so where somebody was let in by keys that are older than they should be.
    pub(super) fn note_stale_keys(&mut self, identity: &Identity, host: &dyn Host) {
        // of keys, so of tokens alone: what was asked about may have the same issuer
        let tokens = identity.shown().filter(|shown| shown.credential.method == "jwt");
        let mut issuers = tokens.filter_map(|shown| shown.credential.issuer.as_deref());
        if issuers.any(|issuer| self.worker.keyrings.is_stale(issuer, host)) {
            self.worker.metrics.degraded("jwks", host);
            self.exchange.event.degraded.push(String::from("jwks"));
        }
    }

    /// Whoever waited is gone. A call goes on without them, so that leaving makes no room for more of them than may be.
    pub(super) fn leave(&self, waiting: Waiting) {
        let Need::Caller(inquiring) = waiting.need else { return };
        if let (Awaited::Call { .. }, Inquiry::Introspection(question)) =
            (&inquiring.awaited, &inquiring.inquiry)
        {
            let timeout = self.worker.config.introspection.timeout(question);
            waiting.place.keep(inquiring.since.plus(timeout));
        }
    }

    /// Takes the question out of the wait, whose place becomes free.
    fn inquiring(&mut self) -> Option<Inquiring> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Waiting(waiting) => match waiting.need {
                Need::Caller(inquiring) => Some(*inquiring),
                // INVARIANT: whoever calls this has looked; nothing goes on if not
                Need::Body(_) | Need::Quota(_) => None,
            },
            State::Idle | State::Forwarded | State::Answered => None,
        }
    }
}

#[cfg(test)]
mod tests;
