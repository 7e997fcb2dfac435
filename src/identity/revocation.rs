//! Credentials taken back before their end: `authentication.revocation` becomes a [`Revocation`].
//!
//! It is asked of an identity that has been verified: that a credential was revoked is said only to who has it. The
//! list outlives what it names: a key that is no longer configured stays in it without being a fault.

use std::collections::BTreeSet;

use crate::config::faults::Faults;
use crate::identity::spec::RevocationSpec;
use crate::identity::{ANONYMOUS, AuthenticationError, Identity};

/// Everything that was taken back.
#[derive(Clone, Debug, Default)]
pub struct Revocation {
    keys: BTreeSet<String>,
    principals: BTreeSet<String>,
    /// `jti` by issuer: an issuer vouches for its own ids only (RFC 7519 §4.1.7).
    tokens: BTreeSet<(String, String)>,
}

// === impl Revocation ===

impl Revocation {
    /// Compiles the lists, found at `pointer`. The result may only be used when no fault was added.
    pub fn compile(spec: &RevocationSpec, pointer: &str, faults: &mut Faults) -> Self {
        if let Some(index) = spec.principals.iter().position(|principal| principal == ANONYMOUS) {
            faults.at(
                format!("{pointer}/principals/{index}"),
                "`anonymous` has no credential that could be revoked",
                "take out the profile that lets everybody in",
            );
        }
        Self {
            keys: spec.keys.iter().cloned().collect(),
            principals: spec.principals.iter().cloned().collect(),
            tokens: spec.tokens.iter().map(|token| (token.issuer.clone(), token.jti.clone())).collect(),
        }
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
        let key = credential.method == API_KEY && self.key(&credential.id);
        let token = match (&credential.issuer, &credential.token_id) {
            (Some(issuer), Some(id)) => self.token(issuer, id),
            _ => false,
        };
        key || token || self.principal(&identity.principal)
    }

    /// Whether the key with this public part was revoked.
    pub fn key(&self, id: &str) -> bool {
        self.keys.contains(id)
    }

    /// Whether everything of this principal was revoked.
    pub fn principal(&self, id: &str) -> bool {
        self.principals.contains(id)
    }

    /// Whether this issuer's token was revoked.
    pub fn token(&self, issuer: &str, jti: &str) -> bool {
        !self.tokens.is_empty() && self.tokens.contains(&(issuer.to_owned(), jti.to_owned()))
    }
}

/// How an identity's credential says that it is a key: other methods have ids too, which may look like one.
const API_KEY: &str = "api_key";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
    fn what_is_not_configured_any_more_may_stay_in_the_list() {
        let (_, faults) =
            compile(json!({ "keys": ["gone0000", "gone0000"], "principals": ["nobody", "anonymous"] }));
        assert_eq!(faults, ["/r/principals/1"]);
    }
}
