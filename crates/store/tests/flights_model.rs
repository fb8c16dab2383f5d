//! The protocol of flights in small, under every order that shuttle thinks of; and planted mistakes that it must find.
//!
//! The model has what the real thing stands on (a lock that is only tried, rows that are written in one step, processes
//! that die, containers that outlive them for a moment) and the steps of `Flight`'s comment, each its own scheduling
//! point. What it cannot show is that the kernel's locks and SQLite's transactions are what they are taken for: that is
//! for the trials with real processes (`cargo xtask soak flights`).
#![allow(clippy::unwrap_used, reason = "a test")]

use std::panic::AssertUnwindSafe;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::{Arc, Mutex};
use shuttle::{Config, Runner, thread};

/// A mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    /// A success unlocks, then publishes.
    UnlockBeforePublish,
    /// A failure unlocks, then publishes.
    UnlockBeforeFailure,
    /// Nobody looks the record up again under the lock.
    NoSecondLook,
    /// Nobody looks for failures again under the lock.
    NoSecondLookAtFailures,
    /// Failures of before the wish count.
    OldFailures,
    /// What has failed so far is read after the first try.
    MarkAfterTry,
    /// A failure counts for processes with other proxies.
    AnyProxy,
    /// A failure of others hides an earlier one that counts.
    LatestOnly,
    /// Processes of a dead builder are not waited for.
    IgnoreOrphans,
    /// The lock is taken before the slot, and who waits keeps the slot.
    LockBeforeSlot,
    /// Who dies leaves the lock taken.
    StaleLock,
}

/// How an attempt ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Success,
    Failure,
    /// The builder is killed in the middle; its container goes a moment later.
    Death,
}

#[derive(Default)]
struct World {
    keys: [KeyState; 2],
}

#[derive(Default)]
struct KeyState {
    locked: bool,
    record: bool,
    /// Proxies of those who published a failure.
    failures: Vec<u8>,
    /// Containers that run.
    running: u32,
    /// Builders that hold the lock as they see it.
    runs: u32,
    deaths: u32,
    ends: Vec<End>,
}

#[derive(Clone)]
struct Process {
    world: Arc<Mutex<World>>,
    slots: Arc<Mutex<u32>>,
    fault: Fault,
    proxy: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Done,
    Failed,
    Died,
}

impl Process {
    /// One step of the world that nobody sees in the middle of.
    fn step<T>(&self, key: usize, act: impl FnOnce(&mut KeyState) -> T) -> T {
        act(&mut self.world.lock().unwrap().keys[key])
    }

    fn take_slot(&self) {
        loop {
            {
                let mut free = self.slots.lock().unwrap();
                if *free > 0 {
                    *free -= 1;
                    return;
                }
            }
            thread::yield_now();
        }
    }

    fn give_slot(&self) {
        *self.slots.lock().unwrap() += 1;
    }

    /// Tries the lock. `tried` learns how much had failed at the first try: the model alone knows both at once.
    fn try_lock(&self, key: usize, tried: &mut Option<usize>) -> bool {
        self.step(key, |state| {
            tried.get_or_insert(state.failures.len());
            !std::mem::replace(&mut state.locked, true)
        })
    }

    fn unlock(&self, key: usize) {
        self.step(key, |state| state.locked = false);
    }

    fn mark(&self, key: usize) -> usize {
        if self.fault == Fault::OldFailures { 0 } else { self.step(key, |state| state.failures.len()) }
    }

    fn has_failed(&self, key: usize, mark: usize) -> bool {
        let (proxy, fault) = (self.proxy, self.fault);
        self.step(key, |state| {
            let since = state.failures.iter().skip(mark);
            match fault {
                Fault::AnyProxy => since.count() > 0,
                Fault::LatestOnly => since.last() == Some(&proxy),
                _ => since.into_iter().any(|failed| *failed == proxy),
            }
        })
    }

    /// Does what has a key, as `Flight` says.
    fn build(&self, key: usize) -> Outcome {
        let fault = self.fault;
        // The truth, for the model alone: what had failed before this process wanted anything.
        let truth = self.step(key, |state| state.failures.len());
        let mut mark = if fault == Fault::MarkAfterTry { None } else { Some(self.mark(key)) };
        let mut tried = None;
        let outcome = loop {
            if self.step(key, |state| state.record) {
                break Outcome::Done;
            }
            let locked = if fault == Fault::LockBeforeSlot {
                // Whoever waits has a slot, and whoever has the lock waits for one.
                if !self.try_lock(key, &mut tried) {
                    self.take_slot();
                    while !self.step(key, |state| !state.locked) {
                        thread::yield_now();
                    }
                    self.give_slot();
                    continue;
                }
                self.take_slot();
                true
            } else {
                self.take_slot();
                self.try_lock(key, &mut tried)
            };
            let since = *mark.get_or_insert_with(|| self.mark(key));
            if !locked {
                self.give_slot();
                while self.step(key, |state| state.locked) {
                    thread::yield_now();
                }
                if self.has_failed(key, since) {
                    break Outcome::Failed;
                }
                continue;
            }
            let found = fault != Fault::NoSecondLook && self.step(key, |state| state.record);
            let failed = fault != Fault::NoSecondLookAtFailures && self.has_failed(key, since);
            if found || failed {
                self.unlock(key);
                self.give_slot();
                break if found { Outcome::Done } else { Outcome::Failed };
            }
            if fault != Fault::IgnoreOrphans && self.step(key, |state| state.running > 0) {
                self.unlock(key);
                self.give_slot();
                thread::yield_now();
                continue;
            }
            break self.run(key, tried.unwrap_or(truth));
        };
        if outcome == Outcome::Failed {
            let proxy = self.proxy;
            let real =
                self.step(key, |state| state.failures.iter().skip(truth).any(|failed| *failed == proxy));
            assert!(real, "a failure was adopted that was not its own");
        }
        outcome
    }

    fn run(&self, key: usize, tried: usize) -> Outcome {
        let (proxy, fault) = (self.proxy, self.fault);
        let end = self.step(key, |state| {
            assert!(!state.record, "it runs although it was made");
            assert_eq!(state.running, 0, "two run at once");
            let known = state.failures.iter().skip(tried).any(|failed| *failed == proxy);
            assert!(!known, "it runs although it failed for one who had asked");
            state.running += 1;
            state.runs += 1;
            if state.ends.is_empty() { End::Success } else { state.ends.remove(0) }
        });
        thread::yield_now();
        match end {
            End::Death => {
                // The kernel frees the lock with the process; the slot was the process's own.
                self.step(key, |state| {
                    state.deaths += 1;
                    state.locked = fault == Fault::StaleLock;
                });
                let container = self.clone();
                thread::spawn(move || container.step(key, |state| state.running -= 1));
                self.give_slot();
                return Outcome::Died;
            }
            End::Success => {
                self.step(key, |state| state.running -= 1);
                if fault == Fault::UnlockBeforePublish {
                    self.unlock(key);
                }
                self.step(key, |state| state.record = true);
            }
            End::Failure => {
                self.step(key, |state| state.running -= 1);
                if fault == Fault::UnlockBeforeFailure {
                    self.unlock(key);
                }
                self.step(key, |state| state.failures.push(proxy));
            }
        }
        self.unlock(key);
        self.give_slot();
        if end == End::Success { Outcome::Done } else { Outcome::Failed }
    }
}

/// What happens: how the attempts at the first key end, the proxies of the processes, and how many keys each builds.
#[derive(Clone, Copy, Debug)]
struct Scene {
    ends: &'static [End],
    proxies: &'static [u8],
    keys: usize,
}

const SCENES: &[Scene] = &[
    Scene { ends: &[], proxies: &[0, 0, 0], keys: 1 },
    Scene { ends: &[End::Failure], proxies: &[0, 0, 0], keys: 1 },
    Scene { ends: &[End::Failure, End::Failure, End::Failure], proxies: &[0, 0, 1, 1], keys: 1 },
    Scene { ends: &[End::Failure, End::Success], proxies: &[0, 1, 1], keys: 1 },
    Scene { ends: &[End::Death], proxies: &[0, 0, 0], keys: 1 },
    Scene { ends: &[End::Death, End::Failure], proxies: &[0, 0, 0], keys: 1 },
    Scene { ends: &[], proxies: &[0, 0], keys: 2 },
];

/// Plays a scene to its end.
fn play(scene: Scene, fault: Fault) {
    let mut world = World::default();
    world.keys[0].ends = scene.ends.to_vec();
    let world = Arc::new(Mutex::new(world));
    let mut threads = Vec::new();
    for (number, &proxy) in scene.proxies.iter().enumerate() {
        // With one slot each, as by `--jobs 1`.
        let process = Process { world: world.clone(), slots: Arc::new(Mutex::new(1)), fault, proxy };
        for step in 0..scene.keys {
            let process = process.clone();
            // Independent steps, which the processes begin in different orders.
            let key = (step + number) % scene.keys;
            threads.push(thread::spawn(move || process.build(key)));
        }
    }
    let outcomes: Vec<Outcome> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let world = world.lock().unwrap();
    for state in &world.keys {
        assert!(!state.locked, "a lock is left");
        let expected = state.deaths + state.failures.len() as u32 + u32::from(state.record);
        assert_eq!(state.runs, expected, "runs that came to nothing");
    }
    let died = outcomes.iter().filter(|outcome| **outcome == Outcome::Died).count();
    assert_eq!(died as u32, world.keys[0].deaths);
}

fn config() -> Config {
    let mut config = Config::new();
    // Who waits for ever is found by the number of steps: waiting is polling here as there.
    config.max_steps = shuttle::MaxSteps::FailAfter(20_000);
    config.failure_persistence = shuttle::FailurePersistence::None;
    config.silence_warnings = true;
    config
}

/// Plays all scenes in so many orders each, half of them drawn, half by priorities that change at few points.
fn explore(fault: Fault, orders: usize) {
    for &scene in SCENES {
        Runner::new(RandomScheduler::new_from_seed(1, orders), config()).run(move || play(scene, fault));
        // Priorities alone would let one who polls poll for ever: its yields lower it.
        Runner::new(PctScheduler::new_from_seed(1, 3, orders), config()).run(move || play(scene, fault));
    }
}

/// One test, for the second part silences panics of the whole process.
#[test]
fn the_protocol_holds_and_planted_mistakes_are_found() {
    explore(Fault::None, 700);
    let hook = std::panic::take_hook();
    // They are meant to fail.
    std::panic::set_hook(Box::new(|_| {}));
    let missed: Vec<Fault> = [
        Fault::UnlockBeforePublish,
        Fault::UnlockBeforeFailure,
        Fault::NoSecondLook,
        Fault::NoSecondLookAtFailures,
        Fault::OldFailures,
        Fault::MarkAfterTry,
        Fault::AnyProxy,
        Fault::LatestOnly,
        Fault::IgnoreOrphans,
        Fault::LockBeforeSlot,
        Fault::StaleLock,
    ]
    .into_iter()
    .filter(|&fault| std::panic::catch_unwind(AssertUnwindSafe(|| explore(fault, 2000))).is_ok())
    .collect();
    std::panic::set_hook(hook);
    assert!(missed.is_empty(), "not found: {missed:?}");
}
