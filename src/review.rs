//! What people ask of policies before they are pushed: a configuration and questions about it become answers.
//!
//! Everything here is decided by the gate's own policies; nothing of it is in the filter.
//!
//! | module | question |
//! |---|---|
//! | [`candidate`] | what does this configuration say of a caller, a resource and an action? |
//! | [`suite`] | which combinations should be allowed? [`grid`]: are they, and nothing else? |
//! | [`coverage`], [`mutants`] | what of the policies do these tables really try? |
//! | [`reach`] | who can do this, and what can they do? |
//! | [`record`], [`replay`] | what would it have said of what was recorded? |
//! | [`flip`] | what would have to change for a denial to become an allow? |
//! | [`diff`] | what flips between two of them? |
//! | [`partial`] | what, where not everything is known? |

pub mod candidate;
pub mod coverage;
pub mod diff;
pub mod flip;
pub mod grid;
pub mod mutants;
pub mod partial;
pub mod reach;
pub mod record;
pub mod replay;
pub mod suite;

pub use candidate::Candidate;
