//! The files of a layer that is being unpacked.
//!
//! Every call names its object by the descriptor of its directory and one component, and makes it anew (`O_EXCL` and
//! the like), so that no link is ever followed. The directory is private to this process until it is done.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{AtFlags, Dev, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use crate::directory::{Directory, times};
use crate::entry::{Entry, Kind};
use crate::error::{Error, Result};
use crate::options::{Devices, OWNER_XATTR, OverlayXattrs, Owners, UnpackOptions};
use crate::path::LayerPath;

pub(super) struct Disk<'a> {
    root: &'a Directory,
    overlay: OverlayXattrs,
    owners: Owners,
    devices: Devices,
    /// The directory used last.
    last: Option<(LayerPath, OwnedFd)>,
}

/// A regular file that is being written.
pub(super) struct NewFile {
    file: File,
    path: LayerPath,
    position: u64,
    end: u64,
    owners: Owners,
    sparse: bool,
}

impl<'a> Disk<'a> {
    pub(super) fn new(root: &'a Directory, options: &UnpackOptions) -> Result<Self> {
        let path = LayerPath::root();
        let failed = |source| Error::file("read", &path, source);
        let list = rustix::fs::Dir::read_from(root).map_err(failed)?;
        for entry in list {
            let entry = entry.map_err(failed)?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                return Err(Error::entry(&path, "must be an empty directory"));
            }
        }
        let UnpackOptions { overlay, owners, devices, .. } = *options;
        Ok(Self { root, overlay, owners, devices, last: None })
    }

    /// Makes anything but a regular file. Returns whether the disk has all of it; a directory's attributes are set by
    /// [`finish_directory`](Self::finish_directory).
    pub(super) fn make(&mut self, entry: &Entry) -> Result<bool> {
        let path = &entry.path;
        let (overlay_mode, devices, owners) = (Mode::from_raw_mode(entry.mode), self.devices, self.owners);
        let name = path.name();
        let parent = self.parent(path)?;
        let failed = |source| Error::file("create", path, source);
        let node = |kind, major, minor| {
            rustix::fs::mknodat(parent, name, kind, overlay_mode, rustix::fs::makedev(major, minor))
        };
        match &entry.kind {
            Kind::File { .. } => return Err(Error::entry(path, "is made in another way")),
            Kind::Directory { .. } => {
                rustix::fs::mkdirat(parent, name, Mode::RWXU).map_err(failed)?;
                return Ok(true);
            }
            Kind::Whiteout => {
                // Linux 5.8 and later allow this to everybody: the device does nothing.
                rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), Dev::default())
                    .map_err(failed)?;
                return Ok(true);
            }
            Kind::Symlink { target } => {
                rustix::fs::symlinkat(target.as_slice(), parent, name).map_err(failed)?;
            }
            Kind::CharDevice { .. } | Kind::BlockDevice { .. } if devices == Devices::Record => {
                return Ok(false);
            }
            Kind::CharDevice { major, minor } => {
                node(FileType::CharacterDevice, *major, *minor).map_err(failed)?;
            }
            Kind::BlockDevice { major, minor } => {
                node(FileType::BlockDevice, *major, *minor).map_err(failed)?
            }
            Kind::Fifo => node(FileType::Fifo, 0, 0).map_err(failed)?,
        }
        if owners == Owners::Set {
            let (uid, gid) = owner(entry);
            rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|source| Error::file("set the owner of", path, source))?;
        }
        if !matches!(entry.kind, Kind::Symlink { .. }) {
            // Follows links, but this is none: it has just been made in a directory that nobody else writes to.
            rustix::fs::chmodat(parent, name, overlay_mode, AtFlags::empty())
                .map_err(|source| Error::file("set the mode of", path, source))?;
        }
        rustix::fs::utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|source| Error::file("set the time of", path, source))?;
        // The kernel allows the image's kinds of attributes on files and directories only, but for `trusted`.
        Ok(entry.xattrs.is_empty())
    }

    /// Starts a regular file.
    pub(super) fn create(&mut self, path: &LayerPath) -> Result<NewFile> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let parent = self.parent(path)?;
        let fd = rustix::fs::openat(parent, path.name(), flags, Mode::RUSR | Mode::WUSR)
            .map_err(|source| Error::file("create", path, source))?;
        Ok(NewFile {
            file: File::from(fd),
            path: path.clone(),
            position: 0,
            end: 0,
            owners: self.owners,
            sparse: false,
        })
    }

    /// Makes another name of a file.
    pub(super) fn link(&mut self, from: &LayerPath, to: &LayerPath) -> Result<()> {
        let failed = |source: io::Error| Error::file("link to", from, source);
        let source = self.root.open_directory(&from.parent().unwrap_or_default()).map_err(failed)?;
        let parent = self.parent(to)?;
        rustix::fs::linkat(source, from.name(), parent, to.name(), AtFlags::empty())
            .map_err(|source| Error::file("create", to, source))
    }

    /// Removes one object; a directory must be empty.
    pub(super) fn remove(&mut self, entry: &Entry) -> Result<()> {
        let path = &entry.path;
        let flags = if entry.is_directory() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let parent = self.parent(path)?;
        let result = rustix::fs::unlinkat(parent, path.name(), flags);
        // The descriptor may be that of a directory that is gone.
        self.last = None;
        result.map_err(|source| Error::file("replace", path, source))
    }

    /// Sets the attributes of a directory once everything in it is made. Returns whether the disk has all of them.
    pub(super) fn finish_directory(&mut self, entry: &Entry) -> Result<bool> {
        self.last = None;
        let fd =
            self.root.open_directory(&entry.path).map_err(|error| Error::file("open", &entry.path, error))?;
        if let Kind::Directory { opaque: true } = entry.kind {
            rustix::fs::fsetxattr(&fd, self.overlay.name("opaque"), b"y", XattrFlags::empty())
                .map_err(|source| Error::file("make opaque", &entry.path, source))?;
        }
        attributes(&fd, entry, self.owners)
    }

    fn parent(&mut self, path: &LayerPath) -> Result<&OwnedFd> {
        let parent = path.parent().unwrap_or_default();
        let fd = match self.last.take() {
            Some((known, fd)) if known == parent => fd,
            _ => self.root.open_directory(&parent).map_err(|error| Error::file("open", &parent, error))?,
        };
        Ok(&self.last.insert((parent, fd)).1)
    }
}

impl NewFile {
    pub(super) fn write(&mut self, data: &[u8]) -> Result<()> {
        let failed = |source| Error::file("write", &self.path, source);
        if self.sparse {
            self.file.write_all_at(data, self.position).map_err(failed)?;
        } else {
            self.file.write_all(data).map_err(failed)?;
        }
        self.position += data.len() as u64;
        self.end = self.position;
        Ok(())
    }

    /// Leaves a hole.
    pub(super) fn skip(&mut self, length: u64) {
        self.sparse = true;
        self.position += length;
    }

    /// Sets length and attributes. Returns whether the disk has all of them.
    pub(super) fn finish(self, entry: &Entry) -> Result<bool> {
        if self.end < self.position {
            self.file.set_len(self.position).map_err(|source| Error::file("write", &self.path, source))?;
        }
        attributes(&self.file, entry, self.owners)
    }
}

/// Sets owner, mode, attributes and time, in the order in which none undoes another: a change of owner clears
/// set-user-id and capabilities, any change moves the time.
fn attributes(fd: impl AsFd, entry: &Entry, owners: Owners) -> Result<bool> {
    let fd = fd.as_fd();
    let path = &entry.path;
    match owners {
        Owners::Set => {
            let (uid, gid) = owner(entry);
            rustix::fs::fchown(fd, uid, gid)
                .map_err(|source| Error::file("set the owner of", path, source))?;
        }
        Owners::Record if (entry.uid, entry.gid) != (0, 0) => {
            let value = format!("{}:{}", entry.uid, entry.gid);
            rustix::fs::fsetxattr(fd, OWNER_XATTR, value.as_bytes(), XattrFlags::empty())
                .map_err(|source| Error::file("record the owner of", path, source))?;
        }
        Owners::Record => {}
    }
    let mut complete = true;
    for (name, value) in &entry.xattrs {
        match rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::INVAL) => complete = false,
            Err(source) => return Err(Error::file("set the attributes of", path, source)),
        }
    }
    rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode))
        .map_err(|source| Error::file("set the mode of", path, source))?;
    rustix::fs::futimens(fd, &times(entry.mtime))
        .map_err(|source| Error::file("set the time of", path, source))?;
    Ok(complete)
}

fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
}
