//! The executor's port to the store: layers by id in, a merged directory out, a layer when it is done.

use std::path::Path;

use cooper_executor::{Access, WorkspaceError};
use cooper_layer::{LayerId, TimeWindow};
use cooper_store::{Store, View, Workspace};

use crate::keep::{Naming, keep};

/// Directories out of the store.
#[derive(Debug, Clone)]
pub(crate) struct Spaces {
    pub(crate) store: Store,
    /// Whether what is committed is never taken for something earlier (`--no-cache`).
    pub(crate) forced: bool,
}

impl cooper_executor::Workspaces for Spaces {
    fn open(
        &self,
        layers: &[LayerId],
        access: Access,
    ) -> Result<Box<dyn cooper_executor::Workspace>, WorkspaceError> {
        Ok(match access {
            Access::Read => Box::new(Reading(self.store.view(layers)?)),
            Access::Write => {
                Box::new(Writing { spaces: self.clone(), workspace: self.store.workspace(layers)? })
            }
        })
    }
}

struct Reading(View);

impl cooper_executor::Workspace for Reading {
    fn root(&self) -> &Path {
        self.0.root()
    }

    fn commit(self: Box<Self>, _: TimeWindow) -> Result<LayerId, WorkspaceError> {
        Err("a root that is only read has nothing to commit".into())
    }
}

struct Writing {
    spaces: Spaces,
    workspace: Workspace,
}

impl cooper_executor::Workspace for Writing {
    fn root(&self) -> &Path {
        self.workspace.root()
    }

    fn commit(self: Box<Self>, window: TimeWindow) -> Result<LayerId, WorkspaceError> {
        Ok(keep(&self.spaces.store, self.workspace, Naming::Content(window), self.spaces.forced)?)
    }
}
