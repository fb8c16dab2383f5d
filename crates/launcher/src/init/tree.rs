//! Detached mounts: made, copied, put in place; always by descriptors.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::error::Error;
use crate::init::Detached;

const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Opens the root that this process has.
pub(super) fn open_root() -> Result<OwnedFd, Error> {
    rustix::fs::openat(CWD, "/", PATH_ONLY | OFlags::DIRECTORY, Mode::empty())
        .map_err(Error::io("open the root"))
}

/// Copies what is at a path of the machine, with the mounts below if `recursive`.
pub(super) fn copy_of(path: &Path, recursive: bool) -> io::Result<Detached> {
    Ok(rustix::mount::open_tree(CWD, path, copying(recursive))?)
}

/// Copies what a descriptor leads to.
pub(super) fn copy(fd: impl AsFd, recursive: bool) -> io::Result<Detached> {
    let flags = copying(recursive) | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(rustix::mount::open_tree(fd, c"", flags)?)
}

fn copying(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// Makes a file system. `attributes` are bits of MOUNT_ATTR_*.
pub(super) fn new(
    fs: &str,
    source: &str,
    options: &[(String, Option<String>)],
    attributes: u64,
) -> io::Result<Detached> {
    let context = fsopen(fs, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let made = (|| {
        if !source.is_empty() {
            fsconfig_set_string(context.as_fd(), "source", source)?;
        }
        for (name, value) in options {
            match value {
                Some(value) => fsconfig_set_string(context.as_fd(), &**name, &**value)?,
                None => fsconfig_set_flag(context.as_fd(), &**name)?,
            }
        }
        fsconfig_create(context.as_fd())?;
        let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    })();
    made.map_err(|errno| {
        let error = io::Error::from(errno);
        // The kernel tells more than a number where it can.
        let mut said = [0; 256];
        match std::fs::File::from(context).read(&mut said) {
            Ok(length) if length > 0 => {
                let said = String::from_utf8_lossy(said.get(..length).unwrap_or_default()).trim().to_owned();
                io::Error::new(error.kind(), format!("{error} ({said})"))
            }
            _ => error,
        }
    })
}

/// Puts a detached mount where `target` leads.
pub(super) fn put(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, c"", target, c"", flags)?)
}

/// Opens a device of the machine, if it is the one with these numbers.
pub(super) fn device(path: &Path, kind: u32, major: u32, minor: u32) -> Result<OwnedFd, Error> {
    let failed = || Error::io(format!("open `{}`", path.display()));
    let fd = rustix::fs::openat(CWD, path, PATH_ONLY | OFlags::NOFOLLOW, Mode::empty()).map_err(failed())?;
    must_be_device(fd.as_fd(), path, kind, major, minor)?;
    Ok(fd)
}

/// Refuses what is not the device with these numbers, whatever it is called.
pub(super) fn must_be_device(
    fd: BorrowedFd<'_>,
    path: &Path,
    kind: u32,
    major: u32,
    minor: u32,
) -> Result<(), Error> {
    let stat = rustix::fs::fstat(fd).map_err(Error::io(format!("look at `{}`", path.display())))?;
    let is_it = FileType::from_raw_mode(stat.st_mode) == FileType::from_raw_mode(kind)
        && stat.st_rdev == rustix::fs::makedev(major, minor);
    if is_it {
        Ok(())
    } else {
        Err(Error::Refused(format!("`{}` is not the device {major}:{minor}", path.display())))
    }
}
