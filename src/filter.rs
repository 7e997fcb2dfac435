//! The policy enforcement point.
pub mod refusal;
