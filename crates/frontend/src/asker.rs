//! Answers that are there, and questions that are still open.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::failure::{Step, Stop};
use crate::request::{
    Answers, Ask, FileQuestion, ImageQuestion, ResolvedImage, SourceMetadata, SourceQuestion,
};

/// Looks answers up and notes what is missing.
#[derive(Debug)]
pub(crate) struct Asker<'a> {
    answers: &'a Answers,
    missing: RefCell<BTreeSet<Ask>>,
}

impl<'a> Asker<'a> {
    pub(crate) fn new(answers: &'a Answers) -> Asker<'a> {
        Asker { answers, missing: RefCell::default() }
    }

    fn answer<T>(&self, found: Option<&'a T>, ask: impl FnOnce() -> Ask) -> Step<&'a T> {
        found.ok_or_else(|| {
            self.missing.borrow_mut().insert(ask());
            Stop::Missing
        })
    }

    /// The configuration of an image.
    pub(crate) fn image(
        &self,
        question: ImageQuestion,
        name: String,
    ) -> Step<Result<&'a ResolvedImage, &'a str>> {
        let found = self.answers.images.get(&question);
        self.answer(found, || Ask::Image { question, name })
            .map(|answer| answer.as_ref().map_err(String::as_str))
    }

    /// The content of a file; `None` if there is no such file.
    pub(crate) fn file(&self, question: FileQuestion, name: &str) -> Step<Result<Option<&'a [u8]>, &'a str>> {
        let found = self.answers.files.get(&question);
        self.answer(found, || Ask::File { question, name: name.to_owned() })
            .map(|answer| answer.as_ref().map(Option::as_deref).map_err(String::as_str))
    }

    /// What is known of a remote source.
    pub(crate) fn source(
        &self,
        question: SourceQuestion,
        name: String,
    ) -> Step<Result<&'a SourceMetadata, &'a str>> {
        let found = self.answers.sources.get(&question);
        self.answer(found, || Ask::Source { question, name })
            .map(|answer| answer.as_ref().map_err(String::as_str))
    }

    /// All questions that were asked in vain.
    pub(crate) fn into_missing(self) -> Vec<Ask> {
        self.missing.into_inner().into_iter().collect()
    }
}
