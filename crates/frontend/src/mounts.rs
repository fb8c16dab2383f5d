//! `RUN --mount`.

use cooper_dockerfile::instruction::{self, MountType, Run, Sharing};
use cooper_llb::{ExecMount, FileActions, Id, MountKind, Owner, Secret, Ssh, State, pb};

use crate::conversion::Conversion;
use crate::dispatch::Site;
use crate::failure::{Step, fail};
use crate::gofmt::quote;
use crate::graph::Meta;
use crate::path;
use crate::stage::StageId;

impl Conversion<'_> {
    pub(crate) fn run_mounts(
        &mut self,
        site: &Site,
        run: &Run,
        sources: &[StageId],
        exec: &mut cooper_llb::Run,
    ) -> Step<()> {
        for (index, mount) in run.mounts.iter().enumerate() {
            match mount.kind {
                MountType::Secret => {
                    self.check_mount_source(mount, sources.get(index))?;
                    let secret = secret(mount)?;
                    let facts = &mut self.stages.get_mut(site.stage).facts;
                    facts.secret(&secret.id, mount.required, &site.lines);
                    exec.secrets.push(secret);
                }
                MountType::Ssh => {
                    self.check_mount_source(mount, sources.get(index))?;
                    let agent = agent(mount)?;
                    let facts = &mut self.stages.get_mut(site.stage).facts;
                    facts.agent(&agent.id, mount.required, &site.lines);
                    exec.ssh.push(agent);
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

    fn mount(&mut self, site: &Site, mount: &instruction::Mount, source: Option<StageId>) -> Step<ExecMount> {
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
                        Some(Sharing::Private) => pb::CacheSharingOpt::Private,
                        Some(Sharing::Locked) => pb::CacheSharingOpt::Locked,
                        Some(Sharing::Shared) | None => pb::CacheSharingOpt::Shared,
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
            let id = |id: Option<u32>| Some(Id::Number(id.unwrap_or(0)));
            let owner = Owner { user: id(mount.uid), group: id(mount.gid) };
            let mode = mount.mode.unwrap_or(0o755);
            let actions = FileActions::new().mkdir("/cache", mode, false, Some(owner), None);
            state = state.file(actions, Meta::named("[internal] setting cache mount permissions").options());
            "/cache".clone_into(&mut selector);
        }
        match source {
            Some(source) => self.stages.mark_path(source, inner),
            None => {
                self.stages.get_mut(id).context_paths.insert(inner);
            }
        }
        Ok(ExecMount {
            selector,
            readonly: mount.read_only,
            // What is written to a bind mount is thrown away.
            no_output: mount.kind == MountType::Bind && !mount.read_only,
            kind,
            ..ExecMount::bind(target, &state)
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

fn agent(mount: &instruction::Mount) -> Step<Ssh> {
    if !mount.source.is_empty() {
        return Err(fail("ssh does not support source"));
    }
    let (uid, gid, mode) = owner(mount, 0o600);
    Ok(Ssh { id: mount.id.clone(), target: mount.target.clone(), optional: !mount.required, uid, gid, mode })
}

fn owner(mount: &instruction::Mount, default_mode: u32) -> (u32, u32, u32) {
    (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0), mount.mode.unwrap_or(default_mode))
}
