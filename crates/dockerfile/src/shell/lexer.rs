//! The state of one expansion.

use super::{Env, Lexer, MAX_DEPTH, MAX_RESULT, WordProblem, pattern};
use regex::Regex;
use std::collections::BTreeSet;
use std::str::Chars;
use std::sync::LazyLock;

/// One run over one text.
pub(super) struct State<'a, E: ?Sized> {
    lexer: &'a Lexer,
    env: &'a E,
    rest: Chars<'a>,
    raw_escapes: bool,
    /// Whether words are wanted; otherwise the text alone is made.
    split: bool,
    /// The word being collected. Nested substitutions use the same one and clear it, as BuildKit does: in
    /// `a${x:-b}c` the `a` is lost where words are split, though not where the text is one word.
    word: String,
    depth: usize,
    pub(super) matched: BTreeSet<String>,
    pub(super) unmatched: BTreeSet<String>,
}

/// Words that one level has collected.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    in_word: bool,
}

impl<'a, E: Env + ?Sized> State<'a, E> {
    pub(super) fn new(lexer: &'a Lexer, text: &'a str, env: &'a E, split: bool) -> Self {
        State {
            lexer,
            env,
            // A byte order mark at the start is no part of the text.
            rest: text.strip_prefix('\u{feff}').unwrap_or(text).chars(),
            raw_escapes: lexer.raw_escapes,
            split,
            word: String::new(),
            depth: 0,
            matched: BTreeSet::new(),
            unmatched: BTreeSet::new(),
        }
    }

    /// Expands everything: the text, and its words where they are wanted.
    pub(super) fn run(&mut self) -> Result<(String, Vec<String>), WordProblem> {
        self.until(None, self.raw_escapes)
    }

    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn next(&mut self) -> Option<char> {
        self.rest.next()
    }

    /// Expands up to `stop`, which is eaten, or up to the end.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<(String, Vec<String>), WordProblem> {
        let outer = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        self.depth += 1;
        let result = if self.depth > MAX_DEPTH { Err(WordProblem::TooDeep) } else { self.until_inner(stop) };
        self.depth -= 1;
        self.raw_escapes = outer;
        result
    }

    fn until_inner(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), WordProblem> {
        let mut result = String::new();
        let mut words = Words::default();
        self.word.clear();
        while let Some(c) = self.peek() {
            if result.len() > MAX_RESULT {
                return Err(WordProblem::TooLarge);
            }
            if stop == Some(c) {
                self.next();
                return Ok((result, self.finish(words)));
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    if self.split {
                        for c in value.chars() {
                            self.add_char(&mut words, c);
                        }
                    }
                    result.push_str(&value);
                }
                '<' => {
                    let text = self.heredoc_mark();
                    self.add_raw(&mut words, &text);
                    result.push_str(&text);
                }
                '\'' | '"' if !self.lexer.skip_process_quotes => {
                    let text = if c == '"' { self.double_quote()? } else { self.single_quote()? };
                    self.add_raw(&mut words, &text);
                    result.push_str(&text);
                }
                _ => {
                    self.next();
                    if c != self.lexer.escape {
                        self.add_char(&mut words, c);
                        result.push(c);
                        continue;
                    }
                    if self.raw_escapes {
                        self.add_raw_char(&mut words, c);
                        result.push(c);
                    }
                    let Some(escaped) = self.next() else { break };
                    self.add_raw_char(&mut words, escaped);
                    result.push(escaped);
                }
            }
        }
        match stop {
            None if result.len() > MAX_RESULT => Err(WordProblem::TooLarge),
            None => Ok((result, self.finish(words))),
            Some('/') => Err(WordProblem::Unterminated("/")),
            Some(_) => Err(WordProblem::Unterminated("}")),
        }
    }

    fn add_char(&mut self, words: &mut Words, c: char) {
        if !c.is_whitespace() {
            self.add_raw_char(words, c);
        } else if words.in_word && !self.word.is_empty() {
            words.done.push(std::mem::take(&mut self.word));
            words.in_word = false;
        }
    }

    fn add_raw_char(&mut self, words: &mut Words, c: char) {
        if self.split {
            self.word.push(c);
            words.in_word = true;
        }
    }

    fn add_raw(&mut self, words: &mut Words, text: &str) {
        if self.split {
            self.word.push_str(text);
            words.in_word = true;
        }
    }

    fn finish(&mut self, mut words: Words) -> Vec<String> {
        if !self.word.is_empty() {
            words.done.push(std::mem::take(&mut self.word));
        }
        words.done
    }

    fn single_quote(&mut self) -> Result<String, WordProblem> {
        self.next();
        let text = self.rest.as_str();
        let Some(len) = text.find('\'') else {
            self.rest = "".chars();
            return Err(WordProblem::Unterminated("single-quote"));
        };
        let (inner, after) = text.split_at(len);
        self.rest = after.get(1..).unwrap_or_default().chars();
        Ok(if self.lexer.raw_quotes { format!("'{inner}'") } else { inner.to_owned() })
    }

    fn double_quote(&mut self) -> Result<String, WordProblem> {
        let mut result = String::new();
        self.next();
        if self.lexer.raw_quotes {
            result.push('"');
        }
        loop {
            if result.len() > MAX_RESULT {
                return Err(WordProblem::TooLarge);
            }
            match self.peek() {
                None => return Err(WordProblem::Unterminated("double-quote")),
                Some('"') => {
                    self.next();
                    if self.lexer.raw_quotes {
                        result.push('"');
                    }
                    return Ok(result);
                }
                Some('$') => result.push_str(&self.dollar()?),
                Some(mut c) => {
                    self.next();
                    if c == self.lexer.escape {
                        if self.raw_escapes {
                            result.push(c);
                        }
                        match self.peek() {
                            None => continue,
                            // Other characters cannot be escaped here: the escape character stays before them.
                            Some(next) if next == '"' || next == '$' || next == self.lexer.escape => {
                                self.next();
                                c = next;
                            }
                            Some(_) => {}
                        }
                    }
                    result.push(c);
                }
            }
        }
    }

    /// `<<` of a heredoc takes the blanks after it along, so that it and its name are one word.
    fn heredoc_mark(&mut self) -> String {
        self.next();
        if self.peek() != Some('<') {
            return "<".to_owned();
        }
        self.next();
        let mut text = "<<".to_owned();
        while let Some(c) = self.peek().filter(|c| matches!(c, '\t' | '\r' | ' ')) {
            text.push(c);
            self.next();
        }
        text
    }

    fn dollar(&mut self) -> Result<String, WordProblem> {
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.lookup(&name) {
                Some(value) => value,
                None if self.lexer.skip_unset_env => format!("${name}"),
                None => String::new(),
            });
        }
        self.next();
        match self.peek() {
            None => return Err(WordProblem::MissingBrace),
            Some('{' | '}' | ':') => return Err(WordProblem::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            Some('}') => Ok(match self.lookup(&name) {
                Some(value) => value,
                None if self.lexer.skip_unset_env => format!("${{{name}}}"),
                None => String::new(),
            }),
            Some('/') => self.replace(&name),
            Some(':') => {
                let modifier = self.next();
                self.modified(&name, modifier, true)
            }
            other => self.modified(&name, other, false),
        }
    }

    /// `${name-word}` and its kin; with `colon` an empty value counts as unset.
    fn modified(&mut self, name: &str, modifier: Option<char>, colon: bool) -> Result<String, WordProblem> {
        let shown = modifier.unwrap_or(char::REPLACEMENT_CHARACTER);
        let marks = if colon { format!(":{shown}") } else { shown.to_string() };
        let is_trim = matches!(modifier, Some('#' | '%'));
        // After a colon any character is taken at first, and refused once the word is read.
        if colon && is_trim || !colon && !is_trim && !matches!(modifier, Some('+' | '-' | '?')) {
            return Err(WordProblem::Modifier(marks));
        }
        let (word, _) =
            self.until(Some('}'), is_trim).map_err(|e| self.at_end(e, WordProblem::MissingBrace))?;
        let value = self.lookup(name);
        if self.lexer.skip_unset_env && value.is_none() {
            return Ok(format!("${{{name}{marks}{word}}}"));
        }
        // What counts as absent: unset, and with a colon also empty.
        let present = value.as_deref().filter(|v| !colon || !v.is_empty());
        match modifier {
            Some('-') => Ok(present.map_or(word, str::to_owned)),
            Some('+') => Ok(present.map_or_else(String::new, |_| word)),
            Some('?') => present.map(str::to_owned).ok_or_else(|| WordProblem::Required {
                name: name.to_owned(),
                message: match (&value, word.is_empty()) {
                    (_, false) => word,
                    (None, true) => "is not allowed to be unset".to_owned(),
                    (Some(_), true) => "is not allowed to be empty".to_owned(),
                },
            }),
            Some(side @ ('#' | '%')) => {
                let (pattern, greedy) = match word.strip_prefix(side) {
                    Some(pattern) => (pattern, true),
                    None => (word.as_str(), false),
                };
                let value = value.unwrap_or_default();
                if side == '#' {
                    pattern::trim_prefix(pattern, value, greedy)
                } else {
                    pattern::trim_suffix(pattern, &value, greedy)
                }
            }
            _ => Err(WordProblem::Modifier(marks)),
        }
    }

    /// `${name/pattern/replacement}` and `${name//pattern/replacement}`.
    fn replace(&mut self, name: &str) -> Result<String, WordProblem> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let (pattern, _) =
            self.until(Some('/'), true).map_err(|e| self.at_end(e, WordProblem::MissingSlash))?;
        let (replacement, _) =
            self.until(Some('}'), true).map_err(|e| self.at_end(e, WordProblem::MissingBrace))?;
        match self.lookup(name) {
            None if self.lexer.skip_unset_env => Ok(format!("${{{name}/{pattern}/{replacement}}}")),
            value => pattern::replace(&pattern, &value.unwrap_or_default(), &replacement, all),
        }
    }

    /// At the end of the text any error means that something was not closed.
    fn at_end(&self, error: WordProblem, missing: WordProblem) -> WordProblem {
        match error {
            WordProblem::TooDeep | WordProblem::TooLarge => error,
            _ if self.rest.as_str().is_empty() => missing,
            _ => error,
        }
    }

    /// A name: letters, digits and `_`; or one special character; or, starting with a digit, digits alone.
    fn name(&mut self) -> String {
        let text = self.rest.as_str();
        let len = match self.peek() {
            Some(c) if is_digit(c) => text.find(|c| !is_digit(c)).unwrap_or(text.len()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => text.find(|c| c != '_' && !is_letter(c) && !is_digit(c)).unwrap_or(text.len()),
        };
        let (name, rest) = text.split_at(len);
        self.rest = rest.chars();
        name.to_owned()
    }

    fn lookup(&mut self, name: &str) -> Option<String> {
        let value = self.env.get(name).map(str::to_owned);
        // Names are kept for the callers of whole words alone; BuildKit keeps none where it splits.
        if !self.split {
            let names = if value.is_some() { &mut self.matched } else { &mut self.unmatched };
            if !names.contains(name) {
                names.insert(name.to_owned());
            }
        }
        value
    }
}

/// Category L.
fn is_letter(c: char) -> bool {
    static LETTER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\p{L}$").ok());
    if c.is_ascii() { c.is_ascii_alphabetic() } else { in_class(&LETTER, c) }
}

/// Category Nd.
fn is_digit(c: char) -> bool {
    static DIGIT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\p{Nd}$").ok());
    if c.is_ascii() { c.is_ascii_digit() } else { in_class(&DIGIT, c) }
}

fn in_class(class: &Option<Regex>, c: char) -> bool {
    class.as_ref().is_some_and(|class| class.is_match(c.encode_utf8(&mut [0; 4])))
}
