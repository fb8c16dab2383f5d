//! Mounts and their options.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount as Asked;

use crate::error::Error;
use crate::plan::inside;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) target: PathBuf,
    pub(crate) kind: Kind,
    /// What is set on the mount itself.
    pub(crate) top: Attributes,
    /// What is set on it and on all mounts below.
    pub(crate) all: Attributes,
    pub(crate) propagation: Option<(Propagation, bool)>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something that is there already.
    Bind { source: PathBuf, recursive: bool },
    /// A new file system of this type.
    New { fs: String, source: String, options: Vec<(String, Option<String>)> },
    /// The container's control groups, whichever version the machine has.
    Groups,
}

/// Bits that are set and taken off (linux/mount.h: MOUNT_ATTR_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Attributes {
    pub(crate) set: u64,
    pub(crate) clear: u64,
}

impl Attributes {
    pub(crate) const READONLY: u64 = 1;
    pub(crate) const NOSUID: u64 = 2;
    pub(crate) const NODEV: u64 = 4;
    pub(crate) const NOEXEC: u64 = 8;
    /// The times of access are a number of three values, not bits.
    pub(crate) const ATIME: u64 = 0x70;
    const NOATIME: u64 = 0x10;
    const STRICTATIME: u64 = 0x20;
    const NODIRATIME: u64 = 0x80;
    const NOSYMFOLLOW: u64 = 0x20_0000;

    fn change(&mut self, (set, bits): (bool, u64)) {
        // What is said last counts.
        if set {
            if bits & Self::ATIME != 0 {
                self.set &= !Self::ATIME;
                self.clear |= Self::ATIME;
            }
            self.set |= bits;
            self.clear &= !(bits & !Self::ATIME);
        } else {
            self.set &= !bits;
            self.clear |= bits;
        }
    }

    pub(crate) fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// To whom mounts below are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    Private,
    Slave,
    Shared,
    Unbindable,
}

impl Propagation {
    /// MS_PRIVATE and the like.
    pub(crate) fn flag(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

pub(super) fn plan(asked: &Asked, bundle: &Path) -> Result<Mount, Error> {
    let target = inside(asked.destination(), "mounts")?;
    let shown = target.display().to_string();
    let wrong = |problem: &str| Error::config(format!("the mount at `{shown}` {problem}"));
    if target == Path::new("/") {
        return Err(wrong("is over the root"));
    }
    let mapped = |maps: &Option<Vec<_>>| maps.as_ref().is_some_and(|maps| !maps.is_empty());
    if mapped(asked.uid_mappings()) || mapped(asked.gid_mappings()) {
        return Err(Error::Unsupported {
            what: format!("a mount with id mappings (`{shown}`)"),
            remedy: "leave them out, or use crun or runc",
        });
    }
    let mut mount = Mount {
        target,
        kind: Kind::Groups,
        top: Attributes::default(),
        all: Attributes::default(),
        propagation: None,
    };
    let (mut bind, mut recursive) = (false, false);
    let mut options = Vec::new();
    for option in asked.options().iter().flatten() {
        match &**option {
            "" | "defaults" => {}
            "bind" => bind = true,
            "rbind" => (bind, recursive) = (true, true),
            option => {
                if let Some(change) = attribute(option) {
                    mount.top.change(change);
                } else if let Some(change) = option.strip_prefix('r').and_then(attribute) {
                    mount.all.change(change);
                } else if let Some(propagation) = propagation(option) {
                    mount.propagation = Some(propagation);
                } else if ["idmap", "ridmap", "tmpcopyup", "remount", "copy-symlink"].contains(&option) {
                    return Err(Error::Unsupported {
                        what: format!("the option `{option}` (mount at `{shown}`)"),
                        remedy: "leave it out, or use crun or runc",
                    });
                } else {
                    let (name, value) = match option.split_once('=') {
                        Some((name, value)) => (name, Some(value.to_owned())),
                        None => (option, None),
                    };
                    options.push((name.to_owned(), value));
                }
            }
        }
    }
    let source = asked.source().clone().unwrap_or_default();
    let fs = asked.typ().clone().unwrap_or_default();
    mount.kind = match &*fs {
        _ if bind => {
            if let Some((name, _)) = options.first() {
                return Err(wrong(&format!("has the option `{name}`, which means nothing for a bind mount")));
            }
            if source.as_os_str().is_empty() {
                return Err(wrong("has no source"));
            }
            Kind::Bind { source: bundle.join(source), recursive }
        }
        "bind" | "none" | "" => return Err(wrong("is neither a bind mount nor a file system")),
        "cgroup" => Kind::Groups,
        _ => Kind::New { source: source.to_string_lossy().into_owned(), fs, options },
    };
    Ok(mount)
}

/// Reads an option that sets (true) or takes off bits of the mount.
fn attribute(option: &str) -> Option<(bool, u64)> {
    Some(match option {
        "ro" => (true, Attributes::READONLY),
        "rw" => (false, Attributes::READONLY),
        "nosuid" => (true, Attributes::NOSUID),
        "suid" => (false, Attributes::NOSUID),
        "nodev" => (true, Attributes::NODEV),
        "dev" => (false, Attributes::NODEV),
        "noexec" => (true, Attributes::NOEXEC),
        "exec" => (false, Attributes::NOEXEC),
        "noatime" => (true, Attributes::NOATIME),
        "strictatime" => (true, Attributes::STRICTATIME),
        // The kernel's own default, which is no bit.
        "relatime" | "norelatime" | "atime" | "nostrictatime" => (false, Attributes::ATIME),
        "nodiratime" => (true, Attributes::NODIRATIME),
        "diratime" => (false, Attributes::NODIRATIME),
        "nosymfollow" => (true, Attributes::NOSYMFOLLOW),
        "symfollow" => (false, Attributes::NOSYMFOLLOW),
        _ => return None,
    })
}

/// Reads an option that says to whom mounts are shown, and whether that is for all mounts below.
fn propagation(option: &str) -> Option<(Propagation, bool)> {
    let (name, all) = match option {
        "private" | "slave" | "shared" | "unbindable" => (option, false),
        _ => (option.strip_prefix('r')?, true),
    };
    let kind = match name {
        "private" => Propagation::Private,
        "slave" => Propagation::Slave,
        "shared" => Propagation::Shared,
        "unbindable" => Propagation::Unbindable,
        _ => return None,
    };
    Some((kind, all))
}

/// Reads `linux.rootfsPropagation`.
pub(super) fn root_propagation(text: &str) -> Result<Propagation, Error> {
    let found = propagation(text).map(|(kind, _)| kind);
    found.ok_or_else(|| Error::config(format!("`linux.rootfsPropagation`: `{text}` is not known")))
}
