//! The namespaces that everything else of a builder runs in.
//!
//! [`enter`] is called once, from `main`, before any thread exists. As root it gives the process a mount namespace of its
//! own. As an ordinary user it runs the program again, once, in a user and a mount namespace, with subordinate ids where
//! `/etc/subuid` and `/etc/subgid` give some. After that all other code is the same for both.

// fork, unshare, sigwaitinfo and prctl have no safe wrappers.
#![allow(unsafe_code)]

mod ids;
mod reexec;

use std::io;

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_bind_recursive, mount_change};

use ids::{IdMap, map_of_process};

/// How the process runs after [`enter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As real root, in a mount namespace of its own.
    Root,
    /// As root of a user namespace that has many ids: owners of files can be set.
    Mapped {
        /// Number of user ids.
        uids: u32,
        /// Number of group ids.
        gids: u32,
    },
    /// As root of a user namespace that has the id 0 only: owners of files cannot be set.
    SingleId,
}

/// Why no namespace could be entered; the message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// A system call was refused.
    #[error("failed to {what}; {remedy}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// What to do about it.
        remedy: String,
        /// How it was refused.
        source: io::Error,
    },
    /// `newuidmap` or `newgidmap` refused the subordinate ids.
    #[error(
        "`{program}` refused the subordinate ids of /etc/subuid and /etc/subgid: {message}; \
         is it installed with its setuid bit or file capabilities (package `uidmap` or `shadow`)?"
    )]
    Mapping {
        /// Which program.
        program: &'static str,
        /// What it said.
        message: String,
    },
    /// The program has threads already.
    #[error("namespaces must be entered before any thread is started ({0} threads run)")]
    Threads(usize),
    /// The operating system refused something that it never should.
    #[error("failed to {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl NamespaceError {
    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// Enters the namespaces. Must be called before any thread is started.
///
/// As an ordinary user it returns in a child process, which ran from `main` again with the same arguments. The parent
/// stays behind in this call: it passes signals on, and exits as the child does. The child dies with the parent.
pub fn enter() -> Result<Mode, NamespaceError> {
    let threads = std::fs::read_dir("/proc/self/task").map_err(NamespaceError::io("read /proc"))?.count();
    if threads != 1 {
        return Err(NamespaceError::Threads(threads));
    }
    if let Some(parent) = reexec::parent_of_marked() {
        reexec::die_with(parent);
        return mode().map_err(NamespaceError::io("read the id maps"));
    }
    if rustix::process::geteuid().is_root() {
        own_mounts().map_err(|error| error.explain())?;
        return mode().map_err(NamespaceError::io("read the id maps"));
    }
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    let maps = ids::subordinate(uid, gid);
    reexec::run_in_child(maps.as_ref(), uid, gid)
}

/// Tells how a process whose effective user is root runs, by the id maps of its user namespace.
///
/// # Errors
///
/// If /proc cannot be read.
pub fn mode() -> io::Result<Mode> {
    let uids = map_of_process("/proc/self/uid_map")?;
    let gids = map_of_process("/proc/self/gid_map")?;
    Ok(if uids == IdMap::identity() {
        Mode::Root
    } else if uids.count() <= 1 || gids.count() <= 1 {
        Mode::SingleId
    } else {
        Mode::Mapped { uids: uids.count(), gids: gids.count() }
    })
}

/// What failed on the way into the namespaces; small enough to be sent through a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failed {
    stage: Stage,
    errno: i32,
}

/// Where it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    Unshare = 1,
    UnshareMounts = 2,
    Private = 3,
    WriteMaps = 4,
    Exec = 5,
}

impl Failed {
    fn last(stage: Stage) -> Self {
        Self { stage, errno: io::Error::last_os_error().raw_os_error().unwrap_or(0) }
    }

    fn private(error: Errno) -> Self {
        Self { stage: Stage::Private, errno: error.raw_os_error() }
    }

    fn explain(self) -> NamespaceError {
        self.explain_with(|path| std::fs::read_to_string(path).ok())
    }

    /// Finds words for the failure; `read` reads the files that say why.
    fn explain_with(self, read: impl Fn(&str) -> Option<String>) -> NamespaceError {
        let setting = |path: &str| read(path).map(|text| text.trim().to_owned());
        let apparmor = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
        let apparmor = if setting(apparmor).as_deref() == Some("1") {
            Some(
                "AppArmor restricts user namespaces on this machine: \
                 run `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or add an AppArmor profile with `userns,` for this program",
            )
        } else {
            None
        };
        let remedy = match self.stage {
            Stage::Unshare => {
                let none = |name: &str| setting(name).as_deref() == Some("0");
                if none("/proc/sys/user/max_user_namespaces") {
                    "user namespaces are turned off: run `sudo sysctl user.max_user_namespaces=15000`".to_owned()
                } else if none("/proc/sys/kernel/unprivileged_userns_clone") {
                    "user namespaces are turned off: run `sudo sysctl kernel.unprivileged_userns_clone=1`".to_owned()
                } else if self.errno == libc::ENOSPC {
                    "too many user namespaces: raise user.max_user_namespaces, or nest fewer".to_owned()
                } else if read("/proc/self/mountinfo").is_some_and(|text| is_chroot(&text)) {
                    "the kernel refuses user namespaces in a chroot: run as root, or enter that root by pivot_root".to_owned()
                } else if let Some(apparmor) = apparmor {
                    apparmor.to_owned()
                } else {
                    "inside a container, allow user namespaces (podman: `--security-opt seccomp=unconfined`), or run as root"
                        .to_owned()
                }
            }
            Stage::UnshareMounts => {
                "root lacks CAP_SYS_ADMIN here: run the container privileged, or as an ordinary user".to_owned()
            }
            Stage::Private if self.errno == libc::EINVAL => {
                "the root is a chroot without a mounted /proc: mount it (`mount -t proc proc /proc`)".to_owned()
            }
            Stage::Private => match apparmor {
                Some(text) => text.to_owned(),
                None => "a security module refuses mounts in user namespaces: allow them for this program, or run as root"
                    .to_owned(),
            },
            Stage::WriteMaps => "another security module may refuse id maps: run as root".to_owned(),
            Stage::Exec => "the program file must stay readable while it runs".to_owned(),
        };
        let what = match self.stage {
            Stage::Unshare => "make a user namespace",
            Stage::UnshareMounts => "make a mount namespace",
            Stage::Private => "keep mounts private",
            Stage::WriteMaps => "map user ids",
            Stage::Exec => "run the program again in its namespaces",
        };
        NamespaceError::Refused { what, remedy, source: io::Error::from_raw_os_error(self.errno) }
    }
}

/// Gives this process mounts of its own; those made outside still arrive, none of its own leaves.
fn own_mounts() -> Result<(), Failed> {
    // SAFETY: unshare takes no pointers; a mount namespace of one's own breaks nothing of a process without threads.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return Err(Failed::last(Stage::UnshareMounts));
    }
    private_mounts()
}

/// Cuts propagation of mounts in both directions.
fn private_mounts() -> Result<(), Failed> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    match mount_change("/", flags) {
        // The root is not where something is mounted: a chroot.
        Err(Errno::INVAL) => root_of_a_chroot(),
        changed => changed.map_err(Failed::private),
    }
}

/// Makes the root of a chroot one that is mounted, and private: propagation can be cut of mounts only, and runtimes
/// move the root away from under themselves, which the kernel allows for mounts only.
///
/// The one place to mount it at that is sure not to show the mount to anybody else is on top of a private mount:
/// /proc, which is there anyway.
fn root_of_a_chroot() -> Result<(), Failed> {
    let here = std::env::current_dir();
    mount_change("/proc", MountPropagationFlags::PRIVATE).map_err(Failed::private)?;
    mount_bind_recursive("/", "/proc").map_err(Failed::private)?;
    mount_change("/proc", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(Failed::private)?;
    rustix::process::chdir("/proc").map_err(Failed::private)?;
    rustix::process::chroot(".").map_err(Failed::private)?;
    // The same folder by the new mount, so that what is relative to it stays inside.
    let back = here.map(|here| rustix::process::chdir(&here).is_ok());
    if !matches!(back, Ok(true)) {
        rustix::process::chdir("/").map_err(Failed::private)?;
    }
    Ok(())
}

/// Tells by the mounts that a process sees (the text of a `mountinfo`) whether its root is a plain folder of one of them.
fn is_chroot(mountinfo: &str) -> bool {
    mountinfo.lines().all(|line| line.split(' ').nth(4) != Some("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remedy(stage: Stage, errno: i32, files: &[(&str, &str)]) -> String {
        let read = |path: &str| files.iter().find(|file| file.0 == path).map(|file| file.1.to_owned());
        Failed { stage, errno }.explain_with(read).to_string()
    }

    #[test]
    fn remedies_name_what_is_turned_off() {
        let apparmor = ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
        for (stage, errno, files, want) in [
            (
                Stage::Unshare,
                libc::ENOSPC,
                &[("/proc/sys/user/max_user_namespaces", "0\n")][..],
                "max_user_namespaces=15000",
            ),
            (
                Stage::Unshare,
                libc::ENOSPC,
                &[("/proc/sys/user/max_user_namespaces", "99\n")],
                "too many user namespaces",
            ),
            (
                Stage::Unshare,
                libc::EPERM,
                &[("/proc/sys/kernel/unprivileged_userns_clone", "0\n")],
                "userns_clone=1",
            ),
            // Ubuntu lets the namespace be made and refuses the first mount in it.
            (Stage::Private, libc::EACCES, &[apparmor], "apparmor_restrict_unprivileged_userns=0"),
            (Stage::Private, libc::EACCES, &[], "security module"),
            (Stage::Unshare, libc::EPERM, &[], "seccomp=unconfined"),
            (
                Stage::Unshare,
                libc::EPERM,
                &[("/proc/self/mountinfo", "30 20 0:5 / /proc rw - proc proc rw\n")],
                "in a chroot",
            ),
            (
                Stage::Unshare,
                libc::EPERM,
                &[("/proc/self/mountinfo", "20 1 8:1 / / rw - ext4 /dev/a rw\n")],
                "seccomp=unconfined",
            ),
            (Stage::Private, libc::EINVAL, &[], "mount -t proc"),
            (Stage::UnshareMounts, libc::EPERM, &[], "CAP_SYS_ADMIN"),
        ] {
            let text = remedy(stage, errno, files);
            assert!(text.contains(want), "{stage:?}: {text}");
        }
    }
}
