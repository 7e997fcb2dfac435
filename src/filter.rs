//! The policy enforcement point: events of one stream become steps for the proxy.

pub mod refusal;
pub mod step;
