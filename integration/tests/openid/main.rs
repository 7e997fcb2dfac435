//! Callers that a real OpenID provider vouches for, in a real Envoy; the provider rotates its keys, takes tokens back, and
//! is down, slow or mad.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "a test has a clock, and a broken fixture should stop it"
)]

#[path = "../../../tests/jwt/tokens.rs"]
#[expect(dead_code, reason = "other tests use all of it")]
mod pairs;

mod hostile;
mod leaving;
mod load;
mod parts;
mod scene;
mod secrets;
mod tokens;
