//! What a caller can do wrong.

use std::{error, fmt};

use crate::ids::{AskId, DemandId, Edge, FlightId, VertexId};

/// An event that contradicts earlier ones: a mistake of the caller. The solver's state is as before the event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misuse {
    /// A node reads, or a demand wants, something that is not in the graph (nodes go inputs first).
    UnknownEdge(Edge),
    /// Two nodes of one name differ.
    NodeDiffers(VertexId),
    /// A demand was opened twice.
    DemandTwice(DemandId),
    /// No such demand.
    UnknownDemand(DemandId),
    /// No such open question: never asked, of another kind, or answered before.
    UnknownAsk(AskId),
    /// No such open flight, or not in the state that the event is about.
    UnknownFlight(FlightId),
    /// An answer has another number of outputs than the vertex.
    Outputs {
        /// The vertex.
        vertex: VertexId,
        /// How many it has.
        expected: u32,
        /// How many were given.
        given: usize,
    },
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misuse::UnknownEdge(edge) => {
                write!(f, "no output `{}` of a vertex `{}`", edge.output, edge.vertex)
            }
            Misuse::NodeDiffers(vertex) => write!(f, "vertex `{vertex}` was added before with other fields"),
            Misuse::DemandTwice(demand) => write!(f, "demand `{demand}` is open already"),
            Misuse::UnknownDemand(demand) => write!(f, "no demand `{demand}`"),
            Misuse::UnknownAsk(ask) => write!(f, "no open question `{ask}` of this kind"),
            Misuse::UnknownFlight(flight) => write!(f, "no open flight `{flight}` in this state"),
            Misuse::Outputs { vertex, expected, given } => {
                write!(f, "vertex `{vertex}` has {expected} outputs, {given} were given")
            }
        }
    }
}

impl error::Error for Misuse {}
