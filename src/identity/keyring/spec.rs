//! The words of keys that an issuer publishes: `remote_jwks` and `discovery` of a provider.

use std::time::Duration;

use serde::Deserialize;

use crate::config::values::DurationText;

/// `remote_jwks` of a provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteJwksSpec {
    /// Envoy's name of the cluster that serves them.
    pub cluster: String,
    /// Where they are.
    pub uri: String,
    /// How long one fetch may take.
    #[serde(default = "RemoteJwksSpec::default_timeout")]
    pub timeout: DurationText,
    /// How long it is used before it is fetched again.
    #[serde(default = "RemoteJwksSpec::default_cache_duration")]
    pub cache_duration: DurationText,
    /// From any fetch to one for a key that is not known.
    #[serde(default = "RemoteJwksSpec::default_cooldown")]
    pub cooldown: DurationText,
    /// From a failure to the next try.
    #[serde(default = "RemoteJwksSpec::default_failed_refetch_duration")]
    pub failed_refetch_duration: DurationText,
    /// How long after the last success it is used.
    #[serde(default = "RemoteJwksSpec::default_max_stale")]
    pub max_stale: DurationText,
}

/// `discovery` of a provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscoverySpec {
    /// Envoy's name of the cluster that serves the document.
    pub cluster: String,
    /// Of the one that serves the keys; absent means the same.
    pub jwks_cluster: Option<String>,
    /// Where the document is; absent means below the issuer.
    pub uri: Option<String>,
    /// How long one fetch may take.
    #[serde(default = "RemoteJwksSpec::default_timeout")]
    pub timeout: DurationText,
    /// How long it is used before it is fetched again.
    #[serde(default = "RemoteJwksSpec::default_cache_duration")]
    pub cache_duration: DurationText,
    /// From any fetch to one for a key that is not known.
    #[serde(default = "RemoteJwksSpec::default_cooldown")]
    pub cooldown: DurationText,
    /// From a failure to the next try.
    #[serde(default = "RemoteJwksSpec::default_failed_refetch_duration")]
    pub failed_refetch_duration: DurationText,
    /// How long after the last success it is used.
    #[serde(default = "RemoteJwksSpec::default_max_stale")]
    pub max_stale: DurationText,
}

impl RemoteJwksSpec {
    const fn default_timeout() -> DurationText {
        DurationText(Duration::from_secs(2))
    }

    const fn default_cache_duration() -> DurationText {
        DurationText(Duration::from_secs(300))
    }

    const fn default_cooldown() -> DurationText {
        DurationText(Duration::from_secs(10))
    }

    const fn default_failed_refetch_duration() -> DurationText {
        DurationText(Duration::from_secs(1))
    }

    const fn default_max_stale() -> DurationText {
        DurationText(Duration::from_secs(24 * 60 * 60))
    }
}
