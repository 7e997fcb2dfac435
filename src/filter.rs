//! The policy enforcement point: events of one stream become steps for the proxy.

pub mod lists;
pub mod metrics;
pub mod profile;
pub mod refusal;
pub mod reply;
pub mod step;
pub mod transaction;
pub mod upstream;
pub mod worker;

mod exchange;
