//! What a file is apart from its name: reading, giving to another file, comparing.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::error::{IoContext as _, Result};

/// Attributes that the host's security modules put on files by themselves; they are not the image's.
const HOST: &[&[u8]] = &[b"security.selinux", b"security.ima", b"security.evm", b"security.apparmor"];

/// Overlayfs' own attributes, of both families.
const OVERLAY: &[&[u8]] = &[b"trusted.overlay.", b"user.overlay."];

pub(super) fn stat(path: &Path) -> Result<Stat> {
    rustix::fs::lstat(path).at("look at", path)
}

/// Looks at something that may not be there.
pub(super) fn try_stat(path: &Path) -> Result<Option<Stat>> {
    match rustix::fs::lstat(path) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error).at("look at", path),
    }
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(super) fn is_directory(stat: &Stat) -> bool {
    kind(stat) == FileType::Directory
}

/// Tells whether a file is overlayfs' sign for something removed: a character device 0:0.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Hides whatever lower layers have at a path.
pub(super) fn make_whiteout(path: &Path) -> Result<()> {
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).at("make a whiteout at", path)
}

/// Lists extended attributes by name, sorted; host attributes are left out.
fn names(path: &Path) -> Result<Vec<Vec<u8>>> {
    let mut size = 0;
    loop {
        let mut buffer = vec![0; size];
        let count = match rustix::fs::llistxattr(path, &mut buffer[..]) {
            // An empty buffer is answered with zero bytes whatever there is.
            Ok(0) if size == 0 => {
                // Asking for the length needs a call of its own; most files have none.
                match rustix::fs::llistxattr(path, &mut [0_u8; 1][..]) {
                    Ok(0) => return Ok(Vec::new()),
                    Ok(_) | Err(Errno::RANGE) => size = 1024,
                    Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
                    Err(error) => return Err(error).at("list the attributes of", path),
                }
                continue;
            }
            Ok(count) => count,
            // XATTR_LIST_MAX is 64 KiB.
            Err(Errno::RANGE) if size < 1 << 16 => {
                size = (size * 2).max(1024);
                continue;
            }
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error).at("list the attributes of", path),
        };
        buffer.truncate(count);
        let names = buffer.split(|&b| b == 0).filter(|name| !name.is_empty() && !HOST.contains(name));
        let mut names: Vec<_> = names.map(<[u8]>::to_vec).collect();
        names.sort();
        return Ok(names);
    }
}

fn is_overlay(name: &[u8]) -> bool {
    OVERLAY.iter().any(|prefix| name.starts_with(prefix))
}

pub(super) fn xattr(path: &Path, name: &[u8]) -> Result<Option<Vec<u8>>> {
    // XATTR_SIZE_MAX is 64 KiB.
    for size in [256, 1 << 16] {
        let mut buffer = vec![0; size];
        match rustix::fs::lgetxattr(path, name, &mut buffer[..]) {
            Ok(count) => {
                buffer.truncate(count);
                return Ok(Some(buffer));
            }
            Err(Errno::RANGE) => {}
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error).at("read an attribute of", path),
        }
    }
    Err(Errno::RANGE).at("read an attribute of", path)
}

/// Names of attributes with their values; `None` if one went away while it was read.
type Xattrs = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Reads the extended attributes that belong to the image.
fn xattrs(path: &Path) -> Result<Xattrs> {
    let names = names(path)?.into_iter().filter(|name| !is_overlay(name));
    names.map(|name| xattr(path, &name).map(|value| (name, value))).collect()
}

/// Removes overlayfs' own attributes, which mean something only in the mount that wrote them.
pub(super) fn strip_overlay(path: &Path) -> Result<()> {
    for name in names(path)? {
        if is_overlay(&name) {
            match rustix::fs::lremovexattr(path, &name[..]) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(error) => return Err(error).at("remove an attribute of", path),
            }
        }
    }
    Ok(())
}

/// Gives a file the owner, mode, attributes and times of another of the same type.
pub(super) fn give(path: &Path, from: &Path, stat: &Stat) -> Result<()> {
    let now = self::stat(path)?;
    // Owner first: changing it clears set-user-id and capabilities. Where only one id exists there is nothing to set.
    if (now.st_uid, now.st_gid) != (stat.st_uid, stat.st_gid) {
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(CWD, path, Some(uid), Some(gid), flags).at("set the owner of", path)?;
    }
    if kind(stat) != FileType::Symlink {
        let mode = Mode::from_raw_mode(stat.st_mode);
        rustix::fs::chmodat(CWD, path, mode, AtFlags::empty()).at("set the mode of", path)?;
    }
    for (name, value) in xattrs(from)? {
        let Some(value) = value else { continue };
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(path, &name[..], &value, flags).at("set an attribute of", path)?;
    }
    set_times(path, stat)
}

pub(super) fn set_times(path: &Path, stat: &Stat) -> Result<()> {
    let time = |seconds, nanos| Timespec { tv_sec: seconds, tv_nsec: nanos as _ };
    let times = Timestamps {
        last_access: time(stat.st_atime as _, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime as _, stat.st_mtime_nsec),
    };
    let set = rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
    set.at("set the times of", path)
}

/// Tells whether two files are the same to whoever looks: all but the name, the inode and the times of access and
/// change. What is in directories is not compared, nor how many names a file has.
pub(super) fn same(a: (&Path, &Stat), b: (&Path, &Stat)) -> Result<bool> {
    let facts = |s: &Stat| (s.st_mode, s.st_uid, s.st_gid, s.st_mtime, s.st_mtime_nsec);
    if facts(a.1) != facts(b.1) {
        return Ok(false);
    }
    let content = match kind(a.1) {
        FileType::RegularFile => a.1.st_size == b.1.st_size && same_bytes(a.0, b.0)?,
        FileType::Symlink => link(a.0)? == link(b.0)?,
        FileType::CharacterDevice | FileType::BlockDevice => a.1.st_rdev == b.1.st_rdev,
        _ => true,
    };
    Ok(content && xattrs(a.0)? == xattrs(b.0)?)
}

pub(super) fn link(path: &Path) -> Result<Vec<u8>> {
    std::fs::read_link(path).at("read the link", path).map(|to| to.as_os_str().as_bytes().to_vec())
}

fn same_bytes(a: &Path, b: &Path) -> Result<bool> {
    let (mut a_file, mut b_file) = (File::open(a).at("open", a)?, File::open(b).at("open", b)?);
    let (mut a_buffer, mut b_buffer) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let (a_count, b_count) = (
            fill(&mut a_file, &mut a_buffer).at("read", a)?,
            fill(&mut b_file, &mut b_buffer).at("read", b)?,
        );
        if a_buffer.get(..a_count) != b_buffer.get(..b_count) {
            return Ok(false);
        }
        if a_count == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while let Some(rest) = buffer.get_mut(count..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
