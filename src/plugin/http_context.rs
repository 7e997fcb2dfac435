//! One stream: hands the transaction what the proxy says, and does what it answers.

use std::cell::RefCell;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

use crate::filter::step::{LocalReply, RequestEdits, Step, valid_value};
use crate::filter::transaction::{EndFacts, Transaction};
use crate::filter::upstream;
use crate::filter::worker::Worker;
use crate::host::{CalloutId, Host, HostError, Level};
use crate::http::certificate::{self, InvalidCertificate, Names};
use crate::http::pairs::Pairs;
use crate::http::{PeerCertificate, RouteProfile, StreamFacts};
use crate::plugin::abi::{self, Map};
use crate::plugin::host::ProxyHost;
use crate::plugin::root_context::Shared;

/// A stream of a configured gate.
pub(super) struct Http {
    id: u32,
    worker: Rc<Worker>,
    transaction: Rc<RefCell<Transaction>>,
    root: Rc<Shared>,
    grpc: bool,
}

/// A stream of a root that has no configuration: the host should not send one, and gets nothing through.
pub(super) struct Unconfigured;

// === impl Http ===

impl Http {
    /// A stream that is about to begin.
    pub(super) fn new(id: u32, worker: Rc<Worker>, root: Rc<Shared>) -> Self {
        let transaction = Rc::new(RefCell::new(Transaction::new(Rc::clone(&worker))));
        Self { id, worker, transaction, root, grpc: false }
    }

    /// The last thing a callback of the request does.
    fn apply(&self, step: Step) -> Action {
        self.await_or_forget();
        let action = apply(step);
        if action == Action::Continue && self.transaction.borrow_mut().release_response() {
            // a stream that is gone has nothing to send on
            let _ = abi::continue_response();
        }
        action
    }

    /// A call of this stream was answered.
    fn go_on(&self, step: Option<Step>) {
        if let Some(step) = step {
            self.await_or_forget();
            resume(&self.transaction, step);
        }
    }

    fn await_or_forget(&self) {
        match self.transaction.borrow().waits_until() {
            Some(_) => self.root.await_tick(self.id, &self.transaction),
            None => self.root.forget(self.id),
        }
    }

    /// What this configuration wants to know of the stream.
    fn facts(&self, end_of_stream: bool) -> StreamFacts {
        let wanted = self.worker.config.wanted;
        let route_profile = profile("xds\0route_metadata\0filter_metadata\0mlgate\0profile");
        let virtual_host_profile = match route_profile {
            RouteProfile::Absent => profile("xds\0virtual_host_metadata\0filter_metadata\0mlgate\0profile"),
            RouteProfile::Named(_) | RouteProfile::Unreadable => RouteProfile::Absent,
        };
        let virtual_host = if wanted.virtual_host { text("xds\0virtual_host_name") } else { None };
        StreamFacts {
            source_address: text("source\0address"),
            route_name: text("xds\0route_name").unwrap_or_default(),
            virtual_host: virtual_host.unwrap_or_default(),
            route_profile,
            virtual_host_profile,
            peer: if wanted.certificate { peer(wanted.digest) } else { PeerCertificate::default() },
            outbound: !self.root.is_gateway() && number("xds\0listener_direction") == Some(OUTBOUND),
            end_of_stream,
        }
    }

    fn response_action(&self) -> Action {
        if self.transaction.borrow().holds_response() { Action::Pause } else { Action::Continue }
    }
}

impl Context for Http {
    /// The status is the callback's: what the proxy would tell of the last call says nothing.
    fn on_grpc_call_response(&mut self, token: u32, status: u32, size: usize) {
        let step = self.transaction.borrow_mut().on_call_answered(CalloutId(token), status, size, &ProxyHost);
        self.go_on(step);
    }

    fn on_http_call_response(&mut self, token: u32, _headers: usize, size: usize, _trailers: usize) {
        let block = abi::headers(Map::Callout).unwrap_or_default();
        let mut transaction = self.transaction.borrow_mut();
        let step = transaction.on_callout_answered(CalloutId(token), &block, size, &ProxyHost);
        drop(transaction);
        self.go_on(step);
    }
}

impl HttpContext for Http {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        self.worker.trail.borrow_mut().open(&ProxyHost);
        // An unreadable block is an empty one, which has no method and is refused.
        let block = abi::headers(Map::Request).unwrap_or_default();
        let facts = self.facts(end_of_stream);
        let step = self.transaction.borrow_mut().on_request_headers(&block, facts, &ProxyHost);
        self.grpc = self.transaction.borrow().is_grpc();
        self.apply(step)
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let step = self.transaction.borrow_mut().on_request_body(size, end_of_stream, &ProxyHost);
        self.apply(step)
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        take_ours(Map::RequestTrailers);
        let step = self.transaction.borrow_mut().on_request_trailers(&ProxyHost);
        self.apply(step)
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let block = abi::headers(Map::Response).unwrap_or_default();
        let edits = self.transaction.borrow_mut().on_response_headers(&block);
        for name in &edits.remove {
            let _ = abi::remove_header(Map::Response, name);
        }
        for (name, value) in &edits.set {
            let _ = abi::set_header(Map::Response, name, value.as_bytes());
        }
        self.response_action()
    }

    fn on_http_response_body(&mut self, size: usize, _end_of_stream: bool) -> Action {
        self.transaction.borrow_mut().on_response_body(size, &ProxyHost);
        self.response_action()
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        take_ours(Map::ResponseTrailers);
        self.response_action()
    }

    fn on_log(&mut self) {
        self.root.forget(self.id);
        let end = EndFacts {
            http_status: number("response\0code")
                .and_then(|code| u16::try_from(code).ok())
                .filter(|code| *code > 0),
            // for others the proxy makes one up of the HTTP status
            grpc_status: if self.grpc {
                number("response\0grpc_status").and_then(|code| u32::try_from(code).ok())
            } else {
                None
            },
            flags: number("response\0flags").unwrap_or(0),
        };
        let event = self.transaction.borrow_mut().on_end(&end, &ProxyHost);
        if let Some((event, reservation)) = event {
            self.worker.trail.borrow_mut().record(event, reservation, &ProxyHost);
            self.root.deliver_soon();
        }
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.root.forget(self.id);
    }
}

// === impl Unconfigured ===

impl Context for Unconfigured {}

impl HttpContext for Unconfigured {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let _ = abi::send_local_response(503, "unconfigured", b"", &Pairs::write(&[]), 14);
        Action::Pause
    }

    fn on_http_request_body(&mut self, _size: usize, _end_of_stream: bool) -> Action {
        Action::Pause
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        Action::Pause
    }
}

/// The only place that holds, sends on or answers. Works on the effective context: the callback's own, or the one the
/// root has made effective.
pub(super) fn apply(step: Step) -> Action {
    let reply = match step {
        Step::Await => return Action::Pause,
        Step::Forward(edits) => match edit(&edits) {
            Ok(()) => return Action::Continue,
            Err(error) => {
                // The request would go on with what should not leave, or without what should.
                ProxyHost
                    .log(Level::Error, &format!("mlgate: request headers could not be edited: {error:?}"));
                LocalReply {
                    status: 503,
                    grpc_status: 14,
                    headers: Vec::new(),
                    body: Vec::new(),
                    details: "edit_failed",
                }
            }
        },
        Step::Reply(reply) => reply,
    };
    let headers: Vec<(&str, &str)> = reply
        .headers
        .iter()
        .filter(|(_, value)| valid_value(value.as_bytes()))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let sent = abi::send_local_response(
        reply.status,
        reply.details,
        &reply.body,
        &Pairs::write(&headers),
        reply.grpc_status,
    );
    if let Err(error) = sent {
        ProxyHost.log(Level::Error, &format!("mlgate: an answer could not be sent: {error:?}"));
    }
    Action::Pause
}

/// Does what a step says outside of the request's own callbacks, where a request is held that may go on.
pub(super) fn resume(transaction: &RefCell<Transaction>, step: Step) {
    if apply(step) == Action::Continue {
        let _ = abi::continue_request();
        if transaction.borrow_mut().release_response() {
            let _ = abi::continue_response();
        }
    }
}

/// Trailers carry nothing under our names in either direction: some servers merge them into the headers.
fn take_ours(map: Map) {
    for name in upstream::strip(&abi::headers(map).unwrap_or_default()).remove {
        let _ = abi::remove_header(map, &name);
    }
}

fn edit(edits: &RequestEdits) -> Result<(), HostError> {
    for name in &edits.remove {
        abi::remove_header(Map::Request, name)?;
    }
    for (name, value) in &edits.set {
        if !valid_value(value) {
            return Err(HostError::BadArgument);
        }
        abi::set_header(Map::Request, name, value)?;
    }
    match &edits.path {
        Some(path) => abi::set_header(Map::Request, ":path", path.as_bytes()),
        None => Ok(()),
    }
}

/// Absence falls through; whatever else is no name denies.
fn profile(path: &str) -> RouteProfile {
    match abi::property(path).map(String::from_utf8) {
        Ok(Ok(name)) => RouteProfile::Named(name),
        Err(HostError::NotFound) => RouteProfile::Absent,
        Ok(Err(_)) | Err(_) => RouteProfile::Unreadable,
    }
}

/// `envoy.config.core.v3.TrafficDirection`. Asked of every stream: a sidecar has listeners for both directions, and a
/// plugin may run in both, whose streams share one root context.
const OUTBOUND: u64 = 2;

fn peer(digest: bool) -> PeerCertificate {
    let truth = |path| abi::property(path).ok().map(|value| value == [1]);
    if truth("connection\0mtls") != Some(true) {
        return PeerCertificate::default();
    }
    let subject = text("connection\0subject_peer_certificate");
    let names = match abi::property("connection\0peer_certificate") {
        Ok(encoded) => certificate::decode(&encoded).and_then(|der| Names::read(&der)),
        // before Envoy 1.40 it shows no more
        Err(HostError::NotFound) => Ok(Names {
            uri_sans: text("connection\0uri_san_peer_certificate").into_iter().collect(),
            dns_sans: text("connection\0dns_san_peer_certificate").into_iter().collect(),
            subject: None,
        }),
        Err(_) => Err(InvalidCertificate),
    };
    PeerCertificate {
        presented: true,
        valid: truth("connection\0peer_certificate_valid"),
        unreadable: names.is_err(),
        // as the proxy writes it, in every version
        names: Names { subject, ..names.unwrap_or_default() },
        digest: if digest { text("connection\0sha256_peer_certificate_digest") } else { None },
        hop: Vec::new(),
    }
}

pub(super) fn text(path: &str) -> Option<String> {
    String::from_utf8(abi::property(path).ok()?).ok()
}

/// Integers come as eight bytes, little endian.
fn number(path: &str) -> Option<u64> {
    Some(u64::from_le_bytes(abi::property(path).ok()?.try_into().ok()?))
}
