//! Builds of a generated trace under a cap, two processes at once: never above it, and no build loses an input.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::Random;
use crate::cooper::{Env, Finished, User};

/// What the trace has seen.
#[derive(Debug, Default)]
struct Seen {
    /// Builds that were begun.
    begun: AtomicU64,
    /// The most that lay on the disk, in bytes.
    most: AtomicU64,
    /// Looks at the disk.
    looks: AtomicU64,
    /// Builds whose working set is larger than the cap, and that said so.
    refused: AtomicU64,
    /// Builds for which there was no room while such a one was under way.
    crowded: AtomicU64,
    /// How many such are under way, and how many were ever begun.
    large: AtomicU64,
    large_begun: AtomicU64,
    over: AtomicBool,
}

/// A project of the trace: what its Dockerfile says follows from these numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Project {
    /// Version of the early step.
    early: u64,
    /// Version of the file that is copied.
    text: u64,
}

/// Megabytes that the early step of a project writes.
fn early_size(project: u64, version: u64) -> u64 {
    8 + (project * 7 + version * 5) % 24
}

/// What a build of the trace is made of.
struct Build<'a> {
    env: &'a Env,
    base: &'a str,
    cap: &'a str,
    /// A folder of its own.
    dir: PathBuf,
}

impl Build<'_> {
    /// Builds a Dockerfile with further flags.
    fn run(&self, dockerfile: &str, text: &str) -> Finished {
        std::fs::create_dir_all(&self.dir).unwrap();
        std::fs::write(self.dir.join("Dockerfile"), dockerfile).unwrap();
        std::fs::write(self.dir.join("text"), text).unwrap();
        let out = self.dir.with_extension("out");
        let _ = std::fs::remove_dir_all(&out);
        let mut command = self.env.command(&["build", "--progress", "plain", "--max-used", self.cap]);
        command.args(["--build-context", self.base, "-o"]).arg(format!("type=local,dest={}", out.display()));
        command.arg(&self.dir).stdin(Stdio::null());
        command.output().unwrap().into()
    }

    /// Builds a project and asserts that the result is made of the right inputs.
    fn project(&self, number: u64, project: Project, seen: &Seen) {
        let size = early_size(number, project.early) << 20;
        let (early, late) = (format!("p{number}v{}", project.early), 4 << 20);
        let dockerfile = format!(
            "FROM python:3.9-slim AS build\nRUN yes {early} | head -c {size} > /early\nCOPY text /text\n\
             RUN yes $(cat /text) | head -c {late} > /late && (head -n 1 /early; cat /early | wc -c; cat /text) > /made\n\
             FROM scratch\nCOPY --from=build /made /late /\n"
        );
        let text = format!("text {number} {}\n", project.text);
        for _ in 0..50 {
            let large = seen.large_begun.load(Ordering::SeqCst);
            let beside = seen.large.load(Ordering::SeqCst) > 0;
            let built = self.run(&dockerfile, &text);
            let crowded = beside || seen.large_begun.load(Ordering::SeqCst) > large;
            if built.code == 3 && crowded && is_full(&built) {
                seen.crowded.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            built.ok();
            let out = self.dir.with_extension("out");
            assert_eq!(
                std::fs::read_to_string(out.join("made")).unwrap(),
                format!("{early}\n{size}\n{text}")
            );
            assert_eq!(std::fs::metadata(out.join("late")).unwrap().len(), late);
            return;
        }
        panic!("project {number} finds no room");
    }

    /// Builds what cannot fit: at most 100 MB a second, as what is quicker is above the cap before it is stopped.
    fn large(&self, number: u64, bytes: u64, seen: &Seen) {
        seen.large.fetch_add(1, Ordering::SeqCst);
        seen.large_begun.fetch_add(1, Ordering::SeqCst);
        let built =
            self.run(&format!("FROM python:3.9-slim\nRUN for n in $(seq {}); do yes {number} | head -c 2M >> /large; sleep 0.02; done\n", bytes >> 21), "");
        seen.large.fetch_sub(1, Ordering::SeqCst);
        assert!(built.code == 3 && is_full(&built), "{} {}", built.code, built.stderr);
        seen.refused.fetch_add(1, Ordering::Relaxed);
    }
}

fn is_full(built: &Finished) -> bool {
    built.stderr.contains("the store would need") && built.stderr.contains("--max-used")
}

/// Adds up what a folder takes on the disk. An inode counts once, so that nothing is counted twice that is renamed meanwhile.
pub fn on_disk(dir: &Path) -> u64 {
    let mut inodes = HashSet::new();
    let mut sum = 0;
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            if inodes.insert(found.ino()) {
                sum += found.blocks() * 512;
                if found.is_dir() {
                    todo.push(entry.path());
                }
            }
        }
    }
    sum
}

fn watch(store: &Path, cap: u64, done: &AtomicBool, seen: &Seen) {
    while !done.load(Ordering::SeqCst) {
        let mut sum = on_disk(store);
        if sum > cap {
            // A walk sees what was deleted before its end and what came after its begin. Really above it is what still is.
            sum = sum.min(on_disk(store));
        }
        seen.looks.fetch_add(1, Ordering::Relaxed);
        seen.most.fetch_max(sum, Ordering::Relaxed);
        if sum > cap {
            seen.over.store(true, Ordering::SeqCst);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs `count` builds of six projects that change, with one in twenty that cannot fit.
pub fn run(base: &Path, seed: u64, count: u64) -> Value {
    const CAP: u64 = 500_000_000;
    let env = Env::new(User::Root);
    let base = format!("python:3.9-slim=oci-layout://{}", base.display());
    let cap = CAP.to_string();
    let seen = Seen::default();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| watch(&env.path("store"), CAP, &done, &seen));
        let builders: Vec<_> = (0..2)
            .map(|worker| {
                let (env, base, cap, seen) = (&env, &base, &cap, &seen);
                scope.spawn(move || {
                    let mut random = Random::new(seed * 2 + worker);
                    let mut projects = [Project::default(); 6];
                    let build = Build { env, base, cap, dir: env.path(&format!("w{worker}")) };
                    loop {
                        let number = seen.begun.fetch_add(1, Ordering::SeqCst);
                        if number >= count {
                            return;
                        }
                        if number % 20 == 7 {
                            build.large(seed * 1000 + number, CAP, seen);
                            continue;
                        }
                        // Both work on the same projects; a version is the same for both.
                        let at = random.below(6);
                        let Some(project) = projects.get_mut(at as usize) else { continue };
                        match random.below(6) {
                            0 | 1 => project.early += 1,
                            2 | 3 => project.text += 1,
                            _ => {}
                        }
                        build.project(at, *project, seen);
                    }
                })
            })
            .collect();
        let ended: Vec<_> = builders.into_iter().map(|builder| builder.join()).collect();
        done.store(true, Ordering::SeqCst);
        for ended in ended {
            if let Err(panic) = ended {
                std::panic::resume_unwind(panic);
            }
        }
    });
    let most = seen.most.load(Ordering::SeqCst);
    assert!(!seen.over.load(Ordering::SeqCst), "{most} bytes lay on the disk, and {CAP} may");
    let checked = env.cooper(&["store", "check"]);
    assert_eq!(checked.code, 0, "{}{}", checked.stdout, checked.stderr);
    let known = |value: &AtomicU64| value.load(Ordering::SeqCst);
    json!({
        "builds": count, "cap": CAP, "most": most, "looks": known(&seen.looks), "left": on_disk(&env.path("store")),
        "refused": known(&seen.refused), "crowded": known(&seen.crowded),
    })
}
