//! Flags of an instruction: `--name`, `--name=value`.

use super::suggest::suggest;
use crate::error::Problem;
use crate::node::Word;
use crate::position::Span;

/// A problem, and the word at fault where it is known.
pub(super) struct Fault {
    pub(super) problem: Problem,
    pub(super) span: Option<Span>,
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Fault { problem, span: None }
    }
}

/// The one flag that BuildKit does not have. It is not suggested, as the texts of errors are BuildKit's.
pub(super) const IF_EXISTS: &str = "if-exists";

/// How a flag takes its value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FlagType {
    /// `--name`, `--name=true`, `--name=false`
    Bool,
    /// `--name=value`, once
    String,
    /// `--name=value`, any number of times
    Strings,
}

/// Flags that were written, checked against those that exist.
pub(super) struct Flags<'a> {
    /// Name, value and place of each, in order.
    values: Vec<(&'a str, &'a str, Span)>,
}

impl<'a> Flags<'a> {
    /// Checks the written flags; `known` is in the order in which one is suggested for a misspelt name.
    pub(super) fn parse(words: &'a [Word], known: &[(&'static str, FlagType)]) -> Result<Self, Fault> {
        let mut flags = Flags { values: Vec::new() };
        for word in words {
            if word.text == "--" {
                break;
            }
            flags.add(word, known).map_err(|problem| Fault { problem, span: Some(word.span) })?;
        }
        Ok(flags)
    }

    fn add(&mut self, word: &'a Word, known: &[(&'static str, FlagType)]) -> Result<(), Problem> {
        let Some(text) = word.text.strip_prefix("--") else {
            return Err(Problem::NotAFlag(word.text.clone()));
        };
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let dashed = || format!("--{name}");
        let Some((_, kind)) = known.iter().find(|(known, _)| *known == name) else {
            let names = known.iter().map(|(name, _)| *name).filter(|name| *name != IF_EXISTS);
            let names: Vec<&str> = names.collect();
            return Err(Problem::UnknownFlag { name: dashed(), hint: suggest(name, &names, true) });
        };
        // Repeatable flags alone can make the list long, and they are not looked for.
        if *kind != FlagType::Strings && self.get(name).is_some() {
            return Err(Problem::RepeatedFlag(dashed()));
        }
        let value = match (kind, value) {
            (FlagType::Bool, None) => "true",
            (FlagType::Bool, Some("")) | (FlagType::String | FlagType::Strings, None) => {
                return Err(Problem::FlagWithoutValue(dashed()));
            }
            (FlagType::Bool, Some(value)) => match value.to_lowercase().as_str() {
                "true" => "true",
                "false" => "false",
                _ => return Err(Problem::FlagNotBoolean { flag: dashed(), value: value.to_owned() }),
            },
            (FlagType::String | FlagType::Strings, Some(value)) => value,
        };
        self.values.push((name, value, word.span));
        Ok(())
    }

    /// Value of a flag that can be written once; empty if it was not.
    pub(super) fn string(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    /// Value of a flag that can be written once, if it was.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.values.iter().find(|(n, ..)| *n == name).map(|(_, value, _)| *value)
    }

    /// Value of a boolean flag, if it was written.
    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| value == "true")
    }

    /// Values of a flag that can be repeated.
    pub(super) fn strings(&self, name: &str) -> Vec<String> {
        self.values.iter().filter(|(n, ..)| *n == name).map(|(_, value, _)| (*value).to_owned()).collect()
    }

    /// Names that were written, each once, in order.
    pub(super) fn used(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (name, ..) in &self.values {
            if !names.iter().any(|n| n == name) {
                names.push((*name).to_owned());
            }
        }
        names
    }

    /// Reads the values of a flag with a syntax of its own; a fault names the flag.
    pub(super) fn read<T>(
        &self,
        name: &str,
        read: impl Fn(&'a str) -> Result<T, Problem>,
    ) -> Result<Vec<T>, Fault> {
        let values = self.values.iter().filter(|(n, ..)| *n == name);
        values
            .map(|(_, value, span)| read(value).map_err(|problem| Fault { problem, span: Some(*span) }))
            .collect()
    }
}
