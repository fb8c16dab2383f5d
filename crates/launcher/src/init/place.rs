//! Paths inside of the root, which never lead out of it, not even by what `/proc` links to.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::error::Error;

/// linux/magic.h.
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// Opens what is at a path, path-only.
pub(super) fn open(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    Ok(openat2(
        root,
        relative(path),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )?)
}

/// As [`open`]; a link anywhere on the way is an error.
pub(super) fn open_without_links(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    Ok(openat2(
        root,
        relative(path),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
    )?)
}

/// As [`open`], and makes what is missing: a directory or an empty file, and the directories above.
pub(super) fn open_or_make(root: BorrowedFd<'_>, path: &Path, directory: bool) -> io::Result<OwnedFd> {
    match open(root, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(root, path, directory),
        opened => opened,
    }
}

/// Walks by hand, since the kernel does not say where a link leads whose end is missing.
fn make(root: BorrowedFd<'_>, path: &Path, directory: bool) -> io::Result<OwnedFd> {
    let mut todo: VecDeque<OsString> = names(path.as_os_str()).collect();
    let mut way: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            way.pop();
            continue;
        }
        let at = way.last().map_or(root, |dir| dir.as_fd());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(at, &*name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                if directory || !todo.is_empty() {
                    rustix::fs::mkdirat(at, &*name, Mode::from_raw_mode(0o755))?;
                } else {
                    let flags =
                        OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    rustix::fs::openat(at, &*name, flags, Mode::from_raw_mode(0o644))?;
                }
                rustix::fs::openat(at, &*name, flags, Mode::empty())?
            }
            opened => opened?,
        };
        match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
            FileType::Symlink => {
                links += 1;
                if links > MOST_LINKS || is_proc(fd.as_fd())? {
                    return Err(Errno::LOOP.into());
                }
                let target = OsString::from_vec(rustix::fs::readlinkat(&fd, c"", Vec::new())?.into_bytes());
                if target.as_bytes().first() == Some(&b'/') {
                    way.clear();
                }
                for (at, name) in names(&target).enumerate() {
                    todo.insert(at, name);
                }
            }
            // A file that is not the last makes the next lookup fail.
            _ => way.push(fd),
        }
    }
    match way.pop() {
        Some(fd) => Ok(fd),
        None => Ok(root.try_clone_to_owned()?),
    }
}

fn names(path: &OsStr) -> impl Iterator<Item = OsString> {
    let parts = path.as_bytes().split(|byte| *byte == b'/');
    parts.filter(|part| !part.is_empty() && *part != b".").map(|part| OsStr::from_bytes(part).to_owned())
}

fn relative(path: &Path) -> &Path {
    match path.strip_prefix("/") {
        Ok(rest) if !rest.as_os_str().is_empty() => rest,
        Ok(_) => Path::new("."),
        Err(_) => path,
    }
}

/// Whether something lies on a file system of the kernel's that shows processes.
pub(super) fn is_proc(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(rustix::fs::fstatfs(fd)?.f_type as u64 == PROC_SUPER_MAGIC)
}

/// Refuses something that only looks like `/proc`: what is masked or written to there would be something else.
pub(super) fn must_be_proc(fd: BorrowedFd<'_>, shown: &str) -> Result<(), Error> {
    match is_proc(fd) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::Refused(format!("`{shown}` is not the kernel's"))),
        Err(error) => Err(Error::io(format!("look at `{shown}`"))(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_is_made_or_opened_outside() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        for path in [root.join("a"), outside.clone()] {
            std::fs::create_dir_all(path).unwrap();
        }
        for (link, target) in [
            ("up", "../outside".to_owned()),
            ("out", outside.to_str().unwrap().to_owned()),
            ("dangling", "../../outside/new".to_owned()),
            ("loop", "loop".to_owned()),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(rustix::fs::CWD, &root, flags, Mode::empty()).unwrap();
        let inside = |path: &str, directory| {
            let place = open_or_make(fd.as_fd(), Path::new(path), directory)?;
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&place));
            std::fs::read_link(path)
        };
        let deep = root.join(outside.strip_prefix("/").unwrap());
        for (path, directory, want) in [
            ("/a", true, root.join("a")),
            ("/a/new/file", false, root.join("a/new/file")),
            ("/up/x", true, root.join("outside/x")),
            ("/out/x", false, deep.join("x")),
            ("/dangling", false, root.join("outside/new")),
            ("/dangling", false, root.join("outside/new")),
            ("/", true, root.clone()),
        ] {
            assert_eq!(inside(path, directory).unwrap(), want.canonicalize().unwrap_or(want), "{path}");
        }
        assert_eq!(inside("/loop", true).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(inside("/a/new/file/x", true).unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        // Links of the kernel's lead anywhere.
        let machine = rustix::fs::openat(rustix::fs::CWD, "/", flags, Mode::empty()).unwrap();
        for path in ["/proc/self/cwd", "/proc/self/root/etc", "/proc/self/fd/0"] {
            let error = open_or_make(machine.as_fd(), Path::new(path), true).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{path}");
        }
        assert!(open_without_links(fd.as_fd(), Path::new("/up")).is_err());
        assert!(must_be_proc(fd.as_fd(), "/proc").is_err());
    }
}
