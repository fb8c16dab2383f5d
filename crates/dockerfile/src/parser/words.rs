//! Splitting a logical line into keyword, flags and arguments, by the rule of each keyword.

use super::json::{self, NoStrings};
use super::logical::Logical;
use super::source::{decode, leading_space, trimmed_len};
use crate::error::Problem;
use crate::node::{Node, Word};
use crate::quote::go_quote;

/// Deepest nesting of `ONBUILD ONBUILD ...` that is split; two levels are an error already.
const MAX_DEPTH: usize = 16;

/// Splits a logical line.
pub(super) fn node(line: &Logical, escape: u8) -> Result<Node, Problem> {
    Splitter { line, escape }.node(0, line.text().len(), MAX_DEPTH)
}

struct Splitter<'a> {
    line: &'a Logical,
    escape: u8,
}

impl<'a> Splitter<'a> {
    fn text(&self, start: usize, end: usize) -> &'a [u8] {
        self.line.text().get(start..end).unwrap_or_default()
    }

    /// The text as it stands, as a word.
    fn word(&self, start: usize, end: usize) -> Word {
        Word::new(self.text(start, end), self.line.locate(start, end))
    }

    /// Narrows a range by the white space at its ends.
    fn trim(&self, start: usize, end: usize) -> (usize, usize) {
        let start = start + leading_space(self.text(start, end));
        (start, start + trimmed_len(self.text(start, end)))
    }

    fn node(&self, start: usize, end: usize, depth: usize) -> Result<Node, Problem> {
        let (start, end) = self.trim(start, end);
        let text = self.text(start, end);
        let keyword_len = text.iter().position(is_blank).unwrap_or(text.len());
        let keyword_end = start + keyword_len;
        let gap = self.text(keyword_end, end).iter().take_while(|b| is_blank(b)).count();
        let mut node = Node { keyword: self.word(start, keyword_end), ..Node::default() };
        let after_flags = self.flags(keyword_end + gap, end, &mut node.flags);
        let (start, end) = self.trim(after_flags, end);
        self.arguments(&mut node, start, end, depth)?;
        Ok(node)
    }

    fn arguments(&self, node: &mut Node, start: usize, end: usize, depth: usize) -> Result<(), Problem> {
        match node.name().as_str() {
            "add" | "copy" | "volume" => {
                if !self.json(node, start, end)? {
                    self.split_blanks(node, start, end);
                }
            }
            "cmd" | "entrypoint" | "run" | "shell" => self.json_or_all(node, start, end)?,
            "healthcheck" => self.healthcheck(node, start, end)?,
            "env" => self.pairs(node, start, end, "ENV")?,
            "label" => self.pairs(node, start, end, "LABEL")?,
            "arg" => {
                for piece in self.quoted_words(start, end) {
                    node.args.push(Word::new(&piece.text, self.line.locate(piece.start, piece.end)));
                }
            }
            "expose" | "from" => self.split_blanks(node, start, end),
            "maintainer" | "stopsignal" | "user" | "workdir" => self.all(node, start, end),
            "onbuild" if start < end && depth > 0 => {
                let mut child = self.node(start, end, depth - 1)?;
                child.original = String::from_utf8_lossy(self.text(start, end)).into_owned();
                node.child = Some(Box::new(child));
            }
            "onbuild" => {}
            // Of an unknown instruction one empty argument is left.
            _ => node.args.push(self.word(start, start)),
        }
        Ok(())
    }

    /// The whole rest as one argument.
    fn all(&self, node: &mut Node, start: usize, end: usize) {
        if start < end {
            node.args.push(self.word(start, end));
        }
    }

    fn split_blanks(&self, node: &mut Node, start: usize, end: usize) {
        let mut at = start;
        for part in self.text(start, end).split(is_blank) {
            if !part.is_empty() {
                node.args.push(self.word(at, at + part.len()));
            }
            at += part.len() + 1;
        }
    }

    /// Takes a JSON array of strings; tells whether it was one.
    fn json(&self, node: &mut Node, start: usize, end: usize) -> Result<bool, Problem> {
        let start = start + leading_space(self.text(start, end));
        match json::parse_strings(self.text(start, end)) {
            Ok(elements) => {
                node.json = true;
                node.args.extend(elements.into_iter().map(|(value, range)| Word {
                    text: value,
                    raw: None,
                    span: self.line.locate(start + range.start, start + range.end),
                }));
                Ok(true)
            }
            Err(NoStrings::OtherTypes) => Err(Problem::JsonNotStrings),
            Err(NoStrings::NotJson) => Ok(false),
        }
    }

    fn json_or_all(&self, node: &mut Node, start: usize, end: usize) -> Result<(), Problem> {
        if start < end && !self.json(node, start, end)? {
            self.all(node, start, end);
        }
        Ok(())
    }

    /// A type, then as for `CMD`.
    fn healthcheck(&self, node: &mut Node, start: usize, end: usize) -> Result<(), Problem> {
        let text = self.text(start, end);
        let kind_len = text.iter().position(is_latin1_space).unwrap_or(text.len());
        if kind_len == 0 {
            return Ok(());
        }
        let kind_end = start + kind_len;
        let gap = self.text(kind_end, end).iter().take_while(|b| is_latin1_space(b)).count();
        node.args.push(self.word(start, kind_end));
        self.json_or_all(node, kind_end + gap, end)
    }

    /// `key=value ...`, or the old form `key value with blanks`.
    fn pairs(&self, node: &mut Node, start: usize, end: usize, name: &'static str) -> Result<(), Problem> {
        let words = self.quoted_words(start, end);
        let Some(first) = words.first() else { return Ok(()) };
        if !first.text.contains(&b'=') {
            let text = self.text(start, end);
            let Some(key_len) = text.iter().position(is_blank) else {
                return Err(Problem::TwoArguments(name));
            };
            let gap = text.iter().skip(key_len).take_while(|b| is_blank(b)).count();
            node.args.push(self.word(start, start + key_len));
            node.args.push(self.word(start + key_len + gap, end));
            node.args.push(self.word(end, end));
            return Ok(());
        }
        for piece in &words {
            let Some(equals) = piece.text.iter().position(|b| *b == b'=') else {
                return Err(Problem::NoEquals(go_quote(&piece.text)));
            };
            let (key, rest) = piece.text.split_at(equals);
            // Only the end of a word can differ from the source in length, so the key's place is known.
            let middle = (piece.start + equals).min(piece.end);
            let value = rest.get(1..).unwrap_or_default();
            node.args.push(Word::new(key, self.line.locate(piece.start, middle)));
            node.args.push(Word::new(value, self.line.locate((middle + 1).min(piece.end), piece.end)));
            node.args.push(Word::new(b"=", self.line.locate(piece.end, piece.end)));
        }
        Ok(())
    }

    /// Words separated by white space outside of quotes. Quotes and escapes stay, except an escape at the very end.
    fn quoted_words(&self, start: usize, end: usize) -> Vec<Piece> {
        let escape = char::from(self.escape);
        let mut words = Vec::new();
        let mut at = start;
        let mut word: Option<Piece> = None;
        let mut quote: Option<char> = None;
        // Quotes alone make a word, even an empty one; an escape at the end does not.
        let mut done = |word: Piece, blank_ok: bool| {
            if blank_ok || !word.text.is_empty() {
                words.push(word);
            }
        };
        let mut blank_ok = false;
        while let Some((c, width)) = decode(self.text(at, end)) {
            let next = at + width;
            if quote.is_none() && c.is_whitespace() {
                if let Some(word) = word.take() {
                    done(word, blank_ok);
                }
                blank_ok = false;
                at = next;
                continue;
            }
            let piece = word.get_or_insert_with(|| Piece { text: Vec::new(), start: at, end: at });
            match quote {
                None if c == '\'' || c == '"' => {
                    quote = Some(c);
                    blank_ok = true;
                }
                Some(q) if c == q => quote = None,
                _ => {}
            }
            at = next;
            if c == escape && quote != Some('\'') {
                match decode(self.text(at, end)) {
                    None => {
                        quote = None;
                        continue;
                    }
                    Some((escaped, width)) => {
                        push_char(&mut piece.text, c);
                        push_char(&mut piece.text, escaped);
                        at += width;
                    }
                }
            } else {
                push_char(&mut piece.text, c);
            }
            piece.end = at;
        }
        if let Some(word) = word.take() {
            done(word, blank_ok);
        }
        words
    }

    /// Flags at the start: words that begin with `--`, up to a lone `--`. Gives where the arguments begin.
    ///
    /// BuildKit takes the line byte by byte here, so white space is Latin-1's and other bytes are taken for Latin-1.
    fn flags(&self, start: usize, end: usize, flags: &mut Vec<Word>) -> usize {
        let text = self.text(start, end);
        let mut at = 0;
        loop {
            at += text.get(at..).unwrap_or_default().iter().take_while(|b| is_latin1_space(b)).count();
            if !text.get(at..).unwrap_or_default().starts_with(b"--") {
                return start + at;
            }
            let begin = at;
            let mut word = String::new();
            let mut quote: Option<u8> = None;
            let mut blank_ok = false;
            while let Some(&byte) = text.get(at) {
                if quote.is_none() && is_latin1_space(&byte) {
                    break;
                }
                at += 1;
                if quote == Some(byte) {
                    quote = None;
                } else if quote.is_none() && (byte == b'\'' || byte == b'"') {
                    quote = Some(byte);
                    blank_ok = true;
                } else if byte != self.escape {
                    word.push(char::from(byte));
                } else if let Some(&escaped) = text.get(at) {
                    word.push(char::from(escaped));
                    at += 1;
                }
            }
            if word == "--" {
                return start + at;
            }
            if blank_ok || !word.is_empty() {
                let span = self.line.locate(start + begin, start + at);
                flags.push(Word { text: word, raw: None, span });
            }
        }
    }
}

/// A word with the place in the logical line.
struct Piece {
    text: Vec<u8>,
    start: usize,
    end: usize,
}

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// What separates words where BuildKit splits by a regular expression.
fn is_blank(byte: &u8) -> bool {
    matches!(byte, b'\t' | 0xb | 0xc | b'\r' | b' ')
}

fn is_latin1_space(byte: &u8) -> bool {
    char::from(*byte).is_whitespace()
}
