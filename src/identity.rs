//! Who is calling: credentials become an [`Identity`], or a reason why not.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use ipnet::IpNet;

use crate::credentials::{Credentials, MAX_CREDENTIALS};
use crate::host::Host;
use crate::policy::attributes::AttributeMap;
use crate::resource::{MODEL, Resource};

pub mod api_key;
pub mod jwks;
pub mod jwt;
pub mod revocation;
pub mod secret;
pub mod spec;

use api_key::ApiKeys;
use jwt::Tokens;
use jwt::cache::Verified;

/// The principal that nobody authenticated.
pub const ANONYMOUS: &str = "anonymous";

/// The tier of callers without one.
pub const DEFAULT_TIER: &str = "default";

/// A caller whose credential was verified, or `anonymous` where a profile asks for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The principal's id: a consumer's name, `jwt:<provider>:<subject>` or `anonymous`; later `mtls:…`.
    pub principal: String,
    /// The name without the method's prefix; `user_id` in audit events.
    pub name: String,
    /// Roles, in configuration order.
    pub roles: Vec<String>,
    /// Tier of the limits; `default` when none is written.
    pub tier: String,
    /// Other attributes: `org`, `team`, …
    pub attributes: AttributeMap,
    /// How it was shown.
    pub credential: Credential,
    /// What the credential itself is limited to.
    pub scope: Scope,
}

/// What an audit event says of the credential; never the secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credential {
    /// `api_key`, `jwt`, later `mtls`, `introspection`; `none` for anonymous.
    pub method: String,
    /// The public part of a key; empty where the method has none.
    pub id: String,
    /// `iss` of a token.
    pub issuer: Option<String>,
    /// `jti` of a token.
    pub token_id: Option<String>,
    /// Scopes of a token, whether or not they limit anything here.
    pub scopes: Vec<String>,
    /// Whether it stays on the request to the upstream.
    pub forward: bool,
}

/// Limits that a credential carries. `None`: not limited in this respect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Model ids, a trailing `*` is a prefix.
    pub models: Option<Vec<String>>,
    /// Actions.
    pub actions: Option<Vec<String>>,
    /// Addresses of callers.
    pub source_ranges: Option<Vec<IpNet>>,
}

/// A way to show who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// An API key.
    ApiKey,
    /// A token that its issuer signed.
    Jwt,
}

/// Why no identity came of the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthenticationError {
    /// Nothing was presented.
    Missing,
    /// Malformed, unknown or wrong.
    Invalid,
    /// Was valid once.
    Expired,
    /// Taken back, the credential or everything of its principal.
    Revoked,
    /// Nobody could say; the credential may be right.
    Unavailable,
}

/// What credentials are checked against.
#[derive(Clone, Copy)]
pub struct Authorities<'a> {
    /// Every key.
    pub keys: &'a ApiKeys,
    /// Every trusted issuer.
    pub tokens: &'a Tokens,
    /// Tokens of theirs that were verified a short while ago.
    pub verified: &'a RefCell<Verified>,
    /// Clock and signatures.
    pub host: &'a dyn Host,
}

impl std::fmt::Debug for Authorities<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorities").finish_non_exhaustive()
    }
}

/// Tries the accepted methods in their order; the first whose credential is presented decides.
///
/// A wrong credential is never skipped over, and neither are two of one kind that differ: whichever of them the
/// upstream or a log reads, it must be the one that was verified.
pub fn authenticate(
    presented: &[Credentials],
    methods: &[Method],
    authorities: Authorities<'_>,
) -> Result<Rc<Identity>, AuthenticationError> {
    let Authorities { keys, tokens, verified, host } = authorities;
    if presented.len() > MAX_CREDENTIALS {
        return Err(AuthenticationError::Invalid);
    }
    for method in methods {
        let mut found = presented.iter().filter_map(|credentials| method.of(credentials));
        let Some(first) = found.next() else { continue };
        if found.any(|other| other != first) {
            return Err(AuthenticationError::Invalid);
        }
        return match method {
            Method::ApiKey => keys.authenticate(first, host.unix_time()),
            Method::Jwt => tokens.authenticate(first, verified, host),
        };
    }
    Err(AuthenticationError::Missing)
}

// === impl Method ===

impl Method {
    /// The method that a configuration calls so.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "api_key" => Some(Self::ApiKey),
            "jwt" => Some(Self::Jwt),
            _ => None,
        }
    }

    /// What is presented of this kind. While no other method takes tokens, one that is not a JWT is a wrong JWT.
    fn of(self, credentials: &Credentials) -> Option<&[u8]> {
        match (self, credentials) {
            (Self::ApiKey, Credentials::ApiKey(key)) => Some(&key.0),
            (Self::Jwt, Credentials::Token(token)) => Some(&token.0),
            _ => None,
        }
    }
}

// === impl Identity ===

impl Identity {
    /// The caller of a profile that authenticates nobody.
    pub fn anonymous() -> Self {
        Self {
            principal: String::from(ANONYMOUS),
            name: String::from(ANONYMOUS),
            roles: Vec::new(),
            tier: String::from(DEFAULT_TIER),
            attributes: AttributeMap::new(),
            credential: Credential { method: String::from("none"), ..Credential::default() },
            scope: Scope::default(),
        }
    }
}

// === impl Scope ===

impl Scope {
    /// Whether the credential may be used for this resource and action, from this source address.
    ///
    /// A credential that is limited to models is limited to resources of the type `model`. One that is limited to
    /// addresses is outside them when the source is unknown; an IPv4 address that came as IPv6 (RFC 4291 §2.5.5.2)
    /// counts as what it is.
    pub fn allows(&self, resource: &Resource, action: &str, source: Option<IpAddr>) -> bool {
        let model = self.models.as_ref().is_none_or(|models| {
            resource.kind == MODEL && models.iter().any(|pattern| is_match(pattern, &resource.id))
        });
        let action = self.actions.as_ref().is_none_or(|actions| actions.iter().any(|p| is_match(p, action)));
        let within = self.source_ranges.as_ref().is_none_or(|ranges| {
            source.is_some_and(|source| ranges.iter().any(|range| range.contains(&source.to_canonical())))
        });
        model && action && within
    }
}

/// Equality, or a prefix before a trailing `*`.
fn is_match(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => text.starts_with(prefix),
        None => pattern == text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(models: Option<&[&str]>, actions: Option<&[&str]>, ranges: Option<&[&str]>) -> Scope {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        Scope {
            models: models.map(owned),
            actions: actions.map(owned),
            source_ranges: ranges.map(|list| list.iter().map(|range| range.parse().unwrap()).collect()),
        }
    }

    #[test]
    fn a_scope_limits_each_respect_that_it_names() {
        let model = Resource { kind: "model".into(), id: "fraud_v2".into(), attributes: AttributeMap::new() };
        let dataset = Resource { kind: "dataset".into(), ..model.clone() };
        let inside: Option<IpAddr> = Some("10.1.2.3".parse().unwrap());
        let mapped: Option<IpAddr> = Some("::ffff:10.1.2.3".parse().unwrap());
        let outside: Option<IpAddr> = Some("192.0.2.1".parse().unwrap());
        let rows = [
            (scope(None, None, None), &dataset, None, true),
            (scope(Some(&["fraud_*"]), None, None), &model, None, true),
            (scope(Some(&["x", "fraud_v2"]), None, None), &model, None, true),
            (scope(Some(&["fraud"]), None, None), &model, None, false),
            (scope(Some(&["fraud_*"]), None, None), &dataset, None, false),
            (scope(None, Some(&["predict"]), None), &dataset, None, true),
            (scope(None, Some(&["read"]), None), &model, None, false),
            (scope(None, None, Some(&["10.0.0.0/8"])), &model, inside, true),
            (scope(None, None, Some(&["10.0.0.0/8"])), &model, mapped, true),
            (scope(None, None, Some(&["10.0.0.0/8"])), &model, outside, false),
            (scope(None, None, Some(&["10.0.0.0/8"])), &model, None, false),
        ];
        for (scope, resource, source, allowed) in rows {
            assert_eq!(
                scope.allows(resource, "predict", source),
                allowed,
                "{scope:?} {resource:?} {source:?}"
            );
        }
    }
}
