use std::fs::File;
use std::io::{self, Write as _};

use cooper_layer::{LayerPath, Timestamp};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Timespec};
use rustix::io::Errno;

use crate::file::action::{MakeDir, MakeFile, Owner, Remove, Symlink};
use crate::file::error::FileError;
use crate::file::root::{Root, name_of};
use crate::file::view::{View, clean, joined, text};

/// Mode of directories that are made on the way to something.
pub(super) const PARENT_MODE: u32 = 0o755;

/// Makes a directory and its missing parents; returns those that were made, parents first.
///
/// What exists is left as it is. Made ones get the mode without its special bits, as BuildKit's do.
pub(super) fn make_dirs(
    root: &Root,
    path: &LayerPath,
    mode: u32,
    owner: Option<Owner>,
    mtime: Option<Timestamp>,
) -> Result<Vec<LayerPath>, FileError> {
    let mut missing = Vec::new();
    let mut at = path.clone();
    loop {
        match root.stat(&at).map_err(FileError::io("look at", at.as_bytes()))? {
            Some(meta) if meta.is_dir() => break,
            Some(_) => return Err(FileError::io("make directory", path.as_bytes())(Errno::NOTDIR.into())),
            None => missing.push(at.clone()),
        }
        let Some(parent) = at.parent() else { break };
        at = parent;
    }
    missing.reverse();
    for path in &missing {
        root.make_dir(path, mode & 0o777).map_err(FileError::io("make directory", path.as_bytes()))?;
        finish(root, path, FileType::Directory, owner, mtime)?;
    }
    Ok(missing)
}

/// Sets owner and time of something that was made, where they are given.
fn finish(
    root: &Root,
    path: &LayerPath,
    kind: FileType,
    owner: Option<Owner>,
    mtime: Option<Timestamp>,
) -> Result<(), FileError> {
    if let Some(owner) = owner {
        root.set_owner(path, kind, owner).map_err(FileError::io("set the owner of", path.as_bytes()))?;
    }
    set_time(root, path, mtime)
}

/// Sets both times of a path, if there is one to set.
pub(super) fn set_time(root: &Root, path: &LayerPath, mtime: Option<Timestamp>) -> Result<(), FileError> {
    let Some(mtime) = mtime else { return Ok(()) };
    let time = timespec(mtime);
    root.set_times(path, time, time).map_err(FileError::io("set the times of", path.as_bytes()))
}

pub(super) fn timespec(time: Timestamp) -> Timespec {
    Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() }
}

/// Makes a directory; see [`MakeDir`].
pub(super) fn dir(root: &Root, action: &MakeDir) -> Result<(), FileError> {
    let found = View::whole(root).find(action.path.as_bytes(), true)?;
    if action.parents {
        make_dirs(root, &found.path, action.mode, action.owner, action.mtime)?;
        return Ok(());
    }
    if found.meta.is_some() {
        return Ok(());
    }
    root.make_dir(&found.path, action.mode & 0o777).map_err(FileError::io("make directory", &action.path))?;
    finish(root, &found.path, FileType::Directory, action.owner, action.mtime)
}

/// Writes a file; see [`MakeFile`].
pub(super) fn file(root: &Root, action: &MakeFile) -> Result<(), FileError> {
    let found = View::whole(root).find(action.path.as_bytes(), true)?;
    let error = |source: io::Error| FileError::io("write", &action.path)(source);
    match found.meta.map(|meta| meta.kind) {
        None | Some(FileType::RegularFile) => {}
        Some(FileType::Directory) => return Err(error(Errno::ISDIR.into())),
        Some(_) => return Err(error(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))),
    }
    let made = found.meta.is_none();
    let parent = root.open_parent(&found.path).map_err(error)?;
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let flags = flags | if made { OFlags::CREATE | OFlags::EXCL } else { OFlags::TRUNC };
    let mode = if made { Mode::from_raw_mode(action.mode & 0o777) } else { Mode::empty() };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let fd = rustix::fs::openat2(parent, name_of(&found.path), flags, mode, resolve);
    let mut file = File::from(fd.map_err(|errno| error(errno.into()))?);
    file.write_all(&action.data).map_err(error)?;
    if made {
        // The process' umask may have taken bits away.
        rustix::fs::fchmod(&file, mode).map_err(|errno| error(errno.into()))?;
    }
    drop(file);
    finish(root, &found.path, FileType::RegularFile, action.owner, action.mtime)
}

/// Makes a link; see [`Symlink`].
pub(super) fn symlink(root: &Root, action: &Symlink) -> Result<(), FileError> {
    let found = View::whole(root).find(action.path.as_bytes(), true)?;
    let error = |source: io::Error| FileError::io("make link", &action.path)(source);
    if found.meta.is_some() {
        return Err(error(Errno::EXIST.into()));
    }
    let parent = root.open_parent(&found.path).map_err(error)?;
    rustix::fs::symlinkat(&*action.target, parent, name_of(&found.path))
        .map_err(|errno| error(errno.into()))?;
    finish(root, &found.path, FileType::Symlink, action.owner, action.mtime)
}

/// Removes a file or a tree; see [`Remove`].
pub(super) fn remove(root: &Root, action: &Remove) -> Result<(), FileError> {
    if !action.wildcards {
        return remove_one(root, action.path.as_bytes(), action.allow_not_found);
    }
    let view = View::whole(root);
    for path in view.expand(action.path.as_bytes(), false)? {
        remove_one(root, &path, action.allow_not_found)?;
    }
    Ok(())
}

fn remove_one(root: &Root, path: &[u8], allow_not_found: bool) -> Result<(), FileError> {
    let path = joined(&clean(path));
    if path.is_empty() {
        return Err(FileError::Path(text(&path)));
    }
    let view = View::whole(root);
    let found = view.find(&path, false)?;
    // A link counts as there only if what it points to is, as for BuildKit.
    if !allow_not_found && view.find(&path, true)?.meta.is_none() {
        return Err(FileError::NotFound(text(&path)));
    }
    root.remove_all(&found.path).map_err(FileError::io("remove", path))
}
