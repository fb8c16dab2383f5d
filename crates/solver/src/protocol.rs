//! What goes in and what comes out.

use crate::ids::{AskId, DemandId, Edge, FlightId, JobId, Key, Node, Nonce, Out, Pin, ResultId, VertexId};

/// What happened outside.
///
/// Every request that expects an answer gets exactly one, also if it is no longer wanted: `Pin` → [`Event::Pinned`],
/// `Key` → [`Event::Keyed`], `Find` → [`Event::Found`], `Run` → [`Event::Ran`] (after a `Stop` too), `Keep` →
/// [`Event::Kept`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<E> {
    /// Adds vertices, inputs before their readers. The demand holds them until its `Drop`, whether it reaches them or
    /// not; it need not have been opened by `Demand` yet.
    Grow {
        /// Who holds them.
        demand: DemandId,
        /// The vertices; those already there are merged.
        nodes: Vec<Node>,
    },
    /// Opens a demand: the caller waits for all targets together.
    Demand {
        /// Its name.
        demand: DemandId,
        /// For whom.
        job: JobId,
        /// What is wanted; answered in this order.
        targets: Vec<Edge>,
    },
    /// Ends a demand, whatever became of it, and lets go of what it held. This is also how a caller cancels.
    Drop {
        /// Its name.
        demand: DemandId,
    },
    /// Answers [`Request::Pin`].
    Pinned {
        /// The question.
        ask: AskId,
        /// What the source is now, or why that cannot be known.
        pin: Result<Pin, Failure<E>>,
    },
    /// Answers [`Request::Key`].
    Keyed {
        /// The question.
        ask: AskId,
        /// The key, or why there is none.
        key: Result<Key, Unkeyed<E>>,
    },
    /// Answers [`Request::Find`].
    Found {
        /// The question.
        ask: AskId,
        /// One result per output, leased by the caller until `Free` names it; or nothing.
        hit: Option<Vec<Out>>,
    },
    /// Says that a flight got its slot and really runs now. Optional; only notes follow from it.
    Begun {
        /// The flight.
        flight: FlightId,
    },
    /// Answers [`Request::Run`].
    Ran {
        /// The flight.
        flight: FlightId,
        /// How it ended.
        end: Ran<E>,
    },
    /// Answers [`Request::Keep`].
    Kept {
        /// The flight.
        flight: FlightId,
        /// The winner under the key, or why nothing could be stored.
        kept: Result<Kept, Failure<E>>,
    },
    /// Says that a result's bytes are gone or bad.
    Lost {
        /// The result; ignored where nothing is bound to it.
        result: ResultId,
    },
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ran<E> {
    /// One result per output.
    Done(Vec<Out>),
    /// It did not run: somebody else (another process) has stored its result meanwhile, and the bytes are there. Bound as
    /// if it had been found, and not to be kept.
    Found(Vec<Out>),
    /// It failed, or was stopped.
    Failed(Failure<E>),
    /// It could not begin or go on, for this input's bytes are gone: they are made again, then the vertex is evaluated
    /// again.
    Missing(ResultId),
    /// What was read is no longer what the key was made of: the vertex is keyed again.
    KeyStale,
}

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unkeyed<E> {
    /// Computing it failed.
    Failed(Failure<E>),
    /// The bytes of this input are gone.
    Missing(ResultId),
}

/// A failure of something that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure<E> {
    /// What happened; opaque here.
    pub error: E,
    /// Whether it would have happened to anybody (a command that exits with 1). Otherwise (out of memory, a secret that
    /// only this job has, stopped) only the demands of the job that ran fail, and others take over.
    pub adoptable: bool,
}

/// What is stored under a key now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// One result per output: those that [`Request::Keep`] named, or an earlier winner's. Leased until `Free`.
    pub outs: Vec<Out>,
    /// Whether these are an earlier result's, so that what depends on it may be found by key.
    pub adopted: bool,
}

/// What to do outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<E> {
    /// Find out what a source is now.
    Pin {
        /// To be repeated in the answer.
        ask: AskId,
        /// The vertex.
        vertex: VertexId,
        /// Whose session and credentials to use.
        job: JobId,
    },
    /// Compute the key of a vertex whose inputs are all bound.
    Key {
        /// To be repeated in the answer.
        ask: AskId,
        /// The vertex.
        vertex: VertexId,
        /// Whose session and credentials to use, where contents must be read.
        job: JobId,
        /// What it was pinned to.
        pin: Option<Pin>,
        /// What its inputs are bound to, in the node's order.
        inputs: Vec<ResultId>,
    },
    /// Look a key up among the records.
    Find {
        /// To be repeated in the answer.
        ask: AskId,
        /// A vertex with this key.
        vertex: VertexId,
        /// The key.
        key: Key,
        /// If set, only a record whose bytes are there is a hit (bytes were lost and are to be made again).
        need_bytes: bool,
    },
    /// Run a vertex, when there is a slot for it. The bytes of the inputs are to be made available first.
    Run {
        /// To be repeated in the answer.
        flight: FlightId,
        /// The vertex; others may join while it runs.
        vertex: VertexId,
        /// Its key.
        key: Key,
        /// Part of the flight's identity beside the key.
        nonce: Option<Nonce>,
        /// Whose session and credentials to use.
        job: JobId,
        /// What it was pinned to.
        pin: Option<Pin>,
        /// What its inputs are bound to, in the node's order.
        inputs: Vec<ResultId>,
        /// If set, bytes must be made now (they were lost), even by a source that could stay lazy.
        need_bytes: bool,
        /// The greater goes first where slots are few.
        priority: Priority,
    },
    /// Stop a run that nobody waits for any more, queued or begun. It is still answered by `Ran`.
    Stop {
        /// The flight.
        flight: FlightId,
    },
    /// Store what a run made, or adopt what was stored before.
    Keep {
        /// To be repeated in the answer.
        flight: FlightId,
        /// The vertex that ran.
        vertex: VertexId,
        /// Its key.
        key: Key,
        /// Present if the vertex ignored records: then it replaces the record and adopts nothing.
        nonce: Option<Nonce>,
        /// What it made.
        outs: Vec<Out>,
    },
    /// Let go of results: nothing here is bound to them, and no open request reads them.
    Free {
        /// Each once.
        results: Vec<ResultId>,
    },
    /// Tells a demand's outcome; again after a `Lost` made it evaluate again, until `Drop`. An error is final.
    Done {
        /// The demand.
        demand: DemandId,
        /// One result per target, or the first failure.
        result: Result<Vec<ResultId>, Failed<E>>,
    },
    /// Tells something; nothing is to be done.
    Note(Note<E>),
}

/// Why a demand failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed<E> {
    /// The vertex of this demand that failed.
    pub vertex: VertexId,
    /// What happened.
    pub error: E,
}

/// How urgent a run is: ordered by the chain that waits for it, then by how many read it directly. A hint: exact for a
/// graph that was added at once, a lower bound within an eighth for one that grew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority {
    /// Number of vertices on the longest chain of readers above it.
    pub path: u32,
    /// Number of edges that read it.
    pub readers: u32,
}

/// A fact for people and for tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note<E> {
    /// `Grow` named a vertex that was there already: one vertex in two graphs.
    Shared {
        /// The vertex.
        vertex: VertexId,
        /// Who named it again.
        demand: DemandId,
    },
    /// A vertex has the same key as another and shares its flight, open or finished.
    Merged {
        /// The vertex.
        vertex: VertexId,
        /// The one that it follows.
        with: VertexId,
    },
    /// A vertex runs, and why.
    Runs {
        /// The vertex.
        vertex: VertexId,
        /// The flight.
        flight: FlightId,
        /// Why.
        why: Why,
    },
    /// A flight got its slot; once for each vertex on it, also for those that join later.
    Started {
        /// The vertex.
        vertex: VertexId,
        /// The flight.
        flight: FlightId,
    },
    /// A record was found: the vertex did not run.
    Cached {
        /// The vertex.
        vertex: VertexId,
        /// The vertex below it that did run and made an earlier result, but for which this one would have run too.
        after: Option<VertexId>,
    },
    /// A vertex ran and made an earlier result: what depends on it can be found by key.
    CutOff {
        /// The vertex.
        vertex: VertexId,
    },
    /// A vertex ran, but what is stored under its key is something else that was there first.
    Outrun {
        /// The vertex.
        vertex: VertexId,
    },
    /// Something below was lost and made again, and the key came out the same: the vertex keeps its result.
    Unchanged {
        /// The vertex.
        vertex: VertexId,
    },
    /// A vertex is bound; follows `Cached`, `CutOff`, `Outrun`, `Merged` or `Unchanged` where one of them is the reason.
    Bound {
        /// The vertex.
        vertex: VertexId,
        /// Its key.
        key: Key,
    },
    /// A vertex is no longer bound: bytes of it, or of something below it, were lost.
    Unbound {
        /// The vertex.
        vertex: VertexId,
        /// Whether its own result is the one that was lost.
        lost: bool,
    },
    /// A vertex's flight was stopped, for no demand waits for it any more.
    Cancelled {
        /// The vertex.
        vertex: VertexId,
    },
    /// A vertex failed: pinning, keying, running or keeping it.
    Failed {
        /// The vertex.
        vertex: VertexId,
        /// What happened.
        error: E,
    },
}

/// Why a vertex runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// No record under its key.
    Missed,
    /// It ignores records.
    Forced,
    /// The bytes of its result were lost.
    Lost,
    /// Its last run found an input's bytes missing.
    InputLost,
    /// Its last run read something else than its key was made of.
    KeyStale,
    /// Its last run failed in a way that concerns only the job for which it ran, or was stopped.
    TakenOver,
}
