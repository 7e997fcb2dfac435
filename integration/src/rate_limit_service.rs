//! A rate limit service (`envoy.service.ratelimit.v3.RateLimitService`) on the published `limitador`, over gRPC by
//! `tonic`, that also fails in every way that a real one can, and keeps what it was asked.
//!
//! What it answers is what Envoy's and Kuadrant's services answer: a status for each descriptor with the time until its
//! window ends ([`Answers::Full`]), or the bare verdict ([`Answers::Bare`], as Limitador).

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::{Buf, BufMut, Bytes};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use limitador::counter::Counter;
use prost::Message;
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, UnaryService};

use crate::background;
use crate::redis::Redis;

mod counters;
mod messages;

use counters::{Counters, Tally};
use messages::{DescriptorStatus, HeaderValue, RateLimit, RateLimitRequest, RateLimitResponse};

/// A running service; it stops when dropped.
#[derive(Debug)]
pub struct RateLimitService {
    address: SocketAddr,
    state: Arc<State>,
    task: Option<JoinHandle<()>>,
}

/// How it answers from now on. A service that is not there at all is [`RateLimitService::kill`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answers {
    /// The verdict alone, without a status for each descriptor.
    Bare,
    /// A gRPC status, with this message.
    Error(tonic::Code, String),
    /// The truth.
    #[default]
    Full,
    /// A message that cannot be decoded.
    Garbage,
    /// The truth, this much later.
    Late(Duration),
    /// The verdict `UNKNOWN`.
    Unknown,
}

/// Headers that it asks to be added, whatever is in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Additions {
    /// To the answer that the caller gets.
    pub response: Vec<(Vec<u8>, Vec<u8>)>,
    /// To the request that the upstream gets.
    pub request: Vec<(Vec<u8>, Vec<u8>)>,
    /// Values as `raw_value`, as newer services do, instead of `value`.
    pub raw: bool,
}

/// One call that it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `domain`.
    pub domain: String,
    /// The entries of each descriptor, in order.
    pub descriptors: Vec<Vec<(String, String)>>,
    /// `hits_addend`.
    pub hits: u32,
    /// What it said: `None` where that was no verdict.
    pub over: Option<bool>,
}

struct State {
    counters: Counters,
    script: Mutex<Script>,
}

#[derive(Debug, Default)]
struct Script {
    answers: Answers,
    additions: Additions,
    asked: Vec<Asked>,
}

/// Messages pass as bytes, so that the service can answer with bytes that are none.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

/// The one method that there is.
struct ShouldRateLimit(Arc<State>);

// === impl RateLimitService ===

impl RateLimitService {
    /// Counts in memory. `limits` is the file that Limitador reads.
    pub async fn in_memory(limits: &str) -> anyhow::Result<Self> {
        Self::start(ANYWHERE, Counters::in_memory(limits)?).await
    }

    /// Counts in a Redis, which several services can share.
    pub async fn on_redis(limits: &str, redis: &Redis) -> anyhow::Result<Self> {
        Self::start(ANYWHERE, Counters::on_redis(limits, redis.address()).await?).await
    }

    /// Listens on this address and counts in the Redis of another one.
    pub async fn start_on(
        address: SocketAddr,
        limits: &str,
        redis: impl ToSocketAddrs,
    ) -> anyhow::Result<Self> {
        Self::start(address, Counters::on_redis(limits, redis).await?).await
    }

    /// Where it listens, also while it is dead.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers so from now on.
    pub fn answer(&self, answers: Answers) {
        self.state.script().answers = answers;
    }

    /// Adds these headers from now on.
    pub fn add(&self, additions: Additions) {
        self.state.script().additions = additions;
    }

    /// What it was asked since it was last told to forget.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.script().asked.clone()
    }

    /// Forgets what it was asked, not what it counted.
    pub fn forget(&self) {
        self.state.script().asked.clear();
    }

    /// Counts without a call, as if these descriptors had come in one: whether they are over a limit.
    pub async fn count(
        &self,
        domain: &str,
        descriptors: &[Vec<(String, String)>],
        hits: u32,
    ) -> anyhow::Result<bool> {
        let descriptors = descriptors.iter().map(|entries| entries.iter().cloned().collect()).collect();
        Ok(self.state.counters.count(domain, descriptors, u64::from(hits)).await?.over)
    }

    /// Closes the port and every connection, as a killed process does.
    pub async fn kill(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // Over once the task is: its listener and its connections are dropped with it.
            let _aborted = task.await;
        }
    }

    /// Listens again, on the same port, with what it had counted.
    pub async fn revive(&mut self) -> anyhow::Result<()> {
        self.kill().await;
        let listener = TcpListener::bind(self.address).await.context("the port was taken meanwhile")?;
        self.task = Some(serve(listener, Arc::clone(&self.state))?);
        Ok(())
    }

    async fn start(address: SocketAddr, counters: Counters) -> anyhow::Result<Self> {
        let state = Arc::new(State { counters, script: Mutex::default() });
        let listener = TcpListener::bind(address).await.context("the service cannot listen")?;
        let address = listener.local_addr()?;
        let task = Some(serve(listener, Arc::clone(&state))?);
        Ok(Self { address, state, task })
    }
}

impl Drop for RateLimitService {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

// === impl State ===

impl State {
    fn script(&self) -> MutexGuard<'_, Script> {
        // A panicking reader has changed nothing half.
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, message: Bytes) -> Result<Bytes, Status> {
        let request =
            RateLimitRequest::decode(message).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let (answers, additions) = {
            let script = self.script();
            (script.answers.clone(), script.additions.clone())
        };
        let mut asked = Asked::from(&request);
        if let Answers::Late(pause) = answers {
            tokio::time::sleep(pause).await;
        }
        let answer = match answers {
            Answers::Error(code, message) => Err(Status::new(code, message)),
            Answers::Garbage => Ok(Bytes::from_static(GARBAGE)),
            Answers::Unknown => Ok(RateLimitResponse::default().encode_to_vec().into()),
            Answers::Bare | Answers::Full | Answers::Late(_) => {
                let tally =
                    self.count(&request).await.map_err(|error| Status::unavailable(error.to_string()))?;
                asked.over = Some(tally.over);
                let full = answers != Answers::Bare;
                Ok(response(&request, &tally, &additions, full).encode_to_vec().into())
            }
        };
        let mut script = self.script();
        if script.asked.len() < MOST_ASKED {
            script.asked.push(asked);
        }
        answer
    }

    async fn count(&self, request: &RateLimitRequest) -> anyhow::Result<Tally> {
        let entries = |descriptor: &messages::Descriptor| {
            let entries = descriptor.entries.iter();
            entries.map(|entry| (entry.key.clone(), entry.value.clone())).collect::<HashMap<_, _>>()
        };
        let descriptors = request.descriptors.iter().map(entries).collect();
        // 0 is what the field is when it is not there, and then a request counts once
        self.counters.count(&request.domain, descriptors, u64::from(request.hits_addend.max(1))).await
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("script", &self.script).finish_non_exhaustive()
    }
}

// === impl Asked ===

impl From<&RateLimitRequest> for Asked {
    fn from(request: &RateLimitRequest) -> Self {
        let entries = |descriptor: &messages::Descriptor| {
            descriptor.entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect()
        };
        Self {
            domain: request.domain.clone(),
            descriptors: request.descriptors.iter().map(entries).collect(),
            hits: request.hits_addend,
            over: None,
        }
    }
}

// === impl ShouldRateLimit ===

impl UnaryService<Bytes> for ShouldRateLimit {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let state = Arc::clone(&self.0);
        Box::pin(async move { state.answer(request.into_inner()).await.map(tonic::Response::new) })
    }
}

// === impl Raw ===

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const METHOD: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// `OK`.
const WITHIN: i32 = 1;
/// `OVER_LIMIT`.
const OVER: i32 = 2;

/// Field 1 with a length that runs past the end.
const GARBAGE: &[u8] = b"\x0a\xff\x7f<html>";

const MOST_ASKED: usize = 100_000;

fn serve(listener: TcpListener, state: Arc<State>) -> anyhow::Result<JoinHandle<()>> {
    let listener = listener.into_std()?;
    Ok(background::spawn(async move {
        // A socket belongs to the runtime that it was made on.
        if let Ok(listener) = TcpListener::from_std(listener) {
            background::accept(listener, |stream| connection(stream, Arc::clone(&state))).await;
        }
    }))
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(|request: http::Request<Incoming>| {
        let state = Arc::clone(&state);
        async move {
            if request.uri().path() != METHOD {
                return Ok(Status::unimplemented("no such method").into_http());
            }
            Ok::<_, std::convert::Infallible>(Grpc::new(Raw).unary(ShouldRateLimit(state), request).await)
        }
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // How a caller left is no concern of the service.
    let _end = server.serve_connection(TokioIo::new(stream), service).await;
}

fn response(
    request: &RateLimitRequest,
    tally: &Tally,
    additions: &Additions,
    full: bool,
) -> RateLimitResponse {
    let header = |(name, value): &(Vec<u8>, Vec<u8>)| {
        let (value, raw_value) =
            if additions.raw { (Vec::new(), value.clone()) } else { (value.clone(), Vec::new()) };
        HeaderValue { key: name.clone(), value, raw_value }
    };
    let statuses = request.descriptors.iter().map(|descriptor| status(descriptor, tally));
    RateLimitResponse {
        overall_code: if tally.over { OVER } else { WITHIN },
        statuses: if full { statuses.collect() } else { Vec::new() },
        response_headers_to_add: additions.response.iter().map(header).collect(),
        request_headers_to_add: additions.request.iter().map(header).collect(),
    }
}

/// The state of a descriptor is that of the nearest counter of the limit that it names.
fn status(descriptor: &messages::Descriptor, tally: &Tally) -> DescriptorStatus {
    let named =
        descriptor.entries.iter().find(|entry| entry.key == "limit").map(|entry| entry.value.as_str());
    let of_limit = |counter: &&Counter| counter.limit().name() == named;
    let left = |counter: &Counter| counter.remaining().unwrap_or_else(|| counter.max_value());
    let Some(nearest) = tally.counters.iter().filter(of_limit).min_by_key(|counter| left(counter)) else {
        return DescriptorStatus { code: WITHIN, ..DescriptorStatus::default() };
    };
    let until = nearest.expires_in().unwrap_or_else(|| nearest.window());
    DescriptorStatus {
        code: if tally.over && left(nearest) == 0 { OVER } else { WITHIN },
        current_limit: Some(RateLimit {
            requests_per_unit: u32::try_from(nearest.max_value()).unwrap_or(u32::MAX),
            unit: UNITS
                .iter()
                .find(|(window, _)| *window == nearest.window().as_secs())
                .map_or(0, |unit| unit.1),
            name: named.unwrap_or_default().to_owned(),
        }),
        limit_remaining: u32::try_from(left(nearest)).unwrap_or(u32::MAX),
        duration_until_reset: Some(messages::Duration {
            seconds: i64::try_from(until.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(until.subsec_nanos()).unwrap_or_default(),
        }),
    }
}

/// Windows in seconds, and the numbers of `RateLimit.Unit`.
const UNITS: [(u64, i32); 4] = [(1, 1), (60, 2), (3600, 3), (86_400, 4)];
