//! Who the process is and where, and the program that it becomes.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, openat2};

use crate::error::{Error, Tried as _};
use crate::init::{kernel, place};
use crate::plan::{Capabilities, Plan, Process, home_of};
use crate::sys;

/// A `passwd` is read up to here.
const PASSWD: u64 = 16 << 20;

/// Goes to the working directory, which is made if it is missing.
pub(super) fn stand_in_directory(root: BorrowedFd<'_>, cwd: &Path) -> Result<(), Error> {
    let failed = || format!("enter the working directory `{}`", cwd.display());
    let place = place::open_or_make(root, cwd, true).tried(failed)?;
    rustix::process::fchdir(&place).tried(failed)?;
    // A directory that cannot be reached from the root lies outside (CVE-2024-21626).
    let here = rustix::process::getcwd(Vec::new()).tried(failed)?;
    if here.as_bytes().first() != Some(&b'/') {
        return Err(Error::Refused(format!(
            "the working directory `{}` leads out of the root",
            cwd.display()
        )));
    }
    Ok(())
}

/// Returns the environment, with the home directory that the image's `passwd` has for the user if it names none.
pub(super) fn environment(root: BorrowedFd<'_>, process: &Process) -> Result<Vec<CString>, Error> {
    use std::io::Read as _;

    let mut env = process.env.clone();
    if process.variable("HOME").is_some_and(|home| !home.is_empty()) {
        return Ok(env);
    }
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut text = Vec::new();
    if let Ok(file) = openat2(root, "etc/passwd", flags, Mode::empty(), resolve) {
        let file = std::fs::File::from(file);
        if file.metadata().is_ok_and(|meta| meta.is_file()) {
            // What cannot be read names nobody.
            let _ = file.take(PASSWD).read_to_end(&mut text);
        }
    }
    let home = home_of(&text, process.uid);
    let entry = [b"HOME=", home.as_os_str().as_bytes()].concat();
    env.retain(|entry| !entry.as_bytes().starts_with(b"HOME="));
    env.push(CString::new(entry).map_err(|_| Error::config("the home directory has a zero byte in it"))?);
    Ok(env)
}

/// Becomes the user and then the program. `last` is asked when nothing about the process changes any more.
pub(super) fn execute(
    plan: &Plan,
    env: &[CString],
    last: impl FnOnce() -> Result<(), Error>,
) -> Result<std::convert::Infallible, Error> {
    let process = &plan.process;
    for &(resource, soft, hard) in &process.limits {
        sys::set_limit(resource, soft, hard).map_err(Error::io(format!(
            "set the resource limit {resource} to {soft}:{hard} (raising one takes CAP_SYS_RESOURCE)"
        )))?;
    }
    // So that `/dev/stdout` can be opened by whoever may write to it.
    for number in 0..3 {
        give_standard(number, process.uid);
    }
    rustix::process::umask(Mode::from_raw_mode(process.umask));
    become_user(process)?;
    let program = find(process)?;
    sys::reset_signals();
    last()?;
    let capabilities = &process.capabilities;
    if process.no_new_privileges {
        sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map_err(Error::io("set no_new_privs"))?;
        drop_capabilities(capabilities)?;
        filter(plan)?;
    } else {
        // Setting a filter takes CAP_SYS_ADMIN then, so it comes first.
        filter(plan)?;
        drop_capabilities(capabilities)?;
    }
    let error = sys::execute(&program, &process.args, env);
    Err(Error::io(format!("execute `{}`", program.to_string_lossy()))(error))
}

/// Changes ids; what the process may do is still everything.
fn become_user(process: &Process) -> Result<(), Error> {
    drop_bounding(process.capabilities.bounding)?;
    sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0).map_err(Error::io("keep capabilities"))?;
    match sys::set_groups(&process.groups) {
        // A user namespace with one id only may not set groups: it keeps those that it has, and can drop none either.
        Err(error)
            if error.raw_os_error() == Some(libc::EPERM)
                && process.groups.iter().all(|group| *group == process.gid) =>
        {
            if kernel::is_first_user_namespace() {
                return Err(Error::io("drop the supplementary groups")(error));
            }
        }
        set => set.map_err(Error::io(format!("set the groups {:?}", process.groups)))?,
    }
    let unmapped = "(is the id mapped in this user namespace?)";
    sys::set_gid(process.gid).map_err(Error::io(format!("become group {} {unmapped}", process.gid)))?;
    sys::set_uid(process.uid).map_err(Error::io(format!("become user {} {unmapped}", process.uid)))?;
    // Another user than root has kept its capabilities, but none is effective.
    let all = permitted()?;
    sys::set_capabilities(all, all, 0).map_err(Error::io("keep capabilities"))
}

/// Reads what this process may do at most.
fn permitted() -> Result<u64, Error> {
    let sets = rustix::thread::capabilities(None).map_err(Error::io("read capabilities"))?;
    Ok(sets.permitted.bits())
}

fn drop_bounding(keep: u64) -> Result<(), Error> {
    for bit in 0..64 {
        // Past the last one that the kernel knows, it says EINVAL.
        if keep >> bit & 1 == 0 && matches!(sys::prctl(libc::PR_CAPBSET_READ, bit, 0), Ok(1)) {
            sys::prctl(libc::PR_CAPBSET_DROP, bit, 0)
                .map_err(Error::io(format!("drop capability {bit} from the bounding set")))?;
        }
    }
    Ok(())
}

fn drop_capabilities(asked: &Capabilities) -> Result<(), Error> {
    // What this process does not have, it cannot give: in a container without some, images still build.
    let own = permitted()?;
    let (effective, permitted) = (asked.effective & own, asked.permitted & own);
    let inheritable = asked.inheritable & own;
    sys::set_capabilities(effective, permitted, inheritable).map_err(Error::io("set capabilities"))?;
    for bit in (0..64).filter(|bit| asked.ambient & permitted & inheritable & 1 << bit != 0) {
        sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, bit)
            .map_err(Error::io(format!("raise the ambient capability {bit}")))?;
    }
    Ok(())
}

fn filter(plan: &Plan) -> Result<(), Error> {
    let Some(filter) = &plan.seccomp else { return Ok(()) };
    sys::set_filter(filter).map_err(Error::io("set the seccomp filter"))
}

/// Finds the program as the user, in the order of `PATH`. The first one that could be executed counts; if there is none, the
/// most telling failure.
fn find(process: &Process) -> Result<CString, Error> {
    let shown = process.args.first().map(|arg| arg.to_string_lossy().into_owned()).unwrap_or_default();
    let mut failure = io::Error::from_raw_os_error(libc::ENOENT);
    for candidate in process.candidates() {
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {}
            Err(error) => failure = error,
        }
    }
    Err(Error::io(format!("execute `{shown}`"))(failure))
}

fn executable(path: &CString) -> io::Result<()> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::empty())?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    Ok(rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::empty())?)
}

/// Gives a pipe or file that stands for standard input or output to the user.
fn give_standard(number: i32, uid: u32) {
    let fd = match number {
        0 => rustix::stdio::stdin(),
        1 => rustix::stdio::stdout(),
        _ => rustix::stdio::stderr(),
    };
    let Ok(stat) = rustix::fs::fstat(fd) else { return };
    let null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if stat.st_uid != uid && !null {
        // It stays what it is where it cannot be given away: on a read-only file system, without a capability.
        let _ = rustix::fs::fchown(fd.as_fd(), Some(Uid::from_raw(uid)), None::<Gid>);
    }
}
