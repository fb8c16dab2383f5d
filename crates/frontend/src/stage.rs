//! Stages while they are converted: what is known of each, and how they depend on each other.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use cooper_dockerfile::instruction::{ArgPair, Command, Stage};
use cooper_dockerfile::{Lines, Span};
use cooper_llb::State;
use cooper_oci::{History, Image, Platform};

use crate::error::LineRange;
use crate::named::NamedContext;
use crate::outline::Facts;

/// A stage's place in [`Stages`].
pub(crate) type StageId = usize;

/// A command with the stages that it reads from.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) command: Command,
    /// `COPY --from`: one. `RUN --mount`: one a mount, in order.
    pub(crate) sources: Vec<StageId>,
    /// Whether it comes from an ONBUILD trigger.
    pub(crate) onbuild: bool,
}

/// Where an instruction that only counts once was seen last.
pub(crate) type Seen = Option<LineRange>;

/// History entries of commands. A stage shares those of the stage that it is built on: in a long chain of stages every
/// one has all entries of those before it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entries(Option<Rc<Entry>>);

#[derive(Debug)]
struct Entry {
    entry: History,
    before: Entries,
}

impl Entries {
    pub(crate) fn push(&mut self, entry: History) {
        let before = Entries(self.0.take());
        self.0 = Some(Rc::new(Entry { entry, before }));
    }

    /// All entries in order.
    pub(crate) fn to_vec(&self) -> Vec<History> {
        let mut all = Vec::new();
        let mut next = &self.0;
        while let Some(entry) = next {
            all.push(entry.entry.clone());
            next = &entry.before.0;
        }
        all.reverse();
        all
    }
}

impl Drop for Entries {
    /// One after the other: dropping a long list by recursion would need a deep stack.
    fn drop(&mut self) {
        let mut next = self.0.take();
        while let Some(entry) = next {
            next = Rc::into_inner(entry).and_then(|mut entry| entry.before.0.take());
        }
    }
}

/// A stage, or something that is used like one: an image or a context that a command names.
#[derive(Clone, Debug)]
pub(crate) struct StageState {
    pub(crate) stage: Stage,
    /// Lines of the `FROM`, or of the `COPY --from` that names it; none for `RUN --mount`.
    pub(crate) lines: Vec<LineRange>,
    pub(crate) commands: Vec<Planned>,
    /// Stages that commands read from, with the lines of the last command that reads.
    pub(crate) reads: Vec<(StageId, LineRange)>,
    /// The stage that it is built on.
    pub(crate) base: Option<StageId>,
    pub(crate) named: Option<NamedContext>,
    pub(crate) state: State,
    /// The image so far, but for the history of the file's own commands.
    pub(crate) image: Image,
    pub(crate) history: Entries,
    /// Configuration of the base image, as it came.
    pub(crate) base_image: Option<Image>,
    pub(crate) platform: Option<Platform>,
    /// Name to show: as written, `stage-N`, or nothing where there is only one.
    pub(crate) shown: String,
    /// Paths that it reads of the build context.
    pub(crate) context_paths: BTreeSet<String>,
    /// Index of the set of paths that others read of it. A stage shares the set of its base.
    pub(crate) paths: usize,
    pub(crate) args: Vec<ArgPair>,
    /// What an outline says of it.
    pub(crate) facts: Facts,
    pub(crate) ignore_cache: bool,
    /// Not in the Dockerfile: named by a command only.
    pub(crate) unregistered: bool,
    pub(crate) resolved: bool,
    pub(crate) dispatched: bool,
    pub(crate) triggers_read: bool,
    /// Counted steps done, and how many there are.
    pub(crate) step: usize,
    pub(crate) steps: usize,
    pub(crate) workdir_seen: bool,
    pub(crate) entrypoint: Seen,
    pub(crate) cmd: Seen,
    pub(crate) healthcheck: Seen,
}

/// All stages, in the order in which BuildKit handles them: those of the file, then what commands name.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    all: Vec<StageState>,
    /// Registered ones in order.
    pub(crate) order: Vec<StageId>,
    by_name: BTreeMap<String, StageId>,
    paths: Vec<BTreeSet<String>>,
}

/// The name of the base that is nothing.
pub(crate) const SCRATCH: &str = "scratch";

impl Stages {
    /// Makes a state for a stage; it takes part in nothing before it is registered.
    pub(crate) fn create(&mut self, stage: Stage, lines: Vec<LineRange>) -> StageId {
        self.paths.push(BTreeSet::new());
        self.all.push(StageState {
            shown: stage.name.clone(),
            stage,
            lines,
            commands: Vec::new(),
            reads: Vec::new(),
            base: None,
            named: None,
            state: State::scratch(),
            image: Image::default(),
            history: Entries::default(),
            base_image: None,
            platform: None,
            context_paths: BTreeSet::new(),
            paths: self.paths.len() - 1,
            args: Vec::new(),
            facts: Facts::default(),
            ignore_cache: false,
            unregistered: false,
            resolved: false,
            dispatched: false,
            triggers_read: false,
            step: 0,
            steps: 0,
            workdir_seen: false,
            entrypoint: None,
            cmd: None,
            healthcheck: None,
        });
        self.all.len() - 1
    }

    /// Makes a state for something that is no stage of the file.
    pub(crate) fn create_unregistered(&mut self, name: &str, lines: Vec<LineRange>) -> StageId {
        let stage = Stage {
            name: String::new(),
            base: name.to_owned(),
            platform: String::new(),
            commands: Vec::new(),
            keyword: String::new(),
            doc: String::new(),
            text: String::new(),
            lines: Lines::default(),
            span: Span::default(),
            comments: Vec::new(),
            as_keyword: Default::default(),
            written_name: Default::default(),
        };
        let id = self.create(stage, lines);
        self.get_mut(id).unregistered = true;
        id
    }

    /// Puts a state into the order and finds its base among the stages before it.
    pub(crate) fn register(&mut self, id: StageId) {
        self.order.push(id);
        let base = self.by_name.get(&self.get(id).stage.base).copied();
        let name = self.get(id).stage.name.to_lowercase();
        if base.is_some() {
            self.get_mut(id).base = base;
            if let Some(base) = base {
                self.get_mut(id).facts = self.get(base).facts.clone();
            }
        }
        if !name.is_empty() {
            self.by_name.insert(name, id);
        }
    }

    /// A stage by id; ids come from [`Stages::create`] only.
    pub(crate) fn get(&self, id: StageId) -> &StageState {
        &self.all[id]
    }

    /// A stage by id, to change it.
    pub(crate) fn get_mut(&mut self, id: StageId) -> &mut StageState {
        &mut self.all[id]
    }

    /// The last registered stage of this name, in any case.
    pub(crate) fn find(&self, name: &str) -> Option<StageId> {
        self.by_name.get(&name.to_lowercase()).copied()
    }

    /// Names that may be suggested.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.order.iter().map(|id| self.get(*id).shown.as_str()).filter(|name| !name.is_empty()).collect()
    }

    /// Paths that others read of a stage.
    pub(crate) fn paths_of(&self, id: StageId) -> &BTreeSet<String> {
        &self.paths[self.get(id).paths]
    }

    /// Notes that others read a path of a stage.
    pub(crate) fn mark_path(&mut self, id: StageId, path: String) {
        let index = self.get(id).paths;
        self.paths[index].insert(path);
    }

    /// Notes that a command of `reader` reads from `source`.
    pub(crate) fn note_read(&mut self, reader: StageId, source: StageId, lines: LineRange) {
        let reads = &mut self.get_mut(reader).reads;
        match reads.iter_mut().find(|(id, _)| *id == source) {
            Some((_, last)) => *last = lines,
            None => reads.push((source, lines)),
        }
    }

    /// Everything that a stage needs, itself included.
    pub(crate) fn reachable(&self, from: StageId) -> BTreeSet<StageId> {
        let mut seen = BTreeSet::new();
        let mut todo = vec![from];
        while let Some(id) = todo.pop() {
            if seen.insert(id) {
                let stage = self.get(id);
                todo.extend(stage.base);
                todo.extend(stage.reads.iter().map(|(id, _)| *id));
            }
        }
        seen
    }

    /// Takes over what a stage has from the stage that it is built on.
    pub(crate) fn inherit(&mut self, id: StageId) {
        let Some(base) = self.get(id).base else { return };
        let base = self.get(base);
        let (state, platform, paths) = (base.state.clone(), base.platform.clone(), base.paths);
        let (image, history, base_image) =
            (base.image.clone(), base.history.clone(), base.base_image.clone());
        let (workdir_seen, args) = (base.workdir_seen, base.args.clone());
        let stage = self.get_mut(id);
        stage.state = state;
        stage.platform = platform;
        stage.image = image;
        stage.image.config.on_build.clear();
        stage.history = history;
        stage.base_image = base_image;
        stage.paths = paths;
        stage.workdir_seen = workdir_seen;
        stage.args.extend(args);
    }

    /// The lines of the commands that make a circle, if stages read each other in one; and the stage where it was met.
    pub(crate) fn circle(&self) -> Option<(StageId, Vec<LineRange>)> {
        let mut visited = BTreeSet::new();
        self.order.iter().find_map(|id| Some((*id, self.circle_from(*id, &mut visited)?)))
    }

    /// Follows what a stage reads, with a stack of its own: a chain may be as long as the file.
    fn circle_from(&self, start: StageId, visited: &mut BTreeSet<StageId>) -> Option<Vec<LineRange>> {
        if !visited.insert(start) {
            return None;
        }
        // Stages on the way, with how many of their reads were followed.
        let mut path = vec![(start, 0)];
        let mut on_path = BTreeSet::from([start]);
        while let Some((id, next)) = path.last_mut() {
            let Some((source, _)) = self.get(*id).reads.get(*next) else {
                on_path.remove(id);
                path.pop();
                continue;
            };
            *next += 1;
            if on_path.contains(source) {
                let line =
                    |(id, next): &(StageId, usize)| self.get(*id).reads.get(next - 1).map(|read| read.1);
                return Some(path.iter().filter_map(line).collect());
            }
            if visited.insert(*source) {
                on_path.insert(*source);
                path.push((*source, 0));
            }
        }
        None
    }
}
