//! What is told of a build while it runs, and what is known of it at its end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cooper_frontend::Step;
use cooper_oci::Digest;
use cooper_progress::{Event, EventKind, Stream, Vertex as Shown};
use cooper_solver::{Note, VertexId, Why};

use crate::answers::{chain, now};
use crate::drive::Fault;

/// Takes events as they happen.
pub type Observer = Box<dyn Fn(Event) + Send + Sync>;

/// Two steps that are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// Where the one that runs stands: `part_1 line 6`.
    pub first: String,
    /// Where the other stands.
    pub second: String,
    /// The instruction.
    pub text: String,
}

/// A step that ran.
#[derive(Debug, Clone)]
pub struct RanStep {
    /// Where it stands, every place of it.
    pub places: Vec<String>,
    /// The instruction.
    pub text: String,
    /// When it began, since the start of the build.
    pub start: Duration,
    /// When it ended.
    pub end: Duration,
}

/// The events of one build.
pub(crate) struct Events {
    observer: Observer,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    steps: BTreeMap<Digest, Vec<Step>>,
    /// Vertices that were told of: several graphs may share some.
    told: HashSet<Digest>,
    running: HashMap<Digest, Duration>,
    completed: HashSet<Digest>,
    /// Folders of the user's: never "cached", they are looked at anew.
    folders: HashSet<Digest>,
    ran: Vec<RanStep>,
    merged: Vec<Merge>,
    cached: HashSet<Digest>,
}

impl Events {
    pub(crate) fn new(observer: Observer) -> Self {
        Self { observer, started: Instant::now(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn send(&self, kind: EventKind) {
        (self.observer)(Event { time: now(), kind });
    }

    /// Tells of all vertices, and of the steps that are one from the start because they are equal.
    pub(crate) fn graph(&self, vertices: &[cooper_llb::Vertex], steps: &[Step]) {
        {
            let mut state = self.state();
            for step in steps {
                let known = state.steps.entry(step.vertex).or_default();
                // Two platforms list the same steps.
                if !known
                    .iter()
                    .any(|known| known.stage_index == step.stage_index && known.lines == step.lines)
                {
                    known.push(step.clone());
                }
            }
        }
        for vertex in vertices {
            if matches!(&vertex.op, cooper_llb::Op::Source(source) if source.identifier.starts_with("local://"))
            {
                self.state().folders.insert(vertex.digest);
            }
            if !self.state().told.insert(vertex.digest) {
                continue;
            }
            let step = self.state().steps.get(&vertex.digest).and_then(|steps| steps.first().cloned());
            self.send(EventKind::Vertex(Shown {
                digest: vertex.digest,
                name: vertex.name().map_or_else(|| vertex.digest.to_string(), str::to_owned),
                inputs: vertex
                    .inputs
                    .iter()
                    .filter_map(|input| vertices.get(input.vertex))
                    .map(|input| input.digest)
                    .collect(),
                stage: step.as_ref().map(|step| step.stage.clone()),
                line: step.as_ref().map(|step| step.lines.start),
            }));
        }
        let groups: Vec<Vec<Step>> =
            self.state().steps.values().filter(|steps| steps.len() > 1).cloned().collect();
        for steps in groups {
            let Some((first, others)) = steps.split_first() else { continue };
            for other in others {
                self.merge(first, other);
            }
        }
    }

    fn merge(&self, first: &Step, second: &Step) {
        let merge = Merge { first: place(first), second: place(second), text: second.text.clone() };
        if self.state().merged.contains(&merge) {
            return;
        }
        self.send(EventKind::Merged {
            vertex: first.vertex,
            first: merge.first.clone(),
            second: merge.second.clone(),
        });
        self.state().merged.push(merge);
    }

    /// Tells of something that is no vertex of the graph, and that it has begun.
    pub(crate) fn internal(&self, vertex: Digest, name: &str) {
        let shown =
            Shown { digest: vertex, name: name.to_owned(), inputs: Vec::new(), stage: None, line: None };
        self.send(EventKind::Vertex(shown));
        self.send(EventKind::Started { vertex });
    }

    pub(crate) fn started(&self, vertex: Digest) {
        {
            let mut state = self.state();
            state.running.insert(vertex, self.started.elapsed());
            // It may have been stopped before, and is taken up again.
            state.completed.remove(&vertex);
            state.cached.remove(&vertex);
        }
        self.send(EventKind::Started { vertex });
    }

    /// Takes back that a vertex runs: it found that it has to begin anew.
    pub(crate) fn gave_up(&self, vertex: Digest) {
        self.state().running.remove(&vertex);
    }

    pub(crate) fn completed(&self, vertex: Digest, cached: bool, error: Option<String>) {
        let cached = cached && !self.state().folders.contains(&vertex);
        {
            let mut state = self.state();
            let failed = error.is_some();
            if !state.completed.insert(vertex) && !failed {
                return;
            }
            let steps = state.steps.get(&vertex).cloned().unwrap_or_default();
            if let (Some(start), Some(first)) = (state.running.remove(&vertex), steps.first()) {
                let (text, end) = (first.text.clone(), self.started.elapsed());
                state.ran.push(RanStep { places: steps.iter().map(place).collect(), text, start, end });
            } else if cached && !steps.is_empty() {
                state.cached.insert(vertex);
            }
        }
        self.send(EventKind::Completed { vertex, cached, error });
    }

    /// Says why something is as it is.
    pub(crate) fn reason(&self, vertex: Digest, text: &str) {
        self.send(EventKind::Reason { vertex, text: text.to_owned() });
    }

    pub(crate) fn log(&self, vertex: Digest, error: bool, data: &[u8]) {
        let stream = if error { Stream::Stderr } else { Stream::Stdout };
        self.send(EventKind::Log { vertex, stream, data: data.to_vec() });
    }

    pub(crate) fn status(&self, vertex: Digest, id: &str, current: u64, total: Option<u64>, done: bool) {
        self.send(EventKind::Status { vertex, id: id.to_owned(), current, total, done });
    }

    /// Translates what the solver says.
    pub(crate) fn note(&self, note: &Note<Fault>, digest: impl Fn(&VertexId) -> Option<Digest>) {
        let reason = |vertex: &VertexId, text: &str| {
            if let Some(vertex) = digest(vertex) {
                self.reason(vertex, text);
            }
        };
        match note {
            Note::Merged { vertex, with } => {
                let (Some(second), Some(first)) = (digest(vertex), digest(with)) else { return };
                let steps = |vertex| self.state().steps.get(vertex).cloned().unwrap_or_default();
                if let (Some(first), Some(second)) = (steps(&first).first(), steps(&second).first()) {
                    self.merge(first, second);
                }
            }
            Note::Runs { vertex, why, .. } => match why {
                Why::Missed => {}
                Why::Forced => reason(vertex, "runs although it may be cached, as asked"),
                Why::InputLost => reason(vertex, "runs again: an input was made again and is not the same"),
                Why::KeyStale => reason(vertex, "runs again: what it reads changed while it ran"),
                Why::Lost => reason(vertex, "runs again: the files of its result are gone"),
                Why::TakenOver => reason(vertex, "runs again: the first try ended without a result"),
            },
            Note::Cached { vertex, after } => {
                if let Some(vertex) = digest(vertex) {
                    if after.is_some() {
                        let text = "cached: what it reads was made again and came out the same".to_owned();
                        self.send(EventKind::Reason { vertex, text });
                    }
                    self.completed(vertex, true, None);
                }
            }
            Note::CutOff { vertex } => {
                reason(vertex, "made the same files as before: what depends on it stays cached")
            }
            Note::Bound { vertex, .. } => {
                if let Some(vertex) = digest(vertex) {
                    self.completed(vertex, false, None);
                }
            }
            Note::Unbound { vertex, lost } => {
                if let Some(vertex) = digest(vertex) {
                    self.state().completed.remove(&vertex);
                    if *lost {
                        let text = "the files of its result are gone: they are made again".to_owned();
                        self.send(EventKind::Reason { vertex, text });
                    }
                }
            }
            Note::Failed { vertex, error } => {
                if let Some(vertex) = digest(vertex) {
                    self.completed(vertex, false, Some(chain(&**error)));
                }
            }
            Note::Cancelled { vertex } => {
                if let Some(vertex) = digest(vertex) {
                    self.completed(vertex, false, Some("context canceled".to_owned()));
                }
            }
            Note::Shared { .. } | Note::Started { .. } | Note::Unchanged { .. } | Note::Outrun { .. } => {}
        }
    }

    /// Returns the steps that ran, those that were merged, and how many were cached.
    pub(crate) fn summary(&self) -> (Vec<RanStep>, Vec<Merge>, usize) {
        let mut state = self.state();
        let mut ran = std::mem::take(&mut state.ran);
        ran.sort_by_key(|step| step.start);
        (ran, std::mem::take(&mut state.merged), state.cached.len())
    }

    /// Returns the steps that a vertex stands for.
    pub(crate) fn steps(&self, vertex: Digest) -> Vec<Step> {
        self.state().steps.get(&vertex).cloned().unwrap_or_default()
    }
}

/// Writes where a step stands.
pub(crate) fn place(step: &Step) -> String {
    format!("{} line {}", step.stage, step.lines.start)
}
