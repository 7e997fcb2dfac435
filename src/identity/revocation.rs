//! Credentials taken back before their end: `authentication.revocation`, or a [`list`] from elsewhere, becomes a
//! [`Revocation`].
//!
//! It is asked of an identity that has been verified: that a credential was revoked is said only to who has it. What is
//! listed may outlive what it names: a key that is no longer configured stays in it without being a fault. A look-up
//! costs the same however much is listed.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;

use siphasher::sip::SipHasher13;

use crate::config::faults::Faults;
use crate::http::PeerCertificate;
use crate::identity::api_key::KeyId;
use crate::identity::mtls::spiffe::SpiffeId;
use crate::identity::spec::{RevocationSpec, RevokedTokenSpec};
use crate::identity::{ANONYMOUS, AuthenticationError, Identity};

pub mod list;

/// Everything that one place takes back.
#[derive(Clone, Debug, Default)]
pub struct Revocation {
    keys: Set<KeyId>,
    principals: Set<Box<str>>,
    spiffe_ids: Set<Box<str>>,
    /// `jti` by issuer: an issuer vouches for its own ids only (RFC 7519 §4.1.7).
    tokens: HashMap<Box<str>, Set<Box<str>>, BuildHasherDefault<SipHasher13>>,
}

/// Hashed with a fixed key: operators write it, and callers can only look something up.
type Set<T> = HashSet<T, BuildHasherDefault<SipHasher13>>;

/// What a document or a list says, word by word.
#[derive(Clone, Copy, Debug)]
struct Words<'a> {
    keys: &'a [String],
    principals: &'a [String],
    spiffe_ids: &'a [String],
    tokens: &'a [RevokedTokenSpec],
}

// === impl Revocation ===

impl Revocation {
    /// Compiles the words of the document, found at `pointer`. The result may only be used when no fault was added.
    pub fn compile(spec: &RevocationSpec, pointer: &str, faults: &mut Faults) -> Self {
        let RevocationSpec { keys, principals, spiffe_ids, tokens, .. } = spec;
        Self::of(Words { keys, principals, spiffe_ids, tokens }, pointer, faults)
    }

    fn of(words: Words<'_>, pointer: &str, faults: &mut Faults) -> Self {
        let mut revocation = Self::default();
        for (index, key) in words.keys.iter().enumerate() {
            match KeyId::parse(key.as_bytes()) {
                Some(id) => drop(revocation.keys.insert(id)),
                // a whole key may stand there: it is not repeated
                None => faults.at(
                    format!("{pointer}/keys/{index}"),
                    "this is not the id of a key",
                    "write the 8 digits and lower-case letters after `mlg_`",
                ),
            }
        }
        for (index, principal) in words.principals.iter().enumerate() {
            if principal == ANONYMOUS {
                faults.at(
                    format!("{pointer}/principals/{index}"),
                    "`anonymous` has no credential that could be revoked",
                    "take out the profile that lets everybody in",
                );
            }
            revocation.principals.insert(principal.as_str().into());
        }
        for (index, id) in words.spiffe_ids.iter().enumerate() {
            if SpiffeId::parse(id).is_err() {
                faults.at(
                    format!("{pointer}/spiffe_ids/{index}"),
                    "this is not a SPIFFE ID",
                    "write one such as `spiffe://acme.example/ns/batch/sa/worker`",
                );
            }
            revocation.spiffe_ids.insert(id.as_str().into());
        }
        for token in words.tokens {
            revocation
                .tokens
                .entry(token.issuer.as_str().into())
                .or_default()
                .insert(token.jti.as_str().into());
        }
        revocation
    }

    /// Whether a caller whose connection has this certificate was revoked. A consumer may be bound by another name of a
    /// certificate than its SPIFFE ID, and a hop that was revoked speaks for nobody any more.
    pub fn covers(&self, identity: &Identity, certificate: &PeerCertificate) -> bool {
        let by_certificate = !self.spiffe_ids.is_empty()
            && certificate.names.uri_sans.iter().chain(&certificate.hop).any(|id| self.spiffe_id(id))
            && identity.shown().any(|shown| shown.credential.method == MTLS);
        by_certificate || self.check(identity).is_err()
    }

    /// Whether this caller may still use what was shown, all of it.
    ///
    /// # Errors
    /// [`AuthenticationError::Revoked`] when the principal or the credential is listed.
    pub fn check(&self, identity: &Identity) -> Result<(), AuthenticationError> {
        if identity.shown().any(|shown| self.lists(shown)) {
            return Err(AuthenticationError::Revoked);
        }
        Ok(())
    }

    fn lists(&self, identity: &Identity) -> bool {
        let credential = &identity.credential;
        let named = match credential.method.as_str() {
            API_KEY => self.key(&credential.id),
            MTLS => self.spiffe_id(&credential.id),
            _ => false,
        };
        let token = match (&credential.issuer, &credential.token_id) {
            (Some(issuer), Some(id)) => self.token(issuer, id),
            _ => false,
        };
        named || token || self.principal(&identity.principal)
    }

    /// Whether the key with this public part was revoked.
    pub fn key(&self, id: &str) -> bool {
        !self.keys.is_empty() && KeyId::parse(id.as_bytes()).is_some_and(|id| self.keys.contains(&id))
    }

    /// Whether everything of this principal was revoked.
    pub fn principal(&self, id: &str) -> bool {
        self.principals.contains(id)
    }

    /// Whether certificates with this SPIFFE ID were revoked, whoever they belong to.
    pub fn spiffe_id(&self, id: &str) -> bool {
        self.spiffe_ids.contains(id)
    }

    /// Whether this issuer's token was revoked.
    pub fn token(&self, issuer: &str, jti: &str) -> bool {
        self.tokens.get(issuer).is_some_and(|tokens| tokens.contains(jti))
    }
}

/// How an identity's credential says that it is a key: other methods have ids too, which may look like one.
const API_KEY: &str = "api_key";

/// How it says that it is a certificate.
const MTLS: &str = "mtls";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::certificate::Names;

    fn compile(spec: serde_json::Value) -> (Revocation, Vec<String>) {
        let spec: RevocationSpec = serde_json::from_value(spec).unwrap();
        let mut faults = Faults::default();
        let revocation = Revocation::compile(&spec, "/r", &mut faults);
        (revocation, faults.iter().map(|fault| fault.pointer.clone()).collect())
    }

    fn caller(principal: &str, method: &str, id: &str) -> Identity {
        let mut identity = Identity { principal: principal.into(), ..Identity::anonymous() };
        identity.credential.method = method.into();
        identity.credential.id = id.into();
        identity
    }

    #[test]
    fn a_key_and_everything_of_a_principal_are_taken_back() {
        let (revocation, faults) =
            compile(json!({ "keys": ["k7f3a2b9"], "principals": ["user_2", "jwt:corp:eve"] }));
        assert!(faults.is_empty(), "{faults:?}");
        for (principal, method, id, revoked) in [
            ("user_1", "api_key", "k7f3a2b9", true),
            ("user_1", "api_key", "other123", false),
            ("user_1", "mtls", "k7f3a2b9", false),
            ("user_2", "api_key", "other123", true),
            ("user_2", "mtls", "", true),
            ("jwt:corp:eve", "jwt", "", true),
            ("jwt:corp:evelyn", "jwt", "", false),
        ] {
            let verdict = revocation.check(&caller(principal, method, id));
            let expected = if revoked { Err(AuthenticationError::Revoked) } else { Ok(()) };
            assert_eq!(verdict, expected, "{principal} {method} {id}");
        }
    }

    #[test]
    fn an_issuer_takes_back_its_own_tokens_only() {
        let (revocation, _) = compile(json!({ "tokens": [{ "issuer": "https://a.example", "jti": "1" }] }));
        assert!(revocation.token("https://a.example", "1"));
        assert!(!revocation.token("https://b.example", "1"));
        assert!(!revocation.token("https://a.example", "2"));
        assert!(!Revocation::default().token("https://a.example", "1"));
        for (issuer, jti, revoked) in [
            (Some("https://a.example"), Some("1"), true),
            (Some("https://b.example"), Some("1"), false),
            (Some("https://a.example"), None, false),
        ] {
            let mut caller = caller("jwt:a:eve", "jwt", "");
            caller.credential.issuer = issuer.map(str::to_owned);
            caller.credential.token_id = jti.map(str::to_owned);
            assert_eq!(revocation.check(&caller).is_err(), revoked, "{issuer:?} {jti:?}");
        }
    }

    #[test]
    fn a_certificate_is_taken_back_by_its_spiffe_id() {
        let worker = "spiffe://acme.example/ns/batch/sa/worker";
        let (revocation, faults) = compile(json!({ "spiffe_ids": [worker, "acme.example"] }));
        assert_eq!(faults, ["/r/spiffe_ids/1"]);
        for (principal, method, id, revoked) in [
            ("mtls:spiffe://acme.example/ns/batch/sa/worker", "mtls", worker, true),
            ("batch", "mtls", worker, true),
            ("batch", "mtls", "spiffe://acme.example/ns/batch/sa/workers", false),
            ("batch", "api_key", worker, false),
        ] {
            assert_eq!(
                revocation.check(&caller(principal, method, id)).is_err(),
                revoked,
                "{principal} {id}"
            );
        }
    }

    #[test]
    fn a_certificate_is_known_by_its_spiffe_id_whatever_name_its_consumer_is_bound_by() {
        let (revocation, _) = compile(json!({ "spiffe_ids": ["spiffe://acme.example/w"] }));
        let certificate = PeerCertificate {
            names: Names {
                uri_sans: vec!["urn:x".into(), "spiffe://acme.example/w".into()],
                ..Names::default()
            },
            ..PeerCertificate::default()
        };
        let by_hop =
            PeerCertificate { hop: certificate.names.uri_sans.clone(), ..PeerCertificate::default() };
        assert!(revocation.covers(&caller("batch", "mtls", "CN=worker"), &by_hop));
        assert!(revocation.covers(&caller("batch", "mtls", "CN=worker"), &certificate));
        assert!(!revocation.covers(&caller("batch", "mtls", "CN=worker"), &PeerCertificate::default()));
        // a certificate that the profile does not ask for says nothing
        assert!(!revocation.covers(&caller("batch", "api_key", "k7f3a2b9"), &certificate));
    }

    #[test]
    fn what_is_not_configured_any_more_may_stay_in_the_list() {
        let (_, faults) =
            compile(json!({ "keys": ["gone0000", "gone0000"], "principals": ["nobody", "anonymous"] }));
        assert_eq!(faults, ["/r/principals/1"]);
    }
}
