//! Everything before a runtime is started: directories, users, places, the bundle.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use cooper_layer::Timestamp;
use rustix::fs::{FileType, Mode as FileMode, OFlags};
use rustix::time::ClockId;
use serde_json::Value;
use tempfile::TempDir;

use super::bundle::{self, Facts, SYSTEM_MOUNTS};
use super::memory::Memory;
use super::provided::{Caches, Provided, needs_memory};
use super::view::{Located, Over, Stubs, View};
use super::{Inner, etc, now, program};
use crate::cancel::Cancel;
use crate::error::StepError;
use crate::file::Root;
use crate::inroot::{Place, make_dir, open_dir, path_of};
use crate::namespace::Mode;
use crate::step::{Mount, MountFrom, Security, Step};
use crate::user::UserIds;
use crate::workspaces::{Access, Workspace};

/// A step that can be started. The fields are in the order in which they must be dropped: what was made in workspaces
/// goes before they do.
pub(super) struct Prepared {
    stubs: Stubs,
    workspaces: Vec<(usize, Box<dyn Workspace>, bool)>,
    pub(super) sandbox: bool,
    /// A name for a control group.
    pub(super) group: CString,
    /// Locks that hold until the last process of the step is gone.
    pub(super) held: Vec<OwnedFd>,
    caches: Caches,
    provided: Provided,
    /// What `dir` is on, if it has secrets in it.
    memory: Option<Memory>,
    /// The bundle, the runtime's state and its log.
    pub(super) dir: TempDir,
    pub(super) id: String,
    pub(super) start: Timestamp,
}

impl Prepared {
    pub(super) fn new(
        executor: &Inner,
        step: &Step,
        name: Option<&str>,
        cancel: &Cancel,
    ) -> Result<Self, StepError> {
        let root_mount = check(executor, step)?;
        let dir = tempfile::Builder::new()
            .prefix("step-")
            .tempdir_in(&executor.state)
            .map_err(StepError::io(format!("make a directory in `{}`", executor.state.display())))?;
        let memory = needs_memory(step).then(|| Memory::on(dir.path()));
        let memory =
            memory.transpose().map_err(StepError::io("mount a file system in memory for secrets"))?;
        let mut workspaces = Vec::new();
        let opened = open(executor, step, &mut workspaces)?;
        let root_path = opened
            .iter()
            .find(|(index, _)| *index == root_mount)
            .map(|(_, path)| path.clone())
            .ok_or_else(|| StepError::Invalid("it has no root".to_owned()))?;
        let root_fd = path_only(&root_path).map_err(StepError::io("open the root"))?;
        let user = UserIds::find(
            &Root::open(&root_path).map_err(StepError::io("open the root"))?,
            &step.process.user,
        )?;
        check_user(executor.mode, &user)?;
        let provided = Provided::new(executor, step, dir.path())?;
        // This may have to wait for other steps.
        let absolute = |path: &str| Path::new("/").join(&step.process.cwd).join(path);
        let caches = Caches::take(executor, step, cancel, |dest| {
            match Place::resolve(root_fd.as_fd(), &absolute(dest), true) {
                Ok(place) if place.exists() => {
                    let stat = rustix::fs::fstat(place.fd()).ok();
                    stat.map_or((user.uid, user.gid), |stat| (stat.st_uid, stat.st_gid))
                }
                _ => (user.uid, user.gid),
            }
        })?;

        // From here on files are made, whose times mean "during the step".
        let start = now(ClockId::RealtimeCoarse);
        let mut stubs = Stubs::default();
        system_places(&root_fd, &mut stubs)?;

        let mut view = View::new(root_fd);
        for place in SYSTEM_MOUNTS {
            view.lay(place.into(), Over::Made);
        }
        // Before places to mount on are made, which are taken away again: those in the working directory leave it there.
        let mounted = |mount: &Mount| !is_root(mount) && absolute("").starts_with(absolute(&mount.dest));
        if !step.mounts.iter().any(mounted) {
            working_directory(&view, &step.process.cwd, &user)?;
        }
        let mut mounts: Vec<Value> = Vec::new();
        let mut add = |view: &mut View, dest: &Path, source: Source<'_>| {
            let entry = lay(view, &mut stubs, dest, source)?;
            mounts.push(entry);
            Ok::<(), StepError>(())
        };
        etc_files(step, dir.path(), |dest, file| {
            let dest = Path::new(dest);
            // Images that want no name servers link to `/dev/null`: that is what their steps see.
            if view.locate(dest).is_ok_and(|located| is_of_kernel(&located.path)) {
                return Ok(());
            }
            add(&mut view, dest, Source::File(file))
        })?;
        for (index, mount) in step.mounts.iter().enumerate().filter(|(index, _)| *index != root_mount) {
            let dest = absolute(&mount.dest);
            let readonly = mount.readonly;
            match &mount.from {
                MountFrom::Tmpfs { size } => add(&mut view, &dest, Source::Tmpfs(*size, readonly))?,
                MountFrom::Secret { .. } | MountFrom::Agent { .. } => {
                    // One that nobody has and nobody requires is not there at all.
                    if let Some(file) = provided.file(index) {
                        add(&mut view, &dest, Source::File(file))?;
                    }
                }
                MountFrom::Cache { .. } => {
                    let base = caches.path(index);
                    let base = base.ok_or_else(|| StepError::Invalid("a cache was not taken".to_owned()))?;
                    add(&mut view, &dest, Source::Dir { base, subpath: "", readonly })?;
                }
                _ => {
                    let base = opened.iter().find(|(opened, _)| *opened == index).map(|(_, path)| path);
                    let base = base.ok_or_else(|| StepError::Invalid("a mount was not opened".to_owned()))?;
                    let subpath = match &mount.from {
                        MountFrom::Layers(_, path) => path.as_str(),
                        _ => "",
                    };
                    add(&mut view, &dest, Source::Dir { base, subpath, readonly })?;
                }
            }
        }
        let cwd = working_directory(&view, &step.process.cwd, &user)?;
        program::check(&view, &step.process, &cwd, &user)?;
        drop(view);

        let facts = Facts {
            root: &root_path,
            root_readonly: step.mounts.get(root_mount).is_some_and(|mount| mount.readonly),
            cwd: &cwd,
            user: &user,
            mode: executor.mode,
            secret_env: provided.env(),
            mounts,
        };
        let config = bundle::spec(step, facts)?;
        let failed = || StepError::io("write the bundle");
        let text = serde_json::to_vec(&config).map_err(std::io::Error::from).map_err(failed())?;
        std::fs::write(bundle::config_path(dir.path()), text).map_err(failed())?;
        // Builders in one control group may have chosen the same name for a directory.
        let own = || {
            let dir = dir.path().file_name().unwrap_or_default().to_string_lossy();
            format!("{dir}-{}", std::process::id())
        };
        let id = crate::groups::name(&name.map_or_else(own, str::to_owned));
        let group = CString::new(id.as_str());
        let group = group.map_err(std::io::Error::from).map_err(failed())?;
        let sandbox = step.security == Security::Sandbox;
        let held = caches.held()?;
        Ok(Self { stubs, workspaces, sandbox, group, held, caches, provided, memory, dir, id, start })
    }

    /// Takes away what was made, and gives back the workspaces that may be committed, by the place of their mount.
    pub(super) fn finish(self) -> Vec<(usize, Box<dyn Workspace>)> {
        let Self { stubs, workspaces, held, caches, provided, memory, dir, .. } = self;
        drop(stubs);
        drop((held, caches));
        drop(provided);
        drop(memory);
        drop(dir);
        let outputs = workspaces.into_iter().filter(|(_, _, output)| *output);
        outputs.map(|(index, workspace, _)| (index, workspace)).collect()
    }
}

/// Refuses what is not done here; gives back which mount is the root.
fn check(executor: &Inner, step: &Step) -> Result<usize, StepError> {
    let unsupported = |what: &str, remedy: &str| {
        Err(StepError::Unsupported { what: what.to_owned(), remedy: remedy.to_owned() })
    };
    if step.security == Security::Insecure && !executor.allow_insecure {
        return Err(StepError::NotAllowed {
            what: "an insecure step".to_owned(),
            remedy: "this builder was not told to allow it".to_owned(),
        });
    }
    let host = cooper_oci::Platform::host();
    if step.platform.os != host.os {
        return unsupported(&format!("a step for `{}`", step.platform), "build it on such a machine");
    }
    let mut root = None;
    for (index, mount) in step.mounts.iter().enumerate() {
        let dest = &mount.dest;
        match &mount.from {
            MountFrom::Layers(..) | MountFrom::Empty => {}
            MountFrom::Tmpfs { .. } if mount.output => {
                return Err(StepError::Invalid(format!("what is in memory at `{dest}` cannot be an output")));
            }
            MountFrom::Cache { .. } | MountFrom::Secret { .. } | MountFrom::Agent { .. } if mount.output => {
                return Err(StepError::Invalid(format!("what is mounted at `{dest}` cannot be an output")));
            }
            MountFrom::Tmpfs { .. }
            | MountFrom::Cache { .. }
            | MountFrom::Secret { .. }
            | MountFrom::Agent { .. } => {}
        }
        if mount.output && mount.readonly {
            return Err(StepError::Invalid(format!("the read-only mount at `{dest}` cannot be an output")));
        }
        if is_root(mount) {
            if root.replace(index).is_some() {
                return Err(StepError::Invalid("it has two roots".to_owned()));
            }
            if !matches!(&mount.from, MountFrom::Layers(_, path) if path.is_empty() || path == "/")
                && mount.from != MountFrom::Empty
            {
                return Err(StepError::Invalid("its root must be layers, and all of them".to_owned()));
            }
        }
    }
    root.ok_or_else(|| StepError::Invalid("it has no root".to_owned()))
}

fn is_root(mount: &Mount) -> bool {
    let mut components = Path::new(&mount.dest).components();
    mount.dest.starts_with('/') && components.all(|component| matches!(component, Component::RootDir))
}

/// Opens the directories of all mounts that have one.
fn open(
    executor: &Inner,
    step: &Step,
    workspaces: &mut Vec<(usize, Box<dyn Workspace>, bool)>,
) -> Result<Vec<(usize, PathBuf)>, StepError> {
    let mut opened = Vec::new();
    for (index, mount) in step.mounts.iter().enumerate() {
        let layers = match &mount.from {
            MountFrom::Layers(layers, _) => layers.as_slice(),
            MountFrom::Empty => &[],
            _ => continue,
        };
        // Places to mount on may have to be made in a root that the step only reads.
        let access = if mount.readonly && !is_root(mount) { Access::Read } else { Access::Write };
        let workspace = executor.workspaces.open(layers, access).map_err(|source| StepError::Workspace {
            what: format!("open the layers for `{}`", mount.dest),
            source,
        })?;
        let path = workspace.root().to_owned();
        workspaces.push((index, workspace, mount.output));
        opened.push((index, path));
    }
    Ok(opened)
}

fn check_user(mode: Mode, user: &UserIds) -> Result<(), StepError> {
    let others = user.uid != 0 || user.gid != 0 || user.groups.iter().any(|group| *group != 0);
    if mode == Mode::SingleId && others {
        return Err(StepError::Unsupported {
            what: format!("a step as user {}:{} without subordinate ids", user.uid, user.gid),
            remedy: "add a range for this user to /etc/subuid and /etc/subgid and install newuidmap (package uidmap), or build as root"
                .to_owned(),
        });
    }
    Ok(())
}

/// Makes sure that `/proc`, `/dev` and `/sys` are directories: a runtime that follows a link there works in directories
/// of this machine (CVE-2026-41579). Missing ones are made and stay, as after every step by Docker or BuildKit.
fn system_places(root: &OwnedFd, stubs: &mut Stubs) -> Result<(), StepError> {
    for path in ["/proc", "/dev", "/sys"] {
        let place = Place::resolve(root.as_fd(), Path::new(path), false).map_err(at(path))?;
        match place.kind() {
            Some(FileType::Directory) => {}
            None => stubs.make(&place, true, true).map_err(at(path))?,
            Some(_) => {
                return Err(StepError::Path {
                    path: path.to_owned(),
                    problem: "must be a directory, not a link or a file".to_owned(),
                });
            }
        }
    }
    Ok(())
}

/// Writes `/etc/resolv.conf` and `/etc/hosts`, unless the step brings its own.
fn etc_files(
    step: &Step,
    dir: &Path,
    mut add: impl FnMut(&str, &Path) -> Result<(), StepError>,
) -> Result<(), StepError> {
    let own = |path: &str| step.mounts.iter().any(|mount| mount.dest == path);
    let machine = std::fs::read("/etc/resolv.conf").unwrap_or_default();
    let machine = String::from_utf8_lossy(&machine);
    for (path, name, text) in [
        ("/etc/resolv.conf", "resolv.conf", etc::resolv_conf(&machine, step.network)),
        ("/etc/hosts", "hosts", etc::hosts(&step.hostname, &step.extra_hosts)),
    ] {
        if own(path) {
            continue;
        }
        let file = dir.join(name);
        let failed = || StepError::io(format!("write `{path}` of the step"));
        std::fs::write(&file, text).map_err(failed())?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&file, open).map_err(failed())?;
        add(path, &file)?;
    }
    Ok(())
}

/// What runtimes put into `/dev`. They mount `/dev/null` over what a step must not see, so it has to be the real one.
const DEVICES: [&str; 13] = [
    "console", "core", "fd", "full", "null", "ptmx", "random", "stderr", "stdin", "stdout", "tty", "urandom",
    "zero",
];

/// Tells whether a path without links leads to what the kernel shows there, over which nothing is mounted.
fn is_of_kernel(path: &Path) -> bool {
    let mut inside = match path.strip_prefix("/dev") {
        Ok(inside) => inside.components(),
        Err(_) => return path.starts_with("/proc") || path.starts_with("/sys"),
    };
    inside.next().is_none_or(|first| DEVICES.iter().any(|device| first.as_os_str() == *device))
}

/// What is to be mounted.
enum Source<'a> {
    Dir { base: &'a Path, subpath: &'a str, readonly: bool },
    File(&'a Path),
    Tmpfs(Option<u64>, bool),
}

/// Makes a place to mount on, notes in the view what will be seen there, and makes the configuration's entry.
fn lay(view: &mut View, stubs: &mut Stubs, dest: &Path, source: Source<'_>) -> Result<Value, StepError> {
    let shown = dest.display().to_string();
    let Located { path, place } = view.locate(dest).map_err(at(&shown))?;
    let problem = |problem: &str| StepError::Path { path: shown.clone(), problem: problem.to_owned() };
    if path == Path::new("/") {
        return Err(problem("nothing can be mounted over the root"));
    }
    if is_of_kernel(&path) {
        return Err(problem("nothing can be mounted over what the kernel shows there"));
    }
    let source_fd = match &source {
        Source::Dir { base, subpath, .. } => {
            let base = path_only(base).map_err(StepError::io(format!("open the layers for `{shown}`")))?;
            let place = Place::resolve(base.as_fd(), Path::new(subpath), true).map_err(at(subpath))?;
            if !place.exists() {
                return Err(StepError::Path {
                    path: (*subpath).to_owned(),
                    problem: format!("not found, so it cannot be mounted at `{shown}`"),
                });
            }
            Some(place.into_fd())
        }
        Source::File(file) => {
            Some(path_only(file).map_err(StepError::io(format!("open `{}`", file.display())))?)
        }
        Source::Tmpfs(..) => None,
    };
    let directory = match &source_fd {
        Some(fd) => {
            let stat = rustix::fs::fstat(fd).map_err(|error| at(&shown)(error.into()))?;
            FileType::from_raw_mode(stat.st_mode) == FileType::Directory
        }
        None => true,
    };
    if let Some(place) = &place {
        match place.kind() {
            None => stubs.make(place, directory, false).map_err(at(&shown))?,
            Some(kind) if (kind == FileType::Directory) != directory => {
                return Err(problem(if directory {
                    "a directory cannot be mounted on a file"
                } else {
                    "a file cannot be mounted on a directory"
                }));
            }
            Some(_) => {}
        }
    }
    let entry = match (&source, &source_fd) {
        (Source::Tmpfs(size, readonly), _) => bundle::tmpfs(&path, *size, *readonly).map_err(at(&shown))?,
        (Source::Dir { readonly, .. }, Some(fd)) => {
            let from = path_of(fd.as_fd()).map_err(at(&shown))?;
            bundle::bind(&from, &path, *readonly).map_err(at(&shown))?
        }
        (Source::File(file), _) => {
            let mut entry = bundle::bind(file, &path, true).map_err(at(&shown))?;
            if let Some(options) = entry.get_mut("options").and_then(Value::as_array_mut) {
                options.extend(["nosuid", "noexec", "nodev"].map(Value::from));
            }
            entry
        }
        (Source::Dir { .. }, None) => return Err(problem("was not opened")),
    };
    let over = match source_fd {
        Some(fd) => Over::Existing(fd),
        None => Over::Made,
    };
    view.lay(path, over);
    Ok(entry)
}

/// Finds the working directory, and makes it if it is missing.
///
/// A runtime would do it too, but some do not make it, some give it to root, and some land in a directory of this machine
/// by way of `/proc/self/fd` (CVE-2024-21626).
fn working_directory(view: &View, cwd: &str, user: &UserIds) -> Result<PathBuf, StepError> {
    let shown = if cwd.is_empty() { "/" } else { cwd };
    let problem = |problem: &str| StepError::Path { path: shown.to_owned(), problem: problem.to_owned() };
    let Located { path, place } = view.locate(&Path::new("/").join(cwd)).map_err(at(shown))?;
    // `/dev/fd` is a link that the runtime makes.
    if path.starts_with("/proc") && path != Path::new("/proc") || view.is_in(&path, "/dev") {
        return Err(problem("a working directory inside /proc or /dev could lead out of the root"));
    }
    let Some(place) = place else { return Ok(path) };
    match place.kind() {
        Some(FileType::Directory) => return Ok(path),
        Some(_) => return Err(problem("the working directory is not a directory")),
        None => {}
    }
    let mut dir = open_dir(place.fd(), ".").map_err(at(shown))?;
    for name in place.missing() {
        dir = make_dir(dir.as_fd(), name, 0o755).map_err(at(shown))?;
        let (uid, gid) = (rustix::fs::Uid::from_raw(user.uid), rustix::fs::Gid::from_raw(user.gid));
        rustix::fs::fchown(&dir, Some(uid), Some(gid)).map_err(|error| at(shown)(error.into()))?;
    }
    Ok(path)
}

fn at(path: &str) -> impl FnOnce(std::io::Error) -> StepError {
    let path = path.to_owned();
    move |error| StepError::Path { path, problem: error.to_string() }
}

fn path_only(path: &Path) -> std::io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, FileMode::empty())?)
}
