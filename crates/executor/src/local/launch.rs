//! Starts a runtime so that nothing of it outlives the builder.
//!
//! ```text
//! builder ── keeper ── first (pid 1 of a pid namespace) ── runtime ── the step's process, and whatever that starts
//! ```
//!
//! The *keeper* holds the reading end of a pipe, the lifeline, whose other end is in the builder alone: when the builder
//! closes it, on purpose or by being killed, the keeper ends. *First* asks the kernel for SIGKILL at the keeper's end, and
//! with first the kernel kills all of its namespace. A death signal straight from the builder would not do: it comes when
//! the *thread* that forked ends.
//!
//! First has a mount namespace of its own, with a `/proc` for its pid namespace and cgroups as runtimes can bear them.

// fork, unshare, mount and the like between fork and exec; each is a plain system call.
#![allow(unsafe_code)]

mod devices;

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, PipeReader, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, PidfdFlags};

use crate::error::StepError;

/// The magic number of cgroup2 in statfs (linux/magic.h).
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

/// The attribute of a mount that only shows (linux/mount.h).
const MOUNT_ATTR_RDONLY: u64 = 1;

/// What is done around a runtime before it is executed.
#[derive(Debug, Default)]
pub(super) struct Around {
    /// The name of a control group from which the machine's devices are barred.
    pub(super) devices: Option<CString>,
    /// Nothing of `/sys` can be written to, whatever is mounted there: a step without root is shown the machine's own,
    /// and in it there may be control groups that belong to the user.
    pub(super) still_sys: bool,
    /// Where cgroup2 cannot be mounted, an empty tmpfs takes its place.
    pub(super) empty_cgroups: bool,
    /// What keeper and first keep open, for the locks on it.
    pub(super) held: Vec<RawFd>,
}

/// A runtime that runs.
#[derive(Debug)]
pub(super) struct Launched {
    child: Child,
    lifeline: Option<OwnedFd>,
    report: PipeReader,
    waited: bool,
}

/// How a launched runtime ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It exited.
    Exited(i32),
    /// A signal ended it, or it was cut off with everything else.
    Killed,
}

/// Starts `command`.
pub(super) fn launch(mut command: Command, around: Around) -> Result<Launched, StepError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let (lifeline, report) = match (io::pipe(), io::pipe()) {
        (Ok(lifeline), Ok(report)) => (lifeline, report),
        (Err(error), _) | (_, Err(error)) => return Err(StepError::io("make a pipe")(error)),
    };
    let ((lifeline_reader, lifeline_writer), (report_reader, report_writer)) = (lifeline, report);
    let keeper_files = (lifeline_reader.as_raw_fd(), report_writer.as_raw_fd());
    command.stdin(Stdio::null());
    // SAFETY: between fork and exec only system calls are made, on values that were there before the fork.
    unsafe {
        command.pre_exec(move || become_runtime(keeper_files.0, keeper_files.1, &around));
    }
    let spawned = command.spawn();
    drop((lifeline_reader, report_writer));
    let child = match spawned {
        Ok(child) => child,
        // The report tells more than the error number that std passes on.
        Err(error) => {
            return Err(match read_report(&report_reader) {
                Some(Report::Refused(what, errno)) => StepError::Io {
                    what: format!(
                        "{what} for a step; the builder must be root or in a user namespace of its own"
                    ),
                    source: io::Error::from_raw_os_error(errno),
                },
                _ => StepError::Io { what: format!("start `{program}`"), source: error },
            });
        }
    };
    Ok(Launched { child, lifeline: Some(lifeline_writer.into()), report: report_reader, waited: false })
}

impl Launched {
    /// Takes the reading ends of standard output and standard error, where they are pipes.
    pub(super) fn outputs(&mut self) -> (Option<File>, Option<File>) {
        let stdout = self.child.stdout.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        let stderr = self.child.stderr.take().map(|pipe| File::from(OwnedFd::from(pipe)));
        (stdout, stderr)
    }

    /// Returns a descriptor that becomes readable at the end.
    pub(super) fn pidfd(&self) -> io::Result<OwnedFd> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
    }

    /// Kills the runtime and everything that it started. The end is still to be waited for.
    pub(super) fn kill(&mut self) {
        self.lifeline = None;
    }

    /// Waits for the end, and tells it with the processor time used by everything that was started (user, system).
    pub(super) fn wait(mut self) -> io::Result<(End, Times)> {
        self.end()
    }

    fn end(&mut self) -> io::Result<(End, Times)> {
        self.waited = true;
        let times = usage::wait(self.child.id())?;
        self.lifeline = None;
        let end = match read_report(&self.report) {
            Some(Report::Ended(status)) if libc::WIFEXITED(status) => End::Exited(libc::WEXITSTATUS(status)),
            _ => End::Killed,
        };
        Ok((end, times))
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        // As when who reads the output panics: nothing may run any more when the step's directories go.
        if !self.waited {
            self.kill();
            let _ = self.end();
        }
    }
}

/// What first or the keeper said.
enum Report {
    /// The runtime's wait status.
    Ended(i32),
    /// What was refused before the runtime was executed, and the error number.
    Refused(&'static str, i32),
}

/// Reads the report; `None` if they were killed before.
fn read_report(mut report: &PipeReader) -> Option<Report> {
    let mut message = [0; 5];
    report.read_exact(&mut message).ok()?;
    let [kind, value @ ..] = message;
    let value = i32::from_ne_bytes(value);
    Some(match kind {
        EXITED => Report::Ended(value),
        stage => Report::Refused(stage_text(stage), value),
    })
}

pub(super) use usage::Times;

/// Waiting with the resources used, which std does not tell.
mod usage {
    use std::io;
    use std::time::Duration;

    /// Processor time.
    #[derive(Debug, Clone, Copy, Default)]
    pub(in crate::local) struct Times {
        pub(in crate::local) user: Duration,
        pub(in crate::local) system: Duration,
    }

    pub(super) fn wait(pid: u32) -> io::Result<Times> {
        let mut status = 0;
        loop {
            // SAFETY: an all-zero rusage is a valid value, and both places live through the call.
            let (result, usage) = unsafe {
                let mut usage: libc::rusage = std::mem::zeroed();
                (libc::wait4(pid as libc::pid_t, &mut status, 0, &mut usage), usage)
            };
            if result >= 0 {
                return Ok(Times { user: duration(usage.ru_utime), system: duration(usage.ru_stime) });
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    fn duration(time: libc::timeval) -> Duration {
        Duration::new(time.tv_sec.max(0) as u64, (time.tv_usec.clamp(0, 999_999) * 1000) as u32)
    }
}

const EXITED: u8 = 0;
const UNSHARE: u8 = 1;
const PRIVATE: u8 = 2;
const FORK: u8 = 3;
const PROC: u8 = 4;
const DEVICES: u8 = 5;
const SYS: u8 = 6;

fn stage_text(stage: u8) -> &'static str {
    match stage {
        UNSHARE => "make a pid and a mount namespace",
        PRIVATE => "keep mounts private",
        PROC => "mount /proc for a pid namespace",
        DEVICES => {
            "bar the machine's devices by a cgroup2 with BPF (runc does it otherwise, and without root there is no need)"
        }
        SYS => "make /sys read-only (Linux 5.12 can)",
        _ => "fork",
    }
}

/// Runs in the forked child. Returns in the process that shall execute the runtime; keeper and first stay inside.
fn become_runtime(lifeline: RawFd, report: RawFd, around: &Around) -> io::Result<()> {
    // SAFETY: system calls only, on descriptors that this process has and on memory of this stack frame.
    unsafe {
        let mut all = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, &mut before);
        // Keys pressed in the terminal are for the builder, which decides what becomes of its steps.
        libc::setsid();
        if libc::unshare(libc::CLONE_NEWPID | libc::CLONE_NEWNS) != 0 {
            return Err(fail(report, UNSHARE));
        }
        let held = around.held.as_slice();
        let mut group = None;
        if let Some(name) = &around.devices {
            group = devices::make(name);
            if group.is_none() {
                return Err(fail(report, DEVICES));
            }
        }
        let keeper = libc::getpid();
        match libc::fork() {
            -1 => return Err(fail(report, FORK)),
            0 => {}
            first => keep(first, lifeline, held, group.zip(around.devices.as_deref())),
        }

        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // The keeper has no number in here; if it is gone already, somebody else is the parent, or the lifeline is cut.
        let mut alive = libc::pollfd { fd: lifeline, events: 0, revents: 0 };
        if libc::poll(&mut alive, 1, 0) != 0 || libc::getppid() != 0 && libc::getppid() != keeper {
            libc::_exit(1);
        }
        let root = c"/".as_ptr();
        let none = std::ptr::null();
        if libc::mount(none, root, none, libc::MS_REC | libc::MS_PRIVATE, none.cast()) != 0 {
            return Err(fail(report, PRIVATE));
        }
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        if libc::mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), flags, none.cast()) != 0 {
            return Err(fail(report, PROC));
        }
        if group.is_some_and(|group| !devices::join(group)) {
            return Err(fail(report, DEVICES));
        }
        cgroups(around.empty_cgroups);
        if around.still_sys && !read_only(c"/sys") {
            return Err(fail(report, SYS));
        }
        match libc::fork() {
            -1 => return Err(fail(report, FORK)),
            0 => {}
            runtime => be_first(runtime, report, held),
        }
        libc::sigprocmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        // Nothing of the builder's reaches the runtime, also what a library opened without the flag.
        libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32);
    }
    Ok(())
}

/// Makes a mount and all mounts below it read-only.
///
/// # Safety
/// Only system calls: fit for a forked child.
unsafe fn read_only(path: &CStr) -> bool {
    // struct mount_attr of linux/mount.h: set, clear, propagation, user namespace.
    let attributes: [u64; 4] = [MOUNT_ATTR_RDONLY, 0, 0, 0];
    // SAFETY: the path is a C string, and the size is that of the attributes.
    unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            attributes.as_ptr(),
            size_of_val(&attributes),
        ) == 0
    }
}

/// Shows cgroup2 alone on /sys/fs/cgroup, as runtimes want it; best effort, for they need no groups here.
///
/// # Safety
/// Only system calls: fit for a forked child.
unsafe fn cgroups(empty: bool) {
    // SAFETY: the paths are C strings, and `info` is written by the call before it is read.
    unsafe {
        let path = c"/sys/fs/cgroup".as_ptr();
        let mut info: libc::statfs = std::mem::zeroed();
        if libc::statfs(path, &mut info) != 0 || info.f_type as i64 == CGROUP2_SUPER_MAGIC {
            return;
        }
        libc::unshare(libc::CLONE_NEWCGROUP);
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let none = std::ptr::null();
        if libc::mount(c"cgroup2".as_ptr(), path, c"cgroup2".as_ptr(), flags, none) != 0 && empty {
            libc::mount(c"none".as_ptr(), path, c"tmpfs".as_ptr(), flags, none);
        }
    }
}

/// The keeper: ends when first ends or the lifeline is cut, and first with it.
///
/// # Safety
/// Only system calls: fit for a forked child. `lifeline` is open.
unsafe fn keep(
    first: libc::pid_t,
    lifeline: RawFd,
    held: &[RawFd],
    group: Option<(devices::Group, &CStr)>,
) -> ! {
    // SAFETY: as above; `files` and `status` are memory of this stack frame.
    unsafe {
        let pidfd = libc::syscall(libc::SYS_pidfd_open, first, 0) as RawFd;
        // Everything else is closed: the error pipe of the spawn, for which the builder waits, and other steps' lifelines.
        let hierarchy = group.map_or(-1, |(group, _)| group.hierarchy);
        close_all_but(&[pidfd, lifeline, hierarchy], held);
        let mut files = [
            libc::pollfd { fd: pidfd, events: libc::POLLIN, revents: 0 },
            libc::pollfd { fd: lifeline, events: 0, revents: 0 },
        ];
        while libc::poll(files.as_mut_ptr(), 2, -1) < 0 {}
        let mut status = 0;
        libc::kill(first, libc::SIGKILL);
        while libc::waitpid(first, &mut status, 0) < 0 && *libc::__errno_location() == libc::EINTR {}
        if let Some((_, name)) = group {
            devices::remove(hierarchy, name);
        }
        libc::_exit(0)
    }
}

/// First: collects every child until the runtime ends, tells how that was, and ends, with which the kernel kills the rest.
///
/// # Safety
/// Only system calls: fit for a forked child. `report` is open.
unsafe fn be_first(runtime: libc::pid_t, report: RawFd, held: &[RawFd]) -> ! {
    // SAFETY: as above; `status` is memory of this stack frame.
    unsafe {
        close_all_but(&[report], held);
        let mut status = 0;
        loop {
            let child = libc::wait4(-1, &mut status, libc::__WALL, std::ptr::null_mut());
            if child == runtime {
                tell(report, EXITED, status);
                libc::_exit(0);
            }
            if child < 0 && *libc::__errno_location() != libc::EINTR {
                libc::_exit(1);
            }
        }
    }
}

/// Closes all descriptors but the given ones, the standard ones included.
///
/// # Safety
/// Only system calls: fit for a forked child that uses no other descriptor afterwards.
unsafe fn close_all_but(keep: &[RawFd], held: &[RawFd]) {
    let mut from: u32 = 0;
    // SAFETY: closing what nobody in this process uses any more.
    unsafe {
        // No memory may be had here to sort them in, and they are few.
        let kept = || keep.iter().chain(held).filter_map(|fd| u32::try_from(*fd).ok());
        while let Some(fd) = kept().filter(|fd| *fd >= from).min() {
            if fd > from {
                libc::close_range(from, fd - 1, 0);
            }
            from = fd + 1;
        }
        libc::close_range(from, u32::MAX, 0);
    }
}

/// Reports the last error and returns it.
///
/// # Safety
/// As [`tell`].
unsafe fn fail(report: RawFd, stage: u8) -> io::Error {
    let error = io::Error::last_os_error();
    // SAFETY: passed on.
    unsafe { tell(report, stage, error.raw_os_error().unwrap_or(0)) };
    error
}

/// # Safety
/// Only a system call: fit for a forked child. `report` is open.
unsafe fn tell(report: RawFd, kind: u8, value: i32) {
    let bytes = value.to_ne_bytes();
    let message = [kind, bytes[0], bytes[1], bytes[2], bytes[3]];
    // SAFETY: the memory is this function's. Five bytes go into a pipe whole.
    unsafe { libc::write(report, message.as_ptr().cast(), message.len()) };
}
