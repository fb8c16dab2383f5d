//! `cargo xtask bench`: the example's loads by cooper and by each peer that is there, in turn, as ratios.
//!
//! A load is a Dockerfile with burns of four seconds. Every run starts from a cache that has the base image and nothing
//! else. What is compared are whole processes on the same machine in the same run; single seconds mean little.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{build, fixture, root, sh};

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each load is run by each builder.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

const LOADS: [(&str, &str); 2] = [
    (
        "different",
        "FROM python:3.9-slim AS base\nWORKDIR /w\nCOPY main.py .\nFROM base AS a\nRUN echo A && python3 -m main\nFROM base AS b\nRUN echo B && python3 -m main\nFROM base\nCOPY --from=a /w/out a\nCOPY --from=b /w/out b\n",
    ),
    (
        "equal",
        "FROM python:3.9-slim AS base\nWORKDIR /w\nCOPY main.py .\nFROM base AS a\nRUN python3 -m main\nFROM base AS b\nRUN python3 -m main\nFROM base\nCOPY --from=a /w/out a\nCOPY --from=b /w/out b\n",
    ),
];

/// A builder that can be timed.
trait Builder {
    fn name(&self) -> &'static str;
    /// Prepares a state that has the base image only.
    fn reset(&self, dir: &Path) -> Result<()>;
    /// The command that builds the context into an OCI archive.
    fn command(&self, dir: &Path, context: &Path, archive: &Path) -> Command;
}

struct Cooper {
    binary: PathBuf,
    base: PathBuf,
}

impl Builder for Cooper {
    fn name(&self) -> &'static str {
        "cooper"
    }

    fn reset(&self, dir: &Path) -> Result<()> {
        let store = dir.join("cooper");
        if store.exists() {
            std::fs::remove_dir_all(&store)?;
        }
        let context = dir.join("warm");
        std::fs::create_dir_all(&context)?;
        std::fs::write(context.join("Dockerfile"), "FROM python:3.9-slim\nRUN true\n")?;
        sh::output(&mut self.command(dir, &context, &dir.join("warm.tar"))).map(drop)
    }

    fn command(&self, dir: &Path, context: &Path, archive: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--root").arg(dir.join("cooper")).args(["build", "--progress", "plain", "-o"]);
        command.arg(format!("type=oci,dest={}", archive.display()));
        command.arg("--build-context").arg(format!("python:3.9-slim=oci-layout://{}", self.base.display()));
        command.arg(context);
        command
    }
}

struct Buildah {
    base: PathBuf,
}

impl Buildah {
    fn base_command(dir: &Path) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(dir.join("buildah")).arg("--runroot").arg(dir.join("buildah-run"));
        command.args(["--storage-driver", "overlay"]);
        command
    }
}

impl Builder for Buildah {
    fn name(&self) -> &'static str {
        "buildah"
    }

    fn reset(&self, dir: &Path) -> Result<()> {
        sh::output(Self::base_command(dir).args(["rmi", "--all", "--force"]))?;
        sh::output(Self::base_command(dir).arg("pull").arg(format!("oci:{}:3.9-slim", self.base.display())))?;
        let images = sh::output(Self::base_command(dir).args(["images", "--quiet"]))?;
        let id = images.lines().next().context("buildah pulled no image")?.to_owned();
        sh::output(Self::base_command(dir).args(["tag", &id, "docker.io/library/python:3.9-slim"])).map(drop)
    }

    fn command(&self, dir: &Path, context: &Path, archive: &Path) -> Command {
        let mut command = Self::base_command(dir);
        // Chroot isolation and the host's network: no cgroups are needed. `--jobs 0` is as many as there are stages.
        command.args(["bud", "--layers", "--jobs", "0", "--isolation", "chroot", "--network", "host"]);
        command.args(["--pull-never", "--tag"]);
        command.arg(format!("oci-archive:{}", archive.display()));
        command.arg(context);
        command
    }
}

/// Runs all loads and writes `target/bench.json`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = root()?;
    let binary = build::cooper(&root, true)?;
    let base = match build::stand_in(&binary, true)? {
        Some(base) => base,
        None => fixture::real(&binary)?,
    };
    let mut builders: Vec<Box<dyn Builder>> = vec![Box::new(Cooper { binary, base: base.clone() })];
    if sh::which("buildah").is_some() {
        builders.push(Box::new(Buildah { base }));
    } else {
        println!("buildah is not there (apt-get install buildah): only cooper is timed");
    }
    let scratch = tempfile::Builder::new().prefix("cooper-bench-").tempdir_in("/var/tmp")?;
    let dir = scratch.path();
    let mut report = Vec::new();
    for (load, dockerfile) in LOADS {
        let context = dir.join("context");
        std::fs::create_dir_all(&context)?;
        std::fs::write(context.join("Dockerfile"), dockerfile)?;
        let main = std::fs::read_to_string(root.join("examples/parallel/main.py"))?;
        // Four seconds a burn, said in the file: an ENV would be a different step.
        std::fs::write(
            context.join("main.py"),
            main.replace("\"BURN_SECONDS\", \"3\"", "\"BURN_SECONDS\", \"4\""),
        )?;
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); builders.len()];
        for _ in 0..args.runs.max(1) {
            // In turn, so that a machine that drifts drifts for all.
            for (builder, times) in builders.iter().zip(&mut times) {
                builder.reset(dir).with_context(|| format!("preparing {}", builder.name()))?;
                let archive = dir.join(format!("{}.tar", builder.name()));
                let _ = std::fs::remove_file(&archive);
                let mut command = builder.command(dir, &context, &archive);
                let start = Instant::now();
                let output = command.stdin(Stdio::null()).output()?;
                times.push(start.elapsed().as_secs_f64());
                if !output.status.success() || !archive.exists() {
                    bail!("{} failed:\n{}", builder.name(), String::from_utf8_lossy(&output.stderr));
                }
            }
        }
        let medians: Vec<f64> = times.iter().map(|times| median(times)).collect();
        for (at, builder) in builders.iter().enumerate() {
            let (own, cooper) =
                (medians.get(at).copied().unwrap_or(f64::NAN), medians.first().copied().unwrap_or(f64::NAN));
            println!("{load:<10} {:<8} median {own:.2} s  {:.2} x cooper", builder.name(), own / cooper);
            report.push(json!({
                "load": load,
                "builder": builder.name(),
                "seconds": times.get(at),
                "median": own,
                "ratio_to_cooper": own / cooper,
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
