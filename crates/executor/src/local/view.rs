//! What the step will see, before it is mounted: a root and mounts laid over it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps};

use crate::inroot::{Place, make_dir, open_dir};

/// A root with mounts over it, later ones over earlier ones.
#[derive(Debug)]
pub(super) struct View {
    root: OwnedFd,
    points: Vec<(PathBuf, Over)>,
}

/// What lies over the root at a mount point.
#[derive(Debug)]
pub(super) enum Over {
    /// A directory or file of this machine, opened path-only.
    Existing(OwnedFd),
    /// What the runtime makes: nothing is known of its inside. There are no links in it, but for `/dev`.
    Made,
}

/// Where a path of the step leads.
#[derive(Debug)]
pub(super) struct Located {
    /// The path as the step sees it, without links.
    pub(super) path: PathBuf,
    /// The place in the directory that is seen there; `None` inside what the runtime makes.
    pub(super) place: Option<Place>,
}

impl View {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root, points: Vec::new() }
    }

    /// Lays something over a path that has no links in it.
    pub(super) fn lay(&mut self, at: PathBuf, over: Over) {
        self.points.push((at, over));
    }

    /// Finds out where a path leads; relative ones start at the root.
    pub(super) fn locate(&self, path: &Path) -> io::Result<Located> {
        let mut place = Place::resolve(self.root.as_fd(), path, true)?;
        let mut found = place.path();
        // The point that a path lies on may change as links on mounts are followed, though not without end.
        let mut on: Option<usize> = None;
        for _ in 0..8 {
            let next = self.point_over(&found);
            if next == on {
                return Ok(Located { path: found, place: Some(place) });
            }
            let Some((at, over)) = next.and_then(|index| self.points.get(index)) else { break };
            let rest = found.strip_prefix(at).unwrap_or(Path::new("")).to_owned();
            match over {
                Over::Made => return Ok(Located { path: found, place: None }),
                Over::Existing(fd) => {
                    let is_dir = kind(fd.as_fd())? == FileType::Directory;
                    if !is_dir && !rest.as_os_str().is_empty() {
                        return Err(io::ErrorKind::NotADirectory.into());
                    }
                    place = if is_dir {
                        Place::resolve(fd.as_fd(), &rest, true)?
                    } else {
                        Place::of_file(fd.try_clone()?)?
                    };
                    let inside = place.path();
                    let inside = inside.strip_prefix("/").unwrap_or(&inside);
                    found = if inside.as_os_str().is_empty() { at.clone() } else { at.join(inside) };
                }
            }
            on = next;
        }
        Err(io::Error::other("too many links between mounts"))
    }

    /// Tells whether a path without links leads to something that lies in a mount point itself, not in one below it.
    pub(super) fn is_in(&self, path: &Path, point: &str) -> bool {
        let over = self.point_over(path).and_then(|index| self.points.get(index));
        path != Path::new(point) && over.is_some_and(|(at, _)| at == Path::new(point))
    }

    /// The mount that is seen at a path: the deepest, and of those the last.
    fn point_over(&self, path: &Path) -> Option<usize> {
        let over = self.points.iter().enumerate().filter(|(_, (at, _))| path.starts_with(at));
        over.max_by_key(|(index, (at, _))| (at.components().count(), *index)).map(|(index, _)| index)
    }
}

fn kind(fd: BorrowedFd<'_>) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// What was made so that something can be mounted on it; taken away again when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Stubs(Vec<Stub>);

#[derive(Debug)]
struct Stub {
    parent: OwnedFd,
    name: OsString,
    directory: bool,
}

impl Stubs {
    /// Makes what is missing at a place, the last of it a directory or an empty file. `keep`: it stays.
    ///
    /// Times of directories in which something is made are put back, so that they tell of the step alone.
    pub(super) fn make(&mut self, place: &Place, directory: bool, keep: bool) -> io::Result<()> {
        let missing = place.missing();
        if missing.is_empty() {
            return Ok(());
        }
        let mut at = open_dir(place.fd(), ".")?;
        for (index, name) in missing.iter().enumerate() {
            let directory = directory || index + 1 < missing.len();
            let before = rustix::fs::fstat(&at)?;
            let next = if directory {
                Some(make_dir(at.as_fd(), name, 0o755)?)
            } else {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&at, &**name, flags, Mode::from_raw_mode(0o644))?;
                rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
                None
            };
            put_times_back(at.as_fd(), &before)?;
            if !keep {
                self.0.push(Stub { parent: at.try_clone()?, name: name.clone(), directory });
            }
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        Ok(())
    }

    /// Takes away what is still as it was made; what the step has put something into stays.
    fn remove(&mut self) {
        while let Some(Stub { parent, name, directory }) = self.0.pop() {
            let Ok(before) = rustix::fs::fstat(&parent) else { continue };
            let removed = if directory {
                // Refused by the kernel for one that is not empty.
                rustix::fs::unlinkat(&parent, &*name, AtFlags::REMOVEDIR)
            } else {
                match rustix::fs::statat(&parent, &*name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat)
                        if stat.st_size == 0
                            && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile =>
                    {
                        rustix::fs::unlinkat(&parent, &*name, AtFlags::empty())
                    }
                    Ok(_) => continue,
                    Err(error) => Err(error),
                }
            };
            if removed.is_ok() {
                // Without the old times the layer says more than it should, which is no reason to fail a step.
                let _ = put_times_back(parent.as_fd(), &before);
            }
        }
    }
}

impl Drop for Stubs {
    fn drop(&mut self) {
        self.remove();
    }
}

fn put_times_back(directory: BorrowedFd<'_>, before: &Stat) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: before.st_atime as _, tv_nsec: before.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: before.st_mtime as _, tv_nsec: before.st_mtime_nsec as _ },
    };
    Ok(rustix::fs::futimens(directory, &times)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn path_only(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn paths_lead_through_mounts() {
        let dir = tempfile::tempdir().unwrap();
        let (root, other) = (dir.path().join("root"), dir.path().join("other"));
        std::fs::create_dir_all(root.join("mnt")).unwrap();
        std::fs::create_dir_all(other.join("in")).unwrap();
        std::fs::write(other.join("file"), "").unwrap();
        symlink("/mnt/in", root.join("link")).unwrap();
        symlink("in", other.join("rel")).unwrap();
        let mut view = View::new(path_only(&root));
        view.lay("/mnt".into(), Over::Existing(path_only(&other)));
        view.lay("/mnt/tmp".into(), Over::Made);
        view.lay("/one".into(), Over::Existing(path_only(&other.join("file"))));
        for (path, want, exists) in [
            ("link", "/mnt/in", Some(true)),
            ("/mnt/rel/x", "/mnt/in/x", Some(false)),
            ("/mnt", "/mnt", Some(true)),
            ("/mnt/tmp/a/b", "/mnt/tmp/a/b", None),
            ("/one", "/one", Some(true)),
            ("/two", "/two", Some(false)),
        ] {
            let located = view.locate(Path::new(path)).unwrap();
            assert_eq!(
                (&*located.path, located.place.map(|p| p.exists())),
                (Path::new(want), exists),
                "{path}"
            );
        }
        assert!(view.locate(Path::new("/one/x")).is_err());
    }

    #[test]
    fn stubs_come_and_go_without_a_trace() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir(root.join("etc")).unwrap();
        let time = |name: &str| {
            let meta = std::fs::metadata(root.join(name)).unwrap();
            (meta.mtime(), meta.mtime_nsec())
        };
        let (before, etc) = (time(""), time("etc"));
        let view = View::new(path_only(root));
        let mut stubs = Stubs::default();
        let mut make = |path: &str, directory, keep| {
            let place = view.locate(Path::new(path)).unwrap().place.unwrap();
            stubs.make(&place, directory, keep).unwrap();
        };
        make("/etc/hosts", false, false);
        make("/a/b/c", true, false);
        make("/x/used/d", true, false);
        make("/x/changed", false, false);
        make("/proc", true, true);
        assert_eq!((time(""), time("etc")), (before, etc));
        std::fs::write(root.join("x/used/file"), "").unwrap();
        std::fs::write(root.join("x/changed"), "now with text").unwrap();
        drop(stubs);
        let mut left: Vec<_> = walk(root);
        left.sort();
        assert_eq!(left, ["etc", "proc", "x", "x/changed", "x/used", "x/used/file"]);
        assert_eq!((time(""), time("etc")), (before, etc));
    }

    fn walk(root: &Path) -> Vec<String> {
        fn below(root: &Path, at: &Path, out: &mut Vec<String>) {
            for entry in std::fs::read_dir(at).unwrap() {
                let path = entry.unwrap().path();
                out.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                if path.is_dir() {
                    below(root, &path, out);
                }
            }
        }
        let mut out = Vec::new();
        below(root, root, &mut out);
        out
    }
}
