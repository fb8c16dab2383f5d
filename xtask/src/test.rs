//! `cargo xtask test`: everything, against real parts.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::{build, conformance, fixture, root, sh, tidy, tools};

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Does not install packages; says what is missing instead.
    #[arg(long)]
    no_install: bool,
    /// Runs only tests whose name has this in it (and no checks).
    filter: Option<String>,
}

/// Runs the checks and the tests; with CI=true a skipped test is a failure.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = root()?;
    if !cfg!(target_os = "linux") {
        bail!(
            "the tests run containers and need a Linux machine; here run: \
             cargo test -p cooper-oci -p cooper-dockerfile -p cooper-frontend -p cooper-llb -p cooper-solver -p cooper-progress"
        );
    }
    tools::ensure(tools::TEST, "the tests", !args.no_install)?;
    if args.filter.is_none() {
        checks(&root)?;
    }
    step("build cooper");
    let cooper = build::cooper(&root, false)?;
    if args.filter.is_none() {
        step("conformance");
        conformance::where_it_is(&root, &cooper)?;
    }
    let base = base(&cooper, !args.no_install)?;

    let scratch = tempfile::tempdir()?;
    let skips = scratch.path().join("skips");
    step("tests");
    let mut command = sh::command("cargo", ["test", "--workspace", "--quiet", "--no-fail-fast"]);
    command
        .current_dir(&root)
        .env("COOPER_BIN", &cooper)
        .env("COOPER_TEST_SKIPS", &skips)
        .env("COOPER_TEST_BASE", &base);
    if let Some(filter) = &args.filter {
        command.arg(filter);
    }
    let outcome = sh::run(&mut command);
    let skipped = report_skips(&skips)?;
    outcome?;
    if skipped > 0 && is_ci() {
        bail!("{skipped} test(s) were skipped, and with CI=true that is a failure");
    }
    Ok(())
}

/// Says whether this run is a gate.
fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

fn step(name: &str) {
    println!("== {name}");
}

fn checks(root: &Path) -> Result<()> {
    step("fmt");
    sh::run(sh::command("cargo", ["fmt", "--all", "--check"]).current_dir(root))?;
    step("tidy");
    tidy::run()?;
    step("clippy");
    let words = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    sh::run(sh::command("cargo", words).current_dir(root))?;
    step("rustdoc");
    let words = ["doc", "--quiet", "--workspace", "--no-deps"];
    sh::run(sh::command("cargo", words).current_dir(root).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Returns the layout of the base image for the tests and says which one it is.
fn base(cooper: &Path, may_install: bool) -> Result<PathBuf> {
    if let Some(layout) = build::stand_in(cooper, may_install)? {
        return Ok(layout);
    }
    let layout = fixture::real(cooper)?;
    println!("base image: the real python:3.9-slim from docker.io ({})", layout.display());
    Ok(layout)
}

fn report_skips(file: &Path) -> Result<usize> {
    if !file.exists() {
        println!("no test was skipped");
        return Ok(0);
    }
    let text = std::fs::read_to_string(file)?;
    println!("skipped tests:");
    for line in text.lines() {
        println!("  {line}");
    }
    Ok(text.lines().count())
}
