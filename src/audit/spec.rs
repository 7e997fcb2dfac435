//! The words of `audit`.

use serde::Deserialize;

use crate::config::values::SizeText;
use crate::identity::spec::EnvKeySpec;

/// `audit`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditSpec {
    /// Where events go.
    pub collector: CollectorSpec,
    /// Who seals them.
    pub chain: ChainSpec,
    /// Digests of bodies.
    #[serde(default)]
    pub digest: DigestSpec,
    /// What waits.
    #[serde(default)]
    pub queue: QueueSpec,
}

/// `audit.collector`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectorSpec {
    /// Envoy's cluster name.
    pub cluster: String,
    /// Path of the `POST`.
    #[serde(default = "CollectorSpec::default_path")]
    pub path: String,
    /// `mlgate`: NDJSON.
    #[serde(default)]
    pub format: FormatSpec,
}

/// `audit.collector.format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FormatSpec {
    /// NDJSON, acknowledged by chain and sequence number.
    #[default]
    Mlgate,
}

/// `audit.chain`: `keys`, or `unkeyed: true`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainSpec {
    /// First signs, all verify.
    #[serde(default)]
    pub keys: Vec<EnvKeySpec>,
    /// Order and content can be checked, but anybody could have written them.
    #[serde(default)]
    pub unkeyed: bool,
}

/// `audit.digest`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DigestSpec {
    /// `sha256`.
    #[serde(default)]
    pub algorithm: AlgorithmSpec,
    /// First is used; absent means unkeyed digests, which are guessable for small inputs.
    #[serde(default)]
    pub keys: Vec<EnvKeySpec>,
    /// What is digested of a body; beyond it the digest is marked `partial`.
    #[serde(default = "DigestSpec::default_max_bytes")]
    pub max_bytes: SizeText,
    /// Request bodies.
    #[serde(default = "yes")]
    pub inputs: bool,
    /// Response bodies.
    #[serde(default = "yes")]
    pub outputs: bool,
}

/// `audit.digest.algorithm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlgorithmSpec {
    /// FIPS 180-4.
    #[default]
    Sha256,
}

/// `audit.queue`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueSpec {
    /// Events that may wait in one worker.
    #[serde(default = "QueueSpec::default_max_events")]
    pub max_events: u32,
    /// What happens beyond.
    #[serde(default)]
    pub on_full: OnFullSpec,
}

/// `audit.queue.on_full`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFullSpec {
    /// Refuse with `audit_unavailable`.
    Deny,
    /// Forget the oldest, and say how many in a `gap`.
    #[default]
    DropOldest,
}

const fn yes() -> bool {
    true
}

impl CollectorSpec {
    fn default_path() -> String {
        String::from("/v1/audit")
    }
}

impl DigestSpec {
    const fn default_max_bytes() -> SizeText {
        SizeText(10 << 20)
    }
}

impl QueueSpec {
    const fn default_max_events() -> u32 {
        10_000
    }
}

impl Default for DigestSpec {
    fn default() -> Self {
        Self {
            algorithm: AlgorithmSpec::Sha256,
            keys: Vec::new(),
            max_bytes: Self::default_max_bytes(),
            inputs: true,
            outputs: true,
        }
    }
}

impl Default for QueueSpec {
    fn default() -> Self {
        Self { max_events: Self::default_max_events(), on_full: OnFullSpec::DropOldest }
    }
}
