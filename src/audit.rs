//! What happened: audit.
pub mod spec;
