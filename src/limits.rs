//! How often: limits.
pub mod spec;
