//! Converts a Dockerfile into LLB and an image configuration, as a pure function that is asked again with more answers.
//!
//! It holds what BuildKit's Dockerfile frontend decides: where the Dockerfile and `.dockerignore` come from, platforms,
//! arguments and their scopes, stages and named contexts, base images, the graph of every instruction, the image
//! configuration and its history. Text is read by `cooper-dockerfile`, graphs are made by `cooper-llb`; who reads files
//! and asks registries is nobody's business here: questions go out as [`Ask`]s and come back as [`Answers`].

mod built;
mod error;
mod request;

pub use built::{Built, BuiltPlatform, Outcome, Step, UnusedStage, Warning};
pub use error::{Error, LineRange, SourceText};
pub use request::{
    Answers, Ask, FileQuestion, ImageQuestion, LayoutStore, Request, ResolveMode, ResolvedImage,
    SourceMetadata, SourceQuestion,
};

/// Converts the Dockerfile that `request` names, as far as `answers` allow.
///
/// The first call asks for the Dockerfile, later ones for the configurations of all base images at once. The caller adds
/// what was learnt to `answers` and calls again until the outcome is [`Outcome::Done`].
///
/// # Errors
///
/// Where the Dockerfile, the options or an answer make the build impossible; the error carries lines where there are any.
pub fn convert(_request: &Request, _answers: &Answers) -> Result<Outcome, Error> {
    Err(Error {
        message: "the conversion is not written yet".to_owned(),
        suggestion: None,
        lines: Vec::new(),
        source: None,
    })
}
