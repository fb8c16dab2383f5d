//! Runs the program from a copy of itself that nobody can write to.
//!
//! A container's program may be `/proc/self/exe`: then it is this program, with a library of the image loaded into it,
//! and could be held open and overwritten later, on the machine (CVE-2019-5736). So before anything of a container is
//! looked at, this program executes itself again from a mount of its file that is read-only and not to be found at any
//! path; where mounts are refused, from a sealed copy in memory.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

use rustix::fs::{CWD, MemfdFlags, SealFlags, StatVfsMountFlags};
use rustix::mount::OpenTreeFlags;

use crate::error::Error;
use crate::plan::Attributes;
use crate::sys;

/// Set in the second run.
const MARK: &str = "_COOPER_LAUNCHER_PROTECTED";

/// This program's file.
const SELF: &str = "/proc/self/exe";

const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// Returns in the protected run; what ran before is replaced by it.
pub(crate) fn run_from_a_copy() -> Result<(), Error> {
    let exe = File::open(SELF).map_err(Error::io("open this program's file"))?;
    if is_protected(&exe) {
        return Ok(());
    }
    if std::env::var_os(MARK).is_some() {
        return Err(Error::Refused("this program can be written to while it runs".to_owned()));
    }
    let (args, env) = this_call()?;
    // If this fails, the second way may work.
    let error = match read_only_mount() {
        Ok(file) => sys::execute_file(file.as_fd(), &args, &env),
        Err(error) => error,
    };
    let copy = sealed_copy(exe).map_err(|second| {
        Error::Refused(format!(
            "this program cannot be run from a copy that is safe from the container: {error}; in memory: {second}"
        ))
    })?;
    Err(Error::io("run this program from a copy in memory")(sys::execute_file(copy.as_fd(), &args, &env)))
}

fn is_protected(exe: &File) -> bool {
    let read_only =
        rustix::fs::fstatvfs(exe).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY));
    read_only || rustix::fs::fcntl_get_seals(exe).is_ok_and(|seals| seals.contains(SEALS))
}

fn read_only_mount() -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(CWD, SELF, flags)?;
    let attributes = Attributes { set: Attributes::READONLY, clear: 0 };
    sys::set_mount(mount.as_fd(), false, attributes, None)?;
    Ok(mount)
}

fn sealed_copy(mut exe: File) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Newer kernels want to be told that it will be executed; older ones do not know the flag.
    let memory = rustix::fs::memfd_create("cooper", flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create("cooper", flags))?;
    let mut memory = File::from(memory);
    io::copy(&mut exe, &mut memory)?;
    rustix::fs::fcntl_add_seals(&memory, SEALS)?;
    // What is open for writing cannot be executed.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory));
    Ok(File::open(path)?.into())
}

/// The arguments and the environment that this program was called with, and the mark.
fn this_call() -> Result<(Vec<CString>, Vec<CString>), Error> {
    let string = |bytes: Vec<u8>| CString::new(bytes).map_err(io::Error::from);
    let args = std::env::args_os().map(|arg| string(arg.into_vec()));
    let env = std::env::vars_os().map(|(name, value)| {
        let mut entry = name.into_vec();
        entry.push(b'=');
        entry.extend(value.into_vec());
        string(entry)
    });
    let mark = string(format!("{MARK}=1").into_bytes());
    let (args, env): (io::Result<_>, io::Result<_>) = (args.collect(), env.chain([mark]).collect());
    let failed = || Error::io("read this program's arguments");
    Ok((args.map_err(failed())?, env.map_err(failed())?))
}
