//! Answers for people.

use std::fmt::Write as _;

use cooper_frontend::{LineRange, Lint, Outline, OutlineMount, SourceText, Target, Warning};

use super::{Answer, METHODS};

/// Writes an answer.
pub(super) fn answer(answer: &Answer, source: &SourceText) -> String {
    match answer {
        Answer::Check(lint) => check(lint, source),
        Answer::Outline(outline) => self::outline(outline),
        Answer::Targets(targets) => self::targets(targets),
    }
}

/// Writes the methods that there are.
pub(super) fn describe() -> String {
    let mut rows = vec![["NAME", "VERSION", "DESCRIPTION"].map(str::to_owned)];
    rows.extend(METHODS.map(|(name, version, text)| [name, version, text].map(str::to_owned)));
    table(&rows, 1)
}

fn check(lint: &Lint, source: &SourceText) -> String {
    let mut out = String::new();
    match lint.warnings.len() {
        0 if lint.error.is_none() => out.push_str("Check complete, no warnings found.\n"),
        0 => {}
        1 => out.push_str("Check complete, 1 warning has been found!\n"),
        count => {
            let _ = writeln!(out, "Check complete, {count} warnings have been found!");
        }
    }
    let mut warnings: Vec<&Warning> = lint.warnings.iter().collect();
    warnings.sort_by_key(|warning| warning.lines.first().map_or(0, |lines| lines.start));
    for warning in warnings {
        let _ = write!(out, "\nWARNING: {}", warning.rule);
        if !warning.url.is_empty() {
            let _ = write!(out, " - {}", warning.url);
        }
        let _ = writeln!(out, "\n{}", warning.message);
        excerpt(source, &warning.lines, &mut out);
    }
    out
}

/// Writes lines of a text with what stands around them, as BuildKit draws it.
fn excerpt(source: &SourceText, ranges: &[LineRange], out: &mut String) {
    let text = String::from_utf8_lossy(&source.text);
    let lines: Vec<&str> = text.split('\n').collect();
    let last = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    let (Some(first), Some(end)) = (
        ranges.iter().map(|range| range.start).min(),
        ranges.iter().map(|range| range.end.max(range.start)).max(),
    ) else {
        return;
    };
    if first < 1 || first > last {
        return;
    }
    let (mut from, mut to) = (first, end.min(last));
    // One line alone is shown with more around it than several.
    let most = if from == to { 4 } else { 2 };
    let mut around = 0;
    while around < most {
        if from > 1 {
            from -= 1;
            around += 1;
        }
        if to != last {
            to += 1;
            around += 1;
        }
        around += 1;
    }
    let _ = write!(out, "{}:{first}\n--------------------\n", source.name);
    for (number, line) in (1_u32..).zip(lines) {
        if (from..=to).contains(&number) {
            let here =
                ranges.iter().any(|range| (range.start..=range.end.max(range.start)).contains(&number));
            let _ = writeln!(out, " {number:3} | {} {line}", if here { ">>>" } else { "   " });
        }
    }
    out.push_str("--------------------\n");
}

fn outline(outline: &Outline) -> String {
    let mut out = String::new();
    if !outline.name.is_empty() || !outline.description.is_empty() {
        let name = if outline.name.is_empty() { "(default)" } else { &outline.name };
        let mut rows = vec![["TARGET:".to_owned(), name.to_owned()]];
        if !outline.description.is_empty() {
            rows.push(["DESCRIPTION:".to_owned(), outline.description.clone()]);
        }
        out.push_str(&table(&rows, 1));
        out.push('\n');
    }
    if !outline.args.is_empty() {
        let mut rows = vec![["BUILD ARG", "VALUE", "DESCRIPTION"].map(str::to_owned)];
        rows.extend(
            outline.args.iter().map(|arg| [arg.name.clone(), arg.value.clone(), arg.description.clone()]),
        );
        out.push_str(&table(&rows, 3));
        out.push('\n');
    }
    for (title, mounts) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !mounts.is_empty() {
            let mut rows = vec![[title, "REQUIRED"].map(str::to_owned)];
            let required = |mount: &OutlineMount| if mount.required { "true" } else { "" }.to_owned();
            rows.extend(mounts.iter().map(|mount| [mount.name.clone(), required(mount)]));
            out.push_str(&table(&rows, 3));
            out.push('\n');
        }
    }
    out
}

fn targets(targets: &[Target]) -> String {
    let mut rows = vec![["TARGET", "DESCRIPTION"].map(str::to_owned)];
    for target in targets {
        let name = match (target.name.as_str(), target.default) {
            ("", true) => "(default)".to_owned(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        rows.push([name, target.description.clone()]);
    }
    table(&rows, 1)
}

/// Writes rows in columns with `gap` blanks between them; the last column is not filled up.
fn table<const N: usize>(rows: &[[String; N]], gap: usize) -> String {
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or_default() + gap).collect();
    let mut out = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths).take(N.saturating_sub(1)) {
            let _ = write!(out, "{cell:width$}");
        }
        out.push_str(row.last().map_or("", String::as_str));
        out.push('\n');
    }
    out
}
