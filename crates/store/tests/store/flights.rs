use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use cooper_oci::Digest;
use cooper_store::{Publish, Store};

use super::crash::say;
use super::help::{Random, small_layer, start, store};
use super::records::record;

/// A process of a test and what it says.
struct Teller {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Teller {
    fn start(role: &str, arguments: &[&str]) -> Self {
        let mut child = start(role, arguments);
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "it says no more");
            if let Some(said) = line.strip_prefix("> ") {
                return said.trim_end().to_owned();
            }
        }
    }

    fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"g").unwrap();
    }
}

fn key(name: &str) -> Digest {
    Digest::of(name)
}

#[test]
fn one_at_a_time_by_key() {
    let (_dir, store) = store();
    let (a, b, other) = (
        store.flight(&key("k")).unwrap(),
        store.flight(&key("k")).unwrap(),
        store.flight(&key("l")).unwrap(),
    );
    assert!(b.is_free().unwrap());
    assert!(a.try_lock().unwrap() && a.try_lock().unwrap(), "twice is once");
    assert!(!b.try_lock().unwrap() && !b.is_free().unwrap());
    assert!(other.try_lock().unwrap(), "another key");
    a.unlock().unwrap();
    assert!(b.is_free().unwrap() && b.try_lock().unwrap() && !a.try_lock().unwrap());
    drop(b);
    assert!(a.try_lock().unwrap());
}

/// Those who had asked before it was published, and they alone: who comes later tries it again.
#[test]
fn failures_are_for_those_who_waited() {
    let (_dir, store) = store();
    let runner = store.flight(&key("k")).unwrap();
    assert!(runner.try_lock().unwrap());
    let (waiter, elsewhere) = (store.flight(&key("k")).unwrap(), store.flight(&key("l")).unwrap());
    assert_eq!(waiter.failures().unwrap(), []);
    let attempt = runner.begin("").unwrap();
    let name = attempt.name();
    assert_eq!(waiter.running().unwrap(), Some(name));
    attempt.log_writer().unwrap().write(b"no luck");
    runner.fail(attempt, b"exit code 7").unwrap();
    let late = store.flight(&key("k")).unwrap();
    drop(runner);
    let failure = waiter.failures().unwrap().remove(0);
    assert_eq!((failure.what.as_slice(), failure.attempt), (&b"exit code 7"[..], name));
    let mut log = String::new();
    waiter.log(name).unwrap().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(log, "no luck", "also for those who had not begun to read");
    assert_eq!(late.failures().unwrap(), []);
    assert_eq!(elsewhere.failures().unwrap(), []);
    assert_eq!(waiter.running().unwrap(), None);
}

#[test]
fn failures_and_logs_go_with_those_who_waited() {
    let (dir, store) = store();
    let root = dir.path().join("store");
    let waiting = Store::open(&root).unwrap();
    let waiter = waiting.flight(&key("k")).unwrap();
    let runner = store.flight(&key("k")).unwrap();
    let attempt = runner.begin("").unwrap();
    let name = attempt.name();
    // A log whose attempt runs survives any opening.
    drop(Store::open(&root).unwrap());
    assert!(waiter.log(name).unwrap().is_some());
    runner.fail(attempt, b"x").unwrap();
    drop((runner, store));
    drop(Store::open(&root).unwrap());
    assert!(waiter.failures().unwrap().len() == 1 && waiter.log(name).unwrap().is_some());
    drop((waiter, waiting));
    let last = Store::open(&root).unwrap();
    assert_eq!(fs::read_dir(root.join("logs")).unwrap().count(), 0);
    // Also where nobody waited: a success leaves no log at all.
    let flight = last.flight(&key("k")).unwrap();
    drop(flight.begin("").unwrap());
    assert_eq!(fs::read_dir(root.join("logs")).unwrap().count(), 0);
}

/// Begins an attempt, starts a process that keeps its lock, and waits to be killed.
pub(crate) fn attempt(root: &Path) {
    let store = Store::open(root).unwrap();
    let flight = store.flight(&key("k")).unwrap();
    assert!(flight.try_lock().unwrap());
    let attempt = flight.begin("the place").unwrap();
    let held = attempt.hold().unwrap();
    // Not close-on-exec any more: descriptor 0 of the child.
    let mut child = Command::new("sleep").arg("600").stdin(Stdio::from(held)).spawn().unwrap();
    say(&format!("{} {}", attempt.name(), child.id()));
    // Whoever reads this kills this process first.
    child.wait().unwrap();
}

#[test]
fn what_the_dead_left_running() {
    let (dir, store) = store();
    let root = dir.path().join("store");
    let mut builder = Teller::start("attempt", &[root.to_str().unwrap()]);
    let line = builder.line();
    let (name, orphan) = line.split_once(' ').unwrap();
    let name: u64 = name.parse().unwrap();
    let flight = store.flight(&key("k")).unwrap();
    assert!(!flight.try_lock().unwrap());
    assert_eq!(store.dead_attempts().unwrap(), [], "it lives");
    builder.child.kill().unwrap();
    builder.child.wait().unwrap();
    assert!(flight.try_lock().unwrap(), "the flight's lock goes with the builder");
    let [left] = &flight.predecessors().unwrap()[..] else { panic!("no predecessor") };
    assert_eq!((left.name, left.place.as_str(), left.running), (name, "the place", true));
    let dirs = || fs::read_dir(root.join("tmp")).unwrap().count();
    assert_eq!(dirs(), 2);
    let next = Store::open(&root).unwrap();
    assert_eq!(dirs(), 3, "what the orphan works in stays");
    assert_eq!(next.dead_attempts().unwrap().len(), 1);
    let orphan = rustix::process::Pid::from_raw(orphan.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(orphan, rustix::process::Signal::KILL).unwrap();
    let start = Instant::now();
    while flight.predecessors().unwrap()[0].running {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
    next.forget_attempt(name).unwrap();
    assert_eq!(fs::read_dir(root.join("logs")).unwrap().count(), 0);
    assert_eq!(flight.predecessors().unwrap(), []);
    drop(Store::open(&root).unwrap());
    assert_eq!(dirs(), 2);
    assert_eq!(fs::read_dir(root.join("logs")).unwrap().count(), 0);
}

/// Does what has a key as the engine does, for twenty keys; some fail, some die.
pub(crate) fn fly(root: &Path, counters: &str, seed: u64) {
    let store = Store::open(root).unwrap();
    let mut random = Random::new(seed);
    say("ready");
    std::io::stdin().read_exact(&mut [0]).unwrap();
    for round in 0..20 {
        let name = format!("key {round}");
        let flight = store.flight(&key(&name)).unwrap();
        fs::write(format!("{counters}/{round} {seed}"), "").unwrap();
        let result = loop {
            if !flight.try_lock().unwrap() {
                while !flight.is_free().unwrap() {
                    std::thread::sleep(Duration::from_millis(1 + random.below(3) as u64));
                }
                if let Some(failure) = flight.failures().unwrap().pop() {
                    break String::from_utf8(failure.what).unwrap();
                }
                continue;
            }
            if let Some(found) = store.bind(&[key(&name)]).unwrap().remove(0) {
                break found.outputs[0].result.to_string();
            }
            let attempt = flight.begin("").unwrap();
            let mut counter =
                fs::File::options().append(true).create(true).open(format!("{counters}/{round}")).unwrap();
            counter.write_all(b"x").unwrap();
            std::thread::sleep(Duration::from_millis(10));
            if round % 5 == 4 {
                // Who asks after a failure would try again.
                while !(0..16).all(|seed| Path::new(&format!("{counters}/{round} {seed}")).exists()) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                flight.fail(attempt, b"failed").unwrap();
                break "failed".to_owned();
            }
            let layer = small_layer(&store, &format!("{seed} {round}"));
            let made = record(&name, &seed.to_string(), &[layer]);
            store.publish(&made, Publish::FirstWithBytes).unwrap();
            break made.outputs[0].result.to_string();
        };
        drop(flight);
        say(&format!("{round} {result}"));
        std::io::stdin().read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn sixteen_processes_run_each_key_once() {
    let (dir, store) = store();
    let root = dir.path().join("store");
    let counters = dir.path().join("counters");
    fs::create_dir(&counters).unwrap();
    let mut builders: Vec<_> = (0..16)
        .map(|seed| {
            let (root, counters) = (root.to_str().unwrap(), counters.to_str().unwrap());
            Teller::start("fly", &[root, counters, &seed.to_string()])
        })
        .collect();
    for builder in &mut builders {
        assert_eq!(builder.line(), "ready");
    }
    for round in 0..20 {
        // All together into each round, so that nobody comes after a failure.
        builders.iter_mut().for_each(Teller::go);
        let lines: Vec<_> = builders.iter_mut().map(Teller::line).collect();
        assert!(lines.iter().all(|line| *line == lines[0]), "{lines:?}");
        assert_eq!(lines[0] == format!("{round} failed"), round % 5 == 4, "{lines:?}");
        assert_eq!(fs::read_to_string(counters.join(round.to_string())).unwrap(), "x", "round {round}");
    }
    for mut builder in builders {
        builder.go();
        assert!(builder.child.wait().unwrap().success());
    }
    let flight = store.flight(&key("key 0")).unwrap();
    assert!(flight.try_lock().unwrap(), "no stale lock");
    assert_eq!(flight.predecessors().unwrap(), []);
}

/// Opens stores that are not there yet, as others do at the same moment.
pub(crate) fn open_new(root: &Path) {
    say("ready");
    for round in 0..20 {
        std::io::stdin().read_exact(&mut [0]).unwrap();
        Store::open(root.join(round.to_string())).unwrap();
        say("open");
    }
}

#[test]
fn many_processes_make_a_store_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut builders: Vec<_> =
        (0..8).map(|_| Teller::start("open", &[dir.path().to_str().unwrap()])).collect();
    builders.iter_mut().for_each(|builder| assert_eq!(builder.line(), "ready"));
    for _ in 0..20 {
        builders.iter_mut().for_each(Teller::go);
        builders.iter_mut().for_each(|builder| assert_eq!(builder.line(), "open"));
    }
    for mut builder in builders {
        assert!(builder.child.wait().unwrap().success());
    }
}
