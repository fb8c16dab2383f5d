//! How long conversions take, and what memory they need.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::stub::Case;

/// How often every file is converted.
const PASSES: usize = 5;

/// Converts every Dockerfile of a corpus with the options of its first case and gives the times as JSON.
///
/// What counts is one call of the frontend that has all answers: parsing the text and converting it. The calls before
/// it, which find out what has to be asked, and making up the answers are not part of it.
pub(crate) fn speed(cases: &Path, root: &Path) -> Result<String> {
    let list = fs::read_to_string(cases).with_context(|| format!("cannot read {}", cases.display()))?;
    let mut files = BTreeMap::new();
    for case in list.lines().filter_map(Case::parse) {
        files.entry(case.file.clone()).or_insert(case);
    }
    drop(list);
    let mut best: BTreeMap<&str, Duration> = BTreeMap::new();
    let mut memory = Vec::new();
    let start = Instant::now();
    for _ in 0..PASSES {
        for (file, case) in &files {
            let text = fs::read(root.join(file)).with_context(|| format!("cannot read {file}"))?;
            let took = case.timed(&text);
            // The best of several is the time of the code; the rest is what else the machine does.
            best.entry(file).and_modify(|best| *best = took.min(*best)).or_insert(took);
        }
        memory.push(resident()?);
    }
    let mut times: Vec<(Duration, &str)> = best.iter().map(|(file, took)| (*took, *file)).collect();
    times.sort();
    let micros = |time: Duration| (time.as_secs_f64() * 1e7).round() / 10.0;
    let at = |share: f64| {
        let index = (times.len().saturating_sub(1) as f64 * share) as usize;
        times.get(index).map_or(0.0, |(took, _)| micros(*took))
    };
    let (largest, slowest) = times.last().copied().unwrap_or_default();
    Ok(json!({
        "files": times.len(),
        "passes": PASSES,
        "seconds": start.elapsed().as_secs_f64(),
        "median_us": at(0.5),
        "p99_us": at(0.99),
        "largest_us": micros(largest),
        "largest_file": slowest,
        "memory_kb_first_pass": memory.first(),
        "memory_kb_last_pass": memory.last(),
    })
    .to_string())
}

/// Memory of this process in kilobytes.
fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.context("/proc/self/status has no VmRSS")
}
