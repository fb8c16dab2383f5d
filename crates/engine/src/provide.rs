//! The executor's port to what a build is given, and to the caches of the store.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cooper_executor::{
    Agent, AgentSession, CacheDir, CacheSharing, CacheWanted, Cancel, Provider, WorkspaceError,
};
use cooper_layer::{Index, Merged};
use cooper_oci::Digest;
use cooper_store::{Cache, CacheTurn, CacheUse, Store};

use crate::context::never;
use crate::given::{AgentFrom, Given};
use crate::select::{self, Selector};

/// How often is looked whether a cache is free. Nobody tells; a lock that could be waited for could not be given up.
const LOOK: Duration = Duration::from_millis(20);

/// What steps of a build get from outside of it.
#[derive(Debug)]
pub(crate) struct Provided {
    pub(crate) store: Store,
    pub(crate) given: Arc<Given>,
}

impl Provider for Provided {
    fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, WorkspaceError> {
        Ok(self.given.secret(id)?)
    }

    fn agent(&self, id: &str) -> Result<Option<Arc<dyn Agent>>, WorkspaceError> {
        Ok(match self.given.agent(id) {
            None => None,
            Some(AgentFrom::Socket(path)) => Some(Arc::new(Running(path.clone()))),
            Some(AgentFrom::Keys(paths)) => Some(Arc::new(crate::ssh::Keys::read(paths)?)),
        })
    }

    fn cache(
        &self,
        wanted: &CacheWanted<'_>,
        cancel: &Cancel,
        fill: &mut dyn FnMut(&Path) -> Result<(), WorkspaceError>,
    ) -> Result<Option<Box<dyn CacheDir>>, WorkspaceError> {
        let using = match wanted.sharing {
            CacheSharing::Shared => CacheUse::Shared,
            CacheSharing::Private => CacheUse::Private,
            CacheSharing::Locked => CacheUse::Locked,
        };
        let seed = self.seed(wanted)?;
        while !cancel.is_cancelled() {
            match self.store.try_cache(wanted.id, seed.as_ref(), using, &mut *fill)? {
                CacheTurn::Taken(cache) => return Ok(Some(Box::new(Taken(cache)))),
                CacheTurn::Busy => std::thread::sleep(LOOK),
            }
        }
        Ok(None)
    }
}

impl Provided {
    /// Names what a cache holds at first by its content: the same files seed the same cache, whoever made them and
    /// however often.
    fn seed(&self, wanted: &CacheWanted<'_>) -> Result<Option<Digest>, WorkspaceError> {
        let Some((layers, path)) = wanted.seed else { return Ok(None) };
        let indexes: Vec<Arc<Index>> = self.store.indexes(layers)?;
        let indexes: Vec<&Index> = indexes.iter().map(|index| &**index).collect();
        let path = if path.is_empty() { "/" } else { path };
        let selector = Selector { path: path.to_owned(), wildcard: false, follow: true };
        Ok(Some(never(select::read(&Merged::new(&indexes), &selector, None)).digest()))
    }
}

struct Taken(Cache);

impl CacheDir for Taken {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn hold(&self) -> io::Result<OwnedFd> {
        self.0.hold().map_err(io::Error::other)
    }
}

/// A running agent.
struct Running(PathBuf);

impl Agent for Running {
    fn open(&self) -> io::Result<Box<dyn AgentSession>> {
        Ok(Box::new(Session(UnixStream::connect(&self.0)?)))
    }
}

struct Session(UnixStream);

/// No answer of an agent is longer: OpenSSH's has the same bound.
const MAX_ANSWER: u32 = 256 << 10;

impl AgentSession for Session {
    fn ask(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        let length = u32::try_from(request.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        self.0.write_all(&length.to_be_bytes())?;
        self.0.write_all(request)?;
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length > MAX_ANSWER {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut answer = vec![0; length as usize];
        self.0.read_exact(&mut answer)?;
        Ok(answer)
    }
}
