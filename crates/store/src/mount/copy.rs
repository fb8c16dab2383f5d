use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cooper_layer::{LayerPath, OverlayXattrs};
use rustix::fs::{CWD, FileType, Mode, Stat};
use rustix::time::{ClockId, clock_gettime};

use crate::error::{Error, IoContext as _, Result};
use crate::mount::attributes::{
    self, give, is_directory, is_whiteout, kind, make_whiteout, same, stat, try_stat, xattr,
};
use crate::mount::lower::{Lower, below};
use crate::mount::normal::list;
use crate::snapshots::PendingDir;
use crate::store::Store;

/// A full copy of what layers show together, and what is needed to see what changed in it.
///
/// Names of one file are copied apart, each with an inode of its own: that is how overlayfs behaves, where writing to
/// one name of a lower file leaves the other as it was.
#[derive(Debug)]
pub(super) struct Copied {
    root: PathBuf,
    entries: BTreeMap<LayerPath, Origin>,
}

/// Where something was copied from.
#[derive(Debug)]
struct Origin {
    from: PathBuf,
    stat: Stat,
    /// Inode and time of change of the copy of a file: as long as these stay, nobody has touched it.
    copy: Option<(u64, i64, i64)>,
}

impl Copied {
    /// Copies layers into the directory `root` beside the files of `pending`.
    pub(super) fn new(store: &Store, lower: &Lower, pending: &PendingDir) -> Result<Self> {
        let root = pending.beside("root");
        let opaque = store.overlay_xattrs();
        let empty = store.0.layout.empty();
        let top = lower.dirs.last().unwrap_or(&empty);
        let mut entries = merge(lower, opaque)?;
        entries.insert(LayerPath::root(), Origin { from: top.clone(), stat: stat(top)?, copy: None });
        // Parents stand before what is in them. Directories stay open to their owner until all is there, and get no
        // attributes before, from which their entries would inherit.
        for (path, origin) in &mut entries {
            let path = below(&root, path);
            if is_directory(&origin.stat) {
                fs::DirBuilder::new().mode(0o700).create(&path).at("create", &path)?;
            } else {
                copy(&origin.from, &origin.stat, &path)?;
                origin.copy = Some(fingerprint(&stat(&path)?));
            }
        }
        for (path, origin) in entries.iter().rev().filter(|(_, origin)| is_directory(&origin.stat)) {
            give(&below(&root, path), &origin.from, &origin.stat)?;
        }
        wait_for_a_tick();
        Ok(Self { root, entries })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Moves what differs from the layers into the files of `pending`, in overlay form.
    pub(super) fn finish(self, pending: &PendingDir) -> Result<()> {
        let mut children: HashMap<LayerPath, Vec<&LayerPath>> = HashMap::new();
        for path in self.entries.keys() {
            if let Some(parent) = path.parent() {
                children.entry(parent).or_default().push(path);
            }
        }
        let mut moving = Moving {
            root: &self.root,
            entries: &self.entries,
            children,
            to: pending.path(),
            made: BTreeMap::new(),
        };
        moving.made.insert(LayerPath::root(), stat(&self.root)?);
        moving.directory(&LayerPath::root())?;
        // From below, and after their entries were put in, which sets their times.
        for (path, own) in moving.made.iter().rev() {
            give(&below(pending.path(), path), &below(&self.root, path), own)?;
        }
        pending.keep_files_only()
    }
}

/// Takes out of a copy what differs from the layers.
struct Moving<'a> {
    root: &'a Path,
    entries: &'a BTreeMap<LayerPath, Origin>,
    children: HashMap<LayerPath, Vec<&'a LayerPath>>,
    to: &'a Path,
    /// Directories of the layers that were made again at `to`, and how they were before anything was moved.
    made: BTreeMap<LayerPath, Stat>,
}

impl Moving<'_> {
    /// Treats a directory that the layers have, too.
    fn directory(&mut self, path: &LayerPath) -> Result<()> {
        let here = below(self.root, path);
        let own = stat(&here)?;
        let origin = self.entries.get(path);
        if let Some(origin) = origin.filter(|_| !path.is_root())
            && !same((&here, &own), (&origin.from, &origin.stat))?
        {
            self.make(path)?;
        }
        for name in list(&here)? {
            let child = path.join(name.as_bytes())?;
            let from = here.join(&name);
            let found = stat(&from)?;
            let before = self.entries.get(&child);
            if is_directory(&found) && before.is_some_and(|before| is_directory(&before.stat)) {
                self.directory(&child)?;
            } else if !unchanged(before, &from, &found)? {
                self.make(path)?;
                fs::rename(&from, below(self.to, &child)).at("move", &from)?;
            }
        }
        for child in self.children.get(path).cloned().unwrap_or_default() {
            let new = below(self.to, child);
            if try_stat(&below(self.root, child))?.is_none() && try_stat(&new)?.is_none() {
                self.make(path)?;
                make_whiteout(&new)?;
            }
        }
        Ok(())
    }

    /// Makes a directory of the layers at `to`, and those above it.
    fn make(&mut self, path: &LayerPath) -> Result<()> {
        if self.made.contains_key(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.make(&parent)?;
        }
        let new = below(self.to, path);
        fs::DirBuilder::new().mode(0o700).create(&new).at("create", &new)?;
        self.made.insert(path.clone(), stat(&below(self.root, path))?);
        Ok(())
    }
}

/// Tells whether something in a copy, which is not a directory in both, is as it was copied.
fn unchanged(before: Option<&Origin>, path: &Path, found: &Stat) -> Result<bool> {
    let Some(before) = before else { return Ok(false) };
    // Copies have one name each: a second one was made by the step, and both are new.
    if is_directory(found) || is_directory(&before.stat) || found.st_nlink != 1 {
        return Ok(false);
    }
    Ok(before.copy == Some(fingerprint(found)) || same((path, found), (&before.from, &before.stat))?)
}

fn fingerprint(stat: &Stat) -> (u64, i64, i64) {
    (stat.st_ino, stat.st_ctime, stat.st_ctime_nsec as _)
}

/// Waits until the clock that stamps files has moved on, so that a change from now on shows.
fn wait_for_a_tick() {
    let now = || {
        let time = clock_gettime(ClockId::RealtimeCoarse);
        (time.tv_sec, time.tv_nsec)
    };
    let start = now();
    // A tick is 10 ms at most; more rounds only if the clock is set back just now.
    for _ in 0..100 {
        if now() > start {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Finds what layers show together: overlayfs' rules, from their directories.
fn merge(lower: &Lower, xattrs: OverlayXattrs) -> Result<BTreeMap<LayerPath, Origin>> {
    let opaque = xattrs.name("opaque");
    let mut entries = BTreeMap::new();
    for dir in &lower.dirs {
        add(&mut entries, dir, &LayerPath::root(), opaque.as_bytes())?;
    }
    for (path, from) in &lower.mends {
        entries.insert(path.clone(), Origin { from: from.clone(), stat: stat(from)?, copy: None });
    }
    Ok(entries)
}

/// Lays one directory of a layer on what is below it.
fn add(
    entries: &mut BTreeMap<LayerPath, Origin>,
    layer: &Path,
    path: &LayerPath,
    opaque: &[u8],
) -> Result<()> {
    let dir = below(layer, path);
    for name in list(&dir)? {
        let child = path.join(name.as_bytes())?;
        let from = dir.join(&name);
        let own = stat(&from)?;
        let merges = is_directory(&own)
            && entries.get(&child).is_some_and(|below| is_directory(&below.stat))
            && xattr(&from, opaque)?.is_none_or(|value| value != b"y");
        if !merges {
            let hidden: Vec<_> = entries
                .range(child.clone()..)
                .map(|(path, _)| path)
                .take_while(|path| path.is_within(&child))
                .cloned()
                .collect();
            for path in hidden {
                entries.remove(&path);
            }
        }
        if is_whiteout(&own) {
            continue;
        }
        let descend = is_directory(&own);
        entries.insert(child.clone(), Origin { from, stat: own, copy: None });
        if descend {
            add(entries, layer, &child, opaque)?;
        }
    }
    Ok(())
}

/// Copies something that is no directory.
fn copy(from: &Path, own: &Stat, to: &Path) -> Result<()> {
    match kind(own) {
        FileType::RegularFile => {
            let mut source = File::open(from).at("open", from)?;
            let mut target = File::create_new(to).at("create", to)?;
            if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
                io::copy(&mut source, &mut target).at("copy to", to)?;
            }
        }
        FileType::Symlink => {
            let target = attributes::link(from)?;
            rustix::fs::symlink(&target[..], to).at("create", to)?;
        }
        FileType::Unknown => {
            return Err(Error::damaged(from.display().to_string(), "is a file of an unknown type"));
        }
        other => {
            let mode = Mode::from_raw_mode(own.st_mode);
            rustix::fs::mknodat(CWD, to, other, mode, own.st_rdev).at("create", to)?;
        }
    }
    give(to, from, own)
}
