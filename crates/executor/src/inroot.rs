//! Paths inside a root, resolved component by component so that also what is missing gets a place.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

/// Linux follows 40 links; images made elsewhere may have longer chains, and BuildKit follows 255.
const MAX_LINKS: usize = 255;

/// Where a path leads inside a root: no links and no `..` are left in it.
#[derive(Debug)]
pub(crate) struct Place {
    names: Vec<OsString>,
    existing: usize,
    fd: OwnedFd,
    kind: FileType,
}

impl Place {
    /// Resolves `path` as if `root` were `/`. `follow_last` says whether a link at the end is followed.
    ///
    /// Only names are read here, never the links of `/proc` that lead by themselves, so nothing outside is reached.
    pub(crate) fn resolve(root: BorrowedFd<'_>, path: &Path, follow_last: bool) -> io::Result<Self> {
        let mut todo: VecDeque<OsString> = VecDeque::new();
        prepend(&mut todo, path.as_os_str());
        let mut names: Vec<OsString> = Vec::new();
        // Directories that exist, one for each of the first names; the root is not among them.
        let mut dirs: Vec<OwnedFd> = Vec::new();
        let mut leaf: Option<(OwnedFd, FileType)> = None;
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                if leaf.is_some() {
                    return Err(Errno::NOTDIR.into());
                }
                names.pop();
                dirs.truncate(names.len());
                continue;
            }
            if leaf.is_some() {
                return Err(Errno::NOTDIR.into());
            }
            if dirs.len() < names.len() {
                // Below something that is missing.
                names.push(name);
                continue;
            }
            let at = dirs.last().map_or(root, |dir| dir.as_fd());
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = match rustix::fs::openat(at, &*name, flags, Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => {
                    names.push(name);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
            match kind {
                FileType::Symlink if follow_last || !todo.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let target =
                        OsString::from_vec(rustix::fs::readlinkat(&fd, c"", Vec::new())?.into_bytes());
                    if target.as_bytes().first() == Some(&b'/') {
                        names.clear();
                        dirs.clear();
                    }
                    prepend(&mut todo, &target);
                }
                FileType::Directory => {
                    names.push(name);
                    dirs.push(fd);
                }
                _ => {
                    names.push(name);
                    leaf = Some((fd, kind));
                }
            }
        }
        let existing = dirs.len() + usize::from(leaf.is_some());
        let (fd, kind) = match (leaf, dirs.pop()) {
            (Some(leaf), _) => leaf,
            (None, Some(dir)) => (dir, FileType::Directory),
            (None, None) => (root.try_clone_to_owned()?, FileType::Directory),
        };
        Ok(Self { names, existing, fd, kind })
    }

    /// Makes the place of a file that is a root by itself, as when a file is mounted.
    pub(crate) fn of_file(fd: OwnedFd) -> io::Result<Self> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        Ok(Self { names: Vec::new(), existing: 0, fd, kind })
    }

    /// Returns the path from the root, with a `/` in front.
    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/").join(self.names.iter().collect::<PathBuf>())
    }

    /// Tells whether there is something.
    pub(crate) fn exists(&self) -> bool {
        self.existing == self.names.len()
    }

    /// Returns what is there, `None` if nothing is.
    pub(crate) fn kind(&self) -> Option<FileType> {
        self.exists().then_some(self.kind)
    }

    /// Returns the names that are missing below [`fd`](Self::fd).
    pub(crate) fn missing(&self) -> &[OsString] {
        self.names.get(self.existing..).unwrap_or_default()
    }

    /// Returns a path-only descriptor of the deepest part that exists.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Takes that descriptor out.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

/// Puts the components of `path` in front; empty ones and `.` mean nothing.
fn prepend(todo: &mut VecDeque<OsString>, path: &OsStr) {
    let names = path.as_bytes().split(|&b| b == b'/').filter(|name| !name.is_empty() && *name != b".");
    for (at, name) in names.enumerate() {
        todo.insert(at, OsStr::from_bytes(name).to_owned());
    }
}

/// Makes a directory at a name that is missing and opens it, path-only.
pub(crate) fn make_dir(at: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<OwnedFd> {
    // The mode is set afterwards: the process' umask takes bits away from the call's.
    rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o700))?;
    let fd = open_dir(at, name)?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode & 0o7777))?;
    Ok(fd)
}

/// Opens a directory for reading; a link is an error.
pub(crate) fn open_dir(at: BorrowedFd<'_>, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

/// Returns where a descriptor leads, as a path of this process' mount namespace.
pub(crate) fn path_of(fd: BorrowedFd<'_>) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd as _;
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_stay_inside_and_missing_parts_have_a_place() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("a/file"), "").unwrap();
        for (link, target) in [
            ("abs", "/a"),
            ("up", "../../../a/b"),
            ("out", "/../../etc"),
            ("a/rel", "b"),
            ("dangling", "/x/y"),
            ("loop", "loop"),
            ("magic", "/proc/self/fd/0"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let fd = open_dir(rustix::fs::CWD, root).unwrap();
        let resolve = |path: &str, follow| Place::resolve(fd.as_fd(), Path::new(path), follow);
        for (path, want, missing) in [
            ("", "/", 0),
            ("/", "/", 0),
            ("a/./b/", "/a/b", 0),
            ("/abs/b", "/a/b", 0),
            ("abs", "/a", 0),
            ("up", "/a/b", 0),
            ("up/../../..", "/", 0),
            ("out/passwd", "/etc/passwd", 2),
            ("a/rel/c/d", "/a/b/c/d", 2),
            ("dangling/z", "/x/y/z", 3),
            ("no/../a/b", "/a/b", 0),
            ("no/thing/../x", "/no/x", 2),
            ("magic", "/proc/self/fd/0", 4),
            ("../../a", "/a", 0),
        ] {
            let place = resolve(path, true).unwrap();
            assert_eq!((place.path(), place.missing().len()), (PathBuf::from(want), missing), "{path}");
        }
        assert_eq!(resolve("abs", false).unwrap().kind(), Some(FileType::Symlink));
        assert_eq!(resolve("abs/b", false).unwrap().path(), Path::new("/a/b"));
        assert_eq!(resolve("loop", true).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(resolve("a/file/x", true).unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
        assert_eq!(resolve("a/file/..", true).unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
        assert_eq!(resolve("a/file", true).unwrap().kind(), Some(FileType::RegularFile));
        assert_eq!(
            path_of(resolve("up", true).unwrap().fd()).unwrap(),
            root.canonicalize().unwrap().join("a/b")
        );
    }
}
