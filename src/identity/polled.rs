//! `cluster`, `uri`, `interval`, `timeout` and `max_stale` of a list that is polled become its [`Source`].

use std::time::Duration;

use crate::config::faults::Faults;
use crate::identity::spec::PolledSpec;
use crate::remote::uri::Uri;
use crate::remote::{LOOK, Source};

/// From one look to the next where nothing is written.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// How long one look may take where nothing is written.
pub const TIMEOUT: Duration = Duration::from_secs(1);

/// How long one look may take at most.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the last answer is believed at most.
pub const MAX_STALE: Duration = Duration::from_secs(30 * 86_400);

/// From a failed look to the next, unless `interval` is shorter.
const FAILED_REFETCH: Duration = Duration::from_secs(1);

/// Compiles the words, found at `pointer`; `max_stale` holds where none is written. The result may only be used when no
/// fault was added.
pub fn compile(
    spec: &PolledSpec,
    max_stale: Duration,
    max_bytes: usize,
    pointer: &str,
    faults: &mut Faults,
) -> Source {
    let uri = Uri::parse(&spec.uri).unwrap_or_else(|error| {
        faults.at(
            format!("{pointer}/uri"),
            format!("`{}` cannot be fetched: {error}", spec.uri),
            "write one such as `https://control.example/lists/revoked.json`",
        );
        Uri { secure: false, authority: String::new(), path: String::new() }
    });
    let interval = spec.interval.map_or(INTERVAL, |interval| interval.0);
    let source = Source {
        cluster: spec.cluster.clone(),
        authority: uri.authority,
        path: uri.path,
        timeout: spec.timeout.map_or(TIMEOUT, |timeout| timeout.0),
        interval,
        cooldown: interval,
        failed_refetch: interval.min(FAILED_REFETCH),
        max_stale: spec.max_stale.map_or(max_stale, |stale| stale.0),
        max_bytes,
    };
    if source.interval < LOOK {
        faults.at(
            format!("{pointer}/interval"),
            "shorter than workers look for changes",
            format!("write at least {}ms", LOOK.as_millis()),
        );
    }
    if source.timeout > MAX_TIMEOUT {
        faults.at(
            format!("{pointer}/timeout"),
            "a server that hangs would hold up every change for so long",
            format!("write at most {}s", MAX_TIMEOUT.as_secs()),
        );
    }
    if source.max_stale < source.bound() || source.max_stale > MAX_STALE {
        let (least, most) = (source.bound().as_millis(), MAX_STALE.as_secs());
        faults.at(
            format!("{pointer}/max_stale"),
            format!("not within what a list needs while all is well, {least}ms, and {most}s"),
            "write a longer or shorter time",
        );
    }
    source
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compiled(more: &serde_json::Value) -> (Source, Vec<String>) {
        let mut spec = json!({ "cluster": "control", "uri": "http://control/lists/a.json" });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let spec: PolledSpec = serde_json::from_value(spec).unwrap();
        let mut faults = Faults::default();
        let source = compile(&spec, Duration::from_secs(900), 1000, "/l", &mut faults);
        (source, faults.iter().map(|fault| fault.pointer.clone()).collect())
    }

    #[test]
    fn what_is_not_written_has_its_default() {
        let (source, faults) = compiled(&json!({}));
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!((source.authority.as_str(), source.path.as_str()), ("control", "/lists/a.json"));
        assert_eq!((source.interval, source.timeout), (INTERVAL, TIMEOUT));
        assert_eq!((source.failed_refetch, source.max_stale), (FAILED_REFETCH, Duration::from_secs(900)));
        // interval 5 s + timeout 1 s + lease 2 s + tick 100 ms
        assert_eq!(source.bound(), Duration::from_millis(8_100));
        let (source, _) = compiled(&json!({ "interval": "200ms" }));
        assert_eq!(source.failed_refetch, Duration::from_millis(200));
    }

    #[test]
    fn times_that_cannot_be_kept_are_faults() {
        for (more, fault) in [
            (json!({ "uri": "/lists/a.json" }), "/l/uri"),
            (json!({ "interval": "99ms" }), "/l/interval"),
            (json!({ "timeout": "31s", "max_stale": "1h" }), "/l/timeout"),
            (json!({ "max_stale": "8s" }), "/l/max_stale"),
            (json!({ "max_stale": "31d" }), "/l/max_stale"),
        ] {
            assert_eq!(compiled(&more).1, [fault], "{more}");
        }
        for more in
            [json!({ "interval": "100ms" }), json!({ "timeout": "30s" }), json!({ "max_stale": "8100ms" })]
        {
            assert_eq!(compiled(&more).1, [""; 0], "{more}");
        }
    }
}
