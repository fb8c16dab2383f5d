//! `RUN --mount`.

use cooper_dockerfile::instruction::{self, MountType, Run, Sharing};

use crate::conversion::Conversion;
use crate::dispatch::Site;
use crate::failure::{Step, fail};
use crate::gofmt::quote;
use crate::graph::{Agent, CacheSharing, Exec, FileChain, Meta, Mount, MountKind, Secret, State};
use crate::path;
use crate::stage::StageId;

impl Conversion<'_> {
    pub(crate) fn run_mounts(
        &mut self,
        site: &Site,
        run: &Run,
        sources: &[StageId],
        exec: &mut Exec,
    ) -> Step<()> {
        for (index, mount) in run.mounts.iter().enumerate() {
            match mount.kind {
                MountType::Secret => {
                    self.check_mount_source(mount, sources.get(index))?;
                    exec.secrets.push(secret(mount)?);
                }
                MountType::Ssh => {
                    self.check_mount_source(mount, sources.get(index))?;
                    exec.agents.push(agent(mount)?);
                }
                MountType::Bind | MountType::Cache | MountType::Tmpfs => {
                    let mounted = self.mount(site, mount, sources.get(index).copied())?;
                    exec.mounts.push(mounted);
                }
            }
        }
        Ok(())
    }

    fn check_mount_source(&self, mount: &instruction::Mount, source: Option<&StageId>) -> Step<()> {
        match source {
            Some(source) if !mount.from.is_empty() && !self.stages.get(*source).dispatched => {
                Err(fail(format!(
                    "cannot mount from stage {} to {}, stage needs to be defined before current command",
                    quote(&mount.from),
                    quote(&mount.target)
                )))
            }
            _ => Ok(()),
        }
    }

    fn mount(&mut self, site: &Site, mount: &instruction::Mount, source: Option<StageId>) -> Step<Mount> {
        let id = site.stage;
        // A cache that is seeded from nowhere starts empty and not with the build context.
        let mut mount = mount.clone();
        if mount.from.is_empty() && mount.kind == MountType::Cache {
            mount.from = crate::stage::SCRATCH.to_owned();
        }
        self.check_mount_source(&mount, source.as_ref())?;
        let source = source.filter(|_| !mount.from.is_empty());
        let mut state = match source {
            Some(source) => self.stages.get(source).state.clone(),
            None => self.build_context.clone(),
        };
        let kind = match mount.kind {
            MountType::Tmpfs => {
                state = State::scratch();
                MountKind::Tmpfs { size: mount.size }
            }
            MountType::Cache => {
                let name = if mount.id.is_empty() { path::clean(&mount.target) } else { mount.id.clone() };
                MountKind::Cache {
                    id: format!("{}/{name}", self.options.cache_namespace),
                    sharing: match mount.sharing {
                        Some(Sharing::Private) => CacheSharing::Private,
                        Some(Sharing::Locked) => CacheSharing::Locked,
                        Some(Sharing::Shared) | None => CacheSharing::Shared,
                    },
                }
            }
            MountType::Bind | MountType::Secret | MountType::Ssh => MountKind::Bind,
        };
        let mut target = mount.target.clone();
        if !path::is_abs_slash(&path::clean(&target)) {
            target = path::join(&["/", self.stages.get(id).state.dir(), &target]);
        }
        if target == "/" {
            return Err(fail(format!("invalid mount target {}", quote(&target))));
        }
        let mut selector = String::new();
        let inner = path::join(&["/", &mount.source]);
        if inner != "/" {
            selector.clone_from(&inner);
        } else if mount.uid.is_some() || mount.gid.is_some() || mount.mode.is_some() {
            let chain = FileChain::mkdir_owned(
                "/cache",
                mount.mode.unwrap_or(0o755),
                mount.uid.unwrap_or(0),
                mount.gid.unwrap_or(0),
            );
            state = state.file(chain, Meta::named("[internal] setting cache mount permissions"));
            "/cache".clone_into(&mut selector);
        }
        match source {
            Some(source) => self.stages.mark_path(source, inner),
            None => {
                self.stages.get_mut(id).context_paths.insert(inner);
            }
        }
        Ok(Mount {
            target,
            source: state.output(),
            selector,
            read_only: mount.read_only,
            // What is written to a bind mount is thrown away.
            no_output: mount.kind == MountType::Bind && !mount.read_only,
            kind,
        })
    }
}

fn secret(mount: &instruction::Mount) -> Step<Secret> {
    let mut id = if mount.source.is_empty() { mount.id.clone() } else { mount.source.clone() };
    if id.is_empty() {
        if mount.target.is_empty() {
            return Err(fail("one of source, target required"));
        }
        path::base(&mount.target).clone_into(&mut id);
    }
    let target = match (&mount.env, mount.target.is_empty()) {
        (_, false) => Some(mount.target.clone()),
        (None, true) => Some(format!("/run/secrets/{}", path::base(&id))),
        (Some(_), true) => None,
    };
    let (uid, gid, mode) = owner(mount, 0o400);
    Ok(Secret { id, target, env: mount.env.clone(), optional: !mount.required, uid, gid, mode })
}

fn agent(mount: &instruction::Mount) -> Step<Agent> {
    if !mount.source.is_empty() {
        return Err(fail("ssh does not support source"));
    }
    let (uid, gid, mode) = owner(mount, 0o600);
    Ok(Agent {
        id: mount.id.clone(),
        target: mount.target.clone(),
        optional: !mount.required,
        uid,
        gid,
        mode,
    })
}

fn owner(mount: &instruction::Mount, default_mode: u32) -> (u32, u32, u32) {
    (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0), mount.mode.unwrap_or(default_mode))
}
