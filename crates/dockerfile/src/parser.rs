//! From bytes to nodes.
//!
//! The parser works on bytes, since Dockerfiles with Latin-1 comments exist. It reads physical lines, joins those that
//! end in the escape character into logical ones, splits these into words by rules that differ from keyword to
//! keyword, and collects heredocs. Everything that it passes is noted as a token, so that the tokens of any input,
//! valid or not, give the input again.

mod directive;
mod heredoc;
mod json;
mod logical;
mod source;
mod words;

pub use directive::{detect_syntax, parse_directive};
pub(crate) use heredoc::parse_word as parse_heredoc_word;

use crate::error::{Error, Problem};
use crate::node::{Directive, Heredoc, Node};
use crate::position::{Lines, Span};
use crate::token::{Token, TokenKind};
use directive::DirectiveParser;
use logical::Logical;
use source::{Line, Source};

/// A parsed Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// Parser directives at the top, in order.
    pub directives: Vec<Directive>,
    /// The escape character: a backslash, or a backtick by directive.
    pub escape: char,
    /// Instructions in order; never empty.
    pub nodes: Vec<Node>,
    /// What is doubtful, though it is accepted.
    pub warnings: Vec<Warning>,
}

impl Dockerfile {
    /// Lines from the first instruction to the end of the last.
    pub fn lines(&self) -> Lines {
        let start = self.nodes.first().map_or(0, |n| n.lines.start);
        Lines::new(start, self.nodes.last().map_or(0, |n| n.lines.end))
    }
}

/// Something doubtful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What, in BuildKit's words.
    pub text: String,
    /// Which rule of BuildKit's linter it is.
    pub rule: &'static str,
    /// Where: the last line of the instruction, heredocs not counted.
    pub lines: Lines,
}

/// Parses a Dockerfile.
///
/// ```
/// let file = cooper_dockerfile::parse(b"FROM alpine\nRUN echo a \\\n && echo b\n")?;
/// assert_eq!(file.nodes[1].args[0].text, "echo a  && echo b");
/// assert_eq!((file.nodes[1].lines.start, file.nodes[1].lines.end), (2, 3));
/// # Ok::<(), cooper_dockerfile::Error>(())
/// ```
///
/// # Errors
/// The first thing that is wrong. Unknown instructions and flags are no errors yet: see
/// [`instruction::parse`](crate::instruction::parse).
pub fn parse(source: &[u8]) -> Result<Dockerfile, Error> {
    let mut parser = Parser::new(source, true);
    parser.run();
    match parser.error {
        Some(error) => Err(error),
        None => Ok(Dockerfile {
            directives: parser.directives,
            escape: char::from(parser.escape),
            nodes: parser.nodes,
            warnings: parser.warnings,
        }),
    }
}

/// Splits a Dockerfile into tokens; one after the other they are the input again. Never fails: what cannot be
/// understood is still some token.
///
/// ```
/// let source = b"# syntax=docker/dockerfile:1\nFROM alpine # no comment\n";
/// let tokens = cooper_dockerfile::tokens(source);
/// let again: Vec<u8> = tokens.iter().flat_map(|t| t.span.of(source).to_vec()).collect();
/// assert_eq!(again, source);
/// ```
pub fn tokens(source: &[u8]) -> Vec<Token> {
    let mut parser = Parser::new(source, false);
    parser.run();
    parser.tokens
}

struct Parser<'a> {
    source: Source<'a>,
    /// Whether to stop at the first error (otherwise it is noted and the rest is read all the same).
    strict: bool,
    escape: u8,
    directive_parser: DirectiveParser,
    directives: Vec<Directive>,
    nodes: Vec<Node>,
    warnings: Vec<Warning>,
    tokens: Vec<Token>,
    error: Option<Error>,
}

impl<'a> Parser<'a> {
    fn new(source: &'a [u8], strict: bool) -> Self {
        Parser {
            source: Source::new(source),
            strict,
            escape: b'\\',
            directive_parser: DirectiveParser::default(),
            directives: Vec::new(),
            nodes: Vec::new(),
            warnings: Vec::new(),
            tokens: Vec::new(),
            error: None,
        }
    }

    fn fail(&mut self, problem: Problem, lines: Lines, span: Option<Span>) {
        self.error.get_or_insert(Error { problem, lines, span, prefixed: false });
    }

    fn stopped(&self) -> bool {
        self.strict && self.error.is_some()
    }

    fn token(&mut self, kind: TokenKind, span: Span) {
        // Tokens are made only where they are wanted: they are a third of the work.
        if !self.strict && !span.is_empty() {
            self.tokens.push(Token { kind, span });
        }
    }

    fn run(&mut self) {
        let mut comments: Vec<String> = Vec::new();
        while let Some(mut line) = self.source.next_line() {
            if line.number == 1 {
                let bom = source::bom_len(line.text);
                self.token(TokenKind::ByteOrderMark, Span::new(line.start, line.start + bom));
                line = line.skip(bom);
            }
            let body = line.without_break();
            let indent = source::leading_space(body.text);
            let trimmed = body.skip(indent);
            if trimmed.text.first() == Some(&b'#') {
                self.comment(&line, &body, &trimmed, &mut comments);
                if self.stopped() {
                    return;
                }
                continue;
            }
            self.directive_parser.end();
            if trimmed.text.is_empty() {
                self.token(TokenKind::Blank, line.span());
                continue;
            }
            self.token(TokenKind::Blank, Span::new(body.start, trimmed.start));
            self.instruction(&line, trimmed, std::mem::take(&mut comments));
            if self.stopped() {
                return;
            }
        }
        let last = self.source.line_number();
        if self.nodes.is_empty() {
            self.fail(Problem::Empty, Lines::one(last), None);
        } else if self.source.too_long() {
            self.fail(Problem::LineTooLong { max: source::MAX_LINE - 1 }, Lines::one(last), None);
        }
        self.token(TokenKind::Unread, self.source.unread());
    }

    /// A comment line, which may be a directive.
    fn comment(&mut self, line: &Line<'_>, body: &Line<'_>, trimmed: &Line<'_>, comments: &mut Vec<String>) {
        let mut kind = TokenKind::Comment;
        match self.directive_parser.line(trimmed.text) {
            Ok(None) => {
                // BuildKit takes one byte off before it trims, so an indented comment keeps its mark.
                let text = String::from_utf8_lossy(body.text.get(1..).unwrap_or_default());
                match text.trim() {
                    "" => comments.clear(),
                    text => comments.push(text.to_owned()),
                }
            }
            Ok(Some((name, value))) => {
                kind = TokenKind::Directive;
                match (name, value.as_slice()) {
                    ("escape", [escape @ (b'\\' | b'`')]) => self.escape = *escape,
                    ("escape", other) => {
                        let problem = Problem::EscapeToken(String::from_utf8_lossy(other).into_owned());
                        self.fail(problem, Lines::one(line.number - 1), Some(trimmed.span()));
                    }
                    _ => {}
                }
                self.directives.push(Directive {
                    name,
                    value: String::from_utf8_lossy(&value).into_owned(),
                    line: line.number,
                    span: trimmed.span(),
                });
            }
            // BuildKit has not counted the line yet.
            Err(problem) => self.fail(problem, Lines::one(line.number - 1), Some(trimmed.span())),
        }
        self.token(TokenKind::Blank, Span::new(body.start, trimmed.start));
        self.token(kind, trimmed.span());
        self.token(TokenKind::Blank, Span::new(trimmed.span().end, line.span().end));
    }

    /// An instruction that starts in `first`, with all lines that continue it.
    fn instruction(&mut self, line: &Line<'_>, first: Line<'a>, comments: Vec<String>) {
        let start_line = line.number;
        let mut logical = Logical::default();
        let mut empty_lines = false;
        let mut more = logical.push(first, line.span().end, self.escape);
        if !more && logical.is_empty() {
            return;
        }
        while more {
            let Some(line) = self.source.next_line() else { break };
            let body = line.without_break();
            let indent = source::leading_space(body.text);
            let rest = body.text.get(indent..).unwrap_or_default();
            if rest.first() == Some(&b'#') {
                let mark = body.start + indent;
                logical.skip(TokenKind::Blank, Span::new(body.start, mark));
                logical.skip(TokenKind::Comment, Span::new(mark, body.span().end));
                logical.skip(TokenKind::Blank, Span::new(body.span().end, line.span().end));
            } else if rest.is_empty() {
                logical.skip(TokenKind::Blank, line.span());
                empty_lines = true;
            } else {
                more = logical.push(body, line.span().end, self.escape);
            }
        }
        let end_line = self.source.line_number();
        let lines = Lines::new(start_line, end_line);
        let text = String::from_utf8_lossy(logical.text()).into_owned();
        if empty_lines {
            self.warnings.push(Warning {
                text: format!("Empty continuation line found in: {text}"),
                rule: "NoEmptyContinuation",
                lines: Lines::one(end_line),
            });
        }
        match words::node(&logical, self.escape) {
            Ok(mut node) => {
                if !self.strict {
                    logical.tokens(&node, &mut self.tokens);
                }
                node.comments = comments;
                node.lines = lines;
                node.span = logical.span();
                if let Err(problem) = self.heredocs(&mut node, &text) {
                    self.fail(problem, Lines::new(start_line, self.source.line_number()), Some(node.span));
                }
                node.lines.end = self.source.line_number();
                node.original = text;
                self.nodes.push(node);
            }
            Err(problem) => {
                if !self.strict {
                    logical.tokens(&Node::default(), &mut self.tokens);
                }
                self.fail(problem, lines, Some(logical.span()));
            }
        }
    }

    /// Reads the bodies of the heredocs that a line opens.
    fn heredocs(&mut self, node: &mut Node, text: &str) -> Result<(), Problem> {
        if !heredoc::allowed(node) || !text.contains("<<") {
            return Ok(());
        }
        for mut heredoc in heredoc::find(text)? {
            let start = self.source.offset();
            let terminator = loop {
                let Some(line) = self.source.next_line() else { break None };
                let body = line.without_break();
                let indent = if heredoc.chomp { source::leading_tabs(body.text) } else { 0 };
                if body.text.get(indent..) == Some(heredoc.name.as_bytes()) {
                    break Some(line);
                }
            };
            let end = terminator.map_or(self.source.offset(), |line| line.start);
            let span = Span::new(start, end);
            self.token(TokenKind::HeredocBody, span);
            let Some(line) = terminator else {
                return Err(Problem::UnterminatedHeredoc);
            };
            let body = line.without_break();
            self.token(TokenKind::HeredocEnd, body.span());
            self.token(TokenKind::Blank, Span::new(body.span().end, line.span().end));
            heredoc.content = String::from_utf8_lossy(span.of(self.source.all())).into_owned();
            heredoc.span = span;
            node.span.end = body.span().end;
            node.heredocs.push(heredoc);
        }
        Ok(())
    }
}

/// Finds out whether a word opens a heredoc, and which. The body is not there yet.
///
/// # Errors
/// A word with unbalanced quotes.
pub fn parse_heredoc(word: &str) -> Result<Option<Heredoc>, Problem> {
    heredoc::parse_word(word)
}
