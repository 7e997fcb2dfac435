//! A service that is killed, slow, garbled, undecided or failing: each failure mode does what it says, nobody waits longer
//! than the timeout, a dead service is paid for by the first few requests and not by each, and it is asked again soon
//! after it is back.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::Request;
use mlgate::limits::remote::breaker::{MAX_FAILURES, OPEN};
use mlgate_integration::client::{Answer, Http1};
use mlgate_integration::gate::Gate;
use mlgate_integration::rate_limit_service::Answers;
use mlgate_integration::{Cluster, ModelServer, RateLimitService};

use crate::scene;

/// `timeout` of the service.
const TIMEOUT: Duration = Duration::from_millis(200);

/// What a busy machine may take beyond any bound: its scheduler, not the gate.
const TOLERANCE: Duration = Duration::from_millis(300);

/// What a request may take more, at the median, than without a global limit, while nobody calls the service.
const ADDED: Duration = Duration::from_millis(1);

/// Requests for that median, each in turn with one to a gate without a global limit.
const PAIRS: usize = 200;

/// What the global limit admits, and how many ask.
const LIMIT: usize = 8;
const ASKING: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Error,
    Garbage,
    Killed,
    Slow,
    Unknown,
}

const FAULTS: [Fault; 5] = [Fault::Error, Fault::Garbage, Fault::Killed, Fault::Slow, Fault::Unknown];

/// A gate with one failure mode, one without a global limit, and the connections on which both are asked: a breaker is
/// each worker's own, and one connection stays in one worker.
struct Pair {
    mode: &'static str,
    service: RateLimitService,
    gate: Gate,
    plain: Gate,
    connection: Http1,
    beside: Http1,
}

/// What one fault came to.
#[derive(Debug)]
struct Figures {
    /// The longest of the first requests, which pay.
    first: Duration,
    /// The median and the longest while nobody calls the service.
    open: (Duration, Duration),
    /// The median without a global limit, in turn with those.
    plain: Duration,
    /// From the service's return until it was asked again.
    back: Duration,
}

/// A caller for each fault, so that none has used up what another counts, and one whose tier has no end.
fn callers() -> Vec<(String, &'static str)> {
    let each = (0..FAULTS.len()).map(|number| (format!("caller0{number}"), "any"));
    each.chain([("endless0".to_owned(), "endless")]).collect()
}

fn document(limits: &str, mode: &str) -> String {
    let callers = callers();
    let callers: Vec<(&str, &str)> = callers.iter().map(|(id, tier)| (id.as_str(), *tier)).collect();
    let service = format!("timeout: {}ms, failure_mode: {mode}", TIMEOUT.as_millis());
    scene::document(&callers, limits, &service)
}

// === impl Pair ===

impl Pair {
    async fn start(mode: &'static str, upstream: &ModelServer) -> anyhow::Result<Self> {
        let limits = format!(
            "
  - name: fleet
    key: [principal]
    scope: global
    rates: {{ default: [{{ limit: {LIMIT}, window: 1h }}], endless: [{{ limit: 1000000000, window: 1h }}] }}"
        );
        let document = document(&limits, mode);
        let service = RateLimitService::in_memory(&scene::limits(&document)?).await?;
        let model = || Cluster::http1("model", upstream.address());
        let secrets = scene::secrets(&document)?;
        let gate = scene::gate(&format!("failures-{mode}"), secrets, model(), &service).await?;
        let secrets = scene::secrets(&self::document("  []", mode))?;
        let plain = scene::gate(&format!("failures-{mode}-plain"), secrets, model(), &service).await?;
        let connection = Http1::connect(gate.envoy.address()).await?;
        let beside = Http1::connect(plain.envoy.address()).await?;
        Ok(Self { mode, service, gate, plain, connection, beside })
    }

    async fn call(&mut self, caller: &str) -> anyhow::Result<(Answer, Duration)> {
        timed(&mut self.connection, scene::request(&self.gate, caller, "m")?).await
    }

    async fn call_plain(&mut self) -> anyhow::Result<Duration> {
        let request = scene::request(&self.plain, "endless0", "m")?;
        let (answer, took) = timed(&mut self.beside, request).await?;
        ensure!(answer.status == 200);
        Ok(took)
    }

    async fn break_by(&mut self, fault: Fault) {
        match fault {
            Fault::Error => {
                let code = tonic::Code::Internal;
                self.service.answer(Answers::Error(code, "out of order".into()));
            }
            Fault::Garbage => self.service.answer(Answers::Garbage),
            Fault::Killed => self.service.kill().await,
            Fault::Slow => self.service.answer(Answers::Late(Duration::from_secs(5))),
            Fault::Unknown => self.service.answer(Answers::Unknown),
        }
    }

    /// Whether an answer is the mode's to one who is within the limit.
    fn check(&self, answer: &Answer) -> anyhow::Result<()> {
        if self.mode == "deny" {
            ensure!(answer.status == 503 && scene::reason(answer)? == "limiter_unavailable", "{answer:?}");
            ensure!(answer.header("retry-after").is_some());
        } else {
            ensure!(answer.status == 200, "{answer:?}");
        }
        Ok(())
    }

    /// Calls that Envoy made or tried to make.
    async fn calls(&self) -> anyhow::Result<u64> {
        let made = self.gate.envoy.statistic("cluster.ratelimit.upstream_rq_total").await?;
        let unconnected =
            self.gate.envoy.statistic("cluster.ratelimit.upstream_rq_pending_failure_eject").await?;
        Ok(made + unconnected)
    }

    /// The whole life of one fault.
    async fn suffer(&mut self, fault: Fault, caller: &str) -> anyhow::Result<Figures> {
        let (well, _) = self.call("endless0").await?;
        ensure!(well.status == 200, "before: {well:?}");
        let bound = TIMEOUT + TOLERANCE;
        self.break_by(fault).await;

        let mut first = Duration::ZERO;
        let called = self.calls().await?;
        for _ in 0..MAX_FAILURES {
            let (answer, took) = self.call("endless0").await?;
            self.check(&answer)?;
            ensure!(took <= bound, "one of the first took {took:?}");
            first = first.max(took);
        }
        ensure!(self.calls().await? - called == u64::from(MAX_FAILURES), "each of them asks");

        // No longer than nobody calls: then one request tries, and pays.
        let (mut open, mut plain) = (Vec::new(), Vec::new());
        let called = self.calls().await?;
        let start = Instant::now();
        while open.len() < PAIRS {
            let (answer, took) = self.call("endless0").await?;
            self.check(&answer)?;
            ensure!(took <= bound, "took {took:?}");
            open.push(took);
            plain.push(self.call_plain().await?);
        }
        let tried = self.calls().await? - called;
        let may_try = u64::try_from(start.elapsed().as_millis() / OPEN.as_millis())? + 1;
        ensure!(tried <= may_try, "{tried} of {PAIRS} asked the service, {may_try} may");

        let mut admitted = 0;
        let mut last = None;
        for _ in 0..ASKING {
            let (answer, took) = self.call(caller).await?;
            ensure!(took <= bound, "took {took:?}");
            admitted += usize::from(answer.status == 200);
            last = Some(answer);
        }
        let last = last.context("nobody asked")?;
        let (expected, status) = match self.mode {
            "allow" => (ASKING, 200),
            "deny" => (0, 503),
            _ => (LIMIT, 429),
        };
        ensure!((admitted, last.status) == (expected, status), "{admitted} of {ASKING} admitted: {last:?}");
        let event = scene::event(&self.gate, &last).await?;
        match self.mode {
            "deny" => ensure!(event["reason"] == "limiter_unavailable", "{event}"),
            _ => ensure!(event["degraded"].to_string().contains("rate_limit_service"), "{event}"),
        }

        let back = self.recover().await?;
        let (open, plain) = (spread(open), spread(plain));
        ensure!(
            open.0 <= plain.0 + ADDED,
            "{:?} at the median, {:?} without a global limit",
            open.0,
            plain.0
        );
        Ok(Figures { first, open, plain: plain.0, back })
    }

    /// Mends the service; how long it took until it was asked again.
    async fn recover(&mut self) -> anyhow::Result<Duration> {
        self.service.answer(Answers::Full);
        self.service.revive().await?;
        self.service.forget();
        let start = Instant::now();
        while self.service.asked().iter().all(|asked| asked.over.is_none()) {
            ensure!(start.elapsed() <= OPEN + TOLERANCE, "not asked for {:?}", start.elapsed());
            self.call("endless0").await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let back = start.elapsed();
        self.service.forget();
        for _ in 0..5 {
            ensure!(self.call("endless0").await?.0.status == 200);
        }
        ensure!(self.service.asked().len() == 5, "closed again: every request asks");
        Ok(back)
    }
}

async fn timed(connection: &mut Http1, request: Request<Bytes>) -> anyhow::Result<(Answer, Duration)> {
    let start = Instant::now();
    let answer = connection.call(request).await?;
    Ok((answer, start.elapsed()))
}

/// The median and the longest.
fn spread(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    let at = |index: usize| times.get(index).copied().unwrap_or_default();
    (at(times.len() / 2), at(times.len().saturating_sub(1)))
}

async fn check_mode(mode: &'static str) -> anyhow::Result<()> {
    let upstream = ModelServer::start().await?;
    let mut pair = Pair::start(mode, &upstream).await?;
    for (fault, (caller, _)) in FAULTS.into_iter().zip(callers()) {
        let Figures { first, open, plain, back } =
            pair.suffer(fault, &caller).await.with_context(|| format!("{fault:?}, failure_mode: {mode}"))?;
        println!(
            "failure_mode {mode}, {fault:?}: first requests at most {first:.1?}; then {:.2?} at the median, {:.1?} at most, \
             {plain:.2?} without a global limit; asked again {back:.0?} after its return",
            open.0, open.1
        );
    }
    for gate in [&pair.gate, &pair.plain] {
        gate.check_one_life().await?;
        let verdict = gate.collector.verify()?;
        assert_eq!(verdict.exit, Some(0), "{}", verdict.text);
    }
    Ok(())
}

#[tokio::test]
async fn a_failing_service_admits_nobody_under_deny() -> anyhow::Result<()> {
    check_mode("deny").await
}

#[tokio::test]
async fn a_failing_service_admits_everybody_under_allow() -> anyhow::Result<()> {
    check_mode("allow").await
}

#[tokio::test]
async fn a_failing_service_leaves_the_same_rates_to_each_envoy_under_local() -> anyhow::Result<()> {
    check_mode("local").await
}
