//! Tokens: the lossless view of a Dockerfile.

use crate::position::Span;

/// A piece of the source text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it stands.
    pub span: Span,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenKind {
    /// The UTF-8 byte order mark at the start.
    ByteOrderMark,
    /// A parser directive: `# escape=`.
    Directive,
    /// A comment.
    Comment,
    /// White space that separates, line breaks included.
    Blank,
    /// The escape character at the end of a line, with the blanks and the line break after it.
    Continuation,
    /// The name of an instruction, also that after `ONBUILD`.
    Keyword,
    /// `--name` or `--name=value`, quotes included.
    Flag,
    /// An argument, or a part of one before or after a continuation.
    Argument,
    /// Other text of an instruction: an equals sign, the brackets of a JSON array, what could not be understood.
    Text,
    /// Lines of a heredoc.
    HeredocBody,
    /// The line that ends a heredoc.
    HeredocEnd,
    /// What follows a line that is too long to be read, and that line itself.
    Unread,
}
