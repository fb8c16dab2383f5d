//! Regular expressions in Go's syntax, as far as patterns can contain it.

use regex::Regex;

/// Compiles an expression that [`Glob`](super::glob::Glob) made; none if Go would refuse it.
///
/// Outside of what was made on purpose, an expression can have escapes and sets of characters, and these do not mean
/// the same in both syntaxes.
pub(super) fn compile(expression: &str) -> Option<Regex> {
    let mut out = String::with_capacity(expression.len() + 8);
    let mut rest = expression;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        match c {
            '\\' => rest = escape(after, &mut out, false)?,
            '[' => rest = set(after, &mut out)?,
            // A lone bracket is itself.
            ']' => {
                out.push_str(r"\]");
                rest = after;
            }
            c => {
                out.push(c);
                rest = after;
            }
        }
    }
    Regex::new(&out).ok()
}

/// Writes an escape; gives what follows it.
fn escape<'a>(text: &'a str, out: &mut String, in_set: bool) -> Option<&'a str> {
    let c = text.chars().next()?;
    let after = text.get(c.len_utf8()..).unwrap_or_default();
    match c {
        'd' => out.push_str(if in_set { "0-9" } else { "[0-9]" }),
        'w' => out.push_str(if in_set { "0-9A-Za-z_" } else { "[0-9A-Za-z_]" }),
        's' => out.push_str(if in_set { r"\t\n\f\r\x20" } else { r"[\t\n\f\r\x20]" }),
        'D' => out.push_str("[^0-9]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        'S' => out.push_str(r"[^\t\n\f\r\x20]"),
        'b' if !in_set => out.push_str(r"(?-u:\b)"),
        'A' | 'z' if !in_set => {
            out.push('\\');
            out.push(c);
        }
        'a' | 'f' | 't' | 'n' | 'r' | 'v' => {
            out.push('\\');
            out.push(c);
        }
        // Octal and hexadecimal numbers, Unicode classes, `\Q` and the rest: Go takes some of them, but no file name
        // was ever meant by one. Refusing is better than matching something else.
        c if c.is_ascii_alphanumeric() => return None,
        c => literal(c, out),
    }
    Some(after)
}

/// Writes a set; gives what follows its bracket.
fn set<'a>(text: &'a str, out: &mut String) -> Option<&'a str> {
    out.push('[');
    let mut rest = text;
    if let Some(after) = rest.strip_prefix('^') {
        out.push('^');
        rest = after;
    }
    let mut first = true;
    loop {
        if !first && let Some(after) = rest.strip_prefix(']') {
            out.push(']');
            return Some(after);
        }
        first = false;
        if let Some((class, after)) = rest.strip_prefix("[:").and_then(|r| r.split_once(":]")) {
            let name = class.strip_prefix('^').unwrap_or(class);
            let known = [
                "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
                "space", "upper", "word", "xdigit",
            ];
            if !known.contains(&name) {
                return None;
            }
            out.push_str(&format!("[:{class}:]"));
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix('\\') {
            rest = escape(after, out, true)?;
            if after.starts_with(['d', 'w', 's', 'D', 'W', 'S']) {
                // A class begins no range.
                continue;
            }
        } else {
            let c = rest.chars().next()?;
            literal(c, out);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
        // A minus before the last bracket stands for itself.
        if let Some(after) = rest.strip_prefix('-')
            && !after.starts_with(']')
        {
            out.push('-');
            rest = match after.strip_prefix('\\') {
                Some(after) => escape(after, out, true)?,
                None => {
                    let c = after.chars().next()?;
                    literal(c, out);
                    after.get(c.len_utf8()..).unwrap_or_default()
                }
            };
        }
    }
}

fn literal(c: char, out: &mut String) {
    out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
}
