use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::path::LayerPath;

/// An open directory that holds a layer in overlay form.
///
/// Everything below it is reached through the kernel's own confinement (`openat2` with `RESOLVE_BENEATH`,
/// `RESOLVE_NO_SYMLINKS` and `RESOLVE_NO_MAGICLINKS`), so that no link inside can lead out of it, whoever changes it
/// meanwhile.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl Directory {
    /// Opens a directory. Links on the way to it are followed.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path.as_ref(), flags, Mode::empty())?))
    }

    /// Opens something in the directory; a link anywhere on the way is an error.
    pub(crate) fn open_at(&self, path: &LayerPath, flags: OFlags) -> io::Result<OwnedFd> {
        open_beneath(&self.0, path, flags)
    }
}

pub(crate) fn open_beneath(fd: impl AsFd, path: &LayerPath, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(fd.as_fd(), path.as_path(), flags | OFlags::CLOEXEC, Mode::empty(), resolve)
        {
            // The kernel could not rule out a race with a rename elsewhere; it asks to try again.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

impl From<OwnedFd> for Directory {
    /// Takes a descriptor of a directory, open for reading.
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
