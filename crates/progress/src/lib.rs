//! Build progress as an append-only log of events, with renderers.
//!
//! Work in progress of the crate comment.

mod event;

pub use event::{Event, EventKind, Stream, Vertex, Warning};
