//! `cargo xtask bench`: the example's loads by cooper and by each peer that is there, in turn, as ratios.
//!
//! Two loads are burns of four seconds and start from a cache that has the base image and nothing else; the third builds
//! again what has just been built. What is compared are whole processes on the same machine in the same run; single
//! seconds mean little.

mod builders;

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{build, conformance, fixture, root};
use builders::Builder;

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What is timed.
    #[arg(value_enum, default_value_t = What::Builds)]
    what: What,
    /// How often each load is run by each builder.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// What can be timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Builds of the example's loads, against the peers that are installed.
    Builds,
    /// Conversions of every Dockerfile of the conformance corpus, on one thread.
    Dockerfile,
}

/// What is built.
struct Load {
    name: &'static str,
    /// In front of the command of each of the two stages.
    prefixes: [&'static str; 2],
    /// The time is that of building it again.
    again: bool,
}

const LOADS: [Load; 3] = [
    Load { name: "different", prefixes: ["echo A && ", "echo B && "], again: false },
    Load { name: "equal", prefixes: ["", ""], again: false },
    Load { name: "no-op", prefixes: ["echo A && ", "echo B && "], again: true },
];

impl Load {
    fn write(&self, main: &str, context: &Path) -> Result<()> {
        // Four seconds a burn, said in the file: an ENV would be a different step.
        let (short, long) = ("\"BURN_SECONDS\", \"3\"", "\"BURN_SECONDS\", \"4\"");
        if !main.contains(short) {
            bail!("the example's main.py has no burn of three seconds to be made one of four");
        }
        std::fs::create_dir_all(context)?;
        std::fs::write(context.join("main.py"), main.replace(short, long))?;
        let [a, b] = self.prefixes;
        let dockerfile = format!(
            "FROM python:3.9-slim AS base\nWORKDIR /w\nCOPY main.py .\n\
             FROM base AS a\nRUN {a}python3 -m main\nFROM base AS b\nRUN {b}python3 -m main\n\
             FROM base\nCOPY --from=a /w/out a\nCOPY --from=b /w/out b\n"
        );
        Ok(std::fs::write(context.join("Dockerfile"), dockerfile)?)
    }

    /// Returns the seconds that a builder takes.
    fn time(&self, builder: &dyn Builder, dir: &Path, context: &Path) -> Result<f64> {
        builder.reset(dir).with_context(|| format!("preparing {}", builder.name()))?;
        let archive = dir.join(format!("{}.tar", builder.name()));
        let once = || {
            if archive.exists() {
                std::fs::remove_file(&archive)?;
            }
            let mut command = builder.command(dir, context, &archive);
            let start = Instant::now();
            let output = command.stdin(Stdio::null()).output()?;
            let seconds = start.elapsed().as_secs_f64();
            if !output.status.success() || !archive.exists() {
                bail!("{} failed:\n{}", builder.name(), String::from_utf8_lossy(&output.stderr));
            }
            Ok(seconds)
        };
        let first = once()?;
        if self.again { once() } else { Ok(first) }
    }
}

/// Runs all loads and writes `target/bench.json`.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.what == What::Dockerfile {
        return conformance::speed();
    }
    let root = root()?;
    let binary = build::cooper(&root, true)?;
    let base = match build::stand_in(&binary, true)? {
        Some(base) => base,
        None => fixture::real(&binary)?,
    };
    let scratch = tempfile::Builder::new().prefix("cooper-bench-").tempdir_in("/var/tmp")?;
    let dir = scratch.path();
    let builders = builders::all(binary, &base, dir)?;
    let main = std::fs::read_to_string(root.join("examples/parallel/main.py"))?;
    let mut report = Vec::new();
    for load in &LOADS {
        let context = dir.join("context");
        load.write(&main, &context)?;
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); builders.len()];
        for _ in 0..args.runs.max(1) {
            // In turn, so that a machine that drifts drifts for all.
            for (builder, times) in builders.iter().zip(&mut times) {
                times.push(load.time(&**builder, dir, &context)?);
            }
        }
        let medians: Vec<f64> = times.iter().map(|times| median(times)).collect();
        let cooper = medians.first().copied().unwrap_or(f64::NAN);
        for ((builder, own), times) in builders.iter().zip(&medians).zip(&times) {
            let ratio = own / cooper;
            println!("{:<10} {:<9} median {own:.2} s  {ratio:.2} x cooper", load.name, builder.name());
            report.push(json!({
                "load": load.name,
                "builder": builder.name(),
                "seconds": times,
                "median": own,
                "ratio_to_cooper": ratio,
            }));
        }
    }
    let file = root.join("target/bench.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&Value::Array(report))?)?;
    println!("written: {}", file.display());
    Ok(())
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
