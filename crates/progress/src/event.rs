use cooper_oci::{Digest, Timestamp};

/// How the error of a vertex ends that was cancelled; readers of BuildKit's progress test for it.
pub const CANCELED: &str = "context canceled";

/// Something that happened in a build, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, by the clock of whoever saw it.
    pub time: Timestamp,
    /// What.
    pub kind: EventKind,
}

/// What happened. Vertices are named by their LLB digests; one is told of before anything else is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// There is this vertex.
    Vertex(Vertex),
    /// It runs now. A vertex whose result was lost starts again.
    Started {
        /// The vertex.
        vertex: Digest,
    },
    /// It is done.
    Completed {
        /// The vertex.
        vertex: Digest,
        /// It did not run: its result was there.
        cached: bool,
        /// Why it failed. What was cancelled has an error that ends in [`CANCELED`].
        error: Option<String>,
    },
    /// How far something within a vertex is.
    Status {
        /// The vertex.
        vertex: Digest,
        /// What: a layer, a file.
        id: String,
        /// How far, in bytes.
        current: u64,
        /// How far in all, in bytes, where that is known.
        total: Option<u64>,
        /// Whether it is done.
        done: bool,
    },
    /// A piece of output of a step.
    Log {
        /// The vertex.
        vertex: Digest,
        /// Which of its outputs.
        stream: Stream,
        /// The bytes as they came; lines may be cut anywhere.
        data: Vec<u8>,
    },
    /// Something that a person should look at.
    Warning(Warning),
    /// A second step is the same as an earlier one and runs once with it.
    Merged {
        /// The vertex of the earlier one.
        vertex: Digest,
        /// Where the earlier one stands: `part_1 line 6`.
        first: String,
        /// Where the second one stands.
        second: String,
    },
    /// Why a vertex runs, or why not.
    Reason {
        /// The vertex.
        vertex: Digest,
        /// In words: `no earlier result`.
        text: String,
    },
}

impl EventKind {
    /// Returns the vertex that it is about; a warning is about the source text.
    pub fn vertex(&self) -> Option<Digest> {
        match self {
            Self::Vertex(vertex) => Some(vertex.digest),
            Self::Started { vertex }
            | Self::Completed { vertex, .. }
            | Self::Status { vertex, .. }
            | Self::Log { vertex, .. }
            | Self::Merged { vertex, .. }
            | Self::Reason { vertex, .. } => Some(*vertex),
            Self::Warning(_) => None,
        }
    }
}

/// A vertex as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vertex {
    /// LLB digest.
    pub digest: Digest,
    /// Its text: `[base 2/3] COPY main.py .`
    pub name: String,
    /// What it waits for.
    pub inputs: Vec<Digest>,
    /// Stage that it belongs to.
    pub stage: Option<String>,
    /// First line of its instruction.
    pub line: Option<u32>,
}

/// Which output of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A remark about the source text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Name of the rule.
    pub rule: String,
    /// What is wrong.
    pub message: String,
    /// Name of the file.
    pub file: String,
    /// First and last line, from 1; 0 if there is none.
    pub lines: (u32, u32),
    /// Page about the rule; empty if there is none.
    pub url: String,
}
