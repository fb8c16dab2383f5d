//! SIGKILL at random moments of a build: what the next build makes, and what is left.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::flights::left;
use super::procs::kill;
use super::{Random, Tree, holds_locks, processes_with};
use crate::cooper::{Env, User};
use crate::image::Image;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// The builder and everything that it started.
    All,
    /// The builder alone.
    Builder,
    /// The runtime alone, if one runs just then.
    Runtime,
}

const STEPS: usize = 10;

/// Builds a Dockerfile of ten steps `count` times, kills somebody at a random moment each time, and builds again.
///
/// The next build must give the right image, and nothing may be left.
pub fn run(base: &Path, seed: u64, count: u64) -> Value {
    let mut random = Random::new(seed);
    let env = Env::new(User::Root);
    std::fs::create_dir(env.path("tmp")).unwrap();
    let from = format!("python:3.9-slim=oci-layout://{}", base.display());
    let out = format!("type=oci,dest={}", env.path("out.tar").display());
    let build = || {
        let mut command =
            env.command(&["build", ".", "--progress", "plain", "-o", &out, "--build-context", &from]);
        command.env("TMPDIR", env.path("tmp")).stdin(Stdio::null()).stdout(Stdio::null());
        command
    };
    let log = env.path("run/log");
    // The base is unpacked once; killing that is a case of its own, by a build in a new store now and then.
    env.write("Dockerfile", "FROM python:3.9-slim\nRUN true\n");
    assert!(build().output().unwrap().status.success());
    let mut length = Duration::from_secs(4);
    let (mut alive, mut ended, mut no_runtime) = (0, 0, 0);
    for number in 0..count {
        let mark = format!("k{}x{}", std::process::id(), random.below(1 << 30));
        let steps: String =
            (0..STEPS).map(|step| format!("RUN : {mark}; echo {step} >> /list && sleep 0.05\n")).collect();
        env.write(
            "Dockerfile",
            &format!("FROM python:3.9-slim AS build\n{steps}FROM scratch\nCOPY --from=build /list /list\n"),
        );
        let victim = [Victim::All, Victim::Builder, Victim::Runtime][(number % 3) as usize];
        let after = Duration::from_millis(random.below(u64::try_from(length.as_millis()).unwrap()));
        let start = Instant::now();
        let mut child = build().stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let mut attempts = Vec::new();
        while start.elapsed() < after {
            see(&env, &mut attempts);
            std::thread::sleep(Duration::from_millis(5));
        }
        see(&env, &mut attempts);
        let tree = Tree::now();
        match victim {
            Victim::All => {
                let below = tree.below(pid);
                kill(pid, "-KILL");
                below.into_iter().for_each(|pid| kill(pid, "-KILL"));
            }
            Victim::Builder => kill(pid, "-KILL"),
            Victim::Runtime => match tree.below(pid).into_iter().find(|pid| tree.runs(*pid, "crun")) {
                Some(runtime) => kill(runtime, "-KILL"),
                None => no_runtime += 1,
            },
        }
        let status = child.wait().unwrap();
        alive += u64::from(victim == Victim::Runtime && status.success());
        ended += u64::from(victim != Victim::Runtime && status.success());
        let case = format!("{number}: {victim:?} after {after:?}");
        until(&format!("{case}: all processes are gone"), || processes_with(&mark) == 0);
        for lock in ["flights.lock", "attempts.lock", "holders.lock"] {
            until(&format!("{case}: {lock} is free"), || !holds_locks(&env.path(&format!("store/{lock}"))));
        }
        let _ = std::fs::remove_file(env.path("out.tar"));
        let start = Instant::now();
        let again = build().output().unwrap();
        if number < 3 {
            length = length.max(start.elapsed());
        }
        let text = String::from_utf8_lossy(&again.stderr);
        assert!(again.status.success(), "{case}\n{text}");
        let wanted: String = (0..STEPS).map(|step| format!("{step}\n")).collect();
        assert_eq!(Image::open(&env.path("out.tar")).text("list"), wanted, "{case}\n{text}");
        left(&env, &attempts, &case);
        // Once all is over: `cooper store check`, where it is there.
        check(&env, &case);
    }
    json!({ "kills": count, "had_ended_before": ended, "survived_the_runtime": alive, "no_runtime_then": no_runtime })
}

/// Has the store checked, if this `cooper` can.
fn check(env: &Env, case: &str) {
    let help = env.cooper(&["store", "check", "--help"]);
    if help.code == 2 && help.stderr.contains("unrecognized subcommand") {
        return;
    }
    let checked = env.cooper(&["store", "check"]);
    assert_eq!(checked.code, 0, "{case}: {}{}", checked.stdout, checked.stderr);
}

fn see(env: &Env, attempts: &mut Vec<String>) {
    for entry in std::fs::read_dir(env.path("store/logs")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !attempts.contains(&name) {
            attempts.push(name);
        }
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
