//! What the configuration says of a caller, whatever it presents.

use crate::config::faults::Faults;
use crate::identity::spec::ConsumerSpec;
use crate::identity::{Credential, DEFAULT_TIER, Identity, Scope};
use crate::policy::attributes::{self, Category};

/// A configured caller.
#[derive(Clone, Debug)]
pub struct Consumer {
    identity: Identity,
    /// Whether the configuration gives a tier; the identity has one in any case.
    has_tier: bool,
}

// === impl Consumer ===

impl Consumer {
    /// Compiles a consumer, found at `pointer`. `is_role` knows the configured roles.
    pub fn compile(
        spec: &ConsumerSpec,
        is_role: &dyn Fn(&str) -> bool,
        pointer: &str,
        faults: &mut Faults,
    ) -> Self {
        check_roles(&spec.roles, is_role, pointer, faults);
        if spec.tier.as_ref().is_some_and(String::is_empty) {
            faults.at(format!("{pointer}/tier"), "the tier is empty", "name a tier, or leave the word out");
        }
        let pointer = format!("{pointer}/attributes");
        let identity = Identity {
            principal: spec.name.clone(),
            name: spec.name.clone(),
            roles: spec.roles.clone(),
            tier: spec.tier.clone().unwrap_or_else(|| String::from(DEFAULT_TIER)),
            attributes: attributes::compile(&spec.attributes, Category::Principal, &pointer, faults),
            credential: Credential::default(),
            scope: Scope::default(),
            via: Vec::new(),
        };
        Self { identity, has_tier: spec.tier.is_some() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Makes an identity this consumer's: what the configuration says wins, attribute by attribute.
    pub fn prevail_over(&self, identity: &mut Identity) {
        identity.principal.clone_from(&self.identity.principal);
        identity.name.clone_from(&self.identity.name);
        if !self.identity.roles.is_empty() {
            identity.roles.clone_from(&self.identity.roles);
        }
        if self.has_tier {
            identity.tier.clone_from(&self.identity.tier);
        }
        for (name, value) in &self.identity.attributes {
            identity.attributes.insert(name.clone(), value.clone());
        }
    }
}

/// Faults of names that are no roles.
pub(super) fn check_roles(
    roles: &[String],
    is_role: &dyn Fn(&str) -> bool,
    pointer: &str,
    faults: &mut Faults,
) {
    for (index, role) in roles.iter().enumerate() {
        if !is_role(role) {
            faults.at(
                format!("{pointer}/roles/{index}"),
                format!("no role is called `{role}`"),
                "write one of `authorization.roles`",
            );
        }
    }
}
