//! `cargo xtask conformance`: every conversion of the corpus against BuildKit's bytes.
//!
//! The corpus holds third-party Dockerfiles and is no part of the checkout; it is looked for where the option, the
//! environment or a folder beside the checkout has it. It is unpacked below `target/` once an archive.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{build, root, sh};

/// The variable that names the archive.
const VARIABLE: &str = "COOPER_CONFORMANCE";

/// Where the archive is looked for otherwise, from the root of the checkout.
const BESIDE: &str = "../shared/conformance.tar.zst";

/// Checks of which BuildKit's own bytes depend: at most one case in 2,000 may differ.
const EXACT: f64 = 0.9995;

/// Checks of what is said: at most one case in 1,000 may differ.
const CLOSE: f64 = 0.999;

/// Error texts, some of which come from Go's libraries.
const MESSAGES: f64 = 0.99;

/// The trees of files: below [`CLOSE`] for one reason only. BuildKit's parser crashes where it is given no linter and a
/// comment above an instruction reads `check=`, and for such a file the corpus holds the crash instead of a tree. These
/// were 9 of 2,154 when this was written.
const TREES: f64 = 0.9957;

/// As [`TREES`], for the list of targets, which BuildKit makes in the same way.
const TARGETS: f64 = 0.9954;

/// The share of each check of the comparer that must be the same.
const FLOORS: [(&str, f64); 18] = [
    ("status", EXACT),
    ("shape", EXACT),
    ("ops", EXACT),
    ("digests", EXACT),
    ("meta", EXACT),
    ("image", EXACT),
    ("base_image", EXACT),
    ("image_bytes", CLOSE),
    ("source", CLOSE),
    ("error_line", CLOSE),
    ("warn_rules", CLOSE),
    ("warnings", CLOSE),
    ("lint", CLOSE),
    ("outline", CLOSE),
    ("targets", TARGETS),
    ("ast_dump", TREES),
    ("ast_json", TREES),
    ("error_msg", MESSAGES),
];

/// What `ast_instr` must reach; apart, since the comparer counts fewer files there.
const INSTRUCTIONS: (&str, f64) = ("ast_instr", TREES);

/// Microseconds that conversions may take.
const LIMITS: [(&str, f64); 2] = [("median_us", 100.0), ("largest_us", 10_000.0)];

/// How much more memory there may be after the last pass over the files than after the first.
const GROWTH: f64 = 1.1;

/// Arguments of `cargo xtask conformance`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The corpus [default: $COOPER_CONFORMANCE, then ../shared/conformance.tar.zst].
    #[arg(long, value_name = "FILE")]
    archive: Option<PathBuf>,
    /// How many differing cases are shown.
    #[arg(long, default_value_t = 20)]
    show: usize,
}

/// Converts, compares and prints the table with a release build; fails below the floors.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = root()?;
    let Some(archive) = archive(&root, args.archive.as_deref())? else {
        bail!("no corpus: give it by --archive FILE or {VARIABLE}, or put it at `{BESIDE}`");
    };
    let cooper = build::cooper(&root, true)?;
    compare(&root, &archive, &cooper, args.show)
}

/// Compares with a binary that is there already, or says in one line that there is no corpus.
pub(crate) fn where_it_is(root: &Path, cooper: &Path) -> Result<()> {
    match archive(root, None)? {
        Some(archive) => compare(root, &archive, cooper, 20),
        None => {
            println!("no corpus (`{BESIDE}`, or {VARIABLE}): the comparison with BuildKit is left out");
            Ok(())
        }
    }
}

/// Times the conversion of every Dockerfile on one thread with a release build; fails above the limits.
pub(crate) fn speed() -> Result<()> {
    let root = root()?;
    let Some(archive) = archive(&root, None)? else {
        bail!("no corpus: name it by {VARIABLE}, or put it at `{BESIDE}`");
    };
    let cooper = build::cooper(&root, true)?;
    let corpus = unpack(&root, &archive)?;
    let mut command = sh::command(&cooper.to_string_lossy(), ["debug", "speed", "--cases"]);
    let text = sh::output(command.arg(corpus.join("cases.jsonl")).arg("--root").arg(&corpus))?;
    print!("{text}");
    let report: Value = serde_json::from_str(&text)?;
    let number = |key: &str| report[key].as_f64().with_context(|| format!("the report has no `{key}`"));
    let mut high = Vec::new();
    for (key, limit) in LIMITS {
        let value = number(key)?;
        if value > limit {
            high.push(format!("{key} is {value}, the limit is {limit}"));
        }
    }
    // What the first pass needed must do for all: nothing is kept of a file.
    let (first, last) = (number("memory_kb_first_pass")?, number("memory_kb_last_pass")?);
    if last > first * GROWTH {
        high.push(format!("memory grows from {first} kB to {last} kB"));
    }
    if !high.is_empty() {
        bail!("too slow or too large:\n  {}", high.join("\n  "));
    }
    std::fs::write(root.join("target/bench-dockerfile.json"), text)?;
    Ok(())
}

/// Finds the archive. One that was named must be there.
fn archive(root: &Path, given: Option<&Path>) -> Result<Option<PathBuf>> {
    let named = given.map(Path::to_owned).or_else(|| std::env::var_os(VARIABLE).map(PathBuf::from));
    if let Some(file) = named {
        if !file.is_file() {
            bail!("the corpus `{}` is no file", file.display());
        }
        return Ok(Some(file));
    }
    // A work tree of git lies beside the checkout or deeper; the folder of its repository counts, too.
    let common = sh::output(sh::command("git", ["rev-parse", "--git-common-dir"]).current_dir(root)).ok();
    let main = common.and_then(|dir| root.join(dir.trim()).parent().map(Path::to_owned));
    Ok(std::iter::once(root.to_owned()).chain(main).map(|dir| dir.join(BESIDE)).find(|file| file.is_file()))
}

/// Unpacks an archive below `target/`, unless that was done, and returns the folder with the list of cases.
fn unpack(root: &Path, archive: &Path) -> Result<PathBuf> {
    let meta = archive.metadata()?;
    let changed = meta.modified()?.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let mark = format!("{} {} {changed}\n", archive.display(), meta.len());
    let dir = root.join("target/conformance/corpus");
    let marker = dir.join(".unpacked");
    if std::fs::read_to_string(&marker).ok().as_deref() != Some(mark.as_str()) {
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        println!("unpacking {}", archive.display());
        let mut tar = sh::command("tar", ["--zstd", "-xf"]);
        sh::run(tar.arg(archive).arg("-C").arg(&dir).stdin(Stdio::null()))?;
        std::fs::write(&marker, mark)?;
    }
    let inner = std::fs::read_dir(&dir)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    std::iter::once(dir.clone())
        .chain(inner)
        .find(|dir| dir.join("cases.jsonl").is_file())
        .with_context(|| format!("`{}` holds no cases.jsonl", archive.display()))
}

fn compare(root: &Path, archive: &Path, cooper: &Path, show: usize) -> Result<()> {
    let corpus = unpack(root, archive)?;
    let work = root.join("target/conformance");
    let new = work.join("new");
    if new.exists() {
        std::fs::remove_dir_all(&new)?;
    }
    let words = ["debug", "conformance", "--cases"];
    let mut convert = sh::command(&cooper.to_string_lossy(), words);
    convert.arg(corpus.join("cases.jsonl")).arg("--root").arg(&corpus).arg("--out").arg(&new);
    sh::run(convert.stdin(Stdio::null()))?;

    let totals = work.join("totals.json");
    let _ = std::fs::remove_file(&totals);
    let mut python =
        sh::command("python3", [corpus.join("compare.py"), corpus.join("expected"), new.clone()]);
    python.arg("--json").arg(&totals).arg("--fail").arg(show.to_string());
    // Its exit status is 1 with the first difference; what counts are the totals.
    python.stdin(Stdio::null()).status().context("python3 could not be started")?;
    let totals: Value =
        serde_json::from_slice(&std::fs::read(&totals).context("compare.py gave no totals")?)?;
    let mut low = below(&totals);

    let mut words = sh::command("python3", [corpus.join("compare_shlex.py")]);
    words.arg(corpus.join("shlex/expected.jsonl")).arg(new.join("shlex.jsonl"));
    if !words.stdin(Stdio::null()).status().context("python3 could not be started")?.success() {
        low.push("shell words: not all are the same".to_owned());
    }
    if !low.is_empty() {
        bail!("less is the same as before:\n  {}", low.join("\n  "));
    }
    println!("conformance: no check is below its floor");
    Ok(())
}

/// Says which checks are below their floors, were not made, or lack cases.
fn below(totals: &Value) -> Vec<String> {
    let mut low = Vec::new();
    let checks: BTreeMap<String, (u64, u64)> =
        serde_json::from_value(totals["checks"].clone()).unwrap_or_default();
    for (name, floor) in FLOORS.into_iter().chain([INSTRUCTIONS]) {
        let (same, all) = checks.get(name).copied().unwrap_or_default();
        if all == 0 || (same as f64) < floor * all as f64 {
            low.push(format!("{name}: {same} of {all}, the floor is {} %", floor * 100.0));
        }
    }
    for (what, count) in totals["missing"].as_object().into_iter().flatten() {
        if count.as_u64() != Some(0) {
            low.push(format!("{count} {what}(s) were not converted"));
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors() {
        let mut checks: BTreeMap<&str, (u64, u64)> =
            FLOORS.into_iter().chain([INSTRUCTIONS]).map(|(name, _)| (name, (10_000, 10_000))).collect();
        let low = |checks: &BTreeMap<&str, (u64, u64)>, missing: u64| {
            below(&serde_json::json!({ "checks": checks, "missing": { "case": missing } }))
        };
        assert_eq!(low(&checks, 0), Vec::<String>::new());
        assert_eq!(low(&checks, 3), ["3 case(s) were not converted"]);
        checks.insert("digests", (9_994, 10_000));
        checks.insert("error_line", (9_990, 10_000));
        checks.remove("lint");
        assert_eq!(
            low(&checks, 0),
            ["digests: 9994 of 10000, the floor is 99.95 %", "lint: 0 of 0, the floor is 99.9 %"]
        );
    }
}
