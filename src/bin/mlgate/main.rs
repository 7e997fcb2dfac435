//! The `mlgate` command.

fn main() {}
