//! End to end: the built filter in the real Envoy, natively and on free loopback ports.
