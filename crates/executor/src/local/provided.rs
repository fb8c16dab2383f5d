//! Secrets, agents and caches of a step, from the one who provides them to files and directories that can be mounted.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use cooper_layer::{LayerId, Owners};
use rustix::fs::{AtFlags, Gid, Mode as FileMode, OFlags, Uid};

use super::Inner;
use super::agent::Proxy;
use crate::cancel::Cancel;
use crate::error::StepError;
use crate::file::{self, Root};
use crate::inroot::Place;
use crate::namespace::Mode;
use crate::provide::{CacheDir, CacheWanted};
use crate::step::{CacheSharing, Mount, MountFrom, Step};
use crate::workspaces::{Access, WorkspaceError};

/// Tells whether the step's own directory will have secrets in it, and sockets that only the step shall reach.
pub(super) fn needs_memory(step: &Step) -> bool {
    let mounted = |mount: &Mount| matches!(mount.from, MountFrom::Secret { .. } | MountFrom::Agent { .. });
    !step.process.secret_env.is_empty() || step.mounts.iter().any(mounted)
}

/// Secrets and agents.
#[derive(Default)]
pub(super) struct Provided {
    files: Vec<(usize, PathBuf)>,
    env: Vec<(String, String)>,
    proxies: Vec<Proxy>,
}

/// Who owns a file, and what others may do with it.
struct Owner {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Provided {
    /// Puts secrets and sockets of agents into `dir`, which must be in memory.
    pub(super) fn new(executor: &Inner, step: &Step, dir: &Path) -> Result<Self, StepError> {
        let mut this = Self::default();
        for secret in &step.process.secret_env {
            let Some(value) = find_secret(executor, &secret.id, secret.required)? else { continue };
            // The value itself is in no message.
            let text = String::from_utf8(value).ok().filter(|text| !text.contains('\0'));
            let text = text.ok_or_else(|| {
                StepError::Invalid(format!(
                    "the secret `{}` is no text, so no variable can have it",
                    secret.id
                ))
            })?;
            this.env.push((secret.name.clone(), text));
        }
        for (index, mount) in step.mounts.iter().enumerate() {
            match &mount.from {
                MountFrom::Secret { id, required, uid, gid, mode } => {
                    let Some(value) = find_secret(executor, id, *required)? else { continue };
                    let path = dir.join(format!("secret-{index}"));
                    let failed = || StepError::io(format!("write the secret `{id}`"));
                    let mut options = std::fs::File::options();
                    let file =
                        options.write(true).create_new(true).mode(0o600).open(&path).map_err(failed())?;
                    std::io::Write::write_all(&mut &file, &value).map_err(failed())?;
                    this.give(executor.mode, &path, &Owner { uid: *uid, gid: *gid, mode: *mode })?;
                    this.files.push((index, path));
                }
                MountFrom::Agent { id, required, uid, gid, mode } => {
                    let agent = executor.provider.agent(id).map_err(|source| StepError::Workspace {
                        what: format!("reach the ssh agent `{}`", named(id)),
                        source,
                    })?;
                    let Some(agent) = agent else {
                        if !*required {
                            continue;
                        }
                        let id = named(id);
                        return Err(StepError::NotProvided {
                            what: format!("ssh agent {id}"),
                            remedy: format!(
                                "give it by `--ssh {id}` (the agent of $SSH_AUTH_SOCK), `--ssh {id}=SOCKET` or `--ssh {id}=KEYFILE`"
                            ),
                        });
                    };
                    let name = format!("agent-{index}");
                    let failed = || StepError::io(format!("listen for the ssh agent `{}`", named(id)));
                    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                    let opened = rustix::fs::open(dir, flags, FileMode::empty());
                    let opened = opened.map_err(std::io::Error::from).map_err(failed())?;
                    // A name of a socket has 107 bytes at most; that of a store may be longer.
                    let short = format!("/proc/self/fd/{}/{name}", std::os::fd::AsRawFd::as_raw_fd(&opened));
                    this.proxies.push(Proxy::listen(Path::new(&short), agent).map_err(failed())?);
                    let path = dir.join(name);
                    this.give(executor.mode, &path, &Owner { uid: *uid, gid: *gid, mode: *mode })?;
                    this.files.push((index, path));
                }
                _ => {}
            }
        }
        Ok(this)
    }

    /// Gives a file to its owner.
    fn give(&self, mode: Mode, path: &Path, owner: &Owner) -> Result<(), StepError> {
        if mode == Mode::SingleId && (owner.uid, owner.gid) != (0, 0) {
            return Err(StepError::Unsupported {
                what: format!("a mount that belongs to {}:{} without subordinate ids", owner.uid, owner.gid),
                remedy: "add a range for this user to /etc/subuid and /etc/subgid and install newuidmap (package uidmap), or leave `uid` and `gid` out"
                    .to_owned(),
            });
        }
        std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid))
            .and_then(|()| std::fs::set_permissions(path, PermissionsExt::from_mode(owner.mode & 0o7777)))
            .map_err(StepError::io(format!("give a mount to {}:{}", owner.uid, owner.gid)))
    }

    /// Returns the file that stands for the mount at a place of the step.
    pub(super) fn file(&self, mount: usize) -> Option<&Path> {
        self.files.iter().find(|(index, _)| *index == mount).map(|(_, path)| path.as_path())
    }

    /// Returns variables with secrets.
    pub(super) fn env(&self) -> &[(String, String)] {
        &self.env
    }
}

fn named(id: &str) -> &str {
    if id.is_empty() { "default" } else { id }
}

fn find_secret(executor: &Inner, id: &str, required: bool) -> Result<Option<Vec<u8>>, StepError> {
    let found = executor
        .provider
        .secret(id)
        .map_err(|source| StepError::Workspace { what: format!("read the secret `{id}`"), source })?;
    if found.is_none() && required {
        return Err(StepError::NotProvided {
            what: format!("secret {id}"),
            remedy: format!("give it by `--secret id={id},src=FILE` or `--secret id={id},env=VARIABLE`"),
        });
    }
    Ok(found)
}

/// Caches that a step has taken.
#[derive(Default)]
pub(super) struct Caches {
    taken: Vec<Box<dyn CacheDir>>,
    /// Which of them a mount shows.
    mounts: Vec<(usize, usize)>,
}

impl Caches {
    /// Takes all caches of a step, waiting for those that others have. `owner` says whose a new one becomes that is not
    /// seeded, by its place in the root.
    ///
    /// They are taken in the order of their names by everybody, so that two steps never wait for each other. A cache that is mounted
    /// twice is taken once.
    pub(super) fn take(
        executor: &Inner,
        step: &Step,
        cancel: &Cancel,
        owner: impl Fn(&str) -> (u32, u32),
    ) -> Result<Self, StepError> {
        let wanted = |mount: &'_ Mount| match &mount.from {
            MountFrom::Cache { id, sharing, seed } => Some((id.clone(), seed.clone(), *sharing)),
            _ => None,
        };
        let mut all: Vec<(usize, &Mount, _)> = step
            .mounts
            .iter()
            .enumerate()
            .filter_map(|(index, mount)| Some((index, mount, wanted(mount)?)))
            .collect();
        // Of several mounts of one cache the strictest wish counts.
        all.sort_by(|(_, _, a), (_, _, b)| (&a.0, &a.1, strict(b.2)).cmp(&(&b.0, &b.1, strict(a.2))));
        let mut this = Self::default();
        let mut last = None;
        for (index, mount, (id, seed, sharing)) in all {
            let same = Some((&id, &seed)) == last.as_ref().map(|(id, seed)| (id, seed));
            if !same {
                let failed = |source| StepError::Workspace {
                    what: format!("take the cache for `{}`", mount.dest),
                    source,
                };
                let wanted = CacheWanted {
                    id: &id,
                    sharing,
                    seed: seed.as_ref().map(|(layers, path)| (layers.as_slice(), path.as_str())),
                };
                let mut fill = |dir: &Path| fill(executor, &wanted, dir, owner(&mount.dest));
                let taken = executor.provider.cache(&wanted, cancel, &mut fill).map_err(failed)?;
                this.taken.push(taken.ok_or(StepError::Cancelled)?);
                last = Some((id, seed));
            }
            this.mounts.push((index, this.taken.len() - 1));
        }
        Ok(this)
    }

    /// Returns the directory for the mount at a place of the step.
    pub(super) fn path(&self, mount: usize) -> Option<&Path> {
        let (_, at) = self.mounts.iter().find(|(index, _)| *index == mount)?;
        self.taken.get(*at).map(|taken| taken.path())
    }

    /// Returns descriptors that keep the caches taken.
    pub(super) fn held(&self) -> Result<Vec<OwnedFd>, StepError> {
        let held: std::io::Result<Vec<OwnedFd>> = self.taken.iter().map(|taken| taken.hold()).collect();
        held.map_err(StepError::io("hold a cache"))
    }
}

fn strict(sharing: CacheSharing) -> u8 {
    match sharing {
        CacheSharing::Shared => 0,
        CacheSharing::Private => 1,
        CacheSharing::Locked => 2,
    }
}

/// Puts into a new cache what it holds at first.
fn fill(
    executor: &Inner,
    wanted: &CacheWanted<'_>,
    dir: &Path,
    owner: (u32, u32),
) -> Result<(), WorkspaceError> {
    let target = rustix::fs::open(dir, OFlags::DIRECTORY | OFlags::CLOEXEC, FileMode::empty())?;
    let mut owner = owner;
    let mut mode = 0o755;
    if let Some((layers, path)) = wanted.seed {
        let seed = seed(executor, layers, path, dir)?;
        owner = (seed.uid, seed.gid);
        mode = seed.mode;
    }
    if executor.mode != Mode::SingleId {
        let (uid, gid) = (Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)));
        rustix::fs::chownat(target.as_fd(), "", uid, gid, AtFlags::EMPTY_PATH)?;
    }
    rustix::fs::fchmod(&target, FileMode::from_raw_mode(mode))?;
    Ok(())
}

/// Copies a directory out of layers, and tells whose it was.
fn seed(executor: &Inner, layers: &[LayerId], path: &str, dir: &Path) -> Result<Owner, WorkspaceError> {
    let view = executor.workspaces.open(layers, Access::Read)?;
    let owners = if executor.mode == Mode::SingleId { Owners::Record } else { Owners::Set };
    let source = Root::open(view.root())?.with_owners(owners);
    let root = rustix::fs::open(view.root(), OFlags::PATH | OFlags::CLOEXEC, FileMode::empty())?;
    let path = if path.is_empty() { "/" } else { path };
    let place = Place::resolve(root.as_fd(), Path::new(path), true)?;
    if !place.exists() {
        return Err(format!("`{path}`: not found").into());
    }
    let stat = rustix::fs::fstat(place.fd())?;
    let copy = file::Copy {
        src: path.into(),
        dest: "/".into(),
        dir_contents: true,
        follow_links: true,
        ..file::Copy::default()
    };
    let target = Root::open(dir)?.with_owners(owners);
    file::apply(&file::Action::Copy(copy), &target, Some(&source))?;
    Ok(Owner { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777 })
}
