//! Locks that the kernel frees when their holder dies, however it dies.
#![allow(unsafe_code)] // byte-range locks of open file descriptions have no wrapper in rustix

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

/// One open description of a file whose bytes are locks: byte `n` is lock `n`.
///
/// The file stays empty and is never deleted: a lock file that is unlinked while another process opens it gives two
/// holders. Locks belong to this description, so two of them conflict inside one process too. They are not inherited
/// by programs that are started (close-on-exec).
#[derive(Debug)]
pub(crate) struct ByteLocks(File);

/// A byte is one of the 2^62 that a lock can name; offsets are signed, and the end must not overflow.
pub(crate) const MASK: u64 = (1 << 62) - 1;

impl ByteLocks {
    /// Opens a description of its own.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        File::options().read(true).write(true).create(true).truncate(false).open(path).map(Self)
    }

    /// Takes a lock if it is free.
    pub(crate) fn try_lock(&self, byte: u64) -> io::Result<bool> {
        self.take(libc::F_WRLCK, byte)
    }

    /// Takes a lock together with others who share it, or makes the own one shared.
    pub(crate) fn try_share(&self, byte: u64) -> io::Result<bool> {
        self.take(libc::F_RDLCK, byte)
    }

    fn take(&self, kind: libc::c_int, byte: u64) -> io::Result<bool> {
        let request = lock(kind, byte);
        // SAFETY: F_OFD_SETLK reads one `flock` structure, which lives until the call is over.
        let answer = unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_OFD_SETLK, &request) };
        match answer {
            0 => Ok(true),
            _ => match io::Error::last_os_error() {
                error if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
                error => Err(error),
            },
        }
    }

    /// Gives a lock back; one that is not held stays so.
    pub(crate) fn unlock(&self, byte: u64) -> io::Result<()> {
        let request = lock(libc::F_UNLCK, byte);
        // SAFETY: F_OFD_SETLK reads one `flock` structure, which lives until the call is over.
        match unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_OFD_SETLK, &request) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Returns the open file: whoever has a copy of its descriptor has its locks.
    pub(crate) fn file(&self) -> &File {
        &self.0
    }

    /// Tells whether another description holds a lock, without taking it.
    pub(crate) fn is_held(&self, byte: u64) -> io::Result<bool> {
        let mut request = lock(libc::F_WRLCK, byte);
        // SAFETY: F_OFD_GETLK reads and writes one `flock` structure, which lives until the call is over.
        let answer = unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_OFD_GETLK, &mut request) };
        match answer {
            0 => Ok(request.l_type != libc::F_UNLCK as libc::c_short),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn lock(kind: libc::c_int, byte: u64) -> libc::flock {
    // SAFETY: all fields are integers, for which zero is a value; `l_pid` must be zero for these locks.
    let mut request: libc::flock = unsafe { std::mem::zeroed() };
    request.l_type = kind as libc::c_short;
    request.l_whence = libc::SEEK_SET as libc::c_short;
    request.l_start = (byte & MASK) as libc::off_t;
    request.l_len = 1;
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_exclude_each_other_byte_by_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks");
        let (a, b) = (ByteLocks::open(&path).unwrap(), ByteLocks::open(&path).unwrap());
        for byte in [0, 7, MASK] {
            assert!(!b.is_held(byte).unwrap());
            assert!(a.try_lock(byte).unwrap());
            assert!(b.is_held(byte).unwrap() && !a.is_held(byte).unwrap());
            assert!(!b.try_lock(byte).unwrap());
        }
        assert!(b.try_lock(8).unwrap());
        assert!(a.try_share(9).unwrap() && b.try_share(9).unwrap());
        assert!(!a.try_lock(9).unwrap(), "shared with another");
        b.unlock(9).unwrap();
        assert!(a.try_lock(9).unwrap() && !b.try_share(9).unwrap());
        assert!(a.try_share(9).unwrap() && b.try_share(9).unwrap());
        drop(a);
        assert!(!b.is_held(7).unwrap());
        assert!(b.try_lock(7).unwrap());
    }
}
