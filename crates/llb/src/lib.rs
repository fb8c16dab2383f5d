//! LLB: BuildKit's build graph as data.
//!
//! A [`State`] builds a graph op by op; [`State::marshal`] writes it as a [`pb::Definition`], byte for byte as BuildKit's
//! Go client does, so that equal builds have equal vertex digests everywhere. [`Graph`] reads a definition that somebody
//! sent and checks it; the digest of a vertex is always taken of the bytes as they were received.
//!
//! Two names that are easily confused: the *digest* of a vertex names what is to be done and on what, and is known before
//! anything has run; what it made has another name, which this crate knows nothing of.
//!
//! Left to others: what the ops mean when they run, and how a Dockerfile becomes states.
//!
//! ```
//! use cooper_llb::{Graph, Op, OpOptions, Run, State};
//!
//! let platform = "linux/amd64".parse()?;
//! let base = State::image("docker.io/library/alpine:3.19", Default::default(), OpOptions::default());
//! let run = Run { args: vec!["/bin/sh".into(), "-c".into(), "make".into()], ..Run::default() };
//! let built = base.run(run, OpOptions::default().name("build it"))?;
//!
//! let graph = Graph::new(&built.marshal(&platform))?;
//! assert_eq!(graph.vertices.len(), 2);
//! assert!(matches!(graph.vertices[1].op, Op::Exec(_)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod caps;
mod error;
mod file;
mod graph;
mod marshal;
pub mod path;
pub mod pb;
mod state;
mod text;
mod wire;

pub use error::Error;
pub use file::{CopyOptions, FileActions, Id, Owner};
pub use graph::{Edge, Graph, Op, Vertex};
pub use marshal::Marshalled;
pub use state::{
    ExecMount, MountKind, OpOptions, Output, Run, Secret, SourceLocation, SourceMap, Ssh, State,
};
pub use text::{to_dot, to_json_lines};
pub use wire::{NONE, decode_definition, decode_op, digest, encode_definition, encode_op};
