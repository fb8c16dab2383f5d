//! `cooper debug`: looking at what the frontend makes of Dockerfiles.

mod stub;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use cooper_frontend::{Checked, Outcome, Warning};
use serde_json::{Value, json};

use stub::Case;

/// Converts every case of a conformance corpus and writes what came out, one directory a case.
///
/// `cases` is its list (JSON lines), `root` the directory with the Dockerfiles. Written are `llb.pb`, `image.json`,
/// `base_image.json` and `result.json` below `out`, as the corpus's own tool for comparing expects them.
pub(crate) fn conformance(cases: &Path, root: &Path, out: &Path) -> Result<()> {
    let list = fs::read_to_string(cases).with_context(|| format!("cannot read {}", cases.display()))?;
    for (number, line) in list.lines().enumerate() {
        let case =
            Case::parse(line).with_context(|| format!("{}:{}: not a case", cases.display(), number + 1))?;
        let text = fs::read(root.join(&case.file)).with_context(|| format!("cannot read {}", case.file))?;
        let checked = case.convert(&text);
        let dir = out.join(&case.id);
        write_case(&dir, checked).with_context(|| format!("cannot write {}", dir.display()))?;
    }
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
