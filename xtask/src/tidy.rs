//! Checks of the house that the compiler does not make.
//!
//! The two tables below are those of `docs/design/boundaries.md`: which crate may use which, and where the
//! named packages belong. Each failure says what to do.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use walkdir::WalkDir;

use crate::{root, sh};

/// Crate and what it may use.
const EDGES: &[(&str, &[&str])] = &[
    ("oci", &[]),
    ("llb", &["oci"]),
    ("dockerfile", &[]),
    ("frontend", &["dockerfile", "llb", "oci"]),
    ("solver", &[]),
    ("progress", &["oci"]),
    ("layer", &["oci"]),
    ("registry", &["oci"]),
    ("store", &["oci", "layer"]),
    ("launcher", &[]),
    ("executor", &["oci", "layer"]),
    ("source", &["oci", "layer", "registry", "store"]),
    ("exporter", &["oci", "layer", "registry", "store"]),
    (
        "engine",
        &[
            "oci", "llb", "frontend", "solver", "progress", "layer", "registry", "store", "executor",
            "source", "exporter",
        ],
    ),
    ("cli", &["engine", "progress", "oci", "dockerfile", "frontend", "llb", "executor", "launcher"]),
];

/// Package and the only crates that may depend on it.
const PLACES: &[(&str, &[&str])] = &[
    ("oci-spec", &["executor", "launcher"]),
    ("sha2", &["oci"]),
    ("zstd", &["layer"]),
    ("tokio", &["engine", "source", "registry", "executor", "exporter", "cli"]),
    ("reqwest", &["registry", "source"]),
    ("clap", &["cli", "xtask"]),
    ("walkdir", &["source", "xtask"]),
    ("rusqlite", &["store"]),
];

/// Crates that open no file and no socket and read no clock.
const PURE: &[&str] = &["oci", "llb", "dockerfile", "frontend", "solver", "progress"];

/// What must not stand in the code of a pure crate, with the reason.
const IMPURE: &[(&str, &str)] = &[
    ("std::fs", "opens files"),
    // Addresses as data (`std::net::IpAddr`) are fine.
    ("TcpStream", "opens sockets"),
    ("TcpListener", "opens sockets"),
    ("UdpSocket", "opens sockets"),
    ("UnixStream", "opens sockets"),
    ("ToSocketAddrs", "resolves names"),
    ("std::process", "starts processes"),
    ("std::thread", "starts threads"),
    ("std::os::", "is bound to one system"),
    ("File::open", "opens files"),
    ("SystemTime::now", "reads the clock"),
    ("Instant::now", "reads the clock"),
    ("tokio::", "is asynchronous"),
];

/// Runs all checks; every failure is listed, not only the first.
pub(crate) fn run() -> Result<()> {
    let root = root()?;
    let mut failures = Vec::new();
    let metadata = sh::output(
        sh::command("cargo", ["metadata", "--no-deps", "--format-version", "1"]).current_dir(&root),
    )?;
    let metadata: Value = serde_json::from_str(&metadata).context("`cargo metadata` printed no JSON")?;
    dependencies(&metadata, &mut failures);
    for (name, _) in EDGES {
        let dir = root.join("crates").join(name);
        comment(&dir, name, &mut failures)?;
        example(&dir, name, &mut failures);
        if PURE.contains(name) {
            pure(&dir, name, &mut failures)?;
        }
    }
    names(&root, &mut failures)?;
    if failures.is_empty() {
        println!("tidy: {} crates checked", EDGES.len());
        return Ok(());
    }
    for failure in &failures {
        eprintln!("tidy: {failure}");
    }
    bail!("tidy found {} fault(s)", failures.len());
}

fn dependencies(metadata: &Value, failures: &mut Vec<String>) {
    let known: BTreeSet<&str> = EDGES.iter().map(|(name, _)| *name).collect();
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    for package in packages {
        let full = package["name"].as_str().unwrap_or_default();
        let name = full.strip_prefix("cooper-").unwrap_or(full);
        if full.starts_with("cooper-") && name != "tests" && !known.contains(name) {
            failures.push(format!("crate `{full}` is not in the table of edges: add it to EDGES in xtask/src/tidy.rs and to docs/design/boundaries.md"));
        }
        for dependency in package["dependencies"].as_array().map_or(&[][..], Vec::as_slice) {
            // Development dependencies serve tests and examples; they do not make an edge.
            if dependency["kind"].as_str() == Some("dev") {
                continue;
            }
            let wanted = dependency["name"].as_str().unwrap_or_default();
            if let (Some(target), Some((_, allowed))) =
                (wanted.strip_prefix("cooper-"), EDGES.iter().find(|(crate_name, _)| *crate_name == name))
                && !allowed.contains(&target)
            {
                failures.push(format!("crate `{name}` uses `{target}`, which docs/design/boundaries.md does not allow: move the code or change both tables with a reason"));
            }
            if let Some((_, places)) = PLACES.iter().find(|(package, _)| *package == wanted)
                && !places.contains(&name)
                && name != "tests"
            {
                failures.push(format!("crate `{name}` depends on `{wanted}`, whose place is {places:?}: use what those crates offer"));
            }
        }
    }
}

fn comment(dir: &Path, name: &str, failures: &mut Vec<String>) -> Result<()> {
    let file = if name == "cli" { "src/main.rs" } else { "src/lib.rs" };
    let path = dir.join(file);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let lines: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
    if lines.len() < 4 {
        failures.push(format!(
            "crates/{name}/{file} has no crate comment: say what it holds and what it leaves to others"
        ));
    }
    if name != "cli" && !lines.iter().any(|line| line.contains("```")) {
        failures.push(format!("crates/{name}/{file}: the crate comment has no runnable example"));
    }
    Ok(())
}

fn example(dir: &Path, name: &str, failures: &mut Vec<String>) {
    // The binary's example is the build of `examples/parallel`.
    if name == "cli" {
        return;
    }
    let found = dir.join("examples").read_dir().is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "rs"))
    });
    if !found {
        failures.push(format!(
            "crates/{name}/examples has no example: add one that does a real job with the crate alone"
        ));
    }
}

fn pure(dir: &Path, name: &str, failures: &mut Vec<String>) -> Result<()> {
    for entry in WalkDir::new(dir.join("src")).sort_by_file_name() {
        let entry = entry?;
        if entry.path().extension().is_none_or(|extension| extension != "rs") || is_test(entry.path()) {
            continue;
        }
        let text = std::fs::read_to_string(entry.path())?;
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for (needle, reason) in IMPURE {
                if line.contains(needle) {
                    failures.push(format!(
                        "{}:{}: `{needle}` {reason}, and `{name}` is a pure crate: move it to the engine",
                        entry.path().display(),
                        number + 1
                    ));
                }
            }
        }
    }
    Ok(())
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs")
}

/// A file that is one thing is seldom longer than this; beyond it the reader must be told why.
const LONG: usize = 1500;

fn names(root: &Path, failures: &mut Vec<String>) -> Result<()> {
    let files = sh::output(sh::command("git", ["ls-files", "*.rs"]).current_dir(root))?;
    for file in files.lines() {
        let text =
            std::fs::read_to_string(root.join(file)).with_context(|| format!("cannot read `{file}`"))?;
        let lines = text.lines().count();
        if lines > LONG {
            failures.push(format!("{file} has {lines} lines: split it into the things that it is"));
        }
    }
    Ok(())
}
