//! System calls that have no safe wrapper.

// clone3, mount_setattr, seccomp and those that change who a process is: each function is one call, or a few that belong
// together.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use crate::plan::{Attributes, Propagation};
use crate::seccomp::{Filter, Instruction};

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A child, as the parent has it.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// Copies this process, which has one thread only, into new namespaces; `None` in the copy.
pub(crate) fn fork(namespaces: u64) -> io::Result<Option<Child>> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: an all-zero clone_args is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: neither memory nor descriptors are shared with the copy, as after fork; no other thread exists that could
    // hold a lock. The kernel writes the descriptor to a place that lives through the call.
    let pid = checked(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) })?;
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: the kernel made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Some(Child { pid: pid as i32, pidfd }))
}

/// Waits for a child to end, or looks whether it has (`None`: it has not). Returns the wait status.
pub(crate) fn wait(pid: i32, block: bool) -> io::Result<Option<i32>> {
    let mut status = 0;
    let flags = if block { 0 } else { libc::WNOHANG };
    loop {
        // SAFETY: the kernel writes to a place that lives through the call.
        match checked(unsafe { libc::waitpid(pid, &mut status, flags | libc::__WALL) }.into()) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(status)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends any signal, also a real-time one; 0 only asks whether the process lives.
pub(crate) fn send(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let none: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: no information is passed.
    checked(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) })?;
    Ok(())
}

/// Blocks all signals, so that they can be waited for.
pub(crate) fn block_signals() {
    // SAFETY: the set is initialised by the first call; SIGCHLD ignored would let children vanish.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

/// Waits for any signal and returns it.
pub(crate) fn next_signal() -> i32 {
    // SAFETY: the set is initialised by the first call; no information is asked for.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&mut all);
        loop {
            let signal = libc::sigwaitinfo(&all, std::ptr::null_mut());
            if signal > 0 {
                return signal;
            }
        }
    }
}

/// Gives every signal its default meaning and lets all through.
pub(crate) fn reset_signals() {
    // SAFETY: the default actions run no code of ours. Refusals (SIGKILL, SIGSTOP, the C library's own) are meant.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Marks every descriptor from `first` on to be closed by exec.
pub(crate) fn close_on_exec(first: u32) -> io::Result<()> {
    // SAFETY: no descriptor is closed now.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })?;
    Ok(())
}

/// Changes a mount, and with `recursive` all below it; `fd` is its root.
pub(crate) fn set_mount(
    fd: BorrowedFd<'_>,
    recursive: bool,
    attributes: Attributes,
    propagation: Option<Propagation>,
) -> io::Result<()> {
    // struct mount_attr of linux/mount.h: set, clear, propagation, user namespace.
    let values: [u64; 4] = [attributes.set, attributes.clear, propagation.map_or(0, Propagation::flag), 0];
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string, and the size is that of the values.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            values.as_ptr(),
            size_of_val(&values),
        )
    })?;
    Ok(())
}

/// Joins a namespace of one kind.
pub(crate) fn join(fd: impl AsFd, kind: u64) -> io::Result<()> {
    // SAFETY: there is one thread.
    checked(unsafe { libc::setns(fd.as_fd().as_raw_fd(), kind as i32) }.into())?;
    Ok(())
}

/// Leaves the shared namespaces of these kinds for new ones.
pub(crate) fn unshare(kinds: i32) -> io::Result<()> {
    // SAFETY: there is one thread, and no descriptors or memory are unshared.
    checked(unsafe { libc::unshare(kinds) }.into())?;
    Ok(())
}

/// Sets the name of the NIS domain.
pub(crate) fn set_domain_name(name: &str) -> io::Result<()> {
    // SAFETY: the length is that of the name.
    checked(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }.into())?;
    Ok(())
}

/// Joins a new session keyring, so that the machine's keys are not this process's.
pub(crate) fn new_keyring() -> io::Result<()> {
    /// linux/keyctl.h.
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    let no_name: *const libc::c_char = std::ptr::null();
    // SAFETY: a keyring without a name is asked for.
    checked(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, no_name) })?;
    Ok(())
}

/// Sets a resource limit.
pub(crate) fn set_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    let none: *mut libc::rlimit64 = std::ptr::null_mut();
    // SAFETY: the limit is read only; the old one is not asked for.
    checked(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, none) })?;
    Ok(())
}

/// Sets the supplementary groups.
pub(crate) fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the count is that of the groups.
    checked(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }.into())?;
    Ok(())
}

/// Sets all group ids.
pub(crate) fn set_gid(gid: u32) -> io::Result<()> {
    // SAFETY: numbers only.
    checked(unsafe { libc::setresgid(gid, gid, gid) }.into())?;
    Ok(())
}

/// Sets all user ids.
pub(crate) fn set_uid(uid: u32) -> io::Result<()> {
    // SAFETY: numbers only.
    checked(unsafe { libc::setresuid(uid, uid, uid) }.into())?;
    Ok(())
}

/// Sets something about this process by numbers (linux/prctl.h).
pub(crate) fn prctl(option: i32, first: u64, second: u64) -> io::Result<i32> {
    // SAFETY: callers ask for options that take numbers only.
    let result = checked(unsafe { libc::prctl(option, first, second, 0_u64, 0_u64) }.into())?;
    Ok(result as i32)
}

/// Sets the capabilities of this process.
pub(crate) fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    // linux/capability.h: the third version, which has sets of 64 bits in two halves; this process.
    let header: [u32; 2] = [0x2008_0522, 0];
    let half = |shift: u32| [effective, permitted, inheritable].map(|set| (set >> shift) as u32);
    let data: [[u32; 3]; 2] = [half(0), half(32)];
    // SAFETY: header and data are laid out as the kernel's structures.
    checked(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) })?;
    Ok(())
}

/// Sets the filter of system calls.
pub(crate) fn set_filter(filter: &Filter) -> io::Result<()> {
    /// struct sock_fprog of linux/filter.h.
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const Instruction,
    }
    let length = u16::try_from(filter.program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = Program { length, instructions: filter.program.as_ptr() };
    /// linux/seccomp.h.
    const SET_MODE_FILTER: libc::c_long = 1;
    // SAFETY: the program is laid out as the kernel's and lives through the call.
    checked(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, filter.flags, &raw const program) })?;
    Ok(())
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Becomes another program; returns only if that fails.
pub(crate) fn execute(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both lists end in a null pointer, and the strings live through the call.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// As [`execute`], of an open file.
pub(crate) fn execute_file(file: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> io::Error {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both lists end in a null pointer, and the strings live through the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Makes a descriptor a standard one.
pub(crate) fn become_standard(fd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: standard descriptors are owned by nobody in this process.
    checked(unsafe { libc::dup3(fd.as_raw_fd(), number, 0) }.into())?;
    Ok(())
}

/// Ends this process at once, without what other copies of it have registered.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: it does not return.
    unsafe { libc::_exit(code) }
}
