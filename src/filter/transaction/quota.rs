//! From a decision to the upstream: local limits, then the rate limit service in one call, then a place in the audit
//! queue.

use std::rc::Rc;
use std::time::Duration;

use crate::config::Config;
use crate::filter::profile::{Profile, route_of};
use crate::filter::refusal::{Reason, Refusal};
use crate::filter::step::{RequestEdits, Step};
use crate::filter::transaction::{Approach, Call, Need, State, Transaction};
use crate::filter::worker::Taker;
use crate::host::{Body, CalloutId, GrpcCall, Host};
use crate::limits::remote::answer::{Answer, MAX_ANSWER, Verdict};
use crate::limits::remote::headers::Passed;
use crate::limits::remote::question::Question;
use crate::limits::remote::{METHOD, SERVICE, Service};
use crate::limits::spec::FailureModeSpec;
use crate::limits::{Charge, Charging, Degraded, Quota, Receipt, Subject};
use crate::policy::attributes::Attributes;
use crate::resource::Resource;
use crate::time::{Monotonic, UnixTime};

/// What was decided about: resource and action.
pub(super) type Asked = (Rc<Resource>, Rc<str>);

/// A request that may, and is not refused by any limit yet.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) caller: Approach,
    /// `None` where nobody decides.
    pub(super) asked: Option<Asked>,
    /// `None` once the headers went on.
    pub(super) edits: Option<RequestEdits>,
    /// What it was charged so far.
    pub(super) receipt: Receipt,
}

/// A question that the service has.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) call: CalloutId,
    question: Question,
    standing: Standing,
    since: Monotonic,
}

/// For how long a call is waited for beyond its timeout. The proxy ends it first, but for a call whose time it never
/// began to count.
pub(super) const GRACE: Duration = Duration::from_millis(50);

// === impl Transaction ===

impl Transaction {
    /// Charges the local limits, then asks the service where there is anything to ask.
    pub(super) fn charge(&mut self, mut standing: Standing, host: &dyn Host) -> Result<Step, Refusal> {
        let config = Rc::clone(&self.worker.config);
        let profile = config.profile(standing.caller.profile)?;
        let now = self.exchange.event.timestamp;
        let (charging, question) = with_subject(&config, profile, &standing, now, |subject| {
            let charging = config.limits.charge(&profile.limits, subject, host);
            let admitted = matches!(charging.charge, Charge::Admitted { .. });
            let question = admitted.then(|| config.limits.question(&profile.limits, subject)).flatten();
            (charging, question)
        });
        standing.receipt = self.charged(charging, host)?;
        match (question, config.limits.service()) {
            (Some(question), Some(service)) => self.ask(standing, question, service, host),
            // INVARIANT: a global limit without a service is a fault of the configuration
            _ => self.finish(standing, host),
        }
    }

    fn charged(&mut self, charging: Charging, host: &dyn Host) -> Result<Receipt, Refusal> {
        self.note(&charging.degraded, &charging.unknown, host);
        let metrics = &self.worker.metrics;
        match charging.charge {
            Charge::Admitted { quota, receipt } => {
                self.nearer(quota);
                Ok(receipt)
            }
            Charge::Refused { limit, retry_after, quota } => {
                metrics.limit(&limit, "refused", host);
                self.exchange.quota = Some(quota);
                Err(Refusal { reason: Reason::RateLimited, retry_after: Some(retry_after) })
            }
            Charge::Unavailable { limit } => {
                metrics.limit(&limit, "unavailable", host);
                Err(Reason::LimiterUnavailable.into())
            }
        }
    }

    fn ask(
        &mut self,
        standing: Standing,
        question: Question,
        service: &Service,
        host: &dyn Host,
    ) -> Result<Step, Refusal> {
        self.note(&question.degraded, &question.unknown, host);
        let now = host.monotonic();
        if !self.worker.with_breaker(|breaker| breaker.admits(now)) {
            return self.without_answer(standing, &question, host);
        }
        let taker = Taker::Caller(standing.caller.identity.principal.clone());
        let place = match self.enter_waiting(taker, host) {
            Ok(place) => place,
            Err(refusal) => {
                self.refund(standing.receipt, host);
                return Err(refusal);
            }
        };
        let call = host.call(&GrpcCall {
            target: &service.target(),
            service: SERVICE,
            method: METHOD,
            message: &question.message(&service.domain),
            timeout: service.timeout,
        });
        let Ok(call) = call else {
            drop(place);
            self.worker.with_breaker(|breaker| breaker.failed(now));
            return self.without_answer(standing, &question, host);
        };
        let patience = service.timeout.saturating_add(GRACE).min(self.worker.config.bounds.wait);
        let need = Need::Quota(Box::new(Pending { call, question, standing, since: now }));
        self.wait(need, now.plus(patience), place);
        Ok(Step::Await)
    }

    /// A gRPC call was answered: with `status`, and a message of `size` bytes. `None` where nobody waits for it any
    /// more: nothing is to be done.
    pub fn on_call_answered(
        &mut self,
        call: CalloutId,
        status: u32,
        size: usize,
        host: &dyn Host,
    ) -> Option<Step> {
        if !self.awaits(Call::Grpc(call)) {
            return None;
        }
        let readable = status == GRPC_OK && size <= MAX_ANSWER;
        let message = if readable { host.body(Body::Grpc, 0, size).ok() } else { None };
        Some(self.answered(message.as_deref(), host))
    }

    /// The question is answered, or never will be.
    pub(super) fn answered(&mut self, message: Option<&[u8]>, host: &dyn Host) -> Step {
        let State::Waiting(waiting) = std::mem::replace(&mut self.state, State::Idle) else {
            return Step::Await;
        };
        let Need::Quota(pending) = waiting.need else {
            // INVARIANT: whoever calls this has looked; nothing goes on if not
            return self.refuse(Reason::LimiterUnavailable.into());
        };
        let now = host.monotonic();
        self.worker.metrics.duration("rate_limit_service", now.since(pending.since), host);
        let Pending { question, standing, .. } = *pending;
        let read = message.and_then(|message| Answer::read(message, &question).ok());
        let step = match read {
            Some(answer) => {
                self.worker.with_breaker(|breaker| breaker.succeeded());
                self.follow(standing, answer, host)
            }
            None => {
                self.worker.with_breaker(|breaker| breaker.failed(now));
                self.without_answer(standing, &question, host)
            }
        };
        step.unwrap_or_else(|refusal| self.refuse(refusal))
    }

    /// Does what the service says.
    fn follow(&mut self, mut standing: Standing, answer: Answer, host: &dyn Host) -> Result<Step, Refusal> {
        let Passed { headers, dropped } = answer.request_headers;
        let lost = match &mut standing.edits {
            Some(edits) => {
                add(edits, headers);
                false
            }
            None => !headers.is_empty(),
        };
        if lost || dropped || answer.response_headers.dropped {
            self.note(&[Degraded::ServiceHeaders], &[], host);
        }
        self.exchange.service_headers = answer.response_headers.headers;
        match answer.verdict {
            Verdict::Admitted { quota } => {
                self.nearer(quota);
                self.finish(standing, host)
            }
            Verdict::Refused { limit, retry_after, quota } => {
                let config = Rc::clone(&self.worker.config);
                let domain = config.limits.service().map_or("", |service| service.domain.as_str());
                self.worker.metrics.limit(limit.as_deref().unwrap_or(domain), "refused", host);
                self.exchange.quota = quota;
                self.refund(standing.receipt, host);
                Err(Refusal { reason: Reason::RateLimited, retry_after: Some(retry_after) })
            }
        }
    }

    /// The service says nothing: its failure mode says what becomes of the request.
    fn without_answer(
        &mut self,
        mut standing: Standing,
        question: &Question,
        host: &dyn Host,
    ) -> Result<Step, Refusal> {
        let config = Rc::clone(&self.worker.config);
        self.note(&[Degraded::Service], &[], host);
        for limit in question.limits() {
            self.worker.metrics.limit(limit, "unavailable", host);
        }
        let mode = config.limits.service().map_or(FailureModeSpec::Deny, |service| service.failure_mode);
        match mode {
            FailureModeSpec::Allow => self.finish(standing, host),
            FailureModeSpec::Deny => {
                self.refund(standing.receipt, host);
                Err(Reason::LimiterUnavailable.into())
            }
            FailureModeSpec::Local => {
                let profile = config.profile(standing.caller.profile)?;
                let now = self.exchange.event.timestamp;
                let charging = with_subject(&config, profile, &standing, now, |subject| {
                    config.limits.charge_global_here(&profile.limits, subject, host)
                });
                match self.charged(charging, host) {
                    Ok(receipt) => {
                        standing.receipt.join(receipt);
                        self.finish(standing, host)
                    }
                    Err(refusal) => {
                        self.refund(standing.receipt, host);
                        Err(refusal)
                    }
                }
            }
        }
    }

    /// Every limit admits the request: it needs a place in the audit queue, and goes on.
    fn finish(&mut self, standing: Standing, host: &dyn Host) -> Result<Step, Refusal> {
        if let Err(refusal) = self.still_unrevoked(&standing.caller, host) {
            self.refund(standing.receipt, host);
            return Err(refusal);
        }
        let place = self.worker.trail.borrow().reserve();
        match place {
            Ok(reservation) => {
                self.exchange.reservation = Some(reservation);
                Ok(self.forward(standing.edits.unwrap_or_default()))
            }
            Err(_) => {
                self.refund(standing.receipt, host);
                Err(Reason::AuditUnavailable.into())
            }
        }
    }

    fn refund(&mut self, receipt: Receipt, host: &dyn Host) {
        let config = Rc::clone(&self.worker.config);
        if let Some(lost) = config.limits.refund(receipt, host) {
            self.note(&[lost], &[], host);
        }
    }

    /// What was worse than it should be, and parts of keys that the request lacks: each once in its event.
    pub(super) fn note(&mut self, degraded: &[Degraded], unknown: &[String], host: &dyn Host) {
        for degraded in degraded {
            self.worker.metrics.degraded(degraded.word(), host);
        }
        let words = degraded.iter().map(|degraded| degraded.word().to_owned());
        for word in words.chain(unknown.iter().map(|part| format!("limit_key:{part}"))) {
            if !self.exchange.event.degraded.contains(&word) {
                self.exchange.event.degraded.push(word);
            }
        }
    }

    fn nearer(&mut self, quota: Option<Quota>) {
        self.exchange.quota = match (self.exchange.quota, quota) {
            (Some(known), Some(quota)) => Some(known.nearer(quota)),
            (known, quota) => known.or(quota),
        };
    }
}

/// What limits look at.
fn with_subject<T>(
    config: &Config,
    profile: &Profile,
    standing: &Standing,
    now: UnixTime,
    act: impl FnOnce(&Subject<'_>) -> T,
) -> T {
    let nothing = Resource::none();
    let caller = &standing.caller;
    let attributes = Attributes {
        principal: &caller.identity,
        resource: standing.asked.as_ref().map_or(&nothing, |(resource, _)| resource),
        action: standing.asked.as_ref().map_or("", |(_, action)| action),
        environment: &config.environment,
        now: Some(now),
        source: caller.head.source,
    };
    let route = route_of(&caller.head);
    act(&Subject {
        attributes: &attributes,
        source: caller.head.source,
        route: Some(&route),
        profile: &profile.name,
    })
}

/// Adds headers for the upstream, but for those that the gate itself takes off or sets.
fn add(edits: &mut RequestEdits, headers: Vec<(String, String)>) {
    for (name, value) in headers {
        if !edits.remove.contains(&name) && !edits.set.iter().any(|(known, _)| *known == name) {
            edits.set.push((name, value.into_bytes()));
        }
    }
}

/// gRPC's status of a call that succeeded.
const GRPC_OK: u32 = 0;

#[cfg(test)]
mod tests;
