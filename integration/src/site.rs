//! What stands around the gate of a play: a collector, a model server, and an Envoy that knows where both are. They are
//! processes of this run on free loopback ports, or containers ([`crate::composed`]).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use serde_json::Value;

use crate::collector::Collector;
use crate::composed::{self, Composed};
use crate::demo::setup;
use crate::model_server::Capacity;
use crate::{Envoy, EnvoyBuilder, ModelServer, Stack, artifacts};

/// Where a play happens.
#[derive(Debug)]
pub struct Site {
    around: Around,
    /// What the model server of a container had been asked when it was to be forgotten.
    forgotten: u64,
}

#[derive(Debug)]
enum Around {
    Containers(Arc<Composed>),
    Processes { model: ModelServer, filter: PathBuf },
}

/// Worker threads of the gate: more than one, since limits and chains must hold across them.
const WORKERS: u32 = 2;

// === impl Site ===

impl Site {
    /// Starts what the gate of this document needs, or gets it ready to be started with the gate.
    pub async fn prepare(
        stack: &Stack,
        document: &Value,
        environment: &BTreeMap<String, String>,
        capacity: Option<Capacity>,
    ) -> anyhow::Result<(Self, Collector)> {
        if composed::is_wanted() {
            let composed = Arc::new(Composed::prepare(stack, document, environment, capacity)?);
            let collector = Collector::composed(Arc::clone(&composed), document, environment);
            return Ok((Self { around: Around::Containers(composed), forgotten: 0 }, collector));
        }
        let collector = Collector::start(stack, document, environment).await?;
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let model = match capacity {
            Some(capacity) => ModelServer::start_limited(anywhere, capacity).await?,
            None => ModelServer::start_on(anywhere).await?,
        };
        let filter = artifacts::filter_wasm()?;
        Ok((Self { around: Around::Processes { model, filter }, forgotten: 0 }, collector))
    }

    /// The documented bootstrap around `document`.
    pub fn bootstrap(&self, document: &Value, collector: &Collector) -> anyhow::Result<Value> {
        match &self.around {
            Around::Containers(_) => composed::bootstrap(document),
            Around::Processes { model, filter } => {
                setup::bootstrap(document, filter, model.address(), collector.address())
            }
        }
    }

    /// Starts the gate.
    pub async fn start(
        &self,
        stack: &Stack,
        bootstrap: Value,
        environment: &BTreeMap<String, String>,
    ) -> anyhow::Result<Envoy> {
        let started = match &self.around {
            Around::Containers(composed) => composed.up(stack, &bootstrap).await,
            Around::Processes { .. } => {
                let builder = EnvoyBuilder::new().concurrency(WORKERS).whole(bootstrap);
                let builder = environment
                    .iter()
                    .fold(builder, |builder, (name, value)| builder.environment(name, value));
                builder.start(stack).await
            }
        };
        started.context("Envoy with the filter did not start")
    }

    /// How many requests the model server got. One in a container is not asked: Envoy says what it sent there.
    pub async fn served(&self, envoy: &Envoy) -> anyhow::Result<usize> {
        match &self.around {
            Around::Containers(_) => Ok(usize::try_from(sent(envoy).await?.saturating_sub(self.forgotten))?),
            Around::Processes { model, .. } => Ok(model.count()),
        }
    }

    /// Counts from here.
    pub async fn forget_served(&mut self, envoy: &Envoy) -> anyhow::Result<()> {
        match &self.around {
            Around::Containers(_) => self.forgotten = sent(envoy).await?,
            Around::Processes { model, .. } => model.clear(),
        }
        Ok(())
    }

    /// The containers, where that is what it is.
    pub fn containers(&self) -> Option<&Composed> {
        match &self.around {
            Around::Containers(composed) => Some(composed),
            Around::Processes { .. } => None,
        }
    }
}

async fn sent(envoy: &Envoy) -> anyhow::Result<u64> {
    envoy.statistic("cluster.model.upstream_rq_total").await
}
