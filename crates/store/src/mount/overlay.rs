use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use cooper_layer::OverlayXattrs;
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

use crate::error::{Error, IoContext as _, Result};
use crate::mount::make_mount_point;
use crate::snapshots::PendingDir;
use crate::store::Store;

/// A mounted overlay; dropping it unmounts it.
#[derive(Debug)]
pub(crate) struct Mounted {
    root: PathBuf,
}

impl Mounted {
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Mounts layers with the files of `pending` above them.
    pub(super) fn writable(store: &Store, lower: &[PathBuf], pending: &PendingDir) -> Result<Self> {
        let work = pending.beside("work");
        make_mount_point(&work)?;
        Self::mount(store, lower, pending, Some(work))
    }

    /// Mounts layers for reading.
    pub(super) fn read_only(store: &Store, lower: &[PathBuf], pending: &PendingDir) -> Result<Self> {
        Self::mount(store, lower, pending, None)
    }

    fn mount(store: &Store, lower: &[PathBuf], pending: &PendingDir, work: Option<PathBuf>) -> Result<Self> {
        let root = pending.beside("root");
        make_mount_point(&root)?;
        let failed = |action| {
            move |source: rustix::io::Errno| Error::Mount {
                action,
                layers: lower.len(),
                source: source.into(),
            }
        };
        // A lower directory below all, so that there is one without layers, and two for a view of one layer, which
        // the kernel asks for.
        let empty = store.0.layout.empty();
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed("use overlayfs"))?;
        let set = |key: &str, value: &Path| fsconfig_set_string(fs.as_fd(), key, value);
        let configure = || -> Result<(), rustix::io::Errno> {
            fsconfig_set_string(fs.as_fd(), "source", "cooper")?;
            if store.overlay_xattrs() == OverlayXattrs::User {
                fsconfig_set_flag(fs.as_fd(), "userxattr")?;
            }
            for (key, value) in [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off")] {
                fsconfig_set_string(fs.as_fd(), key, value)?;
            }
            for dir in lower.iter().rev().chain([&empty]) {
                set("lowerdir+", dir)?;
            }
            if let Some(work) = &work {
                set("upperdir", pending.path())?;
                set("workdir", work)?;
                fsconfig_set_flag(fs.as_fd(), "volatile")?;
            }
            fsconfig_create(fs.as_fd())
        };
        configure().map_err(failed("mount an overlay"))?;
        let attributes = match work {
            Some(_) => MountAttrFlags::empty(),
            None => MountAttrFlags::MOUNT_ATTR_RDONLY,
        };
        let mount = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(failed("mount an overlay"))?;
        move_mount(mount.as_fd(), "", CWD, &root, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(failed("attach an overlay"))?;
        Ok(Self { root })
    }

    /// Unmounts, and leaves in `pending` only what differs from the layers.
    pub(super) fn finish(self, _pending: &PendingDir) -> Result<()> {
        unmount(&self.root, UnmountFlags::DETACH).at("unmount", &self.root)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Already gone after `finish`: the answer is then EINVAL.
        let _ = unmount(&self.root, UnmountFlags::DETACH);
    }
}

/// Unmounts whatever is mounted below a path in this mount namespace.
pub(crate) fn detach_below(path: &Path) -> io::Result<()> {
    let text = match std::fs::read_to_string("/proc/self/mountinfo") {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // The last mounted first.
    for line in text.lines().rev() {
        // proc_pid_mountinfo(5): the fifth field; the store's own names below `path` need no unescaping.
        let Some(point) = line.split(' ').nth(4).map(Path::new) else { continue };
        if point.starts_with(path) {
            unmount(point, UnmountFlags::DETACH)?;
        }
    }
    Ok(())
}
