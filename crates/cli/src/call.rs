//! `--call` and `--check`: questions about a Dockerfile instead of a build, answered as `docker buildx` prints them.

mod json;
mod text;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use cooper_engine::{Error, JobSpec};
use cooper_frontend::{Lint, Outline, SourceText, Target};

use crate::args::Build;
use crate::build::{self, Opened};
use crate::context::Inputs;
use crate::report::{Found, Usage};
use crate::say;
use crate::show::Show;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Check,
    Outline,
    Targets,
    Describe,
}

/// A `--call` that is not a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    method: Method,
    json: bool,
    /// Findings do not make the exit code 1.
    ignore_status: bool,
}

/// An answer.
enum Answer {
    Check(Lint),
    Outline(Outline),
    Targets(Vec<Target>),
}

/// The methods, as buildx lists them: name, version, description.
const METHODS: [(&str, &str, &str); 4] = [
    ("lint", "1.0.0", "Lint a Dockerfile"),
    ("outline", "1.0.0", "List all parameters current build target supports"),
    ("targets", "1.0.0", "List all targets current build supports"),
    ("subrequests.describe", "1.0.0", "List available subrequest types"),
];

impl Call {
    /// Reads the flags; `None` is a build.
    ///
    /// # Errors
    ///
    /// An unknown method or option, as wrong usage.
    pub(crate) fn of(args: &Build) -> Result<Option<Self>> {
        if args.check {
            return Ok(Some(Self { method: Method::Check, json: false, ignore_status: false }));
        }
        let usage = |what: String| anyhow::Error::from(Usage(format!("--call `{}`: {what}", args.call)));
        let (mut name, mut json, mut ignore_status) = (None, false, false);
        for field in args.call.split(',').map(str::trim) {
            match field.split_once('=') {
                None if name.is_some() => return Err(usage("more than one method".into())),
                None => name = Some(field),
                Some(("format", "json")) => json = true,
                Some(("format", "text" | "")) => json = false,
                Some(("format", other)) => {
                    return Err(usage(format!("there is no format `{other}` (there are: text, json)")));
                }
                Some(("ignorestatus", value)) => {
                    ignore_status = match value {
                        "1" | "t" | "T" | "true" | "True" | "TRUE" => true,
                        "0" | "f" | "F" | "false" | "False" | "FALSE" => false,
                        _ => return Err(usage(format!("ignorestatus `{value}` is neither true nor false"))),
                    };
                }
                Some((key, _)) => {
                    return Err(usage(format!(
                        "there is no option `{key}` (there are: format, ignorestatus)"
                    )));
                }
            }
        }
        let method = match name {
            None | Some("build" | "") => return Ok(None),
            Some("check" | "lint") => Method::Check,
            Some("outline") => Method::Outline,
            Some("targets") => Method::Targets,
            Some("subrequests.describe") => Method::Describe,
            Some(other) => {
                return Err(usage(format!(
                    "there is no method `{other}` (there are: build, check, outline, targets)"
                )));
            }
        };
        Ok(Some(Self { method, json, ignore_status }))
    }
}

/// Asks, and prints the answer on standard output.
///
/// # Errors
///
/// Those of reading the Dockerfile; what the checks find is [`Found`].
pub(crate) fn run(
    root: Option<&Path>,
    args: &Build,
    call: Call,
    inputs: &Inputs,
    mut spec: JobSpec,
) -> Result<()> {
    if call.method == Method::Describe {
        say::out(&if call.json { json::describe() } else { text::describe() })?;
        return Ok(());
    }
    let Opened { engine, tokio, .. } =
        build::engine(root, args.runtime.as_deref(), Some(build::max_used(args)?))?;
    let _stdin = inputs.read(&mut spec)?;
    let spec = &spec;
    let show = Arc::new(Mutex::new(Show::new(args.shown(), None)));
    let observer = {
        let show = show.clone();
        Box::new(move |event| show.lock().unwrap_or_else(PoisonError::into_inner).event(&event))
    };
    let answer: Result<(Answer, Arc<SourceText>), Error> = tokio.block_on(async {
        Ok(match call.method {
            Method::Outline => {
                let (outline, source) = engine.outline(spec, observer).await?;
                (Answer::Outline(outline), source)
            }
            Method::Targets => {
                let (targets, source) = engine.targets(spec, observer).await?;
                (Answer::Targets(targets), source)
            }
            Method::Check | Method::Describe => {
                let (lint, source) = engine.lint(spec, observer).await?;
                (Answer::Check(lint), source)
            }
        })
    });
    show.lock().unwrap_or_else(PoisonError::into_inner).finish();
    let (answer, source) = answer.map_err(build::plain)?;
    say::out(&if call.json { json::answer(&answer, &source) } else { text::answer(&answer, &source) })?;
    let Answer::Check(lint) = answer else { return Ok(()) };
    match lint.error {
        Some(error) => Err(build::plain(Error::Frontend(error))),
        None if lint.warnings.is_empty() || call.ignore_status => Ok(()),
        None => Err(Found.into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn call(words: &[&str]) -> Result<Option<Call>> {
        let cli = Cli::try_parse_from(["cooper", "build", "."].iter().chain(words)).unwrap();
        let Command::Build(build) = cli.command else { panic!("not a build") };
        Call::of(&build)
    }

    #[test]
    fn flags() {
        let check = Call { method: Method::Check, json: false, ignore_status: false };
        assert_eq!(call(&[]).unwrap(), None);
        assert_eq!(call(&["--call=build"]).unwrap(), None);
        assert_eq!(call(&["--check"]).unwrap(), Some(check));
        assert_eq!(call(&["--call", "lint"]).unwrap(), Some(check));
        assert_eq!(
            call(&["--call=check,format=json,ignorestatus=1"]).unwrap(),
            Some(Call { json: true, ignore_status: true, ..check })
        );
        for (word, message) in [
            ("x", "--call `x`: there is no method `x` (there are: build, check, outline, targets)"),
            ("check,a=b", "--call `check,a=b`: there is no option `a` (there are: format, ignorestatus)"),
            ("check,outline", "--call `check,outline`: more than one method"),
        ] {
            assert_eq!(call(&["--call", word]).unwrap_err().to_string(), message);
        }
    }

    /// What people and scripts see of each method, for one Dockerfile.
    #[test]
    fn answers() {
        let dockerfile = "\
# VERSION of the tool
ARG VERSION=1.0
# tool compiles it & more
FROM alpine:${VERSION} as tool
ARG TOKEN
RUN --mount=type=secret,id=key,required --mount=type=ssh make
FROM scratch
COPY --from=tool /bin/tool /
";
        let stub = crate::debug::Stub::default();
        let source = SourceText { name: "Dockerfile".into(), text: dockerfile.into() };
        let lint = stub.inspect(dockerfile.as_bytes(), cooper_frontend::lint).unwrap();
        let outline = stub.inspect(dockerfile.as_bytes(), cooper_frontend::outline).unwrap();
        let targets = stub.inspect(dockerfile.as_bytes(), cooper_frontend::targets).unwrap();
        let mut all = String::new();
        for answer in [Answer::Check(lint), Answer::Outline(outline), Answer::Targets(targets)] {
            all.push_str(&text::answer(&answer, &source));
            all.push_str("--\n");
            all.push_str(&json::answer(&answer, &source));
            all.push_str("====\n");
        }
        all.push_str(&text::describe());
        all.push_str(&json::describe());
        insta::assert_snapshot!("answers", all);
    }
}
