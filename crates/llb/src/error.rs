//! Why bytes are no graph, or a state cannot be marshalled.

use cooper_oci::Digest;

/// Why bytes are no graph, or a state cannot be marshalled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not the message that they should be.
    #[error("cannot decode a {what}")]
    Decode {
        /// `op` or `definition`.
        what: &'static str,
        /// What the decoder says.
        #[source]
        source: prost::DecodeError,
    },
    /// An input is no digest.
    #[error("input `{0}` is no digest")]
    Digest(String),
    /// An input is not defined before it is used.
    #[error("vertex `{0}` reads `{1}`, which the definition does not have")]
    Missing(Digest, Digest),
    /// An input names an output that cannot be.
    #[error("output index {index} of `{vertex}` is out of range")]
    Output {
        /// Whose output.
        vertex: Digest,
        /// Which.
        index: i64,
    },
    /// An op refers to an input that it does not have.
    #[error("vertex `{vertex}` has {inputs} inputs but its {what} refers to number {index}")]
    Reference {
        /// The vertex.
        vertex: Digest,
        /// `mount`, `action`, …
        what: &'static str,
        /// How many inputs it has.
        inputs: usize,
        /// What it refers to.
        index: i64,
    },
    /// The last element of a definition is not the one that names the result.
    #[error("the definition does not end in an op that names its result")]
    Terminal,
    /// An op that says nothing.
    #[error("vertex `{0}` has no op")]
    Empty(Digest),
    /// An exec without arguments or without a working directory.
    #[error("an exec needs {0}")]
    Exec(&'static str),
}
