use std::error::Error;
use std::path::Path;

use cooper_layer::{LayerId, TimeWindow};

/// Why a workspace cannot be opened or committed, in the words of the one who has the layers.
pub type WorkspaceError = Box<dyn Error + Send + Sync>;

/// How a workspace will be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It is only read.
    Read,
    /// It is written to, and what was written may be committed.
    Write,
}

/// Where the local executor gets directories from: layers by id in, a merged directory out.
///
/// The calls block; the executor makes them on threads where that is allowed.
pub trait Workspaces: Send + Sync {
    /// Shows the merged view of `layers`, lowest first, as a directory; no layers give an empty one.
    fn open(&self, layers: &[LayerId], access: Access) -> Result<Box<dyn Workspace>, WorkspaceError>;
}

/// A merged directory that somebody uses. Dropping it takes the directory away, with what was written to it.
pub trait Workspace: Send {
    /// Returns the directory. It is an ordinary directory or mount point in the builder's mount namespace.
    fn root(&self) -> &Path;

    /// Keeps what was written as one layer and names it. `window` is when it was written: times in it mean "now".
    ///
    /// A workspace that was opened with [`Access::Read`] is refused.
    fn commit(self: Box<Self>, window: TimeWindow) -> Result<LayerId, WorkspaceError>;
}
