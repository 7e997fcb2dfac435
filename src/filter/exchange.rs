//! What is known of one request so far: its audit event as it grows, and the digests of its bodies.

use std::rc::Rc;

use crate::audit::digest::{BodyDigest, DigestSettings};
use crate::audit::event::{AccessEvent, CredentialFacts, ResourceFacts, Status};
use crate::audit::queue::Reservation;
use crate::config::Config;
use crate::filter::refusal::{Reason, Refusal};
use crate::filter::transaction::EndFacts;
use crate::filter::upstream;
use crate::host::{Body, Host};
use crate::http::RequestHead;
use crate::identity::Identity;
use crate::limits::gcra::Quota;
use crate::policy::attributes::{Attributes, Category, Value, ValueRef};
use crate::policy::obligations::Obligations;
use crate::time::Monotonic;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// The event as far as it is known.
    pub(super) event: AccessEvent,
    /// Whether the caller reads gRPC statuses.
    pub(super) grpc: bool,
    /// Index of the profile; `default` until one is known.
    pub(super) profile: usize,
    /// The rate nearest refusal.
    pub(super) quota: Option<Quota>,
    /// What the rate limit service wants the caller to read.
    pub(super) service_headers: Vec<(String, String)>,
    /// Headers that policies want the upstream to read.
    pub(super) obliged: Vec<(String, Vec<u8>)>,
    /// The event's place in the queue.
    pub(super) reservation: Option<Reservation>,
    started: Monotonic,
    settings: Option<Rc<DigestSettings>>,
    input: Option<BodyDigest>,
    output: Option<BodyDigest>,
    held: usize,
    /// Bytes of the response's body that have not passed, where its head told their number.
    owed: Option<u64>,
}

/// Characters of a caller's text that an event keeps; a request may carry 64 KiB of them.
pub(super) const MAX_TEXT: usize = 1024;

/// How much of a body is read from the proxy at once.
const CHUNK: usize = 256 << 10;

// === impl Exchange ===

impl Exchange {
    /// The request's head is here. Fails only if the host gives no randomness.
    pub(super) fn begin(
        &mut self,
        head: &RequestHead,
        config: &Config,
        host: &dyn Host,
    ) -> Result<(), Refusal> {
        self.started = host.monotonic();
        self.grpc = head.grpc;
        self.settings = Some(Rc::clone(&config.digest));
        let mut random = [0; 16];
        let drawn = host.random(&mut random);
        let event = &mut self.event;
        event.timestamp = host.unix_time();
        event.decision_id = crate::audit::chain::hex(&random);
        event.request_id = head.headers.text("x-request-id").map(bounded);
        event.trace_id = head.headers.text("traceparent").and_then(trace_id);
        event.method = Some(bounded(&head.method));
        event.host = Some(bounded(&head.host)).filter(|host| !host.is_empty());
        event.route = Some(bounded(&head.facts.route_name)).filter(|route| !route.is_empty());
        event.path = Some(bounded(head.path()));
        event.source = source(head);
        event.policy_revision = Some(config.revision.clone());
        drawn.map_err(|_| Reason::AuditUnavailable.into())
    }

    /// When the head came.
    pub(super) const fn started(&self) -> Monotonic {
        self.started
    }

    /// The caller is known.
    pub(super) fn identified(&mut self, identity: &Identity) {
        let text = |name: &str| match identity.attributes.get(name) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        };
        let event = &mut self.event;
        event.principal = Some(identity.principal.clone());
        event.user_id = Some(identity.name.clone());
        event.org = text("org");
        event.team = text("team");
        event.roles = identity.roles.clone();
        event.tier = Some(identity.tier.clone());
        event.credential = Some(CredentialFacts {
            method: identity.credential.method.clone(),
            id: Some(identity.credential.id.clone()).filter(|id| !id.is_empty()),
            issuer: identity.credential.issuer.clone(),
            jti: identity.credential.token_id.clone(),
        });
        event.scopes = identity.credential.scopes.clone();
        let via: Vec<&str> = identity.via.iter().map(|other| other.principal.as_str()).collect();
        event.via = Some(via.join(" ")).filter(|via| !via.is_empty());
    }

    /// What is asked for is known. `reads` are the attributes that any policy of this revision looks at.
    pub(super) fn resolved(&mut self, attributes: &Attributes<'_>, reads: &[(Category, String)]) {
        let event = &mut self.event;
        let resource = attributes.resource;
        let id = bounded(&resource.id);
        if resource.kind == "model" {
            event.model_id = Some(id.clone());
        }
        event.resource = Some(ResourceFacts { kind: resource.kind.clone(), id });
        event.action = Some(attributes.action.to_owned());
        for (category, name) in reads {
            let Some(value) = attributes.lookup(*category, name) else { continue };
            let value = match value {
                ValueRef::Text(value) => Value::Text(bounded(value)),
                other => other.to_value(),
            };
            event.attributes.entry(*category).or_default().insert(name.clone(), value);
        }
    }

    /// What the policies that allow it want done. Gives the caller as limits are to see it.
    pub(super) fn oblige(
        &mut self,
        obligations: &Obligations,
        identity: &Rc<Identity>,
        host: &dyn Host,
    ) -> Rc<Identity> {
        let Obligations { headers, tier, inputs } = obligations;
        self.obliged =
            headers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect();
        if *inputs {
            self.require_inputs(host);
        }
        let mut identity = Rc::clone(identity);
        if let Some(tier) = tier {
            self.event.tier = Some(tier.clone());
            Rc::make_mut(&mut identity).tier.clone_from(tier);
        }
        identity
    }

    /// Digests the request body whatever the configuration says, from its beginning where it is held.
    fn require_inputs(&mut self, host: &dyn Host) {
        let Some(settings) = self.settings.as_mut().filter(|settings| !settings.inputs) else { return };
        Rc::make_mut(settings).inputs = true;
        self.input = None;
        let size = std::mem::take(&mut self.held);
        self.held_input(size, host);
    }

    /// Bytes of the request body that are sent on. A body without bytes has no digest: some proxies of the upstream end
    /// it with an empty piece, others with the headers.
    pub(super) fn input(&mut self, size: usize, host: &dyn Host) {
        // What was held is part of the first chunk after the decision only if the proxy had not sent it on yet.
        let Some(settings) = self.settings.as_ref().filter(|_| size > 0) else { return };
        let digest = self.input.get_or_insert_with(|| settings.start());
        digest_range(digest, settings.inputs, Body::Request, 0, size, host);
    }

    /// The request body that is held has grown to `size` bytes.
    pub(super) fn held_input(&mut self, size: usize, host: &dyn Host) {
        let Some(settings) = self.settings.as_ref().filter(|_| size > 0) else { return };
        let digest = self.input.get_or_insert_with(|| settings.start());
        digest_range(digest, settings.inputs, Body::Request, self.held, size, host);
        self.held = self.held.max(size);
    }

    /// Bytes of the body that are held.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// A response's head passes.
    pub(super) fn owes(&mut self, block: &[u8]) {
        self.owed = upstream::length(block, self.event.method.as_deref());
    }

    /// Whether the whole of a response has passed, as its head told it.
    pub(super) fn is_answered(&self) -> bool {
        self.owed == Some(0)
    }

    /// Bytes of the response body that pass.
    pub(super) fn output(&mut self, size: usize, host: &dyn Host) {
        let passed = u64::try_from(size).unwrap_or(u64::MAX);
        self.owed = self.owed.and_then(|owed| owed.checked_sub(passed));
        let Some(settings) = self.settings.as_ref().filter(|_| size > 0) else { return };
        let digest = self.output.get_or_insert_with(|| settings.start());
        digest_range(digest, settings.outputs, Body::Response, 0, size, host);
    }

    /// The stream is over: the event is complete.
    pub(super) fn finish(&mut self, status: Status, end: &EndFacts, host: &dyn Host) -> AccessEvent {
        let mut event = std::mem::take(&mut self.event);
        event.status = status;
        event.http_status = end.http_status;
        event.duration_ms =
            Some(u64::try_from(host.monotonic().since(self.started).as_millis()).unwrap_or(u64::MAX));
        let Some(settings) = self.settings.take() else { return event };
        if let Some(digest) = self.input.take() {
            let input = digest.finish();
            event.input_bytes = Some(input.bytes);
            event.input_hash = Some(input.hash).filter(|_| settings.inputs);
            event.partial |= settings.inputs && (input.partial || status == Status::Aborted);
        }
        if let Some(digest) = self.output.take() {
            let output = digest.finish();
            event.output_bytes = Some(output.bytes);
            event.output_hash = Some(output.hash).filter(|_| settings.outputs);
            event.partial |= settings.outputs && (output.partial || status == Status::Aborted);
        }
        event
    }
}

/// Digests `start..end` of a body, reading no more than can change the digest.
fn digest_range(
    digest: &mut BodyDigest,
    wanted: bool,
    body: Body,
    start: usize,
    end: usize,
    host: &dyn Host,
) {
    let mut at = start;
    while at < end {
        if !wanted || digest.is_full() {
            break;
        }
        let length = CHUNK.min(end.saturating_sub(at));
        match host.body(body, at, length) {
            Ok(chunk) if !chunk.is_empty() => {
                digest.update(&chunk);
                at = at.saturating_add(chunk.len());
            }
            _ => break,
        }
    }
    digest.skip(u64::try_from(end.saturating_sub(at)).unwrap_or(u64::MAX));
}

/// The caller's address as text. An IPv4 address is written in one way only, so it is taken as the proxy wrote it.
fn source(head: &RequestHead) -> Option<String> {
    let source = head.source?;
    let written =
        head.facts.source_address.as_deref().filter(|text| source.is_ipv4() && !text.starts_with('['));
    let written = written.and_then(|text| text.rsplit_once(':'));
    Some(written.map_or_else(|| source.to_string(), |(host, _)| host.to_owned()))
}

/// A caller's text, cut at a character.
fn bounded(text: &str) -> String {
    // no text has more characters than bytes
    let more = if text.len() > MAX_TEXT { text.char_indices().nth(MAX_TEXT) } else { None };
    match more {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned(),
        None => text.to_owned(),
    }
}

/// The trace id of a `traceparent` (W3C Trace Context §3.2.2.3).
fn trace_id(traceparent: &str) -> Option<String> {
    let id = traceparent.split('-').nth(1)?;
    let hex = id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (hex && id.bytes().any(|byte| byte != b'0')).then(|| id.to_owned())
}
