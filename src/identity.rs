//! Who is calling: credentials become an [`Identity`], or a reason why not.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::policy::attributes::AttributeMap;

pub mod api_key;
pub mod secret;
pub mod spec;

/// A caller whose credential was verified, or `anonymous` where a profile asks for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The principal's id: a consumer's name or `anonymous`; later `jwt:…`, `mtls:…`.
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
    /// `api_key`, later `jwt`, `mtls`, `introspection`; `none` for anonymous.
    pub method: String,
    /// The public part of a key; empty where the method has none.
    pub id: String,
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

/// Why no identity came of the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthenticationError {
    /// Nothing was presented.
    Missing,
    /// Malformed, unknown or wrong.
    Invalid,
    /// Was valid once.
    Expired,
}

// === impl Identity ===

impl Identity {
    /// The caller of a profile that authenticates nobody.
    pub fn anonymous() -> Self {
        Self {
            principal: String::from("anonymous"),
            name: String::from("anonymous"),
            roles: Vec::new(),
            tier: String::from("default"),
            attributes: AttributeMap::new(),
            credential: Credential { method: String::from("none"), id: String::new() },
            scope: Scope::default(),
        }
    }
}

// === impl Scope ===

impl Scope {
    /// Whether the credential may be used for this model or other resource, action and source address.
    ///
    /// A limited credential whose source is unknown is outside its ranges.
    pub fn allows(&self, resource_id: &str, action: &str, source: Option<IpAddr>) -> bool {
        let model = self.models.as_ref().is_none_or(|models| {
            models.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => resource_id.starts_with(prefix),
                None => pattern == resource_id,
            })
        });
        let action_named = self.actions.as_ref().is_none_or(|actions| actions.iter().any(|a| a == action));
        let within = self.source_ranges.as_ref().is_none_or(|ranges| {
            source.is_some_and(|source| ranges.iter().any(|range| range.contains(&source)))
        });
        model && action_named && within
    }
}
