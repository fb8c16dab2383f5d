//! The container's side: everything between the copy of this process and the container's program.
//!
//! ```text
//! namespaces │ what is written to /proc and /sys/…, by the machine's /proc │ sources of mounts, detached
//!            │ pivot: from here on there is nothing but the root            │ mounts put in place, masks
//!            │ who the process is                                           │ filter, capabilities, exec
//! ```
//!
//! The order is what makes it safe. All that is of the machine is opened before the pivot, as detached mounts; all paths
//! of the container are looked up after it, when no link can lead out any more. `/proc` is written to before the image
//! had any say in what `/proc` is.

mod dev;
mod kernel;
mod place;
mod root;
mod tree;
mod user;

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::error::Error;
use crate::plan::Plan;
use crate::sys;

/// What the child is given by its parent.
#[derive(Debug)]
pub(crate) struct Given {
    /// A byte comes when ids are mapped and control groups joined; its end is the parent's.
    pub(crate) go: PipeReader,
    /// Where to say that all is ready ([`READY`]) or what failed ([`FAILED`] and the message). It closes on exec.
    pub(crate) report: PipeWriter,
    /// Where to wait for being started; at once without.
    pub(crate) start: Option<File>,
    /// Where the terminal goes.
    pub(crate) console: Option<UnixStream>,
    pub(crate) no_pivot: bool,
    pub(crate) new_keyring: bool,
    /// So many descriptors after the standard ones are the container's, too.
    pub(crate) preserve: u32,
    /// The process dies with its parent.
    pub(crate) bound: bool,
}

pub(crate) const READY: u8 = b'R';
pub(crate) const FAILED: u8 = b'E';

/// Becomes the container's process.
pub(crate) fn become_container(plan: &Plan, mut given: Given) -> ! {
    let error = match become_it(plan, &mut given) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let mut message = vec![FAILED];
    message.extend(error.to_string().bytes());
    // If nobody listens, the parent is gone, and with it everybody who would want to know.
    let _ = given.report.write_all(&message);
    sys::exit(1)
}

fn become_it(plan: &Plan, given: &mut Given) -> Result<std::convert::Infallible, Error> {
    sys::close_on_exec(3 + given.preserve).map_err(Error::io("close what the container shall not have"))?;
    rustix::process::setsid().map_err(Error::io("make a session"))?;
    let mut byte = [0];
    given.go.read_exact(&mut byte).map_err(Error::io("hear from the parent"))?;
    namespaces(plan)?;
    if given.new_keyring {
        keyring()?;
    }
    kernel::settings(plan)?;
    let new_root = root::prepare(plan)?;
    new_root.enter(given.no_pivot)?;
    let root = tree::open_root()?;
    new_root.furnish(plan, root.as_fd())?;
    if let Some(size) = plan.process.terminal {
        dev::terminal(root.as_fd(), size, plan.process.uid, given.console.as_ref())?;
    }
    user::stand_in_directory(root.as_fd(), &plan.process.cwd)?;
    let env = user::environment(root.as_fd(), &plan.process)?;
    drop(root);
    wait_for_start(given)?;
    user::execute(plan, &env, || still_wanted(given))
}

fn namespaces(plan: &Plan) -> Result<(), Error> {
    let asked = &plan.namespaces;
    if asked.makes(libc::CLONE_NEWUSER) {
        // With the maps written, root of the new namespace is somebody.
        sys::set_gid(0).map_err(Error::io("become root's group of the user namespace"))?;
        sys::set_uid(0).map_err(Error::io("become root of the user namespace"))?;
    }
    for (kind, path) in asked.join.iter().filter(|(kind, _)| *kind != libc::CLONE_NEWPID as u64) {
        let shown = path.display();
        let file = File::open(path).map_err(Error::io(format!("open the namespace `{shown}`")))?;
        sys::join(&file, *kind).map_err(Error::io(format!("join the namespace `{shown}`")))?;
    }
    if asked.makes(libc::CLONE_NEWCGROUP) {
        // Now that it is in its groups: what it is in becomes the root of what it sees.
        sys::unshare(libc::CLONE_NEWCGROUP).map_err(Error::io("make a cgroup namespace"))?;
    }
    Ok(())
}

/// Leaves the keyring of the session that the builder was started in.
fn keyring() -> Result<(), Error> {
    match sys::new_keyring() {
        // A kernel without keys, and containers that are refused them.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
        made => made
            .map_err(Error::io("make a session keyring (is kernel.keys.maxkeys reached? --no-new-keyring)")),
    }
}

/// After `create`, waits for `start`.
fn wait_for_start(given: &mut Given) -> Result<(), Error> {
    let Some(mut start) = given.start.take() else { return Ok(()) };
    given.report.write_all(&[READY]).map_err(Error::io("tell the parent that all is ready"))?;
    let mut byte = [0];
    start.read_exact(&mut byte).map_err(Error::io("wait for being started"))
}

/// Ties the process to its parent, if it is to be, and looks whether that still lives.
fn still_wanted(given: &Given) -> Result<(), Error> {
    if !given.bound {
        return Ok(());
    }
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0)
        .map_err(Error::io("ask for a signal at the parent's death"))?;
    let mut poll =
        [rustix::event::PollFd::from_borrowed_fd(given.go.as_fd(), rustix::event::PollFlags::empty())];
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut poll, Some(&now)) {
        Ok(0) => Ok(()),
        // Its end of the pipe is closed.
        _ => Err(Error::Refused("the parent has died".to_owned())),
    }
}

/// Something on a mount of its own, or a mount of its own, that is at no path.
type Detached = OwnedFd;
