//! cooper: builds container images without a daemon.
//!
//! What it holds: the command line (`args.rs`), what a build's flags mean (`build.rs`), how progress and the summary look
//! (`show.rs`), what the store takes (`space.rs`), and the one shape of every error with its exit code (`report.rs`). It leaves everything else to the
//! engine.
//!
//! The process enters its namespaces first, before any thread exists; after that root and rootless are the same.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the command line is what prints")]

mod args;
mod build;
mod call;
mod context;
mod debug;
mod given;
mod missing;
mod output;
mod paths;
mod report;
mod resolve;
mod say;
mod show;
mod signals;
mod space;

use std::process::ExitCode;

use clap::Parser as _;

/// Converting a Dockerfile is mostly small allocations: it takes a fifth less time than with glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(code) = as_runtime() {
        return code;
    }
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and are no failure; clap knows.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { report::USAGE } else { 0 });
        }
    };
    let result = match &cli.command {
        args::Command::Build(build) => build::run(cli.root.as_deref(), build),
        args::Command::Du(du) => space::du(cli.root.as_deref(), du),
        args::Command::Prune(prune) => space::prune(cli.root.as_deref(), prune),
        args::Command::Store(args::Store::Check { repair, format }) => {
            space::check(cli.root.as_deref(), *repair, *format)
        }
        args::Command::Debug(args::Debug::Resolve { image, json }) => {
            resolve::run(cli.root.as_deref(), image, *json)
        }
        args::Command::Debug(args::Debug::DumpLlb { file, dot }) => {
            debug::dump_llb(file, *dot).and_then(|text| say::out(&text))
        }
        args::Command::Debug(args::Debug::Speed { cases, root }) => {
            debug::speed(cases, root).and_then(|text| say::out(&format!("{text}\n")))
        }
        args::Command::Debug(args::Debug::Conformance { cases, root, out }) => {
            debug::conformance(cases, root, out)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if error.is::<report::Found>() {
                return ExitCode::from(report::FAILED);
            }
            let report = report::Report::of(&error);
            say::err(&report.to_string());
            ExitCode::from(report.code)
        }
    }
}

/// Called as `cooper oci-runtime`, this is a container runtime with runc's command line, whose flags are none of the others'.
/// The executor calls it so for each step.
fn as_runtime() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    (args.next()? == "oci-runtime").then(|| {
        let code = cooper_launcher::main(args);
        ExitCode::from(u8::try_from(code).unwrap_or(report::FAILED))
    })
}
