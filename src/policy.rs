//! What may they do: attributes become a [`Decision`].

pub mod attributes;
pub mod spec;

use crate::filter::refusal::Reason;

/// What the policies say of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// `None`: allowed. Otherwise why not.
    pub refused: Option<Reason>,
    /// Names of the policies that decided, `role:<role>` for a role's permission; sorted.
    pub policies: Vec<String>,
}
