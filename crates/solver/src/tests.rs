//! Tests of the whole solver: trials on random graphs.

use crate::Solver;
use crate::fault::Fault;
use crate::trial;

#[test]
fn random_trials_keep_the_invariant() {
    let report = trial::trials(1, 250, 3, Solver::new);
    for (name, count) in report.counts.named() {
        println!("{name}: {count}");
    }
    assert_eq!(report.failures, [], "seeds and findings");
    for (name, count) in report.counts.named() {
        assert!(count > 0, "no trial had any `{name}`");
    }
}

#[test]
fn every_planted_fault_is_found() {
    for fault in Fault::ALL {
        let report = trial::trials(2, 300, 1, || Solver::with_fault(fault));
        println!("{fault:?}: {:?} after {} trials", report.failures, report.counts.trials);
        assert_eq!(report.failures.len(), 1, "{fault:?} was not found");
    }
}
