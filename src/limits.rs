//! How often: limits.
pub mod gcra;
pub mod spec;
