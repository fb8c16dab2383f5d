//! From outputs to a definition, in BuildKit's order: inputs before their readers, the result named last.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cooper_oci::{Digest, Platform};

use crate::caps;
use crate::file::Action;
use crate::pb;
use crate::state::{ExecMount, MountKind, Node, NodeKind, Output, SourceMap, State, has_output};
use crate::wire::{NONE, digest, encode_op};

type Pointer = *const Node;

struct Marshaller<'a> {
    platform: &'a Platform,
    /// Ops that are written, by identity.
    done: HashMap<Pointer, Digest>,
    /// Digests that are written: equal ops are one element.
    written: HashSet<Digest>,
    definition: pb::Definition,
    maps: Vec<Arc<SourceMap>>,
}

/// A definition, and the names that states got in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Marshalled {
    /// The graph.
    pub definition: pb::Definition,
    digests: HashMap<Pointer, Digest>,
}

impl Marshalled {
    /// Returns the digest of the vertex that a state is an output of; `None` if the graph does not need it.
    ///
    /// States are told apart by identity, so ask with clones of the states that the graph was made of.
    pub fn digest(&self, state: &State) -> Option<Digest> {
        self.digests.get(&Arc::as_ptr(&state.output()?.node)).copied()
    }
}

pub(crate) fn marshal(out: Option<&Output>, platform: &Platform) -> Marshalled {
    let Some(out) = out else {
        return Marshalled { definition: pb::Definition::default(), digests: HashMap::new() };
    };
    let mut marshaller = Marshaller {
        platform,
        done: HashMap::new(),
        written: HashSet::new(),
        definition: pb::Definition { source: Some(pb::Source::default()), ..pb::Definition::default() },
        maps: Vec::new(),
    };
    marshaller.graph(out);
    let (definition, digests) = marshaller.finish(out);
    Marshalled { definition, digests }
}

impl Marshaller<'_> {
    /// Visits inputs before readers, without recursion: graphs may be deep.
    fn graph(&mut self, out: &Output) {
        let mut open: Vec<(Arc<Node>, bool)> = vec![(out.node.clone(), false)];
        while let Some((node, ready)) = open.pop() {
            if self.done.contains_key(&Arc::as_ptr(&node)) {
                continue;
            }
            if ready {
                self.write(&node);
                continue;
            }
            let inputs = inputs(&node);
            open.push((node, true));
            // The first input is visited first, so it goes on top.
            open.extend(inputs.into_iter().rev().map(|input| (input, false)));
        }
    }

    fn write(&mut self, node: &Arc<Node>) {
        let op = self.op(node);
        let bytes = encode_op(&op);
        let name = digest(&bytes);
        self.done.insert(Arc::as_ptr(node), name);
        merge_metadata(self.definition.metadata.entry(name.to_string()).or_default(), node);
        self.locate(name, node);
        if self.written.insert(name) {
            self.definition.def.push(bytes);
        }
    }

    fn input(&self, out: &Output) -> pb::Input {
        let digest = self.done.get(&Arc::as_ptr(&out.node)).map(ToString::to_string).unwrap_or_default();
        pb::Input { digest, index: out.index }
    }

    fn op(&self, node: &Node) -> pb::Op {
        let mut inputs: Vec<pb::Input> = Vec::new();
        let mut add = |input: pb::Input| -> i64 {
            let at = inputs.iter().position(|known| *known == input).unwrap_or_else(|| {
                inputs.push(input);
                inputs.len() - 1
            });
            at as i64
        };
        let op = match &node.kind {
            NodeKind::Source(source) => pb::op::Op::Source(source.clone()),
            NodeKind::Exec { op, mounts } => {
                let mut exec = (**op).clone();
                let mut next = 0;
                let mounts: Vec<pb::Mount> = mounts
                    .iter()
                    .map(|mount| {
                        let input = mount.source.as_ref().map_or(NONE, |source| add(self.input(source)));
                        let output = if has_output(mount) {
                            next += 1;
                            next - 1
                        } else {
                            NONE
                        };
                        mount_to_pb(mount, input, output)
                    })
                    .collect();
                exec.mounts.splice(0..0, mounts);
                pb::op::Op::Exec(exec)
            }
            NodeKind::File { base, dir, actions } => {
                let base = base.as_ref().map_or(NONE, |base| add(self.input(base)));
                let sources: Vec<i64> = actions
                    .0
                    .iter()
                    .map(|action| match action {
                        Action::Copy { from, .. } => from.output().map_or(NONE, |out| add(self.input(out))),
                        _ => NONE,
                    })
                    .collect();
                let count = inputs.len() as i64;
                let last = actions.0.len().saturating_sub(1);
                let actions = actions
                    .0
                    .iter()
                    .zip(sources)
                    .enumerate()
                    .map(|(number, (action, secondary_input))| pb::FileAction {
                        input: if number == 0 { base } else { count + number as i64 - 1 },
                        secondary_input,
                        output: if number == last { 0 } else { NONE },
                        action: Some(action.to_pb(dir, base)),
                    })
                    .collect();
                pb::op::Op::File(pb::FileOp { actions })
            }
            NodeKind::Merge(outs) => {
                let merged = outs.iter().enumerate().map(|(at, out)| {
                    // Unlike other ops, a merge lists an input as often as it reads it.
                    inputs.push(self.input(out));
                    pb::MergeInput { input: at as i64 }
                });
                let merged = merged.collect();
                pb::op::Op::Merge(pb::MergeOp { inputs: merged })
            }
            NodeKind::Diff { lower, upper } => {
                let mut one = |out: &Option<Output>| match out {
                    None => NONE,
                    Some(out) => {
                        inputs.push(self.input(out));
                        inputs.len() as i64 - 1
                    }
                };
                let lower = Some(pb::LowerDiffInput { input: one(lower) });
                let upper = Some(pb::UpperDiffInput { input: one(upper) });
                pb::op::Op::Diff(pb::DiffOp { lower, upper })
            }
            NodeKind::Passthrough { id, inputs: read } => {
                let mut outputs = Vec::new();
                for (at, (out, is_output)) in read.iter().enumerate() {
                    inputs.push(self.input(out));
                    if *is_output {
                        outputs.push(at as i64);
                    }
                }
                pb::op::Op::Passthrough(pb::PassthroughOp { id: id.clone(), outputs })
            }
        };
        let has_platform = match &node.kind {
            NodeKind::Exec { .. } => true,
            NodeKind::Source(source) => {
                source.identifier.starts_with("docker-image://")
                    || source.identifier.starts_with("oci-layout://")
            }
            _ => false,
        };
        let platform = has_platform.then(|| platform_to_pb(node.platform.as_ref().unwrap_or(self.platform)));
        pb::Op { inputs, op: Some(op), platform, constraints: Some(pb::WorkerConstraints::default()) }
    }

    fn locate(&mut self, name: Digest, node: &Node) {
        let mut places = Vec::new();
        for location in &node.options.locations {
            let at = self
                .maps
                .iter()
                .position(|known| Arc::ptr_eq(known, &location.map) || known == &location.map)
                .unwrap_or_else(|| {
                    self.maps.push(location.map.clone());
                    self.maps.len() - 1
                });
            places.push(pb::Location { source_index: at as i32, ranges: location.ranges.clone() });
        }
        let source = self.definition.source.get_or_insert_default();
        source.locations.entry(name.to_string()).or_default().locations.extend(places);
    }

    fn finish(mut self, out: &Output) -> (pb::Definition, HashMap<Pointer, Digest>) {
        let terminal = encode_op(&pb::Op { inputs: vec![self.input(out)], ..pb::Op::default() });
        let mut caps = BTreeSet::from([caps::CONSTRAINTS, caps::PLATFORM]);
        for metadata in self.definition.metadata.values() {
            if metadata.ignore_cache {
                caps.insert(caps::META_IGNORE_CACHE);
            }
            if !metadata.description.is_empty() {
                caps.insert(caps::META_DESCRIPTION);
            }
            if metadata.export_cache.is_some() {
                caps.insert(caps::META_EXPORT_CACHE);
            }
        }
        let metadata = self.definition.metadata.entry(digest(&terminal).to_string()).or_default();
        metadata.caps.extend(caps.iter().map(|cap| ((*cap).to_owned(), true)));
        self.definition.def.push(terminal);
        let source = self.definition.source.get_or_insert_default();
        source.infos = self
            .maps
            .iter()
            .map(|map| pb::SourceInfo {
                filename: map.filename.clone(),
                data: map.data.clone(),
                definition: map.definition.clone(),
                language: map.language.clone(),
            })
            .collect();
        (self.definition, self.done)
    }
}

/// Lists the ops that a node reads, in BuildKit's order of visiting them.
fn inputs(node: &Node) -> Vec<Arc<Node>> {
    let outs: Vec<&Output> = match &node.kind {
        NodeKind::Source(_) => Vec::new(),
        NodeKind::Exec { mounts, .. } => mounts.iter().filter_map(|mount| mount.source.as_ref()).collect(),
        NodeKind::File { base, actions, .. } => {
            // The base, then the sources of the actions from the last to the first.
            let sources = actions.0.iter().rev().filter_map(|action| match action {
                Action::Copy { from, .. } => from.output(),
                _ => None,
            });
            base.iter().chain(sources).collect()
        }
        NodeKind::Merge(outs) => outs.iter().collect(),
        NodeKind::Diff { lower, upper } => lower.iter().chain(upper.iter()).collect(),
        NodeKind::Passthrough { inputs, .. } => inputs.iter().map(|(out, _)| out).collect(),
    };
    outs.into_iter().map(|out| out.node.clone()).collect()
}

fn mount_to_pb(mount: &ExecMount, input: i64, output: i64) -> pb::Mount {
    let mut out = pb::Mount {
        input,
        selector: mount.selector.clone(),
        dest: mount.target.clone(),
        output,
        readonly: mount.readonly,
        content_cache: mount.content_cache.into(),
        ..pb::Mount::default()
    };
    match &mount.kind {
        MountKind::Bind => {}
        MountKind::Cache { id, sharing } => {
            out.mount_type = pb::MountType::Cache.into();
            out.cache_opt = Some(pb::CacheOpt { id: id.clone(), sharing: (*sharing).into() });
        }
        MountKind::Tmpfs { size } => {
            out.mount_type = pb::MountType::Tmpfs.into();
            out.tmpfs_opt = Some(pb::TmpfsOpt { size: *size });
        }
    }
    out
}

/// Writes a platform as the wire form has it.
pub(crate) fn platform_to_pb(platform: &Platform) -> pb::Platform {
    pb::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
    }
}

/// Adds what a node has beside its meaning to what equal nodes had: texts and capabilities add up, the rest is the
/// latest.
fn merge_metadata(metadata: &mut pb::OpMetadata, node: &Node) {
    let options = &node.options;
    metadata.ignore_cache |= options.ignore_cache;
    let description: BTreeMap<_, _> = options.description.clone();
    metadata.description.extend(description);
    if let Some(value) = options.export_cache {
        metadata.export_cache = Some(pb::ExportCache { value });
    }
    metadata.caps.extend(node.caps.iter().map(|cap| ((*cap).to_owned(), true)));
    if options.progress_group.is_some() {
        metadata.progress_group.clone_from(&options.progress_group);
    }
    if options.linux_resources.is_some() {
        metadata.linux_resources = options.linux_resources.clone();
    }
}
