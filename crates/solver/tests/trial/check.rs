//! The rules, and the obvious evaluator.

use crate::{DemandId, FlightId, Key, Nonce, Note, Out, Request, ResultId};

use super::Error;
use super::graph::{Kind, close_downwards, index_of, vertex_id};
use super::world::{Blame, Caller, Open, OpenRun, State, World};

type Checked = Result<(), String>;

fn ensure(holds: bool, wrong: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(wrong()) }
}

fn results(outs: &[Out]) -> Vec<ResultId> {
    outs.iter().map(|out| out.result).collect()
}

impl World {
    /// Which vertices are held: grown or wanted by a caller that has not dropped, or below such.
    fn held(&self) -> Vec<bool> {
        let mut marks = vec![false; self.ops.len()];
        for caller in self.callers.values() {
            caller.grown.iter().for_each(|&index| marks[index] = true);
            if caller.state != State::Grown {
                caller.targets.iter().for_each(|&(index, _)| marks[index] = true);
            }
        }
        close_downwards(&self.ops, &mut marks);
        marks
    }

    /// Which vertices are needed: those below the targets of these callers, as far as they are live.
    fn needed(&self, by: impl Fn(&Caller) -> bool) -> Vec<bool> {
        let mut marks = vec![false; self.ops.len()];
        for caller in self.callers.values().filter(|caller| caller.state == State::Live && by(caller)) {
            caller.targets.iter().for_each(|&(index, _)| marks[index] = true);
        }
        close_downwards(&self.ops, &mut marks);
        marks
    }

    fn outs(&self, index: usize) -> Option<Vec<ResultId>> {
        self.solver.outs(&vertex_id(index)).map(results)
    }

    fn key(&self, index: usize) -> Option<Key> {
        self.solver.key(&vertex_id(index))
    }

    /// What a vertex's inputs are bound to, or nothing if one is not.
    pub(crate) fn bound_inputs(&self, index: usize) -> Option<Vec<ResultId>> {
        let inputs = self.ops[index].inputs.iter();
        inputs.map(|&(input, output, _)| self.outs(input)?.get(output as usize).copied()).collect()
    }

    /// What a loss reaches may run once more.
    pub(crate) fn excuse_loss(&mut self, result: ResultId) {
        self.loss_since_sweep = true;
        let mut hit: Vec<bool> = (0..self.ops.len())
            .map(|index| self.outs(index).is_some_and(|outs| outs.contains(&result)))
            .collect();
        for index in 0..self.ops.len() {
            hit[index] |= self.ops[index].inputs.iter().any(|&(input, _, _)| hit[input]);
            self.shadows[index].excuses += u32::from(hit[index]);
        }
    }

    /// What waited for a flight that ended without a result may run once more.
    pub(crate) fn excuse_flight(&mut self, name: (Key, Option<Nonce>)) {
        for (shadow, op) in self.shadows.iter_mut().zip(&self.ops) {
            let waits = shadow.keyed.map(|(key, _)| (key, op.nonce())) == Some(name);
            shadow.excuses += u32::from(waits);
        }
    }

    /// What waited for a flight whose key is stale must be keyed again.
    pub(crate) fn forget_keys(&mut self, name: (Key, Option<Nonce>)) {
        let needed = self.needed(|_| true);
        for (index, needed) in needed.into_iter().enumerate() {
            let (keyed, nonce) = (self.shadows[index].keyed, self.ops[index].nonce());
            if needed && keyed.map(|(key, _)| (key, nonce)) == Some(name) {
                self.shadows[index].keyed = None;
            }
        }
    }

    /// Returns vertices that have this key, and whose bytes were lost.
    pub(crate) fn lost_under(&self, key: Key) -> Vec<usize> {
        let lost = |&index: &usize| {
            self.shadows[index].lost && self.ops[index].nonce.is_none() && self.key(index) == Some(key)
        };
        (0..self.ops.len()).filter(lost).collect()
    }

    /// Forgets what was known of vertices that nobody holds any more.
    pub(crate) fn forget_dropped(&mut self) {
        for (index, held) in self.held().into_iter().enumerate() {
            if !held {
                self.shadows[index] = super::world::Shadow::default();
            }
        }
    }

    fn open_run(&mut self, flight: FlightId) -> Option<&mut OpenRun> {
        self.open.iter_mut().find_map(|open| match open {
            Open::Run(run) | Open::Keep { run, .. } if run.flight == flight => Some(run),
            _ => None,
        })
    }

    fn flies(&self, key: Key, nonce: Option<Nonce>) -> bool {
        self.open.iter().any(|open| match open {
            Open::Run(run) | Open::Keep { run, .. } => run.key == key && run.nonce == nonce,
            _ => false,
        })
    }

    /// Takes one request, and checks what can be said of it alone.
    pub(crate) fn take(&mut self, request: Request<Error>) -> Checked {
        match request {
            Request::Pin { ask, vertex, job } => {
                let vertex = index_of(&vertex);
                ensure(self.needed(|caller| caller.job == job)[vertex], || {
                    format!("pins {vertex} for a job that does not need it")
                })?;
                self.shadows[vertex].pin_ask = Some(ask);
                self.open.push(Open::Pin { ask, vertex, job });
            }
            Request::Key { ask, vertex, job, pin, inputs } => {
                let vertex = index_of(&vertex);
                ensure(self.bound_inputs(vertex).as_ref() == Some(&inputs), || {
                    format!("keys {vertex} with inputs that are not what they are bound to")
                })?;
                ensure(self.needed(|caller| caller.job == job)[vertex], || {
                    format!("keys {vertex} for a job that does not need it")
                })?;
                ensure(pin == self.shadows[vertex].pin, || format!("keys {vertex} with another pin"))?;
                self.shadows[vertex].key_ask = Some(ask);
                self.open.push(Open::Key { ask, vertex, job, pin, inputs });
            }
            Request::Find { ask, key, need_bytes, .. } => {
                ensure(!self.flies(key, None), || "looks up a key that flies".to_owned())?;
                self.newest_find.insert(key, ask);
                self.missed.remove(&key);
                self.open.push(Open::Find { ask, key, need_bytes });
            }
            Request::Run { flight, vertex, key, nonce, job, inputs, .. } => {
                let vertex = index_of(&vertex);
                let begun = false;
                let run = OpenRun { flight, vertex, key, nonce, job, inputs, begun, stopped: false };
                self.check_run(&run)?;
                self.counts.runs += 1;
                self.open.push(Open::Run(run));
            }
            Request::Stop { flight } => {
                self.counts.stops += 1;
                let Some(run) = self.open_run(flight) else {
                    return Err("stops what is not open".to_owned());
                };
                ensure(!run.stopped, || "stops twice".to_owned())?;
                run.stopped = true;
                let (key, nonce) = (run.key, run.nonce);
                let needed = self.needed(|_| true);
                for index in (0..self.ops.len()).filter(|&index| needed[index]) {
                    let waits = self.key(index) == Some(key) && self.ops[index].nonce() == nonce;
                    ensure(!waits || self.outs(index).is_some(), || {
                        format!("stops the flight that {index} waits for")
                    })?;
                }
            }
            Request::Keep { flight, outs, .. } => {
                let run = self.open_run(flight).map(|run| run.clone());
                // Its answer was taken off the list just now.
                let run = run.or_else(|| self.answering.take().filter(|run| run.flight == flight));
                let Some(run) = run else { return Err("keeps what did not run".to_owned()) };
                self.open.push(Open::Keep { run, outs: results(&outs) });
            }
            Request::Free { results } => {
                for result in results {
                    self.check_free(result)?;
                }
            }
            Request::Done { demand, result: Ok(results) } => self.check_done(demand, &results)?,
            Request::Done { demand, result: Err(failed) } => {
                self.check_failed(demand, index_of(&failed.vertex))?;
            }
            Request::Note(note) => self.note(note)?,
        }
        Ok(())
    }

    fn check_run(&mut self, run: &OpenRun) -> Checked {
        let vertex = run.vertex;
        ensure(self.bound_inputs(vertex).as_ref() == Some(&run.inputs), || {
            format!("runs {vertex} on inputs that are not what they are bound to")
        })?;
        ensure(self.key(vertex) == Some(run.key), || format!("runs {vertex} under another key"))?;
        let keyed = self.shadows[vertex].keyed.map(|(key, _)| key);
        ensure(keyed == Some(run.key), || format!("runs {vertex} under a key that is stale"))?;
        ensure(run.nonce == self.ops[vertex].nonce(), || format!("runs {vertex} under another nonce"))?;
        ensure(self.needed(|caller| caller.job == run.job)[vertex], || {
            format!("runs {vertex} for a job that does not need it")
        })?;
        ensure(!self.flies(run.key, run.nonce), || format!("{vertex} is the second flight of its key"))?;
        let held = self.held();
        for index in (0..self.ops.len()).filter(|&index| held[index]) {
            let equal = self.key(index) == Some(run.key) && self.ops[index].nonce() == run.nonce;
            ensure(!equal || self.outs(index).is_none(), || {
                format!("runs {vertex} again, {index} is bound")
            })?;
        }
        if run.nonce.is_none() {
            ensure(self.missed.remove(&run.key), || format!("runs {vertex} without having missed"))?;
        }
        let shadow = &mut self.shadows[vertex];
        shadow.runs += 1;
        let (runs, excuses) = (shadow.runs, shadow.excuses);
        ensure(runs <= 1 + excuses, || {
            format!("{vertex} ran {runs} times, with {excuses} reasons to run again")
        })
    }

    fn check_free(&mut self, result: ResultId) -> Checked {
        ensure(self.leased.remove(&result), || "frees what is not leased".to_owned())?;
        let held = self.held();
        for index in (0..self.ops.len()).filter(|&index| held[index]) {
            let bound = self.outs(index).is_some_and(|outs| outs.contains(&result));
            ensure(!bound, || format!("frees what {index} is bound to"))?;
        }
        let read = self.open.iter().any(|open| match open {
            Open::Key { inputs, .. } => inputs.contains(&result),
            Open::Run(run) => run.inputs.contains(&result),
            Open::Keep { run, outs } => run.inputs.contains(&result) || outs.contains(&result),
            _ => false,
        });
        ensure(!read, || "frees what an open request reads".to_owned())
    }

    fn check_done(&mut self, demand: DemandId, told: &[ResultId]) -> Checked {
        let Some(caller) = self.callers.get(&demand) else { return Err("done, but dropped".to_owned()) };
        ensure(caller.state == State::Live, || "done, but not live".to_owned())?;
        ensure(!caller.told, || "done twice without a loss between".to_owned())?;
        let bound = caller.targets.iter().map(|&(index, output)| {
            let outs = self.outs(index)?;
            outs.get(output as usize).copied()
        });
        let bound: Option<Vec<ResultId>> = bound.collect();
        ensure(bound.as_deref() == Some(told), || "done with what is not bound".to_owned())?;
        if let Some(caller) = self.callers.get_mut(&demand) {
            self.counts.done += 1;
            self.counts.done_again += u64::from(caller.ever);
            caller.told = true;
            caller.ever = true;
        }
        Ok(())
    }

    fn check_failed(&mut self, demand: DemandId, vertex: usize) -> Checked {
        let Some(caller) = self.callers.get(&demand) else { return Err("failed, but dropped".to_owned()) };
        let job = caller.job;
        ensure(caller.state == State::Live, || "failed, but not live".to_owned())?;
        let mut below = vec![false; self.ops.len()];
        caller.targets.iter().for_each(|&(index, _)| below[index] = true);
        close_downwards(&self.ops, &mut below);
        ensure(below[vertex], || format!("failed for {vertex}, which it does not need"))?;
        let Some(blame) = &self.blame else { return Err("failed, but nothing did".to_owned()) };
        ensure(blame.adoptable || blame.job == job, || "failed for what befell another job".to_owned())?;
        ensure(self.is_blamed(blame, vertex), || format!("failed for {vertex}, which did not"))?;
        self.counts.failed += 1;
        if let Some(caller) = self.callers.get_mut(&demand) {
            caller.state = State::Failed;
        }
        Ok(())
    }

    fn is_blamed(&self, blame: &Blame, vertex: usize) -> bool {
        match blame.flight {
            None => blame.vertex == Some(vertex),
            Some((key, nonce)) => self.key(vertex) == Some(key) && self.ops[vertex].nonce() == nonce,
        }
    }

    /// After a failure nobody whom it hits may be waiting still.
    pub(crate) fn check_blame(&self, blame: &Blame) -> Checked {
        let needed = self.needed(|caller| blame.adoptable || caller.job == blame.job);
        for index in (0..self.ops.len()).filter(|&index| needed[index]) {
            ensure(!self.is_blamed(blame, index), || {
                format!("{index} failed, and a demand that it hits goes on")
            })?;
        }
        Ok(())
    }

    fn note(&mut self, note: Note<Error>) -> Checked {
        match note {
            Note::Shared { .. } => self.counts.shared += 1,
            Note::Merged { vertex, with } => {
                self.counts.merged += 1;
                ensure(vertex != with, || "merged with itself".to_owned())?;
            }
            Note::Unchanged { .. } => self.counts.unchanged += 1,
            Note::Bound { vertex, .. } => {
                let shadow = &mut self.shadows[index_of(&vertex)];
                ensure(!shadow.noted, || "bound twice".to_owned())?;
                shadow.noted = true;
                shadow.lost = false;
            }
            Note::Unbound { vertex, lost } => {
                let index = index_of(&vertex);
                ensure(self.shadows[index].noted, || "unbound twice".to_owned())?;
                self.shadows[index].noted = false;
                self.shadows[index].lost = lost;
                for caller in self.callers.values_mut() {
                    caller.told &= caller.targets.iter().all(|&(target, _)| target != index);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks the whole state against the invariant.
    pub(crate) fn sweep(&mut self) -> Checked {
        self.counts.sweeps += 1;
        let (held, needed) = (self.held(), self.needed(|_| true));
        let held_count = held.iter().filter(|&&held| held).count();
        ensure(self.solver.vertices() == held_count, || {
            format!("{} vertices, {held_count} of them held", self.solver.vertices())
        })?;
        ensure(self.solver.unanswered() == self.open.len(), || {
            format!("counts {} open requests, {} are", self.solver.unanswered(), self.open.len())
        })?;
        for index in (0..self.ops.len()).filter(|&index| held[index]) {
            let inputs = self.bound_inputs(index);
            let bound = self.outs(index);
            ensure(self.shadows[index].noted == bound.is_some(), || {
                format!("{index} is said to be bound, or is, not both")
            })?;
            match (&bound, &inputs) {
                (Some(outs), Some(inputs)) => self.check_bound(index, outs, inputs)?,
                (Some(_), None) => return Err(format!("{index} is bound before its inputs")),
                (None, Some(_)) if needed[index] => self.check_progress(index)?,
                _ => {}
            }
            self.shadows[index].bound = bound;
        }
        self.loss_since_sweep = false;
        for open in &self.open {
            if let Open::Run(run) = open
                && !run.stopped
            {
                let wanted = (0..self.ops.len()).any(|index| {
                    let keyed = self.shadows[index].keyed.map(|(key, _)| key);
                    needed[index] && keyed == Some(run.key) && self.ops[index].nonce() == run.nonce
                });
                ensure(wanted, || format!("the run of {} goes on for nobody", run.vertex))?;
            }
        }
        Ok(())
    }

    fn check_bound(&self, index: usize, outs: &[ResultId], inputs: &[ResultId]) -> Checked {
        let (op, shadow) = (&self.ops[index], &self.shadows[index]);
        let Some((key, version)) = shadow.keyed else {
            return Err(format!("{index} is bound without a key"));
        };
        ensure(self.key(index) == Some(key), || format!("{index} has a key that nobody computed"))?;
        ensure(op.key(shadow.pin, version, inputs) == key, || {
            format!("{index} is bound under a key that its inputs do not give")
        })?;
        let decided = self.decided.get(&(key, op.nonce()));
        ensure(decided.is_some_and(|decided| decided == outs), || {
            format!("{index} is bound to something that did not win under its key")
        })?;
        let before = shadow.bound.as_deref();
        ensure(self.loss_since_sweep || before.is_none_or(|before| before == outs), || {
            format!("{index} was bound twice")
        })
    }

    /// A needed vertex whose inputs are bound must have an open request.
    fn check_progress(&self, index: usize) -> Checked {
        let (shadow, key, nonce) = (&self.shadows[index], self.key(index), self.ops[index].nonce());
        let goes_on = self.open.iter().any(|open| match open {
            Open::Pin { ask, .. } => shadow.pin_ask == Some(*ask),
            Open::Key { ask, .. } => shadow.key_ask == Some(*ask),
            Open::Find { ask, key: found, .. } => {
                nonce.is_none() && key == Some(*found) && self.newest_find.get(found) == Some(ask)
            }
            Open::Run(run) | Open::Keep { run, .. } => key == Some(run.key) && nonce == run.nonce,
        });
        ensure(goes_on, || format!("{index} waits and could run"))
    }

    /// Nothing is open: every demand has ended, and as the evaluator says.
    pub(crate) fn at_rest(&mut self) -> Checked {
        self.sweep()?;
        let expected = self.evaluate();
        for caller in self.callers.values().filter(|caller| caller.state == State::Live) {
            ensure(caller.told, || "a demand waits for nothing".to_owned())?;
            let mut below = vec![false; self.ops.len()];
            caller.targets.iter().for_each(|&(index, _)| below[index] = true);
            close_downwards(&self.ops, &mut below);
            for index in (0..self.ops.len()).filter(|&index| below[index]) {
                ensure(self.ops[index].kind != Kind::Fails, || format!("done, but {index} always fails"))?;
                ensure(self.outs(index) == expected[index], || {
                    format!("{index} is bound to something else than the evaluator makes")
                })?;
            }
        }
        Ok(())
    }

    /// The oracle: one vertex after the other, inputs first, each a function of its key; only what an op that is none
    /// made is looked up in the journal of answers.
    fn evaluate(&self) -> Vec<Option<Vec<ResultId>>> {
        let mut made: Vec<Option<Vec<ResultId>>> = Vec::new();
        for (op, shadow) in self.ops.iter().zip(&self.shadows) {
            let inputs = op.inputs.iter().map(|&(input, output, _)| {
                let outs = made[input].as_ref()?;
                outs.get(output as usize).copied()
            });
            let inputs: Option<Vec<ResultId>> = inputs.collect();
            made.push(inputs.and_then(|inputs| {
                let key = op.key(shadow.pin, shadow.keyed?.1, &inputs);
                match op.kind {
                    Kind::Noisy => self.decided.get(&(key, op.nonce())).cloned(),
                    Kind::Pure | Kind::Fails | Kind::FailsFor(_) => Some(op.make_all(key, 0)),
                }
            }));
        }
        made
    }

    /// All dropped and answered: nothing is left.
    pub(crate) fn at_end(&mut self) -> Checked {
        self.sweep()?;
        ensure(self.leased.is_empty(), || format!("{} results were never freed", self.leased.len()))
    }
}
