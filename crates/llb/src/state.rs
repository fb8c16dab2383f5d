//! Building a graph: states, the ops between them, and marshalling.
//!
//! A [`State`] is an output of an op together with what the next command would run with: environment, directory, user.
//! Clones are cheap, and nothing is encoded before [`State::marshal`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cooper_oci::Platform;

use crate::caps;
use crate::error::Error;
use crate::file::{Action, FileActions};
use crate::marshal::{self, Marshalled};
use crate::pb;

/// An output of an op; equality is identity of the op.
#[derive(Clone, Debug)]
pub struct Output {
    pub(crate) node: Arc<Node>,
    pub(crate) index: i64,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) caps: BTreeSet<&'static str>,
    /// The platform of the op, where it has its own.
    pub(crate) platform: Option<Platform>,
    pub(crate) options: OpOptions,
}

impl Drop for Node {
    /// Takes long chains apart in a loop: one call a step of a build would be too much for the stack.
    fn drop(&mut self) {
        let mut open = Vec::new();
        let mut kind = std::mem::replace(&mut self.kind, NodeKind::Merge(Vec::new()));
        loop {
            kind.take_inputs(&mut open);
            // What others still hold is left alone.
            let Some(mut node) = open.pop().map(|out: Output| Arc::into_inner(out.node)) else { return };
            kind = match &mut node {
                Some(node) => std::mem::replace(&mut node.kind, NodeKind::Merge(Vec::new())),
                None => NodeKind::Merge(Vec::new()),
            };
        }
    }
}

#[derive(Debug)]
pub(crate) enum NodeKind {
    Source(pb::SourceOp),
    /// The op without its mounts, and these in the order of their targets.
    Exec {
        op: Box<pb::ExecOp>,
        mounts: Vec<ExecMount>,
    },
    File {
        base: Option<Output>,
        dir: String,
        actions: FileActions,
    },
    Merge(Vec<Output>),
    Diff {
        lower: Option<Output>,
        upper: Option<Output>,
    },
    Passthrough {
        id: String,
        inputs: Vec<(Output, bool)>,
    },
}

impl NodeKind {
    /// Moves the outputs that are read to `open`.
    fn take_inputs(self, open: &mut Vec<Output>) {
        match self {
            NodeKind::Source(_) => {}
            NodeKind::Exec { mounts, .. } => open.extend(mounts.into_iter().filter_map(|mount| mount.source)),
            NodeKind::File { base, actions, .. } => {
                open.extend(base);
                open.extend(actions.0.into_iter().filter_map(|action| match action {
                    Action::Copy { from, .. } => from.out,
                    _ => None,
                }));
            }
            NodeKind::Merge(outs) => open.extend(outs),
            NodeKind::Diff { lower, upper } => open.extend(lower.into_iter().chain(upper)),
            NodeKind::Passthrough { inputs, .. } => open.extend(inputs.into_iter().map(|(out, _)| out)),
        }
    }
}

/// What an op has beside its meaning; only the platform enters its digest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpOptions {
    /// Platform of the op instead of the state's.
    pub platform: Option<Platform>,
    /// Run although it is cached.
    pub ignore_cache: bool,
    /// Texts for people, by BuildKit's keys: `llb.customname`, …
    pub description: BTreeMap<String, String>,
    /// Whether the result is exported with a cache; `None` leaves it to the build.
    pub export_cache: Option<bool>,
    /// Under what heading progress is shown.
    pub progress_group: Option<pb::ProgressGroup>,
    /// Limits of the step; they are in no digest.
    pub linux_resources: Option<pb::LinuxResources>,
    /// Where in which source text the op comes from.
    pub locations: Vec<SourceLocation>,
}

impl OpOptions {
    /// Sets the text that is shown for the op.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.description.insert("llb.customname".into(), name.into());
        self
    }

    /// Adds a place that the op comes from.
    #[must_use]
    pub fn location(mut self, map: &Arc<SourceMap>, ranges: Vec<pb::Range>) -> Self {
        self.locations.push(SourceLocation { map: map.clone(), ranges });
        self
    }
}

/// A text that ops come from, such as a Dockerfile.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceMap {
    /// The definition that loads the text, if one does.
    pub definition: Option<pb::Definition>,
    /// Name of the file.
    pub filename: String,
    /// Language by linguist's name: `Dockerfile`.
    pub language: String,
    /// The text.
    pub data: Vec<u8>,
}

/// Ranges in a text.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceLocation {
    /// The text.
    pub map: Arc<SourceMap>,
    /// Where in it.
    pub ranges: Vec<pb::Range>,
}

/// A mount of an exec.
#[derive(Clone, Debug)]
pub struct ExecMount {
    /// Where in the step's root.
    pub target: String,
    /// What is mounted; nothing is scratch.
    pub source: Option<Output>,
    /// Path within the source.
    pub selector: String,
    /// Mounted read-only.
    pub readonly: bool,
    /// Writes are thrown away (a writable mount without an output).
    pub no_output: bool,
    /// What kind of mount it is.
    pub kind: MountKind,
    /// Whether its content takes part in the key of the step.
    pub content_cache: pb::MountContentCache,
}

/// What kind of mount it is.
#[derive(Clone, Debug, PartialEq)]
pub enum MountKind {
    /// Files of a source, or an empty directory.
    Bind,
    /// A directory that is kept between builds.
    Cache {
        /// Its name.
        id: String,
        /// Who may use it at the same time.
        sharing: pb::CacheSharingOpt,
    },
    /// A file system in memory.
    Tmpfs {
        /// Limit in bytes; 0 is none.
        size: i64,
    },
}

impl ExecMount {
    /// Makes a writable bind mount of a state's output.
    pub fn bind(target: impl Into<String>, source: &State) -> Self {
        Self {
            target: target.into(),
            source: source.output().cloned(),
            selector: String::new(),
            readonly: false,
            no_output: false,
            kind: MountKind::Bind,
            content_cache: pb::MountContentCache::Default,
        }
    }
}

/// What an exec runs, beside what its state says.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Command and arguments.
    pub args: Vec<String>,
    /// Mounts beside the root.
    pub mounts: Vec<ExecMount>,
    /// Secrets as files or variables.
    pub secrets: Vec<Secret>,
    /// Sockets of an agent.
    pub ssh: Vec<Ssh>,
    /// Devices by CDI name.
    pub devices: Vec<pb::CdiDevice>,
    /// Proxy variables, which are in no cache key.
    pub proxy: Option<pb::ProxyEnv>,
    /// The root cannot be written to.
    pub readonly_root: bool,
    /// Exit codes that count as success; none given: 0.
    pub valid_exit_codes: Vec<i32>,
}

/// A secret of an exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Its name.
    pub id: String,
    /// File that it is mounted as.
    pub target: Option<String>,
    /// Variable that it is put into.
    pub env: Option<String>,
    /// Owner of the file.
    pub uid: u32,
    /// Group of the file.
    pub gid: u32,
    /// Mode of the file.
    pub mode: u32,
    /// The step runs without it too.
    pub optional: bool,
}

/// A socket of an agent in an exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    /// Name of the agent.
    pub id: String,
    /// Path of the socket; empty: `/run/buildkit/ssh_agent.N`.
    pub target: String,
    /// Owner of the socket.
    pub uid: u32,
    /// Group of the socket.
    pub gid: u32,
    /// Mode of the socket.
    pub mode: u32,
    /// The step runs without it too.
    pub optional: bool,
}

/// An output of a graph and what the next command runs with.
#[derive(Clone, Debug, Default)]
pub struct State {
    out: Option<Output>,
    env: Arc<Vec<(String, String)>>,
    dir: Arc<str>,
    user: Arc<str>,
    hostname: Arc<str>,
    cgroup_parent: Arc<str>,
    platform: Option<Platform>,
    network: pb::NetMode,
    security: pb::SecurityMode,
    extra_hosts: Arc<Vec<pb::HostIp>>,
    ulimits: Arc<Vec<pb::Ulimit>>,
}

impl State {
    /// Returns an empty file system.
    pub fn scratch() -> Self {
        Self { dir: "/".into(), ..Self::default() }
    }

    /// Returns an image of a registry; the reference is normalised and tagged or pinned already.
    pub fn image(reference: &str, attrs: BTreeMap<String, String>, options: OpOptions) -> Self {
        let mut caps = BTreeSet::from([caps::SOURCE_IMAGE]);
        if attrs.get("image.resolvemode").is_some_and(|mode| mode == "pull") {
            caps.insert(caps::SOURCE_IMAGE_RESOLVE_MODE);
        }
        if attrs.contains_key("image.layerlimit") {
            caps.insert(caps::SOURCE_IMAGE_LAYER_LIMIT);
        }
        if attrs.contains_key("image.checksum") {
            caps.insert(caps::SOURCE_IMAGE_CHECKSUM);
        }
        Self::source(format!("docker-image://{reference}"), attrs, caps, options)
    }

    /// Returns an image of an OCI layout on the client's side.
    pub fn oci_layout(reference: &str, attrs: BTreeMap<String, String>, options: OpOptions) -> Self {
        let caps = BTreeSet::from([caps::SOURCE_OCI_LAYOUT]);
        Self::source(format!("oci-layout://{reference}"), attrs, caps, options)
    }

    /// Returns a folder of the client's; the attributes are `local.session`, `local.includepattern`, ….
    pub fn local(name: &str, attrs: BTreeMap<String, String>, options: OpOptions) -> Self {
        let mut caps = BTreeSet::from([caps::SOURCE_LOCAL]);
        for (attr, cap) in [
            ("local.session", caps::SOURCE_LOCAL_SESSION_ID),
            ("local.includepattern", caps::SOURCE_LOCAL_INCLUDE_PATTERNS),
            ("local.followpaths", caps::SOURCE_LOCAL_FOLLOW_PATHS),
            ("local.excludepatterns", caps::SOURCE_LOCAL_EXCLUDE_PATTERNS),
            ("local.sharedkeyhint", caps::SOURCE_LOCAL_SHARED_KEY_HINT),
            ("local.metadatatransfer", caps::SOURCE_LOCAL_METADATA_TRANSFER),
        ] {
            if attrs.contains_key(attr) {
                caps.insert(cap);
            }
        }
        Self::source(format!("local://{name}"), attrs, caps, options)
    }

    /// Returns any source by its identifier, with the capabilities that it needs of the builder.
    pub fn source(
        identifier: String,
        attrs: BTreeMap<String, String>,
        caps: BTreeSet<&'static str>,
        options: OpOptions,
    ) -> Self {
        let platform = options.platform.clone();
        let kind = NodeKind::Source(pb::SourceOp { identifier, attrs });
        let node = Node { kind, caps, platform: platform.clone(), options };
        Self { platform: platform.map(|p| p.normalized()), ..Self::scratch() }.with_node(node, 0)
    }

    fn with_node(mut self, node: Node, index: i64) -> Self {
        self.out = Some(Output { node: Arc::new(node), index });
        self
    }

    /// Returns the output; `None` for scratch.
    pub fn output(&self) -> Option<&Output> {
        self.out.as_ref()
    }

    /// Returns a state with the output of this one and everything else of `other`.
    #[must_use]
    pub fn with_values_of(&self, other: &State) -> Self {
        Self { out: self.out.clone(), ..other.clone() }
    }

    /// Sets a variable; one that is set already moves to the end.
    #[must_use]
    pub fn add_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        let env = Arc::make_mut(&mut self.env);
        env.retain(|(known, _)| *known != name);
        env.push((name, value.into()));
        self
    }

    /// Returns the variables in order.
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// Returns a variable's value.
    pub fn get_env(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Sets the working directory; a relative one is below the present one.
    #[must_use]
    pub fn with_dir(mut self, dir: &str) -> Self {
        self.dir = if dir.starts_with('/') {
            dir.into()
        } else {
            let parent = if self.dir.is_empty() { "/" } else { &*self.dir };
            crate::path::join(parent, dir).into()
        };
        self
    }

    /// Returns the working directory.
    pub fn dir(&self) -> &str {
        &self.dir
    }

    /// Sets the user of commands.
    #[must_use]
    pub fn with_user(mut self, user: &str) -> Self {
        self.user = user.into();
        self
    }

    /// Returns the user of commands.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Sets the platform of what follows.
    #[must_use]
    pub fn with_platform(mut self, platform: &Platform) -> Self {
        self.platform = Some(platform.normalized());
        self
    }

    /// Returns the platform.
    pub fn platform(&self) -> Option<&Platform> {
        self.platform.as_ref()
    }

    /// Sets the host name of commands.
    #[must_use]
    pub fn with_hostname(mut self, hostname: &str) -> Self {
        self.hostname = hostname.into();
        self
    }

    /// Sets the parent of the commands' control groups.
    #[must_use]
    pub fn with_cgroup_parent(mut self, parent: &str) -> Self {
        self.cgroup_parent = parent.into();
        self
    }

    /// Sets the network of commands.
    #[must_use]
    pub fn with_network(mut self, network: pb::NetMode) -> Self {
        self.network = network;
        self
    }

    /// Sets the privilege of commands.
    #[must_use]
    pub fn with_security(mut self, security: pb::SecurityMode) -> Self {
        self.security = security;
        self
    }

    /// Adds a line to the commands' hosts file.
    #[must_use]
    pub fn add_extra_host(mut self, host: impl Into<String>, ip: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.extra_hosts).push(pb::HostIp { host: host.into(), ip: ip.into() });
        self
    }

    /// Adds a limit of commands.
    #[must_use]
    pub fn add_ulimit(mut self, name: impl Into<String>, soft: i64, hard: i64) -> Self {
        Arc::make_mut(&mut self.ulimits).push(pb::Ulimit { name: name.into(), soft, hard });
        self
    }

    /// Runs a command and returns the state with the root that it leaves.
    ///
    /// # Errors
    ///
    /// [`Error::Exec`] without arguments or working directory.
    pub fn run(&self, run: Run, options: OpOptions) -> Result<Self, Error> {
        if run.args.is_empty() {
            return Err(Error::Exec("arguments"));
        }
        if self.dir.is_empty() {
            return Err(Error::Exec("a working directory"));
        }
        let mut state = self.clone();
        let mut caps = BTreeSet::from([caps::EXEC_META_BASE, caps::EXEC_META_SETS_DEFAULT_PATH]);
        let mut ssh = run.ssh;
        for (number, socket) in ssh.iter_mut().enumerate() {
            if socket.target.is_empty() {
                socket.target = format!("/run/buildkit/ssh_agent.{number}");
            }
        }
        let mut env = state.env.clone();
        if let Some(socket) = ssh.first()
            && state.get_env("SSH_AUTH_SOCK").is_none()
        {
            Arc::make_mut(&mut env).push(("SSH_AUTH_SOCK".into(), socket.target.clone()));
        }
        let mut mounts = vec![ExecMount { readonly: run.readonly_root, ..ExecMount::bind("/", self) }];
        mounts.extend(run.mounts);
        mounts.sort_by(|a, b| a.target.cmp(&b.target));
        for (needed, cap) in [
            (!run.valid_exit_codes.is_empty(), caps::EXEC_VALID_EXIT_CODE),
            (!state.ulimits.is_empty(), caps::EXEC_META_ULIMIT),
            (options.linux_resources.is_some(), caps::EXEC_META_LINUX_RESOURCES),
            (state.network != pb::NetMode::Unset, caps::EXEC_META_NETWORK),
            (state.security == pb::SecurityMode::Insecure, caps::EXEC_META_SECURITY),
            (run.proxy.is_some(), caps::EXEC_META_PROXY),
            (!run.secrets.is_empty(), caps::EXEC_MOUNT_SECRET),
            (run.secrets.iter().any(|secret| secret.env.is_some()), caps::EXEC_SECRET_ENV),
            (!ssh.is_empty(), caps::EXEC_MOUNT_SSH),
            (!run.devices.is_empty(), caps::EXEC_META_CDI),
        ] {
            if needed {
                caps.insert(cap);
            }
        }
        for mount in &mounts {
            if !mount.selector.is_empty() {
                caps.insert(caps::EXEC_MOUNT_SELECTOR);
            }
            match &mount.kind {
                MountKind::Cache { .. } => {
                    caps.extend([caps::EXEC_MOUNT_CACHE, caps::EXEC_MOUNT_CACHE_SHARING])
                }
                MountKind::Tmpfs { size } => {
                    caps.insert(caps::EXEC_MOUNT_TMPFS);
                    if *size > 0 {
                        caps.insert(caps::EXEC_MOUNT_TMPFS_SIZE);
                    }
                }
                MountKind::Bind if mount.source.is_some() => {
                    caps.insert(caps::EXEC_MOUNT_BIND);
                }
                MountKind::Bind => {}
            }
            if mount.content_cache != pb::MountContentCache::Default {
                caps.insert(caps::EXEC_MOUNT_CONTENT_CACHE);
            }
        }
        let root_output =
            mounts.iter().take_while(|mount| mount.target != "/").filter(|mount| has_output(mount)).count();
        let op = pb::ExecOp {
            meta: Some(pb::Meta {
                args: run.args,
                env: env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
                cwd: state.dir.to_string(),
                user: state.user.to_string(),
                proxy_env: run.proxy,
                extra_hosts: state.extra_hosts.to_vec(),
                hostname: state.hostname.to_string(),
                ulimit: state.ulimits.to_vec(),
                cgroup_parent: state.cgroup_parent.to_string(),
                remove_mount_stubs_recursive: true,
                valid_exit_codes: run.valid_exit_codes,
            }),
            // The mounts of files come first; their inputs are numbered when the op is marshalled.
            mounts: secret_mounts(&run.secrets).chain(ssh_mounts(&ssh)).collect(),
            network: state.network.into(),
            security: state.security.into(),
            secretenv: run
                .secrets
                .iter()
                .filter_map(|secret| {
                    let name = secret.env.clone()?;
                    Some(pb::SecretEnv { id: secret.id.clone(), name, optional: secret.optional })
                })
                .collect(),
            cdi_devices: run.devices,
        };
        let platform = options.platform.clone().or_else(|| state.platform.clone());
        if let Some(platform) = &options.platform {
            state.platform = Some(platform.normalized());
        }
        if run.readonly_root {
            return Ok(state);
        }
        let kind = NodeKind::Exec { op: Box::new(op), mounts };
        Ok(state.with_node(Node { kind, caps, platform, options }, root_output as i64))
    }

    /// Does file operations and returns the state with what they leave.
    pub fn file(&self, actions: FileActions, options: OpOptions) -> Self {
        let kind = NodeKind::File { base: self.out.clone(), dir: self.dir.to_string(), actions };
        let platform = options.platform.clone().or_else(|| self.platform.clone());
        self.clone().with_node(Node { kind, caps: BTreeSet::from([caps::FILE_BASE]), platform, options }, 0)
    }

    /// Lays states on each other, the first lowest; scratch counts for nothing.
    #[must_use]
    pub fn merge(states: &[State], options: OpOptions) -> Self {
        let filled: Vec<&State> = states.iter().filter(|state| state.out.is_some()).collect();
        match filled.as_slice() {
            [] => Self::scratch(),
            [only] => (*only).clone(),
            [first, ..] => {
                let kind = NodeKind::Merge(filled.iter().filter_map(|state| state.out.clone()).collect());
                let platform = options.platform.clone();
                (*first)
                    .clone()
                    .with_node(Node { kind, caps: BTreeSet::from([caps::MERGE_OP]), platform, options }, 0)
            }
        }
    }

    /// Returns what `upper` has more or other than `lower`.
    #[must_use]
    pub fn diff(lower: &State, upper: &State, options: OpOptions) -> Self {
        if lower.out.is_none() {
            return if upper.out.is_none() { Self::scratch() } else { upper.clone() };
        }
        let kind = NodeKind::Diff { lower: lower.out.clone(), upper: upper.out.clone() };
        let platform = options.platform.clone();
        lower.clone().with_node(Node { kind, caps: BTreeSet::from([caps::DIFF_OP]), platform, options }, 0)
    }

    /// Makes the state depend on others without reading them.
    #[must_use]
    pub fn requires(&self, id: &str, others: &[State], options: OpOptions) -> Self {
        if others.is_empty() {
            return self.clone();
        }
        let mut inputs: Vec<(Output, bool)> = self.out.iter().map(|out| (out.clone(), true)).collect();
        inputs.extend(others.iter().filter_map(|other| Some((other.out.clone()?, false))));
        let kind = NodeKind::Passthrough { id: id.to_owned(), inputs };
        let platform = options.platform.clone();
        self.clone()
            .with_node(Node { kind, caps: BTreeSet::from([caps::PASSTHROUGH_OP]), platform, options }, 0)
    }

    /// Writes the graph below this state as a definition.
    ///
    /// `platform` is that of ops which have none of their own; scratch gives an empty definition.
    pub fn marshal(&self, platform: &Platform) -> pb::Definition {
        self.marshal_named(platform).definition
    }

    /// Does what [`State::marshal`] does and also tells what states are called in the definition.
    pub fn marshal_named(&self, platform: &Platform) -> Marshalled {
        marshal::marshal(self.out.as_ref(), platform)
    }

    /// Returns the source op, if the state is an output of one.
    pub fn as_source(&self) -> Option<&pb::SourceOp> {
        match &self.out.as_ref()?.node.kind {
            NodeKind::Source(source) => Some(source),
            _ => None,
        }
    }
}

/// Tells whether a mount leaves a result.
pub(crate) fn has_output(mount: &ExecMount) -> bool {
    !mount.no_output && !mount.readonly && mount.kind == MountKind::Bind
}

fn secret_mounts(secrets: &[Secret]) -> impl Iterator<Item = pb::Mount> {
    secrets.iter().filter_map(|secret| {
        Some(pb::Mount {
            input: crate::wire::NONE,
            dest: secret.target.clone()?,
            mount_type: pb::MountType::Secret.into(),
            secret_opt: Some(pb::SecretOpt {
                id: secret.id.clone(),
                uid: secret.uid,
                gid: secret.gid,
                mode: secret.mode,
                optional: secret.optional,
            }),
            ..pb::Mount::default()
        })
    })
}

fn ssh_mounts(sockets: &[Ssh]) -> impl Iterator<Item = pb::Mount> {
    sockets.iter().map(|socket| pb::Mount {
        input: crate::wire::NONE,
        dest: socket.target.clone(),
        mount_type: pb::MountType::Ssh.into(),
        ssh_opt: Some(pb::SshOpt {
            id: socket.id.clone(),
            uid: socket.uid,
            gid: socket.gid,
            mode: socket.mode,
            optional: socket.optional,
        }),
        ..pb::Mount::default()
    })
}
