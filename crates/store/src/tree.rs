//! Deleting trees that strangers wrote: any depth, any mode, never through a mount or a link.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Directories deeper than this are moved up first, so that neither stack nor descriptors run out.
const DEPTH: usize = 100;

/// Deletes a file or a directory with everything in it. What is already gone is no error.
///
/// A mount below it is one (`EXDEV`): what is mounted there belongs to somebody else.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match rustix::fs::unlink(path) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    // Again: an entry that comes while its directory is being emptied is found the next time. Another process may be
    // deleting the same tree.
    for last in [false, false, true] {
        let top = match open(CWD, path) {
            Ok(top) => top,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut moved = 0;
        // What was moved up stands in the top directory again, so it is read until it stays empty.
        while empty(top.as_fd(), top.as_fd(), 0, &mut moved)? {}
        match rustix::fs::rmdir(path) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) if !last => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn open(at: BorrowedFd<'_>, name: impl rustix::path::Arg + Copy) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// Opens a directory in another, on the same mount.
fn open_below(at: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(at, name, flags, Mode::empty(), resolve)
}

/// Makes a directory writable for its owner, where capabilities do not help with that.
fn force(at: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    rustix::fs::chmodat(at, name, Mode::RWXU, AtFlags::empty())
}

/// Empties a directory; tells whether something was moved to `top`.
fn empty(dir: BorrowedFd<'_>, top: BorrowedFd<'_>, depth: usize, moved: &mut u64) -> Result<bool, Errno> {
    let mut again = false;
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let unlinked = match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Err(Errno::ACCESS) => {
                rustix::fs::fchmod(dir, Mode::RWXU)?;
                rustix::fs::unlinkat(dir, name, AtFlags::empty())
            }
            answer => answer,
        };
        match unlinked {
            Ok(()) | Err(Errno::NOENT) => continue,
            // Linux answers EISDIR, POSIX would have EPERM.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
        let child = match open_below(dir, name) {
            Err(Errno::ACCESS) => {
                force(dir, name)?;
                open_below(dir, name)?
            }
            Err(Errno::NOENT) => continue,
            answer => answer?,
        };
        if depth >= DEPTH {
            *moved += 1;
            drop(child);
            let new = format!(".cooper-deep-{moved}");
            match rustix::fs::renameat(dir, name, top, new.as_str()) {
                // Another process may have taken the name: with the next number, then.
                Ok(()) | Err(Errno::EXIST | Errno::NOTEMPTY) => again = true,
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
            continue;
        }
        again |= empty(child.as_fd(), top, depth + 1, moved)?;
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(again)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn deep_closed_and_linked() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        let top = dir.path().join("top");
        fs::create_dir(&top).unwrap();
        std::os::unix::fs::symlink(&outside, top.join("link")).unwrap();
        fs::create_dir_all(top.join("closed/inner")).unwrap();
        fs::write(top.join("closed/file"), "x").unwrap();
        fs::set_permissions(top.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
        // Deeper than a path can be and than descriptors are allowed.
        let mut at = open(CWD, &*top).unwrap();
        for _ in 0..1200 {
            rustix::fs::mkdirat(&at, "a-directory", Mode::RWXU).unwrap();
            at = open(at.as_fd(), "a-directory").unwrap();
        }
        drop(at);
        remove(&top).unwrap();
        assert!(!top.exists());
        assert!(outside.join("kept").exists());
        remove(&top).unwrap();
        remove(&outside.join("kept")).unwrap();
        assert!(!outside.join("kept").exists());
    }
}
