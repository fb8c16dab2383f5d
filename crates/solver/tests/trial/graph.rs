//! The random ops of a trial: what they read, make and do wrong.

use crate::{Edge, Key, Node, Nonce, Pin, ResultId, VertexId};

use super::rng::{Rng, mix, wide};

/// What part of an input's content an op reads: keys may be equal where results differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    Left,
    Right,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A function of its key.
    Pure,
    /// Makes one of a few results, whichever.
    Noisy,
    /// Fails for anybody.
    Fails,
    /// Fails for jobs of this parity, and only for them.
    FailsFor(u64),
}

#[derive(Clone, Debug)]
pub(crate) struct Op {
    /// Equal codes are equal ops: twins have different vertex ids and may have equal keys.
    pub(crate) code: u64,
    pub(crate) inputs: Vec<(usize, u32, Reads)>,
    pub(crate) outputs: u32,
    pub(crate) source: bool,
    pub(crate) nonce: Option<u64>,
    pub(crate) kind: Kind,
    /// Its key is made of bytes of its inputs.
    pub(crate) key_reads: bool,
    /// Ops of one salt can make equal results.
    salt: u64,
}

/// How wild a trial is, in percent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chances {
    pub(crate) forced: u64,
    pub(crate) noisy: u64,
    pub(crate) fails: u64,
    pub(crate) fails_for: u64,
    pub(crate) twin: u64,
    pub(crate) several: u64,
}

pub(crate) fn random_ops(rng: &mut Rng, count: usize, chances: Chances, salts: u64) -> Vec<Op> {
    let mut ops: Vec<Op> = Vec::with_capacity(count);
    for index in 0..count {
        let op = if index > 0 && rng.percent(chances.twin) {
            let mut twin = ops[rng.below(index)].clone();
            for input in &mut twin.inputs {
                let code = ops[input.0].code;
                let twins: Vec<usize> = (0..index).filter(|&other| ops[other].code == code).collect();
                input.0 = twins[rng.below(twins.len())];
            }
            if rng.percent(chances.forced) {
                twin.nonce = Some(1 + rng.next() % 2);
            }
            twin
        } else {
            random_op(rng, &ops, chances, salts)
        };
        ops.push(op);
    }
    ops
}

fn random_op(rng: &mut Rng, ops: &[Op], chances: Chances, salts: u64) -> Op {
    let index = ops.len();
    let wanted = if rng.percent(12) { 0 } else { [1, 1, 1, 2, 2, 3, 4][rng.below(7)] };
    let mut inputs = Vec::new();
    for _ in 0..if index == 0 { 0 } else { wanted } {
        // Mostly near ones: that makes long chains with diamonds rather than a bush.
        let reach = if rng.percent(70) { index.min(5) } else { index };
        let input = index - 1 - rng.below(reach);
        let output = rng.below(ops[input].outputs as usize) as u32;
        inputs.push((input, output, [Reads::Left, Reads::Right, Reads::Both][rng.below(3)]));
    }
    let kind = match rng.next() % 100 {
        roll if roll < chances.fails => Kind::Fails,
        roll if roll < chances.fails + chances.fails_for => Kind::FailsFor(rng.next() % 2),
        roll if roll < chances.fails + chances.fails_for + chances.noisy => Kind::Noisy,
        _ => Kind::Pure,
    };
    let code = mix(&[index as u64, rng.next()]);
    Op {
        code,
        source: inputs.is_empty(),
        inputs,
        outputs: if rng.percent(chances.several) { 2 + rng.below(2) as u32 } else { 1 },
        nonce: rng.percent(chances.forced).then(|| 1 + rng.next() % 2),
        kind,
        key_reads: rng.percent(15),
        salt: code % salts,
    }
}

impl Op {
    pub(crate) fn node(&self, index: usize) -> Node {
        Node {
            vertex: vertex_id(index),
            inputs: self
                .inputs
                .iter()
                .map(|&(input, output, _)| Edge { vertex: vertex_id(input), output })
                .collect(),
            outputs: self.outputs,
            pin: self.source,
            nonce: self.nonce(),
        }
    }

    pub(crate) fn nonce(&self) -> Option<Nonce> {
        self.nonce.map(|nonce| Nonce(wide([nonce, 0, 0, 0])))
    }

    /// Computes the key: the op and the content that it reads. `version` stands for what is read outside the graph.
    pub(crate) fn key(&self, pin: Option<Pin>, version: u64, inputs: &[ResultId]) -> Key {
        let mut parts = vec![self.code, version, pin.map_or(0, |pin| number(&pin.0, 0))];
        for (result, (_, _, reads)) in inputs.iter().zip(&self.inputs) {
            let (left, right) = (number(&result.0, 0), number(&result.0, 1));
            match reads {
                Reads::Left => parts.extend([1, left]),
                Reads::Right => parts.extend([2, right]),
                Reads::Both => parts.extend([3, left, right]),
            }
        }
        Key(wide([mix(&parts), self.code, 0, 0]))
    }

    /// Computes one output. Contents are few, so that different keys often make one result.
    pub(crate) fn make(&self, key: Key, output: u32, noise: u64) -> ResultId {
        let noise = if self.kind == Kind::Noisy { noise % 3 } else { 0 };
        let hash = mix(&[number(&key.0, 0), u64::from(output), noise]);
        let part = |value: u64| mix(&[self.salt, value % 3]);
        ResultId(wide([part(hash), part(hash >> 8), 0, 0]))
    }

    pub(crate) fn make_all(&self, key: Key, noise: u64) -> Vec<ResultId> {
        (0..self.outputs).map(|output| self.make(key, output, noise)).collect()
    }
}

fn number(bytes: &[u8; 32], at: usize) -> u64 {
    let mut part = [0; 8];
    part.copy_from_slice(&bytes[at * 8..at * 8 + 8]);
    u64::from_le_bytes(part)
}

pub(crate) fn vertex_id(index: usize) -> VertexId {
    VertexId(wide([index as u64, 0, 0, 0]))
}

pub(crate) fn index_of(vertex: &VertexId) -> usize {
    number(&vertex.0, 0) as usize
}

/// Marks everything below what is marked.
pub(crate) fn close_downwards(ops: &[Op], marks: &mut [bool]) {
    for index in (0..ops.len()).rev() {
        if marks[index] {
            ops[index].inputs.iter().for_each(|&(input, _, _)| marks[input] = true);
        }
    }
}
