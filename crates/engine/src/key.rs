//! The key of a vertex: what it does and what it reads, and nothing else.
//!
//! | In the key | Not in the key |
//! |---|---|
//! | every field of the op; platform; network and security mode; limits, host name, names of extra hosts | proxies, addresses of extra hosts, limits of a single step, names and descriptions |
//! | of a root that is written to, and of any input as a whole: its content id | where an image came from, by which tag |
//! | of a COPY or a read-only mount: the entries that it selects (type, mode, owner, size, content, link target, attributes) | their times; whatever else the input holds |
//! | of a local file: the same, with owner 0:0 | session, filters that only bound what is sent |
//! | which secrets, agents and cache mounts there are; of an optional secret or agent, whether the build was given it | what is in them |
//!
//! Times: a file that is copied brings its time along, but a cached copy keeps the time of the first one. Content ids of
//! steps leave out times of the step's own run (`keep.rs`).

use cooper_llb::{NONE, Op, Vertex, encode_op, pb};
use cooper_oci::{Digest, Hasher};

use crate::select::Selector;

/// What a key needs to know of inputs.
pub(crate) trait Inputs {
    /// Why an input cannot be looked at.
    type Error;

    /// Returns the content id of a whole input.
    fn whole(&self, input: usize) -> Result<Digest, Self::Error>;

    /// Returns the digest of what `selector` reads from an input, as far as the patterns let it.
    fn selected(
        &self,
        input: usize,
        selector: &Selector,
        patterns: &Patterns<'_>,
    ) -> Result<Digest, Self::Error>;

    /// Tells whether the build was given a secret.
    fn has_secret(&self, id: &str) -> bool;

    /// Tells whether the build was given an SSH agent.
    fn has_agent(&self, id: &str) -> bool;
}

/// Which of the selected paths are read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Patterns<'a> {
    /// Only those that match one of these; empty: all.
    pub(crate) include: &'a [String],
    /// None that matches one of these.
    pub(crate) exclude: &'a [String],
    /// There must be something that begins with each of these.
    pub(crate) required: &'a [String],
}

/// Returns the key of a vertex that is no source.
pub(crate) fn key<I: Inputs>(vertex: &Vertex, inputs: &I) -> Result<Digest, I::Error> {
    let mut hash = Hasher::new();
    match &vertex.op {
        Op::Exec(exec) => {
            hash.field(b"cooper key 1: exec");
            hash.field(encoded(pb::op::Op::Exec(exec_identity(exec))));
            platform(&mut hash, vertex);
            for mount in &exec.mounts {
                let Ok(input) = usize::try_from(mount.input) else { continue };
                let digest = if is_partial(mount) {
                    let selector = Selector { path: mount.selector.clone(), wildcard: false, follow: true };
                    inputs.selected(input, &selector, &Patterns::default())?
                } else {
                    inputs.whole(input)?
                };
                hash.field(digest.as_bytes());
            }
            // What may be missing: a step that went another way without it did something else.
            let variables = exec.secretenv.iter().filter(|secret| secret.optional);
            let variables = variables.map(|secret| inputs.has_secret(&secret.id));
            let mounts = exec.mounts.iter().filter_map(|mount| {
                let secret = mount.secret_opt.as_ref().filter(|secret| secret.optional);
                let agent = mount.ssh_opt.as_ref().filter(|agent| agent.optional);
                secret
                    .map(|secret| inputs.has_secret(&secret.id))
                    .or_else(|| agent.map(|agent| inputs.has_agent(&agent.id)))
            });
            variables.chain(mounts).for_each(|given| hash.field([u8::from(given)]));
        }
        Op::File(file) => {
            hash.field(b"cooper key 1: file");
            hash.field(encoded(pb::op::Op::File(file.clone())));
            let count = vertex.inputs.len() as i64;
            for action in &file.actions {
                if (0..count).contains(&action.input) {
                    hash.field(inputs.whole(action.input as usize)?.as_bytes());
                }
                let Some(pb::file_action::Action::Copy(copy)) = &action.action else { continue };
                if !(0..count).contains(&action.secondary_input) {
                    continue;
                }
                let patterns = Patterns {
                    include: &copy.include_patterns,
                    exclude: &copy.exclude_patterns,
                    required: &copy.required_paths,
                };
                hash.field(
                    inputs.selected(action.secondary_input as usize, &selector(copy), &patterns)?.as_bytes(),
                );
            }
        }
        Op::Merge(_) | Op::Diff { .. } | Op::Passthrough(_) => {
            hash.field(match &vertex.op {
                Op::Merge(places) => format!("cooper key 1: merge {places:?}"),
                Op::Diff { lower, upper } => format!("cooper key 1: diff {lower:?} {upper:?}"),
                _ => "cooper key 1: pass".to_owned(),
            });
            for input in 0..vertex.inputs.len() {
                hash.field(inputs.whole(input)?.as_bytes());
            }
        }
        Op::Source(_) | Op::Build(_) => {
            // Sources are keyed by what they were pinned to, see `work.rs`; a build op never gets here.
            hash.field(b"cooper key 1: other");
            hash.field(vertex.digest.as_bytes());
        }
    }
    Ok(hash.finish())
}

/// Lists the inputs of which a key reads entries, not only the content id.
pub(crate) fn selecting(vertex: &Vertex) -> Vec<usize> {
    let places: Vec<i64> = match &vertex.op {
        Op::Exec(exec) => {
            exec.mounts.iter().filter(|mount| is_partial(mount)).map(|mount| mount.input).collect()
        }
        Op::File(file) => file.actions.iter().map(|action| action.secondary_input).collect(),
        _ => Vec::new(),
    };
    places
        .into_iter()
        .filter_map(|place| usize::try_from(place).ok())
        .filter(|at| *at < vertex.inputs.len())
        .collect()
}

/// Tells whether only a part of a mount's source can be read by the command.
fn is_partial(mount: &pb::Mount) -> bool {
    mount.readonly && mount.dest != "/" && !mount.selector.is_empty()
}

/// Returns how a copy selects its source.
pub(crate) fn selector(copy: &pb::FileActionCopy) -> Selector {
    // An archive that is unpacked is found through links in any case.
    let follow = copy.follow_symlink || copy.attempt_unpack_docker_compatibility;
    Selector { path: copy.src.clone(), wildcard: copy.allow_wildcard, follow }
}

/// Returns the key of an output of a file op, a merge or a diff: a function of the key alone.
pub(crate) fn of_output(key: &Digest, output: u32) -> Digest {
    let mut hash = Hasher::new();
    hash.field(b"cooper output 1");
    hash.field(key.as_bytes());
    hash.field(output.to_be_bytes());
    hash.finish()
}

/// Writes an op alone: without inputs, platform and whatever else stands beside it.
fn encoded(op: pb::op::Op) -> Vec<u8> {
    encode_op(&pb::Op { op: Some(op), ..pb::Op::default() })
}

/// Returns an op without what must not decide whether it runs again.
fn exec_identity(exec: &pb::ExecOp) -> pb::ExecOp {
    let mut exec = exec.clone();
    if let Some(meta) = &mut exec.meta {
        meta.proxy_env = None;
        for host in &mut meta.extra_hosts {
            host.ip.clear();
        }
    }
    for mount in &mut exec.mounts {
        // Places among the inputs are how the op is written down, not what it does; the contents follow in order.
        mount.input = if mount.input == NONE { NONE } else { 0 };
        // How a cache is shared does not change what is in the result.
        if let Some(cache) = &mut mount.cache_opt {
            cache.sharing = 0;
        }
    }
    exec
}

fn platform(hash: &mut Hasher, vertex: &Vertex) {
    let platform = vertex.platform.clone().unwrap_or_default();
    for text in [&platform.os, &platform.architecture, &platform.variant, &platform.os_version] {
        hash.field(text);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use cooper_llb::{CopyOptions, FileActions, Graph, OpOptions, Run, State};

    use super::*;

    /// Inputs whose content is a text, and whose parts are named by the selector.
    struct Texts(Vec<&'static str>, &'static [&'static str]);

    impl Inputs for Texts {
        type Error = Infallible;

        fn whole(&self, input: usize) -> Result<Digest, Infallible> {
            Ok(Digest::of(self.0[input]))
        }

        fn selected(
            &self,
            input: usize,
            selector: &Selector,
            _: &Patterns<'_>,
        ) -> Result<Digest, Infallible> {
            // The part of a text that a path selects: the word of that name.
            let words: BTreeMap<&str, &str> =
                self.0[input].split(' ').filter_map(|word| word.split_once('=')).collect();
            let path = selector.path.trim_start_matches('/');
            Ok(Digest::of(words.get(path).copied().unwrap_or(self.0[input])))
        }

        fn has_secret(&self, id: &str) -> bool {
            self.1.contains(&id)
        }

        fn has_agent(&self, id: &str) -> bool {
            self.1.contains(&id)
        }
    }

    fn last(state: &State) -> Vertex {
        let graph = Graph::new(&state.marshal(&"linux/amd64".parse().unwrap())).unwrap();
        graph.vertices.last().unwrap().clone()
    }

    fn base() -> State {
        State::image("docker.io/library/a:1", BTreeMap::new(), OpOptions::default())
    }

    fn exec(change: impl FnOnce(State, &mut Run, &mut OpOptions) -> State) -> Vertex {
        let mut run = Run { args: vec!["make".into()], ..Run::default() };
        let mut options = OpOptions::default();
        let state = change(base(), &mut run, &mut options);
        last(&state.run(run, options).unwrap())
    }

    fn key_of(vertex: &Vertex, inputs: &[&'static str]) -> Digest {
        key(vertex, &Texts(inputs.to_vec(), &[])).unwrap()
    }

    #[test]
    fn optional_secrets_count_by_whether_they_are_given() {
        let vertex = |optional: bool| {
            exec(|state, run, _| {
                let secret = |id: &str, target: Option<&str>, env: Option<&str>| cooper_llb::Secret {
                    id: id.into(),
                    target: target.map(Into::into),
                    env: env.map(Into::into),
                    uid: 0,
                    gid: 0,
                    mode: 0o400,
                    optional,
                };
                run.secrets.extend([secret("file", Some("/s"), None), secret("variable", None, Some("V"))]);
                run.ssh.push(cooper_llb::Ssh {
                    id: "agent".into(),
                    target: "/a".into(),
                    uid: 0,
                    gid: 0,
                    mode: 0o600,
                    optional,
                });
                state
            })
        };
        let with = |optional, given| key(&vertex(optional), &Texts(vec!["root"], given)).unwrap();
        let all: std::collections::BTreeSet<Digest> =
            [&[][..], &["file"], &["variable"], &["agent"]].map(|given| with(true, given)).into();
        assert_eq!(all.len(), 4);
        // Without one that is required the step fails, so there is nothing to tell apart.
        assert_eq!(with(false, &[]), with(false, &["file"]));
    }

    /// One row of the table in the module's comment each: the change, and whether it must miss.
    #[test]
    fn what_is_in_the_key_of_an_exec() {
        let plain = key_of(&exec(|state, _, _| state), &["root"]);
        type Change = fn(State, &mut Run, &mut OpOptions) -> State;
        let rows: &[(&str, Change, bool)] = &[
            (
                "arguments",
                |s, run, _| {
                    run.args.push("x".into());
                    s
                },
                true,
            ),
            ("environment", |s, _, _| s.add_env("A", "1"), true),
            ("directory", |s, _, _| s.with_dir("/w"), true),
            ("user", |s, _, _| s.with_user("app"), true),
            ("platform", |s, _, _| s.with_platform(&"linux/arm64".parse().unwrap()), true),
            ("network", |s, _, _| s.with_network(pb::NetMode::None), true),
            ("security", |s, _, _| s.with_security(pb::SecurityMode::Insecure), true),
            ("limit", |s, _, _| s.add_ulimit("nofile", 1, 1), true),
            ("host name", |s, _, _| s.with_hostname("h"), true),
            ("extra host", |s, _, _| s.add_extra_host("h", "1.2.3.4"), true),
            (
                "a secret",
                |s, run, _| {
                    run.secrets.push(cooper_llb::Secret {
                        id: "s".into(),
                        target: Some("/s".into()),
                        env: None,
                        uid: 0,
                        gid: 0,
                        mode: 0o400,
                        optional: true,
                    });
                    s
                },
                true,
            ),
            (
                "proxy",
                |s, run, _| {
                    run.proxy = Some(pb::ProxyEnv { http_proxy: "p".into(), ..Default::default() });
                    s
                },
                false,
            ),
            (
                "name",
                |s, _, options| {
                    *options = options.clone().name("x");
                    s
                },
                false,
            ),
            (
                "limits of the step",
                |s, _, options| {
                    options.linux_resources = Some(pb::LinuxResources { memory: 1, ..Default::default() });
                    s
                },
                false,
            ),
            (
                "ignoring the cache",
                |s, _, options| {
                    options.ignore_cache = true;
                    s
                },
                false,
            ),
        ];
        for (what, change, misses) in rows {
            assert_eq!(key_of(&exec(change), &["root"]) != plain, *misses, "{what}");
        }
        assert_ne!(key_of(&exec(|s, _, _| s), &["other root"]), plain, "the root");
        let address = |ip: &'static str| key_of(&exec(|s, _, _| s.add_extra_host("h", ip)), &["root"]);
        assert_eq!(address("1.2.3.4"), address("5.6.7.8"), "addresses of extra hosts");
    }

    #[test]
    fn what_is_in_the_key_of_a_copy() {
        let copy = |src: &str, dest: &str| {
            let context = State::local("context", BTreeMap::new(), OpOptions::default());
            let actions = FileActions::new().copy(&context, src, dest, CopyOptions::default());
            last(&base().file(actions, OpOptions::default()))
        };
        let plain = key_of(&copy("a", "/x"), &["root", "a=1 b=2"]);
        assert_eq!(plain, key_of(&copy("a", "/x"), &["root", "a=1 b=3"]), "what is not read");
        assert_ne!(plain, key_of(&copy("a", "/x"), &["root", "a=2 b=2"]), "what is read");
        assert_ne!(plain, key_of(&copy("a", "/x"), &["other root", "a=1 b=2"]), "the base");
        assert_ne!(plain, key_of(&copy("a", "/y"), &["root", "a=1 b=2"]), "the destination");
    }

    #[test]
    fn the_way_an_image_was_named_is_not_in_the_key() {
        let on = |reference: &str| {
            let state = State::image(reference, BTreeMap::new(), OpOptions::default());
            let run = Run { args: vec!["make".into()], ..Run::default() };
            last(&state.run(run, OpOptions::default()).unwrap())
        };
        let (one, other) = (on("docker.io/library/a:1"), on("example.com/b@sha256:0"));
        assert_ne!(one.digest, other.digest);
        assert_eq!(key_of(&one, &["root"]), key_of(&other, &["root"]));
    }
}
