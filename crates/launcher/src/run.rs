//! The parent's side: makes the copy that becomes the container, and waits for it.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use crate::command::Create;
use crate::error::Error;
use crate::init::{self, Given};
use crate::plan::Plan;
use crate::state::{Folder, Saved, Status, started};
use crate::sys::{self, Child};
use crate::{config, maps};

/// Creates a container and, for `run`, waits for its end. Returns the exit code.
pub(crate) fn create(root: &Path, asked: &Create) -> Result<i32, Error> {
    // What a careless caller left open is nothing of the container's, nor of this process's.
    sys::close_on_exec(3 + asked.preserve_fds)
        .map_err(Error::io("close what is left open (Linux 5.11 can)"))?;
    let bundle = bundle(asked.bundle.as_deref())?;
    let path = bundle.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(Error::io(format!("read `{}`", path.display())))?;
    let spec = config::read(&text)?;
    let plan = Plan::new(&spec, &bundle, std::env::consts::ARCH)?;
    let console = console(&plan, asked)?;

    let folder = Folder::of(root, &asked.id);
    folder.make()?;
    let annotations = serde_json::to_value(spec.annotations()).unwrap_or_default();
    let saved = Saved { pid: 0, started: 0, bundle, annotations };
    let code = start(&plan, asked, console, &folder, saved);
    if code.is_err() || asked.start && !asked.detach && !asked.keep {
        // A failure to make the container is more telling than one to clear away.
        let removed = folder.remove();
        if code.is_ok() {
            removed?;
        }
    }
    code
}

fn bundle(given: Option<&Path>) -> Result<PathBuf, Error> {
    let path = given.unwrap_or(Path::new("."));
    path.canonicalize().map_err(Error::io(format!("open the bundle `{}`", path.display())))
}

fn console(plan: &Plan, asked: &Create) -> Result<Option<UnixStream>, Error> {
    match (&plan.process.terminal, &asked.console_socket) {
        (Some(_), Some(path)) => {
            let failed = Error::io(format!("connect to `{}`", path.display()));
            UnixStream::connect(path).map(Some).map_err(failed)
        }
        (Some(_), None) => Err(Error::Usage(
            "`process.terminal` needs --console-socket, to which the terminal is given".to_owned(),
        )),
        (None, Some(_)) => Err(Error::Usage("--console-socket needs `process.terminal`".to_owned())),
        (None, None) => Ok(None),
    }
}

fn start(
    plan: &Plan,
    asked: &Create,
    console: Option<UnixStream>,
    folder: &Folder,
    mut saved: Saved,
) -> Result<i32, Error> {
    let pipe = || std::io::pipe().map_err(Error::io("make a pipe"));
    let ((go, mut go_writer), (mut report, report_writer)) = (pipe()?, pipe()?);
    let start = if asked.start { None } else { Some(folder.make_pipe()?) };
    let foreground = asked.start && !asked.detach;
    // Blocked ones wait until this process looks for them; the child unblocks them before it becomes the program.
    sys::block_signals();
    for (kind, path) in plan.namespaces.join.iter().filter(|(kind, _)| *kind == libc::CLONE_NEWPID as u64) {
        // This one is for children only.
        let failed = || Error::io(format!("join the namespace `{}`", path.display()));
        let file = std::fs::File::open(path).map_err(failed())?;
        sys::join(&file, *kind).map_err(failed())?;
    }
    // That of control groups is made once the groups are joined.
    let namespaces = plan.namespaces.new & !(libc::CLONE_NEWCGROUP as u64);
    let Some(child) = sys::fork(namespaces).map_err(explain_fork)? else {
        // Its ends are the parent's; without this, the end of the parent would not be seen.
        drop((go_writer, report));
        let given = Given {
            go,
            report: report_writer,
            start,
            console,
            no_pivot: asked.no_pivot,
            new_keyring: !asked.no_new_keyring,
            preserve: asked.preserve_fds,
            bound: foreground,
        };
        init::become_container(plan, given);
    };
    drop((go, report_writer, console, start));
    let ready = (|| {
        saved.pid = child.pid;
        saved.started = started(child.pid).ok_or_else(|| folder.problem("died at once"))?;
        if !plan.namespaces.uids.is_empty() {
            maps::write(child.pid, &plan.namespaces)?;
        }
        folder.save(&saved)?;
        go_writer.write_all(&[0]).map_err(Error::io("let the child go on"))?;
        hear(&mut report)?;
        if let Some(path) = &asked.pid_file {
            write_pid(path, child.pid)?;
        }
        Ok(())
    })();
    if let Err(error) = ready {
        let _ = rustix::process::pidfd_send_signal(&child.pidfd, rustix::process::Signal::KILL);
        let _ = sys::wait(child.pid, true);
        return Err(error);
    }
    if !foreground {
        return Ok(0);
    }
    attend(&child)
}

fn explain_fork(error: std::io::Error) -> Error {
    let what = match error.raw_os_error() {
        Some(libc::ENOSYS) => "copy itself into namespaces (Linux 5.3 can)",
        Some(libc::EPERM) => "make namespaces (root can, or who is in a user namespace of its own)",
        Some(libc::ENOSPC) => "make namespaces (user.max_*_namespaces is reached)",
        _ => "copy itself into namespaces",
    };
    Error::io(what)(error)
}

/// Hears from the child until it has become the container's program, or waits for being started.
fn hear(report: &mut std::io::PipeReader) -> Result<(), Error> {
    let failed = || Error::io("hear from the child");
    let mut kind = [0];
    if report.read(&mut kind).map_err(failed())? == 0 || kind == [init::READY] {
        return Ok(());
    }
    let mut message = String::new();
    report.read_to_string(&mut message).map_err(failed())?;
    Err(Error::Child(message))
}

/// Waits for the container's end and passes signals on. A container that a signal ended exits with 128 and its number, as in
/// a shell.
fn attend(child: &Child) -> Result<i32, Error> {
    loop {
        let signal = sys::next_signal();
        if signal == libc::SIGCHLD {
            match sys::wait(child.pid, false).map_err(Error::io("wait for the container"))? {
                Some(status) if libc::WIFEXITED(status) => return Ok(libc::WEXITSTATUS(status)),
                Some(status) if libc::WIFSIGNALED(status) => return Ok(128 + libc::WTERMSIG(status)),
                _ => {}
            }
        } else {
            // It may have ended by now.
            let _ = sys::send(child.pidfd.as_fd(), signal);
        }
    }
}

/// Writes the number beside the place and moves it there: readers never see half of it.
fn write_pid(path: &Path, pid: i32) -> Result<(), Error> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, pid.to_string())
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(Error::io(format!("write `{}`", path.display())))
}

/// Sends a signal to a container; to all of its processes if `all`.
pub(crate) fn kill(folder: &Folder, signal: i32, all: bool) -> Result<(), Error> {
    let saved = folder.load()?;
    if folder.status(&saved) == Status::Stopped {
        // There is nothing that is not killed already.
        return if all { Ok(()) } else { Err(folder.problem("is not running")) };
    }
    // The first process takes all others of its namespace with it when it is killed.
    let Some(pidfd) = pidfd_of(&saved)? else { return Err(folder.problem("is not running")) };
    sys::send(pidfd.as_fd(), signal).map_err(Error::io(format!("send the signal {signal}")))
}

/// Kills a container and waits until it is gone.
pub(crate) fn kill_and_wait(saved: &Saved) -> Result<(), Error> {
    let Some(pidfd) = pidfd_of(saved)? else { return Ok(()) };
    sys::send(pidfd.as_fd(), libc::SIGKILL).map_err(Error::io("kill the container"))?;
    let mut poll = [PollFd::new(&pidfd, PollFlags::IN)];
    loop {
        match rustix::event::poll(&mut poll, None) {
            Err(Errno::INTR) => {}
            waited => return waited.map(drop).map_err(Error::io("wait for the container's end")),
        }
    }
}

/// Opens the process, if it is still the one that was saved.
fn pidfd_of(saved: &Saved) -> Result<Option<std::os::fd::OwnedFd>, Error> {
    let Some(pid) = Pid::from_raw(saved.pid) else { return Ok(None) };
    let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(None),
        opened => opened.map_err(Error::io("open the container's process"))?,
    };
    // After opening: from here on the number cannot become another process's.
    Ok((started(saved.pid) == Some(saved.started)).then_some(pidfd))
}
