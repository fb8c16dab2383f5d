//! Running one vertex: an exec in the executor, file operations here, merges as lists of layers.

use std::sync::Arc;
use std::time::Duration;

use cooper_executor::file::{self, Root as FileRoot};
use cooper_executor::{
    CacheSharing, Cancel, Done, Executor as _, ExtraHost, Io, LocalExecutor, Mount, MountFrom, Network,
    Process, SecretEnv, Security, Step, Stream, Ulimit,
};
use cooper_layer::{LayerId, Owners, Timestamp};
use cooper_llb::{NONE, Op, Vertex, pb};
use cooper_oci::Digest;
use cooper_store::{Attempt, View};

use crate::context::Folder;
use crate::drive::Run;
use crate::error::StepError;
use crate::flights::{Wish, run_name};
use crate::keep::{Naming, keep};
use crate::key::of_output;
use crate::results::Root;
use crate::work::Work;

/// How often a running step is asked whether it has written too much.
const LOOK: Duration = Duration::from_millis(10);

/// What a run made, one root of layers an output.
pub(crate) type Made = Vec<Vec<LayerId>>;

impl Work {
    /// Runs a vertex whose inputs' layers are all unpacked.
    pub(crate) async fn run_vertex(
        self: &Arc<Self>,
        vertex: &Arc<Vertex>,
        run: &Run,
        inputs: Vec<Root>,
        wish: Option<Arc<Wish>>,
    ) -> Result<Made, StepError> {
        if let (Op::Exec(exec), Some(wish)) = (&vertex.op, wish) {
            let attempt = wish.begin()?;
            let made = self.exec(vertex, exec, run, inputs, &attempt).await;
            if let Err(error) = &made
                && !run.forced
            {
                wish.fail(&self.store, vertex, attempt, error);
            }
            return made;
        }
        // All of these may copy files.
        let (work, vertex, run) = (self.clone(), vertex.clone(), run.clone());
        let run = move || work.without_container(&vertex, &run, &inputs);
        tokio::task::spawn_blocking(run).await.map_err(|_| StepError::Panicked)?
    }

    fn without_container(&self, vertex: &Vertex, run: &Run, inputs: &[Root]) -> Result<Made, StepError> {
        match &vertex.op {
            Op::File(op) => self.file(vertex, op, run, inputs),
            Op::Merge(places) => {
                let mut layers = Vec::new();
                for place in places {
                    layers.extend_from_slice(&self.layers(inputs.get(*place))?);
                }
                Ok(vec![layers])
            }
            Op::Diff { lower, upper } => {
                self.diff(lower.and_then(|at| inputs.get(at)), upper.and_then(|at| inputs.get(at)))
            }
            Op::Passthrough(pass) => {
                let outputs =
                    pass.outputs.iter().map(|at| usize::try_from(*at).ok().and_then(|at| inputs.get(at)));
                outputs.map(|root| Ok(self.layers(root)?.to_vec())).collect()
            }
            Op::Exec(_) => Err(StepError::Panicked),
            Op::Source(source) => Err(StepError::Unsupported(format!("source `{}`", source.identifier))),
            Op::Build(_) => Err(StepError::Unsupported("a build op (a graph inside a result)".into())),
        }
    }

    /// Returns the layers of a root; nothing is scratch.
    fn layers(&self, root: Option<&Root>) -> Result<Arc<[LayerId]>, StepError> {
        match root {
            None => Ok(Arc::from([])),
            Some(Root::Layers(layers)) => Ok(layers.clone()),
            Some(Root::Folder(folder)) => Ok(Arc::from([self.folder_layer(folder)?])),
        }
    }

    /// Copies a whole folder into a layer, for those who need one (a mount, an export, a merge).
    fn folder_layer(&self, folder: &Folder) -> Result<LayerId, StepError> {
        let digest = folder.whole_digest()?;
        let workspace = self.store.workspace(&[])?;
        let target = self.open(workspace.root())?;
        let copy = file::Copy {
            src: "/".into(),
            dest: "/".into(),
            dir_contents: true,
            ignore: folder.filter(),
            source_owner: Some(file::Owner::default()),
            ..file::Copy::default()
        };
        let source = FileRoot::open(folder.path()).map_err(|error| StepError::Io {
            action: "open the folder",
            path: folder.path().to_owned(),
            error,
        })?;
        file::apply(&file::Action::Copy(copy), &target, Some(&source.with_owners(Owners::Set)))?;
        drop(target);
        // The layer stands for this content from now on: it must be what was copied.
        folder.refresh();
        if folder.whole_digest()? != digest {
            return Err(StepError::Changing(folder.path().to_owned()));
        }
        keep(&self.store, workspace, Naming::Key(digest), false)
    }

    async fn exec(
        self: &Arc<Self>,
        vertex: &Arc<Vertex>,
        exec: &pb::ExecOp,
        run: &Run,
        inputs: Vec<Root>,
        attempt: &Attempt,
    ) -> Result<Made, StepError> {
        // A folder that is mounted is copied first.
        let prepare = {
            let (work, vertex, exec, inputs) = (self.clone(), vertex.clone(), exec.clone(), inputs.clone());
            move || work.step(&vertex, &exec, &inputs)
        };
        let blocking = |_| StepError::Panicked;
        let step = tokio::task::spawn_blocking(prepare).await.map_err(blocking)??;
        let (work, digest) = (self.clone(), vertex.digest);
        let mut log = attempt.log_writer()?;
        let io = Io::new(move |stream, bytes| {
            work.events.log(digest, stream == Stream::Stderr, bytes);
            // For other processes that wait for this one.
            log.write(bytes);
        });
        let io = io.named(run_name(attempt.name())).holding(attempt.hold()?);
        let executor = if run.forced { &self.forced_executor } else { &self.executor };
        let done = self.run_within(executor, &step, io, &run.cancel).await?;
        if !done.exit.success {
            return Err(StepError::Exit {
                code: done.exit.code,
                command: step.process.args.last().cloned().unwrap_or_default(),
            });
        }
        let mut outs: Made = vec![Vec::new(); vertex.outputs as usize];
        for output in done.outputs {
            let (Some(mount), Some(wanted)) = (step.mounts.get(output.mount), exec.mounts.get(output.mount))
            else {
                return Err(StepError::Unsupported(
                    "an output of a mount that the step does not have".into(),
                ));
            };
            let mut layers = match &mount.from {
                MountFrom::Layers(layers, _) => layers.clone(),
                _ => Vec::new(),
            };
            layers.push(output.layer);
            if let Some(slot) = usize::try_from(wanted.output).ok().and_then(|at| outs.get_mut(at)) {
                *slot = layers;
            }
        }
        let check = {
            let (work, vertex, run) = (self.clone(), vertex.clone(), run.clone());
            move || work.unchanged(&vertex, &run, &inputs)
        };
        tokio::task::spawn_blocking(check).await.map_err(blocking)??;
        Ok(outs)
    }

    /// Runs a step, and stops it when what is written is more than the store may take.
    async fn run_within(
        &self,
        executor: &LocalExecutor,
        step: &Step,
        io: Io,
        cancel: &Cancel,
    ) -> Result<Done, StepError> {
        // One of its own: nobody is to think that the build was cancelled.
        let stop = cancel.child();
        let mut running = executor.run(step, io, &stop);
        let mut full = None;
        let done = loop {
            tokio::select! {
                done = &mut running => break done,
                () = tokio::time::sleep(LOOK), if full.is_none() => {
                    full = self.store.overfull();
                    if full.is_some() {
                        stop.cancel();
                    }
                }
            }
        };
        match (done, full) {
            (Err(cooper_executor::StepError::Cancelled), Some(full)) => Err(StepError::Store(full)),
            (done, _) => Ok(done?),
        }
    }

    /// Says what is to run, in the executor's terms. The step's mounts stand in the order of the op's.
    fn step(&self, vertex: &Vertex, exec: &pb::ExecOp, inputs: &[Root]) -> Result<Step, StepError> {
        let meta = exec.meta.clone().unwrap_or_default();
        let mut env = meta.env;
        if !env.iter().any(|variable| variable.starts_with("PATH=")) {
            // BuildKit's default (`util/system`); builders give it to steps whose image sets none.
            env.push("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
        }
        if let Some(proxy) = meta.proxy_env {
            let names = [
                ("HTTP_PROXY", proxy.http_proxy),
                ("HTTPS_PROXY", proxy.https_proxy),
                ("FTP_PROXY", proxy.ftp_proxy),
                ("NO_PROXY", proxy.no_proxy),
                ("ALL_PROXY", proxy.all_proxy),
            ];
            for (name, value) in names.into_iter().filter(|(_, value)| !value.is_empty()) {
                env.push(format!("{name}={value}"));
                env.push(format!("{}={value}", name.to_lowercase()));
            }
        }
        if !exec.cdi_devices.is_empty() {
            return Err(StepError::Unsupported("RUN --device".into()));
        }
        let secret_env = exec.secretenv.iter().map(|secret| SecretEnv {
            name: secret.name.clone(),
            id: secret.id.clone(),
            required: !secret.optional,
        });
        let mounts = exec.mounts.iter().map(|mount| self.mount(mount, inputs)).collect::<Result<_, _>>()?;
        Ok(Step {
            process: Process {
                args: meta.args,
                env,
                secret_env: secret_env.collect(),
                cwd: meta.cwd,
                user: meta.user,
                valid_exit_codes: meta.valid_exit_codes,
            },
            platform: vertex.platform.clone().unwrap_or_default(),
            hostname: meta.hostname,
            extra_hosts: meta
                .extra_hosts
                .into_iter()
                .map(|host| ExtraHost { host: host.host, ip: host.ip })
                .collect(),
            network: match pb::NetMode::try_from(exec.network) {
                Ok(pb::NetMode::None) => Network::None,
                Ok(pb::NetMode::Unset | pb::NetMode::Host) => Network::Host,
                Err(_) => return Err(StepError::Unsupported(format!("network mode {}", exec.network))),
            },
            security: match pb::SecurityMode::try_from(exec.security) {
                Ok(pb::SecurityMode::Sandbox) => Security::Sandbox,
                Ok(pb::SecurityMode::Insecure) => Security::Insecure,
                Err(_) => return Err(StepError::Unsupported(format!("security mode {}", exec.security))),
            },
            ulimits: meta
                .ulimit
                .into_iter()
                .map(|limit| Ulimit { name: limit.name, soft: limit.soft, hard: limit.hard })
                .collect(),
            shm_size: None,
            mounts,
        })
    }

    fn mount(&self, mount: &pb::Mount, inputs: &[Root]) -> Result<Mount, StepError> {
        let from = match pb::MountType::try_from(mount.mount_type) {
            Ok(pb::MountType::Bind) => {
                let root = usize::try_from(mount.input).ok().and_then(|at| inputs.get(at));
                MountFrom::Layers(self.layers(root)?.to_vec(), mount.selector.clone())
            }
            Ok(pb::MountType::Tmpfs) => {
                let size = mount.tmpfs_opt.as_ref().and_then(|tmpfs| u64::try_from(tmpfs.size).ok());
                MountFrom::Tmpfs { size: size.filter(|size| *size > 0) }
            }
            Ok(pb::MountType::Cache) => {
                let cache = mount.cache_opt.clone().unwrap_or_default();
                let sharing = match pb::CacheSharingOpt::try_from(cache.sharing) {
                    Ok(pb::CacheSharingOpt::Shared) => CacheSharing::Shared,
                    Ok(pb::CacheSharingOpt::Private) => CacheSharing::Private,
                    Ok(pb::CacheSharingOpt::Locked) => CacheSharing::Locked,
                    Err(_) => {
                        return Err(StepError::Unsupported(format!("cache sharing {}", cache.sharing)));
                    }
                };
                let root = usize::try_from(mount.input).ok().and_then(|at| inputs.get(at));
                let layers = root.map(|root| self.layers(Some(root))).transpose()?;
                // Nothing is scratch, and a part of nothing is for the mount to miss.
                let seed = match layers {
                    Some(layers) if !layers.is_empty() => Some((layers.to_vec(), mount.selector.clone())),
                    _ if !mount.selector.is_empty() => Some((Vec::new(), mount.selector.clone())),
                    _ => None,
                };
                MountFrom::Cache { id: cache.id, sharing, seed }
            }
            Ok(pb::MountType::Secret) => {
                let secret = mount.secret_opt.clone().unwrap_or_default();
                MountFrom::Secret {
                    id: secret.id,
                    required: !secret.optional,
                    uid: secret.uid,
                    gid: secret.gid,
                    mode: secret.mode,
                }
            }
            Ok(pb::MountType::Ssh) => {
                let agent = mount.ssh_opt.clone().unwrap_or_default();
                MountFrom::Agent {
                    id: agent.id,
                    required: !agent.optional,
                    uid: agent.uid,
                    gid: agent.gid,
                    mode: agent.mode,
                }
            }
            Err(_) => return Err(StepError::Unsupported(format!("mount type {}", mount.mount_type))),
        };
        // BuildKit's client leaves the field of these two at its default, which is the number of the root's output.
        let none = matches!(from, MountFrom::Secret { .. } | MountFrom::Agent { .. });
        let output = mount.output != NONE && !none;
        Ok(Mount { dest: mount.dest.clone(), from, readonly: mount.readonly, output })
    }

    fn open(&self, path: &std::path::Path) -> Result<FileRoot, StepError> {
        FileRoot::open(path)
            .map(|root| root.with_owners(self.store.owners()))
            .map_err(|error| StepError::Io { action: "open", path: path.to_owned(), error })
    }

    fn file(&self, vertex: &Vertex, op: &pb::FileOp, run: &Run, inputs: &[Root]) -> Result<Made, StepError> {
        let count = inputs.len() as i64;
        // Actions follow each other on one root. The wire form could say more (several roots, copies between
        // unfinished ones); no Dockerfile makes that.
        let chained = op.actions.iter().enumerate().all(|(at, action)| {
            let last = at + 1 == op.actions.len();
            (at == 0 || action.input == count + at as i64 - 1)
                && action.output == if last { 0 } else { NONE }
                && action.secondary_input < count
        });
        let Some(first) = op.actions.first().filter(|first| chained && first.input < count) else {
            return Err(StepError::Unsupported("file operations that branch".into()));
        };
        let at = |index: i64| usize::try_from(index).ok().and_then(|at| inputs.get(at));
        let mut layers = self.layers(at(first.input))?.to_vec();
        let workspace = self.store.workspace(&layers)?;
        let target = self.open(workspace.root())?;
        for action in &op.actions {
            let source = match &action.action {
                Some(pb::file_action::Action::Copy(_)) => Some(self.source(at(action.secondary_input))?),
                _ => None,
            };
            let owner_root = |index: i64| if index == NONE { None } else { Some(&target) };
            let action = file_action(action, source.as_ref(), owner_root)?;
            file::apply(&action, &target, source.as_ref().map(|source| &source.root))?;
        }
        drop(target);
        self.unchanged(vertex, run, inputs)?;
        let key = Digest::from_bytes(run.key.0);
        layers.push(keep(&self.store, workspace, Naming::Key(of_output(&key, 0)), run.forced)?);
        Ok(vec![layers])
    }

    fn source(&self, root: Option<&Root>) -> Result<Source, StepError> {
        if let Some(Root::Folder(folder)) = root {
            // The folder's files are on the host with the host's owners, whatever mode the store is in.
            let root = FileRoot::open(folder.path())
                .map(|root| root.with_owners(Owners::Set))
                .map_err(|error| StepError::Io { action: "open", path: folder.path().to_owned(), error })?;
            return Ok(Source { root, folder: Some(folder.clone()), _view: None });
        }
        let view = self.store.view(&self.layers(root)?)?;
        Ok(Source { root: self.open(view.root())?, folder: None, _view: Some(view) })
    }

    fn diff(&self, lower: Option<&Root>, upper: Option<&Root>) -> Result<Made, StepError> {
        let (lower, upper) = (self.layers(lower)?, self.layers(upper)?);
        match upper.strip_prefix(&*lower) {
            Some(rest) => Ok(vec![rest.to_vec()]),
            None => Err(StepError::Unsupported("a diff of results that do not stand on each other".into())),
        }
    }
}

/// What a copy reads from. The view is unmounted after the root's descriptor is closed.
struct Source {
    root: FileRoot,
    folder: Option<Arc<Folder>>,
    _view: Option<View>,
}

/// Translates an action of the wire form. `names` gives the root in which names of owners are looked up.
fn file_action<'a>(
    action: &pb::FileAction,
    source: Option<&Source>,
    names: impl Fn(i64) -> Option<&'a FileRoot>,
) -> Result<file::Action, StepError> {
    let time = |nanos: i64| {
        (nanos != NONE)
            .then(|| Timestamp::new(nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000) as u32))
    };
    let owner = |owner: &Option<pb::ChownOpt>| -> Result<Option<file::Owner>, StepError> {
        let Some(owner) = owner else { return Ok(None) };
        let one = |user: &Option<pb::UserOpt>| {
            user.as_ref().and_then(|user| user.user.as_ref()).map(|user| match user {
                pb::user_opt::User::ByName(named) => {
                    (file::Name::Name(named.name.clone()), names(named.input))
                }
                pb::user_opt::User::ById(id) => (file::Name::Id(*id), None),
            })
        };
        let (user, group) = (one(&owner.user), one(&owner.group));
        let user = user.as_ref().map(|(name, root)| (name, *root));
        let group = group.as_ref().map(|(name, root)| (name, *root));
        Ok(Some(file::Owner::find(user, group)?))
    };
    Ok(match &action.action {
        Some(pb::file_action::Action::Copy(copy)) => {
            let change = || {
                let change = file::ModeChange::parse(&copy.mode_str);
                change.ok_or_else(|| StepError::Unsupported(format!("mode `{}`", copy.mode_str)))
            };
            let mode_change = if copy.mode_str.is_empty() { None } else { Some(change()?) };
            let folder = source.and_then(|source| source.folder.as_ref());
            let given = owner(&copy.owner)?;
            file::Action::Copy(file::Copy {
                src: copy.src.clone(),
                dest: copy.dest.clone(),
                owner: given,
                mode: u32::try_from(copy.mode).ok(),
                mode_change,
                follow_links: copy.follow_symlink,
                dir_contents: copy.dir_copy_contents,
                unpack: copy.attempt_unpack_docker_compatibility,
                create_dest_path: copy.create_dest_path,
                wildcards: copy.allow_wildcard,
                allow_empty_wildcard: copy.allow_empty_wildcard,
                mtime: time(copy.timestamp),
                replace: copy.always_replace_existing_dest_paths,
                filter: crate::context::patterns(&copy.include_patterns, &copy.exclude_patterns)?,
                ignore: folder.and_then(|folder| folder.filter()),
                source_owner: folder.map(|_| file::Owner::default()),
            })
        }
        Some(pb::file_action::Action::Mkfile(file)) => file::Action::MakeFile(file::MakeFile {
            path: file.path.clone(),
            mode: file.mode as u32,
            data: file.data.clone(),
            owner: owner(&file.owner)?,
            mtime: time(file.timestamp),
        }),
        Some(pb::file_action::Action::Mkdir(dir)) => file::Action::MakeDir(file::MakeDir {
            path: dir.path.clone(),
            mode: dir.mode as u32,
            parents: dir.make_parents,
            owner: owner(&dir.owner)?,
            mtime: time(dir.timestamp),
        }),
        Some(pb::file_action::Action::Rm(rm)) => file::Action::Remove(file::Remove {
            path: rm.path.clone(),
            allow_not_found: rm.allow_not_found,
            wildcards: rm.allow_wildcard,
        }),
        Some(pb::file_action::Action::Symlink(link)) => file::Action::Symlink(file::Symlink {
            target: link.oldpath.clone(),
            path: link.newpath.clone(),
            owner: owner(&link.owner)?,
            mtime: time(link.timestamp),
        }),
        None => return Err(StepError::Unsupported("a file action without an action".into())),
    })
}
