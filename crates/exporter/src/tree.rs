use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use cooper_layer::{
    Contents as _, Directory, Entry, Index, Kind, LayerPath, Merged, ScanOptions, TarOptions, Timestamp,
    scan, write_tar,
};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// How a tree is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeOptions {
    /// Every time is set to this one, as BuildKit does for `SOURCE_DATE_EPOCH`.
    pub epoch: Option<Timestamp>,
}

/// Copies a root file system into a folder (`type=local`).
///
/// Files belong to whoever runs this; modes, times, links and attributes are kept. What the folder already holds stays,
/// unless the tree has something of the same name: files and links are replaced in one step each, folders are shared. A
/// folder where the tree has something else is an error. Links in the destination are never followed.
pub fn copy_tree(root: &Path, to: &Path, options: &TreeOptions) -> Result<()> {
    let (directory, index) = read(root)?;
    std::fs::create_dir_all(to).map_err(|source| Error::file("create", to, source))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder =
        rustix::fs::open(to, flags, Mode::empty()).map_err(|source| Error::file("open", to, source))?;
    let mut copy = Copy { from: directory, to, folder, epoch: options.epoch, last: None, names: 0 };
    let mut first_names: HashMap<u32, &LayerPath> = HashMap::new();
    for entry in &index {
        let first = entry.hard_link.and_then(|group| match first_names.get(&group) {
            Some(first) => Some(*first),
            None => {
                first_names.insert(group, &entry.path);
                None
            }
        });
        copy.entry(entry, first)?;
    }
    // Inner ones first: an outer one may lose the permission to reach them.
    for entry in index.iter().rev().filter(|entry| entry.is_directory()) {
        let fd = copy.open_folder(&entry.path)?;
        copy.attributes(&fd, entry)?;
    }
    Ok(())
}

/// Writes a root file system as a tar stream (`type=tar`), with its owners. Equal trees give equal bytes.
pub fn write_tree_tar(root: &Path, out: impl Write, options: &TreeOptions) -> Result<()> {
    let (directory, mut index) = read(root)?;
    if let Some(epoch) = options.epoch {
        let entries = index.iter().cloned().map(|entry| Entry { mtime: epoch, ..entry }).collect();
        index = Index::new(entries).map_err(Error::Tree)?;
    }
    match write_tar(&index, &directory, out, &TarOptions::default()) {
        Ok(_) => Ok(()),
        Err(cooper_layer::Error::Write(source)) => Err(Error::Write(source)),
        Err(error) => Err(Error::Tree(error)),
    }
}

fn read(root: &Path) -> Result<(Directory, Index)> {
    let directory = Directory::open(root).map_err(|source| Error::file("open", root, source))?;
    let index = scan(&directory, Merged::new(&[]), &ScanOptions::default()).map_err(Error::Tree)?;
    Ok((directory, index))
}

struct Copy<'a> {
    from: Directory,
    to: &'a Path,
    folder: OwnedFd,
    epoch: Option<Timestamp>,
    /// The folder used last.
    last: Option<(LayerPath, OwnedFd)>,
    names: u64,
}

impl Copy<'_> {
    fn entry(&mut self, entry: &Entry, first: Option<&LayerPath>) -> Result<()> {
        let path = &entry.path;
        if let Some(first) = first {
            return self.place(path, "link", |copy, parent, name| {
                let from = copy.open_folder(&first.parent().unwrap_or_default())?;
                let link = rustix::fs::linkat(&from, first.name(), parent, name, AtFlags::empty());
                link.map_err(|source| copy.failed("link to", first, source))
            });
        }
        match &entry.kind {
            Kind::Directory { .. } => self.make_folder(path),
            Kind::File { .. } => self.place(path, "file", |copy, parent, name| {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
                    .map_err(|source| copy.failed("create", path, source))?;
                let mut file = File::from(fd);
                let mut content =
                    copy.from.open(entry).map_err(|source| copy.failed("read", path, source))?;
                io::copy(&mut content, &mut file).map_err(|source| copy.failed("write", path, source))?;
                copy.attributes(&file, entry)
            }),
            Kind::Symlink { target } => self.place(path, "link", |copy, parent, name| {
                rustix::fs::symlinkat(target.as_slice(), parent, name)
                    .map_err(|source| copy.failed("create", path, source))?;
                copy.times_at(parent, name, entry)
            }),
            Kind::CharDevice { major, minor } => self.node(entry, FileType::CharacterDevice, *major, *minor),
            Kind::BlockDevice { major, minor } => self.node(entry, FileType::BlockDevice, *major, *minor),
            Kind::Fifo => self.node(entry, FileType::Fifo, 0, 0),
            // A mounted root shows none.
            Kind::Whiteout => Ok(()),
        }
    }

    fn node(&mut self, entry: &Entry, kind: FileType, major: u32, minor: u32) -> Result<()> {
        self.place(&entry.path, "device", |copy, parent, name| {
            let mode = Mode::from_raw_mode(entry.mode);
            match rustix::fs::mknodat(parent, name, kind, mode, rustix::fs::makedev(major, minor)) {
                Ok(()) => {}
                Err(Errno::PERM) => {
                    let reason = "is a device, which only root can make: use `type=tar`".to_owned();
                    return Err(Error::Destination { path: copy.full(&entry.path), reason });
                }
                Err(source) => return Err(copy.failed("create", &entry.path, source)),
            }
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
                .map_err(|source| copy.failed("set the mode of", &entry.path, source))?;
            copy.times_at(parent, name, entry)
        })
    }

    fn make_folder(&mut self, path: &LayerPath) -> Result<()> {
        let parent = self.parent(path)?;
        let made = match rustix::fs::mkdirat(&parent, path.name(), Mode::RWXU) {
            Err(Errno::EXIST) => {
                let found = rustix::fs::statat(&parent, path.name(), AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|source| self.failed("stat", path, source))?;
                if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
                    Ok(())
                } else {
                    rustix::fs::unlinkat(&parent, path.name(), AtFlags::empty())
                        .and_then(|()| rustix::fs::mkdirat(&parent, path.name(), Mode::RWXU))
                }
            }
            other => other,
        };
        self.last = Some((path.parent().unwrap_or_default(), parent));
        made.map_err(|source| self.failed("create", path, source))
    }

    /// Makes something under a name of its own and renames it.
    fn place(
        &mut self,
        path: &LayerPath,
        what: &str,
        make: impl FnOnce(&Self, &OwnedFd, &OsStr) -> Result<()>,
    ) -> Result<()> {
        let parent = self.parent(path)?;
        self.names += 1;
        let name = format!(".cooper-{}-{}.tmp", std::process::id(), self.names);
        let name = OsStr::new(&name);
        // One that a process of the same number left.
        let _ = rustix::fs::unlinkat(&parent, name, AtFlags::empty());
        let result = make(self, &parent, name).and_then(|()| {
            // Renaming one name of a file to another name of it does nothing: take the old one away.
            rustix::fs::renameat(&parent, name, &parent, path.name()).map_err(|source| match source {
                Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST => Error::Destination {
                    path: self.full(path),
                    reason: format!("is a folder where the image has a {what}: remove it first"),
                },
                source => self.failed("rename to", path, source),
            })
        });
        let _ = rustix::fs::unlinkat(&parent, name, AtFlags::empty());
        self.last = Some((path.parent().unwrap_or_default(), parent));
        result
    }

    fn attributes(&self, fd: impl AsFd, entry: &Entry) -> Result<()> {
        let fd = fd.as_fd();
        for (name, value) in &entry.xattrs {
            match rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
                // The destination's file system may know none, and some need privileges.
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM | Errno::INVAL) => {}
                Err(source) => return Err(self.failed("set the attributes of", &entry.path, source)),
            }
        }
        rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode))
            .map_err(|source| self.failed("set the mode of", &entry.path, source))?;
        rustix::fs::futimens(fd, &self.times(entry))
            .map_err(|source| self.failed("set the time of", &entry.path, source))
    }

    fn times_at(&self, parent: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<()> {
        rustix::fs::utimensat(parent, name, &self.times(entry), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|source| self.failed("set the time of", &entry.path, source))
    }

    fn times(&self, entry: &Entry) -> Timestamps {
        let time = self.epoch.unwrap_or(entry.mtime);
        let time = Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanos) };
        Timestamps { last_access: time, last_modification: time }
    }

    /// Takes the open parent of a path; the caller gives it back for the next one.
    fn parent(&mut self, path: &LayerPath) -> Result<OwnedFd> {
        let parent = path.parent().unwrap_or_default();
        match self.last.take() {
            Some((known, fd)) if known == parent => Ok(fd),
            _ => self.open_folder(&parent),
        }
    }

    fn open_folder(&self, path: &LayerPath) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.folder, path.as_path(), flags, Mode::empty(), resolve) {
                // The kernel could not rule out a race with a rename elsewhere; it asks to try again.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other.map_err(|source| self.failed("open", path, source)),
            }
        }
    }

    fn full(&self, path: &LayerPath) -> PathBuf {
        self.to.join(OsStr::from_bytes(path.as_bytes()))
    }

    fn failed(&self, action: &'static str, path: &LayerPath, source: impl Into<io::Error>) -> Error {
        Error::file(action, self.full(path), source)
    }
}

#[cfg(test)]
mod tests;
