use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::entry::Entry;
use crate::path::LayerPath;
use crate::time::Timestamp;
use crate::write::Contents;

/// An open directory that holds a layer in overlay form.
///
/// Everything below it is reached through the kernel's own confinement (`openat2` with `RESOLVE_BENEATH`,
/// `RESOLVE_NO_SYMLINKS`, `RESOLVE_NO_MAGICLINKS` and `RESOLVE_NO_XDEV`), so that no link inside can lead out of it,
/// whoever changes it meanwhile. Such calls need Linux 5.6.
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
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        let flags = flags | OFlags::CLOEXEC;
        loop {
            match rustix::fs::openat2(self.0.as_fd(), path.as_path(), flags, Mode::empty(), resolve) {
                // The kernel could not rule out a race with a rename elsewhere; it asks to try again.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Opens a directory in the directory.
    pub(crate) fn open_directory(&self, path: &LayerPath) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)
    }

    /// Opens a regular file in the directory for reading; anything else is an error, and a pipe does not block.
    pub(crate) fn open_file(&self, path: &LayerPath) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(self.open_at(path, flags)?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
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

/// Both times of a file, as the kernel takes them.
pub(crate) fn times(mtime: Timestamp) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanos) };
    Timestamps { last_access: time, last_modification: time }
}

impl Contents for Directory {
    fn open(&self, entry: &Entry) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.open_file(&entry.path)?))
    }
}

/// Returns the value of an attribute, `None` if it is not there or the file system knows none.
pub(crate) fn xattr(fd: impl AsFd, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    match with_buffer(|buffer| rustix::fs::fgetxattr(&fd, name, buffer)) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Lists the names of attributes; none if the file system knows none.
pub(crate) fn xattr_names(fd: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    match with_buffer(|buffer| rustix::fs::flistxattr(&fd, buffer)) {
        Ok(names) => {
            Ok(names.split(|&b| b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
        }
        Err(Errno::NOTSUP) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Calls with a small buffer, then with one of 64 KiB: Linux' bound for a value and for a list of names.
fn with_buffer(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 512];
    let length = match call(&mut buffer) {
        Err(Errno::RANGE) => {
            buffer.resize(64 << 10, 0);
            call(&mut buffer)?
        }
        other => other?,
    };
    buffer.truncate(length);
    Ok(buffer)
}

/// Tells whether an attribute belongs to the image.
///
/// Not so: overlayfs' own, which a hostile layer could otherwise use to reach into other layers; the one that keeps
/// owners; those of the host (`security.selinux`, `security.ima`, …); ACLs, which are in another form in archives.
pub(crate) fn belongs_to_image(name: &[u8]) -> bool {
    let overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    let ours = name.starts_with(b"user.cooper.");
    let family =
        name.starts_with(b"user.") || name.starts_with(b"trusted.") || name == b"security.capability";
    family && !overlay && !ours
}
