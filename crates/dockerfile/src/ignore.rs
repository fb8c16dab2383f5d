//! Patterns of `.dockerignore` and of `--exclude`, as moby's matcher reads them.
//!
//! [`parse`] turns the text of an ignore file into patterns, [`Matcher`] matches slash-separated paths against them.
//! A path matches if the last pattern that matches it *or one of its parent directories* is no exception (`!`).
//!
//! | Pattern | Matches |
//! |---|---|
//! | `*` | any characters but `/` |
//! | `?` | one character but `/` |
//! | `[a-z]`, `[^a-z]` | one character of, or not of, a set |
//! | `**` | any number of directories, also none; at the end everything below |
//! | `\c` | `c` alone, as long as `c` is no letter or digit |
//!
//! Where the rules are odd (a letter after a backslash is a class of characters, `*` inside brackets is no member of
//! the set), they are so in moby too; a build must send the same files.

mod glob;
mod path;
mod regexp;

use glob::Glob;
use path::{clean, parents};

/// Turns the text of an ignore file into patterns: comments, blank lines and leading slashes dropped.
///
/// ```
/// let text = b"# build output\n/target/\n!target/keep\n";
/// assert_eq!(cooper_dockerfile::ignore::parse(text), ["target", "!target/keep"]);
/// ```
pub fn parse(text: &[u8]) -> Vec<String> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let lines = text.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.filter_map(|line| parse_line(&String::from_utf8_lossy(line))).collect()
}

fn parse_line(line: &str) -> Option<String> {
    // A comment must start in the first column.
    let pattern = line.trim();
    if line.starts_with('#') || pattern.is_empty() {
        return None;
    }
    let (mark, pattern) = match pattern.strip_prefix('!') {
        Some(rest) => ("!", rest.trim()),
        None => ("", pattern),
    };
    if pattern.is_empty() {
        return Some(mark.to_owned());
    }
    let cleaned = clean(pattern);
    let relative = cleaned.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&cleaned);
    Some(format!("{mark}{relative}"))
}

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A lone exclamation mark.
    #[error("illegal exclusion pattern: \"!\"")]
    EmptyException,
    /// Unbalanced brackets, a backslash at the end, or an escape that means nothing.
    #[error("syntax error in pattern")]
    Syntax {
        /// The pattern.
        pattern: String,
    },
}

/// Patterns ready for matching.
///
/// ```
/// use cooper_dockerfile::ignore::Matcher;
/// let matcher = Matcher::new(["**/*.log", "docs", "!docs/api"])?;
/// assert!(matcher.matches("a/b.log"));
/// assert!(matcher.matches("docs/guide/one.md"));
/// assert!(!matcher.matches("docs/api/two.md"));
/// # Ok::<(), cooper_dockerfile::ignore::PatternError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    patterns: Vec<Pattern>,
}

/// One pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    exception: bool,
    glob: Glob,
}

impl Pattern {
    /// The pattern without its exclamation mark.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it takes out of the set what patterns before it put in (`!`).
    pub fn is_exception(&self) -> bool {
        self.exception
    }
}

/// Which patterns a directory matches, itself or by a parent: what its entries need to know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParentMatch {
    /// One for each pattern; empty for "nothing is known of the parents".
    matched: Vec<bool>,
}

impl Matcher {
    /// Compiles patterns; blank ones are left out.
    ///
    /// # Errors
    /// The first pattern that cannot be used. (moby finds some of these only when it matches a path.)
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, PatternError> {
        let mut out = Vec::new();
        for pattern in patterns {
            let trimmed = pattern.as_ref().trim();
            if trimmed.is_empty() {
                continue;
            }
            // Cleaned before the mark is looked at: `!a/../b` is no exception, here and there.
            let cleaned = clean(trimmed);
            let (exception, text) = match cleaned.strip_prefix('!') {
                Some("") => return Err(PatternError::EmptyException),
                Some(rest) => (true, rest),
                None => (false, cleaned.as_str()),
            };
            let glob = Glob::new(text)
                .ok_or_else(|| PatternError::Syntax { pattern: pattern.as_ref().to_owned() })?;
            out.push(Pattern { text: text.to_owned(), exception, glob });
        }
        Ok(Matcher { patterns: out })
    }

    /// The patterns in order.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether there is an exception.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|p| p.exception)
    }

    /// Whether a path, slash-separated and relative, matches, itself or by one of its parents.
    pub fn matches(&self, path: &str) -> bool {
        self.matches_below(path, &ParentMatch::default()).0
    }

    /// As [`Matcher::matches`] for a walk: `parent` is what this gave for the directory above (the default at the
    /// top, or where a walk starts in the middle), so that parents are not matched again for each entry.
    ///
    /// With exceptions the answer can differ from that of [`Matcher::matches`]: a pattern that could not change the
    /// answer for the directory counts as a miss for what is below. In `a`, `!a/b`, `a` the last line does nothing for
    /// `a/b` here. moby has both forms with this difference, and BuildKit sends contexts by this one.
    pub fn matches_below(&self, path: &str, parent: &ParentMatch) -> (bool, ParentMatch) {
        let known = parent.matched.len() == self.patterns.len();
        let mut matched = false;
        let mut own = Vec::with_capacity(self.patterns.len());
        for (index, pattern) in self.patterns.iter().enumerate() {
            let by_parent = known && parent.matched.get(index) == Some(&true);
            let hit = by_parent
                // A pattern that could not change the answer is not asked.
                || pattern.exception == matched
                    && (pattern.glob.is_match(path)
                        || !known && parents(path).any(|dir| pattern.glob.is_match(dir)));
            own.push(hit);
            if hit {
                matched = !pattern.exception;
            }
        }
        (matched, ParentMatch { matched: own })
    }

    /// Whether an exception could match something below a directory. If not, and the directory matches, a walk need
    /// not enter it.
    ///
    /// Cautious: it may say yes where nothing is found, never no where something would be.
    pub fn may_except_below(&self, dir: &str) -> bool {
        self.patterns.iter().any(|p| p.exception && p.glob.may_match_below(&p.text, dir))
    }
}

#[cfg(test)]
mod tests;
