//! Every input of the one function that owns the order of a token's checks, corrupted one at a time. Tests are named
//! for the section of RFC 8725 that asks for them, where one does.

#![expect(
    clippy::unwrap_used,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on should stop"
)]

mod claims;
mod gate;
mod order;
mod p521;
mod several;
mod strict;
mod tokens;
