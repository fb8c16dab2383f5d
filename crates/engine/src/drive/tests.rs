//! The driver with a worker that is a table of closures.

mod waiting;

use std::collections::HashSet;
use std::pin::Pin as Pinned;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use cooper_oci::Hasher;

use super::*;

type Act = Box<dyn Fn(u32, Run) -> Pinned<Box<dyn Future<Output = Ran<Fault>> + Send>> + Send + Sync>;
type Finish = Box<dyn Fn(u32, &[ResultId]) -> Result<(), Unfinished> + Send + Sync>;

/// A worker that counts.
#[derive(Default)]
struct Fake {
    acts: HashMap<VertexId, Act>,
    /// What a vertex does, for its key; its own name unless it equals another.
    ops: HashMap<VertexId, &'static str>,
    names: HashMap<VertexId, &'static str>,
    finish: Option<Finish>,
    /// Vertices whose key is asked for in vain: the task panics.
    unkeyable: HashSet<VertexId>,
    /// The one that is keyed at once; the others take a moment.
    first: Option<VertexId>,
    state: Mutex<State>,
    now: AtomicUsize,
    most: AtomicUsize,
    open: Arc<AtomicUsize>,
    /// What comes of waiting for another process.
    other: Option<Other>,
}

type Other = Box<dyn Fn(&Run) -> Pinned<Box<dyn Future<Output = Option<Ran<Fault>>> + Send>> + Send + Sync>;

#[derive(Default)]
struct State {
    /// What another process is at.
    elsewhere: HashSet<&'static str>,
    /// Names of what ran, in order.
    ran: Vec<&'static str>,
    runs: HashMap<VertexId, u32>,
    finishes: u32,
    records: HashMap<Key, Vec<Out>>,
    /// Records without bytes.
    gone: HashSet<Key>,
    /// What a folder holds, as a number; it is in every key.
    folder: u64,
    kept: Vec<(Key, bool)>,
}

/// Counts what has been begun and not ended.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn id(name: &str) -> VertexId {
    VertexId(*cooper_oci::Digest::of(name).as_bytes())
}

fn out_of(key: Key) -> Out {
    Out { result: ResultId(key.0) }
}

impl Fake {
    fn busy(&self, run: &Run) -> bool {
        self.state().elsewhere.contains(self.names[&run.vertex])
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn key_with(&self, vertex: VertexId, inputs: &[ResultId]) -> Key {
        let mut hash = Hasher::new();
        hash.field(self.ops[&vertex]);
        hash.field(self.state().folder.to_be_bytes());
        inputs.iter().for_each(|input| hash.field(input.0));
        Key(*hash.finish().as_bytes())
    }
}

impl Worker for Fake {
    type Finished = Vec<ResultId>;

    async fn pin(&self, vertex: VertexId) -> Result<Pin, Failure<Fault>> {
        let _open = Open::new(&self.open);
        Ok(Pin(vertex.0))
    }

    async fn key(
        &self,
        vertex: VertexId,
        _: Option<Pin>,
        inputs: Vec<ResultId>,
    ) -> Result<Key, Unkeyed<Fault>> {
        let _open = Open::new(&self.open);
        assert!(!self.unkeyable.contains(&vertex), "as asked");
        if self.first.is_some_and(|first| first != vertex) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(self.key_with(vertex, &inputs))
    }

    async fn find(&self, _: VertexId, key: Key, need_bytes: bool) -> Option<Vec<Out>> {
        let _open = Open::new(&self.open);
        let state = self.state();
        state.records.get(&key).filter(|_| !need_bytes || !state.gone.contains(&key)).cloned()
    }

    async fn run(&self, run: Run) -> Landed {
        if self.busy(&run) {
            return Landed::Busy;
        }
        let _open = Open::new(&self.open);
        let nth = {
            let mut state = self.state();
            state.ran.push(self.names[&run.vertex]);
            let runs = state.runs.entry(run.vertex).or_default();
            *runs += 1;
            *runs
        };
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let ran = match self.acts.get(&run.vertex) {
            Some(act) => act(nth, run).await,
            None => done(run).await,
        };
        self.now.fetch_sub(1, Ordering::SeqCst);
        Landed::Ran(ran)
    }

    async fn wait(&self, run: Run) -> Option<Ran<Fault>> {
        let _open = Open::new(&self.open);
        match &self.other {
            Some(other) => tokio::select! {
                ran = other(&run) => {
                    self.state().elsewhere.remove(self.names[&run.vertex]);
                    ran
                }
                () = run.cancel.cancelled() => None,
            },
            None => None,
        }
    }

    async fn keep(
        &self,
        _: VertexId,
        key: Key,
        forced: bool,
        outs: Vec<Out>,
    ) -> Result<Kept, Failure<Fault>> {
        let _open = Open::new(&self.open);
        let mut state = self.state();
        state.kept.push((key, forced));
        state.gone.remove(&key);
        state.records.insert(key, outs.clone());
        Ok(Kept { outs, adopted: false })
    }

    async fn finish(&self, results: Vec<ResultId>) -> Result<Vec<ResultId>, Unfinished> {
        let _open = Open::new(&self.open);
        tokio::task::yield_now().await;
        let nth = {
            let mut state = self.state();
            state.finishes += 1;
            state.finishes
        };
        match &self.finish {
            Some(finish) => finish(nth, &results).map(|()| results),
            None => Ok(results),
        }
    }

    fn note(&self, _: &Note<Fault>) {}
}

/// Runs for a moment and makes what the key says.
async fn done(run: Run) -> Ran<Fault> {
    tokio::time::sleep(Duration::from_millis(2)).await;
    Ran::Done(vec![out_of(run.key)])
}

fn failed() -> Ran<Fault> {
    let error = Arc::new(StepError::Exit { code: 1, command: "no".into() });
    Ran::Failed(Failure { error, adoptable: true })
}

/// Runs until it is cancelled.
async fn endless(run: Run) -> Ran<Fault> {
    run.cancel.cancelled().await;
    // Dying takes its time.
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ran::Failed(Failure { error: Arc::new(StepError::Cancelled), adoptable: false })
}

#[derive(Default)]
struct Build {
    nodes: Vec<Node>,
    fake: Fake,
}

impl Build {
    fn step(mut self, name: &'static str, inputs: &[&str]) -> Self {
        let inputs = inputs.iter().map(|input| Edge { vertex: id(input), output: 0 }).collect();
        self.nodes.push(Node { vertex: id(name), inputs, outputs: 1, pin: false, nonce: None });
        self.fake.names.insert(id(name), name);
        self.fake.ops.insert(id(name), name);
        self
    }

    /// Says what the last step does when it runs for the nth time.
    fn does<F>(mut self, act: impl Fn(u32, Run) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Ran<Fault>> + Send + 'static,
    {
        let last = self.nodes.last().unwrap().vertex;
        self.fake.acts.insert(last, Box::new(move |nth, run| Box::pin(act(nth, run))));
        self
    }

    /// Makes the last step equal to another, or to all that are said to be so.
    fn op(mut self, op: &'static str) -> Self {
        self.fake.ops.insert(self.nodes.last().unwrap().vertex, op);
        self
    }

    fn forced(mut self) -> Self {
        self.nodes.last_mut().unwrap().nonce = Some(Nonce([7; 32]));
        self
    }

    fn finish(
        mut self,
        finish: impl Fn(u32, &[ResultId]) -> Result<(), Unfinished> + Send + Sync + 'static,
    ) -> Self {
        self.fake.finish = Some(Box::new(finish));
        self
    }

    /// Builds the last step; fails where that hangs or leaves something open.
    async fn build(self, slots: usize, cancel: &Cancel) -> (Result<Vec<ResultId>, Error>, Arc<Fake>) {
        let fake = Arc::new(self.fake);
        let target = Edge { vertex: self.nodes.last().unwrap().vertex, output: 0 };
        let driven = drive(fake.clone(), self.nodes, vec![target], slots, cancel);
        let result = tokio::time::timeout(Duration::from_secs(20), driven).await.expect("it hangs");
        assert_eq!(fake.open.load(Ordering::SeqCst), 0, "left open");
        (result, fake)
    }
}

fn runs(fake: &Fake, name: &str) -> usize {
    fake.state().ran.iter().filter(|ran| **ran == name).count()
}

#[tokio::test]
async fn no_more_than_the_slots_and_all_of_them() {
    for (slots, expected) in [(0, 1), (1, 1), (3, 3), (100, 8)] {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let build = names.iter().fold(Build::default(), |build, name| build.step(name, &[]));
        let (result, fake) = build.step("top", &names).build(slots, &Cancel::new()).await;
        result.unwrap();
        assert_eq!(fake.most.load(Ordering::SeqCst), expected, "{slots} slots");
        assert_eq!(fake.state().ran.len(), 9);
    }
}

#[tokio::test]
async fn with_one_slot_everything_ends() {
    let build = Build::default()
        .step("base", &[])
        .step("left", &["base"])
        .step("right", &["base"])
        .step("both", &["left", "right"])
        .step("more", &["both", "base"])
        .step("top", &["more", "left"]);
    let (result, fake) = build.build(1, &Cancel::new()).await;
    assert_eq!(result.unwrap().len(), 1);
    let mut ran = fake.state().ran.clone();
    ran.sort_unstable();
    assert_eq!(ran, ["base", "both", "left", "more", "right", "top"]);
    assert_eq!(fake.most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_most_urgent_goes_first() {
    let leaves = ["l1", "l2", "l3", "l4"];
    let mut build = Build::default().step("gate", &[]).does(|_, run| async {
        // All others have queued by then.
        tokio::time::sleep(Duration::from_millis(100)).await;
        done(run).await
    });
    build.fake.first = Some(id("gate"));
    let build = leaves.iter().fold(build, |build, leaf| build.step(leaf, &[]));
    let build = build.step("long", &[]).step("longer", &["long"]).step("longest", &["longer"]);
    let below = ["gate", "l1", "l2", "l3", "l4", "longest"];
    let (result, fake) = build.step("top", &below).build(1, &Cancel::new()).await;
    result.unwrap();
    assert_eq!(fake.state().ran.get(..2), Some(&["gate", "long"][..]), "{:?}", fake.state().ran);
    let of = |name: &str| fake.state().ran.iter().position(|ran| *ran == name).unwrap();
    assert!(leaves.windows(2).all(|pair| of(pair[0]) < of(pair[1])), "the oldest among equals");
}

#[tokio::test]
async fn a_failure_stops_what_waits_and_cancels_what_flies() {
    let mut build = Build::default()
        .step("first", &[])
        .step("fails", &["first"])
        .does(|_, _| async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            failed()
        })
        .step("flies", &["first"])
        .does(|_, run| endless(run));
    for name in ["w1", "w2", "w3"] {
        build = build.step(name, &["first"]);
    }
    let (result, fake) =
        build.step("top", &["fails", "flies", "w1", "w2", "w3"]).build(2, &Cancel::new()).await;
    let Err(Error::Step { vertex, error }) = result else { panic!("{result:?}") };
    assert_eq!(vertex, id("fails"));
    assert!(matches!(*error, StepError::Exit { code: 1, .. }));
    assert_eq!(fake.state().ran, ["first", "fails", "flies"], "nothing that waited was begun");
    assert_eq!(fake.state().records.len(), 1, "what was finished is kept");
    assert_eq!(fake.state().finishes, 0);
}

#[tokio::test]
async fn cancelling_ends_everything() {
    let cancel = Cancel::new();
    let build = Build::default()
        .step("a", &[])
        .does(|_, run| endless(run))
        .step("b", &[])
        .does(|_, run| endless(run))
        .step("waits", &[])
        .step("top", &["a", "b", "waits"]);
    let later = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(30)).await;
        later.cancel();
    });
    let (result, fake) = build.build(2, &cancel).await;
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert_eq!(runs(&fake, "waits") + runs(&fake, "top"), 0);

    let (result, fake) = Build::default().step("a", &[]).does(|_, run| endless(run)).build(1, &cancel).await;
    assert!(matches!(result, Err(Error::Cancelled)), "cancelled before: {result:?}");
    assert_eq!(fake.state().finishes, 0);
}

#[tokio::test]
async fn dropping_the_build_cancels_what_flies() {
    let stopped = Arc::new(AtomicUsize::new(0));
    let seen = stopped.clone();
    let build = Build::default().step("a", &[]).does(move |_, run| {
        let seen = seen.clone();
        async move {
            let ran = endless(run).await;
            seen.fetch_add(1, Ordering::SeqCst);
            ran
        }
    });
    let target = vec![Edge { vertex: id("a"), output: 0 }];
    let never = Cancel::new();
    let driven = drive(Arc::new(build.fake), build.nodes, target, 1, &never);
    assert!(tokio::time::timeout(Duration::from_millis(50), driven).await.is_err());
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if stopped.load(Ordering::SeqCst) == 1 {
            return;
        }
    }
    panic!("it runs on");
}

#[tokio::test]
async fn a_panic_is_an_error_and_nothing_is_left_running() {
    let with = || Build::default().step("flies", &[]).does(|_, run| endless(run)).step("panics", &[]);
    let run = with().does(|_, _| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        panic!("as asked")
    });
    let mut key = with();
    key.fake.unkeyable.insert(id("panics"));
    for build in [run, key] {
        let (result, fake) = build.step("top", &["flies", "panics"]).build(2, &Cancel::new()).await;
        assert!(matches!(result, Err(Error::Panicked)), "{result:?}");
        assert_eq!(runs(&fake, "top"), 0);
    }
    let finish = Build::default().step("a", &[]).finish(|_, _| panic!("as asked"));
    let (result, _) = finish.build(2, &Cancel::new()).await;
    assert!(matches!(result, Err(Error::Panicked)), "{result:?}");
}

/// Takes away the bytes of everything.
fn lose_all(state: &mut State) {
    let keys: Vec<Key> = state.records.keys().copied().collect();
    state.gone.extend(keys);
}

#[tokio::test]
async fn what_finishing_misses_is_made_again() {
    let mut build = Build::default().step("base", &[]).step("top", &["base"]);
    build = build.finish(|nth, results| match nth {
        1 => Err(Unfinished::Missing(results[0])),
        _ => Ok(()),
    });
    let fake = build.fake;
    // A record that promises bytes which are not there.
    let base = fake.key_with(id("base"), &[]);
    let top = fake.key_with(id("top"), &[out_of(base).result]);
    fake.state().records.extend([(base, vec![out_of(base)]), (top, vec![out_of(top)])]);
    lose_all(&mut fake.state());
    let (result, fake) = Build { nodes: build.nodes, fake }.build(1, &Cancel::new()).await;
    assert_eq!(result.unwrap(), [out_of(top).result]);
    assert_eq!(fake.state().ran, ["top"], "only what was missed");
    assert_eq!(fake.state().finishes, 2);
}

#[tokio::test]
async fn losses_that_lead_to_nothing_are_errors() {
    let lost = |result: Result<Vec<ResultId>, Error>| match result {
        Err(Error::Unattributed(StepError::LostAgain)) => {}
        other => panic!("{other:?}"),
    };
    // Nobody is bound to it.
    let build = Build::default().step("a", &[]);
    let build = build.finish(|_, _| Err(Unfinished::Missing(ResultId([9; 32]))));
    let (result, fake) = build.build(1, &Cancel::new()).await;
    lost(result);
    assert_eq!(fake.state().finishes, 1);

    // It is gone again whenever it was made.
    let build = Build::default().step("a", &[]);
    let build = build.finish(|_, results| Err(Unfinished::Missing(results[0])));
    let (result, fake) = build.build(1, &Cancel::new()).await;
    lost(result);
    assert_eq!(fake.state().finishes, LOSSES + 1);
}

#[tokio::test]
async fn what_a_run_misses_is_made_again() {
    let build = Build::default().step("base", &[]).step("top", &["base"]).does(|nth, run| async move {
        match nth {
            1 => Ran::Missing(run.inputs[0]),
            _ => done(run).await,
        }
    });
    let fake = build.fake;
    let base = fake.key_with(id("base"), &[]);
    fake.state().records.insert(base, vec![out_of(base)]);
    lose_all(&mut fake.state());
    let (result, fake) = Build { nodes: build.nodes, fake }.build(1, &Cancel::new()).await;
    result.unwrap();
    assert_eq!(fake.state().ran, ["top", "base", "top"]);
}

#[tokio::test]
async fn who_read_something_else_is_keyed_again() {
    let folder = Arc::new(AtomicUsize::new(0));
    let changed = folder.clone();
    let build = Build::default().step("copy", &[]).does(move |nth, run| {
        let changed = changed.clone();
        async move {
            if nth == 1 {
                changed.store(1, Ordering::SeqCst);
                return Ran::KeyStale;
            }
            done(run).await
        }
    });
    let before = build.fake.key_with(id("copy"), &[]);
    // The folder is seen as it is after the change whenever somebody looks again.
    build.fake.state().folder = 1;
    let after = build.fake.key_with(id("copy"), &[]);
    build.fake.state().folder = 0;
    let fake = Arc::new(build.fake);
    let watch = fake.clone();
    let watching = tokio::spawn(async move {
        while folder.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        watch.state().folder = 1;
    });
    let target = vec![Edge { vertex: id("copy"), output: 0 }];
    let cancel = Cancel::new();
    let driven = drive(fake.clone(), build.nodes, target, 1, &cancel);
    let result = tokio::time::timeout(Duration::from_secs(20), driven).await.expect("it hangs");
    watching.await.unwrap();
    assert_ne!(before, after);
    assert!(result.is_ok());
    assert!(!fake.state().records.contains_key(&before), "nothing is stored under the old key");
    assert!(runs(&fake, "copy") >= 2);
}

#[tokio::test]
async fn what_is_recorded_does_not_run_and_what_is_forced_does() {
    let recorded = |build: Build| {
        let key = build.fake.key_with(id("a"), &[]);
        build.fake.state().records.insert(key, vec![out_of(key)]);
        build
    };
    let (result, fake) = recorded(Build::default().step("a", &[])).build(1, &Cancel::new()).await;
    result.unwrap();
    assert_eq!(fake.state().ran, [""; 0]);

    let (result, fake) = recorded(Build::default().step("a", &[]).forced()).build(1, &Cancel::new()).await;
    result.unwrap();
    assert_eq!(fake.state().ran, ["a"]);
    assert!(fake.state().kept.iter().all(|(_, forced)| *forced), "it is kept as forced");

    let (_, fake) = Build::default().step("a", &[]).build(1, &Cancel::new()).await;
    assert!(fake.state().kept.iter().all(|(_, forced)| !forced));
}

#[tokio::test]
async fn equal_steps_run_once_forced_or_not() {
    for forced in [false, true] {
        let one = |build: Build| if forced { build.forced() } else { build };
        let build = one(Build::default().step("a", &[]).op("same"));
        let build = one(build.step("b", &[]).op("same")).step("top", &["a", "b"]);
        let (result, fake) = build.build(4, &Cancel::new()).await;
        result.unwrap();
        assert_eq!(runs(&fake, "a") + runs(&fake, "b"), 1, "forced: {forced}");
    }
}

#[tokio::test]
async fn no_targets_are_finished_at_once() {
    let cancel = Cancel::new();
    let results = drive(Arc::new(Fake::default()), Vec::new(), Vec::new(), 1, &cancel).await.unwrap();
    assert_eq!(results, []);
}
