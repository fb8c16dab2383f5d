use std::cell::Cell;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};

use cooper_layer::tar::{Chunk, Member, MemberKind, Reader};
use cooper_layer::{Decompressor, LayerPath, Limits, Timestamp};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags, makedev};
use rustix::io::Errno;

use crate::file::action::{Copy, Owner};
use crate::file::content::is_of_image;
use crate::file::error::FileError;
use crate::file::make::{PARENT_MODE, make_dirs, timespec};
use crate::file::root::{Root, name_of, through};
use crate::file::view::{View, clean, joined, text};

type Archive = Reader<Decompressor<File>>;

/// Unpacks a source if it is an archive: a regular file, perhaps compressed, that begins with a tar header. Returns
/// whether it was.
///
/// The destination becomes a directory, and for the archive it is the root of everything: `..` and links in it stay
/// inside. What it brings takes the place of what is there; only directories are merged.
pub(super) fn unpack(copy: &Copy, source: &View<'_>, src: &[u8], dest: &Root) -> Result<bool, FileError> {
    let (path, meta) = source.existing(src, true)?;
    if meta.kind != FileType::RegularFile {
        return Ok(false);
    }
    let open = |path: &LayerPath| {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        source.root.open_exact(path, flags).map(File::from).map_err(FileError::io("open", path.as_bytes()))
    };
    let limits = Limits::default();
    let Ok(input) = Decompressor::archive(open(&path)?) else { return Ok(false) };
    let mut archive = Reader::new(input, limits.extensions);
    // Whatever does not begin as an archive is a file like any other.
    let Ok(Some(first)) = archive.next() else { return Ok(false) };

    let place = View::whole(dest).find(copy.dest.as_bytes(), true)?.path;
    make_dirs(dest, &place, PARENT_MODE, copy.owner, copy.mtime)?;
    let root = dest.inside(&place).map_err(FileError::io("open", place.as_bytes()))?;
    let mut unpacking = Unpacking {
        root: &root,
        owner: copy.owner,
        directories: Vec::new(),
        archive: text(src),
        limits,
        entries: 0,
        size: 0,
        metadata: 0,
        holes: Cell::new(0),
    };
    let mut next = Some(first);
    while let Some(member) = next {
        unpacking.member(&member, &mut archive)?;
        next = archive.next().map_err(|source| unpacking.damaged(source))?;
    }
    for (path, mtime) in std::mem::take(&mut unpacking.directories) {
        unpacking.set_times(&path, mtime)?;
    }
    Ok(true)
}

struct Unpacking<'a> {
    root: &'a Root,
    owner: Option<Owner>,
    /// Directories whose times are set at the end, when nothing is put into them any more.
    directories: Vec<(LayerPath, Timestamp)>,
    /// The archive, for messages.
    archive: String,
    limits: Limits,
    entries: u64,
    size: u64,
    /// Bytes of names, which the list of directories keeps.
    metadata: u64,
    /// Bytes of holes so far: free in the archive, but whoever reads the result reads them all.
    holes: Cell<u64>,
}

impl Unpacking<'_> {
    fn damaged(&self, source: cooper_layer::Error) -> FileError {
        FileError::Unpack { path: self.archive.clone(), source }
    }

    /// Counts a member against the bounds on archives.
    fn count(&mut self, member: &Member) -> Result<(), FileError> {
        self.entries += 1;
        self.size = self.size.saturating_add(member.size);
        self.metadata = self.metadata.saturating_add(member.name.len() as u64);
        let limits = &self.limits;
        let depth = member.name.split(|&byte| byte == b'/').count() as u64;
        for (what, value, limit) in [
            ("length of a path", member.name.len() as u64, limits.path),
            ("length of a link", member.link.len() as u64, limits.path),
            ("depth of a path", depth, limits.depth),
            ("size of names", self.metadata, limits.metadata),
            ("number of entries", self.entries, limits.entries),
            ("size of a file", member.size, limits.file_size),
            ("size of all files", self.size, limits.total_size),
        ] {
            if value > limit {
                return Err(self.damaged(cooper_layer::Error::Limit { what, limit }));
            }
        }
        Ok(())
    }

    fn member(&mut self, member: &Member, archive: &mut Archive) -> Result<(), FileError> {
        self.count(member)?;
        let parts = clean(&member.name);
        if parts.is_empty() && !member.name.starts_with(b"/") {
            // `./` says nothing about the directory that it is unpacked into.
            return Ok(());
        }
        let view = View::whole(self.root);
        let parent = parts.get(..parts.len().saturating_sub(1)).unwrap_or_default();
        let parent = view.find(&joined(parent), true)?.path;
        make_dirs(self.root, &parent, PARENT_MODE, None, None)?;
        let path = match parts.last() {
            Some(name) => parent.join(name).map_err(|_| FileError::Path(text(&member.name)))?,
            None => parent,
        };

        let is_dir = member.kind == MemberKind::Directory;
        let there = self.root.stat(&path).map_err(FileError::io("look at", path.as_bytes()))?;
        let merged = there.is_some_and(|there| there.is_dir() && is_dir);
        if path.is_root() && !merged {
            return Err(FileError::Path(text(&member.name)));
        }
        if there.is_some() && !merged {
            self.root.remove_all(&path).map_err(FileError::io("remove", path.as_bytes()))?;
        }
        if !self.make(member, archive, &path, merged)? {
            return Ok(());
        }
        self.finish(member, &path)
    }

    /// Makes what a member says; returns false if it was passed over.
    fn make(
        &self,
        member: &Member,
        archive: &mut Archive,
        path: &LayerPath,
        merged: bool,
    ) -> Result<bool, FileError> {
        let error = |errno: Errno| FileError::io("unpack", path.as_bytes())(errno.into());
        if member.kind == MemberKind::Directory {
            if !merged {
                self.root.make_dir(path, member.mode).map_err(FileError::io("unpack", path.as_bytes()))?;
            }
            return Ok(true);
        }
        let parent = self.root.open_parent(path).map_err(FileError::io("unpack", path.as_bytes()))?;
        let name = name_of(path);
        match member.kind {
            MemberKind::File => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file =
                    rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600)).map_err(error)?;
                self.write(member, archive, path, File::from(file))?;
            }
            MemberKind::Symlink => rustix::fs::symlinkat(&*member.link, &parent, name).map_err(error)?,
            MemberKind::HardLink => {
                let first = View::whole(self.root).find(&joined(&clean(&member.link)), false)?;
                if first.meta.is_none_or(|meta| meta.is_dir()) {
                    let target = String::from_utf8_lossy(&member.link).into_owned();
                    return Err(FileError::Link { path: text(path.as_bytes()), target });
                }
                let from =
                    self.root.open_parent(&first.path).map_err(FileError::io("unpack", path.as_bytes()))?;
                rustix::fs::linkat(from, name_of(&first.path), &parent, name, AtFlags::empty())
                    .map_err(error)?;
            }
            MemberKind::CharDevice | MemberKind::BlockDevice | MemberKind::Fifo => {
                let kind = match member.kind {
                    MemberKind::CharDevice => FileType::CharacterDevice,
                    MemberKind::BlockDevice => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = makedev(member.device.0, member.device.1);
                match rustix::fs::mknodat(&parent, name, kind, Mode::from_raw_mode(0o600), device) {
                    // No user namespace can make devices; archives of whole systems have some and are of use without.
                    Err(Errno::PERM) if kind != FileType::Fifo => return Ok(false),
                    other => other.map_err(error)?,
                }
            }
            MemberKind::Directory => {}
        }
        Ok(true)
    }

    fn write(
        &self,
        member: &Member,
        archive: &mut Archive,
        path: &LayerPath,
        mut file: File,
    ) -> Result<(), FileError> {
        let error = |source| FileError::io("unpack", path.as_bytes())(source);
        loop {
            match archive.chunk().map_err(|source| self.damaged(source))? {
                Some(Chunk::Data(data)) => file.write_all(data).map_err(error)?,
                Some(Chunk::Hole(length)) => {
                    self.holes.set(self.holes.get().saturating_add(length));
                    if self.holes.get() > self.limits.holes {
                        let (what, limit) = ("size of all holes", self.limits.holes);
                        return Err(self.damaged(cooper_layer::Error::Limit { what, limit }));
                    }
                    let length =
                        i64::try_from(length).map_err(|_| error(std::io::ErrorKind::FileTooLarge.into()))?;
                    file.seek(SeekFrom::Current(length)).map_err(error)?;
                }
                None => break,
            }
        }
        // A hole at the end was only passed over.
        file.set_len(member.size).map_err(error)
    }

    /// Sets owner, mode, attributes and times.
    fn finish(&mut self, member: &Member, path: &LayerPath) -> Result<(), FileError> {
        let Some(meta) = self.root.stat(path).map_err(FileError::io("look at", path.as_bytes()))? else {
            return Err(FileError::io("look at", path.as_bytes())(Errno::NOENT.into()));
        };
        let id = |id: u64| {
            u32::try_from(id).map_err(|_| FileError::io("unpack", path.as_bytes())(Errno::OVERFLOW.into()))
        };
        let owner = match self.owner {
            Some(owner) => owner,
            None => Owner { uid: id(member.uid)?, gid: id(member.gid)? },
        };
        self.root
            .set_owner(path, meta.kind, owner)
            .map_err(FileError::io("set the owner of", path.as_bytes()))?;
        if meta.kind != FileType::Symlink {
            self.root
                .set_mode(path, member.mode)
                .map_err(FileError::io("set the mode of", path.as_bytes()))?;
        }
        if !member.xattrs.is_empty()
            && let Ok(fd) = self.root.open_any(path)
        {
            // What the file system refuses is left out, as Docker does.
            for (name, value) in member.xattrs.iter().filter(|(name, _)| is_of_image(name)) {
                let _ = rustix::fs::setxattr(through(&fd), &**name, value, XattrFlags::empty());
            }
        }
        if member.kind == MemberKind::Directory {
            self.directories.push((path.clone(), member.mtime));
            return Ok(());
        }
        self.set_times(path, member.mtime)
    }

    fn set_times(&self, path: &LayerPath, mtime: Timestamp) -> Result<(), FileError> {
        let time = timespec(mtime);
        match self.root.set_times(path, time, time) {
            // A later member may have taken a directory's place.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(FileError::io("set the times of", path.as_bytes())),
        }
    }
}
