//! What a configuration says of a document that lives elsewhere becomes a [`Source`], or all of its faults.

use std::time::Duration;

use crate::config::faults::Faults;
use crate::remote::uri::Uri;
use crate::remote::{MAX_BYTES, Source};

/// How often a document is looked for, as a configuration says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long one fetch may take.
    pub timeout: Duration,
    /// From a success to the next fetch.
    pub interval: Duration,
    /// From any fetch to one that a request wants.
    pub cooldown: Duration,
    /// From a failure to the next try.
    pub failed_refetch: Duration,
    /// How long after the last success the document is used.
    pub max_stale: Duration,
}

/// The longest time of one fetch: as long a lease keeps everybody else from trying.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(30);

/// The shortest time between two fetches of one document, for whatever reason.
pub const MIN_INTERVAL: Duration = Duration::from_secs(1);

// === impl Pace ===

impl Pace {
    /// Adds what is wrong with it. `interval` is the word that the configuration has for [`Pace::interval`].
    pub fn check(&self, interval: &str, pointer: &str, faults: &mut Faults) {
        if self.timeout > MAX_TIMEOUT {
            faults.at(
                format!("{pointer}/timeout"),
                "a server that hangs would keep everybody from trying again for so long",
                format!("write at most {}s", MAX_TIMEOUT.as_secs()),
            );
        }
        let pauses = [
            (interval, self.interval),
            ("cooldown", self.cooldown),
            ("failed_refetch_duration", self.failed_refetch),
        ];
        for (word, _) in pauses.into_iter().filter(|(_, pause)| *pause < MIN_INTERVAL) {
            faults.at(
                format!("{pointer}/{word}"),
                "the server would be asked more often than once a second",
                "write at least 1s",
            );
        }
        if self.max_stale < self.interval {
            faults.at(
                format!("{pointer}/max_stale"),
                format!(
                    "it is over before `{interval}` is: nothing would be left to use until the next fetch"
                ),
                format!("write at least `{interval}`"),
            );
        }
    }

    /// A document at a place.
    pub fn source(&self, cluster: &str, uri: &Uri, max_bytes: usize) -> Source {
        Source {
            cluster: cluster.to_owned(),
            authority: uri.authority.clone(),
            path: uri.path.clone(),
            timeout: self.timeout,
            interval: self.interval,
            cooldown: self.cooldown,
            failed_refetch: self.failed_refetch,
            max_stale: self.max_stale,
            max_bytes: max_bytes.min(MAX_BYTES),
        }
    }
}

/// Reads a URI that the configuration has at `pointer`. `None`: it is none, which was added to the faults.
pub fn uri(text: &str, pointer: &str, faults: &mut Faults) -> Option<Uri> {
    match Uri::parse(text) {
        Ok(uri) => Some(uri),
        Err(error) => {
            faults.at(
                pointer,
                format!("`{text}` cannot be fetched: {error}"),
                "write a whole URI: `https://issuer.example/keys`",
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn pace(millis: [u64; 5]) -> Pace {
        let [timeout, interval, cooldown, failed_refetch, max_stale] = millis;
        Pace {
            timeout: Duration::from_millis(timeout),
            interval: Duration::from_millis(interval),
            cooldown: Duration::from_millis(cooldown),
            failed_refetch: Duration::from_millis(failed_refetch),
            max_stale: Duration::from_millis(max_stale),
        }
    }

    #[test]
    fn a_pace_that_asks_too_often_or_waits_too_long_is_a_fault() {
        let faults = |pace: Pace| {
            let mut faults = Faults::default();
            pace.check("cache_duration", "/r", &mut faults);
            faults.iter().map(|fault| fault.pointer.clone()).collect::<Vec<_>>()
        };
        assert!(faults(pace([30_000, 1_000, 1_000, 1_000, 1_000])).is_empty());
        assert_eq!(
            faults(pace([30_001, 999, 999, 999, 998])),
            ["/r/timeout", "/r/cache_duration", "/r/cooldown", "/r/failed_refetch_duration", "/r/max_stale"]
        );
    }
}
