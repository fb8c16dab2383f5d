//! What is to be done for a container, decided before anything is done: everything here is pure.

mod capabilities;
mod limits;
mod mounts;
mod process;
mod sysctl;

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType, Spec};

use crate::error::Error;
use crate::seccomp::{self, Filter};
pub(crate) use capabilities::Capabilities;
pub(crate) use mounts::{Attributes, Kind, Mount, Propagation};
pub(crate) use process::{Label, Process, home_of};

/// A container, ready to be made.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) root: PathBuf,
    pub(crate) root_readonly: bool,
    pub(crate) root_propagation: Propagation,
    pub(crate) namespaces: Namespaces,
    pub(crate) mounts: Vec<Mount>,
    /// Nodes to be made below `/dev`; none if the configuration brings its own `/dev`.
    pub(crate) devices: Vec<Device>,
    /// `/dev` is an empty file system that wants its links and nodes.
    pub(crate) own_dev: bool,
    pub(crate) masked: Vec<PathBuf>,
    pub(crate) readonly: Vec<PathBuf>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    /// Paths below `/proc/sys` and what is written there.
    pub(crate) sysctl: Vec<(String, String)>,
    pub(crate) process: Process,
    pub(crate) seccomp: Option<Filter>,
}

/// Namespaces of the container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Namespaces {
    /// CLONE_NEW* of those that are made. The one of mounts always is.
    pub(crate) new: u64,
    /// Those that are there and are joined: CLONE_NEW* and the path.
    pub(crate) join: Vec<(u64, PathBuf)>,
    /// Ids inside, outside and their number; for a new user namespace.
    pub(crate) uids: Vec<(u32, u32, u32)>,
    pub(crate) gids: Vec<(u32, u32, u32)>,
}

impl Namespaces {
    pub(crate) fn makes(&self, flag: i32) -> bool {
        self.new & flag as u64 != 0
    }
}

/// A node in `/dev`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) path: PathBuf,
    /// S_IFCHR, S_IFBLK or S_IFIFO.
    pub(crate) kind: u32,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// What every container has (the runtime specification's default devices).
const DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

impl Plan {
    /// Reads a configuration; relative paths in it are the bundle's, which is absolute.
    pub(crate) fn new(spec: &Spec, bundle: &Path, arch: &str) -> Result<Self, Error> {
        refuse(spec)?;
        let root = spec.root().as_ref().ok_or_else(|| Error::config("`root` is missing"))?;
        let linux = spec.linux().clone().unwrap_or_default();
        let namespaces = namespaces(
            linux.namespaces().as_deref().unwrap_or_default(),
            linux.uid_mappings().as_deref().unwrap_or_default(),
            linux.gid_mappings().as_deref().unwrap_or_default(),
        )?;
        let mut mounts = Vec::new();
        for mount in spec.mounts().iter().flatten() {
            mounts.push(mounts::plan(mount, bundle)?);
        }
        let own_dev = mounts
            .iter()
            .any(|mount| mount.target == Path::new("/dev") && !matches!(mount.kind, Kind::Bind { .. }));
        let process = spec.process().as_ref().ok_or_else(|| Error::config("`process` is missing"))?;
        let process = process::plan(process)?;
        let sysctl = sysctl::plan(linux.sysctl().iter().flatten(), &namespaces)?;
        let new_uts = namespaces.makes(libc::CLONE_NEWUTS);
        for (name, value) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
            if value.as_ref().is_some_and(|value| !value.is_empty()) && !new_uts {
                return Err(Error::config(format!("`{name}` needs a new uts namespace")));
            }
        }
        let propagation = match linux.rootfs_propagation().as_deref() {
            None | Some("") => Propagation::Private,
            Some(text) => mounts::root_propagation(text)?,
        };
        let paths = |paths: &Option<Vec<String>>, what: &str| {
            paths.iter().flatten().map(|path| inside(Path::new(path), what)).collect::<Result<Vec<_>, _>>()
        };
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Ok(Self {
            root: bundle.join(root.path()),
            root_readonly: root.readonly().unwrap_or(false),
            root_propagation: propagation,
            masked: paths(linux.masked_paths(), "linux.maskedPaths")?,
            readonly: paths(linux.readonly_paths(), "linux.readonlyPaths")?,
            devices: if own_dev { devices(linux.devices().iter().flatten())? } else { Vec::new() },
            own_dev,
            hostname: filled(spec.hostname()),
            domainname: filled(spec.domainname()),
            seccomp: linux.seccomp().as_ref().map(|profile| seccomp::compile(profile, arch)).transpose()?,
            namespaces,
            mounts,
            sysctl,
            process,
        })
    }
}

/// Refuses what is known and not done.
fn refuse(spec: &Spec) -> Result<(), Error> {
    let linux = spec.linux().as_ref();
    let process = spec.process().as_ref();
    let hooks = spec.hooks().as_ref().and_then(|hooks| serde_json::to_value(hooks).ok());
    let hooks = hooks.as_ref().and_then(|hooks| hooks.as_object()).is_some_and(|hooks| {
        hooks.values().any(|hooks| hooks.as_array().is_some_and(|hooks| !hooks.is_empty()))
    });
    // Groups are the caller's: a process starts in those of whoever starts this program.
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let resources = resources.and_then(|resources| serde_json::to_value(resources).ok());
    let limited = resources.is_some_and(|resources| !crate::config::is_nothing(&resources));
    for (asked, what) in [
        (limited, "linux.resources"),
        (linux.is_some_and(|linux| linux.cgroups_path().is_some()), "linux.cgroupsPath"),
        (hooks, "hooks"),
        (spec.solaris().is_some(), "solaris"),
        (spec.windows().is_some(), "windows"),
        (spec.vm().is_some(), "vm"),
        (spec.zos().is_some(), "zos"),
        (linux.is_some_and(|linux| linux.intel_rdt().is_some()), "linux.intelRdt"),
        (linux.is_some_and(|linux| linux.memory_policy().is_some()), "linux.memoryPolicy"),
        (linux.is_some_and(|linux| linux.personality().is_some()), "linux.personality"),
        (
            linux.is_some_and(|linux| linux.time_offsets().as_ref().is_some_and(|o| !o.is_empty())),
            "linux.timeOffsets",
        ),
        (
            linux.is_some_and(|linux| linux.net_devices().as_ref().is_some_and(|d| !d.is_empty())),
            "linux.netDevices",
        ),
        (
            linux.is_some_and(|linux| linux.mount_label().as_ref().is_some_and(|l| !l.is_empty())),
            "linux.mountLabel",
        ),
        (process.is_some_and(|process| process.io_priority().is_some()), "process.ioPriority"),
        (process.is_some_and(|process| process.scheduler().is_some()), "process.scheduler"),
        (process.is_some_and(|process| process.exec_cpu_affinity().is_some()), "process.execCPUAffinity"),
    ] {
        if asked {
            return Err(Error::Unsupported {
                what: format!("`{what}`"),
                remedy: "leave it out, or use crun or runc",
            });
        }
    }
    Ok(())
}

fn namespaces(
    asked: &[oci_spec::runtime::LinuxNamespace],
    uids: &[LinuxIdMapping],
    gids: &[LinuxIdMapping],
) -> Result<Namespaces, Error> {
    let mut plan = Namespaces::default();
    let mut seen = 0;
    for namespace in asked {
        let flag = match namespace.typ() {
            LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
            LinuxNamespaceType::Cgroup => libc::CLONE_NEWCGROUP,
            LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
            LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
            LinuxNamespaceType::User => libc::CLONE_NEWUSER,
            LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
            LinuxNamespaceType::Network => libc::CLONE_NEWNET,
            LinuxNamespaceType::Time => {
                return Err(Error::Unsupported {
                    what: "a time namespace".to_owned(),
                    remedy: "leave it out, or use crun or runc",
                });
            }
        } as u64;
        if seen & flag != 0 {
            return Err(Error::config(format!("the namespace `{}` is there twice", namespace.typ())));
        }
        seen |= flag;
        match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
            None => plan.new |= flag,
            // What a container does to its mounts must be seen by nobody else; ids that others chose are none that it may
            // use.
            Some(_) if flag == libc::CLONE_NEWNS as u64 || flag == libc::CLONE_NEWUSER as u64 => {
                return Err(Error::Unsupported {
                    what: format!("joining a `{}` namespace", namespace.typ()),
                    remedy: "let a new one be made, or use crun or runc",
                });
            }
            Some(path) => plan.join.push((flag, path.clone())),
        }
    }
    if !plan.makes(libc::CLONE_NEWNS) {
        return Err(Error::config("a new `mount` namespace is missing in `linux.namespaces`"));
    }
    let map = |maps: &[LinuxIdMapping]| {
        maps.iter().map(|map| (map.container_id(), map.host_id(), map.size())).collect::<Vec<_>>()
    };
    (plan.uids, plan.gids) = (map(uids), map(gids));
    match plan.makes(libc::CLONE_NEWUSER) {
        true if plan.uids.is_empty() || plan.gids.is_empty() => {
            Err(Error::config("a user namespace needs `linux.uidMappings` and `linux.gidMappings`"))
        }
        false if !plan.uids.is_empty() || !plan.gids.is_empty() => {
            Err(Error::config("id mappings need a new `user` namespace"))
        }
        _ => Ok(plan),
    }
}

fn devices<'a>(asked: impl Iterator<Item = &'a LinuxDevice>) -> Result<Vec<Device>, Error> {
    let default = |&(path, major, minor): &(&str, u32, u32)| Device {
        path: path.into(),
        kind: libc::S_IFCHR,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    };
    let mut devices: Vec<Device> = DEVICES.iter().map(default).collect();
    for device in asked {
        let path = inside(device.path(), "linux.devices")?;
        let name = path.strip_prefix("/dev").ok().filter(|rest| rest.components().next().is_some());
        if name.is_none() {
            return Err(Error::Unsupported {
                what: format!("the device `{}`", path.display()),
                remedy: "devices go below /dev",
            });
        }
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
            LinuxDeviceType::B => libc::S_IFBLK,
            LinuxDeviceType::P => libc::S_IFIFO,
            LinuxDeviceType::A => {
                return Err(Error::config(format!("the device `{}` has no kind", path.display())));
            }
        };
        let number = |number: i64| {
            u32::try_from(number).map_err(|_| {
                Error::config(format!("the device `{}` has a number below zero", path.display()))
            })
        };
        let pipe = kind == libc::S_IFIFO;
        let (major, minor) = if pipe { (0, 0) } else { (number(device.major())?, number(device.minor())?) };
        devices.retain(|known| known.path != path);
        devices.push(Device {
            kind,
            major,
            minor,
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
            path,
        });
    }
    Ok(devices)
}

/// Checks that a path of the container is absolute and goes nowhere up, and takes what means nothing out of it.
fn inside(path: &Path, what: &str) -> Result<PathBuf, Error> {
    let wrong = |problem: &str| Error::config(format!("`{what}`: `{}` {problem}", path.display()));
    if !path.is_absolute() {
        return Err(wrong("is not absolute"));
    }
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(wrong("must not have `..` in it"));
    }
    if std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).contains(&0) {
        return Err(wrong("has a zero byte in it"));
    }
    Ok(path.components().collect())
}

#[cfg(test)]
mod tests;
