//! Differential tests and benchmarks against other policy engines. Nothing else compiles this member.
