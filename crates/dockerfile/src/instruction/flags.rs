//! Flags of an instruction: `--name`, `--name=value`.

use super::suggest::suggest;
use crate::error::Problem;
use crate::node::Word;

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
    /// Name and value of each, in order.
    values: Vec<(&'a str, &'a str)>,
}

impl<'a> Flags<'a> {
    /// Checks the written flags; `known` is in the order in which one is suggested for a misspelt name.
    pub(super) fn parse(words: &'a [Word], known: &[(&'static str, FlagType)]) -> Result<Self, Problem> {
        let mut values: Vec<(&str, &str)> = Vec::new();
        for word in words {
            let word = word.text.as_str();
            if word == "--" {
                break;
            }
            let Some(text) = word.strip_prefix("--") else {
                return Err(Problem::NotAFlag(word.to_owned()));
            };
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (text, None),
            };
            let dashed = || format!("--{name}");
            let Some((_, kind)) = known.iter().find(|(known, _)| *known == name) else {
                let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                return Err(Problem::UnknownFlag { name: dashed(), hint: suggest(name, &names, true) });
            };
            // At most a handful of flags exist, so only repeatable ones can make this list long.
            if *kind != FlagType::Strings && values.iter().any(|(known, _)| *known == name) {
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
            values.push((name, value));
        }
        Ok(Flags { values })
    }

    /// Value of a flag that can be written once; empty if it was not.
    pub(super) fn string(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    /// Value of a flag that can be written once, if it was.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.values.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }

    /// Value of a boolean flag, if it was written.
    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| value == "true")
    }

    /// Values of a flag that can be repeated.
    pub(super) fn strings(&self, name: &str) -> Vec<String> {
        self.values.iter().filter(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()).collect()
    }

    /// Names that were written, each once, in order.
    pub(super) fn used(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (name, _) in &self.values {
            if !names.iter().any(|n| n == name) {
                names.push((*name).to_owned());
            }
        }
        names
    }
}
