//! Global limits: the built filter in real Envoys, asking a real rate limit service.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test has a clock and says what it measured, and a broken fixture should stop it"
)]

mod bodies;
mod departures;
mod failures;
mod headers;
mod rendered;
mod scene;
mod several;
