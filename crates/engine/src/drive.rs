//! Carries out what the solver asks for: questions at once, runs as slots allow.
//!
//! One task owns the solver and talks to it; everything else is spawned and comes back as a message. Nobody waits
//! while holding a slot: what a run needs before it can begin is fetched within its slot, but never another run, and
//! where another process does the same already, the slot is given back meanwhile.

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
    pub(crate) priority: Priority,
    pub(crate) cancel: Cancel,
}

/// What became of a run that had a slot.
#[derive(Debug)]
pub(crate) enum Landed {
    /// It ended.
    Ran(Ran<Fault>),
    /// Another process is at it: the slot is for others until it is done.
    Busy,
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
    fn run(&self, run: Run) -> impl Future<Output = Landed> + Send;
    /// Waits, without a slot, for the other process after [`Landed::Busy`]. Returns what came of it if that counts here,
    /// too; otherwise the run begins again. Ends when the run is cancelled.
    fn wait(&self, run: Run) -> impl Future<Output = Option<Ran<Fault>>> + Send;
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
    /// A run gives its slot back and waits.
    Busy(FlightId, Run),
    /// It has waited, and begins again.
    Again(FlightId, Run),
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

/// A run that has begun.
#[derive(Debug)]
struct Flying {
    cancel: Cancel,
    /// It does not wait for another process.
    slot: bool,
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
    flying: HashMap<FlightId, Flying>,
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
        self.flying.values().for_each(|flying| flying.cancel.cancel());
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
                Message::Busy(flight, run) => self.wait(flight, run),
                Message::Again(flight, run) => self.again(flight, run),
                // What it was to answer nobody knows, and the solver waits for it in vain: the build ends with the rest.
                Message::Panicked => self.end(Err(Error::Panicked))?,
            }
        }
    }

    fn handle(&mut self, event: Event<Fault>) -> Result<(), Error> {
        if let Event::Ran { flight, .. } = &event
            && let Some(flying) = self.flying.remove(flight)
        {
            self.free += usize::from(flying.slot);
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
                let cancel = Cancel::new();
                let forced = nonce.is_some();
                self.enqueue(flight, Run { vertex, key, forced, inputs, need_bytes, priority, cancel });
            }
            Request::Stop { flight } => {
                if self.queued.remove(&flight).is_some() {
                    self.deliver(Event::Ran { flight, end: cancelled() });
                } else if let Some(flying) = self.flying.get(&flight) {
                    flying.cancel.cancel();
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

    fn enqueue(&mut self, flight: FlightId, run: Run) {
        self.open += 1;
        self.age += 1;
        self.queue.push(Waiting { priority: run.priority, age: std::cmp::Reverse(self.age), flight });
        self.queued.insert(flight, run);
    }

    /// Gives a slot back until another process is done with the same.
    fn wait(&mut self, flight: FlightId, run: Run) {
        if let Some(flying) = self.flying.get_mut(&flight)
            && std::mem::take(&mut flying.slot)
        {
            self.free += 1;
        }
        self.open += 1;
        let (worker, reply) = (self.worker.clone(), self.answer());
        tokio::spawn(async move {
            reply.give(match worker.wait(run.clone()).await {
                Some(end) => Message::Event(Event::Ran { flight, end }),
                None if run.cancel.is_cancelled() => Message::Event(Event::Ran { flight, end: cancelled() }),
                None => Message::Again(flight, run),
            });
        });
    }

    /// Has a run wait for a slot again.
    fn again(&mut self, flight: FlightId, run: Run) {
        self.flying.remove(&flight);
        self.enqueue(flight, run.clone());
        // Stopped between its last look and now: nobody asks again.
        if run.cancel.is_cancelled() && self.queued.remove(&flight).is_some() {
            self.deliver(Event::Ran { flight, end: cancelled() });
        }
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
            self.flying.insert(flight, Flying { cancel: run.cancel.clone(), slot: true });
            self.open += 1;
            self.deliver(Event::Begun { flight });
            let (worker, reply) = (self.worker.clone(), self.answer());
            tokio::spawn(async move {
                reply.give(match worker.run(run.clone()).await {
                    Landed::Ran(end) => Message::Event(Event::Ran { flight, end }),
                    Landed::Busy => Message::Busy(flight, run),
                });
            });
        }
    }
}

/// What a run answers that was stopped.
fn cancelled() -> Ran<Fault> {
    Ran::Failed(Failure { error: Arc::new(StepError::Cancelled), adoptable: false })
}

#[cfg(test)]
mod tests;
