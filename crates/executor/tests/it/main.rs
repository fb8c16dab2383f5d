//! Steps run by real runtimes, and file operations on real directories.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod exploits;
mod rootless;
mod run;
mod support;
