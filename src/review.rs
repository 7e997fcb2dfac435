//! What people ask of policies before they are pushed: a configuration and questions about it become answers.
//!
//! Everything here is decided by the gate's own policies; nothing of it is in the filter.
//!
//! | module | question |
//! |---|---|
//! | [`candidate`] | what does this configuration say of a caller, a resource and an action? |
//! | [`suite`] | which combinations should be allowed? [`grid`]: are they, and nothing else? |

pub mod candidate;
pub mod grid;
pub mod suite;

pub use candidate::Candidate;
