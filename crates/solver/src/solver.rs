//! The solver's state and its one entry.

mod answers;
mod demands;
mod flights;
mod graph;
mod results;

use std::collections::{HashMap, VecDeque};

use crate::error::Misuse;
use crate::fault::Fault;
use crate::ids::{AskId, DemandId, FlightId, Key, Nonce, Out, ResultId, VertexId};
use crate::protocol::{Event, Request};
use crate::slab::{Handle, Slab};

use answers::Ask;
use demands::Demand;
use flights::{Flight, Phase};
use graph::{Stage, Vertex};
use results::Held;

/// Decides what to do next. Generic over the caller's error `E`, which it only hands on.
///
/// It holds no thread, no clock and no limit: whoever owns it feeds it events one at a time and carries out what it
/// asks for. The same events in the same order give the same requests.
#[derive(Debug)]
pub struct Solver<E> {
    vertices: Slab<Vertex>,
    by_id: HashMap<VertexId, Handle>,
    flights: Slab<Flight>,
    /// Open and finished flights. A key leaves when its flight is dissolved, not when it finishes: that is what makes
    /// equal vertices one run even if the second gets its key after the first is done.
    by_key: HashMap<(Key, Option<Nonce>), Handle>,
    demands: HashMap<DemandId, Demand>,
    asks: HashMap<AskId, Ask>,
    runs: HashMap<FlightId, Handle>,
    results: HashMap<ResultId, Held>,
    /// Results that nothing holds since this event began, if that is still so when it ends.
    loose: Vec<ResultId>,
    /// Vertices that may have become ready.
    queue: VecDeque<Handle>,
    /// Counts asks, flights and demands, and orders runs and results in time.
    serial: u64,
    fault: Option<Fault>,
    error: std::marker::PhantomData<E>,
}

impl<E: Clone> Default for Solver<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Clone> Solver<E> {
    /// Makes an empty solver.
    pub fn new() -> Self {
        Self {
            vertices: Slab::new(),
            by_id: HashMap::new(),
            flights: Slab::new(),
            by_key: HashMap::new(),
            demands: HashMap::new(),
            asks: HashMap::new(),
            runs: HashMap::new(),
            results: HashMap::new(),
            loose: Vec::new(),
            queue: VecDeque::new(),
            serial: 0,
            fault: None,
            error: std::marker::PhantomData,
        }
    }

    #[cfg(test)]
    pub(crate) fn with_fault(fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::new() }
    }

    /// Takes in one event and appends what is to be done to `requests`, in order.
    ///
    /// # Errors
    /// [`Misuse`] where the event contradicts earlier ones; nothing is changed and nothing appended then.
    pub fn handle(&mut self, event: Event<E>, requests: &mut Vec<Request<E>>) -> Result<(), Misuse> {
        match event {
            Event::Grow { demand, nodes } => self.grow(demand, nodes, requests)?,
            Event::Demand { demand, job, targets } => self.open(demand, job, targets, requests)?,
            Event::Drop { demand } => self.close(demand, requests)?,
            Event::Pinned { ask, pin } => self.pinned(ask, pin, requests)?,
            Event::Keyed { ask, key } => self.keyed(ask, key, requests)?,
            Event::Found { ask, hit } => self.found(ask, hit, requests)?,
            Event::Begun { flight } => self.begun(flight, requests)?,
            Event::Ran { flight, end } => self.ran(flight, end, requests)?,
            Event::Kept { flight, kept } => self.kept(flight, kept, requests)?,
            Event::Lost { result } => self.lose(result, requests),
        }
        while let Some(vertex) = self.queue.pop_front() {
            self.evaluate(vertex, requests);
        }
        self.free(requests);
        Ok(())
    }

    /// Returns what a vertex is bound to, one entry per output, or nothing if it is not bound or not there.
    pub fn outs(&self, vertex: &VertexId) -> Option<&[Out]> {
        let vertex = &self.vertices[*self.by_id.get(vertex)?];
        match (vertex.stage, vertex.flight) {
            (Stage::Bound, Some(flight)) => self.outs_of(flight),
            _ => None,
        }
    }

    /// Returns a vertex's key, or nothing as long as it has none or is not there.
    pub fn key(&self, vertex: &VertexId) -> Option<Key> {
        self.vertices[*self.by_id.get(vertex)?].key
    }

    /// Returns the number of vertices held.
    pub fn vertices(&self) -> usize {
        self.vertices.len()
    }

    /// Returns the number of requests that have not been answered.
    pub fn unanswered(&self) -> usize {
        self.asks.len() + self.runs.len()
    }

    fn outs_of(&self, flight: Handle) -> Option<&[Out]> {
        match &self.flights.get(flight)?.phase {
            Phase::Finished(outs) => Some(outs),
            _ => None,
        }
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    #[cfg(test)]
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Without tests there are no faults, and the optimizer sees it.
    #[cfg(not(test))]
    #[allow(clippy::unused_self)] // the same call as in tests
    fn has(&self, _: Fault) -> bool {
        debug_assert!(self.fault.is_none());
        false
    }
}
