//! Files of contexts that are no folders: what the frontend asks of a git repository or of an unpacked download.
//!
//! Each question comes as a graph. It is solved like a build of its own, so that what it fetches and unpacks is in the
//! cache when the build itself comes to it.

use std::sync::Arc;

use cooper_executor::Cancel;
use cooper_executor::file::Root as Files;
use cooper_frontend::FileQuestion;
use cooper_llb::decode_definition;
use cooper_solver::{Failure, Kept, Key, Note, Out, Pin, Ran, ResultId, Unkeyed, VertexId};

use crate::drive::{Fault, Landed, Run, Unfinished, Worker, drive};
use crate::error::{Error, StepError};
use crate::events::Events;
use crate::graph::Nodes;
use crate::job::Engine;
use crate::results::Root;
use crate::sources::Sources;
use crate::work::Shared;

/// Longest file that is read for a question without a limit: a Dockerfile of a gigabyte is none.
const LONGEST: u64 = 64 << 20;

/// Steps that may run at the same time; such graphs are chains.
const SLOTS: usize = 2;

/// Returns a file of what a graph stands for; `None` if it has none of this name.
pub(crate) async fn file(
    engine: &Engine,
    question: &FileQuestion,
    sources: &Arc<Sources>,
    events: &Arc<Events>,
) -> Result<Option<Vec<u8>>, Error> {
    let definition = decode_definition(&question.definition).map_err(Error::Graph)?;
    let mut nodes = Nodes::default();
    let Some(target) = nodes.add(&definition, &[], events)? else { return Ok(None) };
    let work = engine.work(sources, events, nodes.vertices, Default::default())?;
    let look = Look { shared: Shared(Arc::new(work)), path: question.path.clone(), limit: question.limit };
    // Dropped with the build that asks.
    drive(Arc::new(look), nodes.nodes, vec![target], SLOTS, &Cancel::new()).await
}

/// Solves, and reads a file of the result.
#[derive(Clone)]
struct Look {
    shared: Shared,
    path: String,
    limit: Option<u64>,
}

impl Look {
    fn read(&self, id: ResultId) -> Result<Option<Vec<u8>>, Unfinished> {
        let failed = |error: StepError| Unfinished::Failed(Error::Unattributed(error));
        let work = &self.shared.0;
        let view;
        let root = match work.results.get(id) {
            Some(Root::Layers(layers)) => {
                view = match work.store.view(&layers) {
                    Ok(view) => view,
                    Err(cooper_store::Error::Lost(_)) => return Err(Unfinished::Missing(id)),
                    Err(error) => return Err(failed(error.into())),
                };
                view.root().to_owned()
            }
            Some(Root::Folder(folder)) => folder.path().to_owned(),
            None => return Err(failed(StepError::Panicked)),
        };
        let io = |error| failed(StepError::Io { action: "read", path: self.path.clone().into(), error });
        let files = Files::open(&root).map_err(io)?;
        let limit = self.limit.unwrap_or(LONGEST);
        match files.read_start(&self.path, limit) {
            Ok((_, true)) if self.limit.is_none() => Err(io(std::io::ErrorKind::FileTooLarge.into())),
            Ok((bytes, _)) => Ok(Some(bytes)),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(io(error)),
        }
    }
}

impl Worker for Look {
    type Finished = Option<Vec<u8>>;

    async fn pin(&self, vertex: VertexId) -> Result<Pin, Failure<Fault>> {
        self.shared.pin(vertex).await
    }

    async fn key(
        &self,
        vertex: VertexId,
        pin: Option<Pin>,
        inputs: Vec<ResultId>,
    ) -> Result<Key, Unkeyed<Fault>> {
        self.shared.key(vertex, pin, inputs).await
    }

    async fn find(&self, vertex: VertexId, key: Key, need_bytes: bool) -> Option<Vec<Out>> {
        self.shared.find(vertex, key, need_bytes).await
    }

    async fn run(&self, run: Run) -> Landed {
        self.shared.run(run).await
    }

    async fn wait(&self, run: Run) -> Option<Ran<Fault>> {
        self.shared.wait(run).await
    }

    async fn keep(
        &self,
        vertex: VertexId,
        key: Key,
        forced: bool,
        outs: Vec<Out>,
    ) -> Result<Kept, Failure<Fault>> {
        self.shared.keep(vertex, key, forced, outs).await
    }

    async fn finish(&self, results: Vec<ResultId>) -> Result<Self::Finished, Unfinished> {
        let Some(id) = results.first().copied() else { return Ok(None) };
        let work = &self.shared.0;
        if let Some(Root::Layers(layers)) = work.results.get(id) {
            let vertex = cooper_oci::Digest::from_bytes(id.0);
            let here = work.sources.materialise(&work.events, vertex, &layers).await;
            if !here.map_err(|error| Unfinished::Failed(Error::Unattributed(error)))? {
                return Err(Unfinished::Missing(id));
            }
        }
        let look = self.clone();
        tokio::task::spawn_blocking(move || look.read(id))
            .await
            .map_err(|_| Unfinished::Failed(Error::Panicked))?
    }

    fn note(&self, note: &Note<Fault>) {
        self.shared.note(note);
    }
}
