//! Patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*`, `?` and escapes.

use super::WordProblem;
use regex::Regex;

/// Removes the shortest, or with `greedy` the longest, match at the start.
pub(super) fn trim_prefix(pattern: &str, value: String, greedy: bool) -> Result<String, WordProblem> {
    let regex = compile(pattern, greedy, true)?;
    Ok(match regex.find(&value) {
        Some(found) => value.get(found.end()..).unwrap_or_default().to_owned(),
        None => value,
    })
}

/// Removes the shortest, or with `greedy` the longest, match at the end.
pub(super) fn trim_suffix(pattern: &str, value: &str, greedy: bool) -> Result<String, WordProblem> {
    // A leftmost search cannot find the shortest match that reaches the end, so both are turned round.
    let reversed: String = value.chars().rev().collect();
    let rest = trim_prefix(&reverse_pattern(pattern), reversed, greedy)?;
    Ok(rest.chars().rev().collect())
}

/// Replaces the first, or every, longest match.
pub(super) fn replace(
    pattern: &str,
    value: &str,
    replacement: &str,
    all: bool,
) -> Result<String, WordProblem> {
    let regex = compile(pattern, true, false)?;
    let mut out = String::with_capacity(value.len());
    let mut at = 0;
    for found in regex.find_iter(value).take(if all { usize::MAX } else { 1 }) {
        out.push_str(value.get(at..found.start()).unwrap_or_default());
        if all {
            push_template(&mut out, replacement, found.as_str());
        } else {
            out.push_str(replacement);
        }
        at = found.end();
        if out.len() > super::MAX_RESULT {
            return Err(WordProblem::TooLarge);
        }
    }
    out.push_str(value.get(at..).unwrap_or_default());
    Ok(out)
}

/// Writes a replacement, in which BuildKit lets `$0` be the match, `$$` a dollar, and any other `$name` nothing,
/// where all matches are replaced (and only there).
fn push_template(out: &mut String, template: &str, whole: &str) {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let is_name = |c: char| c == '_' || c.is_alphanumeric();
        let (name, tail) = match after.strip_prefix('{') {
            Some(braced) => {
                let len = braced.find(|c| !is_name(c)).unwrap_or(braced.len());
                let (name, tail) = braced.split_at(len);
                (name, tail.strip_prefix('}'))
            }
            None => {
                let (name, tail) = after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len()));
                (name, Some(tail))
            }
        };
        match tail {
            Some(tail) if !name.is_empty() => {
                if name == "0" {
                    out.push_str(whole);
                }
                rest = tail;
            }
            // Not a reference at all.
            _ => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
}

/// Turns a pattern into a regular expression.
fn compile(pattern: &str, greedy: bool, anchored: bool) -> Result<Regex, WordProblem> {
    let fail = |reason: String| WordProblem::Pattern { pattern: pattern.to_owned(), reason };
    let mut out = String::with_capacity(pattern.len() + 4);
    if anchored {
        out.push('^');
    }
    let mut chars = pattern.strip_prefix('\u{feff}').unwrap_or(pattern).chars();
    while let Some(c) = chars.next() {
        match c {
            '*' => out.push_str(if greedy { ".*" } else { ".*?" }),
            '?' => out.push('.'),
            '\\' => match chars.clone().next() {
                // These need the escape to stand in `${}`; it is no part of the pattern.
                Some('}' | '/') => {}
                Some(escaped @ ('*' | '?' | '\\')) => {
                    chars.next();
                    out.push('\\');
                    out.push(escaped);
                }
                other => {
                    let shown = other.unwrap_or(char::REPLACEMENT_CHARACTER);
                    return Err(fail(format!("invalid escape '\\{shown}'")));
                }
            },
            c => {
                let mut buffer = [0; 4];
                out.push_str(&regex::escape(c.encode_utf8(&mut buffer)));
            }
        }
    }
    Regex::new(&out).map_err(|e| fail(e.to_string()))
}

/// Turns a pattern round, escapes staying before what they escape.
fn reverse_pattern(pattern: &str) -> String {
    let mut items: Vec<(char, Option<char>)> = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.next() } else { None };
        items.push((c, escaped));
    }
    items.iter().rev().flat_map(|(c, escaped)| [Some(*c), *escaped]).flatten().collect()
}
