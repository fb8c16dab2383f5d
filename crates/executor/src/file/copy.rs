use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;

use cooper_layer::LayerPath;
use rustix::fs::{FileType, Mode, OFlags};

use crate::file::action::{Copy, Verdict};
use crate::file::content;
use crate::file::error::FileError;
use crate::file::make::{PARENT_MODE, make_dirs, set_time, timespec};
use crate::file::root::{Meta, Root, name_of};
use crate::file::unpack;
use crate::file::view::{View, clean, joined, text};

/// Copies what an action says; see [`Copy`].
pub(super) fn copy(copy: &Copy, source: &Root, dest: &Root) -> Result<(), FileError> {
    let source = View::new(source, copy.ignore.as_ref(), copy.source_owner);
    if !copy.create_dest_path {
        let place = View::whole(dest).find(copy.dest.as_bytes(), true)?.path.parent().unwrap_or_default();
        if dest.stat(&place).map_err(FileError::io("look at", place.as_bytes()))?.is_none() {
            return Err(FileError::NotFound(text(place.as_bytes())));
        }
    }
    let sources = if copy.wildcards {
        source.expand(copy.src.as_bytes(), copy.follow_links)?
    } else {
        vec![copy.src.as_bytes().to_vec()]
    };
    if sources.is_empty() && !copy.allow_empty_wildcard {
        return Err(FileError::NotFound(text(copy.src.as_bytes())));
    }
    let mut share = true;
    for src in &sources {
        if copy.unpack && unpack::unpack(copy, &source, src, dest)? {
            continue;
        }
        let mut copier = Copier {
            copy,
            source: &source,
            dest,
            links: HashMap::new(),
            pending: Vec::new(),
            top: None,
            share,
        };
        copier.run(src)?;
        share = copier.share;
    }
    Ok(())
}

/// Copies one match of a source.
struct Copier<'a> {
    copy: &'a Copy,
    source: &'a View<'a>,
    dest: &'a Root,
    /// Files with several names that are copied, by their inode.
    links: HashMap<(u64, u64), LayerPath>,
    /// The directories that the walk is in, outermost first; those not made yet wait for something in them to be taken.
    pending: Vec<Pending>,
    /// The directory that is copied to: never copied itself, should it lie inside the source.
    top: Option<(u64, u64)>,
    /// Blocks can be shared, as far as is known.
    share: bool,
}

struct Pending {
    src: LayerPath,
    meta: Meta,
    dst: LayerPath,
    made: bool,
}

impl Copier<'_> {
    fn run(&mut self, src: &[u8]) -> Result<(), FileError> {
        let view = View::whole(self.dest);
        let dest = self.copy.dest.as_bytes();
        // `a/b` needs `a`; `a/b/` and `a/b/.` need `a/b`.
        let is_dir = dest.ends_with(b"/") || dest.ends_with(b"/.");
        let parts = clean(dest);
        let parent =
            if is_dir { &*parts } else { parts.get(..parts.len().saturating_sub(1)).unwrap_or_default() };
        let parent = view.find(&joined(parent), true)?.path;
        let mut made = self.make_dirs(&parent)?;

        let mut target = view.find(&joined(&parts), true)?;
        let (from, meta) = self.source.existing(src, self.copy.follow_links)?;

        let contents = self.copy.dir_contents;
        let into = match target.meta {
            None => false,
            Some(_) if meta.is_dir() => !contents,
            Some(there) => there.is_dir(),
        };
        if into && let Some(name) = base(src) {
            target.path = join(&target.path, name)?;
        }
        let parent = if contents && meta.is_dir() && target.meta.is_none() {
            target.path.clone()
        } else {
            target.path.parent().unwrap_or_default()
        };
        made.extend(self.make_dirs(&parent)?);
        if meta.is_dir() {
            self.top = self.stat_dest(&target.path)?.filter(Meta::is_dir).map(|meta| meta.inode);
        }
        self.entry(&from, meta, &LayerPath::root(), &target.path)?;
        // What was put in them has changed their times.
        for path in made.iter().rev() {
            set_time(self.dest, path, self.copy.mtime)?;
        }
        Ok(())
    }

    fn make_dirs(&self, path: &LayerPath) -> Result<Vec<LayerPath>, FileError> {
        let mode = self.copy.mode.unwrap_or(PARENT_MODE);
        make_dirs(self.dest, path, mode, self.copy.owner, self.copy.mtime)
    }

    /// Copies one thing and what is in it. `relative` is its path inside what is copied, empty for that itself.
    fn entry(
        &mut self,
        src: &LayerPath,
        meta: Meta,
        relative: &LayerPath,
        dst: &LayerPath,
    ) -> Result<(), FileError> {
        let top = relative.is_root();
        // What is named is taken; the filter decides about what is in it.
        let verdict = match &self.copy.filter {
            Some(filter) if !top => filter(relative.as_bytes(), meta.is_dir()),
            _ => Verdict::Take,
        };
        let take = verdict == Verdict::Take;
        if verdict == Verdict::Skip || (!take && !meta.is_dir()) {
            return Ok(());
        }
        let mut there = self.stat_dest(dst)?;
        if take {
            if self.copy.replace && there.is_some_and(|there| !(there.is_dir() && meta.is_dir())) {
                self.dest.remove_all(dst).map_err(FileError::io("remove", dst.as_bytes()))?;
                there = None;
            }
            self.make_pending()?;
        }
        if meta.is_dir() {
            return self.directory(src, meta, relative, dst, take, there);
        }
        match there {
            Some(there) if there.is_dir() => return Err(FileError::IsDirectory(text(dst.as_bytes()))),
            Some(_) => self.dest.remove_all(dst).map_err(FileError::io("remove", dst.as_bytes()))?,
            None => {}
        }
        self.leaf(src, meta, dst)
    }

    fn directory(
        &mut self,
        src: &LayerPath,
        meta: Meta,
        relative: &LayerPath,
        dst: &LayerPath,
        take: bool,
        there: Option<Meta>,
    ) -> Result<(), FileError> {
        let top = relative.is_root();
        if !top && self.top == Some(meta.inode) {
            return Ok(());
        }
        let made = take && self.directory_only(meta, dst, there, !top)?;
        self.pending.push(Pending { src: src.clone(), meta, dst: dst.clone(), made: take });
        let names = self.source.names(src).map_err(FileError::io("list", src.as_bytes()))?;
        for name in names {
            let child = join(src, &name)?;
            let Some(meta) = self.source.stat(&child).map_err(FileError::io("look at", child.as_bytes()))?
            else {
                // Hidden, or gone since it was listed.
                continue;
            };
            self.entry(&child, meta, &join(relative, &name)?, &join(dst, &name)?)?;
        }
        self.pending.pop();
        if take && (made || !top) {
            self.set_meta(src, &meta, dst)?;
        } else if take && there.is_some() {
            // A directory that was there keeps everything but its times.
            self.set_times(&meta, dst)?;
        }
        Ok(())
    }

    /// Makes a directory without what is in it; returns whether it was made. `reset` gives one that is there the
    /// source's mode.
    fn directory_only(
        &self,
        meta: Meta,
        dst: &LayerPath,
        there: Option<Meta>,
        reset: bool,
    ) -> Result<bool, FileError> {
        match there {
            None => {
                let result = self.dest.make_dir(dst, meta.mode);
                result.map_err(FileError::io("make directory", dst.as_bytes()))?;
                Ok(true)
            }
            Some(there) if !there.is_dir() => Err(FileError::NotDirectory(text(dst.as_bytes()))),
            Some(_) => {
                if reset {
                    let result = self.dest.set_mode(dst, meta.mode);
                    result.map_err(FileError::io("set the mode of", dst.as_bytes()))?;
                }
                Ok(false)
            }
        }
    }

    /// Makes the directories around something that is taken, which were not taken themselves.
    fn make_pending(&mut self) -> Result<(), FileError> {
        for index in 0..self.pending.len() {
            let Some(Pending { src, meta, dst, made: false }) = self.pending.get(index) else { continue };
            let (src, meta, dst) = (src.clone(), *meta, dst.clone());
            let there = self.stat_dest(&dst)?;
            if self.directory_only(meta, &dst, there, true)? {
                self.set_meta(&src, &meta, &dst)?;
            }
            if let Some(pending) = self.pending.get_mut(index) {
                pending.made = true;
            }
        }
        Ok(())
    }

    /// Copies anything but a directory to a place where nothing is.
    fn leaf(&mut self, src: &LayerPath, meta: Meta, dst: &LayerPath) -> Result<(), FileError> {
        let parent =
            self.dest.open_parent(dst).map_err(FileError::io("open the directory of", dst.as_bytes()))?;
        match meta.kind {
            FileType::RegularFile => self.file(src, &meta, dst, &parent)?,
            FileType::Symlink => {
                let target =
                    self.source.root.read_link(src).map_err(FileError::io("read link", src.as_bytes()))?;
                rustix::fs::symlinkat(&*target, &parent, name_of(dst))
                    .map_err(|errno| FileError::io("make link", dst.as_bytes())(errno.into()))?;
            }
            kind => {
                // A socket means nothing without who listens: an empty file stands for it.
                let kind = if kind == FileType::Socket { FileType::RegularFile } else { kind };
                let mode = Mode::from_raw_mode(meta.mode);
                rustix::fs::mknodat(&parent, name_of(dst), kind, mode, meta.device as _)
                    .map_err(|errno| FileError::io("make device", dst.as_bytes())(errno.into()))?;
            }
        }
        self.set_meta(src, &meta, dst)
    }

    fn file(
        &mut self,
        src: &LayerPath,
        meta: &Meta,
        dst: &LayerPath,
        parent: &OwnedFd,
    ) -> Result<(), FileError> {
        if meta.links > 1 {
            if let Some(first) = self.links.get(&meta.inode) {
                let error = |source| FileError::io("link", dst.as_bytes())(source);
                let from = self.dest.open_parent(first).map_err(error)?;
                let flags = rustix::fs::AtFlags::empty();
                return rustix::fs::linkat(from, name_of(first), parent, name_of(dst), flags)
                    .map_err(|errno| error(errno.into()));
            }
            self.links.insert(meta.inode, dst.clone());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let from = self.source.root.open_exact(src, flags).map_err(FileError::io("open", src.as_bytes()))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = rustix::fs::openat(parent, name_of(dst), flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| FileError::io("make", dst.as_bytes())(errno.into()))?;
        content::copy(from, meta, &File::from(to), &mut self.share)
            .map_err(FileError::io("copy", src.as_bytes()))
    }

    /// Gives a copy the owner, mode, times and attributes that it shall have.
    fn set_meta(&self, src: &LayerPath, meta: &Meta, dst: &LayerPath) -> Result<(), FileError> {
        let owner = self.copy.owner.unwrap_or(meta.owner);
        let kind = if meta.kind == FileType::Socket { FileType::RegularFile } else { meta.kind };
        // The owner first: changing it takes set-user-id bits and capabilities away.
        self.dest.set_owner(dst, kind, owner).map_err(FileError::io("set the owner of", dst.as_bytes()))?;
        if kind != FileType::Symlink {
            let mode = match &self.copy.mode_change {
                Some(change) => change.apply(meta.mode, meta.is_dir()),
                None => self.copy.mode.unwrap_or(meta.mode),
            };
            self.dest.set_mode(dst, mode).map_err(FileError::io("set the mode of", dst.as_bytes()))?;
        }
        if let (Ok(from), Ok(to)) = (self.source.root.open_any(src), self.dest.open_any(dst)) {
            content::copy_attributes(&from, &to);
        }
        self.set_times(meta, dst)
    }

    fn set_times(&self, meta: &Meta, dst: &LayerPath) -> Result<(), FileError> {
        let (accessed, modified) = match self.copy.mtime {
            Some(mtime) => (timespec(mtime), timespec(mtime)),
            None => (meta.accessed, meta.modified),
        };
        let result = self.dest.set_times(dst, accessed, modified);
        result.map_err(FileError::io("set the times of", dst.as_bytes()))
    }

    fn stat_dest(&self, path: &LayerPath) -> Result<Option<Meta>, FileError> {
        self.dest.stat(path).map_err(FileError::io("look at", path.as_bytes()))
    }
}

/// Returns the name under which a source is put into a directory; none for the root and for `directory/.`.
pub(super) fn base(src: &[u8]) -> Option<&[u8]> {
    if src.ends_with(b"/.") {
        return None;
    }
    clean(src).last().copied()
}

fn join(path: &LayerPath, name: &[u8]) -> Result<LayerPath, FileError> {
    path.join(name).map_err(|_| FileError::Path(text(name)))
}
