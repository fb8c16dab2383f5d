//! The built `cooper` against real runtimes, a real registry and real readers of images.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod contexts;
mod failures;
mod faults;
mod flights;
mod hub;
mod interruptions;
mod losses;
mod merging;
mod mounts;
mod outputs;
mod roots;
mod space;
