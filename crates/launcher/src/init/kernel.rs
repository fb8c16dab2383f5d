//! What is written to `/proc` and told to the kernel before there is a root: names, settings, the score of the
//! out-of-memory killer, labels.

use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use crate::error::Error;
use crate::init::place;
use crate::plan::{Label, Plan};
use crate::sys;

/// Applies all of it.
pub(super) fn settings(plan: &Plan) -> Result<(), Error> {
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes())
            .map_err(Error::io(format!("set the host name `{name}`")))?;
    }
    if let Some(name) = &plan.domainname {
        sys::set_domain_name(name).map_err(Error::io(format!("set the domain name `{name}`")))?;
    }
    let process = &plan.process;
    if process.oom_score_adj.is_none() && process.label.is_none() && plan.sysctl.is_empty() {
        return Ok(());
    }
    let proc = proc()?;
    if let Some(score) = process.oom_score_adj {
        let written = write(proc.as_fd(), "self/oom_score_adj", score.to_string().as_bytes());
        match written {
            // To be spared more than before takes a capability that builders without root lack.
            Err(error) if error.raw_os_error() == Some(libc::EACCES) && !is_first_user_namespace() => {}
            written => written.map_err(Error::io(format!("set the oom score {score}")))?,
        }
    }
    for (name, value) in &plan.sysctl {
        write(proc.as_fd(), &format!("sys/{name}"), value.as_bytes())
            .map_err(Error::io(format!("set the kernel's `{name}` to `{value}`")))?;
    }
    if let Some(label) = &process.label {
        self::label(proc.as_fd(), label)?;
    }
    Ok(())
}

/// Tells the security module what to call the program that is executed next.
fn label(proc: BorrowedFd<'_>, label: &Label) -> Result<(), Error> {
    let (paths, text): (&[&str], String) = match label {
        // With several security modules each has a folder of its own.
        Label::AppArmor(profile) => {
            (&["self/attr/apparmor/exec", "self/attr/exec"], format!("exec {profile}"))
        }
        Label::Selinux(label) => (&["self/attr/exec"], label.clone()),
    };
    let mut result = Ok(());
    for path in paths {
        result = write(proc, path, text.as_bytes());
        if result.is_ok() {
            break;
        }
    }
    result.map_err(Error::io(format!("tell the security module the label of {label:?}")))
}

/// Opens the machine's `/proc`, if it is one.
fn proc() -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let proc = rustix::fs::openat(CWD, "/proc", flags, Mode::empty()).map_err(Error::io("open /proc"))?;
    place::must_be_proc(proc.as_fd(), "/proc")?;
    Ok(proc)
}

fn write(proc: BorrowedFd<'_>, path: &str, text: &[u8]) -> std::io::Result<()> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let file = openat2(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    std::fs::File::from(file).write_all(text)
}

/// Whether ids are not mapped: a machine's own user namespace.
pub(super) fn is_first_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}
