//! Physical lines.

use crate::position::Span;

/// Most bytes of a line with its break; BuildKit's line reader stops at a longer one.
pub(super) const MAX_LINE: usize = 64 * 1024;

/// Reads lines one by one.
pub(super) struct Source<'a> {
    all: &'a [u8],
    at: usize,
    number: u32,
    too_long: bool,
}

/// A line, or the part of it that is left.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    /// Its bytes.
    pub(super) text: &'a [u8],
    /// Where they start.
    pub(super) start: usize,
    /// Its number, from 1.
    pub(super) number: u32,
}

impl<'a> Source<'a> {
    pub(super) fn new(all: &'a [u8]) -> Self {
        Source { all, at: 0, number: 0, too_long: false }
    }

    /// The whole text.
    pub(super) fn all(&self) -> &'a [u8] {
        self.all
    }

    /// The next line with its break; none at the end or where a line is too long.
    pub(super) fn next_line(&mut self) -> Option<Line<'a>> {
        let rest = self.all.get(self.at..).unwrap_or_default();
        if rest.is_empty() || self.too_long {
            return None;
        }
        let window = rest.get(..MAX_LINE).unwrap_or(rest);
        let len = match window.iter().position(|b| *b == b'\n') {
            Some(at) => at + 1,
            // A last line without a break fills the reader's buffer one byte earlier.
            None if rest.len() < MAX_LINE => rest.len(),
            None => {
                self.too_long = true;
                return None;
            }
        };
        self.number = self.number.saturating_add(1);
        let line = Line { text: rest.get(..len).unwrap_or_default(), start: self.at, number: self.number };
        self.at += len;
        Some(line)
    }

    /// Number of the line read last; 0 before the first.
    pub(super) fn line_number(&self) -> u32 {
        self.number
    }

    /// Offset of the next line.
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    /// Whether reading ended at a line that is too long.
    pub(super) fn too_long(&self) -> bool {
        self.too_long
    }

    /// What has not been read.
    pub(super) fn unread(&self) -> Span {
        Span::new(self.at, self.all.len())
    }
}

impl Line<'_> {
    pub(super) fn span(&self) -> Span {
        Span::new(self.start, self.start + self.text.len())
    }

    /// Without the first bytes.
    pub(super) fn skip(self, len: usize) -> Self {
        Line { text: self.text.get(len..).unwrap_or_default(), start: self.start + len, ..self }
    }

    /// Without its break, and without carriage returns before that.
    pub(super) fn without_break(self) -> Self {
        let len = self.text.iter().rposition(|b| !matches!(b, b'\r' | b'\n')).map_or(0, |at| at + 1);
        Line { text: self.text.get(..len).unwrap_or_default(), ..self }
    }
}

/// Length of a byte order mark at the start.
pub(super) fn bom_len(text: &[u8]) -> usize {
    if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 }
}

/// Length of the white space (Unicode's) at the start.
pub(super) fn leading_space(text: &[u8]) -> usize {
    let mut len = 0;
    while let Some((c, width)) = text.get(len..).and_then(decode) {
        if !c.is_whitespace() {
            break;
        }
        len += width;
    }
    len
}

/// Length of the text without the white space (Unicode's) at its end.
pub(super) fn trimmed_len(text: &[u8]) -> usize {
    let mut len = text.len();
    while let Some((c, width)) = text.get(..len).and_then(decode_last) {
        if !c.is_whitespace() {
            break;
        }
        len -= width;
    }
    len
}

/// The last character and its width, as [`decode`] gives the first.
fn decode_last(text: &[u8]) -> Option<(char, usize)> {
    let last = *text.last()?;
    if last.is_ascii() {
        return Some((char::from(last), 1));
    }
    for width in 2..=4 {
        let tail = text.len().checked_sub(width).and_then(|at| text.get(at..));
        if let Some(c) = tail.and_then(|t| std::str::from_utf8(t).ok()).and_then(|t| t.chars().next()) {
            return Some((c, width));
        }
    }
    Some((char::REPLACEMENT_CHARACTER, 1))
}

/// Number of tabs at the start.
pub(super) fn leading_tabs(text: &[u8]) -> usize {
    text.iter().take_while(|b| **b == b'\t').count()
}

/// The first character and its width; a byte that is not UTF-8 is a replacement character of width 1.
pub(super) fn decode(text: &[u8]) -> Option<(char, usize)> {
    let first = *text.first()?;
    if first.is_ascii() {
        return Some((char::from(first), 1));
    }
    let head = text.get(..4).unwrap_or(text);
    let valid = match std::str::from_utf8(head) {
        Ok(valid) => valid,
        Err(e) => std::str::from_utf8(head.get(..e.valid_up_to()).unwrap_or_default()).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(c) => Some((c, c.len_utf8())),
        None => Some((char::REPLACEMENT_CHARACTER, 1)),
    }
}
