//! `cargo xtask build`: compiles cooper and builds an image with it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::Value;

use crate::{fixture, root, sh, tools};

/// The image that the example's Dockerfile starts from.
const EXAMPLE_BASE: &str = "python:3.9-slim";

/// Arguments of `cargo xtask build`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder with the Dockerfile; `examples/parallel` if it is left out.
    dir: Option<PathBuf>,
    /// Loads the image into podman afterwards.
    #[arg(long)]
    load: bool,
    /// Does not install packages; says what is missing instead.
    #[arg(long)]
    no_install: bool,
    /// Flags of `cooper build`.
    #[arg(last = true)]
    flags: Vec<OsString>,
}

/// Builds the image and prints where it is.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!(
            "building images needs a Linux machine (namespaces, overlay): run this in a virtual machine. \
             The pure crates compile and test here: cargo test -p cooper-dockerfile -p cooper-frontend -p cooper-llb -p cooper-solver"
        );
    }
    let root = root()?;
    let cooper = cooper(&root, true)?;
    let example = root.join("examples/parallel");
    let dir = args.dir.clone().unwrap_or_else(|| example.clone());
    let name = image_name(&dir)?;
    let archive = root.join("target/cooper").join(format!("{name}.tar"));
    if let Some(parent) = archive.parent() {
        std::fs::create_dir_all(parent)?;
    }

    let mut command = sh::command(&cooper.to_string_lossy(), ["build"]);
    command.arg(&dir);
    if !gives(&args.flags, &["-t", "--tag"]) {
        command.args(["-t", &format!("localhost/{name}:latest")]);
    }
    let own_archive = !gives(&args.flags, &["-o", "--output"]);
    if own_archive {
        command.arg("-o").arg(format!("type=oci,dest={}", archive.display()));
    }
    if dir.canonicalize()? == example.canonicalize()?
        && !gives(&args.flags, &["--build-context"])
        && let Some(layout) = stand_in(&cooper, !args.no_install)?
    {
        command.arg("--build-context").arg(format!("{EXAMPLE_BASE}=oci-layout://{}", layout.display()));
    }
    command.args(&args.flags);
    sh::run(&mut command)?;
    if args.load {
        if !own_archive {
            bail!("--load reads the archive that xtask asks for; leave out the own --output");
        }
        if sh::which("podman").is_none() {
            bail!("--load needs podman, which is not on PATH; the image is in `{}`", archive.display());
        }
        sh::run(sh::command("podman", ["load", "-i"]).arg(&archive))?;
    }
    Ok(())
}

/// Compiles the command line and returns its path.
pub(crate) fn cooper(root: &Path, release: bool) -> Result<PathBuf> {
    let mut command = sh::command("cargo", ["build", "--package", "cooper-cli"]);
    if release {
        command.arg("--release");
    }
    sh::run(command.current_dir(root))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(root.join(target).join(if release { "release" } else { "debug" }).join("cooper"))
}

/// Returns the layout of the stand-in where docker.io cannot be reached, after saying so; `None` where it can.
///
/// Only "no route, no name, no connection" count: an answer that refuses (401, 404, 429) and a TLS failure are
/// errors, which the build itself then reports.
pub(crate) fn stand_in(cooper: &Path, may_install: bool) -> Result<Option<PathBuf>> {
    let probe =
        sh::command(&cooper.to_string_lossy(), ["debug", "resolve", "--json", EXAMPLE_BASE]).output()?;
    let answer: Value = serde_json::from_slice(&probe.stdout).unwrap_or_default();
    if answer["unreachable"] != Value::Bool(true) {
        return Ok(None);
    }
    if !fixture::is_there()? {
        tools::ensure(tools::FIXTURE, "the stand-in of python:3.9-slim", may_install)?;
    }
    let layout = fixture::python(false)?;
    println!(
        "docker.io cannot be reached: {EXAMPLE_BASE} is a stand-in made from Debian's packages ({})",
        layout.display()
    );
    Ok(Some(layout))
}

fn gives(flags: &[OsString], names: &[&str]) -> bool {
    flags.iter().any(|flag| {
        let flag = flag.to_string_lossy();
        names.iter().any(|name| {
            flag == *name
                || flag
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with('=') || !name.starts_with("--"))
        })
    })
}

/// Makes a name that references allow from the folder's.
fn image_name(dir: &Path) -> Result<String> {
    let dir =
        dir.canonicalize().map_err(|error| anyhow::anyhow!("cannot open `{}`: {error}", dir.display()))?;
    let name = dir.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect::<String>();
    let name = name.trim_matches('-').to_owned();
    Ok(if name.is_empty() { "image".to_owned() } else { name })
}
