//! Questions asked for vertices and flights, and what their answers lead to.

use crate::error::Misuse;
use crate::fault::Fault;
use crate::ids::{AskId, FlightId, JobId, Key, Out, Pin, ResultId};
use crate::protocol::{Failure, Kept, Note, Ran, Request, Unkeyed, Why};
use crate::slab::Handle;

use super::Solver;
use super::flights::{How, Phase, Run};
use super::graph::Stage;

/// An open question.
#[derive(Debug)]
pub(super) enum Ask {
    Pin { vertex: Handle, job: JobId },
    Key { vertex: Handle, job: JobId, inputs: Vec<ResultId> },
    Find { flight: Handle, need_bytes: bool },
}

impl<E: Clone> Solver<E> {
    /// Takes a vertex one step further, if it is needed and waits for nothing.
    pub(super) fn evaluate(&mut self, handle: Handle, out: &mut Vec<Request<E>>) {
        let Some(vertex) = self.vertices.get(handle) else { return };
        if vertex.need == 0 || vertex.waiting > 0 || vertex.stage != Stage::Idle {
            return;
        }
        let (id, pin) = (vertex.id, vertex.pin);
        if vertex.pins && pin.is_none() {
            let (ask, job) = (AskId(self.next_serial()), self.job_for(handle));
            self.vertices[handle].stage = Stage::Pinning;
            self.asks.insert(ask, Ask::Pin { vertex: handle, job });
            out.push(Request::Pin { ask, vertex: id, job });
        } else if let Some(key) = vertex.key {
            self.board(handle, key, out);
        } else {
            let (ask, job, inputs) = (AskId(self.next_serial()), self.job_for(handle), self.inputs(handle));
            self.vertices[handle].stage = Stage::Keying(ask.0);
            // The key may be made of their bytes.
            inputs.iter().for_each(|&input| self.hold(input));
            self.asks.insert(ask, Ask::Key { vertex: handle, job, inputs: inputs.clone() });
            out.push(Request::Key { ask, vertex: id, job, pin, inputs });
        }
    }

    pub(super) fn pinned(
        &mut self,
        ask: AskId,
        pin: Result<Pin, Failure<E>>,
        out: &mut Vec<Request<E>>,
    ) -> Result<(), Misuse> {
        let Some(&Ask::Pin { vertex: handle, job }) = self.asks.get(&ask) else {
            return Err(Misuse::UnknownAsk(ask));
        };
        self.asks.remove(&ask);
        let Some(vertex) = self.vertices.get_mut(handle) else { return Ok(()) };
        vertex.stage = Stage::Idle;
        self.queue.push_back(handle);
        match pin {
            Ok(pin) => vertex.pin = Some(pin),
            Err(failure) => self.fail(&[handle], &failure, job, out),
        }
        Ok(())
    }

    pub(super) fn keyed(
        &mut self,
        ask: AskId,
        key: Result<Key, Unkeyed<E>>,
        out: &mut Vec<Request<E>>,
    ) -> Result<(), Misuse> {
        let Some(&Ask::Key { vertex: handle, job, .. }) = self.asks.get(&ask) else {
            return Err(Misuse::UnknownAsk(ask));
        };
        // An input was unbound meanwhile, or the vertex is gone: the answer is void.
        let void = self.has(Fault::VoidKey);
        let current = self.vertices.get(handle).filter(|vertex| match vertex.stage {
            Stage::Keying(current) => current == ask.0 || void,
            _ => false,
        });
        if let (Some(vertex), Ok(key)) = (current, &key)
            && let Some(flight) = self.by_key.get(&(*key, vertex.nonce))
        {
            let expected = vertex.outputs;
            let given = self.flights[*flight].outputs;
            if expected != given {
                return Err(Misuse::Outputs { vertex: vertex.id, expected, given: given as usize });
            }
        }
        let current = current.is_some();
        if let Some(Ask::Key { inputs, .. }) = self.asks.remove(&ask) {
            inputs.into_iter().for_each(|input| self.let_go(input));
        }
        if current {
            self.vertices[handle].stage = Stage::Idle;
            self.queue.push_back(handle);
        }
        match key {
            Ok(key) if current => self.vertices[handle].key = Some(key),
            Err(Unkeyed::Failed(failure)) if current => self.fail(&[handle], &failure, job, out),
            Err(Unkeyed::Missing(result)) if !self.made_since(result, ask.0) => self.lose(result, out),
            Ok(_) | Err(_) => {}
        }
        Ok(())
    }

    pub(super) fn found(
        &mut self,
        ask: AskId,
        hit: Option<Vec<Out>>,
        out: &mut Vec<Request<E>>,
    ) -> Result<(), Misuse> {
        let Some(&Ask::Find { flight: handle, need_bytes }) = self.asks.get(&ask) else {
            return Err(Misuse::UnknownAsk(ask));
        };
        if let (Some(flight), Some(outs)) = (self.flights.get(handle), &hit) {
            flight.check(outs)?;
        }
        self.asks.remove(&ask);
        let hit = hit.inspect(|outs| self.hold_outs(outs));
        if !self.flights.contains(handle) {
            // All left meanwhile.
            self.let_go_outs(&hit.unwrap_or_default());
            return Ok(());
        }
        let waiting = self.attached(handle);
        let lost = waiting.iter().find(|&&vertex| self.vertices[vertex].lost);
        let needed = waiting.iter().find(|&&vertex| self.vertices[vertex].need > 0);
        match (hit, lost, needed) {
            // Somebody came aboard for whom it is not enough that the record is known.
            (Some(outs), Some(&vertex), _) if !need_bytes => {
                self.let_go_outs(&outs);
                self.find(handle, self.vertices[vertex].id, true, out);
            }
            (Some(outs), ..) => self.finish(handle, outs, How::Found { need_bytes }, out),
            (None, _, Some(&vertex)) => self.launch(handle, vertex, out),
            (None, ..) => drop(self.dissolve(handle, None)),
        }
        Ok(())
    }

    pub(super) fn begun(&mut self, id: FlightId, out: &mut Vec<Request<E>>) -> Result<(), Misuse> {
        let (handle, _) = self.running(id)?;
        if let Phase::Running(run) = &mut self.flights[handle].phase {
            run.begun = true;
        }
        for member in self.attached(handle) {
            out.push(Request::Note(Note::Started { vertex: self.vertices[member].id, flight: id }));
        }
        Ok(())
    }

    fn running(&self, id: FlightId) -> Result<(Handle, Run), Misuse> {
        let handle = self.runs.get(&id).copied().ok_or(Misuse::UnknownFlight(id))?;
        match self.flights[handle].phase {
            Phase::Running(run) => Ok((handle, run)),
            _ => Err(Misuse::UnknownFlight(id)),
        }
    }

    pub(super) fn ran(&mut self, id: FlightId, end: Ran<E>, out: &mut Vec<Request<E>>) -> Result<(), Misuse> {
        let (handle, run) = self.running(id)?;
        match end {
            // Also if it was stopped too late: what is finished is kept.
            Ran::Done(outs) => {
                self.flights[handle].check(&outs)?;
                self.hold_outs(&outs);
                let flight = &self.flights[handle];
                let (key, nonce) = flight.key;
                out.push(Request::Keep { flight: id, vertex: flight.leader, key, nonce, outs: outs.clone() });
                if self.has(Fault::DoubleBind) {
                    self.finish(handle, outs, How::Ran { adopted: false }, out);
                    self.runs.insert(id, handle);
                } else {
                    self.flights[handle].phase = Phase::Keeping(run, outs);
                }
            }
            Ran::Found(outs) => {
                self.flights[handle].check(&outs)?;
                self.hold_outs(&outs);
                self.finish(handle, outs, How::Found { need_bytes: true }, out);
            }
            Ran::Failed(failure) => self.failed(handle, run, &failure, out),
            Ran::Missing(result) => {
                self.dissolve(handle, Some(Why::InputLost));
                // If the bytes were made anew since the run was asked for, it looked at the earlier ones.
                if !self.made_since(result, run.since) {
                    self.lose(result, out);
                }
            }
            Ran::KeyStale => {
                for vertex in self.dissolve(handle, Some(Why::KeyStale)) {
                    self.vertices[vertex].key = None;
                }
            }
        }
        Ok(())
    }

    pub(super) fn kept(
        &mut self,
        id: FlightId,
        kept: Result<Kept, Failure<E>>,
        out: &mut Vec<Request<E>>,
    ) -> Result<(), Misuse> {
        let handle = self.runs.get(&id).copied().ok_or(Misuse::UnknownFlight(id))?;
        if self.has(Fault::DoubleBind) {
            return self.bind_again(id, kept);
        }
        let flight = &self.flights[handle];
        let Phase::Keeping(run, _) = flight.phase else { return Err(Misuse::UnknownFlight(id)) };
        if let Ok(kept) = &kept {
            flight.check(&kept.outs)?;
        }
        match kept {
            Ok(Kept { outs, adopted }) => {
                self.hold_outs(&outs);
                self.finish(handle, outs, How::Ran { adopted }, out);
            }
            Err(failure) => self.failed(handle, run, &failure, out),
        }
        Ok(())
    }

    /// Part of a planted mistake.
    fn bind_again(&mut self, id: FlightId, kept: Result<Kept, Failure<E>>) -> Result<(), Misuse> {
        let handle = self.runs.remove(&id).filter(|&handle| self.flights.contains(handle));
        if let (Some(handle), Ok(kept)) = (handle, kept)
            && let Phase::Finished(outs) = &mut self.flights[handle].phase
        {
            let earlier = std::mem::replace(outs, kept.outs.clone());
            self.hold_outs(&kept.outs);
            self.finished_with(handle, &kept.outs, true);
            self.no_longer_with(&earlier);
        }
        Ok(())
    }

    /// Ends a flight with a failure, unless that is what stopping it looks like.
    fn failed(&mut self, handle: Handle, run: Run, failure: &Failure<E>, out: &mut Vec<Request<E>>) {
        let vertices = self.dissolve(handle, Some(Why::TakenOver));
        if failure.adoptable || !run.stopping {
            self.fail(&vertices, failure, run.job, out);
        }
    }
}
