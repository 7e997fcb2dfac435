//! The README's story against the real thing: Envoy with the built filter, a sample model server, the command's own
//! collector. `make demo` plays it as a table, `make run` leaves the stack running.
//!
//! | module | what it does |
//! |---|---|
//! | [`setup`] | fills `envoy/config/demo.yaml` with fresh keys, and `envoy/envoy.yaml` with this run's addresses |
//! | [`story`] | the calls and what must come of each |
//! | [`play`] | sends them, and finds each one's audit event |
//! | [`evidence`] | what the command says of the log: intact, tampered with, suspicious |
//! | [`guide`] | what to type against the stack that `make run` leaves running |
//! | [`table`] | what people read |

use std::time::Duration;

use crate::collector::Collector;
use crate::site::Site;
use crate::{Envoy, Stack, composed};

pub mod evidence;
pub mod guide;
pub mod play;
pub mod setup;
pub mod story;
pub mod table;

use setup::Keys;

/// Everything that runs; it ends with this value.
#[derive(Debug)]
pub struct Demo {
    /// The gate.
    pub envoy: Envoy,
    /// Where audit events go.
    pub collector: Collector,
    /// What stands around the gate.
    pub site: Site,
    /// This run's keys and tokens.
    pub keys: Keys,
    /// A token of the stack's OpenID provider, where it has one.
    pub token: Option<String>,
    /// Logs and configuration.
    pub stack: Stack,
}

/// How long Envoy may take to end.
const STOP_BOUND: Duration = Duration::from_secs(10);

// === impl Demo ===

impl Demo {
    /// Starts everything; the filter, the command and Envoy must be there ([`crate::artifacts`]), otherwise they are
    /// made first.
    pub async fn start(name: &str) -> anyhow::Result<Self> {
        let stack = Stack::create(name)?;
        let mut keys = Keys::make(setup::DOCUMENT, story::tokens())?;
        if composed::is_wanted() {
            composed::adapt(keys.document_mut())?;
        }
        let (site, collector) = Site::prepare(&stack, keys.document(), keys.environment(), None).await?;
        let mut token = None;
        if let Some(containers) = site.containers() {
            token = Some(containers.trust_provider(keys.document_mut())?);
        }
        let document = keys.document();
        stack.write("mlgate.json", serde_json::to_vec_pretty(document)?)?;
        let bootstrap = site.bootstrap(document, &collector)?;
        let envoy = site.start(&stack, bootstrap, keys.environment()).await?;
        Ok(Self { envoy, collector, site, keys, token, stack })
    }

    /// Stops Envoy, so that every chain gets its end, and then the collector; gives what is left on disk.
    pub async fn stop(mut self) -> anyhow::Result<(Collector, Stack)> {
        self.envoy.stop(STOP_BOUND).await?;
        self.collector.stop().await?;
        Ok((self.collector, self.stack))
    }
}
