//! Runs one process in a root through crun, runc or a launcher; file operations without a container.
//!
//! What it holds: a [`Step`] (one process, its root and mounts, all by the ids of layers), the trait [`Executor`] that
//! runs steps anywhere, the [`LocalExecutor`] that runs them here, [`mod@file`] for operations that need no process, and
//! [`namespace`], which a program enters first.
//!
//! What it leaves to others: where layers are kept and how they become directories (the port [`Workspaces`]), what is
//! built of which steps and why, what is shown of their output.
//!
//! ```
//! use cooper_executor::{Network, Step};
//!
//! let mut step = Step::new(vec!["/bin/sh".into(), "-c".into(), "make".into()], vec![]);
//! let online = step.digest();
//! step.network = Network::None;
//! assert_ne!(step.digest(), online, "another network is another step");
//! ```

mod cancel;
mod error;
mod execute;
pub mod file;
pub mod groups;
mod inroot;
mod local;
pub mod namespace;
mod provide;
mod search;
mod step;
mod user;
mod workspaces;

pub use cancel::{Cancel, Registration};
pub use error::StepError;
pub use execute::{Done, Executor, Exit, Io, Limited, Output, RunFuture, Stream, Usage};
pub use local::{Config, LocalExecutor, Runtime};
pub use provide::{Agent, AgentSession, CacheDir, CacheWanted, NothingProvided, Provider};
pub use step::{
    CacheSharing, DEFAULT_HOSTNAME, ExtraHost, Mount, MountFrom, Network, Process, SecretEnv, Security, Step,
    Ulimit,
};
pub use user::{UserError, UserIds};
pub use workspaces::{Access, Workspace, WorkspaceError, Workspaces};
