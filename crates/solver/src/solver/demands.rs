//! Demands: who waits for what, how they end, and which job a request is for.

use crate::error::Misuse;
use crate::fault::Fault;
use crate::ids::{DemandId, Edge, JobId};
use crate::protocol::{Failed, Failure, Note, Request};
use crate::slab::Handle;

use super::Solver;
use super::graph::{Link, Stage, needed_reader};

#[derive(Debug)]
pub(super) struct Demand {
    /// Tells apart two demands that used one name after another.
    serial: u64,
    state: State,
    /// What it grew and what it wants, once for each time.
    pub(super) held: Vec<Handle>,
    targets: Vec<Link>,
    /// Targets that are not bound.
    waiting: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Only grown so far.
    Closed,
    Live(JobId),
    Failed,
}

/// A demand that needed a vertex; good for as long as that demand lives, for its targets never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hint {
    demand: DemandId,
    serial: u64,
}

impl Demand {
    pub(super) fn new(serial: u64) -> Self {
        Self { serial, state: State::Closed, held: Vec::new(), targets: Vec::new(), waiting: 0 }
    }

    fn job(&self) -> Option<JobId> {
        match self.state {
            State::Live(job) => Some(job),
            State::Closed | State::Failed => None,
        }
    }
}

impl<E: Clone> Solver<E> {
    pub(super) fn open(
        &mut self,
        name: DemandId,
        job: JobId,
        targets: Vec<Edge>,
        out: &mut Vec<Request<E>>,
    ) -> Result<(), Misuse> {
        if self.demands.get(&name).is_some_and(|demand| demand.state != State::Closed) {
            return Err(Misuse::DemandTwice(name));
        }
        let mut links = Vec::with_capacity(targets.len());
        for edge in targets {
            let vertex = self.by_id.get(&edge.vertex).copied();
            let vertex = vertex.filter(|&vertex| edge.output < self.vertices[vertex].outputs);
            links.push(Link { vertex: vertex.ok_or(Misuse::UnknownEdge(edge))?, output: edge.output });
        }
        let serial = self.next_serial();
        let demand = self.demands.entry(name).or_insert_with(|| Demand::new(serial));
        demand.state = State::Live(job);
        demand.held.extend(links.iter().map(|link| link.vertex));
        demand.targets.clone_from(&links);
        let hint = Hint { demand: name, serial: demand.serial };
        let mut waiting = 0;
        for link in links {
            self.hold_vertex(link.vertex);
            self.vertices[link.vertex].targets.push(name);
            waiting += u32::from(self.vertices[link.vertex].stage != Stage::Bound);
            self.need(link.vertex, hint);
        }
        if let Some(demand) = self.demands.get_mut(&name) {
            demand.waiting = waiting;
        }
        self.done_if_bound(name, out);
        Ok(())
    }

    pub(super) fn close(&mut self, name: DemandId, out: &mut Vec<Request<E>>) -> Result<(), Misuse> {
        if !self.demands.contains_key(&name) {
            return Err(Misuse::UnknownDemand(name));
        }
        self.end(name, out);
        for vertex in self.demands.remove(&name).map(|demand| demand.held).unwrap_or_default() {
            self.release(vertex, out);
        }
        Ok(())
    }

    /// Makes a live demand need nothing any more. It still holds its vertices, and they what they are bound to.
    fn end(&mut self, name: DemandId, out: &mut Vec<Request<E>>) {
        let Some(demand) = self.demands.get_mut(&name).filter(|demand| demand.job().is_some()) else {
            return;
        };
        demand.state = State::Failed;
        for link in std::mem::take(&mut demand.targets) {
            self.vertices[link.vertex].targets.retain(|&other| other != name);
            self.unneed(link.vertex, out);
        }
    }

    /// Tells a demand that one of its targets was bound.
    pub(super) fn target_bound(&mut self, name: DemandId, out: &mut Vec<Request<E>>) {
        if let Some(demand) = self.demands.get_mut(&name) {
            demand.waiting -= 1;
        }
        self.done_if_bound(name, out);
    }

    /// Tells a demand that one of its targets is bound no longer.
    pub(super) fn target_unbound(&mut self, name: DemandId) {
        let forever = self.has(Fault::DoneOnce);
        if let Some(demand) = self.demands.get_mut(&name) {
            demand.waiting += 1 + u32::from(forever);
        }
    }

    fn done_if_bound(&mut self, name: DemandId, out: &mut Vec<Request<E>>) {
        let Some(demand) = self.demands.get(&name).filter(|demand| demand.waiting == 0) else { return };
        let result = |link: &Link| {
            let outs = self.outs_of(self.vertices[link.vertex].flight?)?;
            outs.get(link.output as usize).map(|out| out.result)
        };
        let result = Ok(demand.targets.iter().filter_map(result).collect());
        out.push(Request::Done { demand: name, result });
    }

    /// Ends every demand that needs one of these vertices: all of them if the failure would have hit anybody, else
    /// those of the job for which it was tried.
    pub(super) fn fail(
        &mut self,
        vertices: &[Handle],
        failure: &Failure<E>,
        job: JobId,
        out: &mut Vec<Request<E>>,
    ) {
        for &vertex in vertices {
            if let Some(vertex) = self.vertices.get(vertex).filter(|vertex| vertex.need > 0) {
                out.push(Request::Note(Note::Failed { vertex: vertex.id, error: failure.error.clone() }));
            }
        }
        let mut failed = Vec::new();
        for (above, origin) in self.needed_above(vertices) {
            for &name in &self.vertices[above].targets {
                let tried_for = self.demands.get(&name).and_then(Demand::job);
                if failure.adoptable || tried_for == Some(job) {
                    failed.push((name, self.vertices[origin].id));
                }
            }
        }
        for (name, vertex) in failed {
            if self.demands.get(&name).is_none_or(|demand| demand.job().is_none()) {
                continue;
            }
            let error = failure.error.clone();
            out.push(Request::Done { demand: name, result: Err(Failed { vertex, error }) });
            self.end(name, out);
            if self.has(Fault::FailOne) {
                break;
            }
        }
    }

    /// Chooses a job among those that need a vertex, staying with the one chosen before if it still does.
    pub(super) fn job_for(&mut self, vertex: Handle) -> JobId {
        let mut path = Vec::new();
        let mut next = Some(vertex);
        while let Some(handle) = next {
            let vertex = &self.vertices[handle];
            path.push(handle);
            let hints =
                vertex.hint.into_iter().chain(vertex.targets.iter().filter_map(|&name| self.hint(name)));
            for hint in hints {
                let demand = self.demands.get(&hint.demand).filter(|demand| demand.serial == hint.serial);
                if let Some(job) = demand.and_then(Demand::job) {
                    for handle in path {
                        self.vertices[handle].hint = Some(hint);
                    }
                    return job;
                }
            }
            next = needed_reader(&self.vertices, vertex);
        }
        unreachable!("a needed vertex is below a target of a live demand")
    }

    fn hint(&self, name: DemandId) -> Option<Hint> {
        self.demands.get(&name).map(|demand| Hint { demand: name, serial: demand.serial })
    }
}
