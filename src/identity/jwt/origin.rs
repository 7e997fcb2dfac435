//! `remote_jwks` and `discovery` of a provider become the [`Origin`] of its keys, or all of their faults.

use crate::config::document::BoundsSpec;
use crate::config::faults::Faults;
use crate::identity::discovery::Discovery;
use crate::identity::jwks::set::SetBounds;
use crate::identity::keyring::spec::DiscoverySpec;
use crate::identity::keyring::{Origin, Place};
use crate::identity::spec::ProviderSpec;
use crate::remote::MAX_BYTES;
use crate::remote::compile::{Pace, uri};
use crate::remote::uri::Uri;

/// What both words say of [`Pace::interval`].
const INTERVAL: &str = "cache_duration";

/// The same five words of two specs.
macro_rules! pace {
    ($spec:expr) => {
        Pace {
            timeout: $spec.timeout.0,
            interval: $spec.cache_duration.0,
            cooldown: $spec.cooldown.0,
            failed_refetch: $spec.failed_refetch_duration.0,
            max_stale: $spec.max_stale.0,
        }
    };
}

/// Compiles where the keys of a provider, found at `pointer`, are. `None`: in the configuration.
pub(super) fn compile(
    spec: &ProviderSpec,
    pointer: &str,
    bounds: &BoundsSpec,
    faults: &mut Faults,
) -> Option<Origin> {
    let written = [spec.local_jwks.is_some(), spec.remote_jwks.is_some(), spec.discovery.is_some()];
    if written.into_iter().filter(|written| *written).count() > 1 {
        faults.at(
            pointer,
            format!("the public keys of `{}` are in more than one place", spec.name),
            "keep one of `local_jwks`, `remote_jwks` and `discovery`",
        );
    }
    let (pace, place, cluster) = if let Some(remote) = &spec.remote_jwks {
        let pointer = format!("{pointer}/remote_jwks");
        let pace = pace!(remote);
        pace.check(INTERVAL, &pointer, faults);
        let uri = uri(&remote.uri, &format!("{pointer}/uri"), faults)?;
        (pace, Place::Uri(uri), remote.cluster.clone())
    } else {
        let discovery = spec.discovery.as_ref()?;
        let pointer = format!("{pointer}/discovery");
        let pace = pace!(discovery);
        pace.check(INTERVAL, &pointer, faults);
        let uri = document(discovery, &spec.issuer, &pointer, faults)?;
        let keys = discovery.jwks_cluster.as_ref().unwrap_or(&discovery.cluster);
        (pace, Place::Discovery { uri, cluster: discovery.cluster.clone() }, keys.clone())
    };
    let size = |bound: u32| usize::try_from(bound).unwrap_or(usize::MAX);
    Some(Origin {
        provider: spec.name.clone(),
        issuer: spec.issuer.clone(),
        place,
        cluster,
        pace,
        bounds: SetBounds { keys: size(bounds.jwks_keys), depth: size(bounds.json_depth) },
        max_bytes: usize::try_from(bounds.jwks_bytes.0).unwrap_or(MAX_BYTES),
    })
}

/// Bounds that only make sense here.
pub(super) fn check_bounds(bounds: &BoundsSpec, faults: &mut Faults) {
    if usize::try_from(bounds.jwks_bytes.0).map_or(true, |bytes| bytes > MAX_BYTES) {
        faults.at(
            "/bounds/jwks_bytes",
            "so much would be held twice in the memory that workers share",
            format!("write at most {}MiB", MAX_BYTES >> 20),
        );
    }
}

/// Where an issuer's document is: below the issuer, unless the configuration says otherwise.
fn document(discovery: &DiscoverySpec, issuer: &str, pointer: &str, faults: &mut Faults) -> Option<Uri> {
    if let Some(text) = &discovery.uri {
        return uri(text, &format!("{pointer}/uri"), faults);
    }
    match (Discovery { issuer: issuer.to_owned() }).uri() {
        Ok(uri) => Some(uri),
        Err(_) => {
            faults.at(
                pointer,
                format!("no document can be below the issuer `{issuer}`"),
                "write `uri`, or the issuer as a URI without a query",
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::values::SizeText;

    fn compiled(words: &str) -> (Option<Origin>, Vec<String>) {
        let spec = format!(
            r#"{{"name": "corp", "issuer": "https://idp.example/a", "audiences": ["x"], "algorithms": ["RS256"], {words}}}"#
        );
        let spec = serde_json::from_str(&spec).unwrap();
        let mut faults = Faults::default();
        let origin = compile(&spec, "/p", &BoundsSpec::default(), &mut faults);
        (origin, faults.iter().map(|fault| fault.pointer.clone()).collect())
    }

    #[test]
    fn absent_words_have_values() {
        let (origin, faults) =
            compiled(r#""remote_jwks": {"cluster": "idp", "uri": "https://idp.example/keys"}"#);
        assert!(faults.is_empty(), "{faults:?}");
        let origin = origin.unwrap();
        let seconds = Duration::from_secs;
        let expected = Pace {
            timeout: seconds(2),
            interval: seconds(300),
            cooldown: seconds(10),
            failed_refetch: seconds(1),
            max_stale: seconds(86_400),
        };
        assert_eq!((origin.pace, origin.max_bytes), (expected, 256 << 10));
        assert_eq!(origin.bounds, SetBounds { keys: 100, depth: 64 });
    }

    #[test]
    fn a_document_is_below_its_issuer_unless_it_is_said_to_be_elsewhere() {
        let place = |words: &str| compiled(words).0.map(|origin| (origin.place, origin.cluster));
        let discovered = |path: &str| Place::Discovery {
            uri: Uri { secure: true, authority: String::from("idp.example"), path: path.to_owned() },
            cluster: String::from("www"),
        };
        assert_eq!(
            place(r#""discovery": {"cluster": "www", "jwks_cluster": "keys"}"#),
            Some((discovered("/a/.well-known/openid-configuration"), String::from("keys")))
        );
        assert_eq!(
            place(
                r#""discovery": {"cluster": "www", "uri": "https://idp.example/.well-known/oauth-authorization-server/a"}"#
            ),
            Some((discovered("/.well-known/oauth-authorization-server/a"), String::from("www")))
        );
    }

    #[test]
    fn what_cannot_be_meant_is_a_fault() {
        let remote = |more: &str| {
            let words =
                format!(r#""remote_jwks": {{"cluster": "idp", "uri": "https://idp.example/"{more}}}"#);
            compiled(&words).1
        };
        assert_eq!(remote(r#", "timeout": "31s""#), ["/p/remote_jwks/timeout"]);
        assert_eq!(remote(r#", "cache_duration": "500ms""#), ["/p/remote_jwks/cache_duration"]);
        assert_eq!(remote(r#", "max_stale": "1m""#), ["/p/remote_jwks/max_stale"]);
        assert_eq!(
            compiled(r#""remote_jwks": {"cluster": "idp", "uri": "idp.example/keys"}"#).1,
            ["/p/remote_jwks/uri"]
        );
        assert_eq!(
            compiled(
                r#""remote_jwks": {"cluster": "i", "uri": "https://a/"}, "discovery": {"cluster": "i"}"#
            )
            .1,
            ["/p"]
        );
        let mut faults = Faults::default();
        let bounds = BoundsSpec { jwks_bytes: SizeText((16 << 20) + 1), ..BoundsSpec::default() };
        check_bounds(&bounds, &mut faults);
        assert_eq!(
            faults.iter().map(|fault| fault.pointer.as_str()).collect::<Vec<_>>(),
            ["/bounds/jwks_bytes"]
        );
    }
}
