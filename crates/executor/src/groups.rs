//! Control groups of steps whose builder died: named runs ([`Io::named`]) can be found, killed and cleared away.
//!
//! A builder that ends in an orderly way leaves none, and what it left when it was killed are almost always empty groups:
//! the kernel has killed the processes with it. This is for the rest, and for the groups.
//!
//! [`Io::named`]: crate::Io::named

use std::ffi::CString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// The kernel kills a group within milliseconds; a process that cannot die (a disk that does not answer) keeps longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What became of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleared {
    /// It was there; now it is gone, and no process that was in it lives.
    Gone,
    /// There is none: it is gone already, or was never made. Processes may live all the same.
    Absent,
    /// Its processes could not be killed, or groups cannot be looked at.
    Refused,
}

/// Returns where this process's groups are: to be kept for whoever calls [`clear`] when it has died.
pub fn place() -> String {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned()
}

/// Returns the name of a run's container, and of its group.
pub(crate) fn name(run: &str) -> String {
    format!("cooper-{run}")
}

/// Kills what is left of a run by a builder that was at `place`, and removes its group. Blocks, for two seconds at most.
pub fn clear(place: &str, run: &str) -> Cleared {
    if run.is_empty() || !run.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Cleared::Absent;
    }
    let Ok(root) = hierarchy() else { return Cleared::Refused };
    let name = name(run);
    let mut answer = Cleared::Absent;
    // Below the builder's own group; runtimes that are not shown that put it at the root.
    for path in [format!("{}/{name}", place.trim_matches('/')), name.clone()] {
        let path = path.trim_start_matches('/');
        match remove(root.as_fd(), path) {
            Ok(()) if answer != Cleared::Refused => answer = Cleared::Gone,
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(_) => answer = Cleared::Refused,
        }
    }
    answer
}

/// Opens the hierarchy of cgroup2 that this process sees, wherever it is mounted.
fn hierarchy() -> Result<OwnedFd, Errno> {
    let context = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

fn remove(root: BorrowedFd<'_>, path: &str) -> Result<(), Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let group = rustix::fs::openat(root, path, flags, Mode::empty())?;
    // Linux before 5.14 has no such file; there the pid namespace alone has to do.
    if let Ok(kill) =
        rustix::fs::openat(&group, "cgroup.kill", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
    {
        rustix::io::write(&kill, b"1")?;
    }
    let start = Instant::now();
    loop {
        let removed =
            below(group.as_fd()).and_then(|()| rustix::fs::unlinkat(root, path, AtFlags::REMOVEDIR));
        match removed {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // Processes that are dying.
            Err(Errno::BUSY) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error),
        }
    }
}

/// Removes the groups that the step's own processes made in theirs.
fn below(group: BorrowedFd<'_>) -> Result<(), Errno> {
    for entry in Dir::read_from(group)? {
        let entry = entry?;
        let name = CString::from(entry.file_name());
        if entry.file_type() != FileType::Directory || matches!(name.as_bytes(), b"." | b"..") {
            continue;
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let child = rustix::fs::openat(group, &name, flags, Mode::empty())?;
        below(child.as_fd())?;
        rustix::fs::unlinkat(group, &name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn names_that_are_none() {
        for run in ["", "../x", "a/b", "a\n"] {
            assert_eq!(clear("/", run), Cleared::Absent, "{run:?}");
        }
    }

    #[test]
    fn privileged_a_group_is_killed_and_removed() {
        let Ok(root) = hierarchy() else {
            assert!(std::env::var_os("CI").is_none(), "cgroup2 is refused");
            return;
        };
        let run = format!("test{}", std::process::id());
        let path = format!("{}/{}", place().trim_matches('/'), name(&run));
        let path = path.trim_start_matches('/');
        if rustix::fs::mkdirat(&root, path, Mode::RWXU).is_err() {
            assert!(std::env::var_os("CI").is_none(), "no group can be made");
            return;
        }
        let mut child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let procs = format!("{path}/cgroup.procs");
        let procs = rustix::fs::openat(&root, procs, OFlags::WRONLY, Mode::empty()).unwrap();
        rustix::io::write(&procs, child.id().to_string().as_bytes()).unwrap();
        rustix::fs::mkdirat(&root, format!("{path}/inner"), Mode::RWXU).unwrap();
        // Somebody has to collect the dead child, as the builder's heir does.
        let waiting = std::thread::spawn(move || child.wait().unwrap());
        assert_eq!(clear(&place(), &run), Cleared::Gone);
        assert!(!waiting.join().unwrap().success());
        assert_eq!(clear(&place(), &run), Cleared::Absent);
    }
}
