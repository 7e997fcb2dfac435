//! The golden table in the real Envoy: the built filter in two workers, requests byte by byte over HTTP/1 and HTTP/2, events
//! from the collector's log. The same files run on the core in `tests/golden.rs` of the root package.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test is the outside world, and may stop"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use mlgate::cases::check::DECISION_ID;
use mlgate::cases::file::{Reach, Route as CaseRoute};
use mlgate::cases::{Case, CaseFile, Gate as Secrets, Observed};
use mlgate::time::UnixTime;
use mlgate_integration::caller::{self, Message};
use mlgate_integration::client::Answer;
use mlgate_integration::collector::text;
use mlgate_integration::gate::Gate;
use mlgate_integration::scripted::Scripted;
use mlgate_integration::{Cluster, EnvoyBuilder, Route, VirtualHost, artifacts};
use serde_json::{Value, json};

/// How the table calls this runner.
const RUNNER: &str = "envoy";

/// Which route a request wants; Envoy matches it.
const ROUTE: &str = "x-case-route";

/// Which request it was, as the upstream sees it.
const NUMBER: &str = "x-case-number";

/// The longest wait between two cases.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long an event may take to the log.
const DELIVERY: Duration = Duration::from_secs(10);

/// How often a request is made again while lists are not there.
const LOOKS: u32 = 100;

/// How long a reset may take to the upstream.
const SETTLED: Duration = Duration::from_millis(150);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_decides_as_the_table_says() -> anyhow::Result<()> {
    let files = CaseFile::all(&artifacts::root().join("tests/cases")).map_err(anyhow::Error::msg)?;
    let mut by_config: BTreeMap<PathBuf, Vec<CaseFile>> = BTreeMap::new();
    for file in files {
        by_config.entry(file.config.clone()).or_default().push(file);
    }
    let mut ran = 0;
    let mut wrong = Vec::new();
    for (config, files) in by_config {
        let name = config.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let ran_here = run(&config, &files, &mut wrong).await.with_context(|| name)?;
        ran += ran_here;
    }
    println!("{ran} cases in Envoy");
    assert!(ran > 0, "no case ran");
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// Runs every file of one configuration on one gate.
async fn run(config: &Path, files: &[CaseFile], wrong: &mut Vec<String>) -> anyhow::Result<usize> {
    let name = config.file_stem().unwrap_or_default().to_string_lossy();
    let mut secrets = Secrets::read(config).map_err(anyhow::Error::msg)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    for file in files {
        secrets.sign(&file.tokens, UnixTime::from_millis(0).plus(now)).map_err(anyhow::Error::msg)?;
    }
    let older = artifacts::envoy_minor()? < 40;
    let upstream = Scripted::start().await?;
    let cluster = Cluster::http2("model", upstream.address());
    let routes = Routes::of(files)?;
    let gate = Gate::start(&name, secrets, cluster, |builder| routes.add_to(builder)).await?;
    let mut observations: Vec<(&str, &Case, Observed)> = Vec::new();
    let mut ran = 0;
    for file in files {
        let mut skipped = Vec::new();
        let mut ran_here = 0;
        for case in &file.cases {
            let too_long = (case.wait() > PATIENCE).then(|| format!("{:?} of real time", case.wait()));
            if let Some(why) = case.skipped_by(RUNNER).or(too_long) {
                skipped.push(format!("  skipped: {}: {why}", case.note));
                continue;
            }
            ran_here += 1;
            tokio::time::sleep(case.wait()).await;
            let mut observed = call(&gate, &upstream, &routes, case).await;
            for _ in 0..LOOKS {
                // lists are polled from the start on, and may not be there yet
                let told =
                    observed.as_ref().map(|observed| String::from_utf8_lossy(&observed.body).into_owned());
                if !told.is_ok_and(|told| told.contains("revocation_unavailable")) {
                    break;
                }
                tokio::time::sleep(SETTLED).await;
                observed = call(&gate, &upstream, &routes, case).await;
            }
            if let Ok(observed) = &mut observed
                && older
                && cut_short(case, observed)
            {
                let why = "before Envoy 1.40 the upstream's library takes the reset for an end";
                skipped.push(format!("  left out: {}: that no end is seen: {why}", case.note));
            }
            let place = || format!("{}: {}", file.name, case.note);
            match (observed.with_context(place), &case.envoy) {
                (Err(error), _) => wrong.push(format!("{error:#}")),
                (Ok(observed), None) => observations.push((&file.name, case, observed)),
                (Ok(observed), Some(itself)) => {
                    if observed.status != itself.status || observed.decision_id().is_some() {
                        wrong.push(format!("{}: Envoy answers {} itself", place(), observed.status));
                    }
                }
            }
        }
        println!("{}: {ran_here} of {} cases", file.name, file.cases.len());
        skipped.iter().for_each(|line| println!("{line}"));
        ran += ran_here;
    }

    let recorded = observations.iter().filter(|(_, case, _)| case.expect.audit != Some(json!("none")));
    let decisions: BTreeSet<String> =
        recorded.filter_map(|(_, _, observed)| observed.decision_id()).collect();
    if let Err(error) = gate.delivered(&decisions, DELIVERY).await {
        wrong.push(format!("{name}: {error:#}"));
    }
    let events = gate.collector.events()?;
    let by_decision: BTreeMap<&str, &Value> =
        events.iter().map(|event| (text(event, "decision_id"), event)).collect();
    for (file, case, mut observed) in observations {
        let id = observed.decision_id().unwrap_or_default();
        observed.event = by_decision.get(id.as_str()).copied().cloned();
        for difference in observed.differences(case, &gate.secrets) {
            wrong.push(format!("{file}: {}: {difference}", case.note));
        }
    }
    // where every case is left out there is no event, and a log without any is not called intact
    let verdict = gate.collector.verify()?;
    if ran > 0 && verdict.exit != Some(0) {
        wrong.push(format!("{name}: the log is not intact: {}", verdict.text));
    }
    gate.check_one_life().await?;
    Ok(ran)
}

/// Where a refusal cuts a request short, the upstream may have its headers and must see no end. An Envoy that resets the
/// stream in a way that the upstream's library takes for an end is forgiven that, once no byte of the body came.
fn cut_short(case: &Case, observed: &mut Observed) -> bool {
    let cut = matches!(case.expect.seen(), Ok(Reach::HeadersOnly));
    match &mut observed.upstream {
        Some(seen) if cut && seen.complete && seen.body.is_empty() => {
            seen.complete = false;
            true
        }
        _ => false,
    }
}

/// A number for each request, so that one that is reset late is not taken for the next.
fn number() -> Vec<u8> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed).to_string().into()
}

async fn call(gate: &Gate, upstream: &Scripted, routes: &Routes, case: &Case) -> anyhow::Result<Observed> {
    let expand = |text: &str| gate.secrets.expand(text).map_err(anyhow::Error::msg);
    let request = &case.request;
    let mut message = Message {
        method: request.method().to_owned(),
        host: request.host.clone(),
        path: expand(&request.path)?,
        ..Message::default()
    };
    for (name, value) in request.headers() {
        let name = if request.http == 2 { name.to_ascii_lowercase() } else { name.to_owned() };
        message.headers.push((name, expand(value)?));
    }
    message.headers.extend(routes.header(case));
    let place = message.headers.len();
    message.headers.push((NUMBER.to_owned(), Vec::new()));
    let mut sent = Vec::new();
    if let Some(body) = request.body().map_err(anyhow::Error::msg)? {
        sent = expand(&body.text)?;
        let size = sent.len().div_ceil(body.chunks).max(1);
        let pieces: Vec<Vec<u8>> = sent.chunks(size).map(<[u8]>::to_vec).collect();
        message.body = Some(if pieces.is_empty() { vec![Vec::new()] } else { pieces });
    }
    for (name, value) in &request.trailers {
        message.trailers.push((name.clone(), value.clone().into()));
    }
    let from: IpAddr = case.source.parse().context("an address that no caller has")?;
    let mut answer = None;
    for _ in 0..case.repeat {
        upstream.expect(&case.answer);
        if let Some((_, value)) = message.headers.get_mut(place) {
            *value = number();
        }
        answer = Some(match request.http {
            2 => caller::http2(from, gate.envoy.address(), &message).await?,
            _ => caller::http1(from, gate.envoy.address(), &message).await?,
        });
    }
    let Some(answer) = answer else { bail!("nothing was sent") };
    let this = message.headers.get(place).cloned().unwrap_or_default();
    let seen = || upstream.seen().into_iter().find(|seen| seen.headers.contains(&this));
    if case.expect.reason.is_some() && message.body.is_some() && seen().is_some() {
        // What was under way to the upstream is reset; a byte of a body would come now.
        tokio::time::sleep(SETTLED).await;
    }
    let mut observed = observed(&answer);
    observed.sent = sent;
    observed.upstream = seen();
    Ok(observed)
}

fn observed(answer: &Answer) -> Observed {
    let grpc = answer.header("content-type").is_some_and(|kind| kind.starts_with("application/grpc"));
    Observed {
        status: answer.status,
        grpc_status: answer.grpc_status().filter(|_| grpc),
        headers: answer
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect(),
        body: answer.body.to_vec(),
        ..Observed::default()
    }
}

/// The routes that the cases speak of, each under a number that a request asks for.
struct Routes {
    numbered: Vec<CaseRoute>,
    /// Virtual host to its domain and metadata.
    hosts: BTreeMap<String, (String, Option<Value>)>,
}

// === impl Routes ===

impl Routes {
    fn of(files: &[CaseFile]) -> anyhow::Result<Self> {
        let mut routes = Self { numbered: Vec::new(), hosts: BTreeMap::new() };
        for case in files.iter().flat_map(|file| &file.cases) {
            let route = &case.route;
            if *route == CaseRoute::default() {
                continue;
            }
            if !routes.numbered.contains(route) {
                routes.numbered.push(route.clone());
            }
            if !route.virtual_host.is_empty() {
                let host = (case.request.host.clone(), route.host_profile.clone());
                let known = routes.hosts.entry(route.virtual_host.clone()).or_insert_with(|| host.clone());
                if *known != host {
                    bail!("{}: the virtual host `{}` is two", case.note, route.virtual_host);
                }
            } else if route.host_profile.is_some() {
                bail!("{}: name the virtual host", case.note);
            }
        }
        Ok(routes)
    }

    fn header(&self, case: &Case) -> Option<(String, Vec<u8>)> {
        let number = self.numbered.iter().position(|route| *route == case.route)?;
        Some((ROUTE.to_owned(), number.to_string().into()))
    }

    fn add_to(&self, mut builder: EnvoyBuilder) -> EnvoyBuilder {
        for (name, (domain, profile)) in &self.hosts {
            let mut host = VirtualHost::new(name, &[domain]);
            if let Some(profile) = profile {
                host = host.metadata("mlgate", json!({ "profile": profile }));
            }
            builder = builder.virtual_host(self.of_host(name).fold(host, VirtualHost::route));
        }
        self.of_host("").fold(builder, EnvoyBuilder::route)
    }

    fn of_host<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Route> + 'a {
        let numbered = self.numbered.iter().enumerate().filter(move |(_, route)| route.virtual_host == name);
        numbered.map(|(number, route)| {
            let mut made = Route::prefix("/", "model").header(ROUTE, &number.to_string());
            if !route.name.is_empty() {
                made = made.name(&route.name);
            }
            match &route.profile {
                Some(profile) => made.metadata("mlgate", json!({ "profile": profile })),
                None => made,
            }
        })
    }
}

#[test]
fn the_table_and_the_filter_call_the_decision_alike() {
    assert_eq!(DECISION_ID, mlgate::filter::reply::DECISION_ID);
}
