//! Callers that a real OpenID provider vouches for, in a real Envoy; the provider rotates its keys, takes tokens back, and
//! is down, slow or mad.

#![expect(clippy::disallowed_methods, reason = "a test has a clock")]

mod parts;
