//! A directory in memory, for what must never be on a disk: secrets, and a bundle with secrets in its environment.

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

/// A file system in memory on a directory. It goes when this is dropped, and with the builder's mount namespace.
#[derive(Debug)]
pub(super) struct Memory(PathBuf);

impl Memory {
    /// Mounts it on `dir`, with mode 0700.
    pub(super) fn on(dir: &Path) -> std::io::Result<Self> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let mount = |options: &std::ffi::CStr| rustix::mount::mount("tmpfs", dir, "tmpfs", flags, options);
        // Linux 6.4 can keep it out of the swap, for the machine's root.
        match mount(c"mode=700,size=64m,noswap") {
            Err(Errno::INVAL | Errno::PERM) => mount(c"mode=700,size=64m")?,
            answer => answer?,
        }
        Ok(Self(dir.to_owned()))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Detached if a process that is being killed still has it; the memory goes with the last user.
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}
