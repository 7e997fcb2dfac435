//! The golden table on the core: a transaction on the fake host, with bodies and answers delivered as Envoy does.
//! The same files run through the real Envoy in `integration/tests/golden.rs`.
//!
//! Host, clocks and secrets are the same in each run, so everything that is observed on the way must be the same bytes on
//! Wasm too (`make test-wasm`).

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a case that cannot run should stop the test"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use mlgate::audit::chain::MacKey;
use mlgate::audit::export::Trail;
use mlgate::audit::verify::{Place, Verdict, Verifier};
use mlgate::cases::file::Request;
use mlgate::cases::gate::Seed;
use mlgate::cases::lists::serve_empty;
use mlgate::cases::{Case, CaseFile, Files, Gate, Observed, Seen};
use mlgate::config::{self, Format};
use mlgate::filter::step::{LocalReply, RequestEdits, Step};
use mlgate::filter::transaction::{EndFacts, Transaction};
use mlgate::filter::worker::Worker;
use mlgate::host::fake::FakeHost;
use mlgate::host::{CalloutId, Host as _};
use mlgate::http::certificate::Names;
use mlgate::http::{PeerCertificate, RouteProfile, StreamFacts};
use mlgate::limits::remote::fake::FakeService;
use mlgate::time::UnixTime;
use serde_json::{Value as Json, json};

use ground::{Here, Witness};

#[path = "support/ground.rs"]
mod ground;

/// How the table calls this runner.
const RUNNER: &str = "core";

/// 2026-01-01: between the dates that configurations name.
const START: i64 = 1_767_225_600_000;

/// What the secrets of each gate are made from.
const SEED: Seed = *b"one table of cases, many runners";

type Fields = Vec<(String, Vec<u8>)>;

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_core_decides_as_the_table_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut ran = 0_usize;
    let mut wrong = Vec::new();
    let mut witness = Witness::new("golden");
    for file in CaseFile::all_of(&Here, &folder).unwrap() {
        let mut core = Core::start(&file.config).unwrap_or_else(|error| panic!("{}: {error}", file.name));
        core.gate.sign(&file.tokens, core.host.unix_time()).unwrap();
        let mut skipped = Vec::new();
        for case in &file.cases {
            if let Some(why) = case.skipped_by(RUNNER) {
                skipped.push(format!("  skipped: {}: {why}", case.note));
                continue;
            }
            ran += 1;
            let observed = core.run(case);
            witness.saw(&format!("{}: {}", file.name, case.note), (core.steps.take(), &observed));
            for difference in observed.differences(case, &core.gate) {
                wrong.push(format!("{}: {}: {difference}", file.name, case.note));
            }
        }
        println!("{}: {} of {} cases", file.name, file.cases.len() - skipped.len(), file.cases.len());
        skipped.iter().for_each(|line| println!("{line}"));
        core.close();
        witness.saw(&format!("{}: every sealed event", file.name), String::from_utf8_lossy(&core.log));
        witness.saw(&format!("{}: all that the host was told", file.name), &core.host);
        wrong.extend(core.verify().into_iter().map(|fault| format!("{}: {fault}", file.name)));
    }
    println!("{ran} cases on the core");
    assert!(ran > 0, "no case ran");
    witness.compare();
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[cfg(not(target_arch = "wasm32"))]
#[test]
fn every_configuration_of_the_table_is_used() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let used: std::collections::BTreeSet<_> =
        CaseFile::all(&folder).unwrap().into_iter().map(|file| file.config).collect();
    let there = std::fs::read_dir(folder.join("config")).unwrap();
    let unused: Vec<_> =
        there.map(|entry| entry.unwrap().path()).filter(|path| !used.contains(path)).collect();
    assert!(unused.is_empty(), "{unused:?}");
}

/// A gate in one worker, with the collector's side of its trail.
struct Core {
    gate: Gate,
    host: FakeHost,
    worker: Rc<Worker>,
    /// What the proxy was told to do since somebody looked.
    steps: RefCell<Vec<String>>,
    /// Events delivered, one a line.
    log: Vec<u8>,
    answered: usize,
    service: FakeService,
}

/// One request between its caller and its upstream.
struct Stream<'a> {
    host: &'a FakeHost,
    steps: &'a RefCell<Vec<String>>,
    service: &'a FakeService,
    transaction: Transaction,
    head: Fields,
    /// Body bytes that are held.
    held: Vec<u8>,
    upstream: Option<Seen>,
    refusal: Option<LocalReply>,
}

// === impl Core ===

impl Core {
    /// Loads a configuration as the filter does.
    fn start(path: &Path) -> Result<Self, String> {
        let gate = Gate::parse(&Here.read(path)?, SEED)?;
        let environment = |name: &str| gate.environment.get(name).cloned();
        let config = config::load(gate.document.to_string().as_bytes(), Format::Json, &environment)
            .map_err(|faults| format!("{}: {faults:?}", path.display()))?;
        let service = FakeService::of(&config.limits);
        let trail = Rc::new(RefCell::new(Trail::new(config.trail_settings())));
        let worker = Rc::new(Worker::new(Rc::new(config), trail));
        let host = FakeHost::at(UnixTime::from_millis(START));
        serve_empty(&worker, &host);
        let answered = host.callouts.borrow().len();
        Ok(Self { gate, host, worker, steps: RefCell::default(), log: Vec::new(), answered, service })
    }

    fn run(&mut self, case: &Case) -> Observed {
        self.host.advance(case.wait());
        let mut observed = Observed::default();
        for _ in 0..case.repeat {
            observed = self.once(case);
            // A collector that answers at once: refusals do not pile up and are not counted together.
            self.deliver();
        }
        let id = observed.decision_id().unwrap_or_default();
        let lines = self.log.split(|byte| *byte == b'\n');
        let mut events = lines.filter_map(|line| serde_json::from_slice::<Json>(line).ok());
        observed.event = events.find(|event| event.get("decision_id").and_then(Json::as_str) == Some(&id));
        observed
    }

    fn once(&self, case: &Case) -> Observed {
        let request = &case.request;
        let body = request.body().unwrap();
        let sent = body.as_ref().map(|body| self.gate.expand(&body.text).unwrap()).unwrap_or_default();
        let has_body = body.is_some();
        let mut stream = Stream {
            host: &self.host,
            steps: &self.steps,
            service: &self.service,
            transaction: Transaction::new(Rc::clone(&self.worker)),
            head: self.head(request, body.as_ref().filter(|body| body.chunks == 1).map(|_| sent.len())),
            held: Vec::new(),
            upstream: None,
            refusal: None,
        };
        let ends = !has_body && request.trailers.is_empty();
        stream.start(facts(case, ends));
        if let Some(body) = body {
            let size = sent.len().div_ceil(body.chunks).max(1);
            let mut pieces: Vec<&[u8]> = sent.chunks(size).collect();
            // HTTP/1 says that a body is over by a callback of its own.
            if request.http == 1 || pieces.is_empty() {
                pieces.push(&[]);
            }
            let last = pieces.len().saturating_sub(1);
            for (index, piece) in pieces.into_iter().enumerate() {
                stream.body(piece, index == last && request.trailers.is_empty());
            }
        }
        if !request.trailers.is_empty() {
            stream.trailers(&request.trailers);
        }
        if stream.refusal.is_none() && stream.upstream.as_ref().is_some_and(|seen| !seen.complete && ends) {
            stream.finish_upstream();
        }
        let mut observed = self.answer(&mut stream, case);
        observed.sent = sent;
        observed.upstream = stream.upstream;
        observed
    }

    fn head(&self, request: &Request, content_length: Option<usize>) -> Fields {
        let mut head: Fields = vec![
            (":authority".to_owned(), request.host.clone().into()),
            (":path".to_owned(), self.gate.expand(&request.path).unwrap()),
            (":method".to_owned(), request.method().into()),
            (":scheme".to_owned(), b"http".to_vec()),
        ];
        head.extend(
            request
                .headers()
                .into_iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), self.gate.expand(value).unwrap())),
        );
        head.extend(content_length.map(|length| ("content-length".to_owned(), length.to_string().into())));
        head
    }

    /// The way back: what was refused is answered here, the rest by the case's upstream.
    fn answer(&self, stream: &mut Stream<'_>, case: &Case) -> Observed {
        let grpc = stream.transaction.is_grpc();
        let mut observed = Observed::default();
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        let mut grpc_status = None;
        match &stream.refusal {
            Some(refusal) => {
                observed.headers = refusal
                    .headers
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone().into()))
                    .collect();
                if grpc {
                    // Envoy answers gRPC callers in trailers alone.
                    observed.status = 200;
                    grpc_status = Some(u32::from(refusal.grpc_status));
                    observed.headers.retain(|(name, _)| name != "content-type");
                    observed.headers.push(("content-type".to_owned(), b"application/grpc".to_vec()));
                    observed.headers.push(("grpc-message".to_owned(), refusal.body.clone()));
                } else {
                    observed.status = refusal.status;
                    pieces.push(refusal.body.clone());
                }
            }
            None => {
                observed.status = case.answer.status;
                let fields = case.answer.headers.iter();
                observed.headers = fields.map(|(name, value)| (name.clone(), value.clone().into())).collect();
                pieces.extend(case.answer.pieces().into_iter().map(|piece| piece.as_bytes().to_vec()));
                let status = case
                    .answer
                    .trailers
                    .get("grpc-status")
                    .or_else(|| case.answer.headers.get("grpc-status"));
                grpc_status = status.filter(|_| grpc).and_then(|status| status.parse().ok());
            }
        }
        observed.grpc_status = grpc_status;
        let mut fields = vec![(":status".to_owned(), observed.status.to_string().into_bytes())];
        fields.extend(observed.headers.iter().cloned());
        let edits = stream.transaction.on_response_headers(&block(&fields));
        self.steps.borrow_mut().push(format!("{edits:?}"));
        observed.headers.retain(|(name, _)| !edits.remove.contains(name));
        for (name, value) in edits.set {
            observed.headers.retain(|(known, _)| *known != name);
            observed.headers.push((name, value.into()));
        }
        for piece in pieces {
            self.host.response_body.replace(piece.clone());
            stream.transaction.on_response_body(piece.len(), &self.host);
            observed.body.extend(piece);
        }
        let end = EndFacts { http_status: Some(observed.status), grpc_status, flags: 0 };
        if let Some((event, place)) = stream.transaction.on_end(&end, &self.host) {
            self.worker.trail.borrow_mut().record(event, place, &self.host);
        }
        observed
    }

    /// Answers everything that is on its way to the collector, as one that keeps everything.
    fn deliver(&mut self) {
        self.worker.trail.borrow_mut().tick(&self.host);
        for _ in 0..1000 {
            let Some(callout) = self.host.callouts.borrow().get(self.answered).cloned() else { return };
            let lines = callout.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let mut acked = BTreeMap::new();
            for event in lines.map(|line| serde_json::from_slice::<Json>(line).unwrap()) {
                acked.insert(event["chain"].as_str().unwrap().to_owned(), event["seq"].clone());
            }
            self.log.extend_from_slice(&callout.body);
            let id = CalloutId(u32::try_from(self.answered).unwrap());
            self.answered += 1;
            let body = json!({ "acked": acked }).to_string();
            self.worker.trail.borrow_mut().on_reply(id, Some(200), body.as_bytes(), &self.host);
        }
        panic!("the trail does not come to an end");
    }

    fn close(&mut self) {
        self.worker.trail.borrow_mut().close(&self.host);
        self.deliver();
    }

    /// Faults of the delivered chain.
    fn verify(&self) -> Vec<String> {
        let document = &self.gate.document;
        let keys =
            document.pointer("/audit/chain/keys").and_then(Json::as_array).into_iter().flatten().map(|key| {
                let secret = &self.gate.environment[key["env"].as_str().unwrap()];
                MacKey::chain(key["id"].as_str().unwrap(), secret.as_bytes()).unwrap()
            });
        let mut verifier = Verifier::new(keys.collect());
        for (index, line) in self.log.split(|byte| *byte == b'\n').enumerate() {
            verifier.line(&Place { file: "log".into(), line: u64::try_from(index).unwrap() + 1 }, line);
        }
        let report = verifier.finish();
        if report.verdict == Verdict::Intact {
            Vec::new()
        } else {
            vec![format!("the log is not intact: {report:?}")]
        }
    }
}

// === impl Stream ===

impl Stream<'_> {
    fn start(&mut self, facts: StreamFacts) {
        let step = self.transaction.on_request_headers(&block(&self.head), facts, self.host);
        self.act(step);
    }

    /// More of the body, together with what is held already.
    fn body(&mut self, piece: &[u8], end: bool) {
        if self.refusal.is_some() {
            return;
        }
        self.held.extend_from_slice(piece);
        self.host.request_body.replace(self.held.clone());
        let step = self.transaction.on_request_body(self.held.len(), end, self.host);
        let goes_on = self.act(step);
        if goes_on && end {
            self.finish_upstream();
        }
    }

    fn trailers(&mut self, trailers: &BTreeMap<String, String>) {
        if self.refusal.is_some() {
            return;
        }
        self.host.request_body.replace(self.held.clone());
        let step = self.transaction.on_request_trailers(self.host);
        if self.act(step)
            && let Some(seen) = &mut self.upstream
        {
            seen.trailers =
                trailers.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
            self.finish_upstream();
        }
    }

    fn finish_upstream(&mut self) {
        if let Some(seen) = &mut self.upstream {
            seen.complete = true;
        }
    }

    /// Does what the proxy would. `true`: what came goes on.
    fn act(&mut self, step: Step) -> bool {
        self.steps.borrow_mut().push(format!("{step:?}"));
        match step {
            // A rate limit service that answers at once.
            Step::Await if !self.host.calls.borrow().is_empty() => {
                let message = self.host.calls.borrow_mut().remove(0);
                let answer = self.service.answer(&message, self.host.unix_time());
                let size = answer.len();
                self.host.grpc_body.replace(answer);
                let step = self.transaction.on_call_answered(CalloutId(0), 0, size, self.host);
                self.act(step.unwrap())
            }
            Step::Await => false,
            Step::Reply(refusal) => {
                self.refusal = Some(refusal);
                false
            }
            Step::Forward(edits) => {
                if let Some(seen) = &mut self.upstream {
                    assert_eq!(edits, RequestEdits::default(), "headers are gone already");
                    seen.body.append(&mut self.held);
                } else {
                    self.send_head(&edits);
                }
                true
            }
        }
    }

    fn send_head(&mut self, edits: &RequestEdits) {
        self.head.retain(|(name, _)| !edits.remove.contains(name));
        for (name, value) in &edits.set {
            self.head.retain(|(known, _)| known != name);
            self.head.push((name.clone(), value.clone()));
        }
        if let Some(path) = &edits.path {
            self.head.retain(|(known, _)| known != ":path");
            self.head.push((":path".to_owned(), path.clone().into()));
        }
        let path = self.head.iter().find(|(name, _)| name == ":path").map(|(_, path)| path.clone());
        self.upstream = Some(Seen {
            path: String::from_utf8_lossy(&path.unwrap_or_default()).into_owned(),
            headers: self.head.clone(),
            body: std::mem::take(&mut self.held),
            ..Seen::default()
        });
    }
}

fn facts(case: &Case, end_of_stream: bool) -> StreamFacts {
    let (route, source) = (&case.route, &case.source);
    let peer = case.certificate.clone().map_or_else(PeerCertificate::default, |shown| PeerCertificate {
        presented: true,
        valid: shown.valid,
        names: Names { uri_sans: shown.uri_san, dns_sans: shown.dns_san, subject: shown.subject },
        ..PeerCertificate::default()
    });
    let profile = |named: &Option<Json>| match named {
        None => RouteProfile::Absent,
        Some(Json::String(name)) => RouteProfile::Named(name.clone()),
        Some(_) => RouteProfile::Unreadable,
    };
    let route_profile = profile(&route.profile);
    // The host's is not asked for where the route names one.
    let virtual_host_profile = if route_profile == RouteProfile::Absent {
        profile(&route.host_profile)
    } else {
        RouteProfile::Absent
    };
    StreamFacts {
        source_address: Some(if source.contains(':') {
            format!("[{source}]:40000")
        } else {
            format!("{source}:40000")
        }),
        route_name: route.name.clone(),
        virtual_host: if route.virtual_host.is_empty() {
            "default".to_owned()
        } else {
            route.virtual_host.clone()
        },
        route_profile,
        virtual_host_profile,
        peer,
        outbound: case.outbound,
        end_of_stream,
    }
}

/// Fields in the form in which the proxy hands them over: their number, their lengths, then each with a NUL behind.
fn block(fields: &Fields) -> Vec<u8> {
    let number = |length: usize| u32::try_from(length).unwrap().to_le_bytes();
    let mut block = number(fields.len()).to_vec();
    for (name, value) in fields {
        block.extend([number(name.len()), number(value.len())].concat());
    }
    for (name, value) in fields {
        block.extend([name.as_bytes(), &[0], value, &[0]].concat());
    }
    block
}
