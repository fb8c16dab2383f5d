//! The graph: how it grows and shrinks, who is needed, who is ready.

use std::collections::{HashMap, HashSet};

use crate::error::Misuse;
use crate::ids::{DemandId, Edge, Key, Node, Nonce, Pin, ResultId, VertexId};
use crate::protocol::{Note, Priority, Request, Why};
use crate::slab::{Handle, Slab};

use super::Solver;
use super::demands::{Demand, Hint};

/// Where a vertex is on its way to being bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing is asked for it. If it is on a flight all the same, it *lapsed*: an input was unbound, and it returns to
    /// that flight if its next key is the same.
    Idle,
    Pinning,
    /// With the serial of its question: an answer to an earlier one is void.
    Keying(u64),
    /// On a flight that is not finished.
    Flying,
    /// On a flight that is finished.
    Bound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) vertex: Handle,
    pub(super) output: u32,
}

#[derive(Debug)]
pub(super) struct Vertex {
    pub(super) id: VertexId,
    pub(super) inputs: Box<[Link]>,
    pub(super) outputs: u32,
    pub(super) pins: bool,
    pub(super) nonce: Option<Nonce>,
    pub(super) readers: Readers,
    /// One for each demand that grew it, each target and each reader: at none it leaves the graph.
    held: u32,
    /// One for each target of a live demand and each needed reader.
    pub(super) need: u32,
    /// Input edges whose vertex is not bound.
    pub(super) waiting: u32,
    /// Length of the longest chain of readers above.
    height: u32,
    /// The serial of the `Grow` that brought it.
    batch: u64,
    pub(super) hint: Option<Hint>,
    /// Live demands that want it, one entry per target.
    pub(super) targets: Vec<DemandId>,
    pub(super) pin: Option<Pin>,
    /// Made of what the inputs are bound to now.
    pub(super) key: Option<Key>,
    pub(super) stage: Stage,
    /// The flight that it is on or lapsed from.
    pub(super) flight: Option<Handle>,
    /// Its bytes were lost: metadata alone will not do until it is bound again.
    pub(super) lost: bool,
    /// Why it runs again, if it does: its last run ended without a result.
    pub(super) again: Option<Why>,
    /// The vertex below (or itself) that ran and made an earlier result.
    pub(super) cut: Option<VertexId>,
}

/// One entry per edge. Entries of readers that are gone are skipped, and swept when they are the majority: removing
/// each at once would make dropping a popular base's readers quadratic.
#[derive(Debug, Default)]
pub(super) struct Readers {
    entries: Vec<Handle>,
    live: u32,
}

impl Readers {
    /// Returns the `index`th entry, which may be gone, or nothing after the last.
    pub(super) fn at(&self, index: usize) -> Option<Handle> {
        self.entries.get(index).copied()
    }
}

impl<E: Clone> Solver<E> {
    pub(super) fn grow(
        &mut self,
        demand: DemandId,
        nodes: Vec<Node>,
        out: &mut Vec<Request<E>>,
    ) -> Result<(), Misuse> {
        self.check_nodes(&nodes)?;
        let batch = self.next_serial();
        let mut grown = Vec::with_capacity(nodes.len());
        let mut fresh = Vec::new();
        for node in nodes {
            let vertex = match self.by_id.get(&node.vertex) {
                Some(&vertex) => {
                    out.push(Request::Note(Note::Shared { vertex: node.vertex, demand }));
                    vertex
                }
                None => {
                    let vertex = self.add(node, batch);
                    fresh.push(vertex);
                    vertex
                }
            };
            self.vertices[vertex].held += 1;
            grown.push(vertex);
        }
        self.measure(&fresh, batch);
        self.demands.entry(demand).or_insert_with(|| Demand::new(batch)).held.append(&mut grown);
        Ok(())
    }

    fn check_nodes(&self, nodes: &[Node]) -> Result<(), Misuse> {
        let mut earlier: HashMap<VertexId, &Node> = HashMap::new();
        for node in nodes {
            for edge in &node.inputs {
                let outputs = match earlier.get(&edge.vertex) {
                    Some(input) => Some(input.outputs),
                    None => self.by_id.get(&edge.vertex).map(|&input| self.vertices[input].outputs),
                };
                if outputs.is_none_or(|outputs| edge.output >= outputs) {
                    return Err(Misuse::UnknownEdge(*edge));
                }
            }
            let equal = match (earlier.get(&node.vertex), self.by_id.get(&node.vertex)) {
                (Some(other), _) => *other == node,
                (None, Some(&vertex)) => self.is_node(vertex, node),
                (None, None) => true,
            };
            if !equal {
                return Err(Misuse::NodeDiffers(node.vertex));
            }
            earlier.insert(node.vertex, node);
        }
        Ok(())
    }

    fn is_node(&self, vertex: Handle, node: &Node) -> bool {
        let vertex = &self.vertices[vertex];
        let edge = |link: &Link| Edge { vertex: self.vertices[link.vertex].id, output: link.output };
        vertex.outputs == node.outputs
            && vertex.pins == node.pin
            && vertex.nonce == node.nonce
            && vertex.inputs.len() == node.inputs.len()
            && vertex.inputs.iter().zip(&node.inputs).all(|(link, other)| edge(link) == *other)
    }

    fn add(&mut self, node: Node, batch: u64) -> Handle {
        let inputs: Box<[Link]> = node
            .inputs
            .iter()
            .filter_map(|edge| Some(Link { vertex: *self.by_id.get(&edge.vertex)?, output: edge.output }))
            .collect();
        let waiting =
            inputs.iter().filter(|link| self.vertices[link.vertex].stage != Stage::Bound).count() as u32;
        let vertex = self.vertices.insert(Vertex {
            id: node.vertex,
            inputs,
            outputs: node.outputs,
            pins: node.pin,
            nonce: node.nonce,
            readers: Readers::default(),
            held: 0,
            need: 0,
            waiting,
            height: 0,
            batch,
            hint: None,
            targets: Vec::new(),
            pin: None,
            key: None,
            stage: Stage::Idle,
            flight: None,
            lost: false,
            again: None,
            cut: None,
        });
        self.by_id.insert(node.vertex, vertex);
        for index in 0..self.vertices[vertex].inputs.len() {
            let input = self.vertices[vertex].inputs[index].vertex;
            let input = &mut self.vertices[input];
            input.held += 1;
            input.readers.entries.push(vertex);
            input.readers.live += 1;
        }
        vertex
    }

    /// Gives new vertices their height, the longest chain of readers above them, and raises what is below.
    fn measure(&mut self, fresh: &[Handle], batch: u64) {
        let mut raised = Vec::new();
        // Readers first: a vertex's height is final when its turn comes.
        for &vertex in fresh.iter().rev() {
            let height = self.vertices[vertex].height + 1;
            for index in 0..self.vertices[vertex].inputs.len() {
                let input = self.vertices[vertex].inputs[index].vertex;
                if self.vertices[input].batch != batch {
                    raised.push((input, height));
                } else if self.vertices[input].height < height {
                    self.vertices[input].height = height;
                }
            }
        }
        while let Some((vertex, height)) = raised.pop() {
            let old = self.vertices[vertex].height;
            // Less than an eighth more is not passed on: a chain that grows at its end, one vertex a time, would else be
            // walked down each time.
            if height <= old + old / 8 {
                continue;
            }
            self.vertices[vertex].height = height;
            raised.extend(self.vertices[vertex].inputs.iter().map(|link| (link.vertex, height + 1)));
        }
    }

    pub(super) fn priority(&self, vertex: Handle) -> Priority {
        let vertex = &self.vertices[vertex];
        Priority { path: vertex.height, readers: vertex.readers.live }
    }

    /// Lets go of a vertex, and of what only it held.
    pub(super) fn release(&mut self, vertex: Handle, out: &mut Vec<Request<E>>) {
        let mut stack = vec![vertex];
        while let Some(vertex) = stack.pop() {
            self.vertices[vertex].held -= 1;
            if self.vertices[vertex].held > 0 {
                continue;
            }
            self.leave(vertex, out);
            let Some(removed) = self.vertices.remove(vertex) else { continue };
            debug_assert!(removed.need == 0 && removed.targets.is_empty());
            self.by_id.remove(&removed.id);
            for link in &removed.inputs {
                self.forget_reader(link.vertex);
                stack.push(link.vertex);
            }
        }
    }

    fn forget_reader(&mut self, vertex: Handle) {
        let readers = &mut self.vertices[vertex].readers;
        readers.live -= 1;
        if readers.entries.len() > 2 * readers.live as usize + 8 {
            let mut entries = std::mem::take(&mut readers.entries);
            entries.retain(|&reader| self.vertices.contains(reader));
            self.vertices[vertex].readers.entries = entries;
        }
    }

    pub(super) fn hold_vertex(&mut self, vertex: Handle) {
        self.vertices[vertex].held += 1;
    }

    /// Needs a vertex once more, and with it everything below.
    pub(super) fn need(&mut self, vertex: Handle, hint: Hint) {
        let mut stack = vec![vertex];
        while let Some(handle) = stack.pop() {
            let vertex = &mut self.vertices[handle];
            vertex.need += 1;
            if vertex.need > 1 {
                continue;
            }
            vertex.hint = Some(hint);
            if let Some(flight) = vertex.flight {
                self.flights[flight].wanted += 1;
            }
            self.queue.push_back(handle);
            stack.extend(vertex.inputs.iter().rev().map(|link| link.vertex));
        }
    }

    /// Needs a vertex once less; what nobody needs any more is stopped.
    pub(super) fn unneed(&mut self, vertex: Handle, out: &mut Vec<Request<E>>) {
        let mut stack = vec![vertex];
        while let Some(handle) = stack.pop() {
            let vertex = &mut self.vertices[handle];
            vertex.need -= 1;
            if vertex.need > 0 {
                continue;
            }
            stack.extend(vertex.inputs.iter().rev().map(|link| link.vertex));
            if let Some(flight) = vertex.flight {
                self.flights[flight].wanted -= 1;
                self.stop_if_unwanted(flight, out);
            }
        }
    }

    /// Returns what a vertex's inputs are bound to; only for vertices that wait for none.
    pub(super) fn inputs(&self, vertex: Handle) -> Vec<ResultId> {
        let result = |link: &Link| {
            let outs = self.outs_of(self.vertices[link.vertex].flight?)?;
            outs.get(link.output as usize).map(|out| out.result)
        };
        self.vertices[vertex].inputs.iter().filter_map(result).collect()
    }

    /// Finds vertices above the given ones, themselves included, that somebody needs; with the one each was reached
    /// from.
    pub(super) fn needed_above(&self, from: &[Handle]) -> Vec<(Handle, Handle)> {
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for &origin in from {
            let mut stack = vec![origin];
            while let Some(handle) = stack.pop() {
                let Some(vertex) = self.vertices.get(handle).filter(|vertex| vertex.need > 0) else {
                    continue;
                };
                if seen.insert(handle) {
                    found.push((handle, origin));
                    stack.extend(vertex.readers.entries.iter().rev());
                }
            }
        }
        found
    }
}

/// Finds any reader that is needed: there is one above every needed vertex that is not itself wanted.
pub(super) fn needed_reader(vertices: &Slab<Vertex>, vertex: &Vertex) -> Option<Handle> {
    let needed = |reader: &&Handle| vertices.get(**reader).is_some_and(|reader| reader.need > 0);
    vertex.readers.entries.iter().find(needed).copied()
}
