//! Flights: one for each key, from the search for a record to the winner that its vertices are bound to.

use std::collections::HashSet;

use crate::error::Misuse;
use crate::fault::Fault;
use crate::ids::{AskId, FlightId, JobId, Key, Nonce, Out, ResultId, VertexId};
use crate::protocol::{Note, Request, Why};
use crate::slab::Handle;

use super::Solver;
use super::answers::Ask;
use super::graph::Stage;

#[derive(Debug)]
pub(super) struct Flight {
    pub(super) key: (Key, Option<Nonce>),
    /// Who opened it or runs on it: others were merged with that vertex.
    pub(super) leader: VertexId,
    pub(super) outputs: u32,
    /// Vertices that came aboard; those whose `flight` is another one have left.
    members: Vec<Handle>,
    /// How many are still aboard, lapsed ones included.
    aboard: u32,
    /// How many of them somebody needs.
    pub(super) wanted: u32,
    pub(super) phase: Phase,
    /// What an open run reads.
    pub(super) inputs: Vec<ResultId>,
    /// Whether its result was made here.
    pub(super) ran: bool,
}

#[derive(Debug)]
pub(super) enum Phase {
    Finding,
    Running(Run),
    /// What ran is being stored.
    Keeping(Run, Vec<Out>),
    Finished(Vec<Out>),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) id: FlightId,
    pub(super) job: JobId,
    /// The serial at which it was asked for.
    pub(super) since: u64,
    pub(super) begun: bool,
    pub(super) stopping: bool,
}

/// How a flight came by its outputs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Found { need_bytes: bool },
    Ran { adopted: bool },
}

impl<E: Clone> Solver<E> {
    /// Puts a vertex on the flight of its key: the one it lapsed from, another's, or a new one.
    pub(super) fn board(&mut self, handle: Handle, key: Key, out: &mut Vec<Request<E>>) {
        let vertex = &self.vertices[handle];
        let (id, lapsed) = (vertex.id, vertex.flight);
        let nonce = if self.has(Fault::NoNonce) { None } else { vertex.nonce };
        let name = (key, nonce);
        let mut flight = self.by_key.get(&name).copied();
        if self.has(Fault::NoDedupe) && flight != lapsed {
            flight = None;
        }
        if self.has(Fault::KeepAnyway) && lapsed.is_some() {
            flight = lapsed;
        }
        if let (Some(flight), Some(lapsed)) = (flight, lapsed)
            && flight == lapsed
        {
            if matches!(self.flights[flight].phase, Phase::Finished(_)) {
                out.push(Request::Note(Note::Unchanged { vertex: id }));
                self.vertices[handle].cut = self.cut_below(handle);
                self.bind(handle, flight, out);
            } else {
                self.vertices[handle].stage = Stage::Flying;
            }
            return;
        }
        self.leave(handle, out);
        // A lost vertex may join one that was found by metadata alone: if its bytes are gone too, that is told as any loss.
        match flight {
            Some(flight) => self.join(handle, flight, out),
            None => self.open_flight(handle, name, out),
        }
    }

    fn join(&mut self, handle: Handle, to: Handle, out: &mut Vec<Request<E>>) {
        self.come_aboard(handle, to);
        let (flight, vertex) = (&self.flights[to], self.vertices[handle].id);
        if flight.leader != vertex {
            out.push(Request::Note(Note::Merged { vertex, with: flight.leader }));
        }
        match flight.phase {
            Phase::Finished(_) => {
                self.vertices[handle].cut = self.cut_below(handle);
                self.bind(handle, to, out);
            }
            Phase::Running(Run { id, begun: true, stopping: false, .. }) => {
                out.push(Request::Note(Note::Started { vertex, flight: id }));
            }
            _ => {}
        }
    }

    fn come_aboard(&mut self, handle: Handle, to: Handle) {
        let vertex = &mut self.vertices[handle];
        vertex.stage = Stage::Flying;
        vertex.flight = Some(to);
        let flight = &mut self.flights[to];
        flight.members.push(handle);
        flight.aboard += 1;
        flight.wanted += u32::from(vertex.need > 0);
        // Those who left are swept when they are the majority.
        if flight.members.len() > 2 * flight.aboard as usize + 8 {
            let members = self.members(to);
            self.flights[to].members = members;
        }
    }

    fn is_aboard(&self, member: Handle, flight: Handle) -> bool {
        self.vertices.get(member).is_some_and(|vertex| vertex.flight == Some(flight))
    }

    fn open_flight(&mut self, handle: Handle, name: (Key, Option<Nonce>), out: &mut Vec<Request<E>>) {
        let vertex = &self.vertices[handle];
        let (id, forced, need_bytes) = (vertex.id, vertex.nonce.is_some(), vertex.lost);
        let flight = self.flights.insert(Flight {
            key: name,
            leader: id,
            outputs: vertex.outputs,
            members: Vec::new(),
            aboard: 0,
            wanted: 0,
            phase: Phase::Finding,
            inputs: Vec::new(),
            ran: false,
        });
        self.by_key.insert(name, flight);
        self.come_aboard(handle, flight);
        if forced {
            self.launch(flight, handle, out);
        } else {
            self.find(flight, id, need_bytes, out);
        }
    }

    pub(super) fn find(
        &mut self,
        flight: Handle,
        vertex: VertexId,
        need_bytes: bool,
        out: &mut Vec<Request<E>>,
    ) {
        let ask = AskId(self.next_serial());
        self.asks.insert(ask, Ask::Find { flight, need_bytes });
        out.push(Request::Find { ask, vertex, key: self.flights[flight].key.0, need_bytes });
    }

    pub(super) fn launch(&mut self, handle: Handle, leader: Handle, out: &mut Vec<Request<E>>) {
        let (id, job, inputs) = (FlightId(self.next_serial()), self.job_for(leader), self.inputs(leader));
        inputs.iter().for_each(|&input| self.hold(input));
        let priority = self.priority(leader);
        let members = self.attached(handle);
        let need_bytes = members.iter().any(|&member| self.vertices[member].lost);
        let leader_id = self.vertices[leader].id;
        let flight = &mut self.flights[handle];
        flight.leader = leader_id;
        flight.phase = Phase::Running(Run { id, job, since: id.0, begun: false, stopping: false });
        flight.inputs.clone_from(&inputs);
        let (key, nonce) = flight.key;
        self.runs.insert(id, handle);
        for member in members {
            let vertex = &self.vertices[member];
            let why = match vertex.again {
                Some(why) => why,
                None if vertex.lost => Why::Lost,
                None if vertex.nonce.is_some() => Why::Forced,
                None => Why::Missed,
            };
            out.push(Request::Note(Note::Runs { vertex: vertex.id, flight: id, why }));
        }
        let (vertex, pin) = (leader_id, self.vertices[leader].pin);
        out.push(Request::Run { flight: id, vertex, key, nonce, job, pin, inputs, need_bytes, priority });
    }

    pub(super) fn finish(&mut self, handle: Handle, outs: Vec<Out>, how: How, out: &mut Vec<Request<E>>) {
        let made = match &self.flights[handle].phase {
            Phase::Keeping(_, made) => Some(*made == outs),
            _ => None,
        };
        self.put_down(handle);
        let bytes = how != How::Found { need_bytes: false };
        self.finished_with(handle, &outs, bytes);
        let flight = &mut self.flights[handle];
        flight.phase = Phase::Finished(outs);
        flight.ran = matches!(how, How::Ran { .. });
        for member in self.attached(handle) {
            let vertex = self.vertices[member].id;
            let cut = match how {
                How::Ran { adopted: false } => None,
                How::Ran { adopted: true } if made == Some(false) => {
                    out.push(Request::Note(Note::Outrun { vertex }));
                    None
                }
                How::Ran { adopted: true } => {
                    out.push(Request::Note(Note::CutOff { vertex }));
                    Some(vertex)
                }
                How::Found { .. } => {
                    let after = self.cut_below(member);
                    out.push(Request::Note(Note::Cached { vertex, after }));
                    after
                }
            };
            self.vertices[member].cut = cut;
            self.bind(member, handle, out);
        }
        if self.flights[handle].aboard == 0 {
            self.remove_flight(handle);
        }
    }

    fn bind(&mut self, handle: Handle, flight: Handle, out: &mut Vec<Request<E>>) {
        let key = self.flights[flight].key.0;
        let vertex = &mut self.vertices[handle];
        vertex.stage = Stage::Bound;
        vertex.lost = false;
        vertex.again = None;
        out.push(Request::Note(Note::Bound { vertex: vertex.id, key }));
        let mut index = 0;
        while let Some(reader) = self.vertices[handle].readers.at(index) {
            index += 1;
            let last = self.vertices[handle].readers.at(index).is_none();
            let Some(reader_vertex) = self.vertices.get_mut(reader) else { continue };
            reader_vertex.waiting -= 1;
            if reader_vertex.waiting == 0 && !(last && index > 1 && self.has(Fault::Asleep)) {
                self.queue.push_back(reader);
            }
        }
        for index in 0..self.vertices[handle].targets.len() {
            self.target_bound(self.vertices[handle].targets[index], out);
        }
    }

    fn cut_below(&self, handle: Handle) -> Option<VertexId> {
        self.vertices[handle].inputs.iter().find_map(|link| self.vertices[link.vertex].cut)
    }

    /// Returns who is aboard, lapsed vertices included.
    pub(super) fn members(&self, flight: Handle) -> Vec<Handle> {
        let Flight { members, aboard, .. } = &self.flights[flight];
        let mut members = members.clone();
        if members.len() == *aboard as usize {
            return members;
        }
        // Some have left, or left and come back.
        let mut seen = HashSet::new();
        members.retain(|&member| self.is_aboard(member, flight) && seen.insert(member));
        members
    }

    /// Returns who waits for a flight that is not finished: aboard with the key of today.
    pub(super) fn attached(&self, flight: Handle) -> Vec<Handle> {
        let mut members = self.members(flight);
        members.retain(|&member| self.vertices[member].stage == Stage::Flying);
        members
    }

    /// Takes a vertex off its flight. A flight that loses its last vertex is gone, once it has no open request.
    pub(super) fn leave(&mut self, handle: Handle, out: &mut Vec<Request<E>>) {
        let vertex = &mut self.vertices[handle];
        let needed = vertex.need > 0;
        let Some(left) = vertex.flight.take() else { return };
        let flight = &mut self.flights[left];
        flight.aboard -= 1;
        flight.wanted -= u32::from(needed);
        let empty = flight.aboard == 0;
        match flight.phase {
            Phase::Finding | Phase::Finished(_) if empty => self.remove_flight(left),
            _ => self.stop_if_unwanted(left, out),
        }
    }

    pub(super) fn stop_if_unwanted(&mut self, handle: Handle, out: &mut Vec<Request<E>>) {
        let eager = self.has(Fault::EagerStop);
        let lost = self.has(Fault::LostCancel);
        let flight = &mut self.flights[handle];
        let Phase::Running(run) = &mut flight.phase else { return };
        if run.stopping || (flight.wanted > 0 && !eager) || lost {
            return;
        }
        run.stopping = true;
        let flight = run.id;
        for member in self.members(handle) {
            out.push(Request::Note(Note::Cancelled { vertex: self.vertices[member].id }));
        }
        out.push(Request::Stop { flight });
    }

    /// Ends a flight without a result, and returns the vertices that waited for it: they will be evaluated again, for
    /// the given reason if one of them runs again.
    pub(super) fn dissolve(&mut self, handle: Handle, again: Option<Why>) -> Vec<Handle> {
        let waiting = self.attached(handle);
        for member in self.members(handle) {
            let vertex = &mut self.vertices[member];
            vertex.flight = None;
            if vertex.stage == Stage::Flying {
                vertex.stage = Stage::Idle;
                vertex.again = again;
                self.queue.push_back(member);
            }
        }
        self.remove_flight(handle);
        waiting
    }

    /// Lets go of what an open run held.
    fn put_down(&mut self, handle: Handle) {
        let flight = &mut self.flights[handle];
        let inputs = std::mem::take(&mut flight.inputs);
        let outs = match &mut flight.phase {
            Phase::Running(run) => {
                self.runs.remove(&run.id);
                Vec::new()
            }
            Phase::Keeping(run, outs) => {
                self.runs.remove(&run.id);
                std::mem::take(outs)
            }
            Phase::Finding | Phase::Finished(_) => Vec::new(),
        };
        inputs.into_iter().for_each(|input| self.let_go(input));
        self.let_go_outs(&outs);
    }

    pub(super) fn remove_flight(&mut self, handle: Handle) {
        self.put_down(handle);
        let Some(flight) = self.flights.remove(handle) else { return };
        if self.by_key.get(&flight.key) == Some(&handle) {
            self.by_key.remove(&flight.key);
        }
        if let Phase::Finished(outs) = flight.phase {
            self.no_longer_with(&outs);
        }
    }
}

impl Flight {
    pub(super) fn check(&self, outs: &[Out]) -> Result<(), Misuse> {
        if outs.len() == self.outputs as usize {
            return Ok(());
        }
        Err(Misuse::Outputs { vertex: self.leader, expected: self.outputs, given: outs.len() })
    }
}
