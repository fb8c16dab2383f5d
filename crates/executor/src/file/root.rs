use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cooper_layer::{LayerPath, Owners};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

/// A directory that is the root of a file system for whoever works in it.
///
/// Absolute links, `..` and everything else that paths can do stay inside: the kernel resolves them
/// (`openat2` with `RESOLVE_IN_ROOT` and `RESOLVE_NO_MAGICLINKS`).
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    owners: Owners,
}

impl Root {
    /// Opens a directory as a root. Links on the way to it are followed; owners are set on disk.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: rustix::fs::open(path.as_ref(), flags, Mode::empty())?, owners: Owners::Set })
    }

    /// Chooses what to do about owners; [`Owners::Record`] is for user namespaces with a single id.
    #[must_use]
    pub fn with_owners(mut self, owners: Owners) -> Self {
        self.owners = owners;
        self
    }

    /// Returns what is done about owners.
    pub fn owners(&self) -> Owners {
        self.owners
    }

    /// Reads a regular file whole, following links inside the root. A file longer than `limit` bytes is an error of
    /// kind [`io::ErrorKind::FileTooLarge`].
    pub fn read_file(&self, path: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
        // NONBLOCK: opening a pipe must not wait for its other end. It changes nothing for regular files.
        let fd = self.open_in_root(path.as_ref(), OFlags::RDONLY | OFlags::NONBLOCK)?;
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut text = Vec::new();
        File::from(fd).take(limit.saturating_add(1)).read_to_end(&mut text)?;
        if text.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes")));
        }
        Ok(text)
    }

    /// Opens a path as if this directory were `/`, following links.
    pub(crate) fn open_in_root(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        open2(self.fd.as_fd(), path, flags, resolve)
    }

    /// Opens a path in which no component may be a link.
    pub(crate) fn open_exact(&self, path: &LayerPath, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        open2(self.fd.as_fd(), path.as_path(), flags, resolve)
    }
}

fn open2(at: BorrowedFd<'_>, path: &Path, flags: OFlags, resolve: ResolveFlags) -> io::Result<OwnedFd> {
    loop {
        match openat2(at, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // The kernel could not rule out a race with a rename elsewhere and asks to try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
