use std::io;

use crate::workspaces::WorkspaceError;

/// Why a step could not be run to the end of its process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The step was cancelled; its processes are gone.
    #[error("context canceled")]
    Cancelled,
    /// Neither crun nor runc is there.
    #[error("no container runtime found (looked for {looked_for}); install one: apt-get install crun")]
    NoRuntime {
        /// Names or paths that were tried.
        looked_for: String,
    },
    /// The step asks for something that this executor does not do.
    #[error("{what} is not supported: {remedy}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// The step asks for something that must be allowed first.
    #[error("{what} is not allowed: {remedy}")]
    NotAllowed {
        /// What was asked for.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// A secret or an agent that the step needs was not given.
    #[error("{what}: not found: {remedy}")]
    NotProvided {
        /// What was asked for.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// The step contradicts itself.
    #[error("invalid step: {0}")]
    Invalid(String),
    /// Layers could not be shown as a directory, or what was written could not be kept.
    #[error("failed to {what}")]
    Workspace {
        /// `open the root`, `commit mount ...`.
        what: String,
        /// Why.
        source: WorkspaceError,
    },
    /// A user or group of the step cannot be found.
    #[error("{0}")]
    User(#[from] crate::user::UserError),
    /// A place in the root is not what it must be.
    #[error("`{path}` in the root: {problem}")]
    Path {
        /// The place, as seen in the root.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The program does not exist in the root.
    #[error("exec: `{program}`: {problem}")]
    NotFound {
        /// As it stands in the step.
        program: String,
        /// What was looked for, in words.
        problem: String,
    },
    /// The program exists and cannot be executed.
    #[error("exec: `{program}`: {problem}")]
    NotExecutable {
        /// As it stands in the step.
        program: String,
        /// Why not, in words: permission, format, a missing interpreter.
        problem: String,
    },
    /// The runtime could not set the container up.
    #[error("`{runtime}` could not start the process: {message}")]
    Runtime {
        /// Which runtime: `crun 1.8.1`.
        runtime: String,
        /// What it said.
        message: String,
    },
    /// The operating system refused something.
    #[error("failed to {what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
}

impl StepError {
    /// Returns the exit code that a shell would give for this failure, where there is one: 127 for a program that does
    /// not exist, 126 for one that cannot be executed.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::NotFound { .. } => Some(127),
            Self::NotExecutable { .. } => Some(126),
            _ => None,
        }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
