use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use cooper_layer::{LayerPath, OWNER_XATTR, Owners};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, fstat, openat2,
};
use rustix::io::Errno;

use crate::file::action::Owner;

/// A directory that is the root of a file system for whoever works in it.
///
/// Absolute links, `..` and everything else that paths can do stay inside: the kernel resolves them
/// (`openat2` with `RESOLVE_IN_ROOT` and `RESOLVE_NO_MAGICLINKS`), or they are resolved here and the kernel is then asked
/// for paths in which it refuses links.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    owners: Owners,
}

/// What is at a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    pub(super) kind: FileType,
    /// The lower 12 bits of the mode.
    pub(super) mode: u32,
    pub(super) owner: Owner,
    pub(super) accessed: Timespec,
    pub(super) modified: Timespec,
    pub(super) size: u64,
    /// Bytes that it takes on disk.
    pub(super) stored: u64,
    /// File system and number of the inode.
    pub(super) inode: (u64, u64),
    pub(super) links: u64,
    pub(super) device: u64,
}

impl Meta {
    pub(super) fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }
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
        match self.read_start(path, limit)? {
            (text, false) => Ok(text),
            _ => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes"))),
        }
    }

    /// Reads the first `limit` bytes of a regular file, following links inside the root, and tells whether there are
    /// more.
    pub fn read_start(&self, path: impl AsRef<Path>, limit: u64) -> io::Result<(Vec<u8>, bool)> {
        // NONBLOCK: opening a pipe must not wait for its other end. It changes nothing for regular files.
        let fd = self.open_in_root(path.as_ref(), OFlags::RDONLY | OFlags::NONBLOCK)?;
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut text = Vec::new();
        File::from(fd).take(limit.saturating_add(1)).read_to_end(&mut text)?;
        let more = text.len() as u64 > limit;
        text.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((text, more))
    }

    /// Opens a path as if this directory were `/`, following links.
    pub(crate) fn open_in_root(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        open2(self.fd.as_fd(), path, flags, resolve)
    }

    /// Opens a path in which no component may be a link (the last one may, with `PATH` and `NOFOLLOW`).
    pub(crate) fn open_exact(&self, path: &LayerPath, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        open2(self.fd.as_fd(), path.as_path(), flags, resolve)
    }

    /// Makes a directory of this root a root of its own.
    pub(super) fn inside(&self, path: &LayerPath) -> io::Result<Self> {
        let fd = self.open_exact(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Self { fd, owners: self.owners })
    }

    /// Opens the directory that holds a path.
    pub(super) fn open_parent(&self, path: &LayerPath) -> io::Result<OwnedFd> {
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        self.open_exact(&parent, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Tells what is at a path without links; `None` if nothing is, or something on the way is no directory.
    pub(super) fn stat(&self, path: &LayerPath) -> io::Result<Option<Meta>> {
        let fd = match self.open_exact(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(fd) => fd,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let stat = fstat(&fd)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mut owner = Owner { uid: stat.st_uid, gid: stat.st_gid };
        if self.owners == Owners::Record {
            owner = self.recorded(kind, &fd)?;
        }
        #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
        // types of fields differ between architectures
        Ok(Some(Meta {
            kind,
            mode: stat.st_mode & 0o7777,
            owner,
            accessed: Timespec { tv_sec: stat.st_atime as _, tv_nsec: stat.st_atime_nsec as _ },
            modified: Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ },
            size: stat.st_size.try_into().unwrap_or(0),
            stored: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
            inode: (stat.st_dev as u64, stat.st_ino as u64),
            links: stat.st_nlink as u64,
            device: stat.st_rdev as u64,
        }))
    }

    /// Returns the owner that was written down because it could not be set.
    fn recorded(&self, kind: FileType, fd: &OwnedFd) -> io::Result<Owner> {
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            return Ok(Owner::default());
        }
        let mut text = [0; 32];
        match rustix::fs::getxattr(through(fd), OWNER_XATTR, &mut text[..]) {
            Ok(length) => {
                let text = text.get(..length).unwrap_or_default();
                let ids = std::str::from_utf8(text).ok().and_then(|text| text.split_once(':'));
                let owner =
                    ids.and_then(|(uid, gid)| Some(Owner { uid: uid.parse().ok()?, gid: gid.parse().ok()? }));
                owner.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "bad recorded owner"))
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(Owner::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Lists the names in a directory, sorted by bytes.
    pub(super) fn names(&self, path: &LayerPath) -> io::Result<Vec<Vec<u8>>> {
        let fd = self.open_exact(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::new(fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Reads a symbolic link.
    pub(super) fn read_link(&self, path: &LayerPath) -> io::Result<Vec<u8>> {
        let fd = self.open_exact(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        Ok(rustix::fs::readlinkat(fd, c"", Vec::new())?.into_bytes())
    }

    /// Opens a path for what only works on open files: attributes, mode. Not for links.
    pub(super) fn open_any(&self, path: &LayerPath) -> io::Result<OwnedFd> {
        self.open_exact(path, OFlags::PATH | OFlags::NOFOLLOW)
    }

    /// Sets the owner of a path, or writes it down.
    pub(super) fn set_owner(&self, path: &LayerPath, kind: FileType, owner: Owner) -> io::Result<()> {
        match self.owners {
            Owners::Set => {
                let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
                let fd = self.open_any(path)?;
                let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
                Ok(rustix::fs::chownat(fd, c"", Some(uid), Some(gid), flags)?)
            }
            Owners::Record if matches!(kind, FileType::RegularFile | FileType::Directory) => {
                let fd = self.open_any(path)?;
                let result = if owner == Owner::default() {
                    rustix::fs::removexattr(through(&fd), OWNER_XATTR)
                } else {
                    let text = format!("{}:{}", owner.uid, owner.gid);
                    rustix::fs::setxattr(
                        through(&fd),
                        OWNER_XATTR,
                        text.as_bytes(),
                        rustix::fs::XattrFlags::empty(),
                    )
                };
                match result {
                    Err(Errno::NODATA) => Ok(()),
                    other => Ok(other?),
                }
            }
            // Nothing else can carry the note; the layer's scan takes such owners as 0:0.
            Owners::Record => Ok(()),
        }
    }

    /// Sets the mode of anything but a link.
    pub(super) fn set_mode(&self, path: &LayerPath, mode: u32) -> io::Result<()> {
        let fd = self.open_any(path)?;
        Ok(rustix::fs::chmod(through(&fd), Mode::from_raw_mode(mode & 0o7777))?)
    }

    /// Sets the times of a path; links are not followed.
    pub(super) fn set_times(
        &self,
        path: &LayerPath,
        accessed: Timespec,
        modified: Timespec,
    ) -> io::Result<()> {
        let times = Timestamps { last_access: accessed, last_modification: modified };
        let (at, name) = match path.parent() {
            Some(_) => (self.open_parent(path)?, Path::new(std::ffi::OsStr::new(name_of(path)))),
            None => (self.open_exact(path, OFlags::PATH)?, Path::new(".")),
        };
        Ok(rustix::fs::utimensat(at, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Makes a directory with exactly this mode.
    pub(super) fn make_dir(&self, path: &LayerPath, mode: u32) -> io::Result<()> {
        let parent = self.open_parent(path)?;
        rustix::fs::mkdirat(parent, name_of(path), Mode::from_raw_mode(mode & 0o777))?;
        // The process' umask may have taken bits away.
        self.set_mode(path, mode)
    }

    /// Removes whatever is at a path; nothing there is fine.
    pub(super) fn remove_all(&self, path: &LayerPath) -> io::Result<()> {
        let Some(meta) = self.stat(path)? else { return Ok(()) };
        if meta.is_dir() {
            for name in self.names(path)? {
                let child = path.join(&name).map_err(io::Error::other)?;
                self.remove_all(&child)?;
            }
        }
        let flags = if meta.is_dir() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        Ok(rustix::fs::unlinkat(self.open_parent(path)?, name_of(path), flags)?)
    }
}

/// Returns the last component as the operating system takes it.
pub(super) fn name_of(path: &LayerPath) -> &std::ffi::OsStr {
    use std::os::unix::ffi::OsStrExt as _;
    std::ffi::OsStr::from_bytes(path.name())
}

/// Names a descriptor as a path, for calls that take no path-only descriptors. What it leads to is that very file,
/// whatever its path is by now; a link is not followed.
pub(super) fn through(fd: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
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
