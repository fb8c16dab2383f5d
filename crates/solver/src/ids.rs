//! Names: fixed-size values whose meaning only the caller knows.

use std::fmt;

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        /// Writes the first six bytes in hexadecimal: enough for a log line, not an identity.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }
    };
}

macro_rules! serial_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

hash_id! {
    /// Names a vertex: equal ids are one vertex, whoever adds it.
    ///
    /// In cooper: a hash of the LLB digest, the job's nonce if the vertex ignores the cache, and the session where a
    /// local source names none. Not to be confused with [`Key`], which two different vertices may share.
    VertexId
}
hash_id! {
    /// Names what a vertex would do with the results that its inputs are bound to: the op and the content it reads.
    ///
    /// Known only once all inputs are bound. Equal keys are one flight.
    Key
}
hash_id! {
    /// Names one result, that is the bytes of one output. Equal ids are equal bytes.
    ResultId
}
hash_id! {
    /// What a source was pinned to (a manifest digest, a commit); passed back to the caller and never read here.
    Pin
}
hash_id! {
    /// Makes a flight private to those who share it: a vertex that must run although a record may exist.
    ///
    /// In cooper: one per build that was started with `--no-cache`.
    Nonce
}
serial_id! {
    /// Names the caller for whom work is done; chosen by the caller. One job may have several demands.
    JobId
}
serial_id! {
    /// Names a demand; chosen by the caller, free again after its `Drop`.
    DemandId
}
serial_id! {
    /// Names one question (`Pin`, `Key`, `Find`); chosen by the solver and never used twice.
    AskId
}
serial_id! {
    /// Names one run of a key; chosen by the solver and never used twice.
    FlightId
}

/// One output of a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    /// The vertex.
    pub vertex: VertexId,
    /// Which of its outputs, from 0.
    pub output: u32,
}

/// One vertex as the caller describes it; never changes once added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub vertex: VertexId,
    /// What it reads, in the op's order; the same edge may occur twice.
    pub inputs: Vec<Edge>,
    /// How many outputs it has.
    pub outputs: u32,
    /// Whether it must be pinned before it can be keyed (sources).
    pub pin: bool,
    /// Present if the vertex ignores records; vertices with equal keys and equal nonces still run once.
    pub nonce: Option<Nonce>,
}

/// One output of something that was run or found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Out {
    /// Its result.
    pub result: ResultId,
}
