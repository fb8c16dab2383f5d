//! One pattern, compiled.

use super::regexp;
use regex::Regex;

/// How a pattern is matched; most need no regular expression.
#[derive(Clone, Debug)]
pub(super) enum Glob {
    /// Equal texts.
    Exact(String),
    /// `dir/**`: what starts with the text.
    Prefix(String),
    /// `**text` or `**/text`: what ends with the text; with a slash in front, also the rest of it alone.
    Suffix(String),
    /// Anything else.
    Regex(Regex),
}

impl Glob {
    /// Compiles a cleaned pattern; none if its syntax is wrong.
    pub(super) fn new(pattern: &str) -> Option<Self> {
        if !is_valid(pattern) {
            return None;
        }
        let mut kind = Kind::Exact;
        let mut out = String::from("^");
        let mut chars = pattern.strip_prefix('\u{feff}').unwrap_or(pattern).chars().peekable();
        let mut first = true;
        while let Some(c) = chars.next() {
            match c {
                '*' if chars.next_if_eq(&'*').is_some() => {
                    chars.next_if_eq(&'/');
                    if chars.peek().is_some() {
                        out.push_str("(.*/)?");
                        kind = Kind::Regex;
                    } else if matches!(kind, Kind::Exact) {
                        kind = Kind::Prefix;
                    } else {
                        out.push_str(".*");
                        kind = Kind::Regex;
                    }
                    if first {
                        kind = Kind::Suffix;
                    }
                }
                '*' => {
                    out.push_str("[^/]*");
                    kind = Kind::Regex;
                }
                '?' => {
                    out.push_str("[^/]");
                    kind = Kind::Regex;
                }
                '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => {
                    out.push('\\');
                    out.push(c);
                }
                '\\' => {
                    out.push('\\');
                    if let Some(escaped) = chars.next() {
                        out.push(escaped);
                        kind = Kind::Regex;
                    }
                }
                '[' | ']' => {
                    out.push(c);
                    kind = Kind::Regex;
                }
                c => out.push(c),
            }
            first = false;
        }
        Some(match kind {
            Kind::Exact => Glob::Exact(pattern.to_owned()),
            Kind::Prefix => Glob::Prefix(pattern.strip_suffix("**")?.to_owned()),
            Kind::Suffix => Glob::Suffix(pattern.strip_prefix("**")?.to_owned()),
            Kind::Regex => {
                out.push('$');
                Glob::Regex(regexp::compile(&out)?)
            }
        })
    }

    pub(super) fn is_match(&self, path: &str) -> bool {
        match self {
            Glob::Exact(text) => path == text,
            Glob::Prefix(text) => path.starts_with(text.as_str()),
            Glob::Suffix(text) => {
                path.ends_with(text.as_str()) || text.strip_prefix('/').is_some_and(|rest| path == rest)
            }
            Glob::Regex(regex) => regex.is_match(path),
        }
    }

    /// Whether something below a directory could match; `pattern` is this one's text.
    pub(super) fn may_match_below(&self, pattern: &str, dir: &str) -> bool {
        // Up to the first character with a meaning the text is literal, and what matches starts with it.
        let literal =
            pattern.find(['*', '?', '[', ']', '\\', '^']).map_or(pattern, |at| pattern.split_at(at).0);
        let complete = literal.len() == pattern.len();
        let mut below = dir.trim_end_matches('/').to_owned();
        below.push('/');
        if complete {
            literal.starts_with(&below)
        } else {
            literal.starts_with(&below) || below.starts_with(literal)
        }
    }
}

enum Kind {
    Exact,
    Prefix,
    Suffix,
    Regex,
}

/// Whether Go's `filepath.Match` takes the pattern: brackets closed and with something in them, nothing escaped at the
/// end.
fn is_valid(pattern: &str) -> bool {
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.next().is_none() => return false,
            '[' => {
                chars.next_if_eq(&'^');
                let mut filled = false;
                while !filled || chars.next_if_eq(&']').is_none() {
                    let dash = |chars: &mut std::iter::Peekable<_>| chars.next_if_eq(&'-').is_some();
                    if !bracket_char(&mut chars) || dash(&mut chars) && !bracket_char(&mut chars) {
                        return false;
                    }
                    filled = true;
                }
            }
            _ => {}
        }
    }
    true
}

/// Takes one character of a set, which something must follow.
fn bracket_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> bool {
    let taken = match chars.next() {
        None | Some('-' | ']') => false,
        Some('\\') => chars.next().is_some(),
        Some(_) => true,
    };
    taken && chars.peek().is_some()
}
