//! Results: who holds them, and what follows when one is lost.

use crate::fault::Fault;
use crate::ids::{Out, ResultId};
use crate::protocol::{Note, Request};
use crate::slab::Handle;

use super::Solver;
use super::graph::Stage;

#[derive(Debug, Default)]
pub(super) struct Held {
    /// One for each output of a finished flight, and each use by an open request.
    count: u32,
    /// Finished flights that have it among their outputs; some may be gone.
    flights: Vec<Handle>,
    live: u32,
    /// The serial at which its bytes were last known to be there.
    made_at: u64,
}

impl<E: Clone> Solver<E> {
    pub(super) fn hold(&mut self, result: ResultId) {
        self.results.entry(result).or_default().count += 1;
    }

    pub(super) fn let_go(&mut self, result: ResultId) {
        if let Some(held) = self.results.get_mut(&result) {
            held.count -= 1;
            if held.count == 0 {
                self.loose.push(result);
            }
        }
    }

    pub(super) fn hold_outs(&mut self, outs: &[Out]) {
        outs.iter().for_each(|out| self.hold(out.result));
    }

    pub(super) fn let_go_outs(&mut self, outs: &[Out]) {
        outs.iter().for_each(|out| self.let_go(out.result));
    }

    /// Notes that a flight has finished with these outputs, which it holds.
    pub(super) fn finished_with(&mut self, flight: Handle, outs: &[Out], bytes: bool) {
        let serial = self.next_serial();
        for out in outs {
            let held = self.results.entry(out.result).or_default();
            held.flights.push(flight);
            held.live += 1;
            if bytes {
                held.made_at = serial;
            }
        }
    }

    /// Takes that back.
    pub(super) fn no_longer_with(&mut self, outs: &[Out]) {
        for out in outs {
            let Some(held) = self.results.get_mut(&out.result) else { continue };
            held.live -= 1;
            // As with readers: one result of many flights (an empty directory) must not make each removal a search.
            if held.flights.len() > 2 * held.live as usize + 8 {
                held.flights.retain(|&flight| self.flights.contains(flight));
            }
        }
        self.let_go_outs(outs);
    }

    /// Asks to free what nothing holds at the end of an event.
    pub(super) fn free(&mut self, out: &mut Vec<Request<E>>) {
        let mut results = Vec::new();
        for result in std::mem::take(&mut self.loose) {
            if self.results.get(&result).is_some_and(|held| held.count == 0) {
                self.results.remove(&result);
                results.push(result);
            }
        }
        if !results.is_empty() && !self.has(Fault::Leak) {
            out.push(Request::Free { results });
        }
    }

    /// Tells whether a result's bytes were made after the given serial.
    pub(super) fn made_since(&self, result: ResultId, serial: u64) -> bool {
        self.results.get(&result).is_some_and(|held| held.made_at > serial)
    }

    /// Unbinds everything bound to a result, and everything below that.
    pub(super) fn lose(&mut self, result: ResultId, out: &mut Vec<Request<E>>) {
        let flights = self.results.get(&result).map(|held| held.flights.clone()).unwrap_or_default();
        for flight in flights {
            if self.flights.contains(flight) {
                self.lose_flight(flight, out);
            }
        }
    }

    /// Takes away a finished flight whose bytes are gone.
    pub(super) fn lose_flight(&mut self, flight: Handle, out: &mut Vec<Request<E>>) {
        let members = self.members(flight);
        let forget = self.has(Fault::ForgetLoss);
        self.remove_flight(flight);
        for handle in members {
            let vertex = &mut self.vertices[handle];
            vertex.flight = None;
            vertex.lost = !forget;
            self.queue.push_back(handle);
            if vertex.stage == Stage::Bound {
                vertex.stage = Stage::Idle;
                out.push(Request::Note(Note::Unbound { vertex: vertex.id, lost: true }));
                self.unbind_readers(handle, out);
            }
        }
    }

    /// Tells everything above a vertex that is bound no longer. What was bound or under way there lapses: it comes back
    /// to its flight if its next key is the same.
    fn unbind_readers(&mut self, vertex: Handle, out: &mut Vec<Request<E>>) {
        let mut stack = vec![vertex];
        while let Some(handle) = stack.pop() {
            for index in 0..self.vertices[handle].targets.len() {
                self.target_unbound(self.vertices[handle].targets[index]);
            }
            let mut index = 0;
            while let Some(reader) = self.vertices[handle].readers.at(index) {
                index += 1;
                let (spared, wrong_key) = (self.is_spared(reader), self.has(Fault::WrongKey));
                let Some(vertex) = self.vertices.get_mut(reader) else { continue };
                vertex.waiting += 1;
                if spared {
                    continue;
                }
                if !wrong_key {
                    vertex.key = None;
                }
                match vertex.stage {
                    Stage::Bound => {
                        vertex.stage = Stage::Idle;
                        out.push(Request::Note(Note::Unbound { vertex: vertex.id, lost: false }));
                        stack.push(reader);
                    }
                    Stage::Flying | Stage::Keying(_) => vertex.stage = Stage::Idle,
                    Stage::Idle | Stage::Pinning => {}
                }
            }
        }
    }

    /// Part of a planted mistake.
    fn is_spared(&self, reader: Handle) -> bool {
        self.has(Fault::UnbindHitsOnly)
            && self.vertices.get(reader).is_some_and(|vertex| {
                vertex.stage == Stage::Bound && vertex.flight.is_some_and(|flight| self.flights[flight].ran)
            })
    }
}
