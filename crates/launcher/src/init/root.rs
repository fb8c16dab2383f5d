//! The root: collected, entered, furnished.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};

use crate::error::{Error, Tried as _};
use crate::init::{Detached, dev, place, tree};
use crate::plan::{Attributes, Kind, Mount, Plan, Propagation};
use crate::sys;

/// Everything that will be the container's view, not in place yet.
#[derive(Debug)]
pub(super) struct NewRoot {
    root: OwnedFd,
    /// In the order of the plan.
    mounts: Vec<Detached>,
    /// Nodes that could not be made and are the machine's own, to be mounted.
    nodes: Vec<(PathBuf, Detached)>,
}

/// linux/magic.h.
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// Collects the root and the sources of all mounts.
pub(super) fn prepare(plan: &Plan) -> Result<NewRoot, Error> {
    // Nothing that is mounted from here on is seen by anybody else. Whoever wants to see what the machine mounts later
    // keeps that direction.
    let flow = match plan.root_propagation {
        Propagation::Slave | Propagation::Shared => MountPropagationFlags::DOWNSTREAM,
        Propagation::Private | Propagation::Unbindable => MountPropagationFlags::PRIVATE,
    };
    mount_change("/", flow | MountPropagationFlags::REC).map_err(Error::io("keep mounts private"))?;

    let shown = plan.root.display();
    let root = tree::copy_of(&plan.root, true).map_err(Error::io(format!("open the root `{shown}`")))?;
    let mut mounts = Vec::with_capacity(plan.mounts.len());
    let mut nodes = Vec::new();
    for mount in &plan.mounts {
        let made = source(mount).map_err(Error::io(format!(
            "mount `{}` ({})",
            mount.target.display(),
            what(&mount.kind)
        )))?;
        if plan.own_dev && mount.target == Path::new("/dev") {
            // While it is at no path, there is nobody who could put something in the way.
            nodes = dev::furnish(made.as_fd(), &plan.devices)?;
        }
        mounts.push(made);
    }
    let place = rustix::fs::openat(CWD, &plan.root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::io(format!("open the root `{shown}`")))?;
    // The root has to be a mount of its own for the pivot.
    tree::put(root.as_fd(), place.as_fd()).map_err(Error::io(format!("mount the root `{shown}`")))?;
    Ok(NewRoot { root, mounts, nodes })
}

fn what(kind: &Kind) -> String {
    match kind {
        Kind::Bind { source, .. } => format!("from `{}`", source.display()),
        Kind::New { fs, .. } => fs.clone(),
        Kind::Groups => "control groups".to_owned(),
    }
}

/// Makes one mount, detached, with everything set that it shall have.
fn source(mount: &Mount) -> io::Result<Detached> {
    let made = match &mount.kind {
        Kind::Bind { source, recursive } => {
            let made = tree::copy_of(source, *recursive)?;
            if !mount.top.is_nothing() {
                change(made.as_fd(), false, mount.top)?;
            }
            made
        }
        Kind::New { fs, source, options } => tree::new(fs, source, options, mount.top.set)?,
        Kind::Groups => groups(mount.top)?,
    };
    if !mount.all.is_nothing() {
        change(made.as_fd(), true, mount.all)?;
    }
    Ok(made)
}

/// Changes a mount. What is to be taken off and is not there is not asked for: in a user namespace the kernel refuses that,
/// also for what would change nothing.
fn change(fd: BorrowedFd<'_>, recursive: bool, mut attributes: Attributes) -> io::Result<()> {
    use rustix::fs::StatVfsMountFlags as Has;
    if !recursive {
        let has = rustix::fs::fstatvfs(fd)?.f_flag;
        for (flag, bit) in [
            (Has::RDONLY, Attributes::READONLY),
            (Has::NOSUID, Attributes::NOSUID),
            (Has::NODEV, Attributes::NODEV),
            (Has::NOEXEC, Attributes::NOEXEC),
        ] {
            if !has.contains(flag) {
                attributes.clear &= !bit;
            }
        }
        let default_times = !has.intersects(Has::NOATIME) && has.contains(Has::RELATIME);
        if attributes.set & Attributes::ATIME == 0 && default_times {
            attributes.clear &= !Attributes::ATIME;
        }
    }
    if attributes.is_nothing() { Ok(()) } else { sys::set_mount(fd, recursive, attributes, None) }
}

/// Shows control groups: those of version 2 as the namespace has them, or the machine's where they may not be mounted or
/// are of version 1, read-only.
fn groups(attributes: Attributes) -> io::Result<Detached> {
    let path = Path::new("/sys/fs/cgroup");
    let unified = rustix::fs::statfs(path)?.f_type as u64 == CGROUP2_SUPER_MAGIC;
    if unified && let Ok(made) = tree::new("cgroup2", "cgroup2", &[], attributes.set) {
        return Ok(made);
    }
    let made = tree::copy_of(path, true)?;
    let set = attributes.set | if unified { 0 } else { Attributes::READONLY };
    sys::set_mount(made.as_fd(), true, Attributes { set, clear: 0 }, None)?;
    Ok(made)
}

impl NewRoot {
    /// Makes it this process's root; the machine's is gone then.
    pub(super) fn enter(&self, no_pivot: bool) -> Result<(), Error> {
        rustix::process::fchdir(&self.root).tried(|| "enter the root")?;
        if no_pivot {
            // For machines whose root is the first file system of all, which cannot be moved away. What was mounted there
            // stays below, so whoever has CAP_SYS_ADMIN could take the new root off again.
            rustix::mount::mount_move(".", "/").tried(|| "move the root to /")?;
            rustix::process::chroot(".").tried(|| "change the root")?;
        } else {
            // Both in one place: the old root lies on top of the new one then, and is taken off.
            rustix::process::pivot_root(".", ".").map_err(|errno| match errno {
                Errno::INVAL => Error::Refused(
                    "the kernel does not move this machine's root away, which is no mount or the very first one: use --no-pivot"
                        .to_owned(),
                ),
                errno => Error::io("pivot the root")(errno),
            })?;
            // Between the two, what is taken off must not be taken off elsewhere.
            mount_change(".", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
                .tried(|| "keep mounts private")?;
            unmount(".", UnmountFlags::DETACH).tried(|| "take the old root off")?;
        }
        rustix::process::chdir("/").tried(|| "enter the root")
    }

    /// Puts the mounts in place, and covers what must not be seen or written to.
    pub(super) fn furnish(self, plan: &Plan, root: BorrowedFd<'_>) -> Result<(), Error> {
        for (mount, made) in plan.mounts.iter().zip(&self.mounts) {
            put(mount, made.as_fd(), root)?;
            if mount.target == Path::new("/dev") {
                for (path, node) in &self.nodes {
                    let failed = || format!("mount the device `{}`", path.display());
                    let place = place::open_without_links(root, path).tried(failed)?;
                    tree::put(node.as_fd(), place.as_fd()).tried(failed)?;
                }
            }
        }
        cover(plan, root)?;
        let whole = |attributes, propagation| {
            sys::set_mount(root, false, attributes, propagation)
                .map_err(Error::io("change the mount of the root"))
        };
        if plan.root_readonly {
            whole(Attributes { set: Attributes::READONLY, clear: 0 }, None)?;
        }
        if plan.root_propagation != Propagation::Private {
            whole(Attributes::default(), Some(plan.root_propagation))?;
        }
        Ok(())
    }
}

fn put(mount: &Mount, made: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Result<(), Error> {
    let failed = || format!("mount `{}` ({})", mount.target.display(), what(&mount.kind));
    let kind = FileType::from_raw_mode(rustix::fs::fstat(made).tried(failed)?.st_mode);
    let directory = kind == FileType::Directory;
    let place = place::open_or_make(root, &mount.target, directory).tried(failed)?;
    if place::is_proc(place.as_fd()).tried(failed)? {
        // What the container or others read there would not be the kernel's word any more.
        return Err(Error::Refused(format!(
            "`{}` is inside of /proc, where nothing is mounted",
            mount.target.display()
        )));
    }
    tree::put(made, place.as_fd()).tried(failed)?;
    // Copies of shared mounts are shared; to whom a mount is shown is said once it is in place.
    let (propagation, recursive) = mount.propagation.unwrap_or((Propagation::Private, true));
    sys::set_mount(made, recursive, Attributes::default(), Some(propagation)).tried(failed)
}

/// Covers what is masked, and makes read-only what is read-only.
fn cover(plan: &Plan, root: BorrowedFd<'_>) -> Result<(), Error> {
    let mut null = None;
    for path in &plan.masked {
        let failed = || format!("mask `{}`", path.display());
        let Some(place) = of_kernel(root, path)? else { continue };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&place).tried(failed)?.st_mode);
        let cover = if kind == FileType::Directory {
            let attributes =
                Attributes::READONLY | Attributes::NOSUID | Attributes::NODEV | Attributes::NOEXEC;
            tree::new("tmpfs", "tmpfs", &[("nr_inodes".to_owned(), Some("2".to_owned()))], attributes)
        } else {
            // The one of the container, if it is the real one: whatever lay there instead would be seen in many places.
            let null = match &null {
                Some(null) => null,
                None => null.insert(null_device(root)?),
            };
            tree::copy(null, false)
        };
        tree::put(cover.tried(failed)?.as_fd(), place.as_fd()).tried(failed)?;
    }
    for path in &plan.readonly {
        let failed = || format!("make `{}` read-only", path.display());
        let Some(place) = of_kernel(root, path)? else { continue };
        let still = tree::copy(&place, true).tried(failed)?;
        let attributes = Attributes { set: Attributes::READONLY, clear: 0 };
        sys::set_mount(still.as_fd(), true, attributes, None).tried(failed)?;
        tree::put(still.as_fd(), place.as_fd()).tried(failed)?;
    }
    Ok(())
}

fn null_device(root: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    let path = Path::new("/dev/null");
    let fd = place::open_without_links(root, path).map_err(Error::io("open `/dev/null` of the container"))?;
    tree::must_be_device(fd.as_fd(), path, libc::S_IFCHR, 1, 3)?;
    Ok(fd)
}

/// Opens what is to be covered; `None` if it is not there. In `/proc` it has to be the kernel's, and no link on the way.
fn of_kernel(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>, Error> {
    let system = path.starts_with("/proc") || path.starts_with("/sys");
    let opened = if system { place::open_without_links(root, path) } else { place::open(root, path) };
    let fd = match opened {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(None),
        opened => opened.map_err(Error::io(format!("open `{}`", path.display())))?,
    };
    if path.starts_with("/proc") {
        place::must_be_proc(fd.as_fd(), &path.display().to_string())?;
    }
    Ok(Some(fd))
}
