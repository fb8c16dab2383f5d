//! Runs random trials of the solver and prints what was found as JSON.
//!
//!     cargo run --release -p cooper-solver --example trials -- --seed 1 --count 10000
//!
//! A finding's seed is repeated with `--only SEED`. Exits with 1 if there are findings.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program of its own

#[path = "../tests/trial/mod.rs"]
mod trial;

use std::process::ExitCode;
use std::time::Instant;

// The trial module takes these from the root, here as in the crate's own tests.
pub(crate) use cooper_solver::{
    AskId, DemandId, Edge, Event, Failure, FlightId, JobId, Kept, Key, Node, Nonce, Note, Out, Pin, Ran,
    Request, ResultId, Solver, Unkeyed, VertexId,
};

fn main() -> ExitCode {
    let (mut seed, mut count, mut only) = (1, 1000, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        // Always JSON; the flag is there for those who ask for it by habit.
        if argument == "--json" {
            continue;
        }
        let Some(number) = arguments.next().and_then(|value| value.parse::<u64>().ok()) else {
            eprintln!("usage: trials [--seed NUMBER] [--count NUMBER] [--only NUMBER]");
            return ExitCode::from(2);
        };
        match argument.as_str() {
            "--seed" => seed = number,
            "--count" => count = number,
            "--only" => only = Some(number),
            _ => {
                eprintln!("unknown argument `{argument}`");
                return ExitCode::from(2);
            }
        }
    }
    let start = Instant::now();
    let report = match only {
        None => trial::trials(seed, count, 20, Solver::new),
        Some(only) => {
            let mut report = trial::Report::default();
            report.counts.trials = 1;
            if let Err(finding) = trial::trial(only, Solver::new(), &mut report.counts) {
                report.failures.push((only, finding));
            }
            report
        }
    };
    let failures: Vec<String> = report
        .failures
        .iter()
        .map(|(seed, finding)| format!(r#"{{"seed": {seed}, "finding": "{}"}}"#, escape(finding)))
        .collect();
    let counts: Vec<String> =
        report.counts.named().iter().map(|(name, count)| format!(r#""{name}": {count}"#)).collect();
    println!(
        r#"{{"seed": {seed}, {}, "seconds": {:.1}, "failures": [{}]}}"#,
        counts.join(", "),
        start.elapsed().as_secs_f64(),
        failures.join(", ")
    );
    if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn escape(text: &str) -> String {
    text.chars()
        .flat_map(|letter| match letter {
            '"' | '\\' => vec!['\\', letter],
            control if control.is_control() => vec![' '],
            letter => vec![letter],
        })
        .collect()
}
