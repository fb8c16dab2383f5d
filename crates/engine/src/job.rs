//! One build from its description to what comes out.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cooper_executor::{Cancel, Config, LocalExecutor, Runtime};
use cooper_frontend::{
    Answered, Answers, Lint, Outline, Request, SourceText, Target, UnknownArg, UnusedStage, Warning,
};
use cooper_layer::Owners;
use cooper_llb::{Op, Vertex, decode_definition, pb};
use cooper_oci::Platform;
use cooper_progress::EventKind;
use cooper_registry::{Auth, Client, Web};
use cooper_solver::{Node, VertexId};
use cooper_source::{ImageName, Images, Urls};
use cooper_store::Store;

use crate::answers::{answered, converted};
use crate::drive::drive;
use crate::error::{Error, FailedStep, StepError};
use crate::events::{Events, Merge, Observer, RanStep, place};
use crate::export::{Export, ExportPlatform, Exported};
use crate::flights::clear;
use crate::given::Entitlement;
use crate::graph::Nodes;
use crate::provide::Provided;
use crate::settings::Settings;
use crate::sources::Sources;
use crate::spaces::Spaces;
use crate::spec::{Context, JobSpec, NamedContext};
use crate::work::{Shared, Work};

/// What all builds of a process share.
pub struct Engine {
    store: Store,
    images: Images,
    urls: Urls,
    runtime: Runtime,
    /// For bundles and the runtime's state.
    state: PathBuf,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("store", &self.store).finish_non_exhaustive()
    }
}

/// What a build came to.
#[derive(Debug, Clone)]
pub struct Report {
    /// What came out.
    pub exported: Exported,
    /// The steps that ran, by their start.
    pub ran: Vec<RanStep>,
    /// The steps that were merged.
    pub merged: Vec<Merge>,
    /// How many steps were found in the cache.
    pub cached: usize,
    /// Stages that the target does not need.
    pub unused: Vec<UnusedStage>,
    /// Build arguments that were given and that nothing declares.
    pub unknown_args: Vec<UnknownArg>,
    /// What the build checks found.
    pub warnings: Vec<Warning>,
    /// How long it took.
    pub took: Duration,
}

impl Engine {
    /// Opens the store and makes an engine on it.
    ///
    /// # Errors
    ///
    /// If the store cannot be opened, or the client of registries cannot be made.
    pub fn open(settings: &Settings, auth: Arc<dyn Auth>) -> Result<Self, Error> {
        let owners = if settings.single_id { Owners::Record } else { Owners::Set };
        let max_used = settings.max_used;
        let options = cooper_store::Options { owners, max_used, ..cooper_store::Options::default() };
        let store = Store::open_with(&settings.root, &options)?;
        let client = Client::new(&settings.registries, auth).map_err(cooper_source::Error::from)?;
        let images = Images::new(store.clone(), Arc::new(client));
        let web = Web::new(&settings.registries).map_err(cooper_source::Error::from)?;
        let urls = Urls::new(store.clone(), web);
        // What is in the store is cleared up after a killed process, too.
        let state = store.scratch()?;
        clear(&store, store.dead_attempts()?)?;
        Ok(Self { store, images, urls, runtime: settings.runtime.clone(), state })
    }

    /// Returns the store, for looking at what is in it and for deleting.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns what looks images up.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// Runs the build checks and builds nothing.
    ///
    /// # Errors
    ///
    /// If the Dockerfile or the options cannot be read; what is wrong in the Dockerfile is part of the answer.
    pub async fn lint(&self, spec: &JobSpec, observer: Observer) -> Result<(Lint, Arc<SourceText>), Error> {
        self.inspect(spec, observer, cooper_frontend::lint).await
    }

    /// Lists what the target takes from outside, and builds nothing.
    ///
    /// # Errors
    ///
    /// If the Dockerfile cannot be converted.
    pub async fn outline(
        &self,
        spec: &JobSpec,
        observer: Observer,
    ) -> Result<(Outline, Arc<SourceText>), Error> {
        self.inspect(spec, observer, cooper_frontend::outline).await
    }

    /// Lists the stages that can be built, and builds nothing.
    ///
    /// # Errors
    ///
    /// If the Dockerfile cannot be read.
    pub async fn targets(
        &self,
        spec: &JobSpec,
        observer: Observer,
    ) -> Result<(Vec<Target>, Arc<SourceText>), Error> {
        self.inspect(spec, observer, cooper_frontend::targets).await
    }

    async fn inspect<T>(
        &self,
        spec: &JobSpec,
        observer: Observer,
        ask: impl Fn(&Request, &Answers) -> Result<Answered<T>, cooper_frontend::Error>,
    ) -> Result<(T, Arc<SourceText>), Error> {
        let (sources, request) = self.prepare(spec).await?;
        answered(self, &request, ask, &Arc::new(sources), &Arc::new(Events::new(observer))).await
    }

    /// Runs a build to its end.
    ///
    /// # Errors
    ///
    /// The first thing that went wrong. Finished steps stay cached, nothing is left running, and no output is half
    /// written.
    pub async fn build(&self, spec: JobSpec, observer: Observer, cancel: &Cancel) -> Result<Report, Error> {
        let start = Instant::now();
        let events = Arc::new(Events::new(observer));
        let (sources, request) = self.prepare(&spec).await?;
        let sources = Arc::new(sources);
        let built = tokio::select! {
            built = converted(self, &request, &sources, &events) => built?,
            () = cancel.cancelled() => return Err(Error::Cancelled),
        };
        for warning in &built.warnings {
            events.warning(warning, Some(&built.source));
        }
        let mut graph = Nodes::default();
        let mut targets = Vec::new();
        let mut platforms = Vec::new();
        for platform in &built.platforms {
            let mut target = None;
            // What is exported comes first; the others only have to be made.
            for (number, bytes) in std::iter::once(&platform.definition).chain(&platform.others).enumerate() {
                let definition = decode_definition(bytes).map_err(Error::Graph)?;
                if let Some(root) = graph.add(&definition, &platform.steps, &events)? {
                    if number == 0 {
                        target = Some(targets.len());
                    }
                    targets.push(root);
                }
            }
            platforms.push(ExportPlatform {
                platform: platform.platform.clone(),
                target,
                image: platform.image.clone(),
                base_image: platform.base_image.clone(),
                epoch: platform.epoch,
            });
        }
        let Nodes { nodes, vertices, .. } = graph;
        let export = Export { outputs: spec.outputs, names: spec.names, platforms };
        let work = Arc::new(self.work(&sources, &events, vertices, export)?);
        let readers = readers(&nodes);
        // Before anything runs or is found: what is not allowed is not allowed out of the cache either.
        if let Some((vertex, error)) = refused(&work) {
            return Err(attributed(Error::Step { vertex, error: Arc::new(error) }, &work, &readers));
        }
        let exported = drive(Arc::new(Shared(work.clone())), nodes, targets, spec.jobs, cancel).await;
        let gone = || Error::StoreGone(self.store.root().to_owned());
        let exported = exported.map_err(|error| match error {
            Error::Cancelled => error,
            // Whatever failed, this is why.
            _ if !self.store.is_whole() => gone(),
            error => attributed(error, &work, &readers),
        });
        // What a failed build has finished and learnt is kept, too; its own error counts more than one of this.
        let finished = work.clone();
        let save = move || finished.sources.save().and_then(|()| finished.store.sync());
        let saved = tokio::task::spawn_blocking(save).await.map_err(|_| Error::Panicked);
        let exported = exported?;
        if !self.store.is_whole() {
            return Err(gone());
        }
        saved??;
        let (ran, merged, cached) = events.summary();
        let first = built.platforms.into_iter().next();
        let (unused, unknown_args) =
            first.map(|platform| (platform.unused_stages, platform.unknown_args)).unwrap_or_default();
        let (warnings, took) = (built.warnings, start.elapsed());
        Ok(Report { exported, ran, merged, cached, unused, unknown_args, warnings, took })
    }

    /// Prepares for the steps of a graph.
    pub(crate) fn work(
        &self,
        sources: &Arc<Sources>,
        events: &Arc<Events>,
        vertices: HashMap<VertexId, Arc<Vertex>>,
        export: Export,
    ) -> Result<Work, Error> {
        Ok(Work {
            store: self.store.clone(),
            executor: self.executor(sources, false)?,
            forced_executor: self.executor(sources, true)?,
            vertices,
            results: Default::default(),
            sources: sources.clone(),
            events: events.clone(),
            export,
            pinned: Default::default(),
            ran: Default::default(),
            changed: Default::default(),
            flights: Default::default(),
            makers: Default::default(),
            near: Default::default(),
        })
    }

    fn executor(&self, sources: &Sources, forced: bool) -> Result<LocalExecutor, Error> {
        let config = Config {
            runtime: self.runtime.clone(),
            state: self.state.clone(),
            allow_insecure: sources.given.allowed.contains(&Entitlement::SecurityInsecure),
        };
        let spaces = Spaces { store: self.store.clone(), forced };
        let provided = Provided { store: self.store.clone(), given: sources.given.clone() };
        LocalExecutor::providing(config, Arc::new(spaces), Arc::new(provided))
            .map_err(|error| Error::Environment(error.to_string()))
    }

    /// Translates the description into what the frontend and the sources are told.
    async fn prepare(&self, spec: &JobSpec) -> Result<(Sources, Request), Error> {
        let mut opts = spec.opts.clone();
        let mut folders = BTreeMap::new();
        let mut dockerfile = spec.dockerfile.0.clone();
        match &spec.context {
            Context::Folder(path) => {
                folders.insert("context".to_owned(), path.clone());
                dockerfile.get_or_insert_with(|| path.clone());
            }
            Context::Remote(address) => {
                opts.insert("context".to_owned(), address.clone());
                if dockerfile.is_some() {
                    opts.insert("dockerfilekey".to_owned(), "dockerfile".to_owned());
                }
            }
        }
        folders.extend(dockerfile.map(|path| ("dockerfile".to_owned(), path)));
        let mut layouts = BTreeMap::new();
        opts.insert("filename".to_owned(), spec.dockerfile.1.clone());
        for (number, (name, context)) in spec.contexts.iter().enumerate() {
            let value = match context {
                NamedContext::Folder(path) => {
                    folders.insert(name.clone(), path.clone());
                    format!("local:{name}")
                }
                NamedContext::Image(reference) => format!("docker-image://{reference}"),
                NamedContext::Remote(address) => address.clone(),
                NamedContext::Layout(text) => {
                    let image = ImageName::layout(text);
                    let found = self.images.resolve(&image, &Platform::host()).await?;
                    let ImageName::Layout { dir, reference } = image else { continue };
                    // What a reference may not be called as; the digest says which image is meant.
                    let store = format!("layout-{number}");
                    layouts.insert(store.clone(), dir);
                    let tag =
                        if reference.is_empty() || reference.contains(':') { "latest" } else { &reference };
                    format!("oci-layout://{store}:{tag}@{}", found.digest)
                }
            };
            opts.insert(format!("context:{name}"), value);
        }
        let request =
            Request { opts, worker_platforms: vec![Platform::host()], session: "cooper".to_owned() };
        let (store, images, urls) = (self.store.clone(), self.images.clone(), self.urls.clone());
        Ok((Sources::new(store, images, urls, folders, layouts, spec.given.clone()), request))
    }
}

/// Finds a step that asks for what the build may not do.
fn refused(work: &Work) -> Option<(VertexId, StepError)> {
    let asked = work.vertices.iter().filter_map(|(id, vertex)| {
        let Op::Exec(exec) = &vertex.op else { return None };
        let host = exec.network == pb::NetMode::Host as i32;
        let insecure = exec.security == pb::SecurityMode::Insecure as i32;
        let wanted = [(host, Entitlement::NetworkHost), (insecure, Entitlement::SecurityInsecure)];
        let given = &work.sources.given.allowed;
        let refused = wanted.into_iter().find(|(asked, what)| *asked && !given.contains(what));
        refused.map(|(_, what)| (vertex.digest, *id, what))
    });
    // Of several always the same.
    let (_, id, what) = asked.min_by_key(|(digest, ..)| *digest)?;
    let (what, remedy) = (what.name().to_owned(), format!("if it may, say so by `--allow {}`", what.name()));
    Some((id, cooper_executor::StepError::NotAllowed { what, remedy }.into()))
}

/// Lists for each vertex one that reads it.
fn readers(nodes: &[Node]) -> HashMap<VertexId, VertexId> {
    let edges = nodes.iter().flat_map(|node| node.inputs.iter().map(|input| (input.vertex, node.vertex)));
    // The first reader counts: it is the one nearest to where the vertex was asked for.
    let mut out = HashMap::new();
    for (read, by) in edges {
        out.entry(read).or_insert(by);
    }
    out
}

/// Says of a failed step where it stands. A source has no line of its own; it stands where it is read.
fn attributed(error: Error, work: &Work, readers: &HashMap<VertexId, VertexId>) -> Error {
    let Error::Step { vertex, error } = error else { return error };
    let id = vertex;
    let Some(vertex) = work.vertices.get(&id) else { return Error::Step { vertex: id, error } };
    let mut steps = work.events.steps(vertex.digest);
    if let Some(reader) = readers.get(&id).and_then(|reader| work.vertices.get(reader))
        && steps.is_empty()
    {
        steps = work.events.steps(reader.digest);
    }
    Error::FailedStep(Box::new(FailedStep {
        vertex: vertex.digest,
        name: vertex.name().unwrap_or_default().to_owned(),
        places: steps.iter().map(place).collect(),
        lines: steps.iter().map(|step| step.lines).collect(),
        text: steps.first().map(|step| step.text.clone()).unwrap_or_default(),
        stage: steps.first().map(|step| step.stage.clone()),
        error,
        near: work.near.take(id),
    }))
}

impl Events {
    pub(crate) fn warning(&self, warning: &Warning, source: Option<&SourceText>) {
        let lines = warning.lines.first().map_or((0, 0), |lines| (lines.start, lines.end));
        self.send(EventKind::Warning(cooper_progress::Warning {
            rule: warning.rule.to_owned(),
            message: warning.message.clone(),
            file: source.map(|source| source.name.clone()).unwrap_or_default(),
            lines,
            url: warning.url.to_owned(),
        }));
    }
}
