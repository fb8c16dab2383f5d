//! How the inside of a conversion ends early: with a failure, or for want of answers.

use std::sync::Arc;

use cooper_dockerfile::shell::WordError;
use cooper_dockerfile::{Lines, Span};

use crate::error::{Error, LineRange, SourceText};

/// Why a part of the conversion cannot go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// An answer is missing; the questions are noted.
    Missing,
    /// It can never succeed.
    Failed(Box<Failure>),
}

/// A failure while its places are still being collected, innermost first.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
    /// One entry a level; an entry without lines is a place that the text does not name.
    pub(crate) places: Vec<Vec<LineRange>>,
    /// Where to look although BuildKit names no place.
    pub(crate) near: Option<LineRange>,
    /// Bytes at fault.
    pub(crate) span: Option<Span>,
}

pub(crate) type Step<T> = Result<T, Stop>;

/// Fails with a message.
pub(crate) fn fail(message: impl Into<String>) -> Stop {
    Stop::Failed(Box::new(Failure {
        message: message.into(),
        suggestion: None,
        places: Vec::new(),
        near: None,
        span: None,
    }))
}

impl Stop {
    /// Puts a context in front of the message.
    pub(crate) fn context(mut self, context: impl std::fmt::Display) -> Stop {
        if let Stop::Failed(failure) = &mut self {
            failure.message = format!("{context}: {}", failure.message);
        }
        self
    }

    /// Adds a place.
    pub(crate) fn at(mut self, lines: &[LineRange]) -> Stop {
        if let Stop::Failed(failure) = &mut self {
            failure.places.push(lines.to_vec());
        }
        self
    }

    /// Says where to look if no place is added: for failures to which BuildKit adds none.
    pub(crate) fn near(mut self, lines: LineRange) -> Stop {
        if let Stop::Failed(failure) = &mut self {
            failure.near.get_or_insert(lines);
        }
        self
    }

    /// Replaces all places by one.
    pub(crate) fn only_at(mut self, lines: &[LineRange]) -> Stop {
        if let Stop::Failed(failure) = &mut self {
            failure.places = vec![lines.to_vec()];
            // It was a place in another text.
            failure.span = None;
        }
        self
    }

    /// Adds what was probably meant.
    pub(crate) fn suggest(mut self, name: Option<String>) -> Stop {
        if let (Stop::Failed(failure), Some(_)) = (&mut self, &name) {
            failure.suggestion = name;
        }
        self
    }
}

impl From<WordError> for Stop {
    fn from(error: WordError) -> Stop {
        fail(error.to_string())
    }
}

impl From<cooper_dockerfile::Problem> for Stop {
    fn from(problem: cooper_dockerfile::Problem) -> Stop {
        fail(problem.to_string())
    }
}

impl From<cooper_dockerfile::Error> for Stop {
    fn from(error: cooper_dockerfile::Error) -> Stop {
        let mut stop = fail(error.to_string()).at(&[error.lines.into()]);
        if let Stop::Failed(failure) = &mut stop {
            failure.span = error.span;
        }
        stop
    }
}

impl From<Lines> for LineRange {
    fn from(lines: Lines) -> LineRange {
        LineRange { start: lines.start, end: lines.end }
    }
}

impl Failure {
    /// The error as the caller sees it.
    pub(crate) fn into_error(self, source: Option<&Arc<SourceText>>) -> Error {
        let (message, suggestion) = match self.suggestion {
            Some(name) => (self.message, Some(name)),
            None => split_suggestion(self.message),
        };
        Error {
            message,
            suggestion,
            lines: self.places.concat(),
            source: source.cloned(),
            near: self.near,
            span: self.span.map(Box::new),
        }
    }
}

/// Takes a trailing ` (did you mean X?)` off a message that came with one.
fn split_suggestion(message: String) -> (String, Option<String>) {
    let found = message.rsplit_once(" (did you mean ").and_then(|(front, name)| {
        let name = name.strip_suffix("?)")?;
        (!name.contains("?)")).then(|| (front.to_owned(), name.to_owned()))
    });
    match found {
        Some((message, name)) => (message, Some(name)),
        None => (message, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_taken_apart() {
        let error = Failure {
            message: "no `x` (did you mean y?)".into(),
            suggestion: None,
            places: vec![],
            near: None,
            span: None,
        }
        .into_error(None);
        assert_eq!((error.message.as_str(), error.suggestion.as_deref()), ("no `x`", Some("y")));
        assert_eq!(error.to_string(), "no `x` (did you mean y?)");
        assert_eq!(split_suggestion("plain".into()), ("plain".into(), None));
    }
}
