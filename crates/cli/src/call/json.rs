//! Answers for scripts: the JSON of BuildKit's subrequests, indented as buildx prints it.
//!
//! The `definition` of a source is left out: it names a local source of a session that has ended.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cooper_frontend::{LineRange, Lint, Outline, OutlineArg, OutlineMount, SourceText, Target};
use serde_json::{Map, Value, json};

use super::{Answer, METHODS};

/// Writes an answer.
pub(super) fn answer(answer: &Answer, source: &SourceText) -> String {
    indented(match answer {
        Answer::Check(lint) => check(lint, source),
        Answer::Outline(outline) => self::outline(outline, source),
        Answer::Targets(targets) => self::targets(targets, source),
    })
}

/// Writes the methods that there are.
pub(super) fn describe() -> String {
    let method = |(name, version, text): (&str, &str, &str)| json!({ "name": format!("frontend.{name}"), "version": version, "type": "rpc", "description": text });
    indented(METHODS.into_iter().map(method).collect())
}

/// Indents by two blanks and escapes what Go escapes; these characters stand in texts only.
fn indented(value: Value) -> String {
    let mut text = format!("{value:#}\n");
    for c in ['<', '>', '&', '\u{2028}', '\u{2029}'] {
        if text.contains(c) {
            text = text.replace(c, &format!("\\u{:04x}", u32::from(c)));
        }
    }
    text
}

/// An object of the entries that have something in them, as Go leaves empty ones out.
fn object<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let filled = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    };
    let entries = entries.into_iter().filter(|(_, value)| filled(value));
    Value::Object(entries.map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>())
}

fn location(lines: &[LineRange]) -> Value {
    let range = |lines: &LineRange| json!({ "start": { "line": lines.start }, "end": { "line": lines.end } });
    object([("ranges", lines.iter().map(range).collect())])
}

fn check(lint: &Lint, source: &SourceText) -> Value {
    let warnings = lint.warnings.iter().map(|warning| {
        object([
            ("ruleName", warning.rule.into()),
            ("description", warning.description.into()),
            ("url", warning.url.into()),
            ("detail", warning.message.clone().into()),
            ("location", location(&warning.lines)),
        ])
    });
    // Go's empty list is `null` where nothing was ever put into it.
    let warnings = if lint.warnings.is_empty() { Value::Null } else { warnings.collect() };
    let source = object([
        ("filename", source.name.clone().into()),
        ("data", STANDARD.encode(&source.text).into()),
        ("language", "Dockerfile".into()),
    ]);
    let mut all = json!({ "warnings": warnings, "sources": [source] });
    if let Some(error) = &lint.error {
        all["buildError"] =
            json!({ "message": error.to_string(), "location": location(&error.merged_lines()) });
    }
    all
}

fn outline(outline: &Outline, source: &SourceText) -> Value {
    let arg = |arg: &OutlineArg| {
        object([
            ("name", arg.name.clone().into()),
            ("description", arg.description.clone().into()),
            ("value", arg.value.clone().into()),
            ("location", location(&[arg.lines])),
        ])
    };
    let mount = |mount: &OutlineMount| {
        object([
            ("name", mount.name.clone().into()),
            ("required", mount.required.into()),
            ("location", location(&[mount.lines])),
        ])
    };
    object([
        ("name", outline.name.clone().into()),
        ("description", outline.description.clone().into()),
        ("args", outline.args.iter().map(arg).collect()),
        ("secrets", outline.secrets.iter().map(mount).collect()),
        ("ssh", outline.ssh.iter().map(mount).collect()),
        ("sources", json!([STANDARD.encode(&source.text)])),
    ])
}

fn targets(targets: &[Target], source: &SourceText) -> Value {
    let target = |target: &Target| {
        object([
            ("name", target.name.clone().into()),
            ("default", target.default.into()),
            ("description", target.description.clone().into()),
            ("base", target.base.clone().into()),
            ("platform", target.platform.clone().into()),
            ("location", location(&[target.lines])),
        ])
    };
    let list: Value = targets.iter().map(target).collect();
    json!({ "targets": list, "sources": [STANDARD.encode(&source.text)] })
}
