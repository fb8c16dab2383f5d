//! Converts a Dockerfile into LLB and an image configuration, as a pure function that is asked again with more answers.
//!
//! It holds what BuildKit's Dockerfile frontend decides: where the Dockerfile and `.dockerignore` come from, platforms,
//! arguments and their scopes, stages and named contexts, base images, the graph of every instruction, the image
//! configuration and its history. Text is read by `cooper-dockerfile`, graphs are made by `cooper-llb`; who reads files
//! and asks registries is nobody's business here: questions go out as [`Ask`]s and come back as [`Answers`].
//!
//! ```
//! use cooper_frontend::{Answers, Ask, Outcome, Request, convert};
//!
//! let request = Request::default();
//! let mut answers = Answers::default();
//! let built = loop {
//!     match convert(&request, &answers)? {
//!         Outcome::Done(built) => break built,
//!         Outcome::Missing(asks) => {
//!             for ask in asks {
//!                 let Ask::File { question, .. } = ask else { unreachable!("no image is needed") };
//!                 let text = (question.path == "Dockerfile").then(|| b"FROM scratch\nCOPY a /\n".to_vec());
//!                 answers.files.insert(question, Ok(text));
//!             }
//!         }
//!     }
//! };
//! assert_eq!(built.platforms[0].steps[0].name, "[1/1] COPY a /");
//! # Ok::<(), cooper_frontend::Error>(())
//! ```

mod args;
mod asker;
mod built;
mod checks;
mod chmod;
mod context;
mod conversion;
mod copy;
mod dispatch;
mod env;
mod epoch;
mod error;
mod expose;
mod failure;
mod git;
mod gofmt;
mod graph;
mod image;
mod inspect;
mod lint;
mod mounts;
mod name;
mod named;
mod options;
mod outline;
mod path;
mod plan;
mod reference;
mod request;
mod resolve;
mod run;
mod signal;
mod stage;
mod suggest;

use asker::Asker;
use context::Inputs;
use conversion::{Purpose, Text};
use failure::Stop;
use options::Options;

/// Ignore patterns: what a source's `local.excludepatterns` mean to who reads the folder.
pub use cooper_dockerfile::{Span, detect_syntax, ignore};

pub use built::{Built, BuiltPlatform, Outcome, Step, UnknownArg, UnusedStage, Warning};
pub use error::{Error, LineRange, SourceText};
pub use inspect::{Answered, Lint, lint, outline, targets};
pub use outline::{Outline, OutlineArg, OutlineMount, Target};
pub use request::{
    Answers, Ask, FileQuestion, ImageQuestion, LayoutStore, Request, ResolveMode, ResolvedImage,
    SourceMetadata, SourceQuestion,
};
pub use suggest::nearest;

/// Whether an image is the frontend whose language is built in: any tag or digest of `docker/dockerfile`.
pub fn is_built_in(image: &str) -> bool {
    let name = cooper_oci::Reference::parse_normalized(image).map(|reference| reference.name());
    name.is_ok_and(|name| {
        matches!(&*name, "docker.io/docker/dockerfile" | "docker.io/docker/dockerfile-upstream")
    })
}

/// Converts the Dockerfile that `request` names, as far as `answers` allow.
///
/// The first call asks for the Dockerfile, later ones for the configurations of all base images at once. The caller adds
/// what was learnt to `answers` and calls again until the outcome is [`Outcome::Done`].
///
/// # Errors
///
/// Where the Dockerfile, the options or an answer make the build impossible; the error carries lines where there are any.
pub fn convert(request: &Request, answers: &Answers) -> Result<Outcome, Error> {
    check(request, answers).outcome
}

/// An outcome with what the build checks found on the way, also where the conversion failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// What [`convert`] gives.
    pub outcome: Result<Outcome, Error>,
    /// Everything that was found before the end.
    pub warnings: Vec<Warning>,
}

/// Does what [`convert`] does and gives the findings of the build checks even on failure.
pub fn check(request: &Request, answers: &Answers) -> Checked {
    let asker = Asker::new(answers);
    let mut warnings = Vec::new();
    let mut source = None;
    let result = build(request, &asker, &mut warnings, &mut source);
    let outcome = match result {
        Ok(built) => Ok(Outcome::Done(Box::new(built))),
        Err(Stop::Failed(failure)) => Err(failure.into_error(source.as_ref())),
        Err(Stop::Missing) => Ok(Outcome::Missing(asker.into_missing())),
    };
    Checked { outcome, warnings }
}

fn build(
    request: &Request,
    asker: &Asker<'_>,
    warnings: &mut Vec<Warning>,
    source: &mut Option<std::sync::Arc<SourceText>>,
) -> failure::Step<Built> {
    let options = Options::parse(request).map_err(failure::fail)?;
    let inputs = Inputs::load(&options, &request.session, asker)?;
    *source = Some(std::sync::Arc::clone(&inputs.source));
    let parsed = cooper_dockerfile::parse(&inputs.source.text);
    let purpose = if options.all_stages { Purpose::BuildAll } else { Purpose::Build };
    let text = Text { inputs: &inputs, parsed, purpose };
    let mut wanted: Vec<_> = options.target_platforms.iter().map(Some).collect();
    if wanted.is_empty() {
        wanted.push(None);
    }
    let mut platforms = Vec::new();
    let mut missing = false;
    for (index, platform) in wanted.into_iter().enumerate() {
        let (result, found) = conversion::run(&options, &request.session, asker, &text, platform, index);
        warnings.extend(found);
        match result {
            Ok(built) => platforms.push(built),
            // The other platforms ask for their images in the same round.
            Err(Stop::Missing) => missing = true,
            Err(stop) => return Err(stop),
        }
    }
    if missing {
        return Err(Stop::Missing);
    }
    Ok(Built {
        platforms,
        multi_platform: options.multi_platform,
        warnings: warnings.clone(),
        source: std::sync::Arc::clone(&inputs.source),
    })
}
