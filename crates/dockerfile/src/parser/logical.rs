//! Logical lines: physical lines joined where they continue.

use super::source::Line;
use crate::node::Node;
use crate::position::Span;
use crate::token::{Token, TokenKind};

/// A logical line, and where each part of it came from.
#[derive(Default)]
pub(super) struct Logical {
    text: Vec<u8>,
    pieces: Vec<Piece>,
}

/// A part of the source inside a logical line.
struct Piece {
    /// None for text; otherwise what stands between the text.
    kind: Option<TokenKind>,
    /// Where it stands in the source.
    span: Span,
    /// Where it stands in the logical line.
    at: usize,
}

impl Logical {
    /// Appends a line, the end of which is at `end` in the source; tells whether the next line continues it.
    pub(super) fn push(&mut self, line: Line<'_>, end: usize, escape: u8) -> bool {
        let content = continued(line.text, escape);
        let text = content.unwrap_or(line.text);
        let text_end = line.start + text.len();
        self.pieces.push(Piece { kind: None, span: Span::new(line.start, text_end), at: self.text.len() });
        let kind = if content.is_some() { TokenKind::Continuation } else { TokenKind::Blank };
        self.skip(kind, Span::new(text_end, end));
        self.text.extend_from_slice(text);
        content.is_some()
    }

    /// Notes something that is no part of the text.
    pub(super) fn skip(&mut self, kind: TokenKind, span: Span) {
        self.pieces.push(Piece { kind: Some(kind), span, at: self.text.len() });
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// From the first to the last byte of text, in the source.
    pub(super) fn span(&self) -> Span {
        let mut texts = self.pieces.iter().filter(|p| p.kind.is_none());
        let start = texts.next().map(|p| p.span);
        let end = texts.next_back().map(|p| p.span).or(start);
        Span::new(start.map_or(0, |s| s.start), end.map_or(0, |s| s.end))
    }

    /// The place in the source of a range of the text.
    pub(super) fn locate(&self, start: usize, end: usize) -> Span {
        let first = self.offset(start);
        if start >= end {
            return Span::new(first, first);
        }
        Span::new(first, self.offset(end - 1) + 1)
    }

    fn offset(&self, at: usize) -> usize {
        // Pieces that are no text have the place of the text after them, and come before it unless they end all.
        let index = self.pieces.partition_point(|p| p.at <= at);
        let piece = self.pieces.get(..index).and_then(|p| p.iter().rev().find(|p| p.kind.is_none()));
        piece.map_or(0, |p| p.span.start + (at - p.at).min(p.span.len()))
    }

    /// Writes the tokens of the whole line, given the words that it was split into.
    pub(super) fn tokens(&self, node: &Node, out: &mut Vec<Token>) {
        let mut words: Vec<(Span, TokenKind)> = Vec::new();
        let mut next = Some(node);
        while let Some(node) = next {
            words.push((node.keyword.span, TokenKind::Keyword));
            words.extend(node.flags.iter().map(|w| (w.span, TokenKind::Flag)));
            words.extend(node.args.iter().map(|w| (w.span, TokenKind::Argument)));
            next = node.child.as_deref();
        }
        let mut words = words.into_iter().filter(|(span, _)| !span.is_empty()).peekable();
        let mut push = |kind, start: usize, end: usize| {
            if end > start {
                out.push(Token { kind, span: Span::new(start, end) });
            }
        };
        for piece in &self.pieces {
            if let Some(kind) = piece.kind {
                push(kind, piece.span.start, piece.span.end);
                continue;
            }
            let mut at = piece.span.start;
            while at < piece.span.end {
                while words.next_if(|(span, _)| span.end <= at).is_some() {}
                match words.peek() {
                    Some((span, kind)) if span.start <= at => {
                        let end = span.end.min(piece.span.end);
                        push(*kind, at, end);
                        at = end;
                    }
                    word => {
                        let end = word.map_or(piece.span.end, |(span, _)| span.start.min(piece.span.end));
                        let gap = self.slice(piece, at, end);
                        let text = at + gap.iter().take_while(|b| is_space(b)).count();
                        let text_end = at + gap.iter().rposition(|b| !is_space(b)).map_or(0, |last| last + 1);
                        push(TokenKind::Blank, at, text);
                        push(TokenKind::Text, text, text_end);
                        push(TokenKind::Blank, text_end.max(text), end);
                        at = end;
                    }
                }
            }
        }
    }

    /// The text of a part of a piece, given by places in the source.
    fn slice(&self, piece: &Piece, start: usize, end: usize) -> &[u8] {
        let base = piece.at;
        let range = base + (start - piece.span.start)..base + (end - piece.span.start);
        self.text.get(range).unwrap_or_default()
    }
}

fn is_space(byte: &u8) -> bool {
    byte.is_ascii_whitespace() || *byte == 0xb
}

/// The line without the escape character at its end, if that makes the next line continue it.
///
/// An escape character before it takes this meaning away (one, not an odd number of them: BuildKit's rule).
fn continued(line: &[u8], escape: u8) -> Option<&[u8]> {
    let len = line.iter().rposition(|b| !matches!(b, b' ' | b'\t'))?;
    if line.get(len) != Some(&escape) {
        return None;
    }
    let text = line.get(..len)?;
    (text.last() != Some(&escape)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuation() {
        for (line, want) in [
            ("a \\", Some("a ")),
            ("a\\ \t", Some("a")),
            ("\\", Some("")),
            (" \\", Some(" ")),
            ("a\\\\", None),
            ("\\\\\\", None),
            ("a", None),
            ("", None),
            (" ", None),
            ("a\\\u{b}", None),
        ] {
            assert_eq!(continued(line.as_bytes(), b'\\'), want.map(str::as_bytes), "{line:?}");
        }
        assert_eq!(continued(b"a`", b'`'), Some(&b"a"[..]));
    }
}
