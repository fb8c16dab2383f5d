//! The one shape of every error: what failed on what, where, why, what to do; and its exit code.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use cooper_engine::{Error, FailedStep, StepError, StoreError, store_error};
use cooper_frontend::Span;

use crate::missing::{self, Missing, Roots};

/// Exit code for wrong usage.
pub(crate) const USAGE: u8 = 2;
/// Exit code where the build, or the check that was asked for, failed.
pub(crate) const FAILED: u8 = 1;
/// The environment is at fault: a runtime, the disk, the network.
const ENVIRONMENT: u8 = 3;

/// A line of more bytes than this is named and not shown: it would hide the message.
const LONG: usize = 2_000;

/// An error as a person sees it.
#[derive(Debug)]
pub(crate) struct Report {
    text: String,
    /// The exit code of the process.
    pub(crate) code: u8,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A flag or its value is wrong.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The checks found something, and it is printed already.
#[derive(Debug)]
pub(crate) struct Found;

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the checks found something")
    }
}

impl std::error::Error for Found {}

/// A step failed, with what is known only after the build: its Dockerfile and its log.
#[derive(Debug)]
pub(crate) struct FailedBuild {
    pub(crate) error: Error,
    /// Name and text of the Dockerfile.
    pub(crate) source: Option<(String, String)>,
    /// The last lines that the step printed, and how many there were.
    pub(crate) log: (Vec<String>, usize),
    /// The folders that the build read.
    pub(crate) roots: Roots,
}

impl fmt::Display for FailedBuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for FailedBuild {}

/// A place in a text, and what is said there.
struct Place<'a> {
    file: &'a str,
    text: &'a str,
    lines: (u32, u32),
    /// Bytes that are at fault within the lines.
    span: Option<Span>,
    note: String,
}

impl Place<'_> {
    /// Returns the bytes of the lines, and those at fault within them.
    fn bytes(&self) -> Option<(Range<usize>, Range<usize>)> {
        let exact = self.span.map(|span| span.start..span.end);
        let exact = exact.filter(|exact| !exact.is_empty() && self.text.get(exact.clone()).is_some());
        match (bytes_of(self.text, self.lines), exact) {
            (Some(lines), Some(exact)) if lines.start <= exact.start && exact.end <= lines.end => {
                Some((lines, exact))
            }
            (Some(lines), _) => Some((lines.clone(), lines)),
            // BuildKit counts some faults as being before the first line.
            (None, Some(exact)) => Some((exact.clone(), exact)),
            (None, None) => None,
        }
    }
}

impl Report {
    /// Decides how an error looks and which exit code it has.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        if let Some(failed) = error.downcast_ref::<FailedBuild>() {
            return Self::of_build(failed);
        }
        let code = match error {
            error if error.is::<Usage>() => USAGE,
            error if error.is::<crate::say::Unwritten>() => ENVIRONMENT,
            _ => FAILED,
        };
        let mut causes = error.chain().map(ToString::to_string);
        let title = causes.next().unwrap_or_default();
        Self { text: message(&title, None, &causes.collect::<Vec<_>>(), None), code }
    }

    fn of_build(failed: &FailedBuild) -> Self {
        match &failed.error {
            Error::Frontend(error) | Error::Unreachable(error) => {
                let unreachable = matches!(failed.error, Error::Unreachable(_));
                let owned;
                let place = match (&error.source, error.place()) {
                    (Some(source), Some(lines)) => {
                        owned = String::from_utf8_lossy(&source.text).into_owned();
                        let lines = (lines.start, lines.end);
                        Some(Place {
                            file: &source.name,
                            text: &owned,
                            lines,
                            span: error.span.as_deref().copied(),
                            note: String::new(),
                        })
                    }
                    _ => None,
                };
                let help = error.suggestion.as_ref().map(|name| {
                    // BuildKit's text has the name of a flag without its dashes.
                    let dashes = if error.message.contains("unknown flag: --") { "--" } else { "" };
                    format!("did you mean `{dashes}{name}`?")
                });
                let help = help.or_else(|| {
                    unreachable.then(|| {
                        "give the image by --build-context NAME=oci-layout://DIR, or a mirror in the configuration".to_owned()
                    })
                });
                let code = if unreachable { ENVIRONMENT } else { FAILED };
                Self { text: message(&error.message, place, &[], help), code }
            }
            Error::FailedStep(step) => Self::of_step(step, failed),
            Error::Cancelled => {
                let text = message("the build was interrupted", None, &[], None);
                Self { text, code: crate::signals::exit_code() }
            }
            error => {
                let code = match error {
                    Error::Environment(_) | Error::Store(_) | Error::Io { .. } => ENVIRONMENT,
                    Error::Source(source) if source.is_unreachable() => ENVIRONMENT,
                    Error::StoreGone(_) => ENVIRONMENT,
                    error if is_environment(error) || is_full(error) => ENVIRONMENT,
                    _ => FAILED,
                };
                let help = match error {
                    Error::Source(source) => source.hint(),
                    Error::StoreGone(_) => Some("run the build again: it makes a new one".to_owned()),
                    _ => None,
                };
                let help = help.or_else(|| store_error(error)?.hint());
                let mut causes = chain(error);
                let title = causes.remove(0);
                Self { text: message(&title, None, &causes, help), code }
            }
        }
    }

    fn of_step(step: &FailedStep, failed: &FailedBuild) -> Self {
        let what = if step.text.is_empty() { &step.name } else { &step.text };
        let title = match &*step.error {
            StepError::Exit { code, .. } => format!("`{what}` failed, exit code: {code}"),
            _ => format!("`{what}` failed"),
        };
        let place = match (&failed.source, step.lines.first()) {
            (Some((file, text)), Some(lines)) => {
                let note = step.stage.as_ref().map(|stage| format!("stage {stage}")).unwrap_or_default();
                Some(Place { file, text, lines: (lines.start, lines.end), span: None, note })
            }
            _ => None,
        };
        let mut notes = Vec::new();
        if !matches!(&*step.error, StepError::Exit { .. }) {
            notes.extend(chain(&*step.error));
        }
        let missing = match step.error.missing() {
            Some(path) => {
                let text = failed.source.as_ref().map_or("", |(_, text)| text);
                missing::explain(step, path, text, &failed.roots)
            }
            None => Missing::default(),
        };
        notes.extend(missing.notes);
        for other in step.places.iter().skip(1) {
            notes.push(format!("{other} is the same step"));
        }
        let (lines, count) = &failed.log;
        if !lines.is_empty() {
            let mut log = if lines.len() < *count {
                format!("the last {} of {count} lines that it printed:", lines.len())
            } else {
                "what it printed:".to_owned()
            };
            for line in lines {
                log.push_str("\n  ");
                log.push_str(line);
            }
            notes.push(log);
        }
        let help = match &*step.error {
            StepError::Executor(cooper_executor::StepError::NoRuntime { .. }) => {
                Some("install crun or runc, or name one with --runtime".to_owned())
            }
            StepError::Source(source) => source.hint(),
            _ => missing.help,
        };
        let help = help.or_else(|| store_error(&*step.error)?.hint());
        let code = match &*step.error {
            StepError::Executor(cooper_executor::StepError::NoRuntime { .. }) | StepError::Store(_) => {
                ENVIRONMENT
            }
            StepError::Source(source) if source.is_unreachable() => ENVIRONMENT,
            error if is_full(error) => ENVIRONMENT,
            _ => FAILED,
        };
        Self { text: message(&title, place, &notes, help), code }
    }
}

/// Tells whether a full disk or a closed pipe is behind an error.
fn is_environment(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{BrokenPipe, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let mut next = Some(error);
    while let Some(error) = next {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if matches!(kind, Some(BrokenPipe | QuotaExceeded | ReadOnlyFilesystem | StorageFull)) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Tells whether the store had no room left under its cap.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(store_error(error), Some(StoreError::Full { .. }))
}

/// Lists an error and its causes; a cause that is already said in the text above it is left out.
fn chain(error: &dyn std::error::Error) -> Vec<String> {
    let mut out = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if out.last().is_none_or(|last| !last.ends_with(&text)) {
            out.push(text);
        }
        next = cause.source();
    }
    out
}

/// Writes a finding of the build checks, with the lines that it is about.
pub(crate) fn warning(title: &str, url: &str, file: &str, text: &str, lines: (u32, u32)) -> String {
    let mut group =
        Level::WARNING.primary_title(title).elements(Vec::<annotate_snippets::Message<'_>>::new());
    if let Some(range) = bytes_of(text, lines) {
        let annotation = AnnotationKind::Primary.span(range);
        group = group.element(Snippet::source(text).line_start(1).path(file).annotation(annotation));
    }
    if !url.is_empty() {
        group = group.element(Level::NOTE.no_name().message(url));
    }
    let mut text = Renderer::plain().render(&[group]);
    text.push('\n');
    text
}

fn message(title: &str, place: Option<Place<'_>>, notes: &[String], help: Option<String>) -> String {
    let mut group = Level::ERROR.primary_title(title).elements(Vec::<annotate_snippets::Message<'_>>::new());
    if let Some(place) = &place
        && let Some((lines, exact)) = place.bytes()
    {
        if place.text.get(lines.clone()).is_some_and(|text| text.lines().any(|line| line.len() > LONG)) {
            group = group.element(Origin::path(place.file).line(place.lines.0 as usize));
        } else {
            let annotation = AnnotationKind::Primary.span(exact).label(place.note.as_str());
            let snippet = Snippet::source(place.text).line_start(1).path(place.file);
            group = group.element(snippet.annotation(annotation));
        }
    }
    for note in notes {
        group = group.element(Level::NOTE.no_name().message(note.as_str()));
    }
    if let Some(help) = &help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let mut text = Renderer::plain().render(&[group]);
    text.push('\n');
    text
}

/// Returns the bytes of lines in a text, without the last line's end.
fn bytes_of(text: &str, (first, last): (u32, u32)) -> Option<Range<usize>> {
    let mut start = None;
    let mut at = 0;
    for (number, line) in (1_u32..).zip(text.split_inclusive('\n')) {
        if number == first {
            start = Some(at);
        }
        at += line.len();
        if number == last {
            let end = at - (line.len() - line.trim_end_matches(['\n', '\r']).len());
            return start.map(|start| start..end);
        }
    }
    start.map(|start| start..text.len())
}

#[cfg(test)]
mod classes;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_to_bytes() {
        let text = "one\ntwo\r\nthree";
        for (lines, expected) in [
            ((1, 1), Some("one")),
            ((2, 2), Some("two")),
            ((2, 3), Some("two\r\nthree")),
            ((3, 9), Some("three")),
            ((9, 9), None),
        ] {
            assert_eq!(bytes_of(text, lines).map(|range| &text[range]), expected, "{lines:?}");
        }
    }

    #[test]
    fn shape_of_an_error() {
        let place = Place {
            file: "Dockerfile",
            text: "FROM a\nRUN make\n",
            lines: (2, 2),
            span: None,
            note: "stage build".into(),
        };
        let text = message(
            "`RUN make` failed, exit code: 2",
            Some(place),
            &["what it printed:\n  no".into()],
            Some("try".into()),
        );
        assert_eq!(
            text,
            "\
error: `RUN make` failed, exit code: 2
 --> Dockerfile:2:1
  |
2 | RUN make
  | ^^^^^^^^ stage build
  |
  = what it printed:
      no
  = help: try
"
        );
    }

    #[test]
    fn exit_codes() {
        let code = |error: anyhow::Error| Report::of(&error).code;
        let build =
            |error| FailedBuild { error, source: None, log: (Vec::new(), 0), roots: Roots::default() }.into();
        assert_eq!(code(Usage("x".into()).into()), 2);
        assert_eq!(code(anyhow::anyhow!("x")), 1);
        assert_eq!(code(build(Error::Cancelled)), 130);
        assert_eq!(code(build(Error::Environment("x".into()))), 3);
        assert_eq!(code(build(Error::Unsupported("x".into()))), 1);
    }
}
