use std::fmt;
use std::sync::Arc;

use cooper_dockerfile::Span;

/// Lines of a Dockerfile, counted from 1, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LineRange {
    /// First line.
    pub start: u32,
    /// Last line.
    pub end: u32,
}

/// A Dockerfile by name and content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceText {
    /// Name as it was asked for: `Dockerfile`, `docker/app.Dockerfile`.
    pub name: String,
    /// Its bytes.
    pub text: Vec<u8>,
}

/// Why a Dockerfile cannot be converted.
///
/// `Display` gives BuildKit's text, the hint included, so that tools which know that text keep working; file, lines and
/// hint are beside it for whoever draws the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What is wrong.
    pub message: String,
    /// A name that was probably meant.
    pub suggestion: Option<String>,
    /// Where it is wrong, the most telling place first; empty if the error is about the request and not about a line, and
    /// where BuildKit names no line.
    pub lines: Vec<LineRange>,
    /// The bytes at fault within the first of the lines, where they are known more precisely than by lines.
    pub span: Option<Box<Span>>,
    /// Where a person should look although BuildKit names no line.
    pub near: Option<LineRange>,
    /// The Dockerfile, if it could be read.
    pub source: Option<Arc<SourceText>>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(name) => write!(f, " (did you mean {name}?)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// All lines that BuildKit names, in order, ranges that touch the same lines as one.
    pub fn merged_lines(&self) -> Vec<LineRange> {
        let mut sorted = self.lines.clone();
        sorted.sort();
        let mut merged: Vec<LineRange> = Vec::new();
        for lines in sorted {
            match merged.last_mut() {
                Some(last) if lines.start <= last.end => last.end = last.end.max(lines.end),
                _ => merged.push(lines),
            }
        }
        merged
    }

    /// The lines to show: the first that BuildKit names, or where to look otherwise.
    pub fn place(&self) -> Option<LineRange> {
        self.lines.first().copied().or(self.near)
    }
}
