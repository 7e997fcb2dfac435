//! End to end: the built filter in the real Envoy, on free loopback ports, several stacks side by side.
//!
//! A test reads like this; nothing has to be stopped by hand, whatever happens:
//!
//! ```no_run
//! use mlgate_integration::{artifacts, client, Cluster, EnvoyBuilder, ModelServer, Plugin, Route, Stack};
//!
//! # async fn example() -> anyhow::Result<()> {
//! let stack = Stack::create("hello")?;
//! let model = ModelServer::start().await?;
//! let envoy = EnvoyBuilder::new()
//!     .concurrency(2)
//!     .plugin(Plugin::new("mlgate", artifacts::filter_wasm()?).configuration(r#"{"version": 1}"#))
//!     .cluster(Cluster::http1("model", model.address()))
//!     .route(Route::prefix("/", "model").metadata("mlgate", serde_json::json!({"profile": "partner"})))
//!     .start(&stack)
//!     .await?;
//! let answer = client::get(envoy.address(), "/v1/models").await?;
//! assert_eq!(answer.status, 200);
//! assert_eq!(model.count(), 1);
//! envoy.check_unharmed().await?; // no VM died
//! # Ok(()) }
//! ```
//!
//! | module | what it gives |
//! |---|---|
//! | [`analysis`] | what `mlgate audit analyze` finds |
//! | [`artifacts`] | the built filter, the built command, the probe, the pinned Envoy |
//! | [`stack`] | a folder for one test's logs and the processes that end with it |
//! | [`envoy`] | a bootstrap from a builder; ready, statistics, log, update, stop |
//! | [`model_server`] | an upstream that answers like vLLM, KServe and MLflow and records what it got |
//! | [`recorder`] | an upstream that writes down when each header block, body byte, trailer and reset came |
//! | [`demo`] | the README's story against all of it: `make demo`, `make run` |
//! | [`scenarios`] | three incidents, without the gate and with it: `make scenarios` |
//! | [`filter_file`] | a filter that can be pushed alone |
//! | [`history`] | generated audit histories with labelled incidents |
//! | [`client`] | HTTP/1 and HTTP/2 callers, hostile bytes and abrupt ends included |
//! | [`caller`] | one request on a connection, byte by byte, from a chosen address |
//! | [`leavers`] | callers that leave before their answer |
//! | [`frames`] | HTTP/2 by hand: what no well-behaved client sends |
//! | [`rate_limit_service`] | a rate limit service on `limitador` that also fails in every way there is |
//! | [`redis`] | a real Redis |
//! | [`openid_provider`] | a real OpenID provider: discovery, keys that rotate, tokens, introspection |
//! | [`relay`] | what stands in front of it, counts, and is down, slow or mad |
//! | [`prometheus`] | a real Prometheus, and its tool |
//! | [`scripted`] | an upstream that answers as it is told and keeps what it saw |
//! | [`collector`] | the command's collector and its verdicts |
//! | [`site`] | what stands around the gate of a play: processes of this run, or containers |
//! | [`composed`] | the stack of `integration/compose.yaml`, where `MLGATE_COMPOSE` asks for it |
//! | [`gate`] | all of it: Envoy with the filter in two workers, a collector, keys made for the run |
//!
//! Processes die with the test run, even when it is killed: they are started by one thread that lives as long as
//! the run, under `setpriv --pdeathsig KILL`. Every wait has a bound. Logs stay in `build/stacks/<pid>-<n>-<name>`, and
//! that path is printed when a test fails.

#![expect(
    clippy::disallowed_methods,
    reason = "this crate is the outside world: it has a clock and an environment"
)]

pub mod analysis;
pub mod artifacts;
pub mod caller;
pub mod client;
pub mod collector;
pub mod composed;
pub mod demo;
pub mod envoy;
pub mod filter_file;
pub mod frames;
pub mod gate;
#[path = "../../tests/support/history.rs"]
pub mod history;
pub mod leavers;
pub mod model_server;
pub mod openid_provider;
pub mod prometheus;
pub mod rate_limit_service;
pub mod recorder;
pub mod redis;
pub mod relay;
pub mod scenarios;
pub mod scripted;
pub mod site;
pub mod stack;

mod background;

pub use client::Answer;
pub use envoy::{Cluster, Envoy, EnvoyBuilder, Plugin, Route, VirtualHost};
pub use model_server::ModelServer;
pub use openid_provider::OpenIdProvider;
pub use prometheus::Prometheus;
pub use rate_limit_service::RateLimitService;
pub use recorder::Recorder;
pub use redis::Redis;
pub use relay::Relay;
pub use stack::{Process, Stack};
