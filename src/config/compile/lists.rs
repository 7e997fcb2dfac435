//! Words of lists that come without a push become [`Lists`].

use std::rc::Rc;
use std::time::Duration;

use crate::config::credentials_list::{CredentialsReader, MAX_BYTES};
use crate::config::document::Document;
use crate::config::faults::Faults;
use crate::identity::polled;
use crate::identity::revocation::list;
use crate::remote::Source;

/// Where lists are.
#[derive(Debug)]
pub struct Lists {
    /// More of what was taken back.
    pub revocation: Option<Source>,
    /// More consumers and keys, and how they are read.
    pub credentials: Option<(Source, Rc<CredentialsReader>)>,
}

/// How long a revocation list is believed where nothing is written.
const REVOCATION_STALE: Duration = Duration::from_secs(15 * 60);

/// How long a list of consumers is believed where nothing is written.
const CREDENTIALS_STALE: Duration = Duration::from_secs(60 * 60);

/// Compiles them; `reader` makes what reads a list of consumers.
pub(super) fn compile(
    document: &Document,
    reader: impl FnOnce() -> CredentialsReader,
    faults: &mut Faults,
) -> Lists {
    let authentication = &document.authentication;
    let revocation = &authentication.revocation;
    let pointer = "/authentication/revocation";
    let words = [
        ("cluster", revocation.cluster.is_some()),
        ("uri", revocation.uri.is_some()),
        ("interval", revocation.interval.is_some()),
        ("timeout", revocation.timeout.is_some()),
        ("max_stale", revocation.max_stale.is_some()),
    ];
    let both = revocation.cluster.is_some() && revocation.uri.is_some();
    if let Some((word, _)) = words.iter().find(|(_, is_written)| *is_written && !both) {
        faults.at(
            format!("{pointer}/{word}"),
            "a list that is polled has a `cluster` and a `uri`",
            "write both, or leave this out",
        );
    }
    let polled_revocation = revocation.polled().filter(|_| both);
    Lists {
        revocation: polled_revocation
            .map(|spec| polled::compile(&spec, REVOCATION_STALE, list::MAX_BYTES, pointer, faults)),
        credentials: authentication.credentials_list.as_ref().map(|spec| {
            let pointer = "/authentication/credentials_list";
            (polled::compile(spec, CREDENTIALS_STALE, MAX_BYTES, pointer, faults), Rc::new(reader()))
        }),
    }
}

// === impl Lists ===

impl Lists {
    /// Whether there is any.
    pub const fn is_any(&self) -> bool {
        self.revocation.is_some() || self.credentials.is_some()
    }

    /// What each list promises, in a sentence with its numbers.
    pub fn promises(&self) -> Vec<String> {
        let sentence = |source: &Source, what: &str, then: &str| {
            format!(
                "{what} takes effect in every worker within {} (interval {} + timeout {} + lease {} + tick {}) while `{}` answers; \
                 after {} without an answer {then}",
                shown(source.bound()),
                shown(source.interval),
                shown(source.timeout),
                shown(source.lease()),
                shown(crate::remote::LOOK),
                source.cluster,
                shown(source.max_stale),
            )
        };
        let revocation = self.revocation.iter().map(|source| {
            sentence(
                source,
                "revocation: what is listed",
                "every credential is refused (`revocation_unavailable`)",
            )
        });
        let credentials = self.credentials.iter().map(|(source, _)| {
            sentence(
                source,
                "credentials_list: a change",
                "keys that are not in the configuration are refused (`credentials_unavailable`)",
            )
        });
        revocation.chain(credentials).collect()
    }
}

/// In the largest unit that fits.
fn shown(time: Duration) -> String {
    let millis = time.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let fits = units.iter().find(|(unit, _)| millis >= *unit && millis.is_multiple_of(*unit));
    fits.map_or_else(
        || format!("{millis}ms"),
        |(unit, name)| format!("{}{name}", millis.checked_div(*unit).unwrap_or_default()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_its_largest_whole_unit() {
        for (millis, text) in [
            (100, "100ms"),
            (2000, "2s"),
            (4100, "4100ms"),
            (90_000, "90s"),
            (900_000, "15m"),
            (3_600_000, "1h"),
        ] {
            assert_eq!(shown(Duration::from_millis(millis)), text);
        }
    }
}
