//! `cooper debug`: looking at what the frontend makes of Dockerfiles.

mod speed;
mod stub;
mod subrequests;
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use cooper_frontend::{Checked, Outcome, Warning};
use serde_json::{Value, json};

pub(crate) use speed::speed;
use stub::Case;
#[cfg(test)]
pub(crate) use stub::Case as Stub;

/// Converts a Dockerfile as if every image existed and every context were empty, and gives its graph: one JSON object a
/// vertex as `buildctl debug dump-llb` prints them, or Graphviz's language.
pub(crate) fn dump_llb(file: &Path, dot: bool) -> Result<String> {
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let built = match Case::default().convert(&text).outcome? {
        Outcome::Done(built) => built,
        Outcome::Missing(_) => {
            bail!("{}: the conversion asks for more than a Dockerfile and images", file.display())
        }
    };
    let first = built.platforms.first().context("the build has no platform")?;
    let definition = cooper_llb::decode_definition(&first.definition)?;
    Ok(if dot { cooper_llb::to_dot(&definition)? } else { cooper_llb::to_json_lines(&definition)? })
}

/// Converts every case of a conformance corpus and writes what came out, one directory a case.
///
/// `cases` is its list (JSON lines), `root` the directory with the Dockerfiles. Written are `llb.pb`, `image.json`,
/// `base_image.json`, `result.json` and `subrequests.json` below `out`, and `ast.txt` and `ast.json` a Dockerfile, as the
/// corpus's own tool for comparing expects them; and `shlex.jsonl` where the corpus has words to be expanded.
pub(crate) fn conformance(cases: &Path, root: &Path, out: &Path) -> Result<()> {
    let mut files = BTreeSet::new();
    let list = fs::read_to_string(cases).with_context(|| format!("cannot read {}", cases.display()))?;
    for (number, line) in list.lines().enumerate() {
        let case =
            Case::parse(line).with_context(|| format!("{}:{}: not a case", cases.display(), number + 1))?;
        let text = fs::read(root.join(&case.file)).with_context(|| format!("cannot read {}", case.file))?;
        let checked = case.convert(&text);
        let dir = out.join(&case.id);
        write_case(&dir, checked).with_context(|| format!("cannot write {}", dir.display()))?;
        if case.subrequests {
            let answers = subrequests::answers(&case, &text);
            fs::write(dir.join("subrequests.json"), answers.to_string())?;
        }
        if files.insert(case.file.clone()) {
            let dir = out.join(&case.file);
            write_file(&dir, &text).with_context(|| format!("cannot write {}", dir.display()))?;
        }
    }
    let list = root.join("shlex/cases.jsonl");
    if list.is_file() {
        fs::write(out.join("shlex.jsonl"), words::expanded(&list)?)?;
    }
    Ok(())
}

fn write_file(dir: &Path, text: &[u8]) -> Result<()> {
    let parsed = cooper_dockerfile::parse(text);
    if let Ok(file) = &parsed {
        fs::write(dir.join("ast.txt"), cooper_dockerfile::dump(&file.nodes))?;
    }
    fs::write(dir.join("ast.json"), cooper_dockerfile::to_json(&parsed).to_string())?;
    Ok(())
}

fn write_case(dir: &Path, checked: Checked) -> Result<()> {
    fs::create_dir_all(dir)?;
    let warnings: Vec<Value> = checked.warnings.iter().map(warning).collect();
    let result = match checked.outcome {
        Ok(Outcome::Done(built)) => {
            // With several platforms the corpus holds the first.
            if let Some(first) = built.platforms.first() {
                fs::write(dir.join("llb.pb"), &first.definition)?;
                fs::write(dir.join("image.json"), &first.image)?;
                if let Some(base) = &first.base_image {
                    fs::write(dir.join("base_image.json"), base)?;
                }
            }
            json!({ "status": "ok", "warnings": warnings })
        }
        Ok(Outcome::Missing(asks)) => {
            let message = format!("the stub has no answer to {asks:?}");
            json!({ "status": "error", "error": { "message": message, "line": 0 }, "warnings": warnings })
        }
        Err(error) => {
            let line = error.lines.first().map_or(0, |lines| lines.start);
            json!({
                "status": "error",
                "error": { "message": error.to_string(), "line": line },
                "warnings": warnings,
            })
        }
    };
    fs::write(dir.join("result.json"), result.to_string())?;
    Ok(())
}

fn warning(warning: &Warning) -> Value {
    let lines: Vec<u32> = warning.lines.iter().flat_map(|range| range.start..=range.end).collect();
    json!({
        "rule": warning.rule,
        "line": lines.first().copied().unwrap_or(0),
        "lines": lines,
        "message": warning.message,
        "description": warning.description,
        "url": warning.url,
    })
}
