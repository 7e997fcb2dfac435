//! The words of `authentication.failures`.

use std::time::Duration;

use serde::Deserialize;

use crate::config::values::DurationText;

/// `authentication.failures`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FailuresSpec {
    /// Wrong credentials of one source, at least 1.
    pub limit: u64,
    /// In which time.
    pub window: DurationText,
    /// For how long nothing costly is done for it then.
    pub block: DurationText,
}

impl Default for FailuresSpec {
    fn default() -> Self {
        let seconds = |seconds| DurationText(Duration::from_secs(seconds));
        Self { limit: 20, window: seconds(60), block: seconds(300) }
    }
}
