//! Root file systems out of layers: overlay mounts, or full copies with the same results.

mod attributes;
mod copy;
mod lower;
mod normal;
mod overlay;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cooper_layer::{Index, LayerId};

use crate::error::{Error, IoContext as _, Result};
use crate::mount::lower::Lower;
use crate::snapshots::PendingDir;
use crate::store::{Backend, Store};

pub(crate) use overlay::detach_below;

/// A root that a step can write to. Dropping it unmounts it and deletes what was written.
#[derive(Debug)]
pub struct Workspace {
    store: Store,
    layers: Vec<LayerId>,
    root: PathBuf,
    // Unmounted before the directory is deleted: fields are dropped in this order.
    state: State,
    pending: PendingDir,
}

#[derive(Debug)]
enum State {
    Overlay(overlay::Mounted),
    Copy(copy::Copied),
}

/// A root that nobody may write to. Dropping it unmounts it.
#[derive(Debug)]
pub struct View {
    root: PathBuf,
    _mounted: Option<overlay::Mounted>,
    _pending: PendingDir,
}

impl Workspace {
    /// Returns the directory with the whole root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the layers that it was made of, lowest first.
    pub fn layers(&self) -> &[LayerId] {
        &self.layers
    }

    /// Tells whether it is an overlay mount, not a copy.
    pub fn is_overlay(&self) -> bool {
        matches!(self.state, State::Overlay(_))
    }

    /// Ends the writing, and returns what differs from the layers: a directory in overlay form, to be scanned and
    /// [committed](Store::commit_layer).
    ///
    /// Nothing may be running in the root any more. Both ways of making a root give equal directories: what the step
    /// opened for writing but left as it was is not in it, and what it removed is there as whiteouts, not as opaque
    /// directories.
    pub fn finish(self) -> Result<PendingDir> {
        let Self { store, state, pending, .. } = self;
        match state {
            State::Overlay(mounted) => mounted.finish(&store, &pending)?,
            State::Copy(copied) => copied.finish(&pending)?,
        }
        Ok(pending)
    }
}

impl View {
    /// Returns the directory with the whole root.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Store {
    /// Makes a root out of layers, lowest first, that can be written to; none at all give an empty directory.
    ///
    /// Mounts are made in the mount namespace of the calling thread, which should be a private one. Layers whose files
    /// are not here are [`Error::Lost`].
    pub fn workspace(&self, layers: &[LayerId]) -> Result<Workspace> {
        self.check_ids()?;
        let pending = PendingDir::create(self)?;
        pending.expect_writes();
        let mut lower = Lower::of(self, layers)?;
        if self.wants_overlay() {
            match overlay::Mounted::writable(self, lower, &pending) {
                Ok(mounted) => {
                    let root = mounted.root().to_owned();
                    let state = State::Overlay(mounted);
                    return Ok(Workspace {
                        store: self.clone(),
                        layers: layers.to_vec(),
                        root,
                        state,
                        pending,
                    });
                }
                Err(refused) => lower = self.fall_back(refused, &pending)?,
            }
        }
        let copied = copy::Copied::new(self, &lower, &pending)?;
        let root = copied.root().to_owned();
        Ok(Workspace {
            store: self.clone(),
            layers: layers.to_vec(),
            root,
            state: State::Copy(copied),
            pending,
        })
    }

    /// Makes a root out of layers, lowest first, for reading only.
    ///
    /// As [`workspace`](Self::workspace) otherwise. Where it has to be a copy, writing to it is not refused, but nobody
    /// sees what was written.
    pub fn view(&self, layers: &[LayerId]) -> Result<View> {
        self.check_ids()?;
        let pending = PendingDir::create(self)?;
        if layers.is_empty() {
            return Ok(View { root: pending.path().to_owned(), _mounted: None, _pending: pending });
        }
        let mut lower = Lower::of(self, layers)?;
        if self.wants_overlay() {
            match overlay::Mounted::read_only(self, lower, &pending) {
                Ok(mounted) => {
                    let root = mounted.root().to_owned();
                    return Ok(View { root, _mounted: Some(mounted), _pending: pending });
                }
                Err(refused) => lower = self.fall_back(refused, &pending)?,
            }
        }
        let copied = copy::Copied::new(self, &lower, &pending)?;
        Ok(View { root: copied.root().to_owned(), _mounted: None, _pending: pending })
    }

    /// Returns the indexes of layers, to be looked at as [`Merged`](cooper_layer::Merged).
    pub fn indexes(&self, layers: &[LayerId]) -> Result<Vec<Arc<Index>>> {
        layers.iter().map(|id| self.index(*id)?.ok_or(Error::Lost(*id))).collect()
    }

    /// Returns why roots are copied, where that was not asked for: the kernel's answer to the first overlay mount.
    pub fn overlay_refused(&self) -> Option<&str> {
        self.0.overlay_refused.get().map(String::as_str)
    }

    fn wants_overlay(&self) -> bool {
        match self.0.backend {
            Backend::Overlay => true,
            Backend::Copy => false,
            Backend::Auto => self.0.overlay_refused.get().is_none(),
        }
    }

    /// Decides whether a mount that failed is made up for by a copy; gives back the layers.
    ///
    /// Where overlay mounts are not allowed at all, that is remembered. More layers than a mount takes are copied, too.
    fn fall_back(&self, refused: overlay::Refused, pending: &PendingDir) -> Result<Lower> {
        let answer = match &refused.error {
            Error::Mount { source, .. } if self.0.backend == Backend::Auto => source.raw_os_error(),
            _ => None,
        };
        match answer {
            // EINVAL: among other things, the store itself lies on an overlay mount.
            Some(
                libc::EPERM | libc::EACCES | libc::ENODEV | libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL,
            ) => {
                let _ = self.0.overlay_refused.set(with_sources(&refused.error));
            }
            Some(libc::E2BIG) => {}
            _ => return Err(refused.error),
        }
        pending.keep_files_only()?;
        Ok(refused.lower)
    }
}

fn with_sources(error: &Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

/// Makes the directory on which a root is mounted.
fn make_mount_point(path: &Path) -> Result<()> {
    std::fs::create_dir(path).at("create", path)
}
