//! Carries out what the solver asks for: questions at once, runs as slots allow.
//!
//! One task owns the solver and talks to it; everything else is spawned and comes back as a message. Nobody waits
//! while holding a slot: what a run needs before it can begin is fetched within its slot, but never another run.

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use cooper_executor::Cancel;
use cooper_solver::{
    AskId, DemandId, Edge, Event, Failure, FlightId, JobId, Kept, Key, Node, Nonce, Note, Out, Pin, Priority,
    Ran, Request, ResultId, Solver, Unkeyed, VertexId,
};
use tokio::sync::mpsc;

use crate::error::{Error, StepError};

/// What the solver hands on: why a step could not be done.
pub(crate) type Fault = Arc<StepError>;

const JOB: JobId = JobId(1);
const DEMAND: DemandId = DemandId(1);

/// A result that is gone again whenever it was made again will not stay the next time either.
const LOSSES: u32 = 3;

/// A run that has a slot.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) vertex: VertexId,
    pub(crate) key: Key,
    pub(crate) forced: bool,
    pub(crate) inputs: Vec<ResultId>,
    /// The bytes of its result were lost: they must be here afterwards, whatever else would do.
    pub(crate) need_bytes: bool,
    pub(crate) cancel: Cancel,
}

/// Who does the work. Blocking work is its own business to move off the calling task.
pub(crate) trait Worker: Send + Sync + 'static {
    /// What comes of the targets.
    type Finished: Send + 'static;

    fn pin(&self, vertex: VertexId) -> impl Future<Output = Result<Pin, Failure<Fault>>> + Send;
    fn key(
        &self,
        vertex: VertexId,
        pin: Option<Pin>,
        inputs: Vec<ResultId>,
    ) -> impl Future<Output = Result<Key, Unkeyed<Fault>>> + Send;
    fn find(
        &self,
        vertex: VertexId,
        key: Key,
        need_bytes: bool,
    ) -> impl Future<Output = Option<Vec<Out>>> + Send;
    fn run(&self, run: Run) -> impl Future<Output = Ran<Fault>> + Send;
    fn keep(
        &self,
        vertex: VertexId,
        key: Key,
        forced: bool,
        outs: Vec<Out>,
    ) -> impl Future<Output = Result<Kept, Failure<Fault>>> + Send;
    /// Takes the targets' results further (exports them).
    fn finish(
        &self,
        results: Vec<ResultId>,
    ) -> impl Future<Output = Result<Self::Finished, Unfinished>> + Send;
    fn note(&self, note: &Note<Fault>);
}

/// Why the targets could not be taken further.
#[derive(Debug)]
pub(crate) enum Unfinished {
    /// The bytes of this result are gone: it is made again, then finishing is tried again.
    Missing(ResultId),
    /// It failed.
    Failed(Error),
}

enum Message<F> {
    Event(Event<Fault>),
    Finished(Result<F, Unfinished>),
    /// A task ended without an answer: it panicked.
    Panicked,
}

/// Makes sure that a task answers: dropped without an answer, it says so.
struct Answer<F>(Option<mpsc::UnboundedSender<Message<F>>>);

impl<F> Answer<F> {
    fn give(mut self, message: Message<F>) {
        if let Some(send) = self.0.take() {
            // Nobody listens any more if the driver itself has failed.
            let _ = send.send(message);
        }
    }
}

impl<F> Drop for Answer<F> {
    fn drop(&mut self) {
        if let Some(send) = self.0.take() {
            let _ = send.send(Message::Panicked);
        }
    }
}

/// A run that waits for a slot: the most urgent first, the oldest among equals.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    priority: Priority,
    age: std::cmp::Reverse<u64>,
    flight: FlightId,
}

/// Drives a graph to its targets and what comes of them.
///
/// # Errors
///
/// The first failure of a step, of finishing, or the cancellation. What had been finished is kept in either case, and
/// nothing is left running.
pub(crate) async fn drive<W: Worker>(
    worker: Arc<W>,
    nodes: Vec<Node>,
    targets: Vec<Edge>,
    slots: usize,
    cancel: &Cancel,
) -> Result<W::Finished, Error> {
    let (send, receive) = mpsc::unbounded_channel();
    let mut driver = Driver {
        worker,
        solver: Solver::new(),
        requests: Vec::new(),
        send,
        receive,
        queue: BinaryHeap::new(),
        queued: HashMap::new(),
        flying: HashMap::new(),
        free: slots.max(1),
        open: 0,
        age: 0,
        finishing: false,
        results: None,
        losses: HashMap::new(),
        outcome: None,
    };
    driver.handle(Event::Grow { demand: DEMAND, nodes })?;
    driver.handle(Event::Demand { demand: DEMAND, job: JOB, targets })?;
    driver.run(cancel).await
}

struct Driver<W: Worker> {
    worker: Arc<W>,
    solver: Solver<Fault>,
    requests: Vec<Request<Fault>>,
    send: mpsc::UnboundedSender<Message<W::Finished>>,
    receive: mpsc::UnboundedReceiver<Message<W::Finished>>,
    queue: BinaryHeap<Waiting>,
    queued: HashMap<FlightId, Run>,
    flying: HashMap<FlightId, Cancel>,
    free: usize,
    /// Requests that are not answered yet, and a finish under way.
    open: usize,
    age: u64,
    finishing: bool,
    /// What the targets are bound to, as long as nobody has taken it further.
    results: Option<Vec<ResultId>>,
    /// How often finishing found a result's bytes gone.
    losses: HashMap<ResultId, u32>,
    outcome: Option<Result<W::Finished, Error>>,
}

impl<W: Worker> Drop for Driver<W> {
    fn drop(&mut self) {
        // Nobody listens any more, also where the caller has dropped the build: nothing may go on alone.
        self.flying.values().for_each(Cancel::cancel);
    }
}

impl<W: Worker> Driver<W> {
    async fn run(mut self, cancel: &Cancel) -> Result<W::Finished, Error> {
        loop {
            self.carry_out()?;
            if self.open == 0 {
                return self.outcome.take().unwrap_or(Err(Error::Stalled));
            }
            let message = tokio::select! {
                message = self.receive.recv() => message,
                () = cancel.cancelled(), if self.outcome.is_none() => {
                    self.end(Err(Error::Cancelled))?;
                    continue;
                }
            };
            // The channel cannot close: `self.send` is its other end.
            let Some(message) = message else { return Err(Error::Stalled) };
            self.open -= 1;
            match message {
                Message::Event(event) => self.handle(event)?,
                Message::Finished(result) => self.finished(result)?,
                // What it was to answer nobody knows, and the solver waits for it in vain: the build ends with the rest.
                Message::Panicked => self.end(Err(Error::Panicked))?,
            }
        }
    }

    fn handle(&mut self, event: Event<Fault>) -> Result<(), Error> {
        if let Event::Ran { flight, .. } = &event
            && self.flying.remove(flight).is_some()
        {
            self.free += 1;
        }
        self.solver.handle(event, &mut self.requests).map_err(Error::Solver)
    }

    /// Settles the outcome and lets go of the demand, which stops everything that is still under way.
    fn end(&mut self, outcome: Result<W::Finished, Error>) -> Result<(), Error> {
        if self.outcome.is_none() {
            self.outcome = Some(outcome);
            self.handle(Event::Drop { demand: DEMAND })?;
        }
        Ok(())
    }

    fn finished(&mut self, result: Result<W::Finished, Unfinished>) -> Result<(), Error> {
        self.finishing = false;
        match result {
            Ok(finished) => self.end(Ok(finished)),
            Err(Unfinished::Failed(error)) => self.end(Err(error)),
            Err(Unfinished::Missing(_)) if self.outcome.is_some() => Ok(()),
            Err(Unfinished::Missing(result)) => self.missing(result),
        }
    }

    /// Has a result made again that finishing needs. Where that leads to nothing, it is said so: nobody waits for ever.
    fn missing(&mut self, result: ResultId) -> Result<(), Error> {
        let losses = self.losses.entry(result).or_default();
        *losses += 1;
        if *losses > LOSSES {
            return self.end(Err(Error::Unattributed(StepError::LostAgain)));
        }
        self.handle(Event::Lost { result })?;
        let is_work = |request: &Request<Fault>| !matches!(request, Request::Note(_) | Request::Free { .. });
        let asked = self.requests.iter().any(is_work);
        if asked || self.open > 0 {
            return Ok(());
        }
        // Nothing was bound to it. It may have been made again while finishing looked at what was there before.
        match self.results.take() {
            Some(results) => self.finish(results),
            None => return self.end(Err(Error::Unattributed(StepError::LostAgain))),
        }
        Ok(())
    }

    fn finish(&mut self, results: Vec<ResultId>) {
        self.finishing = true;
        self.results = None;
        self.open += 1;
        let (worker, answer) = (self.worker.clone(), self.answer());
        tokio::spawn(async move { answer.give(Message::Finished(worker.finish(results).await)) });
    }

    fn carry_out(&mut self) -> Result<(), Error> {
        while !self.requests.is_empty() {
            for request in std::mem::take(&mut self.requests) {
                self.request(request)?;
            }
        }
        self.take_off();
        Ok(())
    }

    fn request(&mut self, request: Request<Fault>) -> Result<(), Error> {
        match request {
            Request::Pin { ask, vertex, .. } => {
                self.ask(
                    ask,
                    move |worker| async move { worker.pin(vertex).await },
                    |ask, pin| Event::Pinned { ask, pin },
                );
            }
            Request::Key { ask, vertex, pin, inputs, .. } => self.ask(
                ask,
                move |worker| async move { worker.key(vertex, pin, inputs).await },
                |ask, key| Event::Keyed { ask, key },
            ),
            Request::Find { ask, vertex, key, need_bytes } => self.ask(
                ask,
                move |worker| async move { worker.find(vertex, key, need_bytes).await },
                |ask, hit| Event::Found { ask, hit },
            ),
            Request::Run { flight, vertex, key, nonce, inputs, need_bytes, priority, .. } => {
                self.open += 1;
                self.age += 1;
                self.queue.push(Waiting { priority, age: std::cmp::Reverse(self.age), flight });
                let cancel = Cancel::new();
                let forced = nonce.is_some();
                self.queued.insert(flight, Run { vertex, key, forced, inputs, need_bytes, cancel });
            }
            Request::Stop { flight } => {
                if self.queued.remove(&flight).is_some() {
                    let error = Arc::new(StepError::Cancelled);
                    let end = Ran::Failed(Failure { error, adoptable: false });
                    self.deliver(Event::Ran { flight, end });
                } else if let Some(cancel) = self.flying.get(&flight) {
                    cancel.cancel();
                }
            }
            Request::Keep { flight, vertex, key, nonce, outs } => self.keep(flight, vertex, key, nonce, outs),
            // Results are leased by the store's handle until the build ends.
            Request::Free { .. } => {}
            Request::Done { result: Err(failed), .. } => {
                self.end(Err(Error::Step { vertex: failed.vertex, error: failed.error }))?;
            }
            Request::Done { result: Ok(results), .. } => {
                if self.finishing {
                    self.results = Some(results);
                } else if self.outcome.is_none() {
                    self.finish(results);
                }
            }
            Request::Note(note) => self.worker.note(&note),
        }
        Ok(())
    }

    fn keep(&mut self, flight: FlightId, vertex: VertexId, key: Key, nonce: Option<Nonce>, outs: Vec<Out>) {
        self.open += 1;
        let (worker, reply) = (self.worker.clone(), self.answer());
        tokio::spawn(async move {
            let kept = worker.keep(vertex, key, nonce.is_some(), outs).await;
            reply.give(Message::Event(Event::Kept { flight, kept }));
        });
    }

    fn answer(&self) -> Answer<W::Finished> {
        Answer(Some(self.send.clone()))
    }

    /// Puts an answer that is known at once behind those that are on their way.
    fn deliver(&mut self, event: Event<Fault>) {
        let _ = self.send.send(Message::Event(event));
    }

    fn ask<T, F>(
        &mut self,
        ask: AskId,
        work: impl FnOnce(Arc<W>) -> F + Send + 'static,
        answer: impl FnOnce(AskId, T) -> Event<Fault> + Send + 'static,
    ) where
        T: Send,
        F: Future<Output = T> + Send,
    {
        self.open += 1;
        let (worker, reply) = (self.worker.clone(), self.answer());
        tokio::spawn(async move {
            let value = work(worker).await;
            reply.give(Message::Event(answer(ask, value)));
        });
    }

    /// Starts what waits, the most urgent first, as long as there are slots.
    fn take_off(&mut self) {
        while self.free > 0
            && let Some(Waiting { flight, .. }) = self.queue.pop()
        {
            // Stopped while it waited.
            let Some(run) = self.queued.remove(&flight) else { continue };
            self.free -= 1;
            self.flying.insert(flight, run.cancel.clone());
            self.open += 1;
            self.deliver(Event::Begun { flight });
            let (worker, reply) = (self.worker.clone(), self.answer());
            tokio::spawn(async move {
                let end = worker.run(run).await;
                reply.give(Message::Event(Event::Ran { flight, end }));
            });
        }
    }
}

#[cfg(test)]
mod tests;
