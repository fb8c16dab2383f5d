//! Shell words as BuildKit expands them: quotes, escapes, `$name` and the `${...}` forms.
//!
//! The grammar is near to, but not, that of a POSIX shell: there is no command substitution, arithmetic or globbing,
//! an unknown variable is empty, and the escape character follows the `# escape=` directive.

mod lexer;
mod pattern;

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Largest result of one word, in bytes. A few lines of `ENV A=$A$A` would otherwise fill the memory.
const MAX_RESULT: usize = 16 << 20;

/// Deepest nesting of `${a:-${b:-...}}`. The parser recurses, and no person writes more than three.
const MAX_DEPTH: usize = 128;

/// Where variables come from.
pub trait Env {
    /// The value of a variable, if it is set.
    fn get(&self, name: &str) -> Option<&str>;
}

/// No variable is set.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptyEnv;

impl Env for EmptyEnv {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

impl Env for HashMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

impl Env for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// A list of `NAME=value` texts; of a repeated name the last counts. One without an equals sign is set and empty.
impl Env for [String] {
    fn get(&self, name: &str) -> Option<&str> {
        self.iter().rev().find_map(|entry| {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            (key == name).then_some(value)
        })
    }
}

impl Env for Vec<String> {
    fn get(&self, name: &str) -> Option<&str> {
        Env::get(self.as_slice(), name)
    }
}

/// Expands words.
///
/// ```
/// use cooper_dockerfile::shell::Lexer;
/// let env = vec!["NAME=cooper".to_owned()];
/// let word = Lexer::new('\\').process_word(r#""$NAME"-${VERSION:-1.0}"#, &env)?;
/// assert_eq!(word.text, "cooper-1.0");
/// assert!(word.matched.contains("NAME") && word.unmatched.contains("VERSION"));
/// # Ok::<(), cooper_dockerfile::shell::WordError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lexer {
    /// The escape character: a backslash, or a backtick by directive.
    pub escape: char,
    /// Keep quotes in the result.
    pub raw_quotes: bool,
    /// Keep escape characters in the result.
    pub raw_escapes: bool,
    /// Treat quotes as ordinary characters, so that variables between single quotes are expanded too.
    pub skip_process_quotes: bool,
    /// Leave variables that are not set as they stand.
    pub skip_unset_env: bool,
}

/// A word after expansion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The result.
    pub text: String,
    /// Variables that were looked at and set.
    pub matched: BTreeSet<String>,
    /// Variables that were looked at and not set.
    pub unmatched: BTreeSet<String>,
}

impl Lexer {
    /// A lexer with an escape character and no option.
    pub fn new(escape: char) -> Self {
        Lexer {
            escape,
            raw_quotes: false,
            raw_escapes: false,
            skip_process_quotes: false,
            skip_unset_env: false,
        }
    }

    /// Expands a text as one word; blanks in it stay.
    ///
    /// # Errors
    /// Unbalanced quotes or braces, unknown modifiers, `${v:?message}` of an unset variable.
    pub fn process_word(&self, word: &str, env: &(impl Env + ?Sized)) -> Result<Expansion, WordError> {
        let mut state = lexer::State::new(self, word, env, false);
        match state.run() {
            Ok((text, _)) => Ok(Expansion { text, matched: state.matched, unmatched: state.unmatched }),
            Err(problem) => Err(WordError {
                word: word.into(),
                problem,
                seen: Box::new(Seen { matched: state.matched, unmatched: state.unmatched }),
            }),
        }
    }

    /// Expands a text and splits it at blanks outside of quotes; values of variables are split too.
    ///
    /// # Errors
    /// As [`Lexer::process_word`].
    pub fn process_words(&self, word: &str, env: &(impl Env + ?Sized)) -> Result<Vec<String>, WordError> {
        let mut state = lexer::State::new(self, word, env, true);
        state.run().map(|(_, words)| words).map_err(|problem| WordError {
            word: word.into(),
            problem,
            seen: Box::default(),
        })
    }
}

/// A word that cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {}: {problem}", crate::quote::go_quote(word.as_bytes()))]
pub struct WordError {
    /// The whole word.
    pub word: Box<str>,
    /// What is wrong with it.
    pub problem: WordProblem,
    /// What was looked at before the fault.
    pub seen: Box<Seen>,
}

/// Variables that an expansion looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Those that were set.
    pub matched: BTreeSet<String>,
    /// Those that were not set.
    pub unmatched: BTreeSet<String>,
}

/// What is wrong with a word, in BuildKit's texts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordProblem {
    /// The end came before a closing quote.
    #[error("unexpected end of statement while looking for matching {0}")]
    Unterminated(&'static str),
    /// The end came before a closing brace.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// The end came before the second slash of `${v/p/r}`.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}`, `${:...}` or `${{...}`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// A character after the name that says nothing.
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    /// `${v:?message}` or `${v?message}` of a variable that must be set.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the Dockerfile says about it.
        message: String,
    },
    /// A pattern with an escape that means nothing.
    #[error("invalid pattern ({pattern}) in substitution: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More nested substitutions than are read.
    #[error("substitutions are nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A result of more bytes than are made.
    #[error("the expanded word is larger than {MAX_RESULT} bytes")]
    TooLarge,
}
