//! How the world answers: a store that forgets, ops that fail, other processes that are faster.

use crate::{AskId, Event, Failure, JobId, Kept, Key, Out, Pin, Ran, ResultId, Unkeyed};

use super::Error;
use super::graph::{Kind, vertex_id};
use super::rng::{mix, wide};
use super::world::{Blame, Open, OpenRun, World};

fn failure(error: Error, adoptable: bool) -> Failure<Error> {
    Failure { error, adoptable }
}

fn outs(results: &[ResultId]) -> Vec<Out> {
    results.iter().map(|&result| Out { result }).collect()
}

/// What a source is pinned to: always the same, for a registry that moves is another vertex's story.
pub(crate) fn pin(code: u64) -> Pin {
    Pin(wide([mix(&[code, 1]), 0, 0, 0]))
}

impl World {
    /// Answers any one of the open requests.
    pub(crate) fn answer(&mut self) -> Result<(), String> {
        let chosen = self.rng.below(self.open.len());
        let open = self.open.swap_remove(chosen);
        match open {
            Open::Pin { ask, vertex, job } => self.answer_pin(ask, vertex, job),
            Open::Key { ask, vertex, job, pin, inputs } => self.answer_key(ask, vertex, job, pin, &inputs),
            Open::Find { ask, key, need_bytes } => self.answer_find(ask, key, need_bytes),
            Open::Run(run) => self.answer_run(run),
            Open::Keep { run, outs } => self.answer_keep(run, outs),
        }
    }

    fn answer_pin(&mut self, ask: AskId, vertex: usize, job: JobId) -> Result<(), String> {
        let op = &self.ops[vertex];
        let code = op.code;
        let fails = op.kind == Kind::FailsFor(job.0 % 2) && code.is_multiple_of(3);
        if fails || (self.rng.percent(1) && self.mishap()) {
            if self.shadows[vertex].pin_ask == Some(ask) {
                self.blame = Some(Blame { vertex: Some(vertex), flight: None, adoptable: false, job });
            }
            return self.handle(Event::Pinned { ask, pin: Err(failure("no such image", false)) });
        }
        let pin = pin(code);
        self.shadows[vertex].pin = Some(pin);
        self.handle(Event::Pinned { ask, pin: Ok(pin) })
    }

    fn answer_key(
        &mut self,
        ask: AskId,
        vertex: usize,
        job: JobId,
        pin: Option<Pin>,
        inputs: &[ResultId],
    ) -> Result<(), String> {
        let op = &self.ops[vertex];
        if op.key_reads
            && let Some(&result) = inputs.iter().find(|input| !self.bytes.contains(input))
        {
            self.counts.missing += 1;
            self.excuse_loss(result);
            return self.handle(Event::Keyed { ask, key: Err(Unkeyed::Missing(result)) });
        }
        let bound: Option<Vec<ResultId>> = self.bound_inputs(vertex);
        let current = self.shadows[vertex].key_ask == Some(ask) && bound.is_some();
        if self.rng.percent(1) && self.mishap() {
            let adoptable = self.rng.percent(50);
            if current {
                self.blame = Some(Blame { vertex: Some(vertex), flight: None, adoptable, job });
            }
            return self
                .handle(Event::Keyed { ask, key: Err(Unkeyed::Failed(failure("no such file", adoptable))) });
        }
        let version = self.versions.get(&self.ops[vertex].code).copied().unwrap_or_default();
        let key = self.ops[vertex].key(pin, version, inputs);
        let before = self.shadows[vertex].keyed;
        if current {
            self.shadows[vertex].keyed = Some((key, version));
        }
        self.handle(Event::Keyed { ask, key: Ok(key) })?;
        if current && self.solver.key(&vertex_id(vertex)) != Some(key) {
            // Void after all: the vertex was dropped and came back since.
            self.shadows[vertex].keyed = before;
        }
        Ok(())
    }

    fn answer_find(&mut self, ask: AskId, key: Key, need_bytes: bool) -> Result<(), String> {
        let there = |results: &&Vec<ResultId>| {
            !need_bytes || results.iter().all(|result| self.bytes.contains(result))
        };
        let hit = self.store.get(&key).filter(there).cloned();
        if self.newest_find.get(&key) == Some(&ask) {
            match &hit {
                Some(results) => {
                    self.decided.insert((key, None), results.clone());
                }
                None => {
                    self.missed.insert(key);
                }
            }
        }
        self.counts.hits += u64::from(hit.is_some());
        self.leased.extend(hit.iter().flatten());
        let lost = if need_bytes { Vec::new() } else { self.lost_under(key) };
        self.handle(Event::Found { ask, hit: hit.map(|results| outs(&results)) })?;
        match lost.into_iter().find(|&index| self.solver.outs(&vertex_id(index)).is_some()) {
            Some(index) => Err(format!("{index} was lost, and is bound to what may have no bytes")),
            None => Ok(()),
        }
    }

    fn answer_run(&mut self, run: OpenRun) -> Result<(), String> {
        let flight = run.flight;
        let op = self.ops[run.vertex].clone();
        let name = (run.key, run.nonce);
        if run.stopped && self.rng.percent(70) {
            self.excuse_flight(name);
            return self.handle(Event::Ran { flight, end: Ran::Failed(failure("stopped", false)) });
        }
        if let Some(&result) = run.inputs.iter().find(|input| !self.bytes.contains(input)) {
            self.counts.missing += 1;
            self.excuse_flight(name);
            self.excuse_loss(result);
            return self.handle(Event::Ran { flight, end: Ran::Missing(result) });
        }
        if self.rng.percent(2) && self.mishap() {
            self.counts.stale += 1;
            *self.versions.entry(op.code).or_default() += 1;
            self.excuse_flight(name);
            self.forget_keys(name);
            return self.handle(Event::Ran { flight, end: Ran::KeyStale });
        }
        let adoptable = op.kind == Kind::Fails;
        let fails = adoptable || op.kind == Kind::FailsFor(run.job.0 % 2);
        if fails || (self.rng.percent(2) && self.mishap()) {
            self.excuse_flight(name);
            if adoptable || !run.stopped {
                self.blame = Some(Blame { vertex: None, flight: Some(name), adoptable, job: run.job });
            }
            return self.handle(Event::Ran { flight, end: Ran::Failed(failure("exit code 1", adoptable)) });
        }
        self.noise += 1;
        let results = op.make_all(run.key, self.noise);
        if run.nonce.is_none() && self.rng.percent(5) {
            // Another process held the lock of the key, and has published.
            let has_bytes = |results: &&Vec<ResultId>| results.iter().all(|id| self.bytes.contains(id));
            let theirs = self.store.get(&run.key).filter(has_bytes).cloned().unwrap_or(results);
            self.counts.elsewhere += 1;
            self.store.insert(run.key, theirs.clone());
            self.bytes.extend(&theirs);
            self.leased.extend(&theirs);
            self.decided.insert(name, theirs.clone());
            return self.handle(Event::Ran { flight, end: Ran::Found(outs(&theirs)) });
        }
        self.leased.extend(&results);
        self.answering = Some(run);
        self.handle(Event::Ran { flight, end: Ran::Done(outs(&results)) })
    }

    fn answer_keep(&mut self, run: OpenRun, made: Vec<ResultId>) -> Result<(), String> {
        let flight = run.flight;
        let name = (run.key, run.nonce);
        if self.rng.percent(2) && self.mishap() {
            self.excuse_flight(name);
            if !run.stopped {
                self.blame = Some(Blame { vertex: None, flight: Some(name), adoptable: false, job: run.job });
            }
            return self.handle(Event::Kept { flight, kept: Err(failure("no space", false)) });
        }
        if self.rng.percent(10) {
            // Another process was faster.
            let noise = self.rng.next();
            let other = self.ops[run.vertex].make_all(run.key, noise);
            self.bytes.extend(&other);
            self.store.insert(run.key, other);
        }
        let has_bytes = |results: &Vec<ResultId>| results.iter().all(|result| self.bytes.contains(result));
        let earlier = self.store.get(&run.key).filter(|results| has_bytes(results) && run.nonce.is_none());
        let adopted = earlier.is_some() || has_bytes(&made);
        let winner = earlier.cloned().unwrap_or_else(|| made.clone());
        self.counts.outrun += u64::from(winner != made);
        self.counts.cut_off += u64::from(adopted);
        self.store.insert(run.key, winner.clone());
        self.bytes.extend(&winner);
        self.leased.extend(&winner);
        self.decided.insert(name, winner.clone());
        self.handle(Event::Kept { flight, kept: Ok(Kept { outs: outs(&winner), adopted }) })
    }
}
