//! From definitions to what the solver is given.

use std::collections::HashMap;
use std::sync::Arc;

use cooper_frontend::Step;
use cooper_llb::{Graph, Op, Vertex, pb};
use cooper_solver::{Edge, Node, Nonce, VertexId};

use crate::error::Error;
use crate::events::Events;
use crate::work::{edge, vertex_id};

/// The vertices of one or more definitions; equal ones are one.
#[derive(Default)]
pub(crate) struct Nodes {
    pub(crate) nodes: Vec<Node>,
    pub(crate) vertices: HashMap<VertexId, Arc<Vertex>>,
    /// Sets runs that ignore the cache apart from those of other builds.
    nonce: Option<[u8; 32]>,
}

impl Nodes {
    /// Adds the vertices of a definition, and returns its target; none is scratch. `steps` are shown for its vertices.
    ///
    /// # Errors
    ///
    /// If the definition is no graph.
    pub(crate) fn add(
        &mut self,
        definition: &pb::Definition,
        steps: &[Step],
        events: &Events,
    ) -> Result<Option<Edge>, Error> {
        let graph = Graph::new(definition).map_err(Error::Graph)?;
        events.graph(&graph.vertices, steps);
        let nonce = *self.nonce.get_or_insert_with(crate::nonce);
        let mut ids = Vec::new();
        for vertex in graph.vertices {
            let nonce = vertex.meta.ignore_cache.then_some(nonce);
            let id = vertex_id(&vertex, nonce.as_ref());
            let inputs = vertex.inputs.iter().filter_map(|input| edge(&ids, *input)).collect();
            let is_source = matches!(vertex.op, Op::Source(_));
            self.nodes.push(Node {
                vertex: id,
                inputs,
                outputs: vertex.outputs,
                pin: is_source,
                // A source is what it is; only steps can be run again.
                nonce: nonce.filter(|_| !is_source).map(Nonce),
            });
            self.vertices.insert(id, Arc::new(vertex));
            ids.push(id);
        }
        Ok(graph.root.and_then(|root| edge(&ids, root)))
    }
}
