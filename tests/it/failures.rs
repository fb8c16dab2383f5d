//! What a person sees when something is wrong, and what is left then: nothing but what had been finished.

use std::process::Stdio;
use std::time::{Duration, Instant};

use cooper_tests::cooper::{Env, Finished, User, base};
use cooper_tests::image::Image;
use cooper_tests::trials::{holds_locks, kill};

fn environment(dockerfile: &str) -> Env {
    let env = Env::new(User::Root);
    env.write("Dockerfile", dockerfile);
    env
}

/// Returns the message of a failed build, without what came before it.
#[track_caller]
fn message(finished: &Finished, code: i32) -> String {
    assert_eq!(finished.code, code, "{}", finished.stderr);
    let at = finished.stderr.rfind("error: ").unwrap_or_else(|| panic!("no error:\n{}", finished.stderr));
    finished.stderr[at..].to_owned()
}

#[test]
fn privileged_messages() {
    let Some(layout) = base("messages") else { return };
    for (dockerfile, words, code, expected) in [
        (
            "FROM python:3.9-slim AS build\nRUN echo one && echo two >&2 && exit 7\n",
            &[][..],
            1,
            "\
error: `RUN echo one && echo two >&2 && exit 7` failed, exit code: 7
 --> Dockerfile:2:1
  |
2 | RUN echo one && echo two >&2 && exit 7
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ stage build
  |
  = what it printed:
      one
      two
",
        ),
        (
            "FROM scratch AS one\nCOPY Dockerfile /\n",
            &["--target", "oen"],
            1,
            "\
error: target stage \"oen\" could not be found
 |
 = help: did you mean `one`?
",
        ),
        (
            "FROM scratch\nCOPY nothing /\n",
            &[],
            1,
            "\
error: `COPY nothing /` failed
 --> Dockerfile:2:1
  |
2 | COPY nothing /
  | ^^^^^^^^^^^^^^ stage stage-0
  |
  = \"/nothing\": not found
  = looked for in the build context, the folder `CTX`
",
        ),
        (
            "FROM scratch\nCOYP a b\n",
            &[],
            1,
            "\
error: dockerfile parse error on line 2: unknown instruction: COYP
 --> Dockerfile:2:1
  |
2 | COYP a b
  | ^^^^^^^^
  |
  = help: did you mean `COPY`?
",
        ),
        (
            "FROM scratch\nADD http://127.0.0.1:1/x /\n",
            &[],
            3,
            "\
error: `ADD http://127.0.0.1:1/x /` failed
 --> Dockerfile:2:1
  |
2 | ADD http://127.0.0.1:1/x /
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^ stage stage-0
  |
  = `http://127.0.0.1:1/x`: cannot connect to `127.0.0.1:1`
  = error sending request
  = client error (Connect)
  = tcp connect error
  = Connection refused (os error 111)
  = help: check the network and the name `127.0.0.1:1`; behind a proxy set HTTPS_PROXY
",
        ),
        (
            "# syntax=example.com/other:1\nFROM scratch\n",
            &[],
            1,
            "\
error: the syntax `example.com/other:1` is another frontend; built in is docker/dockerfile: remove the line, or build with BuildKit
 --> Dockerfile:1:1
  |
1 | # syntax=example.com/other:1
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
",
        ),
        (
            "FROM python:3.9-slim\nRUN true\n",
            &["--runtime", "/nonexistent/runtime"],
            3,
            "\
error: no container runtime found (looked for /nonexistent/runtime); install one: apt-get install crun
",
        ),
    ] {
        let env = environment(dockerfile);
        let ctx = env.path("ctx").display().to_string();
        let shown = message(&env.build(&layout, words), code).replace(&ctx, "CTX");
        assert_eq!(shown, expected, "{dockerfile}");
        assert!(!env.path("out.tar").exists(), "{dockerfile}: something was written");
    }
}

#[test]
fn privileged_wrong_usage_is_exit_code_2() {
    let env = environment("FROM scratch\n");
    for words in [
        &["build"][..],
        &["build", ".", "--no-such-flag"],
        &["build", ".", "-o", "type=registry"],
        &["build", ".", "-t", "UPPER"],
        &["build", ".", "--jobs", "0"],
        &["build", ".", "--build-context", "x"],
        &["build", "/nonexistent"],
        &["nonsense"],
    ] {
        let finished = env.cooper(words);
        assert_eq!(finished.code, 2, "{words:?}: {}", finished.stderr);
    }
}

/// The first failure stops what runs and what waits; what had been finished is found again.
#[test]
fn privileged_a_failure_stops_the_rest() {
    let Some(layout) = base("a_failure_stops_the_rest") else { return };
    let env = environment(
        "FROM python:3.9-slim AS base\nRUN echo done > /done\n\
         FROM base AS bad\nRUN sleep 0.5; exit 3\n\
         FROM base AS slow\nRUN sleep 60.25\nRUN echo after\n\
         FROM scratch\nCOPY --from=bad /done /a\nCOPY --from=slow /done /b\n",
    );
    let start = Instant::now();
    let failed = env.build(&layout, &["--jobs", "4"]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert!(start.elapsed() < Duration::from_secs(50), "the slow step was waited for");
    assert!(failed.stderr.contains("CANCELED"), "{}", failed.stderr);
    assert!(!failed.stderr.contains("RUN echo after\n#"), "{}", failed.stderr);
    assert_eq!(processes_with("60.25"), 0, "the slow step still runs");
    let again = env.build(&layout, &["--target", "base"]).ok();
    assert!(again.stderr.contains("CACHED"), "the finished step was kept: {}", again.stderr);
}

#[test]
fn privileged_interrupted_and_killed_builders_leave_nothing() {
    let Some(layout) = base("interrupted_and_killed_builders_leave_nothing") else { return };
    // One store for all: it takes its time to fill.
    let env = environment("");
    for (signal, code, mark) in
        [("-INT", Some(130), "61.5"), ("-TERM", Some(143), "62.5"), ("-KILL", None, "63.5")]
    {
        for runtime in ["crun", "runc", "cooper"] {
            let mark = format!("{mark}{}", runtime.len());
            env.write("Dockerfile", &format!("FROM python:3.9-slim\nRUN sleep {mark}\n"));
            let context = format!("python:3.9-slim=oci-layout://{}", layout.display());
            let mut command = env.command(&["build", ".", "--runtime", runtime, "--build-context", &context]);
            let mut child = command.stderr(Stdio::null()).spawn().unwrap();
            wait_until(&format!("{runtime}: the step runs"), || processes_with(&mark) > 0);
            kill(child.id(), signal);
            assert_eq!(child.wait().unwrap().code(), code, "{runtime} {signal}");
            wait_until(&format!("{runtime} {signal}: the step is gone"), || processes_with(&mark) == 0);
            // What kept the step goes after it, and until then its files are not cleared up.
            let locks = env.path("store/attempts.lock");
            wait_until(&format!("{runtime} {signal}: its keeper is gone"), || !holds_locks(&locks));
            let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
            assert!(
                !mounts.contains(&*env.path("store").to_string_lossy()),
                "{runtime} {signal}: a mount is left"
            );
            // The next build clears up and works.
            env.write(
                "Dockerfile",
                "FROM python:3.9-slim AS made\nRUN echo fine > /f\nFROM scratch\nCOPY --from=made /f /\n",
            );
            env.build(&layout, &["--runtime", runtime]).ok();
            assert_eq!(Image::open(&env.path("out.tar")).text("f"), "fine\n");
            let left: Vec<_> = std::fs::read_dir(env.path("store/tmp")).unwrap().flatten().collect();
            assert!(left.is_empty(), "{runtime} {signal}: {left:?}");
        }
    }
}

/// Counts processes that have a word among their arguments.
fn processes_with(word: &str) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|&b| b == 0).any(|argument| argument == word.as_bytes())
    })
    .count()
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(120), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn privileged_a_file_that_a_stage_does_not_have() {
    let env = environment(
        "FROM scratch AS made\nCOPY Dockerfile /app/config.json\nCOPY Dockerfile /lib/app.so\n\
         FROM scratch\nCOPY --from=made /app/conifg.json /\n",
    );
    let failed = env.cooper(&["build", "."]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    for line in
        ["\"/app/conifg.json\": not found", "looked for in `made`", "did you mean `/app/config.json`?"]
    {
        assert!(failed.stderr.contains(line), "{}", failed.stderr);
    }
    let env = environment(
        "FROM scratch AS made\nCOPY Dockerfile /lib/app.so\nFROM scratch\nCOPY --from=made --parents /app.so /\n",
    );
    let failed = env.cooper(&["build", "."]);
    assert!(failed.stderr.contains("did you mean `/lib/app.so`?"), "{}", failed.stderr);
}
