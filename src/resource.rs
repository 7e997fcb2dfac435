//! What is asked for: a head, and a body where a rule needs it, become a [`Resource`] and an action.

use crate::policy::attributes::AttributeMap;

pub mod catalogue;
pub mod presets;
pub mod rules;
pub mod scan;
pub mod spec;

/// The type of resource that a credential's `models` and a body's `model` name.
pub const MODEL: &str = "model";

/// The type of the one resource that is always listed: the list of models, `catalogue` / `models`.
pub const CATALOGUE: &str = "catalogue";

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `model`, `dataset`, `training_job`, …; `resource.type` in policies.
    pub kind: String,
    /// The id within its type, exactly as the upstream will read it.
    pub id: String,
    /// What the catalogue says of it; the caller cannot forge these.
    pub attributes: AttributeMap,
}

// === impl Resource ===

impl Resource {
    /// Nothing: what a request is about that no policy decides.
    pub fn none() -> Self {
        Self { kind: String::new(), id: String::new(), attributes: AttributeMap::new() }
    }
}
