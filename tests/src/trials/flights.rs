//! Many processes at once on one Dockerfile: who runs a step, who waits, who takes over, who fails with whom.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::procs::kill;
use super::{Random, Tree, holds_locks, processes_with};
use crate::cooper::{Env, User};

/// What happens to the processes of one repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// Nothing: each step runs once.
    Calm,
    /// A step fails: once, for all.
    Fails,
    /// It fails, and half of the processes have another proxy: once for each half.
    Proxies,
    /// The owner of a step is interrupted: another takes over.
    Interrupted,
    /// The owner is killed: another takes over.
    Killed,
    /// The owner is killed and the supervisor of its container stopped, so that the container lives on.
    Orphaned,
}

impl Case {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Calm, Self::Fails, Self::Proxies, Self::Interrupted, Self::Killed, Self::Orphaned];
}

/// How a process learns that another is at its step.
const WAITS: &str = "another process is at the same step";

/// Steps of other tests and a slow machine: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// A server that steps report to: it counts, and answers when it is told to.
#[derive(Debug)]
struct Counter {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    counts: HashMap<String, u32>,
    /// Steps that are answered, and with which exit code; the others wait.
    open: HashMap<String, u8>,
}

impl Counter {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { port, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn count(&self, step: &str) -> u32 {
        self.state().counts.get(step).copied().unwrap_or(0)
    }

    fn open(&self, step: &str, code: u8) {
        self.state().open.insert(step.to_owned(), code);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: &TcpStream, state: &Mutex<State>) {
    let mut step = String::new();
    if BufReader::new(stream).read_line(&mut step).is_err() {
        return;
    }
    let step = step.trim().to_owned();
    *lock(state).counts.entry(step.clone()).or_default() += 1;
    // Whoever is killed leaves this thread waiting until the end of the trial: there are few.
    loop {
        let code = lock(state).open.get(&step).copied();
        if let Some(code) = code {
            let _ = stream.write_all(format!("{code}\n").as_bytes());
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A place where repetitions follow each other on one store.
#[derive(Debug)]
pub struct Trial {
    env: Env,
    base: String,
    counter: Counter,
    /// Names of attempts that were seen: of their control groups nothing may be left.
    attempts: Vec<String>,
    number: u64,
}

struct Builder {
    child: Child,
    log: PathBuf,
    iid: PathBuf,
}

impl Builder {
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Trial {
    /// Prepares a store with the base image in it.
    pub fn new(base: &Path) -> Self {
        let env = Env::new(User::Root);
        std::fs::create_dir(env.path("tmp")).unwrap();
        let base = format!("python:3.9-slim=oci-layout://{}", base.display());
        let mut trial = Self { env, base, counter: Counter::start(), attempts: Vec::new(), number: 0 };
        trial.env.write("Dockerfile", "FROM python:3.9-slim\nRUN true\n");
        let mut first = trial.start(&[]);
        assert!(first.child.wait().unwrap().success(), "{}", first.log());
        trial
    }

    /// Starts a build of the Dockerfile that is there.
    fn start(&mut self, words: &[&str]) -> Builder {
        self.number += 1;
        let (log, iid) = (
            self.env.path(&format!("run/{}.log", self.number)),
            self.env.path(&format!("run/{}", self.number)),
        );
        let out = format!("type=oci,dest={}.tar", iid.display());
        let mut command = self.env.command(&["build", ".", "--progress", "plain", "-o", &out]);
        command.args(["--build-context", &self.base]).arg("--iidfile").arg(&iid).args(words);
        command.env("TMPDIR", self.env.path("tmp"));
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Builder { child, log, iid }
    }

    fn until(&mut self, what: &str, builders: &[Builder], mut holds: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            if start.elapsed() > PATIENCE {
                let logs: Vec<_> = builders.iter().map(Builder::log).collect();
                panic!("waited in vain: {what}\n{}", logs.join("\n-----\n"));
            }
            self.see_attempts();
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn see_attempts(&mut self) {
        for entry in std::fs::read_dir(self.env.path("store/logs")).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !self.attempts.contains(&name) {
                self.attempts.push(name);
            }
        }
    }

    /// Runs `count` processes at once and asserts what must come of it. Returns how often the step in question ran.
    pub fn repeat(&mut self, case: Case, count: usize, random: &mut Random) -> u32 {
        let mark = format!("m{}x{}", std::process::id(), random.below(1 << 30));
        let step = |name: &str| {
            // What it prints is not in its name, which every process shows.
            format!(
                "RUN [\"bash\", \"-c\", \"n={name}; exec 3<>/dev/tcp/127.0.0.1/{}; echo {mark}-$n >&3; \
                 echo at {mark}-$n; read code <&3; echo {mark}-$n >> /out; exit $code\"]\n",
                self.counter.port
            )
        };
        self.env.write(
            "Dockerfile",
            &format!(
                "FROM python:3.9-slim AS build\n{}{}{}FROM scratch\nCOPY --from=build /out /out\n",
                step("before"),
                step("gate"),
                step("after")
            ),
        );
        let gate = format!("{mark}-gate");
        for name in ["before", "after"] {
            self.counter.open(&format!("{mark}-{name}"), 0);
        }
        let proxies = ["--build-arg=http_proxy=http://a", "--build-arg=http_proxy=http://b"];
        let mut builders: Vec<Builder> = (0..count)
            .map(|number| {
                let mut words = Vec::new();
                if number == 1 {
                    // Who waits must not keep the only slot.
                    words.extend(["--jobs", "1"]);
                }
                if case == Case::Proxies {
                    words.push(proxies[number % 2]);
                }
                self.start(&words)
            })
            .collect();
        // Everybody but one waits at the gate; the one has it.
        let waits = |builder: &Builder| {
            let log = builder.log();
            log.contains(WAITS) && log.contains(&format!("at {gate}"))
        };
        self.until("one runs and the others wait", &builders, |trial| {
            let waiting = builders.iter().filter(|builder| waits(builder)).count();
            let fast =
                builders.iter().filter(|builder| builder.log().contains(&format!("at {gate}"))).count();
            trial.counter.count(&gate) == 1 && fast == count && waiting + 1 >= count
        });
        // The log of the owner has the gate, and no word of another process after it.
        let owner = builders
            .iter()
            .position(|builder| {
                let log = builder.log();
                let at = log.find(&format!("at {gate}")).unwrap_or(0);
                let step = log[..at].rfind(" RUN ").unwrap_or(0);
                !log[step..at].contains(WAITS)
            })
            .expect("nobody owns the step");
        let pid = builders[owner].child.id() as i32;
        let mut stopped = Vec::new();
        match case {
            Case::Interrupted => kill(pid, "-INT"),
            Case::Killed => kill(pid, "-KILL"),
            Case::Orphaned => {
                let tree = Tree::now();
                // The supervisor is the builder's only child.
                let keepers = tree.below(pid).into_iter().take(1);
                stopped.extend(keepers);
                stopped.iter().for_each(|keeper| kill(*keeper, "-STOP"));
                kill(pid, "-KILL");
            }
            Case::Calm | Case::Fails | Case::Proxies => {}
        }
        let taken_over = matches!(case, Case::Interrupted | Case::Killed | Case::Orphaned);
        if taken_over {
            self.until("another takes over", &builders, |trial| trial.counter.count(&gate) == 2);
        }
        let fails = matches!(case, Case::Fails | Case::Proxies);
        self.counter.open(&gate, if fails { 7 } else { 0 });
        let mut images = Vec::new();
        for number in 0..count {
            let Some(builder) = builders.get_mut(number) else { break };
            let start = Instant::now();
            let status = loop {
                if let Some(status) = builder.child.try_wait().unwrap() {
                    break status;
                }
                assert!(start.elapsed() < PATIENCE, "{case:?}: it hangs\n{}", builder.log());
                self.see_attempts();
                std::thread::sleep(Duration::from_millis(10));
            };
            let code = match case {
                Case::Interrupted if number == owner => Some(130),
                Case::Killed | Case::Orphaned if number == owner => None,
                Case::Fails | Case::Proxies => Some(1),
                _ => Some(0),
            };
            assert_eq!(status.code(), code, "{case:?} {number}\n{}", builder.log());
            if fails {
                let log = builder.log();
                assert!(log.contains("exit code: 7") && log.contains(&format!("at {gate}")), "{log}");
            }
            images.extend(std::fs::read_to_string(&builder.iid).ok());
        }
        if !fails {
            assert_eq!(images.len(), count - usize::from(taken_over), "{case:?}");
            assert!(images.iter().all(|image| *image == images[0]), "{case:?}: {images:?}");
        }
        let ran = self.counter.count(&gate);
        let expected = if taken_over || case == Case::Proxies { 2 } else { 1 };
        assert_eq!(ran, expected, "{case:?}: runs of the step");
        assert_eq!(self.counter.count(&format!("{mark}-before")), 1, "{case:?}: runs of the step before");
        assert_eq!(
            self.counter.count(&format!("{mark}-after")),
            u32::from(!fails),
            "{case:?}: runs of the step after"
        );
        stopped.iter().for_each(|keeper| kill(*keeper, "-CONT"));
        self.clean(&mark, case);
        for builder in &builders {
            for path in [builder.log.clone(), builder.iid.clone(), builder.iid.with_extension("tar")] {
                let _ = std::fs::remove_file(path);
            }
        }
        ran
    }

    /// Asserts that nothing is left of a repetition.
    fn clean(&mut self, mark: &str, case: Case) {
        self.until("all processes are gone", &[], |_| processes_with(mark) == 0);
        let locks = ["flights.lock", "attempts.lock", "holders.lock"];
        let held = |trial: &Self| {
            locks.into_iter().find(|lock| holds_locks(&trial.env.path(&format!("store/{lock}"))))
        };
        self.until("no lock is held", &[], |trial| held(trial).is_none());
        // Who comes next clears up after the dead.
        self.env.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
        let mut next = self.start(&[]);
        assert!(next.child.wait().unwrap().success(), "{}", next.log());
        left(&self.env, &self.attempts, &format!("{case:?}"));
        self.attempts.clear();
    }
}

/// Asserts that dead builders have left nothing behind, once another has opened the store.
pub(super) fn left(env: &Env, attempts: &[String], case: &str) {
    // Trash is deleted by the next process in the background; it is no temporary file of a build.
    for dir in ["store/tmp", "store/logs", "tmp"] {
        let left: Vec<_> = std::fs::read_dir(env.path(dir)).unwrap().flatten().collect();
        assert!(left.is_empty(), "{case}: left in {dir}: {left:?}");
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&*env.path("store").to_string_lossy()), "{case}: a mount is left");
    let groups = groups("/sys/fs/cgroup".as_ref(), 0);
    let left: Vec<_> =
        groups.iter().filter(|group| attempts.iter().any(|name| group.contains(name))).collect();
    assert!(left.is_empty(), "{case}: groups are left: {left:?}");
}

/// Lists the control groups of cooper's steps; they are near the root of each hierarchy.
fn groups(dir: &Path, depth: u32) -> Vec<String> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("cooper-") {
            out.push(name);
        } else if depth < 4 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            out.extend(groups(&entry.path(), depth + 1));
        }
    }
    out
}

/// Runs `count` repetitions of 16 processes, the cases in turn.
pub fn run(base: &Path, seed: u64, count: u64) -> Value {
    let mut random = Random::new(seed);
    let mut trial = Trial::new(base);
    let mut runs: HashMap<String, u64> = HashMap::new();
    for number in 0..count {
        let case = Case::ALL[(number % Case::ALL.len() as u64) as usize];
        trial.repeat(case, 16, &mut random);
        *runs.entry(format!("{case:?}").to_lowercase()).or_default() += 1;
        eprintln!("{}: {case:?}", number + 1);
    }
    json!({ "repetitions": count, "processes": 16, "cases": runs })
}
