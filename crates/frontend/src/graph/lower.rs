//! From states to LLB.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use cooper_oci::{Digest, Platform};

use super::wire::Msg;
use super::{Action, CacheSharing, CopyMode, ExecOp, Meta, MountKind, Op, Output, Owner, State, Vertex};
use crate::error::LineRange;
use crate::options::NetworkMode;
use crate::path;

pub(crate) type Definition = Vec<u8>;

pub(crate) fn encode(definition: &Definition) -> Vec<u8> {
    definition.clone()
}

#[derive(Clone, Debug)]
pub(crate) struct SourceMap {
    name: String,
    text: Vec<u8>,
    definition: Definition,
}

impl SourceMap {
    pub(crate) fn new(name: &str, text: &[u8], definition: Definition) -> SourceMap {
        SourceMap { name: name.to_owned(), text: text.to_vec(), definition }
    }
}

impl State {
    /// The definition of this state alone.
    pub(crate) fn definition(&self) -> Result<Definition, String> {
        Ok(lower_with(self, &Platform::host().normalized(), None)?.into_definition())
    }
}

#[derive(Default)]
struct OpMeta {
    ignore_cache: bool,
    description: BTreeMap<String, String>,
    caps: BTreeSet<String>,
    group: Option<Msg>,
    resources: Option<Msg>,
}

/// A graph in LLB.
pub(crate) struct Lowered {
    platform: Platform,
    digests: HashMap<*const Vertex, (Digest, Vec<u8>)>,
    kept: Vec<Rc<Vertex>>,
    def: Vec<Vec<u8>>,
    seen: BTreeSet<String>,
    visited: BTreeSet<*const Vertex>,
    meta: BTreeMap<String, OpMeta>,
    locations: BTreeMap<String, Vec<Vec<LineRange>>>,
    map: Option<SourceMap>,
}

pub(crate) fn lower(state: &State, platform: &Platform, map: &SourceMap) -> Result<Lowered, String> {
    lower_with(state, platform, Some(map.clone()))
}

fn lower_with(state: &State, platform: &Platform, map: Option<SourceMap>) -> Result<Lowered, String> {
    let mut lowered = Lowered {
        platform: platform.clone(),
        digests: HashMap::new(),
        kept: Vec::new(),
        def: Vec::new(),
        seen: BTreeSet::new(),
        visited: BTreeSet::new(),
        meta: BTreeMap::new(),
        locations: BTreeMap::new(),
        map,
    };
    if let Some(output) = &state.output {
        lowered.visit(&output.0)?;
        let input = lowered.input(output)?;
        let last = Msg::default().msg(1, input).0;
        let digest = Digest::of(&last).to_string();
        lowered.def.push(last);
        let mut caps: BTreeSet<String> = ["constraints", "platform"].map(str::to_owned).into();
        for meta in lowered.meta.values() {
            if meta.ignore_cache {
                caps.insert("meta.ignorecache".to_owned());
            }
            if !meta.description.is_empty() {
                caps.insert("meta.description".to_owned());
            }
        }
        lowered.meta.insert(digest, OpMeta { caps, ..OpMeta::default() });
    }
    Ok(lowered)
}

impl Lowered {
    pub(crate) fn digest(&self, state: &State) -> Option<Digest> {
        let output = state.output.as_ref()?;
        self.digests.get(&Rc::as_ptr(&output.0)).map(|found| found.0)
    }

    pub(crate) fn into_definition(self) -> Definition {
        if self.def.is_empty() {
            return Vec::new();
        }
        let mut out = Msg::default();
        for def in &self.def {
            out = out.bytes_always(1, def);
        }
        for (digest, meta) in self.meta {
            out = out.entry(2, &digest, |entry| entry.msg(2, meta.encode()));
        }
        let mut source = Msg::default();
        for (digest, places) in &self.locations {
            let mut list = Msg::default();
            for place in places {
                let mut location = Msg::default();
                for range in place {
                    for line in range.start..=range.end {
                        let position = || Msg::default().int(1, i64::from(line));
                        location = location.msg(2, Msg::default().msg(1, position()).msg(2, position()));
                    }
                }
                list = list.msg(1, location);
            }
            source = source.entry(1, digest, |entry| entry.msg(2, list));
        }
        if let Some(map) = self.map
            && self.locations.values().any(|places| !places.is_empty())
        {
            let info = Msg::default()
                .text(1, &map.name)
                .bytes(2, &map.text)
                .bytes_always(3, &map.definition)
                .text(4, "Dockerfile");
            source = source.msg(2, info);
        }
        out.msg(3, source).0
    }

    fn visit(&mut self, vertex: &Rc<Vertex>) -> Result<(), String> {
        if self.visited.contains(&Rc::as_ptr(vertex)) {
            return Ok(());
        }
        for input in vertex.inputs() {
            self.visit(&input.0)?;
        }
        let (digest, bytes) = self.marshal(vertex)?;
        self.visited.insert(Rc::as_ptr(vertex));
        let digest = digest.to_string();
        let own = vertex.meta();
        let meta = self.meta.entry(digest.clone()).or_default();
        meta.ignore_cache |= own.ignore_cache;
        meta.description.extend(own.description);
        meta.caps.extend(own.caps);
        meta.group = own.group.or(meta.group.take());
        meta.resources = own.resources.or(meta.resources.take());
        let places = self.locations.entry(digest.clone()).or_default();
        places.extend(vertex.meta.lines.clone());
        if self.seen.insert(digest) {
            self.def.push(bytes);
        }
        Ok(())
    }

    fn input(&mut self, output: &Output) -> Result<Msg, String> {
        let (digest, _) = self.marshal(&output.0)?;
        Ok(Msg::default().text(1, &digest.to_string()).int(2, output.0.root_index()))
    }

    fn marshal(&mut self, vertex: &Rc<Vertex>) -> Result<(Digest, Vec<u8>), String> {
        if let Some(found) = self.digests.get(&Rc::as_ptr(vertex)) {
            return Ok(found.clone());
        }
        let bytes = self.encode(vertex)?.0;
        let digest = Digest::of(&bytes);
        self.digests.insert(Rc::as_ptr(vertex), (digest, bytes.clone()));
        self.kept.push(Rc::clone(vertex));
        Ok((digest, bytes))
    }

    fn encode(&mut self, vertex: &Rc<Vertex>) -> Result<Msg, String> {
        let mut inputs: Vec<Msg> = Vec::new();
        let mut platform = None;
        let op = match &vertex.op {
            Op::Source { id, attrs, .. } => {
                if id.starts_with("docker-image://") || id.starts_with("oci-layout://") {
                    platform = Some(vertex.meta.platform.clone().unwrap_or_else(|| self.platform.clone()));
                }
                let mut op = Msg::default().text(1, id);
                for (key, value) in attrs {
                    op = op.entry(2, key, |entry| entry.bytes_always(2, value.as_bytes()));
                }
                (3, op)
            }
            Op::Merge(parts) => {
                let mut op = Msg::default();
                for (index, part) in parts.iter().enumerate() {
                    op = op.msg(1, Msg::default().int(1, index as i64));
                    inputs.push(self.input(part)?);
                }
                (6, op)
            }
            Op::File { base, dir, actions } => (4, self.file(base.as_ref(), dir, actions, &mut inputs)?),
            Op::Exec(exec) => {
                platform = Some(
                    vertex
                        .meta
                        .platform
                        .clone()
                        .or_else(|| exec.platform.clone())
                        .unwrap_or_else(|| self.platform.clone()),
                );
                (2, self.exec(exec, &mut inputs)?)
            }
        };
        let mut out = Msg::default();
        for input in inputs {
            out = out.msg(1, input);
        }
        if let Some(platform) = platform {
            let message = Msg::default()
                .text(1, &platform.architecture)
                .text(2, &platform.os)
                .text(3, &platform.variant)
                .text(4, &platform.os_version)
                .texts(5, &platform.os_features);
            out = out.msg(10, message);
        }
        out = out.msg(11, Msg::default());
        Ok(out.msg(op.0, op.1))
    }

    fn add(&mut self, inputs: &mut Vec<Msg>, output: Option<&Output>) -> Result<i64, String> {
        let Some(output) = output else { return Ok(-1) };
        let input = self.input(output)?;
        let at = inputs.iter().position(|known| known.0 == input.0).unwrap_or_else(|| {
            inputs.push(input);
            inputs.len() - 1
        });
        Ok(at as i64)
    }

    fn file(
        &mut self,
        base: Option<&Output>,
        dir: &str,
        actions: &[Action],
        inputs: &mut Vec<Msg>,
    ) -> Result<Msg, String> {
        let base = self.add(inputs, base)?;
        let mut encoded = Vec::new();
        for action in actions {
            let secondary = match action {
                Action::Copy { source, .. } => self.add(inputs, source.as_ref())?,
                _ => -1,
            };
            encoded.push((secondary, action.encode(dir, base)));
        }
        let count = inputs.len() as i64;
        let last = encoded.len();
        let mut op = Msg::default();
        for (index, (secondary, (field, body))) in encoded.into_iter().enumerate() {
            let input = if index == 0 { base } else { count + index as i64 - 1 };
            let output = if index + 1 == last { 0 } else { -1 };
            op = op.msg(2, Msg::default().int(1, input).int(2, secondary).int(3, output).msg(field, body));
        }
        Ok(op)
    }

    fn exec(&mut self, op: &ExecOp, inputs: &mut Vec<Msg>) -> Result<Msg, String> {
        let mut env = op.env.clone();
        let agents: Vec<_> = op.agents();
        if let Some((_, target)) = agents.first()
            && env.lookup("SSH_AUTH_SOCK").is_none()
        {
            env.set("SSH_AUTH_SOCK", target);
        }
        if op.exec.args.is_empty() {
            return Err("arguments are required".to_owned());
        }
        let pairs: Vec<String> =
            env.keys().map(|key| format!("{key}={}", env.lookup(key).unwrap_or_default())).collect();
        let mut meta =
            Msg::default().texts(1, &op.exec.args).texts(2, &pairs).text(3, &op.dir).text(4, &op.user);
        if let Some(proxies) = &op.exec.proxies {
            meta = meta.msg(
                5,
                Msg::default()
                    .text(1, &proxies.http)
                    .text(2, &proxies.https)
                    .text(3, &proxies.ftp)
                    .text(4, &proxies.no)
                    .text(5, &proxies.all),
            );
        }
        for (host, ip) in &op.exec.extra_hosts {
            meta = meta.msg(6, Msg::default().text(1, host).text(2, &ip.to_string()));
        }
        meta = meta.text(7, &op.hostname);
        for limit in &op.exec.ulimits {
            meta = meta.msg(9, Msg::default().text(1, &limit.name).int(2, limit.soft).int(3, limit.hard));
        }
        meta = meta.text(10, &op.exec.cgroup_parent).flag(11, true);
        let mut out = Msg::default().msg(1, meta);
        let mut index = 0;
        for mount in op.mounts() {
            let input = self.add(inputs, mount.source.as_ref())?;
            let keeps = mount.keeps();
            let output = if keeps { index } else { -1 };
            index += i64::from(keeps);
            let mut message = Msg::default()
                .int(1, input)
                .text(2, &mount.selector)
                .text(3, &mount.target)
                .int(4, output)
                .flag(5, mount.read_only);
            match &mount.kind {
                MountKind::Bind => {}
                MountKind::Tmpfs { size } => {
                    message = message.int(6, 4).msg(19, Msg::default().int(1, *size));
                }
                MountKind::Cache { id, sharing } => {
                    let sharing = match sharing {
                        CacheSharing::Shared => 0,
                        CacheSharing::Private => 1,
                        CacheSharing::Locked => 2,
                    };
                    message = message.int(6, 3).msg(20, Msg::default().text(1, id).int(2, sharing));
                }
            }
            out = out.msg(2, message);
        }
        for secret in &op.exec.secrets {
            let Some(target) = &secret.target else { continue };
            let option = Msg::default()
                .text(1, &secret.id)
                .int(2, i64::from(secret.uid))
                .int(3, i64::from(secret.gid))
                .int(4, i64::from(secret.mode))
                .flag(5, secret.optional);
            out = out.msg(2, Msg::default().int(1, -1).text(3, target).int(6, 1).msg(21, option));
        }
        for (agent, target) in &agents {
            let option = Msg::default()
                .text(1, &agent.id)
                .int(2, i64::from(agent.uid))
                .int(3, i64::from(agent.gid))
                .int(4, i64::from(agent.mode))
                .flag(5, agent.optional);
            out = out.msg(2, Msg::default().int(1, -1).text(3, target).int(6, 2).msg(22, option));
        }
        let network = match op.network {
            NetworkMode::Sandbox => 0,
            NetworkMode::Host => 1,
            NetworkMode::None => 2,
        };
        out = out.int(3, network).flag(4, op.exec.insecure);
        for secret in &op.exec.secrets {
            if let Some(name) = &secret.env {
                out = out.msg(5, Msg::default().text(1, &secret.id).text(2, name).flag(3, secret.optional));
            }
        }
        Ok(out)
    }
}

impl super::Mount {
    fn keeps(&self) -> bool {
        !self.no_output && !self.read_only && matches!(self.kind, MountKind::Bind)
    }
}

impl ExecOp {
    /// All mounts, the root included, in the order of their targets.
    fn mounts(&self) -> Vec<super::Mount> {
        let mut mounts = vec![super::Mount {
            target: "/".to_owned(),
            source: self.root.clone(),
            ..super::Mount::default()
        }];
        mounts.extend(self.exec.mounts.iter().cloned());
        mounts.sort_by(|a, b| a.target.cmp(&b.target));
        mounts
    }

    fn agents(&self) -> Vec<(&super::Agent, String)> {
        let target = |(index, agent): (usize, &super::Agent)| match agent.target.as_str() {
            "" => format!("/run/buildkit/ssh_agent.{index}"),
            target => target.to_owned(),
        };
        self.exec.agents.iter().enumerate().map(|pair| (pair.1, target(pair))).collect()
    }
}

impl Vertex {
    fn root_index(&self) -> i64 {
        match &self.op {
            Op::Exec(exec) => exec
                .mounts()
                .iter()
                .filter(|mount| mount.keeps())
                .position(|mount| mount.target == "/")
                .unwrap_or(0) as i64,
            _ => 0,
        }
    }

    fn inputs(&self) -> Vec<Output> {
        let mut out: Vec<Output> = Vec::new();
        let mut add = |output: Option<&Output>| {
            if let Some(output) = output
                && !out.iter().any(|known| Rc::ptr_eq(&known.0, &output.0))
            {
                out.push(output.clone());
            }
        };
        match &self.op {
            Op::Source { .. } => {}
            Op::Merge(parts) => parts.iter().for_each(|part| add(Some(part))),
            Op::Exec(exec) => exec.mounts().iter().for_each(|mount| add(mount.source.as_ref())),
            Op::File { base, actions, .. } => {
                add(base.as_ref());
                for action in actions.iter().rev() {
                    if let Action::Copy { source, .. } = action {
                        add(source.as_ref());
                    }
                }
            }
        }
        out
    }

    fn meta(&self) -> OpMeta {
        let Meta { name, command, ignore_cache, group, resources, .. } = &self.meta;
        let mut out = OpMeta { ignore_cache: *ignore_cache, ..OpMeta::default() };
        if !name.is_empty() {
            out.description.insert("llb.customname".to_owned(), name.clone());
        }
        if let Some(command) = command {
            out.description.insert("com.docker.dockerfile.v1.command".to_owned(), command.clone());
        }
        out.group = group
            .as_ref()
            .map(|group| Msg::default().text(1, &group.id).text(2, &group.name).flag(3, group.weak));
        out.resources = resources.as_ref().map(|limits| {
            Msg::default()
                .int(1, limits.memory)
                .int(2, limits.memory_swap)
                .int(3, limits.cpu_shares as i64)
                .int(4, limits.cpu_period as i64)
                .int(5, limits.cpu_quota)
                .text(6, &limits.cpuset_cpus)
                .text(7, &limits.cpuset_mems)
        });
        let mut caps: Vec<&str> = Vec::new();
        match &self.op {
            Op::Source { caps: own, .. } => out.caps.extend(own.iter().cloned()),
            Op::Merge(_) => caps.push("mergeop"),
            Op::File { .. } => caps.push("file.base"),
            Op::Exec(exec) => {
                caps.extend(["exec.meta.base", "exec.meta.setsdefaultpath"]);
                if !exec.exec.ulimits.is_empty() {
                    caps.push("exec.meta.ulimit");
                }
                if resources.is_some() {
                    caps.push("exec.meta.linux.resources");
                }
                if exec.network != NetworkMode::Sandbox {
                    caps.push("exec.meta.network");
                }
                if exec.exec.insecure {
                    caps.push("exec.meta.security");
                }
                if exec.exec.proxies.is_some() {
                    caps.push("exec.meta.proxyenv");
                }
                for mount in exec.mounts() {
                    if !mount.selector.is_empty() {
                        caps.push("exec.mount.selector");
                    }
                    match mount.kind {
                        MountKind::Cache { .. } => {
                            caps.extend(["exec.mount.cache", "exec.mount.cache.sharing"]);
                        }
                        MountKind::Tmpfs { size } => {
                            caps.push("exec.mount.tmpfs");
                            if size > 0 {
                                caps.push("exec.mount.tmpfs.size");
                            }
                        }
                        MountKind::Bind if mount.source.is_some() => caps.push("exec.mount.bind"),
                        MountKind::Bind => {}
                    }
                }
                if !exec.exec.secrets.is_empty() {
                    caps.push("exec.mount.secret");
                }
                if exec.exec.secrets.iter().any(|secret| secret.env.is_some()) {
                    caps.push("exec.secretenv");
                }
                if !exec.exec.agents.is_empty() {
                    caps.push("exec.mount.ssh");
                }
            }
        }
        out.caps.extend(caps.into_iter().map(str::to_owned));
        out
    }
}

impl OpMeta {
    fn encode(self) -> Msg {
        let mut out = Msg::default().flag(1, self.ignore_cache);
        for (key, value) in &self.description {
            out = out.entry(2, key, |entry| entry.bytes_always(2, value.as_bytes()));
        }
        for cap in &self.caps {
            out = out.entry(5, cap, |entry| entry.int_always(2, 1));
        }
        if let Some(group) = self.group {
            out = out.msg(6, group);
        }
        if let Some(resources) = self.resources {
            out = out.msg(7, resources);
        }
        out
    }
}

fn normalize(dir: &str, path: &str, keep_slash: bool) -> String {
    let mut out = path::clean(path);
    if !path::is_abs_slash(&out) {
        out = path::join(&["/", dir, &out]);
    }
    if keep_slash {
        if path.ends_with('/') && !out.ends_with('/') {
            out.push('/');
        } else if path.ends_with("/.") {
            if out != "/" {
                out.push('/');
            }
            out.push('.');
        }
    }
    out
}

impl Action {
    fn encode(&self, dir: &str, base: i64) -> (u32, Msg) {
        match self {
            Action::Mkdir { path, mode, parents, owner, time } => {
                let mut out = Msg::default()
                    .text(1, &normalize(dir, path, false))
                    .int(2, i64::from(mode & 0o777))
                    .flag(3, *parents);
                if let Some(owner) = owner {
                    out = out.msg(4, owner.encode(base));
                }
                let time = time.map_or(-1, |time| i64::try_from(time.unix_nanos()).unwrap_or(i64::MAX));
                (6, out.int(5, time))
            }
            Action::Mkfile { path, mode, data } => (
                5,
                Msg::default()
                    .text(1, &normalize(dir, path, false))
                    .int(2, i64::from(mode & 0o777))
                    .bytes(3, data)
                    .int(5, -1),
            ),
            Action::Copy { path, dest, options, .. } => {
                let mut out = Msg::default().text(1, path).text(2, &normalize(dir, dest, true));
                if !options.owner.is_empty() {
                    out = out.msg(3, Owner::Named(options.owner.clone()).encode(base));
                }
                let (mode, mode_text) = match &options.mode {
                    CopyMode::Keep => (-1, ""),
                    CopyMode::Octal(mode) => (i64::from(*mode), ""),
                    CopyMode::Symbolic(text) => (0, text.as_str()),
                };
                let out = out
                    .int(4, mode)
                    .flag(5, options.follow_symlinks)
                    .flag(6, options.contents_only)
                    .flag(7, options.unpack)
                    .flag(8, options.create_dest)
                    .flag(9, options.wildcards)
                    .flag(10, options.wildcards)
                    .int(11, -1)
                    .texts(12, &options.include)
                    .texts(13, &options.exclude)
                    .text(15, mode_text)
                    .texts(16, &options.required);
                (4, out)
            }
        }
    }
}

impl Owner {
    fn encode(&self, base: i64) -> Msg {
        let by_id = |id: u32| Msg::default().int_always(2, i64::from(id));
        let user = |text: &str| -> Msg {
            let id = if text == "root" {
                Some(0)
            } else {
                crate::gofmt::parse_int(text).ok().and_then(|id| i32::try_from(id).ok())
            };
            match id {
                Some(id) => by_id(id as u32),
                None if text.is_empty() => by_id(0),
                None => Msg::default().msg(1, Msg::default().text(1, text).int(2, base)),
            }
        };
        match self {
            Owner::Ids(uid, gid) => Msg::default().msg(1, by_id(*uid)).msg(2, by_id(*gid)),
            Owner::Named(text) => match text.split_once(':') {
                Some((name, group)) => Msg::default().msg(1, user(name)).msg(2, user(group)),
                None => Msg::default().msg(1, user(text)),
            },
        }
    }
}
