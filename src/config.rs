//! One document becomes all of its faults, or the compiled gate.

pub mod document;
pub mod faults;
pub mod values;
