//! One request's life, from its head to its audit event. The only place that knows the order of the stages.
//!
//! ```text
//! head ─▶ profile ─▶ credentials ─▶ identity ─▶ resource ─▶ decision ─▶ limits ─▶ audit place ─▶ forwarded
//!   │        │                          │           │            │          │           │
//!   └────────┴──────────────────────────┴───────────┴────────────┴──────────┴───────────┴─▶ answered
//!                                       │           │                       └▶ waiting for the service ─▶ audit place …
//!                                       │           └▶ waiting for the body ─▶ decision …
//!                                       └▶ waiting for who is calling ─▶ credentials …
//! ```
//!
//! Every event gives one [`Step`]. In every state but *forwarded* that is to hold or to answer, with the one exception
//! of a body that is held while its headers went on (`peek: stream`).

use std::rc::Rc;

use crate::audit::event::{AccessEvent, Status};
use crate::audit::queue::Reservation;
use crate::config::document::ProfileAuditSpec;
use crate::credentials::{self, Hidden};
use crate::filter::exchange::Exchange;
use crate::filter::profile::{Authenticate, Profile};
use crate::filter::refusal::{Reason, Refusal};
use crate::filter::reply::{Caller, reply};
use crate::filter::step::{LocalReply, RequestEdits, ResponseEdits, Step};
use crate::filter::upstream;
use crate::filter::worker::{Place, Taker, Worker};
use crate::host::{CalloutId, Host};
use crate::http::{HeadLimits, RequestHead, StreamFacts};
use crate::identity::revocation::Revocation;
use crate::identity::{Authentication, Authorities, Identity, Known, authenticate};
use crate::limits::Receipt;
use crate::policy::attributes::Attributes;
use crate::policy::cache::Question;
use crate::remote::Generation;
use crate::resource::rules::Resolution;
use crate::time::Monotonic;

use body::{Halted, Received};
use inquiry::{Inquiring, Stranger};
use quota::{Asked, Pending, Standing};

mod body;
mod guard;
mod inquiry;
mod quota;

/// One request and its answer.
#[derive(Debug)]
pub struct Transaction {
    worker: Rc<Worker>,
    state: State,
    exchange: Exchange,
    received: Received,
    /// The headers were held while somebody was asked who is calling.
    held_headers: bool,
    /// The upstream answered before the decision.
    holds_response: bool,
}

#[derive(Debug)]
enum State {
    /// Nothing has come yet.
    Idle,
    /// What we wait for is what we hold: no flags beside it.
    Waiting(Box<Waiting>),
    /// The upstream works on it.
    Forwarded,
    /// We answered in its place.
    Answered,
}

#[derive(Debug)]
struct Waiting {
    need: Need,
    deadline: Monotonic,
    /// Given back with the wait, however it ends.
    place: Place,
}

#[derive(Debug)]
enum Need {
    /// Somebody must be asked who is calling.
    Caller(Box<Inquiring>),
    /// A rule needs the model that the body names.
    Body(Box<Halted>),
    /// The rate limit service counts.
    Quota(Box<Pending>),
}

/// A request whose caller is known.
#[derive(Debug)]
struct Approach {
    head: RequestHead,
    profile: usize,
    identity: Rc<Identity>,
    /// The revocation list that did not name it.
    unrevoked: Generation,
}

/// A call that was made for a request. The proxy counts the two kinds apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// An HTTP call.
    Http(CalloutId),
    /// A gRPC call.
    Grpc(CalloutId),
}

/// How a stream ended, as the proxy saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndFacts {
    /// Status the caller read; `None` if it read none.
    pub http_status: Option<u16>,
    /// gRPC status, where the caller reads those.
    pub grpc_status: Option<u32>,
    /// Envoy's response flags.
    pub flags: u64,
}

// === impl Transaction ===

impl Transaction {
    /// A request that is about to begin.
    pub fn new(worker: Rc<Worker>) -> Self {
        Self {
            worker,
            state: State::Idle,
            exchange: Exchange::default(),
            received: Received::Nothing,
            held_headers: false,
            holds_response: false,
        }
    }

    /// The head has come.
    pub fn on_request_headers(&mut self, block: &[u8], facts: StreamFacts, host: &dyn Host) -> Step {
        let config = Rc::clone(&self.worker.config);
        let limits = HeadLimits { header_bytes: config.bounds.header_bytes, single: &config.single_headers };
        if facts.end_of_stream {
            self.received = Received::All;
        }
        let (mut head, verdict) = RequestHead::read(block, facts, config.source_trust, limits);
        config.certificates.resolve(&mut head);
        let begun = self.exchange.begin(&head, &config, host);
        let admitted = verdict.map_err(Refusal::from).and(begun).and_then(|()| self.admit(head, host));
        let took = host.monotonic().since(self.exchange.started());
        self.worker.metrics.duration("head", took, host);
        admitted.unwrap_or_else(|refusal| self.refuse(refusal))
    }

    fn admit(&mut self, head: RequestHead, host: &dyn Host) -> Result<Step, Refusal> {
        let config = Rc::clone(&self.worker.config);
        if head.facts.outbound {
            return Err(Reason::DirectionRefused.into());
        }
        let index = config.profiles.of(&head)?;
        let profile = config.profile(index)?;
        self.exchange.profile = index;
        self.exchange.event.profile = Some(profile.name.clone());

        self.proceed(Stranger::new(head, index), host)
    }

    /// The order of the stages. Cheap ones come first, so that a stranger costs little. Comes here again with each
    /// answer to what had to be asked about the caller.
    fn proceed(&mut self, stranger: Stranger, host: &dyn Host) -> Result<Step, Refusal> {
        let config = Rc::clone(&self.worker.config);
        let profile = config.profile(stranger.profile)?;
        let identity = match self.identify(&stranger, profile, host)? {
            Authentication::Caller(identity) => identity,
            Authentication::Asks(inquiry) => return self.inquire(stranger, inquiry, host),
        };
        let Stranger { head, profile: index, .. } = stranger;
        self.exchange.identified(&identity);
        self.note_stale_keys(&identity, host);
        // Only a verified caller learns it, and the event says whose credential is still being tried.
        let unrevoked = self.unrevoked(&head, profile, &identity, host)?;

        let mut edits = RequestEdits::default();
        let forwards = identity.shown().any(|shown| shown.credential.forward);
        let asked = config.introspection.is_configured();
        // where a profile takes opaque tokens alone, one with three parts is such a token too
        let hidden = Hidden {
            tokens: (config.tokens.is_configured() || asked) && !forwards,
            opaque: asked && !forwards,
        };
        credentials::hide(&head, &config.extraction, hidden, &mut edits);
        upstream::introduce(&head, &identity, &mut edits);
        upstream::take_off(&head, config.policies.obliged_headers(), &mut edits);

        let mut approach = Approach { head, profile: index, identity, unrevoked };
        if !profile.authorize {
            return self.charge(Standing::of(approach, None, Some(edits)), host);
        }
        let head = &approach.head;
        let resolution = config.rules.resolve(&head.method, head.path(), &head.host);
        match resolution {
            Resolution::NeedsBody(pending) => self.wait_for_body(approach, pending, edits, host),
            known => {
                let asked = self.decide(&mut approach, known, host)?;
                self.charge(Standing::of(approach, Some(asked), Some(edits)), host)
            }
        }
    }

    fn identify(
        &mut self,
        stranger: &Stranger,
        profile: &Profile,
        host: &dyn Host,
    ) -> Result<Authentication, Refusal> {
        let worker = Rc::clone(&self.worker);
        match &profile.authenticate {
            Authenticate::Nobody(_) => Ok(Authentication::Caller(Rc::clone(&worker.config.anonymous))),
            Authenticate::Caller(accepted) => {
                let found = credentials::find(&stranger.head, &worker.config.extraction);
                let known = Known {
                    verified: &worker.verified,
                    keyrings: &worker.keyrings,
                    introspected: &worker.introspected,
                    answers: &stranger.answers,
                };
                let listed = worker.lists.keys(host);
                let authorities = worker.config.authorities(known, host);
                let authorities = Authorities { listed: listed.borrowed(), ..authorities };
                let found = self.guarded(stranger.head.source, host, |may_work| {
                    authenticate(&found, accepted, Authorities { may_work, ..authorities })
                });
                found.map_err(|refusal| match refusal.reason {
                    Reason::CredentialsUnavailable => {
                        Refusal { retry_after: worker.lists.keys_retry_after(host), ..refusal }
                    }
                    _ => refusal,
                })
            }
        }
    }

    /// Whether nothing that the caller shows was taken back. Who shows nothing is asked nothing.
    fn unrevoked(
        &self,
        head: &RequestHead,
        profile: &Profile,
        identity: &Identity,
        host: &dyn Host,
    ) -> Result<Generation, Refusal> {
        let Authenticate::Caller(_) = profile.authenticate else { return Ok(Generation::NONE) };
        let covered = |revocation: &Revocation| revocation.covers(identity, &head.facts.peer);
        if covered(&self.worker.config.revocation) {
            return Err(Reason::CredentialRevoked.into());
        }
        self.worker.lists.check(host, covered)
    }

    /// The same for a request that may have waited: where the list has not changed, nothing has.
    fn still_unrevoked(&self, caller: &Approach, host: &dyn Host) -> Result<(), Refusal> {
        if self.worker.lists.generation() == caller.unrevoked {
            return Ok(());
        }
        let profile = self.worker.config.profile(caller.profile)?;
        self.unrevoked(&caller.head, profile, &caller.identity, host).map(|_| ())
    }

    /// What policies say. Nothing is charged before.
    fn decide(
        &mut self,
        approach: &mut Approach,
        resolution: Resolution,
        host: &dyn Host,
    ) -> Result<Asked, Refusal> {
        let config = Rc::clone(&self.worker.config);
        let profile = config.profile(approach.profile)?;
        let (resource, action, listed) = match resolution {
            Resolution::Found { resource, action } => (resource, action, true),
            Resolution::Unlisted { resource, action } => (resource, action, false),
            Resolution::NeedsBody(_) | Resolution::Unknown => return Err(Reason::ResourceUnknown.into()),
        };
        let attributes = Attributes {
            principal: &approach.identity,
            resource: &resource,
            action: &action,
            environment: &config.environment,
            now: Some(self.exchange.event.timestamp),
            source: approach.head.source,
        };
        self.exchange.resolved(&attributes, config.policies.reads());
        if !listed {
            return Err(Reason::ResourceUnknown.into());
        }
        let within = approach.identity.scope.allows(&resource, &action, approach.head.source);
        let question = Question { profile: approach.profile, selection: &profile.policies, scope_ok: within };
        let decision = self.worker.decide(question, &attributes, host);
        self.exchange.event.policies.clone_from(&decision.policies);
        for shadow in &decision.shadow {
            if shadow.denies {
                self.worker.metrics.shadow_denied(&shadow.policy, host);
            }
            self.exchange.event.shadow.push(shadow.policy.clone());
        }
        match decision.refused {
            Some(reason) => Err(reason.into()),
            None => {
                let identity = self.exchange.oblige(&decision.obligations, &approach.identity, host);
                approach.identity = identity;
                Ok((resource, action))
            }
        }
    }

    fn enter_waiting(&self, taker: Taker, host: &dyn Host) -> Result<Place, Refusal> {
        self.worker.enter_waiting(taker, host.monotonic()).ok_or_else(|| {
            self.worker.metrics.degraded("waiting", host);
            Reason::Overloaded.into()
        })
    }

    fn wait(&mut self, need: Need, deadline: Monotonic, place: Place) {
        self.state = State::Waiting(Box::new(Waiting { need, deadline, place }));
    }

    /// Whether the caller reads gRPC statuses.
    pub fn is_grpc(&self) -> bool {
        self.exchange.grpc
    }

    /// Until when this request may wait; `None` when it does not.
    pub fn waits_until(&self) -> Option<Monotonic> {
        match &self.state {
            State::Waiting(waiting) => Some(waiting.deadline),
            State::Idle | State::Forwarded | State::Answered => None,
        }
    }

    /// Whether the root's tick has something to do here: what this request waits for has come by another way than a
    /// callback of its own, or its time is over.
    pub fn is_due(&self, host: &dyn Host) -> bool {
        match &self.state {
            State::Waiting(waiting) => {
                waiting.deadline <= host.monotonic()
                    || self.is_answered_elsewhere(&waiting.need)
                    || (waiting.needs_body() && self.received == Received::All)
            }
            State::Idle | State::Forwarded | State::Answered => false,
        }
    }

    /// The root's tick has come by. Only for a request that [`is_due`](Self::is_due).
    pub fn on_due(&mut self, host: &dyn Host) -> Step {
        match &self.state {
            State::Waiting(waiting) if waiting.deadline > host.monotonic() => {
                if waiting.needs_body() {
                    self.body_complete(host)
                } else {
                    self.ask_again(host)
                }
            }
            _ => self.on_deadline(host),
        }
    }

    /// The time of a waiting request is over.
    pub fn on_deadline(&mut self, host: &dyn Host) -> Step {
        match &self.state {
            State::Waiting(waiting) => match &waiting.need {
                Need::Caller(_) => self.unanswered(host),
                Need::Body(_) => self.refuse(Reason::BodyTimeout.into()),
                Need::Quota(_) => self.answered(None, host),
            },
            State::Idle | State::Forwarded | State::Answered => Step::Await,
        }
    }

    /// Whether this request waits for the answer to a gRPC call, or to an HTTP call.
    pub fn awaits(&self, call: Call) -> bool {
        let State::Waiting(waiting) = &self.state else { return false };
        match (&waiting.need, call) {
            (Need::Caller(inquiring), Call::Http(id)) => inquiring.call() == Some(id),
            (Need::Quota(pending), Call::Grpc(id)) => pending.call == id,
            (Need::Caller(_) | Need::Body(_) | Need::Quota(_), _) => false,
        }
    }

    /// The response's head is here: ours, the upstream's, or the proxy's own.
    pub fn on_response_headers(&mut self, block: &[u8]) -> ResponseEdits {
        let mut edits = upstream::strip(block);
        // Only under `peek: stream` can an upstream answer before the decision. An error or a redirect passes: it holds
        // nothing of a model, and may be the proxy's own, after which no more of the body comes.
        self.holds_response = matches!(self.state, State::Waiting(_)) && !upstream::gives_nothing(block);
        if !self.exchange.event.decision_id.is_empty() {
            edits.set.push((
                String::from(crate::filter::reply::DECISION_ID),
                self.exchange.event.decision_id.clone(),
            ));
        }
        self.exchange.owes(block);
        if let State::Forwarded = &self.state {
            edits.set.extend(self.exchange.service_headers.iter().cloned());
            edits.set.extend(self.exchange.quota.iter().flat_map(crate::filter::reply::quota_headers));
        }
        edits
    }

    /// Whether the response must not pass before the request is decided.
    pub const fn holds_response(&self) -> bool {
        self.holds_response
    }

    /// The request goes on. Whether a response was held until now.
    pub const fn release_response(&mut self) -> bool {
        std::mem::replace(&mut self.holds_response, false)
    }

    /// More of the response's body passes. Our own answer passes here too and is no output of a model.
    pub fn on_response_body(&mut self, size: usize, host: &dyn Host) {
        if let State::Forwarded = self.state {
            self.exchange.output(size, host);
        }
    }

    /// The stream is over. Gives the event to record, if this decision is one that is recorded.
    pub fn on_end(&mut self, end: &EndFacts, host: &dyn Host) -> Option<(AccessEvent, Option<Reservation>)> {
        let status = match std::mem::replace(&mut self.state, State::Idle) {
            State::Answered => Status::Denied,
            State::Waiting(waiting) => {
                self.leave(*waiting);
                let (status, reason) = upstream::ended_waiting(end);
                self.exchange.event.reason = reason.map(|reason| reason.answer().inner);
                status
            }
            State::Forwarded => {
                upstream::status(end, self.received == Received::All && self.exchange.is_answered())
            }
            State::Idle if self.exchange.event.decision_id.is_empty() => return None,
            State::Idle => Status::Aborted,
        };
        let event = self.exchange.finish(status, end, host);
        let profile = self.worker.config.profiles.list.get(self.exchange.profile);
        let name = event.profile.clone().unwrap_or_default();
        self.worker.metrics.request(status, event.reason.unwrap_or_default(), &name, host);
        let denials_only = profile.is_some_and(|profile| profile.audit == ProfileAuditSpec::Denials);
        let reservation = self.exchange.reservation.take();
        (!denials_only || status == Status::Denied).then_some((event, reservation))
    }

    fn forward(&mut self, mut edits: RequestEdits) -> Step {
        edits.set.append(&mut self.exchange.obliged);
        self.state = State::Forwarded;
        Step::Forward(edits)
    }

    fn refuse(&mut self, refusal: Refusal) -> Step {
        self.state = State::Answered;
        self.exchange.event.reason = Some(refusal.reason.answer().inner);
        Step::Reply(self.reply(refusal))
    }

    fn reply(&self, refusal: Refusal) -> LocalReply {
        let config = &self.worker.config;
        let caller = Caller {
            decision_id: &self.exchange.event.decision_id,
            grpc: self.exchange.grpc,
            invalid_credential_status: config.invalid_credential_status,
            realm: &config.name,
        };
        let limited = refusal.reason == Reason::RateLimited;
        let mut reply = reply(refusal, self.exchange.quota.as_ref().filter(|_| limited), caller);
        for (name, value) in self.exchange.service_headers.iter().filter(|_| limited) {
            if !reply.headers.iter().any(|(known, _)| known == name) {
                reply.headers.push((name.clone(), value.clone()));
            }
        }
        reply
    }
}

// === impl Standing ===

impl Standing {
    fn of(caller: Approach, asked: Option<Asked>, edits: Option<RequestEdits>) -> Self {
        Self { caller, asked, edits, receipt: Receipt::default() }
    }
}

#[cfg(test)]
mod tests;
