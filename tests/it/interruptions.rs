//! Builds that somebody ends, or takes something away from: signals, closed pipes, a deleted store.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cooper_tests::cooper::{Env, User, base};
use cooper_tests::trials::{kill, processes_with};

/// Starts a build that sleeps, in the way of `env` with `options`. The mark is in the words of the step's process.
fn sleeping(env: &Env, layout: &std::path::Path, mark: &str, options: &[&str]) -> Child {
    env.write("Dockerfile", &format!("FROM python:3.9-slim\nRUN : {mark}; sleep 600\n"));
    let from = format!("python:3.9-slim=oci-layout://{}", layout.display());
    let command = env.command(&["build", ".", "--progress", "plain", "--build-context", &from]);
    let mut again = Command::new(command.get_program());
    let mut words = command.get_args();
    // The first word says how signals are by default.
    again.args(words.next()).args(options).args(words).current_dir(env.path("ctx")).env_clear();
    again.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    again.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(120), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn said(child: &mut Child) -> String {
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn privileged_signals_end_with_their_codes() {
    let Some(layout) = base("signals_end_with_their_codes") else { return };
    let env = Env::new(User::Root);
    for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let mark = format!("signal{code}x{}", std::process::id());
        let mut child = sleeping(&env, &layout, &mark, &[]);
        until("the step runs", || processes_with(&mark) > 0 && runs_sleep(&mark));
        kill(child.id(), signal);
        let text = said(&mut child);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal}: {text}");
        assert!(text.contains("error: the build was interrupted"), "{text}");
        assert_eq!(processes_with(&mark), 0, "{signal}: the step is gone before the builder is");
        assert_eq!(std::fs::read_dir(env.path("store/tmp")).unwrap().count(), 0, "{signal}");
    }
}

/// Tells whether the step itself runs, and not only what starts it.
fn runs_sleep(mark: &str) -> bool {
    let wanted = format!(": {mark}; sleep 600");
    processes_with(&wanted) > 0
}

#[test]
fn privileged_a_second_interrupt_ends_at_once() {
    let Some(layout) = base("a_second_interrupt_ends_at_once") else { return };
    let mark = format!("second{}", std::process::id());
    let env = Env::new(User::Root);
    let mut child = sleeping(&env, &layout, &mark, &[]);
    until("the step runs", || processes_with(&mark) > 0);
    // As fast as they can be sent: cleaning up may be quicker, which is as good an end.
    kill(child.id(), "-INT");
    for _ in 0..20 {
        kill(child.id(), "-INT");
    }
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    until("the step is gone", || processes_with(&mark) == 0);
    // Whatever it left is cleared up by the next.
    env.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    env.build(&layout, &[]).ok();
    assert_eq!(std::fs::read_dir(env.path("store/tmp")).unwrap().count(), 0);
}

/// `nohup cooper build &` goes on when the terminal is closed.
#[test]
fn privileged_signals_that_were_ignored_stay_so() {
    let Some(layout) = base("signals_that_were_ignored_stay_so") else { return };
    let mark = format!("nohup{}", std::process::id());
    let env = Env::new(User::Root);
    let mut child = sleeping(&env, &layout, &mark, &["--ignore-signal=HUP"]);
    until("the step runs", || processes_with(&mark) > 0);
    kill(child.id(), "-HUP");
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "{}", said(&mut child));
    kill(child.id(), "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn privileged_nobody_reads() {
    let Some(layout) = base("nobody_reads") else { return };
    let env = Env::new(User::Root);
    env.write("Dockerfile", "FROM python:3.9-slim\nRUN echo one; echo two > /f\n");
    let from = format!("python:3.9-slim=oci-layout://{}", layout.display());
    let closed = |words: &[&str], stdout: bool| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = env.command(&["build", ".", "--build-context", &from]);
        command.args(words);
        if stdout {
            command.stdout(writer).stderr(Stdio::piped());
        } else {
            command.stdout(Stdio::null()).stderr(writer);
        }
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // What is shown of a build is no reason to end it.
    let out = format!("type=oci,dest={}", env.path("out.tar").display());
    assert_eq!(closed(&["-o", &out], false).0, Some(0));
    assert!(env.path("out.tar").exists());
    // What was asked for and did not arrive is one.
    for words in [&["-q", "-o", &out][..], &["-o", "type=oci,dest=-"]] {
        let (code, text) = closed(words, true);
        assert_eq!(code, Some(3), "{words:?}: {text}");
        assert!(text.contains("error: cannot") && !text.contains("panicked"), "{words:?}: {text}");
    }
}

#[test]
fn privileged_the_store_is_deleted_under_a_build() {
    let Some(layout) = base("the_store_is_deleted_under_a_build") else { return };
    let mark = format!("deleted{}", std::process::id());
    let env = Env::new(User::Root);
    env.write(
        "Dockerfile",
        &format!("FROM python:3.9-slim\nRUN : {mark}; sleep 5; echo > /f\nRUN echo > /g\n"),
    );
    let from = format!("python:3.9-slim=oci-layout://{}", layout.display());
    let mut command = env.command(&["build", ".", "--progress", "plain", "--build-context", &from]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until("the step runs", || runs_with(&mark));
    // The builder may be making files while others are deleted.
    until("the store is deleted", || {
        Command::new("rm").arg("-rf").arg(env.path("store")).status().unwrap().success()
    });
    let text = said(&mut child);
    assert_eq!(child.wait().unwrap().code(), Some(3), "{text}");
    assert!(
        text.contains("was deleted while the build ran") && text.contains("run the build again"),
        "{text}"
    );
    env.build(&layout, &[]).ok();
}

fn runs_with(mark: &str) -> bool {
    processes_with(mark) > 0
}
