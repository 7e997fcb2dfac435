//! The probe in an Envoy, and requests of each shape for it.

use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use mlgate_integration::client::{Answer, Call, Http1, Http2, Upload};
use mlgate_integration::recorder::{Event, Seen};
use mlgate_integration::{Cluster, Envoy, EnvoyBuilder, Plugin, Recorder, Route, Stack, artifacts};

/// A protocol, spoken on both sides of Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

pub(crate) const PROTOCOLS: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

/// One Envoy with the probe and a recorder behind it.
pub(crate) struct Setup {
    pub(crate) envoy: Envoy,
    pub(crate) upstream: Recorder,
    _stack: Stack,
}

/// How a request's body comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// HTTP/1 with `content-length`.
    Length,
    /// HTTP/1 chunked.
    Chunked,
    /// HTTP/2, ended by its last data frame.
    Data,
    /// HTTP/2, ended by trailers.
    Trailers,
    /// HTTP/2, no data at all, only trailers.
    TrailersOnly,
}

pub(crate) const SHAPES: [Shape; 5] =
    [Shape::Length, Shape::Chunked, Shape::Data, Shape::Trailers, Shape::TrailersOnly];

/// A request under way.
pub(crate) enum Sending {
    Http1(Upload),
    Http2(Call, Http2),
}

/// The plugin: never reloaded, so that a VM that dies stays dead and is seen.
pub(crate) fn plugin(configuration: &str) -> anyhow::Result<Plugin> {
    Ok(Plugin::new("probe", artifacts::probe_wasm()?)
        .configuration(configuration)
        .failure_policy("FAIL_CLOSED"))
}

/// Starts Envoy with the probe before a recorder.
pub(crate) async fn start(name: &str, protocol: Protocol, plugin: Plugin) -> anyhow::Result<Setup> {
    let stack = Stack::create(name)?;
    let upstream = match protocol {
        Protocol::Http1 => Recorder::http1().await?,
        Protocol::Http2 => Recorder::http2().await?,
    };
    let cluster = match protocol {
        Protocol::Http1 => Cluster::http1("model", upstream.address()),
        Protocol::Http2 => Cluster::http2("model", upstream.address()),
    };
    let envoy = EnvoyBuilder::new().plugin(plugin).cluster(cluster).route(Route::prefix("/", "model"));
    Ok(Setup { envoy: envoy.start(&stack).await?, upstream, _stack: stack })
}

/// A request with a plan and the headers that an edit is seen by.
pub(crate) fn request(method: &str, id: &str, plan: &str) -> http::request::Builder {
    let request = Request::builder().method(method).uri("/asked").header("x-id", id).header("x-plan", plan);
    request.header("x-replaced", "old").header("x-removed", "here")
}

impl Protocol {
    /// One whole request on a connection of its own.
    pub(crate) async fn call(self, setup: &Setup, request: Request<Bytes>) -> anyhow::Result<Answer> {
        match self {
            Self::Http1 => Http1::connect(setup.envoy.address()).await?.call(request).await,
            Self::Http2 => Http2::connect(setup.envoy.address()).await?.call(request).await,
        }
    }
}

impl Shape {
    pub(crate) fn protocol(self) -> Protocol {
        if matches!(self, Self::Length | Self::Chunked) { Protocol::Http1 } else { Protocol::Http2 }
    }

    /// Starts a request: headers now, `PIECES` later.
    pub(crate) async fn open(
        self,
        setup: &Setup,
        request: http::request::Builder,
    ) -> anyhow::Result<Sending> {
        let request = if self == Self::Length { request.header("content-length", "10") } else { request };
        let request = request.body(())?;
        let address = setup.envoy.address();
        Ok(match self.protocol() {
            Protocol::Http1 => Sending::Http1(Http1::connect(address).await?.upload(request).await?),
            Protocol::Http2 => {
                let mut caller = Http2::connect(address).await?;
                Sending::Http2(caller.open(request, false).await?, caller)
            }
        })
    }

    /// How many body bytes an upstream recorder counts for a whole request.
    pub(crate) fn body_bytes(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::TrailersOnly => 0..=0,
            // Chunk sizes are counted too, and Envoy may cut the body as it likes.
            Self::Chunked => 11..=64,
            Self::Length | Self::Data | Self::Trailers => 10..=10,
        }
    }
}

impl Sending {
    pub(crate) async fn first_piece(&mut self, shape: Shape) -> anyhow::Result<()> {
        match self {
            Self::Http1(upload) => upload.send("first").await,
            Self::Http2(..) if shape == Shape::TrailersOnly => Ok(()),
            Self::Http2(call, _) => call.send("first", false),
        }
    }

    pub(crate) async fn last_piece(&mut self, shape: Shape) -> anyhow::Result<()> {
        match self {
            Self::Http1(upload) => upload.send("last.").await,
            Self::Http2(call, _) if shape == Shape::Data => call.send("last.", true),
            Self::Http2(call, _) => {
                if shape == Shape::Trailers {
                    call.send("last.", false)?;
                }
                call.trailers(HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("end"))]))
            }
        }
    }

    pub(crate) async fn answer(self) -> anyhow::Result<Answer> {
        match self {
            Self::Http1(upload) => upload.answer().await,
            Self::Http2(call, _connection) => call.answer().await,
        }
    }
}

impl Setup {
    /// Waits until the log has a line with all of these words, at most five seconds.
    pub(crate) async fn logged(&self, words: &[&str]) -> anyhow::Result<String> {
        for _ in 0..500 {
            let log = self.envoy.log()?;
            if let Some(line) = log.lines().find(|line| words.iter().all(|word| line.contains(word))) {
                return Ok(line.to_owned());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("nothing with {words:?} in the log:\n{}", self.envoy.log()?)
    }

    /// The callbacks of one traced stream, in order.
    pub(crate) fn trace(&self, id: &str) -> anyhow::Result<Vec<String>> {
        let mark = format!("trace {id} ");
        let log = self.envoy.log()?;
        Ok(log.lines().filter_map(|line| Some(line.split_once(&mark)?.1.trim().to_owned())).collect())
    }

    /// The header block that reached the upstream.
    pub(crate) fn forwarded(&self) -> Option<(String, HeaderMap, Event)> {
        self.upstream.events().into_iter().find_map(|event| match &event.what {
            Seen::Headers { path, headers, .. } => Some((path.clone(), headers.clone(), event)),
            _ => None,
        })
    }
}

/// Fails unless an answer is the recorder's own to the request `id`.
pub(crate) fn assert_served(answer: &Answer, id: &str, what: &str) {
    assert_eq!((answer.status, answer.text().as_str()), (200, id), "{what}");
}

/// Fails unless an answer is the probe's refusal of the request `id`.
pub(crate) fn assert_denied(answer: &Answer, id: &str, what: &str) {
    assert_eq!((answer.status, answer.text()), (403, format!("denied {id}")), "{what}");
    assert_eq!(answer.header("x-denied").as_deref(), Some(id), "{what}");
}
