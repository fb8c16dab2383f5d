use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use cooper_layer::LayerId;

use crate::cancel::Cancel;
use crate::step::CacheSharing;
use crate::workspaces::WorkspaceError;

/// Where the local executor gets what comes from outside of a build or outlives it: secrets, agents, caches.
///
/// The calls block; the executor makes them on threads where that is allowed.
pub trait Provider: Send + Sync {
    /// Returns a secret; `None` if there is none of this name. The value must not be in the error.
    fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, WorkspaceError>;

    /// Returns an SSH agent; `None` if there is none of this name.
    fn agent(&self, id: &str) -> Result<Option<Arc<dyn Agent>>, WorkspaceError>;

    /// Takes a cache, after those who have it; `None` if `cancel` came first. `fill` is called with a new, empty directory
    /// and puts into it what the cache holds at first.
    fn cache(
        &self,
        wanted: &CacheWanted<'_>,
        cancel: &Cancel,
        fill: &mut dyn FnMut(&Path) -> Result<(), WorkspaceError>,
    ) -> Result<Option<Box<dyn CacheDir>>, WorkspaceError>;
}

/// Which cache a step wants.
#[derive(Debug, Clone, Copy)]
pub struct CacheWanted<'a> {
    /// Its name.
    pub id: &'a str,
    /// Who may use it at the same time.
    pub sharing: CacheSharing,
    /// What it holds at first; caches of one name and different seeds are different caches.
    pub seed: Option<(&'a [LayerId], &'a str)>,
}

/// A cache that a step has; given back when it is dropped and every descriptor of [`hold`](Self::hold) is closed.
pub trait CacheDir: Send {
    /// Returns the directory.
    fn path(&self) -> &Path;

    /// Returns a descriptor that keeps the cache taken as long as it is open, in whatever process.
    fn hold(&self) -> io::Result<OwnedFd>;
}

/// An SSH agent.
pub trait Agent: Send + Sync {
    /// Opens a session, one for each connection of a client.
    fn open(&self) -> io::Result<Box<dyn AgentSession>>;
}

/// A session with an agent.
pub trait AgentSession: Send {
    /// Sends a message of the agent's protocol, without the length before it, and returns the answer likewise.
    ///
    /// Only requests to list identities and to sign arrive here.
    fn ask(&mut self, request: &[u8]) -> io::Result<Vec<u8>>;
}

/// Provides nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingProvided;

impl Provider for NothingProvided {
    fn secret(&self, _: &str) -> Result<Option<Vec<u8>>, WorkspaceError> {
        Ok(None)
    }

    fn agent(&self, _: &str) -> Result<Option<Arc<dyn Agent>>, WorkspaceError> {
        Ok(None)
    }

    fn cache(
        &self,
        _: &CacheWanted<'_>,
        _: &Cancel,
        _: &mut dyn FnMut(&Path) -> Result<(), WorkspaceError>,
    ) -> Result<Option<Box<dyn CacheDir>>, WorkspaceError> {
        Err("nobody keeps caches here".into())
    }
}
