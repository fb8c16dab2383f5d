//! What the integration tests share: a clean environment for the built `cooper`, contexts, images taken apart.
//!
//! The tests themselves are in `tests/it`, one binary. They need what `cargo xtask test` prepares: the binary
//! (`COOPER_BIN`), the layout of the base image (`COOPER_TEST_BASE`) and a file for the names of skipped tests
//! (`COOPER_TEST_SKIPS`).
#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "helpers of tests: a panic is how a test fails")]

pub mod cooper;
pub mod fuzz;
pub mod hub;
pub mod image;
pub mod layout;
pub mod site;
pub mod trials;

use std::io::Write;

/// Notes that a test did not run and why; `cargo xtask test` lists these, and with CI=true they are failures.
pub fn skip(test: &str, reason: &str) {
    eprintln!("skipped {test}: {reason}");
    if let Some(file) = std::env::var_os("COOPER_TEST_SKIPS") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
        writeln!(file, "{test}: {reason}").unwrap();
    } else {
        assert!(std::env::var_os("CI").is_none(), "skipped {test} under CI: {reason}");
    }
}
