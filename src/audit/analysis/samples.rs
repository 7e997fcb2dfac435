//! Lines for tests.

use crate::time::UnixTime;

/// An access event; `more` is members that begin with a comma.
pub(crate) fn access(millis: i64, principal: &str, status: &str, more: &str) -> String {
    let principal = serde_json::to_string(principal).unwrap_or_default();
    let time = UnixTime::from_millis(millis);
    format!(
        "{{\"chain\":\"g/0\",\"principal\":{principal},\"seq\":{millis},\"status\":\"{status}\",\
         \"timestamp\":\"{time}\",\"type\":\"access\",\"v\":1{more}}}"
    )
}
