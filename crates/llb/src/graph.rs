//! Reading a definition that somebody sent.

use std::collections::{BTreeMap, HashMap};

use cooper_oci::{Digest, Platform};

use crate::error::Error;
use crate::pb;
use crate::wire::{NONE, decode_op, digest};

/// A definition as a checked graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// All vertices, inputs before their readers.
    pub vertices: Vec<Vertex>,
    /// The result; `None` is scratch.
    pub root: Option<Edge>,
}

/// One output of a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Edge {
    /// Place of the vertex in [`Graph::vertices`].
    pub vertex: usize,
    /// Which of its outputs.
    pub output: u32,
}

/// One vertex.
#[derive(Clone, Debug, PartialEq)]
pub struct Vertex {
    /// SHA-256 of the bytes that were received for it.
    pub digest: Digest,
    /// What it does.
    pub op: Op,
    /// What it reads, in the order that the op refers to.
    pub inputs: Vec<Edge>,
    /// The platform that it is for; `None` where that makes no difference.
    pub platform: Option<Platform>,
    /// What is said about it beside its meaning.
    pub meta: pb::OpMetadata,
    /// Where it comes from: index of the text and ranges in it.
    pub locations: Vec<pb::Location>,
    /// How many outputs are read or could be: at least 1.
    pub outputs: u32,
}

impl Vertex {
    /// Returns the text that is shown for the vertex, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.meta.description.get("llb.customname").map(String::as_str)
    }
}

/// What a vertex does.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Brings files from elsewhere.
    Source(pb::SourceOp),
    /// Runs a command.
    Exec(Box<pb::ExecOp>),
    /// Does file operations.
    File(pb::FileOp),
    /// Lays results on each other; places in [`Vertex::inputs`], lowest first.
    Merge(Vec<usize>),
    /// What the upper has more than the lower; places in [`Vertex::inputs`], `None` is scratch.
    Diff {
        /// The lower.
        lower: Option<usize>,
        /// The upper.
        upper: Option<usize>,
    },
    /// Builds a definition that is in a result.
    Build(Box<pb::BuildOp>),
    /// Hands on some of its inputs and waits for the others.
    Passthrough(pb::PassthroughOp),
}

/// More outputs than any op has; it bounds what a hostile definition can make a reader allocate.
const MAX_OUTPUTS: i64 = 1 << 16;

impl Graph {
    /// Checks a definition and makes its graph.
    ///
    /// # Errors
    ///
    /// Where bytes cannot be decoded, an input does not stand before its reader, or an index points nowhere.
    pub fn new(definition: &pb::Definition) -> Result<Self, Error> {
        let Some((terminal, ops)) = definition.def.split_last() else {
            return Ok(Self { vertices: Vec::new(), root: None });
        };
        let mut graph = Self { vertices: Vec::with_capacity(ops.len()), root: None };
        let mut places: HashMap<Digest, usize> = HashMap::new();
        let locations: BTreeMap<&str, &pb::Locations> = definition
            .source
            .iter()
            .flat_map(|source| source.locations.iter().map(|(name, places)| (name.as_str(), places)))
            .collect();
        for bytes in ops {
            let name = digest(bytes);
            let op = decode_op(bytes)?;
            let inputs = edges(name, &op.inputs, &places)?;
            let text = name.to_string();
            let vertex = Vertex {
                digest: name,
                outputs: 1,
                platform: op.platform.as_ref().map(platform),
                op: checked(name, op.op, inputs.len())?,
                inputs,
                meta: definition.metadata.get(&text).cloned().unwrap_or_default(),
                locations: locations
                    .get(text.as_str())
                    .map(|places| places.locations.clone())
                    .unwrap_or_default(),
            };
            // Equal bytes twice are one vertex.
            places.entry(name).or_insert_with(|| {
                graph.vertices.push(vertex);
                graph.vertices.len() - 1
            });
        }
        let terminal_op = decode_op(terminal)?;
        let root = match (terminal_op.op, terminal_op.inputs.as_slice()) {
            (None, [input]) => edges(digest(terminal), std::slice::from_ref(input), &places)?,
            _ => return Err(Error::Terminal),
        };
        graph.root = root.first().copied();
        graph.count_outputs()?;
        Ok(graph)
    }

    fn count_outputs(&mut self) -> Result<(), Error> {
        let read: Vec<Edge> =
            self.vertices.iter().flat_map(|vertex| vertex.inputs.iter().copied()).chain(self.root).collect();
        for vertex in &mut self.vertices {
            vertex.outputs = match &vertex.op {
                Op::Exec(exec) => {
                    1 + exec.mounts.iter().map(|mount| mount.output).max().unwrap_or(0).max(0) as u32
                }
                Op::File(file) => {
                    1 + file.actions.iter().map(|action| action.output).max().unwrap_or(0).max(0) as u32
                }
                Op::Passthrough(pass) => pass.outputs.len().max(1) as u32,
                _ => 1,
            };
        }
        for edge in read {
            let vertex = self.vertices.get(edge.vertex).ok_or(Error::Terminal)?;
            if edge.output >= vertex.outputs {
                return Err(Error::Output { vertex: vertex.digest, index: i64::from(edge.output) });
            }
        }
        Ok(())
    }
}

fn edges(of: Digest, inputs: &[pb::Input], places: &HashMap<Digest, usize>) -> Result<Vec<Edge>, Error> {
    inputs
        .iter()
        .map(|input| {
            let name: Digest = input.digest.parse().map_err(|_| Error::Digest(input.digest.clone()))?;
            let vertex = *places.get(&name).ok_or(Error::Missing(of, name))?;
            if !(0..MAX_OUTPUTS).contains(&input.index) {
                return Err(Error::Output { vertex: name, index: input.index });
            }
            Ok(Edge { vertex, output: input.index as u32 })
        })
        .collect()
}

fn platform(platform: &pb::Platform) -> Platform {
    Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
        variant: platform.variant.clone(),
    }
}

/// Checks that an op refers only to inputs and outputs that there can be.
fn checked(name: Digest, op: Option<pb::op::Op>, inputs: usize) -> Result<Op, Error> {
    let check = |what, index: i64, count: usize| {
        if index == NONE || (0..count as i64).contains(&index) {
            Ok(())
        } else {
            Err(Error::Reference { vertex: name, what, inputs, index })
        }
    };
    let place = |what, index: i64| -> Result<Option<usize>, Error> {
        check(what, index, inputs)?;
        Ok(usize::try_from(index).ok())
    };
    let output = |index: i64| {
        if (NONE..MAX_OUTPUTS).contains(&index) { Ok(()) } else { Err(Error::Output { vertex: name, index }) }
    };
    Ok(match op.ok_or(Error::Empty(name))? {
        pb::op::Op::Source(source) => Op::Source(source),
        pb::op::Op::Exec(exec) => {
            if exec.meta.as_ref().is_none_or(|meta| meta.args.is_empty()) {
                return Err(Error::Exec("arguments"));
            }
            for mount in &exec.mounts {
                check("mount", mount.input, inputs)?;
                output(mount.output)?;
            }
            Op::Exec(Box::new(exec))
        }
        pb::op::Op::File(file) => {
            // An action reads inputs and, behind them, what earlier actions made.
            for (number, action) in file.actions.iter().enumerate() {
                check("action", action.input, inputs + number)?;
                check("action", action.secondary_input, inputs + number)?;
                output(action.output)?;
                if action.action.is_none() {
                    return Err(Error::Empty(name));
                }
            }
            Op::File(file)
        }
        pb::op::Op::Merge(merge) => {
            let read: Result<Vec<_>, _> =
                merge.inputs.iter().map(|read| place("merge", read.input)).collect();
            Op::Merge(read?.into_iter().flatten().collect())
        }
        pb::op::Op::Diff(diff) => Op::Diff {
            lower: place("diff", diff.lower.map_or(NONE, |lower| lower.input))?,
            upper: place("diff", diff.upper.map_or(NONE, |upper| upper.input))?,
        },
        pb::op::Op::Build(build) => {
            check("build", build.builder, inputs)?;
            Op::Build(Box::new(build))
        }
        pb::op::Op::Passthrough(pass) => {
            for index in &pass.outputs {
                check("output", *index, inputs)?;
            }
            Op::Passthrough(pass)
        }
    })
}
