//! Answering the frontend: files of folders, configurations of images, all of a round at the same time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cooper_frontend::{
    Answered, Answers, Ask, Built, FileQuestion, ImageQuestion, LineRange, Outcome, Request, ResolvedImage,
    SourceText, Warning, check, detect_syntax, is_built_in,
};
use cooper_llb::{Graph, Op, decode_definition};
use cooper_oci::{Digest, Platform, Timestamp};

use crate::error::Error;
use crate::events::Events;
use crate::job::Engine;
use crate::remote;
use crate::sources::Sources;

/// A frontend asks for the Dockerfile, then for its ignore file, then for images; more rounds than this are a defect.
const ROUNDS: usize = 32;

/// Converts the Dockerfile, answering whatever is asked.
pub(crate) async fn converted(
    engine: &Engine,
    request: &Request,
    sources: &Arc<Sources>,
    events: &Arc<Events>,
) -> Result<Box<Built>, Error> {
    let convert = |request: &Request, answers: &Answers| {
        let checked = check(request, answers);
        let outcome = checked.outcome.map(|outcome| match outcome {
            Outcome::Missing(asks) => Answered::Missing(asks),
            Outcome::Done(built) => {
                let source = built.source.clone();
                Answered::Done(built, source)
            }
        });
        (outcome, checked.warnings)
    };
    Ok(rounds(engine, request, convert, sources, events).await?.0)
}

/// Asks something about the Dockerfile, answering whatever is asked back.
pub(crate) async fn answered<T>(
    engine: &Engine,
    request: &Request,
    ask: impl Fn(&Request, &Answers) -> Result<Answered<T>, cooper_frontend::Error>,
    sources: &Arc<Sources>,
    events: &Arc<Events>,
) -> Result<(T, Arc<SourceText>), Error> {
    rounds(engine, request, |request, answers| (ask(request, answers), Vec::new()), sources, events).await
}

/// Asks until there is an answer; the warnings are told if it is a failure, for they may be the reason.
async fn rounds<T>(
    engine: &Engine,
    request: &Request,
    ask: impl Fn(&Request, &Answers) -> (Result<Answered<T>, cooper_frontend::Error>, Vec<Warning>),
    sources: &Arc<Sources>,
    events: &Arc<Events>,
) -> Result<(T, Arc<SourceText>), Error> {
    let mut answers = Answers::default();
    for _ in 0..ROUNDS {
        let (outcome, warnings) = ask(request, &answers);
        match outcome {
            Err(error) if sources.unreachable.load(Ordering::Relaxed) => {
                return Err(Error::Unreachable(error));
            }
            Err(error) => {
                // What another frontend would read well is no error of this one's.
                syntax(error.source.as_ref(), None)?;
                for warning in &warnings {
                    events.warning(warning, error.source.as_deref());
                }
                return Err(error.into());
            }
            Ok(Answered::Done(found, source)) => {
                syntax(Some(&source), Some(events))?;
                return Ok((found, source));
            }
            Ok(Answered::Missing(asks)) => answer(engine, asks, &mut answers, sources, events).await?,
        }
    }
    Err(Error::Unsupported("a frontend that never has enough answers".into()))
}

/// Refuses a Dockerfile that names a language which is not the built-in one, and tells of one that is.
///
/// Any version of `docker/dockerfile` is taken as built in; what a later one adds is an error where it is used.
fn syntax(source: Option<&Arc<SourceText>>, events: Option<&Arc<Events>>) -> Result<(), Error> {
    let Some(source) = source else { return Ok(()) };
    let Some(directive) = detect_syntax(&source.text) else { return Ok(()) };
    let image = directive.value.split_whitespace().next().unwrap_or_default();
    if is_built_in(image) {
        if let Some(events) = events {
            let name = format!("[internal] syntax {image} is built in, nothing is fetched");
            let vertex = Digest::of(&name);
            events.internal(vertex, &name);
            events.completed(vertex, false, None);
        }
        return Ok(());
    }
    Err(Error::Frontend(cooper_frontend::Error {
        message: format!(
            "the syntax `{image}` is another frontend; built in is docker/dockerfile: remove the line, or build with BuildKit"
        ),
        suggestion: None,
        lines: vec![LineRange { start: directive.line, end: directive.line }],
        near: None,
        span: Some(Box::new(directive.span)),
        source: Some(source.clone()),
    }))
}

async fn answer(
    engine: &Engine,
    asks: Vec<Ask>,
    answers: &mut Answers,
    sources: &Arc<Sources>,
    events: &Arc<Events>,
) -> Result<(), Error> {
    let mut images = tokio::task::JoinSet::new();
    // What cannot be read for one question cannot be for the next.
    let mut unreadable: Option<(Vec<u8>, String)> = None;
    for ask in asks {
        match ask {
            Ask::File { question, .. } => {
                let answer = match &unreadable {
                    Some((definition, error)) if *definition == question.definition => Err(error.clone()),
                    _ => read(engine, &question, sources, events).await,
                };
                if let Err(error) = &answer {
                    unreadable = Some((question.definition.clone(), error.clone()));
                }
                answers.files.insert(question, answer);
            }
            Ask::Image { question, name } => {
                let (sources, events) = (sources.clone(), events.clone());
                images.spawn(async move {
                    let vertex = Digest::of(&name);
                    events.internal(vertex, &name);
                    let answer = image(&question, &sources).await;
                    events.completed(vertex, false, answer.as_ref().err().cloned());
                    (question, answer)
                });
            }
            Ask::Source { question, .. } => {
                let text = format!("source `{}` is not supported yet", question.identifier);
                answers.sources.insert(question, Err(text));
            }
        }
    }
    while let Some(done) = images.join_next().await {
        let (question, answer) = done.map_err(|_| Error::Panicked)?;
        answers.images.insert(question, answer);
    }
    Ok(())
}

async fn image(question: &ImageQuestion, sources: &Sources) -> Result<ResolvedImage, String> {
    let layout = question.layout.as_ref().map(|layout| Some(layout.store.as_str()));
    let name = sources.image_name(&question.reference, layout).map_err(|error| error.to_string())?;
    let platform = question.platform.clone().unwrap_or_else(Platform::host);
    match sources.images.resolve(&name, &platform).await {
        Ok(image) => Ok(ResolvedImage {
            reference: question.reference.clone(),
            digest: Some(image.digest),
            config: image.config,
        }),
        Err(error) => {
            if error.is_unreachable() {
                sources.unreachable.store(true, Ordering::Relaxed);
            }
            Err(chain(&error))
        }
    }
}

/// Reads a file of a local source, or of whatever a graph stands for.
async fn read(
    engine: &Engine,
    question: &FileQuestion,
    sources: &Arc<Sources>,
    events: &Arc<Events>,
) -> Result<Option<Vec<u8>>, String> {
    let graph = decode_definition(&question.definition).and_then(|definition| Graph::new(&definition));
    let graph = graph.map_err(|error| chain(&error))?;
    if let [vertex] = graph.vertices.as_slice()
        && let Op::Source(source) = &vertex.op
        && let Some(name) = source.identifier.strip_prefix("local://")
    {
        return in_folder(name, question, sources);
    }
    let read = remote::file(engine, question, sources, events).await;
    read.map_err(|error| {
        if error.is_unreachable() {
            sources.unreachable.store(true, Ordering::Relaxed);
        }
        match &error {
            Error::Step { error, .. } => chain(error),
            error => chain(error),
        }
    })
}

fn in_folder(name: &str, question: &FileQuestion, sources: &Sources) -> Result<Option<Vec<u8>>, String> {
    let folder =
        sources.folders.get(name).ok_or_else(|| format!("nobody offers the local source `{name}`"))?;
    let path = folder.join(question.path.trim_start_matches('/'));
    match std::fs::read(&path) {
        Ok(mut bytes) => {
            if let Some(limit) = question.limit {
                bytes.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            }
            Ok(Some(bytes))
        }
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(format!("cannot read `{}`: {error}", path.display())),
    }
}

/// Writes an error with its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Returns the time by the system's clock.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let nanos = i128::try_from(since.as_nanos()).unwrap_or_default();
    Timestamp::from_unix_nanos(nanos).unwrap_or(Timestamp::EPOCH)
}
