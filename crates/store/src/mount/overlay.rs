use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use cooper_layer::OverlayXattrs;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

use crate::error::{Error, Result};
use crate::mount::lower::Lower;
use crate::mount::{make_mount_point, normal};
use crate::snapshots::PendingDir;
use crate::store::Store;

/// The most lower directories that a mount takes (`OVL_MAX_STACK` in the kernel's `fs/overlayfs`).
const MOST: usize = 500;

/// Options of every mount.
///
/// A renamed directory must not become a reference to a lower one, nor a changed mode a file without content: a layer
/// has to make sense alone. `index=off`: layers are shared by mounts, and linked names are copied apart.
const OPTIONS: &[(&str, &str)] = &[("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off")];

/// The options of the old call must fit into a page, and 4 KiB is the smallest.
const PAGE: usize = 4096;

/// A mounted overlay; dropping it unmounts it.
#[derive(Debug)]
pub(super) struct Mounted {
    /// What is mounted, the last first.
    points: Vec<PathBuf>,
    lower: Lower,
    xattrs: OverlayXattrs,
    empty: PathBuf,
    root: PathBuf,
}

/// Which system calls to mount with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    /// `fsopen` and `lowerdir+` (Linux 6.8): no limit on the length of the options.
    New,
    /// `mount`: all options in one page, which is enough for about 170 layers.
    Old,
}

impl Mounted {
    /// Mounts layers with the files of `pending` above them.
    pub(super) fn writable(store: &Store, lower: Lower, pending: &PendingDir) -> Result<Self, Refused> {
        // The root of the root: what a step sees there is the upper directory itself.
        let top = lower.dirs.last().map_or_else(|| store.0.layout.empty(), PathBuf::from);
        let prepared = super::attributes::stat(&top)
            .and_then(|stat| super::attributes::give(pending.path(), &top, &stat))
            .and_then(|()| make_mount_point(&pending.beside("work")));
        match prepared {
            Ok(()) => Self::new(store, lower, pending, "root", true),
            Err(error) => Err(Refused { lower, error }),
        }
    }

    /// Mounts layers for reading.
    pub(super) fn read_only(store: &Store, lower: Lower, pending: &PendingDir) -> Result<Self, Refused> {
        Self::new(store, lower, pending, "root", false)
    }

    fn new(
        store: &Store,
        lower: Lower,
        pending: &PendingDir,
        name: &str,
        writable: bool,
    ) -> Result<Self, Refused> {
        let mut mounted = Self {
            points: Vec::new(),
            lower,
            xattrs: store.overlay_xattrs(),
            empty: store.0.layout.empty(),
            root: pending.beside(name),
        };
        match mounted.mount_all(pending, writable) {
            Ok(()) => Ok(mounted),
            Err(error) => {
                mounted.unmount();
                let lower = std::mem::replace(
                    &mut mounted.lower,
                    Lower { dirs: Vec::new(), mends: Default::default() },
                );
                Err(Refused { lower, error })
            }
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn mount_all(&mut self, pending: &PendingDir, writable: bool) -> Result<()> {
        let name = self.root.file_name().and_then(|name| name.to_str()).unwrap_or("root");
        let mend = self.lower.mending_layer(pending.beside(&format!("{name}-mend")))?;
        let mut dirs: Vec<PathBuf> = mend.into_iter().chain(self.lower.dirs.iter().rev().cloned()).collect();
        if dirs.len() > MOST {
            // The lowest layers become one: only there nothing is below that their whiteouts would have to hide.
            let rest = dirs.split_off(MOST - 1);
            let base = pending.beside(&format!("{name}-base"));
            self.mount(&base, &rest, None)?;
            dirs.push(base);
        }
        // A directory below all, so that there is one without layers, and two for a view of one layer, as the kernel
        // asks for.
        if dirs.len() < 2 {
            dirs.push(self.empty.clone());
        }
        let root = self.root.clone();
        let work = pending.beside("work");
        self.mount(&root, &dirs, writable.then_some((pending.path(), &*work)))
    }

    /// Mounts directories, the topmost first, on a new directory.
    fn mount(&mut self, on: &Path, dirs: &[PathBuf], upper: Option<(&Path, &Path)>) -> Result<()> {
        make_mount_point(on)?;
        let failed = |source: Errno| Error::Mount {
            action: "mount an overlay",
            layers: self.lower.dirs.len(),
            source: source.into(),
        };
        if dirs.len() > MOST {
            return Err(failed(Errno::TOOBIG));
        }
        match mount(Api::New, on, dirs, upper, self.xattrs) {
            // An older kernel knows neither `lowerdir+` nor, before 5.2, `fsopen`.
            Err(Errno::INVAL | Errno::NOSYS) => mount(Api::Old, on, dirs, upper, self.xattrs),
            answer => answer,
        }
        .map_err(failed)?;
        self.points.insert(0, on.to_owned());
        Ok(())
    }

    fn unmount(&mut self) {
        for point in self.points.drain(..) {
            // Lazily: whoever still has a file open in it keeps that, and cannot keep us from going on.
            let _ = unmount(&point, UnmountFlags::DETACH);
        }
    }

    /// Unmounts, and leaves in `pending` only what differs from the layers.
    pub(super) fn finish(mut self, store: &Store, pending: &PendingDir) -> Result<()> {
        self.unmount();
        let lower = std::mem::replace(&mut self.lower, Lower { dirs: Vec::new(), mends: Default::default() });
        let seen = if lower.dirs.is_empty() {
            None
        } else {
            Some(Self::new(store, lower, pending, "lower", false).map_err(|refused| refused.error)?)
        };
        let below = seen.as_ref().map_or(&*self.empty, |seen| seen.root());
        normal::normalize(pending.path(), below, self.xattrs)?;
        drop(seen);
        pending.keep_files_only()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.unmount();
    }
}

/// A mount that failed; the layers are given back.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) lower: Lower,
    pub(super) error: Error,
}

pub(super) fn mount(
    api: Api,
    on: &Path,
    dirs: &[PathBuf],
    upper: Option<(&Path, &Path)>,
    xattrs: OverlayXattrs,
) -> Result<(), Errno> {
    match api {
        Api::New => mount_new(on, dirs, upper, xattrs),
        Api::Old => mount_old(on, dirs, upper, xattrs),
    }
}

fn mount_new(
    on: &Path,
    dirs: &[PathBuf],
    upper: Option<(&Path, &Path)>,
    xattrs: OverlayXattrs,
) -> Result<(), Errno> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let set = |key: &str, value: &Path| fsconfig_set_string(fs.as_fd(), key, value);
    fsconfig_set_string(fs.as_fd(), "source", "cooper")?;
    if xattrs == OverlayXattrs::User {
        fsconfig_set_flag(fs.as_fd(), "userxattr")?;
    }
    for (key, value) in OPTIONS {
        fsconfig_set_string(fs.as_fd(), *key, *value)?;
    }
    for dir in dirs {
        set("lowerdir+", dir)?;
    }
    if let Some((upper, work)) = upper {
        set("upperdir", upper)?;
        set("workdir", work)?;
        // Neither fsync in a step nor unmounting waits for the disk: what a crash of the machine would leave of this
        // directory is thrown away.
        fsconfig_set_flag(fs.as_fd(), "volatile")?;
    }
    fsconfig_create(fs.as_fd())?;
    let attributes = match upper {
        Some(_) => MountAttrFlags::empty(),
        None => MountAttrFlags::MOUNT_ATTR_RDONLY,
    };
    let mount = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    move_mount(mount.as_fd(), "", CWD, on, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn mount_old(
    on: &Path,
    dirs: &[PathBuf],
    upper: Option<(&Path, &Path)>,
    xattrs: OverlayXattrs,
) -> Result<(), Errno> {
    // Names of descriptors instead of paths: 17 bytes each, and nothing that would have to be escaped.
    let mut open: Vec<OwnedFd> = Vec::new();
    let mut name = |path: &Path| -> Result<String, Errno> {
        let fd = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
        open.push(fd);
        Ok(name)
    };
    let lower = dirs.iter().map(|dir| name(dir)).collect::<Result<Vec<_>, _>>()?.join(":");
    let mut options: Vec<String> = OPTIONS.iter().map(|(key, value)| format!("{key}={value}")).collect();
    options.push(format!("lowerdir={lower}"));
    if xattrs == OverlayXattrs::User {
        options.push("userxattr".into());
    }
    let mut flags = MountFlags::RDONLY;
    if let Some((upper, work)) = upper {
        options.push(format!("upperdir={},workdir={},volatile", name(upper)?, name(work)?));
        flags = MountFlags::empty();
    }
    let options = CString::new(options.join(",")).map_err(|_| Errno::INVAL)?;
    if options.as_bytes_with_nul().len() > PAGE {
        return Err(Errno::TOOBIG);
    }
    rustix::mount::mount("cooper", on, "overlay", flags, &*options)
}

/// Unmounts whatever is mounted below a path in this mount namespace.
pub(crate) fn detach_below(path: &Path) -> io::Result<()> {
    // Of this thread: it may have a mount namespace of its own.
    let text = match fs::read_to_string("/proc/thread-self/mountinfo") {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // The last mounted first.
    for line in text.lines().rev() {
        // proc_pid_mountinfo(5): the fifth field.
        let Some(point) = line.split(' ').nth(4).map(unescape) else { continue };
        if point.starts_with(path) {
            match unmount(&point, UnmountFlags::DETACH) {
                // Another process or thread that clears up was faster.
                Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Undoes the kernel's writing of spaces and such in `/proc`: a backslash and three octal digits.
fn unescape(field: &str) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, after @ ..] = rest {
        let byte = match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        out.push(byte.unwrap_or(*first));
        rest = byte.and_then(|_| after.get(3..)).unwrap_or(after);
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_proc() {
        for (written, name) in [("/a\\040b", "/a b"), ("/a\\134", "/a\\"), ("/a\\09", "/a\\09"), ("/ü", "/ü")]
        {
            assert_eq!(unescape(written), Path::new(name), "{written}");
        }
    }

    #[test]
    fn privileged_both_calls_mount_the_same() {
        // SAFETY: the thread is one of a test; it and all that it starts see the new namespace only.
        #[allow(unsafe_code)]
        let done = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
        let flags = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
        if !done || rustix::mount::mount_change("/", flags).is_err() {
            assert!(std::env::var_os("CI").is_none(), "this test needs to mount");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        // Names that would have to be escaped among options.
        let lower = [make("a:b,c"), make("d\\e")];
        fs::write(lower[0].join("both"), "upper").unwrap();
        fs::write(lower[1].join("both"), "lower").unwrap();
        fs::write(lower[1].join("one"), "one").unwrap();
        for (number, api) in [Api::New, Api::Old].into_iter().enumerate() {
            let make = |name: &str| make(&format!("{name} {number}"));
            let (on, upper, work) = (make("on"), make("upper"), make("work"));
            mount(api, &on, &lower, Some((&upper, &work)), OverlayXattrs::Trusted).unwrap();
            assert_eq!(fs::read_to_string(on.join("both")).unwrap(), "upper", "{api:?}");
            fs::write(on.join("one"), "changed").unwrap();
            assert_eq!(fs::read_to_string(upper.join("one")).unwrap(), "changed", "{api:?}");
            let line = |on: &Path| {
                let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
                mounts
                    .lines()
                    .rfind(|line| {
                        line.contains(&*on.file_name().unwrap().to_string_lossy().replace(' ', "\\040"))
                    })
                    .unwrap()
                    .to_owned()
            };
            assert!(line(&on).contains("volatile"), "{}", line(&on));
            let view = make("view");
            mount(api, &view, &lower, None, OverlayXattrs::User).unwrap();
            assert_eq!(fs::read_to_string(view.join("one")).unwrap(), "one", "{api:?}");
            assert_eq!(fs::write(view.join("one"), "x").unwrap_err().raw_os_error(), Some(libc::EROFS));
            assert!(line(&view).contains("userxattr"), "{}", line(&view));
        }
        let many = vec![lower[0].clone(); 300];
        let answer = mount(Api::Old, &make("many"), &many, None, OverlayXattrs::User);
        assert_eq!(answer, Err(Errno::TOOBIG));
        detach_below(dir.path()).unwrap();
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert!(!mounts.contains(dir.path().to_str().unwrap()), "{mounts}");
    }
}
