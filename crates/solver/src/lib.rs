//! Decides what to do next in a content-addressed graph: one key a vertex, one flight a key.
//!
//! The solver is a state machine: [`Solver::handle`] takes one [`Event`] and appends [`Request`]s. It holds no thread,
//! no clock, no file and no limit on what runs at the same time, and it knows nothing of what a vertex does or what a
//! result is: ids, keys and results are 32 opaque bytes each, errors are the caller's type. The caller leaves to it
//! what may start, what is the same as something else, what must be stopped, made again or let go of; it leaves to the
//! caller everything that takes time.
//!
//! # How a vertex gets its result
//!
//! A vertex that somebody needs starts as soon as its own inputs are *bound*, that is have one fixed result each:
//!
//! 1. `Pin` (sources only): find out what it is now.
//! 2. `Key`: the caller hashes the op and the content that it reads of the inputs' results.
//! 3. Vertices with one key (and one nonce) share one *flight*, from here on and also after it has finished.
//! 4. `Find`: is there a record under the key? A vertex with a nonce skips this.
//! 5. `Run`, if there is none. Here the bytes of the inputs are needed for the first time: a graph of which everything
//!    is on record is bound from keys alone.
//! 6. `Keep`: store what ran, or adopt what was stored first. All vertices of the flight are bound to the *winner*, and
//!    only now does anybody above see it.
//!
//! Two ids that are easily confused: a [`VertexId`] says what a vertex is in the graph (equal ids are one vertex, in
//! however many graphs it occurs), a [`Key`] what it would do with these inputs (equal keys run once).
//!
//! # Rules
//!
//! - In all that is done for demands, every reader of a vertex sees the same result of it.
//! - `Lost` unbinds the vertices with that result and everything above them. What was bound above keeps its result if
//!   its next key is the same; a run that is under way is joined again then, and stopped if nobody comes back to it.
//! - A failure ends *demands*: all that need the vertex if it is adoptable, else those of the job that tried. What only
//!   they needed is stopped; what finishes all the same is kept. The others go on.
//! - Dropping a demand is how a caller cancels. A `Stop`ped run still gets its answer; whoever wants it again meanwhile
//!   waits for that.
//! - Every question is answered exactly once, and no answer is awaited before another is taken in: any order will do.
//! - A result that an answer names is the solver's until a `Free` names it. (A lease taken for an answer that the solver
//!   has not seen yet is not meant by an earlier `Free`.)
//!
//! # Example
//!
//! A complete runner, which does at once what it is asked for. A real one hands `Run` to threads or tasks, highest
//! [`Priority`] first, and feeds the answers back as they come: see `examples/make.rs`.
//!
//! ```
//! use std::collections::HashMap;
//! use std::hash::{DefaultHasher, Hash, Hasher};
//!
//! use cooper_solver::{
//!     DemandId, Edge, Event, JobId, Kept, Key, Node, Note, Out, Ran, Request, ResultId, Solver, VertexId,
//! };
//!
//! // Vertices compute numbers: `ops` says how, and a result's id is the number itself.
//! fn id(number: u64) -> [u8; 32] {
//!     let mut bytes = [0; 32];
//!     bytes[..8].copy_from_slice(&number.to_le_bytes());
//!     bytes
//! }
//! fn value(result: &ResultId) -> u64 {
//!     result.0[..8].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
//! }
//! fn sum(inputs: &[u64]) -> u64 {
//!     inputs.iter().sum()
//! }
//! fn two(_: &[u64]) -> u64 {
//!     2
//! }
//! type Op = (&'static str, fn(&[u64]) -> u64, &'static [u64]);
//! let ops: HashMap<VertexId, Op> = HashMap::from([
//!     (VertexId(id(1)), ("two", two as fn(&[u64]) -> u64, &[][..])),
//!     (VertexId(id(2)), ("sum", sum, &[1, 1])),
//!     (VertexId(id(3)), ("sum", sum, &[1, 1])), // another vertex that does the same
//!     (VertexId(id(4)), ("sum", sum, &[2, 3])),
//! ]);
//! let edge = |vertex: u64| Edge { vertex: VertexId(id(vertex)), output: 0 };
//! let nodes = (1..=4).map(|vertex| {
//!     let vertex = VertexId(id(vertex));
//!     let inputs = ops[&vertex].2.iter().map(|&input| edge(input)).collect();
//!     Node { vertex, inputs, outputs: 1, pin: false, nonce: None }
//! });
//!
//! let mut solver: Solver<String> = Solver::new();
//! let mut records: HashMap<Key, Vec<Out>> = HashMap::new(); // would be on disk
//! let (mut ran, mut merged, mut answer) = (0, 0, None);
//!
//! let demand = DemandId(1);
//! let mut events = vec![
//!     Event::Demand { demand, job: JobId(1), targets: vec![edge(4)] },
//!     Event::Grow { demand, nodes: nodes.collect() },
//! ];
//! let mut requests = Vec::new();
//! while let Some(event) = events.pop() {
//!     solver.handle(event, &mut requests)?;
//!     for request in requests.drain(..) {
//!         match request {
//!             Request::Key { ask, vertex, inputs, .. } => {
//!                 let mut hasher = DefaultHasher::new();
//!                 (ops[&vertex].0, inputs).hash(&mut hasher);
//!                 events.push(Event::Keyed { ask, key: Ok(Key(id(hasher.finish()))) });
//!             }
//!             Request::Find { ask, key, .. } => {
//!                 events.push(Event::Found { ask, hit: records.get(&key).cloned() });
//!             }
//!             Request::Run { flight, vertex, inputs, .. } => {
//!                 ran += 1;
//!                 let inputs: Vec<u64> = inputs.iter().map(value).collect();
//!                 let result = ResultId(id(ops[&vertex].1(&inputs)));
//!                 events.push(Event::Ran { flight, end: Ran::Done(vec![Out { result }]) });
//!             }
//!             Request::Keep { flight, key, outs, .. } => {
//!                 let adopted = records.contains_key(&key);
//!                 let outs = records.entry(key).or_insert(outs).clone();
//!                 events.push(Event::Kept { flight, kept: Ok(Kept { outs, adopted }) });
//!             }
//!             Request::Done { result, .. } => answer = result.ok().map(|results| value(&results[0])),
//!             Request::Note(Note::Merged { .. }) => merged += 1,
//!             Request::Note(_) | Request::Free { .. } | Request::Stop { .. } => {}
//!             Request::Pin { .. } => unreachable!("no vertex here is a source"),
//!         }
//!     }
//! }
//! assert_eq!((answer, ran, merged), (Some(8), 3, 1));
//! # Ok::<(), cooper_solver::Misuse>(())
//! ```

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
