//! Builds, tests, checks and measures cooper.

fn main() {}
