//! Random trials: random graphs on a modelled world, each answer checked against rules that know nothing of how the
//! solver works.
//!
//! Part of the crate's own tests, and of `examples/trials.rs` for long runs; both have the solver's names at their root.

mod answers;
mod check;
mod graph;
mod rng;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::Solver;

pub(crate) use world::Counts;

/// The error type of the trials.
pub(crate) type Error = &'static str;

/// What became of a series of trials.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) counts: Counts,
    /// Seed of a trial and what was wrong.
    pub(crate) failures: Vec<(u64, String)>,
}

/// Runs one trial.
pub(crate) fn trial(seed: u64, solver: Solver<Error>, counts: &mut Counts) -> Result<(), String> {
    // The solver's own assertions count as findings.
    match catch_unwind(AssertUnwindSafe(|| world::World::new(seed, solver).run(counts))) {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("panic: {}", text.unwrap_or_default()))
        }
    }
}

/// Runs `count` trials, whose seeds follow from `seed`; gives up after `most` failures.
pub(crate) fn trials(seed: u64, count: u64, most: usize, solver: impl Fn() -> Solver<Error>) -> Report {
    let mut report = Report::default();
    for number in 0..count {
        let seed = rng::mix(&[seed, number]);
        report.counts.trials += 1;
        if let Err(failure) = trial(seed, solver(), &mut report.counts) {
            report.failures.push((seed, failure));
            if report.failures.len() >= most {
                break;
            }
        }
    }
    report
}
