//! Questions about a Dockerfile that need no graph: what the checks find, what a target takes, which targets there are.
//!
//! They are BuildKit's subrequests `frontend.lint`, `frontend.outline` and `frontend.targets`, and are answered as
//! [`convert`](crate::convert) is: they may ask first, and are called again with the answers.

use std::sync::Arc;

use cooper_dockerfile::instruction;

use crate::asker::Asker;
use crate::built::Warning;
use crate::context::Inputs;
use crate::conversion::{self, Purpose, Text};
use crate::error::{Error, SourceText};
use crate::failure::{Step, Stop, fail};
use crate::options::Options;
use crate::outline::{Outline, Target};
use crate::request::{Answers, Ask, Request};

/// The answer to a question about a Dockerfile, or what must be known first.
#[derive(Clone, Debug, PartialEq)]
pub enum Answered<T> {
    /// These questions have to be answered first; then call again with all answers.
    Missing(Vec<Ask>),
    /// The answer, and the Dockerfile that it is about.
    Done(T, Arc<SourceText>),
}

/// What the build checks find in all stages, or in those that a target needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Lint {
    /// Everything that was found up to the error, in order.
    pub warnings: Vec<Warning>,
    /// What makes the build impossible, if something does.
    pub error: Option<Error>,
}

/// Runs the build checks.
///
/// # Errors
///
/// Where the options or the Dockerfile cannot be read; what is wrong *in* the Dockerfile is part of the answer.
pub fn lint(request: &Request, answers: &Answers) -> Result<Answered<Lint>, Error> {
    answered(request, answers, |options, asker, inputs| {
        let text = text(inputs, Purpose::Lint);
        let (result, warnings) = conversion::inspect(options, &request.session, asker, &text);
        let error = match result {
            Ok(_) => None,
            Err(Stop::Missing) => return Err(Stop::Missing),
            Err(Stop::Failed(failure)) => Some(failure.into_error(Some(&inputs.source))),
        };
        Ok(Lint { warnings, error })
    })
}

/// Lists what a target takes from outside.
///
/// # Errors
///
/// Those of [`convert`](crate::convert) up to the graph.
pub fn outline(request: &Request, answers: &Answers) -> Result<Answered<Outline>, Error> {
    answered(request, answers, |options, asker, inputs| {
        let text = text(inputs, Purpose::Outline);
        conversion::inspect(options, &request.session, asker, &text).0
    })
}

/// Lists the stages that can be built.
///
/// # Errors
///
/// Where the Dockerfile or one of its instructions cannot be read.
pub fn targets(request: &Request, answers: &Answers) -> Result<Answered<Vec<Target>>, Error> {
    answered(request, answers, |_, _, inputs| {
        let file = cooper_dockerfile::parse(&inputs.source.text)?;
        Ok(Target::list(&instruction::parse(&file.nodes)?.stages))
    })
}

fn text<'a>(inputs: &'a Inputs, purpose: Purpose) -> Text<'a> {
    Text { inputs, parsed: cooper_dockerfile::parse(&inputs.source.text), purpose }
}

fn answered<T>(
    request: &Request,
    answers: &Answers,
    find: impl FnOnce(&Options, &Asker<'_>, &Inputs) -> Step<T>,
) -> Result<Answered<T>, Error> {
    let asker = Asker::new(answers);
    let mut source = None;
    let result = Options::parse(request).map_err(fail).and_then(|options| {
        let inputs = Inputs::load(&options, &request.session, &asker)?;
        source = Some(Arc::clone(&inputs.source));
        Ok((find(&options, &asker, &inputs)?, inputs.source))
    });
    match result {
        Ok((found, source)) => Ok(Answered::Done(found, source)),
        Err(Stop::Missing) => Ok(Answered::Missing(asker.into_missing())),
        Err(Stop::Failed(failure)) => Err(failure.into_error(source.as_ref())),
    }
}
