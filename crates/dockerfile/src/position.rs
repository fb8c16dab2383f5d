//! Where something stands in a Dockerfile: byte spans and line ranges.

/// A half-open range of bytes in the source text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

impl Span {
    /// Makes a span; an end before the start gives an empty span.
    pub fn new(start: usize, end: usize) -> Self {
        Span { start, end: end.max(start) }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether no byte is in it.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The bytes of `source` that it names; empty where it does not lie within.
    pub fn of<'a>(&self, source: &'a [u8]) -> &'a [u8] {
        source.get(self.start..self.end).unwrap_or_default()
    }
}

/// A range of lines, counted from 1, both ends included.
///
/// BuildKit writes one range a line into source maps and errors, so [`Lines::iter`] gives the numbers.
/// Line 0 stands for a place before the first line (an error in the very first line's directive).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lines {
    /// First line.
    pub start: u32,
    /// Last line.
    pub end: u32,
}

impl Lines {
    /// Makes a range; an end before the start gives the start line alone.
    pub fn new(start: u32, end: u32) -> Self {
        Lines { start, end: end.max(start) }
    }

    /// Makes the range of one line.
    pub fn one(line: u32) -> Self {
        Lines { start: line, end: line }
    }

    /// The line numbers in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<> {
        self.start..=self.end
    }
}
