//! States of a file system while a Dockerfile is converted, and the ops that lead to them.
//!
//! A [`State`] is a result of an op and what later ops take over from it: variables, directory, user. Nothing is encoded
//! before [`lower`], which turns what the target needs into LLB.

mod lower;
mod source;
mod wire;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use cooper_oci::{Image, Platform, Timestamp};

use crate::args::Proxies;
use crate::env::EnvList;
use crate::error::LineRange;
use crate::options::{NetworkMode, Resources, Ulimit};
use crate::path;

pub(crate) use lower::{Lowered, SourceMap, encode, lower};
pub(crate) use source::LocalSource;

/// What is said about a vertex without changing what it does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meta {
    name: String,
    command: Option<String>,
    lines: Option<Vec<LineRange>>,
    ignore_cache: bool,
    group: Option<Group>,
    resources: Option<Resources>,
    platform: Option<Platform>,
}

#[derive(Clone, Debug)]
struct Group {
    id: String,
    name: String,
    weak: bool,
}

impl Meta {
    pub(crate) fn named(name: &str) -> Meta {
        Meta { name: name.to_owned(), ..Meta::default() }
    }

    pub(crate) fn renamed(mut self, name: &str) -> Meta {
        name.clone_into(&mut self.name);
        self
    }

    /// The instruction as written.
    pub(crate) fn command(mut self, text: &str) -> Meta {
        self.command = Some(text.to_owned());
        self
    }

    /// The lines that it comes from; a place without lines is a place too.
    pub(crate) fn at(mut self, lines: &[LineRange]) -> Meta {
        self.lines = Some(lines.to_vec());
        self
    }

    pub(crate) fn ignoring_cache(mut self, yes: bool) -> Meta {
        self.ignore_cache = yes;
        self
    }

    /// Shows several vertices as one.
    pub(crate) fn group(mut self, id: &str, name: &str, weak: bool) -> Meta {
        self.group = Some(Group { id: id.to_owned(), name: name.to_owned(), weak });
        self
    }

    pub(crate) fn resources(mut self, resources: Option<Resources>) -> Meta {
        self.resources = resources;
        self
    }

    pub(crate) fn platform(mut self, platform: Option<&Platform>) -> Meta {
        self.platform = platform.cloned();
        self
    }
}

/// One node of the graph.
#[derive(Debug)]
struct Vertex {
    op: Op,
    meta: Meta,
}

#[derive(Debug)]
enum Op {
    Source { id: String, attrs: BTreeMap<String, String>, caps: Vec<String> },
    Exec(Box<ExecOp>),
    File { base: Option<Output>, dir: String, actions: Vec<Action> },
    Merge(Vec<Output>),
}

#[derive(Debug)]
struct ExecOp {
    exec: Exec,
    root: Option<Output>,
    env: EnvList,
    dir: String,
    user: String,
    hostname: String,
    network: NetworkMode,
    platform: Option<Platform>,
}

/// An output of a vertex.
#[derive(Clone, Debug)]
pub(crate) struct Output(Rc<Vertex>);

/// A file system and what belongs to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    output: Option<Output>,
    dir: String,
    pub(crate) env: EnvList,
    pub(crate) user: String,
    pub(crate) hostname: String,
    pub(crate) network: NetworkMode,
    pub(crate) platform: Option<Platform>,
}

/// What a step runs and with what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exec {
    pub(crate) args: Vec<String>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) proxies: Option<Proxies>,
    /// Overrides that of the state.
    pub(crate) network: Option<NetworkMode>,
    pub(crate) insecure: bool,
    pub(crate) ulimits: Vec<Ulimit>,
    pub(crate) extra_hosts: Vec<(String, IpAddr)>,
    pub(crate) cgroup_parent: String,
}

/// A mount of a step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mount {
    pub(crate) target: String,
    /// Nothing: an empty directory.
    pub(crate) source: Option<Output>,
    pub(crate) selector: String,
    pub(crate) read_only: bool,
    /// What is written is thrown away.
    pub(crate) no_output: bool,
    pub(crate) kind: MountKind,
}

#[derive(Clone, Debug, Default)]
pub(crate) enum MountKind {
    #[default]
    Bind,
    Cache {
        id: String,
        sharing: CacheSharing,
    },
    /// `size` in bytes; 0 for no limit.
    Tmpfs {
        size: i64,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum CacheSharing {
    Shared,
    Private,
    Locked,
}

/// A secret as a file, a variable or both.
#[derive(Clone, Debug)]
pub(crate) struct Secret {
    pub(crate) id: String,
    pub(crate) target: Option<String>,
    pub(crate) env: Option<String>,
    pub(crate) optional: bool,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

/// A forwarded SSH agent. An empty target gets a default one.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) id: String,
    pub(crate) target: String,
    pub(crate) optional: bool,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

/// Mode of copied files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum CopyMode {
    #[default]
    Keep,
    Octal(u32),
    Symbolic(String),
}

/// How a copy is done.
#[derive(Clone, Debug, Default)]
pub(crate) struct CopyOptions {
    pub(crate) mode: CopyMode,
    /// `user:group`; empty keeps root.
    pub(crate) owner: String,
    pub(crate) include: Vec<String>,
    pub(crate) exclude: Vec<String>,
    pub(crate) required: Vec<String>,
    pub(crate) follow_symlinks: bool,
    pub(crate) contents_only: bool,
    pub(crate) unpack: bool,
    pub(crate) create_dest: bool,
    /// Wildcards mean something, and may match nothing.
    pub(crate) wildcards: bool,
}

#[derive(Clone, Debug)]
enum Owner {
    /// `user:group` as written.
    Named(String),
    Ids(u32, u32),
}

#[derive(Clone, Debug)]
enum Action {
    Mkdir { path: String, mode: u32, parents: bool, owner: Option<Owner>, time: Option<Timestamp> },
    Mkfile { path: String, mode: u32, data: Vec<u8> },
    Copy { source: Option<Output>, path: String, dest: String, options: CopyOptions },
}

/// Actions of one file op, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileChain(Vec<Action>);

impl FileChain {
    /// A directory with its parents; `user` owns it if it is not empty.
    pub(crate) fn mkdir(path: &str, user: &str, time: Option<Timestamp>) -> FileChain {
        let owner = (!user.is_empty()).then(|| Owner::Named(user.to_owned()));
        FileChain(vec![Action::Mkdir { path: path.to_owned(), mode: 0o755, parents: true, owner, time }])
    }

    /// A directory with an owner by numbers.
    pub(crate) fn mkdir_owned(path: &str, mode: u32, uid: u32, gid: u32) -> FileChain {
        let owner = Some(Owner::Ids(uid, gid));
        FileChain(vec![Action::Mkdir { path: path.to_owned(), mode, parents: false, owner, time: None }])
    }

    pub(crate) fn mkfile(path: &str, mode: u32, data: &[u8]) -> FileChain {
        FileChain(vec![Action::Mkfile { path: path.to_owned(), mode, data: data.to_vec() }])
    }

    /// Adds a copy from another state; a relative `path` is below that state's directory.
    pub(crate) fn copy(mut self, from: &State, path: &str, dest: &str, options: CopyOptions) -> FileChain {
        let mut path = path::clean(path);
        if !path::is_abs_slash(&path) {
            path = path::join(&[&from.dir, &path]);
        }
        self.0.push(Action::Copy { source: from.output.clone(), path, dest: dest.to_owned(), options });
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl State {
    /// Nothing.
    pub(crate) fn scratch() -> State {
        State { dir: "/".to_owned(), ..State::default() }
    }

    fn of(op: Op, meta: Meta) -> State {
        let platform = meta.platform.as_ref().map(Platform::normalized);
        let output = Some(Output(Rc::new(Vertex { op, meta })));
        State { output, platform, ..State::scratch() }
    }

    /// The same surroundings with another file system.
    fn with_op(&self, op: Op, meta: Meta) -> State {
        State { output: Some(Output(Rc::new(Vertex { op, meta }))), ..self.clone() }
    }

    pub(crate) fn output(&self) -> Option<Output> {
        self.output.clone()
    }

    /// The working directory, with slashes.
    pub(crate) fn dir(&self) -> &str {
        &self.dir
    }

    /// Changes the working directory; a relative one is below the present one.
    pub(crate) fn set_dir(&mut self, dir: &str) {
        self.dir = if path::is_abs_slash(dir) { dir.to_owned() } else { path::join(&["/", &self.dir, dir]) };
    }

    pub(crate) fn with_platform(mut self, platform: &Platform) -> State {
        self.platform = Some(platform.normalized());
        self
    }

    /// Takes over what an image's configuration says about processes.
    pub(crate) fn with_config(mut self, image: &Image) -> State {
        for pair in &image.config.env {
            let (key, value) = crate::env::split_pair(pair);
            if !key.is_empty() {
                self.env.set(key, value);
            }
        }
        self.set_dir(&image.config.working_dir);
        if !image.architecture.is_empty() && !image.os.is_empty() {
            self.platform = Some(image.platform().normalized());
        }
        self
    }

    /// The state after file actions.
    pub(crate) fn file(&self, chain: FileChain, meta: Meta) -> State {
        let op = Op::File { base: self.output.clone(), dir: self.dir.clone(), actions: chain.0 };
        self.with_op(op, meta)
    }

    /// The root after a step.
    pub(crate) fn exec(&self, exec: Exec, meta: Meta) -> State {
        let op = ExecOp {
            root: self.output.clone(),
            env: self.env.clone(),
            dir: self.dir.clone(),
            user: self.user.clone(),
            hostname: self.hostname.clone(),
            network: exec.network.unwrap_or(self.network),
            platform: self.platform.clone(),
            exec,
        };
        self.with_op(Op::Exec(Box::new(op)), meta)
    }

    /// This file system with another one on top. Nothing below leaves the other one alone.
    pub(crate) fn merge(&self, top: State, meta: Meta) -> State {
        match (&self.output, top.output) {
            (Some(below), Some(top)) => self.with_op(Op::Merge(vec![below.clone(), top]), meta),
            (below, top) => State { output: top.or_else(|| below.clone()), ..self.clone() },
        }
    }

    /// A directory of this file system, alone.
    pub(crate) fn subdirectory(&self, dir: &str) -> State {
        let options = CopyOptions { contents_only: true, ..CopyOptions::default() };
        State::scratch().file(FileChain::default().copy(self, dir, "/", options), Meta::default())
    }

    /// What an archive in this file system holds.
    pub(crate) fn unpacked(&self, file: &str) -> State {
        let options = CopyOptions { unpack: true, ..CopyOptions::default() };
        let path = path::join(&["/", file]);
        State::scratch().file(FileChain::default().copy(self, &path, "/", options), Meta::default())
    }
}
