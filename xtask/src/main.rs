//! Builds, tests, checks and measures cooper: `cargo xtask build`, `cargo xtask test` and their parts.
//!
//! It holds what a developer or a fresh machine needs around the crates: packages of the distribution, the
//! stand-in base image, the checks of the house, the long trials. What a *user* of cooper needs is in the
//! command line, `crates/cli`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool for developers prints")]

mod bench;
mod build;
mod conformance;
mod fixture;
mod sh;
mod soak;
mod test;
mod tidy;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds an image with cooper; without DIR the example of two stages that burn a processor.
    Build(build::Args),
    /// Runs every test against real parts, after installing what they need.
    Test(test::Args),
    /// Checks what the compiler cannot: edges between crates, pure crates, comments, examples.
    Tidy,
    /// Runs one long trial in full and writes its result as JSON.
    Soak(soak::Args),
    /// Compares every conversion of the corpus with BuildKit's.
    Conformance(conformance::Args),
    /// Times the example loads against the peers that are installed.
    Bench(bench::Args),
    /// Makes the stand-in of python:3.9-slim from Debian's packages and prints where it is.
    Fixture {
        /// Make it again even if it is there.
        #[arg(long)]
        fresh: bool,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Build(args) => build::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Tidy => tidy::run(),
        Command::Soak(args) => soak::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Conformance(args) => conformance::run(&args),
        Command::Fixture { fresh } => fixture::python(fresh).map(|path| println!("{}", path.display())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the root of the checkout.
fn root() -> Result<PathBuf> {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let parent =
        manifest.parent().ok_or_else(|| anyhow::anyhow!("`{}` has no parent", manifest.display()))?;
    Ok(parent.to_path_buf())
}
