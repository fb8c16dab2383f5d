//! `cargo xtask soak NAME`: one long trial in full, with its result as JSON.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{build, fixture, root, sh};

/// A long trial: a program that takes `--seed` and `--count` and prints one JSON object as its last line.
struct Trial {
    name: &'static str,
    package: &'static str,
    example: &'static str,
    count: u64,
    /// Further words for it.
    words: &'static [&'static str],
    about: &'static str,
    /// It starts `cooper` and needs the base image; `COOPER_BIN` and `COOPER_TEST_BASE` name others than its own.
    cooper: bool,
}

const TRIALS: &[Trial] = &[
    Trial {
        name: "solver",
        package: "cooper-solver",
        example: "trials",
        count: 10_000,
        words: &[],
        about: "random graphs against the sequential evaluator",
        cooper: false,
    },
    Trial {
        name: "dockerfile",
        package: "cooper-frontend",
        example: "mutations",
        count: 2_500_000,
        words: &["--large", "100000"],
        about: "damaged and huge Dockerfiles, ignore files and words: no panic, no hang, no quadratic time",
        cooper: false,
    },
    Trial {
        name: "flights",
        package: "cooper-tests",
        example: "flights",
        count: 200,
        words: &[],
        about: "16 processes at once on one Dockerfile; failures, owners that are interrupted, killed, orphan containers",
        cooper: true,
    },
    Trial {
        name: "kills",
        package: "cooper-tests",
        example: "kills",
        count: 200,
        words: &[],
        about: "SIGKILL at random moments of a build of ten steps: all of it, the builder alone, the runtime alone",
        cooper: true,
    },
    Trial {
        name: "fuzz-tar",
        package: "cooper-layer",
        example: "fuzz",
        count: 1000,
        words: &["--target", "tar", "--seconds", "300"],
        about: "damaged archives: no panic, no hang, no contradiction; five minutes",
        cooper: false,
    },
    Trial {
        name: "fuzz-pax",
        package: "cooper-layer",
        example: "fuzz",
        count: 1000,
        words: &["--target", "pax", "--seconds", "300"],
        about: "damaged extension records of archives: no panic, no hang, no contradiction; five minutes",
        cooper: false,
    },
    Trial {
        name: "fuzz-index",
        package: "cooper-layer",
        example: "fuzz",
        count: 1000,
        words: &["--target", "index", "--seconds", "300"],
        about: "damaged indexes of layers, as the store keeps them: no panic, no hang, no contradiction; five minutes",
        cooper: false,
    },
    Trial {
        name: "fuzz-json",
        package: "cooper-oci",
        example: "fuzz",
        count: 1000,
        words: &["--target", "json", "--seconds", "300"],
        about: "damaged manifests, indexes and configurations: no panic, no hang, no contradiction; five minutes",
        cooper: false,
    },
    Trial {
        name: "fuzz-reference",
        package: "cooper-oci",
        example: "fuzz",
        count: 1000,
        words: &["--target", "reference", "--seconds", "300"],
        about: "damaged names, digests, platforms and times: no panic, no hang, no contradiction; five minutes",
        cooper: false,
    },
    Trial {
        name: "fuzz-authenticate",
        package: "cooper-registry",
        example: "fuzz",
        count: 1000,
        words: &["--target", "authenticate", "--seconds", "300"],
        about: "damaged questions of registries for a login: no panic, no hang, no contradiction; five minutes",
        cooper: false,
    },
    Trial {
        name: "fuzz-store",
        package: "cooper-store",
        example: "fuzz",
        count: 1000,
        words: &["--target", "store", "--seconds", "300"],
        about: "a damaged database of a store: no panic, no hang, no contradiction; five minutes",
        cooper: false,
    },
    Trial {
        name: "fuzz-store-files",
        package: "cooper-store",
        example: "fuzz",
        count: 1000,
        words: &["--target", "store-files", "--seconds", "300"],
        about: "damaged files of a store: no panic, no hang, no contradiction; five minutes",
        cooper: false,
    },
    Trial {
        name: "trace",
        package: "cooper-tests",
        example: "trace",
        count: 300,
        words: &[],
        about: "builds of projects that change, two at once, under a cap of 500 MB: never above it, no input lost",
        cooper: true,
    },
];

/// Arguments of `cargo xtask soak`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which trial; without it all are listed.
    name: Option<String>,
    /// Seed of the first trial.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many; the default is the trial's own.
    #[arg(long)]
    count: Option<u64>,
}

/// Runs a trial and writes `target/soak/NAME.json` with seed, commit and result.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Some(name) = &args.name else {
        for trial in TRIALS {
            println!("{:<18} {} ({} by default)", trial.name, trial.about, trial.count);
        }
        return Ok(());
    };
    let Some(trial) = TRIALS.iter().find(|trial| trial.name == name) else {
        let names: Vec<_> = TRIALS.iter().map(|trial| trial.name).collect();
        bail!("there is no trial `{name}` (there are: {})", names.join(", "));
    };
    let root = root()?;
    let commit = sh::output(sh::command("git", ["rev-parse", "HEAD"]).current_dir(&root))?;
    let count = args.count.unwrap_or(trial.count);
    let (seed, number) = (args.seed.to_string(), count.to_string());
    let words = [
        "run",
        "--quiet",
        "--release",
        "--package",
        trial.package,
        "--example",
        trial.example,
        "--",
        "--seed",
        &seed,
        "--count",
        &number,
        "--json",
    ];
    let start = Instant::now();
    let mut command = sh::command("cargo", words);
    command.args(trial.words).current_dir(&root).stderr(std::process::Stdio::inherit());
    if trial.cooper {
        let unset = |name| std::env::var_os(name).is_none();
        if unset("COOPER_BIN") {
            command.env("COOPER_BIN", build::cooper(&root, true)?);
        }
        if unset("COOPER_TEST_BASE") {
            command.env("COOPER_TEST_BASE", fixture::python(false)?);
        }
    }
    let output = command.output().context("cargo could not be started")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let result: Value =
        text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    let report = json!({
        "trial": trial.name,
        "seed": args.seed,
        "count": count,
        "commit": commit.trim(),
        "seconds": start.elapsed().as_secs_f64(),
        "passed": output.status.success(),
        "result": result,
    });
    let file: PathBuf = root.join("target/soak").join(format!("{}.json", trial.name));
    std::fs::create_dir_all(root.join("target/soak"))?;
    std::fs::write(&file, serde_json::to_vec_pretty(&report)?)?;
    println!("{report}");
    if !output.status.success() {
        bail!("trial `{}` failed; its result is in `{}`", trial.name, file.display());
    }
    Ok(())
}
