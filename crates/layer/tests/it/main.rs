//! The crate from outside: layers that mean harm.
#![allow(clippy::unwrap_used, reason = "a test may panic, and so may what it calls")]
#![cfg(target_os = "linux")]

mod fuzz;
mod hostile;
mod raw;
mod witness;
