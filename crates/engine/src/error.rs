//! What can go wrong in a build, by whose fault it is.

use std::path::PathBuf;

use cooper_solver::{Misuse, VertexId};
use std::sync::Arc;

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The Dockerfile, an option or an answer to the frontend is wrong.
    #[error(transparent)]
    Frontend(#[from] cooper_frontend::Error),
    /// The Dockerfile needs an image whose registry cannot be reached at all.
    #[error(transparent)]
    Unreachable(cooper_frontend::Error),
    /// A definition cannot be read as a graph.
    #[error("the graph of the build is not valid")]
    Graph(#[source] cooper_llb::Error),
    /// A step failed.
    #[error("a step failed")]
    Step {
        /// Its vertex in the solver.
        vertex: VertexId,
        /// What happened.
        #[source]
        error: Arc<StepError>,
    },
    /// A step failed, and it is known where it stands.
    #[error("{0}")]
    FailedStep(Box<FailedStep>),
    /// Something failed that belongs to no step.
    #[error(transparent)]
    Unattributed(StepError),
    /// A layer cannot be written.
    #[error("cannot write a layer")]
    Layer(#[source] cooper_layer::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] cooper_store::Error),
    /// A source failed outside of any step.
    #[error(transparent)]
    Source(#[from] cooper_source::Error),
    /// Writing the result failed.
    #[error("cannot export the image")]
    Export(#[from] cooper_exporter::Error),
    /// A file of the caller's cannot be read or written.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// The environment lacks something.
    #[error("{0}")]
    Environment(String),
    /// What was asked for is not there yet.
    #[error("{0}")]
    Unsupported(String),
    /// Somebody deleted the store.
    #[error("the store `{0}` was deleted while the build ran")]
    StoreGone(PathBuf),
    /// It was interrupted.
    #[error("the build was cancelled")]
    Cancelled,
    /// The solver and the engine disagree: a defect of cooper.
    #[error("the solver refused an event (a defect of cooper)")]
    Solver(#[source] Misuse),
    /// Something in cooper panicked: a defect.
    #[error("a part of the build ended without an answer (a defect of cooper)")]
    Panicked,
    /// Nothing is under way and nothing is done: a defect of cooper.
    #[error("the build stands still (a defect of cooper)")]
    Stalled,
}

impl Error {
    /// Returns whether a step failed because there was no connection at all.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Source(error) => error.is_unreachable(),
            Self::Step { error, .. } => {
                matches!(&**error, StepError::Source(error) if error.is_unreachable())
            }
            _ => false,
        }
    }
}

/// Finds what the store said, anywhere behind an error: what others wrote to it failed by its word.
pub fn store_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a cooper_store::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        // Some have it as what they are, not as their source.
        let found = match (error.downcast_ref::<Error>(), error.downcast_ref::<StepError>()) {
            (Some(Error::Store(found)), _) | (_, Some(StepError::Store(found))) => Some(found),
            (Some(Error::Unattributed(error)), _) => return store_error(error),
            (Some(Error::Source(error)), _) | (_, Some(StepError::Source(error))) => {
                return store_error(error);
            }
            (_, Some(StepError::Executor(error))) => return store_error(error),
            _ => match error.downcast_ref::<cooper_source::Error>() {
                Some(cooper_source::Error::Store(found)) => Some(found),
                _ => error.downcast_ref::<cooper_store::Error>(),
            },
        };
        if found.is_some() {
            return found;
        }
        // What an error of input and output was made of is not its source but itself.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// A step that failed, for whoever draws the message.
#[derive(Debug)]
pub struct FailedStep {
    /// LLB digest of its vertex.
    pub vertex: cooper_oci::Digest,
    /// What is shown for it: `[build 2/3] RUN make`.
    pub name: String,
    /// Where it stands, every place of it: `build line 7`.
    pub places: Vec<String>,
    /// Lines of its instruction, for each place.
    pub lines: Vec<cooper_frontend::LineRange>,
    /// The instruction.
    pub text: String,
    /// Name of its (first) stage.
    pub stage: Option<String>,
    /// What happened.
    pub error: Arc<StepError>,
    /// Files that may be meant, where the step missed one in the result of another: paths from its root.
    pub near: Vec<String>,
}

impl std::fmt::Display for FailedStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = if self.text.is_empty() { &self.name } else { &self.text };
        write!(f, "`{what}` failed")
    }
}

/// Why one step could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// Nobody waits for it any more.
    #[error("context canceled")]
    Cancelled,
    /// The command ran and failed.
    #[error("exit code {code}")]
    Exit {
        /// Its exit code; 128 and the signal's number if a signal ended it.
        code: i32,
        /// The command.
        command: String,
    },
    /// The command could not be run.
    #[error(transparent)]
    Executor(cooper_executor::StepError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] cooper_executor::file::FileError),
    /// A path that a copy names is not there.
    #[error("\"{0}\": not found")]
    NotFound(String),
    /// A user or group is not known.
    #[error(transparent)]
    User(#[from] cooper_executor::UserError),
    /// What was written cannot be read back.
    #[error("cannot read what the step wrote")]
    Layer(#[from] cooper_layer::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] cooper_store::Error),
    /// A source could not be had.
    #[error(transparent)]
    Source(#[from] cooper_source::Error),
    /// A pattern of an ignore file or of a copy cannot be used.
    #[error("{0}")]
    Pattern(String),
    /// A file or folder cannot be used.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// A source is gone from the store and from where it came from.
    #[error("the files of this source are gone and cannot be fetched again")]
    SourceLost,
    /// Bytes go as often as they are made.
    #[error("the files of a result are gone, and making them again does not help")]
    LostAgain,
    /// A folder of the user's is never the same twice while it is read.
    #[error("`{0}` keeps changing while the step reads it")]
    Changing(PathBuf),
    /// It is not there yet.
    #[error("{0} is not supported yet")]
    Unsupported(String),
    /// A defect of cooper.
    #[error("a step ended without a result (a defect of cooper)")]
    Panicked,
}

impl From<cooper_executor::StepError> for StepError {
    fn from(error: cooper_executor::StepError) -> Self {
        match error {
            cooper_executor::StepError::Cancelled => Self::Cancelled,
            error => Self::Executor(error),
        }
    }
}

impl StepError {
    /// Returns the path that a copy did not find, if that is what happened.
    pub fn missing(&self) -> Option<&str> {
        match self {
            Self::NotFound(path) | Self::File(cooper_executor::file::FileError::NotFound(path)) => Some(path),
            _ => None,
        }
    }

    /// Returns the layer whose bytes were not there, if that is what happened, to whomever it happened.
    pub(crate) fn lost_layer(&self) -> Option<cooper_layer::LayerId> {
        use std::error::Error as _;
        let lost = |error: &cooper_store::Error| match error {
            cooper_store::Error::Lost(layer) => Some(*layer),
            _ => None,
        };
        if let Self::Store(error) = self {
            return lost(error);
        }
        // The executor hands on what its workspaces say.
        let mut next = self.source();
        while let Some(error) = next {
            let known = match error.downcast_ref::<Self>() {
                Some(Self::Store(error)) => Some(error),
                _ => error.downcast_ref::<cooper_store::Error>(),
            };
            if let Some(layer) = known.and_then(lost) {
                return Some(layer);
            }
            next = error.source();
        }
        None
    }

    /// Tells whether the same would have happened to anybody who runs the step.
    pub(crate) fn is_reproducible(&self) -> bool {
        matches!(
            self,
            Self::Exit { .. }
                | Self::File(_)
                | Self::User(_)
                | Self::Unsupported(_)
                | Self::Pattern(_)
                | Self::NotFound(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_said_is_found() {
        let said = || cooper_store::Error::Full { need: 3, cap: 2, own: 3, others: 0 };
        let io = std::io::Error::other(said());
        let kept = cooper_executor::StepError::Workspace {
            what: "keep what was written to `/`".into(),
            source: Box::new(StepError::Store(said())),
        };
        let errors: Vec<Box<dyn std::error::Error>> = vec![
            Box::new(StepError::Store(said())),
            Box::new(Error::Store(said())),
            Box::new(StepError::Executor(kept)),
            Box::new(StepError::Source(cooper_source::Error::Store(said()))),
            Box::new(Error::Unattributed(StepError::Store(said()))),
            Box::new(Error::Layer(cooper_layer::Error::Write(io))),
        ];
        for error in errors {
            let found = store_error(&*error);
            assert!(matches!(found, Some(cooper_store::Error::Full { need: 3, .. })), "{error:?}");
        }
        assert!(store_error(&Error::Cancelled).is_none());
    }
}
