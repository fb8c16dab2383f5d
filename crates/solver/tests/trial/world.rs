//! The world of a trial: callers that come and go, and bytes that get lost, between answers in any order.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{AskId, DemandId, Edge, Event, FlightId, JobId, Key, Nonce, Pin, Request, ResultId, Solver};

use super::Error;
use super::answers::pin;
use super::graph::{Chances, Kind, Op, close_downwards, random_ops, vertex_id};
use super::rng::Rng;

/// What happened in a series of trials: a kind of event that never happens tests nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) trials: u64,
    pub(crate) vertices: u64,
    pub(crate) events: u64,
    pub(crate) sweeps: u64,
    pub(crate) runs: u64,
    pub(crate) hits: u64,
    pub(crate) merged: u64,
    pub(crate) shared: u64,
    pub(crate) cut_off: u64,
    pub(crate) unchanged: u64,
    pub(crate) stops: u64,
    pub(crate) lost: u64,
    pub(crate) missing: u64,
    pub(crate) stale: u64,
    pub(crate) outrun: u64,
    pub(crate) elsewhere: u64,
    pub(crate) done: u64,
    pub(crate) done_again: u64,
    pub(crate) failed: u64,
    pub(crate) drops: u64,
    /// Most events in one trial.
    pub(crate) longest: u64,
}

/// An open request.
#[derive(Clone, Debug)]
pub(crate) enum Open {
    Pin { ask: AskId, vertex: usize, job: JobId },
    Key { ask: AskId, vertex: usize, job: JobId, pin: Option<Pin>, inputs: Vec<ResultId> },
    Find { ask: AskId, key: Key, need_bytes: bool },
    Run(OpenRun),
    Keep { run: OpenRun, outs: Vec<ResultId> },
}

#[derive(Clone, Debug)]
pub(crate) struct OpenRun {
    pub(crate) flight: FlightId,
    pub(crate) vertex: usize,
    pub(crate) key: Key,
    pub(crate) nonce: Option<Nonce>,
    pub(crate) job: JobId,
    pub(crate) inputs: Vec<ResultId>,
    pub(crate) begun: bool,
    pub(crate) stopped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Grown,
    Live,
    Failed,
}

#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) job: JobId,
    pub(crate) state: State,
    pub(crate) grown: Vec<usize>,
    pub(crate) targets: Vec<(usize, u32)>,
    /// Whether it was told about what its targets are bound to now.
    pub(crate) told: bool,
    pub(crate) ever: bool,
}

/// What the checker knows about a vertex, from answers alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shadow {
    pub(crate) pin: Option<Pin>,
    /// The last key, with the version of what is outside at that time.
    pub(crate) keyed: Option<(Key, u64)>,
    /// The newest question of each kind.
    pub(crate) pin_ask: Option<AskId>,
    pub(crate) key_ask: Option<AskId>,
    pub(crate) bound: Option<Vec<ResultId>>,
    pub(crate) noted: bool,
    /// Its bytes were lost, and it is not bound again.
    pub(crate) lost: bool,
    pub(crate) runs: u32,
    pub(crate) excuses: u32,
}

/// The failure that was just answered.
#[derive(Clone, Debug)]
pub(crate) struct Blame {
    pub(crate) vertex: Option<usize>,
    pub(crate) flight: Option<(Key, Option<Nonce>)>,
    pub(crate) adoptable: bool,
    pub(crate) job: JobId,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) ops: Vec<Op>,
    pub(crate) solver: Solver<Error>,
    pub(crate) callers: BTreeMap<DemandId, Caller>,
    pub(crate) open: Vec<Open>,
    pub(crate) shadows: Vec<Shadow>,
    pub(crate) decided: HashMap<(Key, Option<Nonce>), Vec<ResultId>>,
    pub(crate) newest_find: HashMap<Key, AskId>,
    pub(crate) missed: HashSet<Key>,
    pub(crate) leased: HashSet<ResultId>,
    pub(crate) blame: Option<Blame>,
    /// The run whose answer is being handled.
    pub(crate) answering: Option<OpenRun>,
    pub(crate) loss_since_sweep: bool,
    pub(crate) counts: Counts,
    pub(crate) store: HashMap<Key, Vec<ResultId>>,
    pub(crate) bytes: HashSet<ResultId>,
    pub(crate) versions: HashMap<u64, u64>,
    pub(crate) noise: u64,
    /// What the last caller that dropped wanted.
    left: Option<(JobId, Vec<(usize, u32)>)>,
    next_demand: u64,
    /// How many more times something may go wrong, so that each trial ends.
    mishaps: u32,
    demands_left: u32,
    sweep_every: u64,
}

/// Ten times what the longest trial was seen to need.
const MOST_EVENTS: u64 = 10_000;

impl World {
    pub(crate) fn new(seed: u64, solver: Solver<Error>) -> Self {
        let mut rng = Rng::new(seed);
        let most = [6, 12, 20, 20, 40, 60, 60, 100, 200, 200][rng.below(10)];
        let count = 1 + rng.below(most);
        let mut chance = |values: [u64; 4]| values[rng.below(4)];
        let chances = Chances {
            forced: chance([0, 0, 10, 40]),
            noisy: chance([0, 20, 50, 80]),
            fails: chance([0, 0, 0, 2]),
            fails_for: chance([0, 0, 1, 3]),
            twin: chance([5, 20, 40, 60]),
            several: chance([0, 20, 50, 80]),
        };
        let salts = chance([3, 40, 1000, u64::MAX]);
        let ops = random_ops(&mut rng, count, chances, salts);
        let mut world = Self {
            solver,
            callers: BTreeMap::new(),
            open: Vec::new(),
            shadows: vec![Shadow::default(); count],
            decided: HashMap::new(),
            newest_find: HashMap::new(),
            missed: HashSet::new(),
            leased: HashSet::new(),
            blame: None,
            answering: None,
            loss_since_sweep: false,
            counts: Counts::default(),
            store: HashMap::new(),
            bytes: HashSet::new(),
            versions: HashMap::new(),
            noise: 0,
            left: None,
            next_demand: 0,
            mishaps: [0, 3, 10, 25][rng.below(4)],
            demands_left: [1, 3, 8, 16, 30][rng.below(5)],
            sweep_every: (count as u64 / 25).max(1),
            ops,
            rng,
        };
        if world.rng.percent(60) {
            world.earlier_build();
        }
        world
    }

    /// Fills the store as an earlier build would have, and forgets some of it.
    fn earlier_build(&mut self) {
        let (records, bytes) = ([100, 90, 50][self.rng.below(3)], [100, 80, 20][self.rng.below(3)]);
        let mut made: Vec<Vec<ResultId>> = Vec::new();
        for op in &self.ops {
            let inputs: Vec<ResultId> =
                op.inputs.iter().map(|&(input, output, _)| made[input][output as usize]).collect();
            let key = op.key(op.source.then(|| pin(op.code)), 0, &inputs);
            let fresh = op.make_all(key, self.rng.next());
            let results = match self.store.get(&key) {
                Some(results) => results.clone(),
                None => fresh,
            };
            if !matches!(op.kind, Kind::Fails) && self.rng.percent(records) {
                self.store.insert(key, results.clone());
                let kept = results.iter().filter(|_| self.rng.percent(bytes));
                self.bytes.extend(kept);
            }
            made.push(results);
        }
    }

    pub(crate) fn run(mut self, counts: &mut Counts) -> Result<(), String> {
        let outcome = self.play();
        counts.add(&self.counts);
        counts.vertices += self.ops.len() as u64;
        outcome
    }

    fn play(&mut self) -> Result<(), String> {
        for _ in 0..1 + self.rng.below(3) {
            self.new_caller()?;
        }
        while self.demands_left > 0 || !self.open.is_empty() {
            match self.rng.next() % 100 {
                0..3 if self.demands_left > 0 => self.new_caller()?,
                _ if self.open.is_empty() => self.new_caller()?,
                3..6 if self.callers.len() > 1 => {
                    self.drop_caller()?;
                    if self.demands_left > 0 && self.rng.percent(30) {
                        self.new_caller()?;
                    }
                }
                6..9 if self.mishap() => self.lose()?,
                9..11 if self.mishap() => self.forget(),
                11..20 => self.begin()?,
                _ => self.answer()?,
            }
        }
        self.at_rest()?;
        // Once more on a finished graph, for what is done must be done again.
        for _ in 0..self.rng.below(3) {
            self.lose()?;
            while !self.open.is_empty() {
                self.answer()?;
            }
            self.at_rest()?;
        }
        while !self.callers.is_empty() {
            self.drop_caller()?;
            if self.rng.percent(30) && !self.open.is_empty() {
                self.answer()?;
            }
        }
        while !self.open.is_empty() {
            self.answer()?;
        }
        self.at_end()
    }

    pub(crate) fn mishap(&mut self) -> bool {
        let left = self.mishaps > 0;
        self.mishaps = self.mishaps.saturating_sub(1);
        left
    }

    fn new_caller(&mut self) -> Result<(), String> {
        if self.demands_left == 0 {
            return Ok(());
        }
        self.demands_left -= 1;
        // Names are used again after a drop.
        let name = if self.rng.percent(30) {
            (0..self.next_demand).map(DemandId).find(|name| !self.callers.contains_key(name))
        } else {
            None
        };
        let name = name.unwrap_or_else(|| {
            self.next_demand += 1;
            DemandId(self.next_demand - 1)
        });
        // Sometimes one that just left comes back, while its runs are being stopped.
        let back = self.left.take().filter(|_| self.rng.percent(40));
        let (job, targets) = match back {
            Some(back) => back,
            None => (JobId(self.rng.next() % 3), self.random_targets()),
        };
        let mut wanted = vec![false; self.ops.len()];
        targets.iter().for_each(|&(target, _)| wanted[target] = true);
        if self.rng.percent(20) {
            // More is grown than wanted.
            let extra = self.rng.below(self.ops.len());
            wanted[extra] = true;
        }
        close_downwards(&self.ops, &mut wanted);
        let grown: Vec<usize> = (0..self.ops.len()).filter(|&index| wanted[index]).collect();
        let caller = Caller {
            job,
            state: State::Grown,
            grown: Vec::new(),
            targets: targets.clone(),
            told: false,
            ever: false,
        };
        self.callers.insert(name, caller);
        let cut = self.rng.below(grown.len() + 1);
        for part in [&grown[..cut], &grown[cut..]] {
            let nodes = part.iter().map(|&index| self.ops[index].node(index)).collect();
            if let Some(caller) = self.callers.get_mut(&name) {
                caller.grown.extend(part);
            }
            self.handle(Event::Grow { demand: name, nodes })?;
            if self.rng.percent(20) && !self.open.is_empty() {
                self.answer()?;
            }
        }
        let targets =
            targets.iter().map(|&(target, output)| Edge { vertex: vertex_id(target), output }).collect();
        if let Some(caller) = self.callers.get_mut(&name) {
            caller.state = State::Live;
        }
        self.handle(Event::Demand { demand: name, job, targets })
    }

    fn random_targets(&mut self) -> Vec<(usize, u32)> {
        let count = 1 + self.rng.below(4);
        (0..count)
            .map(|_| {
                let near_top = self.rng.percent(70);
                let reach = if near_top { self.ops.len().min(4) } else { self.ops.len() };
                let target = self.ops.len() - 1 - self.rng.below(reach);
                (target, self.rng.below(self.ops[target].outputs as usize) as u32)
            })
            .collect()
    }

    fn drop_caller(&mut self) -> Result<(), String> {
        let names: Vec<DemandId> = self.callers.keys().copied().collect();
        if names.is_empty() {
            return Ok(());
        }
        // Mostly one that is under way: dropping it stops runs.
        let live = names.iter().copied().find(|name| {
            self.callers.get(name).is_some_and(|caller| caller.state == State::Live && !caller.told)
        });
        let name = live.filter(|_| self.rng.percent(60)).unwrap_or(names[self.rng.below(names.len())]);
        self.left = self.callers.remove(&name).map(|caller| (caller.job, caller.targets));
        self.counts.drops += 1;
        self.forget_dropped();
        self.handle(Event::Drop { demand: name })
    }

    fn some_bytes(&mut self) -> Option<ResultId> {
        let bound = self.shadows.iter().filter_map(|shadow| shadow.bound.as_ref()).flatten().copied();
        let mut results: Vec<ResultId> = bound.collect();
        results.sort_unstable();
        (!results.is_empty()).then(|| results[self.rng.below(results.len())])
    }

    fn lose(&mut self) -> Result<(), String> {
        let Some(result) = self.some_bytes() else { return Ok(()) };
        self.bytes.remove(&result);
        self.counts.lost += 1;
        self.excuse_loss(result);
        self.handle(Event::Lost { result })
    }

    /// Loses bytes without a word: a run will miss them.
    fn forget(&mut self) {
        if let Some(result) = self.some_bytes() {
            self.bytes.remove(&result);
        }
    }

    fn begin(&mut self) -> Result<(), String> {
        let ready = self.open.iter_mut().find_map(|open| match open {
            Open::Run(run) if !run.begun && !run.stopped => Some(run),
            _ => None,
        });
        let Some(run) = ready else { return Ok(()) };
        run.begun = true;
        let flight = run.flight;
        self.handle(Event::Begun { flight })
    }

    /// Feeds one event and checks everything that follows.
    pub(crate) fn handle(&mut self, event: Event<Error>) -> Result<(), String> {
        if self.counts.events > MOST_EVENTS {
            return Err("goes round in circles".to_owned());
        }
        let mut requests: Vec<Request<Error>> = Vec::new();
        let text = event.clone();
        let outcome = self.solver.handle(event, &mut requests);
        outcome.map_err(|misuse| format!("misuse: {misuse} after {text:?}"))?;
        self.counts.events += 1;
        for request in requests {
            self.take(request).map_err(|wrong| format!("{wrong} (after {text:?})"))?;
        }
        let blame = self.blame.take();
        if let Some(blame) = &blame {
            self.check_blame(blame).map_err(|wrong| format!("{wrong} (after {text:?})"))?;
        }
        if self.counts.events.is_multiple_of(self.sweep_every) {
            self.sweep().map_err(|wrong| format!("{wrong} (after {text:?})"))?;
        }
        Ok(())
    }
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        self.vertices += other.vertices;
        self.events += other.events;
        self.sweeps += other.sweeps;
        self.runs += other.runs;
        self.hits += other.hits;
        self.merged += other.merged;
        self.shared += other.shared;
        self.cut_off += other.cut_off;
        self.unchanged += other.unchanged;
        self.stops += other.stops;
        self.lost += other.lost;
        self.missing += other.missing;
        self.stale += other.stale;
        self.outrun += other.outrun;
        self.elsewhere += other.elsewhere;
        self.done += other.done;
        self.done_again += other.done_again;
        self.failed += other.failed;
        self.drops += other.drops;
        self.longest = self.longest.max(other.events);
    }

    /// Returns each count with its name.
    pub(crate) fn named(&self) -> [(&'static str, u64); 21] {
        [
            ("trials", self.trials),
            ("vertices", self.vertices),
            ("events", self.events),
            ("sweeps", self.sweeps),
            ("runs", self.runs),
            ("hits", self.hits),
            ("merged", self.merged),
            ("shared", self.shared),
            ("cut_off", self.cut_off),
            ("unchanged", self.unchanged),
            ("stops", self.stops),
            ("lost", self.lost),
            ("missing", self.missing),
            ("stale", self.stale),
            ("outrun", self.outrun),
            ("elsewhere", self.elsewhere),
            ("done", self.done),
            ("done_again", self.done_again),
            ("failed", self.failed),
            ("drops", self.drops),
            ("longest", self.longest),
        ]
    }
}
