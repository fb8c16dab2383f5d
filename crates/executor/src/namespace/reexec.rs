use std::ffi::{CString, OsString};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal};

use super::ids::{IdMap, Subordinate};
use super::{Failed, Mode, NamespaceError, Stage, private_mounts};

/// The environment variable by which the second run knows that it is the second; it holds the parent's process id, so
/// that inheriting the variable elsewhere means nothing.
const MARKER: &str = "COOPER_NAMESPACE_PARENT";

/// Signals that are passed on. Stopping and resuming concern the whole process group anyway.
const PASSED_ON: [libc::c_int; 9] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGPIPE,
    libc::SIGWINCH,
];

/// Returns the waiting parent if this process is the second run.
pub(super) fn parent_of_marked() -> Option<Pid> {
    let value = std::env::var(MARKER).ok()?;
    let parent = Pid::from_raw(value.parse().ok()?)?;
    (rustix::process::getppid() == Some(parent) && rustix::process::geteuid().is_root()).then_some(parent)
}

/// Asks the kernel for a SIGKILL when the parent dies.
pub(super) fn die_with(parent: Pid) {
    // It cannot fail with a valid signal, and without it only the wish to die early is lost.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // The parent may have died before the call.
    if rustix::process::getppid() != Some(parent) {
        std::process::exit(1);
    }
}

/// Runs the program again in namespaces of its own, and ends this process as that ends. Returns only on failure.
pub(super) fn run_in_child(
    subordinate: Option<&Subordinate>,
    uid: u32,
    gid: u32,
) -> Result<Mode, NamespaceError> {
    let argv = argv();
    let parent = rustix::process::getpid();
    let env = env_with_marker(parent);
    let (mut ready_reader, ready_writer) = io::pipe().map_err(NamespaceError::io("make a pipe"))?;
    let (go_reader, mut go_writer) = io::pipe().map_err(NamespaceError::io("make a pipe"))?;
    let signals = SignalSet::block();

    // SAFETY: the process has one thread (checked by `enter`), so the child is a full copy of a sane process.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(NamespaceError::Io { what: "fork", source: io::Error::last_os_error() }),
        0 => {
            drop((ready_reader, go_writer));
            let failed = in_child(subordinate.is_some(), uid, gid, go_reader, &ready_writer, parent)
                .and_then(|()| {
                    signals.restore();
                    exec(&argv, &env)
                })
                .expect_err_or_exit();
            report(&ready_writer, failed);
            // SAFETY: ends the copy at once, without the parent's exit handlers and buffers.
            unsafe { libc::_exit(1) }
        }
        child => {
            drop((ready_writer, go_reader));
            let result = attend(subordinate, child, &mut ready_reader, &mut go_writer);
            match result {
                Ok(()) => signals.pass_on(child),
                Err(error) => {
                    // SAFETY: the child is ours and not waited for yet.
                    unsafe {
                        libc::kill(child, libc::SIGKILL);
                        libc::waitpid(child, std::ptr::null_mut(), 0);
                    }
                    signals.restore();
                    Err(error)
                }
            }
        }
    }
}

/// Of a result whose success never comes back.
trait ExpectErrOrExit {
    fn expect_err_or_exit(self) -> Failed;
}

impl ExpectErrOrExit for Result<std::convert::Infallible, Failed> {
    fn expect_err_or_exit(self) -> Failed {
        match self {
            Ok(never) => match never {},
            Err(failed) => failed,
        }
    }
}

/// What the parent does until the child has become the second run.
fn attend(
    subordinate: Option<&Subordinate>,
    child: libc::pid_t,
    ready: &mut io::PipeReader,
    go: &mut io::PipeWriter,
) -> Result<(), NamespaceError> {
    // A zero byte: the user namespace is there and waits for its maps.
    receive(ready, true)?;
    if let Some(subordinate) = subordinate {
        set_map("newuidmap", &subordinate.newuidmap, child, &subordinate.uids)?;
        set_map("newgidmap", &subordinate.newgidmap, child, &subordinate.gids)?;
    }
    go.write_all(&[0]).map_err(NamespaceError::io("start the child"))?;
    // The end of the pipe: the child has executed the program.
    receive(ready, false)
}

/// Reads what the child says: a zero byte, a failure, or nothing more.
fn receive(ready: &mut io::PipeReader, expect_byte: bool) -> Result<(), NamespaceError> {
    let mut kind = [0];
    match ready.read(&mut kind) {
        Ok(0) if !expect_byte => Ok(()),
        Ok(1) if kind[0] == 0 => Ok(()),
        Ok(1) => {
            let mut errno = [0; 4];
            ready.read_exact(&mut errno).map_err(NamespaceError::io("hear from the child"))?;
            let stage = match kind[0] {
                1 => Stage::Unshare,
                2 => Stage::UnshareMounts,
                3 => Stage::Private,
                4 => Stage::WriteMaps,
                _ => Stage::Exec,
            };
            Err(Failed { stage, errno: i32::from_ne_bytes(errno) }.explain())
        }
        Ok(_) => Err(NamespaceError::Io {
            what: "hear from the child",
            source: io::ErrorKind::UnexpectedEof.into(),
        }),
        Err(source) => Err(NamespaceError::Io { what: "hear from the child", source }),
    }
}

fn report(ready: &io::PipeWriter, failed: Failed) {
    let mut message = [0; 5];
    message[0] = failed.stage as u8;
    message[1..].copy_from_slice(&failed.errno.to_ne_bytes());
    let mut ready = ready;
    // If nobody listens any more, nobody wants to know.
    let _ = ready.write_all(&message);
}

fn set_map(
    name: &'static str,
    program: &Path,
    child: libc::pid_t,
    map: &IdMap,
) -> Result<(), NamespaceError> {
    let mut command = Command::new(program);
    command.arg(child.to_string());
    for (inside, outside, length) in &map.0 {
        command.args([inside.to_string(), outside.to_string(), length.to_string()]);
    }
    let failed = |message| NamespaceError::Mapping { program: name, message };
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

/// Everything the child does before it executes the program.
fn in_child(
    wait_for_maps: bool,
    uid: u32,
    gid: u32,
    mut go: io::PipeReader,
    ready: &io::PipeWriter,
    parent: Pid,
) -> Result<(), Failed> {
    // SAFETY: takes no pointers; the process has one thread, as a new user namespace demands.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER) } != 0 {
        return Err(Failed::last(Stage::Unshare));
    }
    if !wait_for_maps {
        let write = |path: &str, text: String| {
            std::fs::write(path, text)
                .map_err(|error| Failed { stage: Stage::WriteMaps, errno: error.raw_os_error().unwrap_or(0) })
        };
        write("/proc/self/uid_map", format!("0 {uid} 1\n"))?;
        // Linux lets a group be mapped only once it is settled that groups cannot be dropped in here.
        write("/proc/self/setgroups", "deny".to_owned())?;
        write("/proc/self/gid_map", format!("0 {gid} 1\n"))?;
    }
    let mut ready_writer = ready;
    let told = ready_writer.write_all(&[0]).and_then(|()| go.read_exact(&mut [0]));
    if told.is_err() {
        // The parent is gone or has given up.
        std::process::exit(1);
    }
    // With the maps there, these are the ids that the user has anyway; supplementary groups are kept, as they open what
    // they opened before.
    // SAFETY: take no pointers.
    if unsafe { libc::setresgid(0, 0, 0) != 0 || libc::setresuid(0, 0, 0) != 0 } {
        return Err(Failed::last(Stage::WriteMaps));
    }
    // SAFETY: takes no pointers.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        // Where AppArmor limits user namespaces, it takes their capabilities: this is the first call that needs one.
        return Err(Failed::last(Stage::Private));
    }
    private_mounts()?;
    // Changing ids clears it, therefore last.
    die_with(parent);
    Ok(())
}

fn argv() -> Vec<CString> {
    // Arguments came as C strings, so there is no NUL in them.
    std::env::args_os().filter_map(|arg| CString::new(arg.into_vec()).ok()).collect()
}

fn env_with_marker(parent: Pid) -> Vec<CString> {
    let own = std::env::vars_os().filter(|(name, _)| name != MARKER);
    let marker = (OsString::from(MARKER), OsString::from(parent.as_raw_nonzero().to_string()));
    own.chain([marker])
        .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .collect()
}

/// Executes this program again. Returns only on failure.
fn exec(argv: &[CString], env: &[CString]) -> Result<std::convert::Infallible, Failed> {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both lists end with a null pointer and point to C strings that live until the call ends.
    unsafe { libc::execve(c"/proc/self/exe".as_ptr(), argv.as_ptr(), env.as_ptr()) };
    Err(Failed::last(Stage::Exec))
}

/// Signals that are blocked while the parent waits.
struct SignalSet {
    blocked: libc::sigset_t,
    before: libc::sigset_t,
}

impl SignalSet {
    /// Blocks what is passed on and SIGCHLD.
    fn block() -> Self {
        // SAFETY: both sets are filled in by the calls before they are read; the signals are valid.
        unsafe {
            let mut blocked = std::mem::zeroed();
            let mut before = std::mem::zeroed();
            libc::sigemptyset(&mut blocked);
            for signal in PASSED_ON.into_iter().chain([libc::SIGCHLD]) {
                libc::sigaddset(&mut blocked, signal);
            }
            libc::sigprocmask(libc::SIG_BLOCK, &blocked, &mut before);
            Self { blocked, before }
        }
    }

    fn restore(&self) {
        // SAFETY: the set was filled in by `block`.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
    }

    /// Waits for the child's end, passes signals on meanwhile, and ends as the child does.
    fn pass_on(&self, child: libc::pid_t) -> ! {
        loop {
            let mut status = 0;
            // SAFETY: `status` lives through the call.
            if unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == child {
                self.end_as(status);
            }
            // SAFETY: the set was filled in by `block`; `info` is filled in by the call before it is read.
            unsafe {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                let signal = libc::sigwaitinfo(&self.blocked, &mut info);
                // One sent by the kernel, as by the terminal's keys, went to the child as well.
                if signal > 0 && signal != libc::SIGCHLD && info.si_code <= 0 {
                    libc::kill(child, signal);
                }
            }
        }
    }

    fn end_as(&self, status: i32) -> ! {
        if libc::WIFSIGNALED(status) {
            let signal = libc::WTERMSIG(status);
            // SAFETY: takes no pointers; without a core file of the process that did nothing wrong.
            unsafe {
                libc::prctl(libc::PR_SET_DUMPABLE, 0);
                libc::signal(signal, libc::SIG_DFL);
                libc::kill(libc::getpid(), signal);
            }
            self.restore();
            // Only reached by signals that are ignored by default.
            std::process::exit(128 + signal);
        }
        std::process::exit(libc::WEXITSTATUS(status))
    }
}
