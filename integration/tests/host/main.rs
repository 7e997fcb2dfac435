//! What the host really does, proven in the real Envoy with the probe of `integration/probe`. `docs/host.md` says what
//! follows from each test.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test has a clock, and a broken fixture should stop it"
)]

mod bodies;
mod calls;
mod disconnects;
mod probe;
mod waits;
