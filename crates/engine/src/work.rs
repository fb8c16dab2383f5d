//! One build as the solver's worker: pins, keys, records, runs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cooper_executor::LocalExecutor;
use cooper_layer::{Index, LayerId, Merged, Timestamp};
use cooper_llb::{Edge, Op, Vertex};
use cooper_oci::{Digest, Hasher};
use cooper_solver::{Failure, Kept, Key, Note, Out, Pin, Ran, ResultId, Unkeyed, VertexId};
use cooper_store::{OutputRecord, Publish, Record, Store};

use crate::context::{never, patterns};
use crate::drive::{Fault, Landed, Run, Unfinished, Worker};
use crate::error::StepError;
use crate::events::Events;
use crate::export::{Export, Exported};
use crate::flights::{Flights, Turn};
use crate::key::{self, Inputs, Patterns};
use crate::near::Near;
use crate::results::{Results, Root};
use crate::select::{self, Selector};
use crate::sources::{Pinned, Sources};

/// Everything that the steps of one build share.
pub(crate) struct Work {
    pub(crate) store: Store,
    pub(crate) executor: LocalExecutor,
    /// Runs steps whose results are never taken for earlier ones.
    pub(crate) forced_executor: LocalExecutor,
    pub(crate) vertices: HashMap<VertexId, Arc<Vertex>>,
    pub(crate) results: Results,
    pub(crate) sources: Arc<Sources>,
    pub(crate) events: Arc<Events>,
    pub(crate) export: Export,
    /// What sources were pinned to.
    pub(crate) pinned: Mutex<HashMap<VertexId, Pinned>>,
    /// When steps that ran ended, and how long they took; taken when they are kept.
    pub(crate) ran: Mutex<HashMap<Key, (Timestamp, Duration)>>,
    /// How often what a vertex reads was found to have changed while it ran.
    pub(crate) changed: Mutex<HashMap<VertexId, u32>>,
    /// What may be meant where a step missed a file.
    pub(crate) near: Near,
    /// Runs of this process, as other processes see them.
    pub(crate) flights: Flights,
    /// Names of the vertices that layers come from, for a history that does not tell.
    pub(crate) makers: Mutex<HashMap<LayerId, String>>,
}

/// A folder that changes this often while a step reads it will not hold still the next time either.
const CHANGES: u32 = 5;

impl Work {
    fn vertex(&self, id: VertexId) -> Result<Arc<Vertex>, StepError> {
        self.vertices.get(&id).cloned().ok_or(StepError::Panicked)
    }

    fn roots(&self, inputs: &[ResultId]) -> Result<Vec<Root>, StepError> {
        inputs.iter().map(|id| self.results.get(*id).ok_or(StepError::Panicked)).collect()
    }

    /// Makes sure that the files of all layers of the inputs are here; returns an input for which that cannot be.
    async fn materialise(&self, vertex: Digest, inputs: &[ResultId]) -> Result<Option<ResultId>, StepError> {
        for id in inputs {
            if let Some(Root::Layers(layers)) = self.results.get(*id)
                && !self.sources.materialise(&self.events, vertex, &layers).await?
            {
                return Ok(Some(*id));
            }
        }
        Ok(None)
    }

    fn pinned(&self, vertex: VertexId) -> Option<Pinned> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner).get(&vertex).cloned()
    }

    fn outs(&self, vertex: VertexId, record: &Record) -> Vec<Out> {
        let name = self.vertices.get(&vertex).and_then(|vertex| vertex.name());
        let out = |output: &OutputRecord| {
            if let (Some(name), Some(layer)) = (name, output.layers.last()) {
                let mut makers = self.makers.lock().unwrap_or_else(PoisonError::into_inner);
                makers.entry(*layer).or_insert_with(|| name.to_owned());
            }
            Out { result: self.results.layers(&output.layers) }
        };
        record.outputs.iter().map(out).collect()
    }

    async fn key_of(self: &Arc<Self>, id: VertexId, inputs: Vec<ResultId>) -> Result<Key, Unkeyed<Fault>> {
        if let Some(pinned) = self.pinned(id) {
            return Ok(Key(*pinned.key().as_bytes()));
        }
        let vertex = self.vertex(id).map_err(unkeyed)?;
        // What a key reads of results comes from their indexes; those of a layer that was never here need its bytes.
        if let Some(lost) = self.index(&vertex, &inputs).await.map_err(unkeyed)? {
            return Err(Unkeyed::Missing(lost));
        }
        let work = self.clone();
        let compute = move || {
            let computed = work.key_now(&vertex, &inputs, &work.roots(&inputs)?);
            computed.inspect_err(|error| work.near.look(&work.store, &work.results, id, &inputs, error))
        };
        tokio::task::spawn_blocking(compute).await.map_err(|_| StepError::Panicked).flatten().map_err(unkeyed)
    }

    /// Computes a key from what is here.
    fn key_now(&self, vertex: &Vertex, inputs: &[ResultId], roots: &[Root]) -> Result<Key, StepError> {
        let reading = Reading { work: self, vertex, inputs, roots };
        Ok(Key(*key::key(vertex, &reading)?.as_bytes()))
    }

    /// Makes sure that what was read of the user's folders is what the key was made of, or it would be found under that
    /// key for ever.
    ///
    /// To be called after reading, and before anything is put into the store under a name that comes from the key.
    pub(crate) fn unchanged(&self, vertex: &Vertex, run: &Run, roots: &[Root]) -> Result<(), StepError> {
        let folders = || {
            roots.iter().filter_map(|root| match root {
                Root::Folder(folder) => Some(folder),
                Root::Layers(_) => None,
            })
        };
        let Some(first) = folders().next() else { return Ok(()) };
        folders().for_each(|folder| folder.refresh());
        if self.key_now(vertex, &run.inputs, roots)? == run.key {
            return Ok(());
        }
        Err(StepError::Changing(first.path().to_owned()))
    }

    /// Fetches the layers whose entries a key is made of, where nobody has read them yet.
    async fn index(&self, vertex: &Vertex, inputs: &[ResultId]) -> Result<Option<ResultId>, StepError> {
        for place in key::selecting(vertex) {
            // An edge of the graph is an input of the solver at the same place.
            let Some(id) = inputs.get(place) else { continue };
            let Some(Root::Layers(layers)) = self.results.get(*id) else { continue };
            let known = layers.iter().all(|layer| matches!(self.store.index(*layer), Ok(Some(_))));
            if !known && !self.sources.materialise(&self.events, vertex.digest, &layers).await? {
                return Ok(Some(*id));
            }
        }
        Ok(None)
    }

    async fn run_now(self: &Arc<Self>, run: &Run) -> Result<Landed, StepError> {
        let vertex = self.vertex(run.vertex)?;
        self.events.started(vertex.digest);
        let landed = self.run_started(run, &vertex).await;
        match &landed {
            // Others may go on when it is kept.
            Ok(Landed::Ran(Ran::Done(_))) => {}
            Ok(Landed::Busy) => self.events.gave_up(vertex.digest),
            Ok(Landed::Ran(Ran::Failed(_))) | Err(_) => self.flights.land(run.key, run.forced),
            Ok(Landed::Ran(_)) => {
                self.flights.land(run.key, run.forced);
                self.events.gave_up(vertex.digest);
            }
        }
        landed
    }

    /// Looks a record up, and holds what it stands for. Without `need_bytes` it is enough that somebody has them.
    pub(crate) fn look(&self, vertex: VertexId, key: Key, need_bytes: bool) -> Option<Vec<Out>> {
        // A store that cannot be read is a miss here; writing to it will say what is wrong.
        let found = self.store.bind(&[Digest::from_bytes(key.0)]).ok()?;
        let record = found.into_iter().next()??;
        let layers: Vec<LayerId> = record.outputs.iter().flat_map(|output| output.layers.clone()).collect();
        let present = self.store.presence(&layers).ok()?;
        let outputs = self.vertices.get(&vertex)?.outputs as usize;
        if record.outputs.len() != outputs {
            return None;
        }
        // A layer that nobody has and nobody can fetch makes the record worth nothing, now and later.
        let usable =
            present.iter().all(|place| if need_bytes { place.is_local() } else { place.is_anywhere() });
        usable.then(|| self.outs(vertex, &record))
    }

    async fn run_started(self: &Arc<Self>, run: &Run, vertex: &Arc<Vertex>) -> Result<Landed, StepError> {
        if let Some(pinned) = self.pinned(run.vertex) {
            // A source that is asked for again because its bytes were lost.
            let out = Out { result: pinned.register(&self.results) };
            return Ok(Landed::Ran(match self.materialise(vertex.digest, &[out.result]).await? {
                None => Ran::Done(vec![out]),
                Some(_) => Ran::Failed(Failure { error: Arc::new(StepError::SourceLost), adoptable: true }),
            }));
        }
        // A list of layers is put together out of lists: that needs no bytes, unless they are what is asked for.
        let works = matches!(vertex.op, Op::Exec(_) | Op::File(_));
        if works && self.is_taken(run).await? {
            return Ok(Landed::Busy);
        }
        if (works || run.need_bytes)
            && let Some(lost) = self.materialise(vertex.digest, &run.inputs).await?
        {
            return Ok(Landed::Ran(Ran::Missing(lost)));
        }
        // From here on nothing waits for anybody else: the lock of the key is held.
        let wish = match works {
            true => match self.turn(run, vertex).await? {
                Turn::Mine(wish) => Some(wish),
                Turn::Found(outs) => return Ok(Landed::Ran(self.made_elsewhere(vertex, outs))),
                Turn::Failed(error) => return Err(error),
                Turn::Busy => return Ok(Landed::Busy),
            },
            false => None,
        };
        let roots = self.roots(&run.inputs)?;
        let start = Instant::now();
        let made = match self.run_vertex(vertex, run, roots, wish).await {
            Ok(made) => made,
            Err(StepError::Changing(path)) => {
                let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
                let times = changed.entry(run.vertex).or_default();
                *times += 1;
                let again = Ok(Landed::Ran(Ran::KeyStale));
                return if *times > CHANGES { Err(StepError::Changing(path)) } else { again };
            }
            Err(error) => {
                // Gone between the look and the use?
                let lost = error.lost_layer().and_then(|layer| self.results.with_layer(&run.inputs, layer));
                return lost.map(|lost| Landed::Ran(Ran::Missing(lost))).ok_or(error);
            }
        };
        let ended = (std::time::SystemTime::now().into(), start.elapsed());
        self.ran.lock().unwrap_or_else(PoisonError::into_inner).insert(run.key, ended);
        let outs = made.iter().map(|layers| Out { result: self.results.layers(layers) }).collect();
        Ok(Landed::Ran(Ran::Done(outs)))
    }

    fn made_elsewhere(&self, vertex: &Vertex, outs: Vec<Out>) -> Ran<Fault> {
        self.events.reason(vertex.digest, "another process has made it");
        Ran::Found(outs)
    }

    async fn wait_now(self: &Arc<Self>, run: &Run) -> Option<Ran<Fault>> {
        let vertex = self.vertex(run.vertex).ok()?;
        let ran = self.wait_for_other(run, &vertex).await;
        if ran.is_some() || run.cancel.is_cancelled() {
            self.flights.land(run.key, run.forced);
        }
        match ran {
            Some(Ran::Found(outs)) => Some(self.made_elsewhere(&vertex, outs)),
            ran => ran,
        }
    }

    fn keep_now(&self, vertex: VertexId, key: Key, forced: bool, outs: &[Out]) -> Result<Kept, StepError> {
        let (created, cost) = self
            .ran
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&key)
            .unwrap_or_else(|| (std::time::SystemTime::now().into(), Duration::ZERO));
        let mut outputs = Vec::new();
        for out in outs {
            let Some(Root::Layers(layers)) = self.results.get(out.result) else {
                return Err(StepError::Panicked);
            };
            outputs.push(OutputRecord { result: Digest::from_bytes(out.result.0), layers: layers.to_vec() });
        }
        let record = Record {
            key: Digest::from_bytes(key.0),
            outputs,
            created,
            cost,
            recipe: None,
            // For people who look at what the store keeps.
            meta: serde_json::json!({ "name": self.vertices.get(&vertex).and_then(|vertex| vertex.name()) }),
        };
        // A winner whose bytes are gone is no winner: what was just made takes its place.
        let rule = if forced { Publish::Replace } else { Publish::FirstWithBytes };
        let published = self.store.publish(&record, rule)?;
        // Only now: who finds the lock free and no record makes it again.
        self.flights.land(key, forced);
        Ok(Kept { outs: self.outs(vertex, &published.record), adopted: !published.won })
    }
}

fn unkeyed(error: StepError) -> Unkeyed<Fault> {
    Unkeyed::Failed(failure(error))
}

/// Says whether a failure would have happened to anybody.
fn failure(error: StepError) -> Failure<Fault> {
    let adoptable = error.is_reproducible();
    Failure { error: Arc::new(error), adoptable }
}

/// The inputs of a vertex as its key reads them.
struct Reading<'a> {
    work: &'a Work,
    vertex: &'a Vertex,
    inputs: &'a [ResultId],
    roots: &'a [Root],
}

impl Inputs for Reading<'_> {
    type Error = StepError;

    fn whole(&self, input: usize) -> Result<Digest, StepError> {
        match self.roots.get(input) {
            Some(Root::Folder(folder)) => folder.whole_digest(),
            _ => self.inputs.get(input).map(|id| Digest::from_bytes(id.0)).ok_or(StepError::Panicked),
        }
    }

    fn selected(
        &self,
        input: usize,
        selector: &Selector,
        wanted: &Patterns<'_>,
    ) -> Result<Digest, StepError> {
        let filter = patterns(wanted.include, wanted.exclude)?;
        let read = match self.roots.get(input) {
            Some(Root::Folder(folder)) => folder.read(selector, filter.as_ref())?,
            Some(Root::Layers(layers)) => {
                let indexes: Vec<Arc<Index>> = self.work.store.indexes(layers)?;
                let indexes: Vec<&Index> = indexes.iter().map(|index| &**index).collect();
                never(select::read(&Merged::new(&indexes), selector, filter.as_ref()))
            }
            None => {
                return Err(StepError::Unsupported(format!("input {input} of `{}`", self.vertex.digest)));
            }
        };
        match read.lacks(wanted.required) {
            Some(path) => Err(StepError::NotFound(path.to_owned())),
            None => Ok(read.digest()),
        }
    }

    fn has_secret(&self, id: &str) -> bool {
        self.work.sources.given.secrets.contains_key(id)
    }

    fn has_agent(&self, id: &str) -> bool {
        self.work.sources.given.agent(id).is_some()
    }
}

/// A worker that can be handed to tasks.
#[derive(Clone)]
pub(crate) struct Shared(pub(crate) Arc<Work>);

impl Worker for Shared {
    type Finished = Exported;

    async fn pin(&self, vertex: VertexId) -> Result<Pin, Failure<Fault>> {
        let work = &self.0;
        let pinned = async {
            let vertex = work.vertex(vertex)?;
            let Op::Source(source) = &vertex.op else { return Err(StepError::Panicked) };
            work.sources.pin(&work.events, source, vertex.platform.as_ref(), vertex.digest).await
        };
        let pinned = pinned.await.map_err(failure)?;
        let pin = Pin(*pinned.key().as_bytes());
        work.pinned.lock().unwrap_or_else(PoisonError::into_inner).insert(vertex, pinned);
        Ok(pin)
    }

    async fn key(
        &self,
        vertex: VertexId,
        _: Option<Pin>,
        inputs: Vec<ResultId>,
    ) -> Result<Key, Unkeyed<Fault>> {
        self.0.key_of(vertex, inputs).await
    }

    async fn find(&self, vertex: VertexId, key: Key, need_bytes: bool) -> Option<Vec<Out>> {
        let work = &self.0;
        if let Some(pinned) = work.pinned(vertex) {
            // A source is known once it is pinned; its bytes are fetched when somebody needs them.
            return (!need_bytes).then(|| vec![Out { result: pinned.register(&work.results) }]);
        }
        let shared = work.clone();
        let look = move || shared.look(vertex, key, need_bytes);
        tokio::task::spawn_blocking(look).await.ok().flatten()
    }

    async fn run(&self, run: Run) -> Landed {
        match self.0.run_now(&run).await {
            Ok(landed) => landed,
            Err(error) => {
                let work = &self.0;
                work.near.look(&work.store, &work.results, run.vertex, &run.inputs, &error);
                Landed::Ran(Ran::Failed(failure(error)))
            }
        }
    }

    async fn wait(&self, run: Run) -> Option<Ran<Fault>> {
        self.0.wait_now(&run).await
    }

    async fn keep(
        &self,
        vertex: VertexId,
        key: Key,
        forced: bool,
        outs: Vec<Out>,
    ) -> Result<Kept, Failure<Fault>> {
        let work = self.0.clone();
        let keep = move || {
            let kept = work.keep_now(vertex, key, forced, &outs);
            if kept.is_err() {
                work.flights.land(key, forced);
            }
            kept
        };
        tokio::task::spawn_blocking(keep).await.map_err(|_| StepError::Panicked).flatten().map_err(failure)
    }

    async fn finish(&self, results: Vec<ResultId>) -> Result<Exported, Unfinished> {
        self.0.export.run(&self.0, results).await
    }

    fn note(&self, note: &Note<Fault>) {
        let digest = |id: &VertexId| self.0.vertices.get(id).map(|vertex| vertex.digest);
        self.0.events.note(note, digest);
    }
}

/// Names a vertex for the solver: by its LLB digest, and apart from others where it ignores the cache.
pub(crate) fn vertex_id(vertex: &Vertex, nonce: Option<&[u8; 32]>) -> VertexId {
    let mut hash = Hasher::new();
    hash.field(b"cooper vertex 1");
    hash.field(vertex.digest.as_bytes());
    hash.field(nonce.map_or(&[][..], |nonce| nonce));
    VertexId(*hash.finish().as_bytes())
}

/// Translates an edge of a graph.
pub(crate) fn edge(ids: &[VertexId], edge: Edge) -> Option<cooper_solver::Edge> {
    ids.get(edge.vertex).map(|vertex| cooper_solver::Edge { vertex: *vertex, output: edge.output })
}
