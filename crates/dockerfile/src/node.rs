//! The syntax tree: instructions as words, before any of them has a meaning.

use crate::position::{Lines, Span};

/// One instruction as the parser splits it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The keyword as written.
    pub keyword: Word,
    /// Words that start with `--`, between the keyword and the arguments; quotes removed.
    pub flags: Vec<Word>,
    /// Arguments. `ENV` and `LABEL` have key, value and separator (`=` or nothing) for each pair; forms that take a
    /// whole line have one. `ONBUILD` has none but a `child`.
    pub args: Vec<Word>,
    /// The instruction that `ONBUILD` holds back.
    pub child: Option<Box<Node>>,
    /// Whether the arguments were written as a JSON array.
    pub json: bool,
    /// Continuations joined, comments between them left out; not trimmed.
    pub original: String,
    /// Comment lines directly above, without `#` and trimmed.
    pub comments: Vec<String>,
    /// Heredocs that the arguments open, in order.
    pub heredocs: Vec<Heredoc>,
    /// Lines from the keyword to the last continuation or heredoc terminator.
    pub lines: Lines,
    /// Bytes of the same, without the last line break.
    pub span: Span,
}

impl Node {
    /// The keyword in lower case.
    pub fn name(&self) -> String {
        self.keyword.text.to_lowercase()
    }
}

/// A word of an instruction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// The text; bytes that are not UTF-8 are replaced by U+FFFD.
    pub text: String,
    /// The bytes as written, only where they are not UTF-8.
    pub raw: Option<Box<[u8]>>,
    /// Where it stands in the source; empty where it was not written (the separator of the old `ENV` form).
    pub span: Span,
}

impl Word {
    pub(crate) fn new(bytes: &[u8], span: Span) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Word { text: text.to_owned(), raw: None, span },
            Err(_) => {
                Word { text: String::from_utf8_lossy(bytes).into_owned(), raw: Some(bytes.into()), span }
            }
        }
    }

    /// The bytes as written.
    pub fn bytes(&self) -> &[u8] {
        self.raw.as_deref().unwrap_or(self.text.as_bytes())
    }
}

/// Text given in the Dockerfile itself: `<<NAME` and the lines up to `NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heredoc {
    /// The word after `<<`, quotes removed.
    pub name: String,
    /// The number before `<<`; 0 if there is none.
    pub fd: u64,
    /// Whether variables in the content are expanded: the word was not quoted.
    pub expand: bool,
    /// Whether it is `<<-`: leading tabs do not count.
    pub chomp: bool,
    /// The lines, line breaks as written.
    pub content: String,
    /// Where the content stands in the source.
    pub span: Span,
}

impl Heredoc {
    /// The content without the leading tabs of its lines.
    pub fn chomped(&self) -> String {
        chomp_tabs(&self.content)
    }
}

/// Removes the leading tabs of every line.
pub(crate) fn chomp_tabs(text: &str) -> String {
    text.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// A parser directive: `# syntax=`, `# escape=` or `# check=` at the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Name in lower case.
    pub name: &'static str,
    /// Value, trimmed.
    pub value: String,
    /// Its line, counted from 1.
    pub line: u32,
    /// Bytes of the whole line without its break.
    pub span: Span,
}

impl Directive {
    /// The value up to its first space: for `syntax` the image's reference, without options after it.
    pub fn first_word(&self) -> &str {
        self.value.split(' ').next().unwrap_or_default()
    }
}
