//! Long trials of many processes on one store: a sample of each is a test, all of it a command of `cargo xtask soak`.

pub mod flights;
pub mod kills;
mod procs;
pub mod trace;

use std::path::{Path, PathBuf};

pub use procs::{Tree, holds_locks, kill, processes_with};

/// Draws numbers that are the same in every run (xorshift64*).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Draws a number below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound.max(1)
    }
}

/// Reads `--seed N --count N`, runs a trial, prints its result as one line of JSON.
pub fn main(trial: impl FnOnce(&Path, u64, u64) -> serde_json::Value) {
    let words: Vec<String> = std::env::args().collect();
    let number = |name: &str| {
        let at = words.iter().position(|word| word == name)?;
        words.get(at + 1)?.parse().ok()
    };
    let base = std::env::var_os("COOPER_TEST_BASE").map(PathBuf::from);
    let Some(base) = base else { panic!("COOPER_TEST_BASE is not set: run `cargo xtask soak`") };
    let result = trial(&base, number("--seed").unwrap_or(1), number("--count").unwrap_or(1));
    #[allow(clippy::print_stdout, reason = "a program's result")]
    {
        println!("{result}");
    }
}
