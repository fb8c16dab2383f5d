//! Decides what to do next in a content-addressed graph: one key a vertex, one flight a key.

mod error;
mod fault;
mod ids;
mod protocol;
mod slab;
mod solver;

#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "../tests/trial/mod.rs"]
mod trial;

pub use error::Misuse;
pub use ids::{AskId, DemandId, Edge, FlightId, JobId, Key, Node, Nonce, Out, Pin, ResultId, VertexId};
pub use protocol::{Event, Failed, Failure, Kept, Note, Priority, Ran, Request, Unkeyed, Why};
pub use solver::Solver;
