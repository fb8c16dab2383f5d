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
    /// A definition cannot be read as a graph.
    #[error("the graph of the build is not valid")]
    Graph(#[source] cooper_llb::Error),
    /// A step failed.
    #[error(transparent)]
    Step {
        /// Its vertex in the solver.
        vertex: VertexId,
        /// What happened.
        #[source]
        error: Arc<StepError>,
    },
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
    /// It was interrupted.
    #[error("the build was cancelled")]
    Cancelled,
    /// The solver and the engine disagree: a defect of cooper.
    #[error("the solver refused an event (a defect of cooper)")]
    Solver(#[source] Misuse),
    /// Nothing is under way and nothing is done: a defect of cooper.
    #[error("the build stands still (a defect of cooper)")]
    Stalled,
}
