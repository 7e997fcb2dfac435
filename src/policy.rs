//! What may they do: attributes become a [`Decision`].

pub mod attributes;
pub mod condition;
pub mod spec;

use crate::filter::refusal::Reason;

/// What the policies say of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// `None`: allowed. Otherwise why not.
    pub refused: Option<Reason>,
    /// Names of the policies that decided, `role:<role>` for a role's permission; sorted, each once.
    pub policies: Vec<String>,
    /// Policies that could not be evaluated, whether or not that decided; sorted, each once.
    pub errors: Vec<PolicyError>,
}

/// A policy that could not be evaluated: the attribute has a type that its pattern cannot be compared with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyError {
    /// The policy's name.
    pub policy: String,
    /// The attribute's full name.
    pub attribute: String,
}

// === impl Decision ===

impl Decision {
    /// Whether the request may go on.
    pub const fn is_allowed(&self) -> bool {
        self.refused.is_none()
    }
}
