//! What the checks find, outlines and lists of targets, as a conformance corpus holds them.

use cooper_frontend::{Error, LineRange, Outline, OutlineArg, OutlineMount, Target, lint, outline, targets};
use serde_json::{Map, Value, json};

use super::stub::Case;
use super::warning;

/// Answers all three questions about a case. What cannot even be asked, since the options are wrong, is left out.
pub(super) fn answers(case: &Case, text: &[u8]) -> Value {
    let mut all = Map::new();
    if let Ok(found) = case.inspect(text, lint) {
        let mut warnings = found.warnings;
        warnings.sort_by_key(|warning| {
            let line = warning.lines.first().map_or(0, |lines| lines.start);
            (line, warning.rule, warning.message.clone())
        });
        let mut entry = Map::new();
        entry.insert("warnings".into(), warnings.iter().map(warning).collect());
        if let Some(error) = found.error {
            let lines: Vec<u32> = error.merged_lines().into_iter().flat_map(numbers).collect();
            entry.insert("error".into(), json!({ "message": error.to_string(), "lines": lines }));
        }
        all.insert("lint".into(), entry.into());
        all.insert(
            "outline".into(),
            match case.inspect(text, outline) {
                Ok(found) => described(found),
                Err(error) => failed(&error),
            },
        );
    }
    // Which stages there are does not depend on options, not even on wrong ones.
    all.insert(
        "targets".into(),
        match Case::default().inspect(text, targets) {
            Ok(found) => found.iter().map(target).collect(),
            Err(error) => failed(&error),
        },
    );
    all.into()
}

fn failed(error: &Error) -> Value {
    json!({ "error": error.to_string() })
}

fn numbers(lines: LineRange) -> impl Iterator<Item = u32> {
    lines.start..=lines.end
}

fn described(mut outline: Outline) -> Value {
    outline.args.sort_by(|a, b| (a.lines.start, &a.name).cmp(&(b.lines.start, &b.name)));
    json!({
        "name": outline.name,
        "description": outline.description,
        "args": outline.args.iter().map(argument).collect::<Vec<_>>(),
        "secrets": mounts(outline.secrets),
        "ssh": mounts(outline.ssh),
    })
}

fn argument(arg: &OutlineArg) -> Value {
    let mut entry = Map::new();
    entry.insert("name".into(), arg.name.clone().into());
    for (key, text) in [("value", &arg.value), ("description", &arg.description)] {
        if !text.is_empty() {
            entry.insert(key.into(), text.clone().into());
        }
    }
    entry.insert("line".into(), arg.lines.start.into());
    entry.into()
}

fn mounts(mut mounts: Vec<OutlineMount>) -> Value {
    mounts.sort_by(|a, b| (a.lines.start, &a.name).cmp(&(b.lines.start, &b.name)));
    let mount = |mount: &OutlineMount| {
        let mut entry = Map::new();
        entry.insert("name".into(), mount.name.clone().into());
        if mount.required {
            entry.insert("required".into(), true.into());
        }
        entry.insert("line".into(), mount.lines.start.into());
        Value::Object(entry)
    };
    mounts.iter().map(mount).collect()
}

fn target(target: &Target) -> Value {
    json!({
        "name": target.name,
        "description": target.description,
        "default": target.default,
        "base": target.base,
        "platform": target.platform,
        "line": target.lines.start,
    })
}
