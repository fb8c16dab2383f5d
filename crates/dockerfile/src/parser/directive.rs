//! Parser directives: `# name=value` lines at the very top.

use super::source::{bom_len, leading_space, trimmed_len};
use crate::error::Problem;
use crate::node::Directive;
use crate::position::Span;

const NAMES: [&str; 3] = ["syntax", "escape", "check"];

/// Reads directives until the first line that is none.
#[derive(Default)]
pub(super) struct DirectiveParser {
    seen: Vec<&'static str>,
    done: bool,
}

impl DirectiveParser {
    /// From now on nothing is a directive.
    pub(super) fn end(&mut self) {
        self.done = true;
    }

    /// The directive that a line is, if it is one.
    ///
    /// # Errors
    /// A directive that was there before.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<Option<(&'static str, Vec<u8>)>, Problem> {
        self.line_after(line, b"#")
    }

    fn line_after(&mut self, line: &[u8], mark: &[u8]) -> Result<Option<(&'static str, Vec<u8>)>, Problem> {
        if self.done {
            return Ok(None);
        }
        let Some((name, value)) = line.strip_prefix(mark).and_then(split) else {
            self.done = true;
            return Ok(None);
        };
        if self.seen.contains(&name) {
            return Err(Problem::RepeatedDirective(name));
        }
        self.seen.push(name);
        Ok(Some((name, value.to_vec())))
    }
}

/// Splits `name = value`, for a name that is known.
fn split(text: &[u8]) -> Option<(&'static str, &[u8])> {
    let text = text.get(leading_space(text)..)?;
    let len = text.iter().position(|b| !b.is_ascii_alphanumeric())?;
    let (name, rest) = text.split_at(len);
    let rest = trim_start(rest).strip_prefix(b"=")?;
    let name = NAMES.into_iter().find(|n| n.as_bytes().eq_ignore_ascii_case(name))?;
    let value = trim_end(trim_start(rest));
    if !value.is_empty() {
        return (!value.contains(&b'\n')).then_some((name, value));
    }
    // There must be a value, so if there are but blanks the last of them is it.
    let last = rest.len().checked_sub(1)?;
    Some((name, rest.get(last..)?))
}

/// White space as regular expressions know it, which is less than Unicode's.
fn is_blank(byte: &u8) -> bool {
    matches!(byte, b'\t' | b'\n' | 0xc | b'\r' | b' ')
}

fn trim_start(text: &[u8]) -> &[u8] {
    let len = text.iter().take_while(|b| is_blank(b)).count();
    text.get(len..).unwrap_or_default()
}

fn trim_end(text: &[u8]) -> &[u8] {
    let len = text.iter().rposition(|b| !is_blank(b)).map_or(0, |at| at + 1);
    text.get(..len).unwrap_or_default()
}

/// Finds one directive (`syntax`, `escape` or `check`) without parsing the rest; a `#!` line may stand before.
///
/// BuildKit reads `check` and `syntax` this way. Unlike [`parse`](crate::parse) it takes no indented directives, and a
/// repeated one just ends the search.
pub fn parse_directive(source: &[u8], name: &str) -> Option<Directive> {
    find(source, name, b"#")
}

/// Finds the frontend that a Dockerfile asks for: `# syntax=`, `// syntax=` or a JSON object with `syntax`.
///
/// The first word of the value is the image's reference. The line is 0 for the JSON form.
pub fn detect_syntax(source: &[u8]) -> Option<Directive> {
    let name = "syntax";
    if let Some(found) = find(source, name, b"#").or_else(|| find(source, name, b"//")) {
        return Some(found);
    }
    let (offset, line) = after_shebang(source);
    let text = source.get(offset..)?;
    let json: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(text).ok()?;
    let value = json.get(name)?.as_str()?.to_owned();
    Some(Directive { name, value, line, span: Span::new(offset, offset + trimmed_len(text)) })
}

/// Where the text starts after a byte order mark and a `#!` line, and how many lines that took.
fn after_shebang(source: &[u8]) -> (usize, u32) {
    let start = bom_len(source);
    let text = source.get(start..).unwrap_or_default();
    if !text.starts_with(b"#!") {
        return (start, 0);
    }
    let len = text.iter().position(|b| *b == b'\n').map_or(text.len(), |at| at + 1);
    (start + len, 1)
}

fn find(source: &[u8], name: &str, mark: &[u8]) -> Option<Directive> {
    let (mut at, mut number) = after_shebang(source);
    let mut parser = DirectiveParser::default();
    for line in source.get(at..)?.split_inclusive(|b| *b == b'\n') {
        number += 1;
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let found = parser.line_after(text, mark).ok()??;
        if found.0 == name {
            let value = String::from_utf8_lossy(&found.1).into_owned();
            return Some(Directive {
                name: found.0,
                value,
                line: number,
                span: Span::new(at, at + text.len()),
            });
        }
        at += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let value = |line: &str| {
            DirectiveParser::default()
                .line(line.as_bytes())
                .ok()?
                .map(|(n, v)| format!("{n}={}", String::from_utf8_lossy(&v)))
        };
        for (line, want) in [
            ("#escape=`", Some("escape=`")),
            ("#  Escape \t=  `  ", Some("escape=`")),
            ("# syntax=a b ", Some("syntax=a b")),
            ("# check=skip=all;error=true", Some("check=skip=all;error=true")),
            ("#escape=", None),
            ("#escape=  ", Some("escape= ")),
            ("#escape", None),
            ("#other=1", None),
            ("##escape=`", None),
            ("# 1escape=`", None),
            ("escape=`", None),
            ("#\u{a0}escape=`", Some("escape=`")),
            ("#escape\u{b}=`", None),
        ] {
            assert_eq!(value(line).as_deref(), want, "{line:?}");
        }
    }

    #[test]
    fn one_alone() {
        let line = |text: &str, name| parse_directive(text.as_bytes(), name).map(|d| (d.line, d.value));
        assert_eq!(line("#!/bin/sh\n#check=skip=all\r\nFROM a\n", "check"), Some((2, "skip=all".to_owned())));
        assert_eq!(line("#syntax=x\n#check=y", "check"), Some((2, "y".to_owned())));
        assert_eq!(line("\n#check=y", "check"), None);
        assert_eq!(line(" #check=y", "check"), None);
        assert_eq!(line("#syntax=x\n#syntax=z\n#check=y", "check"), None);
    }

    #[test]
    fn syntax() {
        let line = |text: &str| detect_syntax(text.as_bytes()).map(|d| (d.line, d.value));
        assert_eq!(line("\u{feff}# syntax = a/b:1 --x\n"), Some((1, "a/b:1 --x".to_owned())));
        assert_eq!(line("#!x\n// syntax=a\n"), Some((2, "a".to_owned())));
        assert_eq!(line("{\"syntax\": \"a\"}\n"), Some((0, "a".to_owned())));
        assert_eq!(line("{\"syntax\": 1}\n"), None);
        assert_eq!(line("FROM a\n# syntax=b"), None);
    }
}
