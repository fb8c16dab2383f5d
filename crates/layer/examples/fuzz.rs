//! Reads damaged input for minutes: `fuzz --target tar | pax | index --seed 1 --count 1000 --seconds 300`.

#![allow(clippy::unwrap_used, reason = "samples are known to be good")]

#[path = "../tests/it/fuzz.rs"]
mod fuzz;
#[allow(dead_code, reason = "made for other tests, too")]
#[path = "../tests/it/raw.rs"]
mod raw;

fn main() -> std::process::ExitCode {
    cooper_tests::fuzz::main(fuzz::TARGETS)
}
