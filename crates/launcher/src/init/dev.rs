//! `/dev`, and the terminal.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, openat2};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pty::OpenptFlags;

use crate::error::{Error, Tried as _};
use crate::init::{Detached, place, tree};
use crate::plan::Device;
use crate::sys;

/// Links that every `/dev` has.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Makes nodes and links in a `/dev` that is at no path yet. Where the kernel refuses nodes, as in user namespaces, the
/// machine's own are to be mounted: they are returned.
pub(super) fn furnish(dev: BorrowedFd<'_>, devices: &[Device]) -> Result<Vec<(PathBuf, Detached)>, Error> {
    let mut nodes = Vec::new();
    for device in devices {
        let failed = || format!("make the device `{}`", device.path.display());
        let name = device.path.strip_prefix("/dev").unwrap_or(&device.path);
        let (folder, name) = (name.parent().unwrap_or(Path::new("")), name.file_name().unwrap_or_default());
        let folder = if folder.as_os_str().is_empty() {
            dev.try_clone_to_owned().tried(failed)?
        } else {
            place::open_or_make(dev, folder, true).tried(failed)?
        };
        let number = rustix::fs::makedev(device.major, device.minor);
        let kind = FileType::from_raw_mode(device.kind);
        // The mode is set afterwards, for the umask takes bits away.
        match rustix::fs::mknodat(&folder, name, kind, Mode::empty(), number) {
            Ok(()) => own(&folder, name, device).tried(failed)?,
            Err(Errno::PERM) => {
                let source = tree::device(&device.path, device.kind, device.major, device.minor)?;
                rustix::fs::mknodat(&folder, name, FileType::RegularFile, Mode::empty(), 0).tried(failed)?;
                nodes.push((device.path.clone(), tree::copy(source, false).tried(failed)?));
            }
            Err(errno) => return Err(errno).tried(failed),
        }
    }
    let core = Path::new("/proc/kcore").exists().then_some(("core", "/proc/kcore"));
    for (name, target) in LINKS.into_iter().chain(core) {
        match rustix::fs::symlinkat(target, dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::io(format!("make the link `/dev/{name}`"))(errno)),
        }
    }
    Ok(nodes)
}

fn own(folder: &OwnedFd, name: &std::ffi::OsStr, device: &Device) -> Result<(), Errno> {
    if device.uid != 0 || device.gid != 0 {
        let owner = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        rustix::fs::chownat(folder, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    rustix::fs::chmodat(folder, name, Mode::from_raw_mode(device.mode), AtFlags::empty())
}

/// Makes a terminal in the container, gives its other end away, and makes it the process's own.
pub(super) fn terminal(
    root: BorrowedFd<'_>,
    (rows, columns): (u16, u16),
    uid: u32,
    console: Option<&UnixStream>,
) -> Result<(), Error> {
    let console = console.ok_or_else(|| Error::Refused("nobody takes the terminal".to_owned()))?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let main = openat2(root, "dev/pts/ptmx", flags, Mode::empty(), resolve)
        .tried(|| "open `/dev/pts/ptmx` of the container")?;
    rustix::pty::unlockpt(&main).tried(|| "unlock the terminal")?;
    // By the descriptor, not by a name in which somebody may have put something else.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let end = rustix::pty::ioctl_tiocgptpeer(&main, flags).tried(|| "open the terminal")?;
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    if rows > 0 && columns > 0 {
        rustix::termios::tcsetwinsize(&main, size).tried(|| "set the size of the terminal")?;
    }
    // Filesystems that show the machine's users only refuse it; the terminal works all the same.
    let _ = rustix::fs::fchown(&end, Some(Uid::from_raw(uid)), None);

    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    let rights = [main.as_fd()];
    message.push(SendAncillaryMessage::ScmRights(&rights));
    sendmsg(console, &[IoSlice::new(b"/dev/ptmx")], &mut message, SendFlags::NOSIGNAL)
        .tried(|| "give the terminal away")?;

    rustix::process::ioctl_tiocsctty(&end).tried(|| "take the terminal")?;
    for number in 0..3 {
        sys::become_standard(end.as_fd(), number).tried(|| "use the terminal")?;
    }
    let path = Path::new("/dev/console");
    let place = place::open_or_make(root, path, false).tried(|| "make `/dev/console`")?;
    let copy = tree::copy(&end, false).tried(|| "copy the terminal")?;
    tree::put(copy.as_fd(), place.as_fd()).tried(|| "mount `/dev/console`")
}
