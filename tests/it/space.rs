//! What the store takes, and what makes it less: `du`, `prune`, `store check`, the cap.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use cooper_tests::cooper::{Env, User, base};
use cooper_tests::image::Image;
use cooper_tests::trials;
use serde_json::Value;

/// Everything that `du` lists.
fn items(env: &Env, words: &[&str]) -> Vec<Value> {
    let mut all = vec!["du", "--format", "json"];
    all.extend(words);
    let listed = env.cooper(&all).ok().stdout;
    listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn bytes(items: &[Value], but: &str) -> u64 {
    items.iter().filter(|item| item["kind"] != but).map(|item| item["bytes"].as_u64().unwrap()).sum()
}

/// What lies in the folders for things that are counted one by one.
fn on_disk(env: &Env) -> u64 {
    let below = |name: &str| {
        let dir = env.path("store").join(name);
        trials::trace::on_disk(&dir)
    };
    below("blobs/sha256") + below("snapshots") + below("memo")
}

fn find(dir: &Path, name: &str) -> Option<std::path::PathBuf> {
    std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path().join(name)).find(|path| path.is_file())
}

#[test]
fn privileged_sizes_add_up_and_prune_takes_what_it_says() {
    let Some(layout) = base("sizes_add_up_and_prune_takes_what_it_says") else { return };
    let env = Env::new(User::Root);
    env.write("Dockerfile", "FROM python:3.9-slim\nRUN echo one > /one\nRUN echo two > /two\nCOPY text /\n");
    env.write("text", "text\n");
    env.build(&layout, &[]).ok();
    let all = items(&env, &[]);
    // A file in pieces gets a block for the list of these when it reaches the disk, after it was measured.
    let (sum, there) = (bytes(&all, "database"), on_disk(&env));
    assert!(sum.abs_diff(there) <= there / 10_000, "{sum} {there}");
    let kinds = ["layer", "blob", "index", "memo", "database"];
    for kind in kinds {
        let of_kind = items(&env, &["--filter", &format!("type={kind}")]);
        assert_eq!(of_kind.is_empty(), !all.iter().any(|item| item["kind"] == kind), "{kind}");
        assert!(of_kind.iter().all(|item| item["kind"] == kind));
    }
    let step = items(&env, &["--filter", "description~=RUN echo two"]);
    assert_eq!(step.len(), 1, "{step:?}");
    let text = env.cooper(&["du"]).ok().stdout;
    assert!(text.contains("Reclaimable:") && text.contains("RUN echo two"), "{text}");
    let text = env.cooper(&["du", "--why-kept"]).ok().stdout;
    assert!(text.contains("number 1 to go") && text.contains("the store itself"), "{text}");
    let layer = all.iter().find(|item| item["kind"] == "layer").unwrap()["id"].as_str().unwrap();
    let hex = layer.strip_prefix("layer:").unwrap();
    assert!(text.contains(&format!("layer {}", &hex[..12])), "an index is kept by its layer: {text}");

    // Young things stay; one thing goes and nothing else.
    env.cooper(&["prune", "--filter", "until=1h"]).ok();
    assert_eq!(items(&env, &["--filter", "type!=database"]).len(), all.len() - 1);
    let gone = env.cooper(&["prune", "--filter", "description~=RUN echo two"]).ok().stdout;
    assert!(gone.contains("RUN echo two"), "{gone}");
    assert_eq!(items(&env, &["--filter", "type!=database"]).len(), all.len() - 2);
    // Down to a size, and not further than it has to be.
    let now = items(&env, &[]);
    let largest = now[0]["bytes"].as_u64().unwrap();
    let target = bytes(&now, "") - 1;
    env.cooper(&["prune", "--max-used-space", &target.to_string()]).ok();
    let left = bytes(&items(&env, &["--filter", "type!=database"]), "database");
    assert!(left <= target && left + largest + (4 << 20) > target, "{left} {target}");
    // What is known stays, bytes go: nothing runs again.
    env.cooper(&["prune"]).ok();
    assert_eq!(bytes(&items(&env, &["--filter", "type=layer"]), ""), 0);
    let again = env
        .cooper(&[
            "build",
            ".",
            "--progress",
            "plain",
            "--build-context",
            &format!("python:3.9-slim=oci-layout://{}", layout.display()),
        ])
        .ok();
    assert!(again.stderr.contains("CACHED") && !again.stderr.contains("RUN echo one\n#"), "{}", again.stderr);
    env.cooper(&["prune", "--all"]).ok();
    let left = items(&env, &["--filter", "type!=database"]);
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(on_disk(&env), 0);
    env.build(&layout, &[]).ok();
    assert_eq!(Image::open(&env.path("out.tar")).text("two"), "two\n");
}

/// A build is at a step; everything that it needs stays, whatever is pruned meanwhile.
#[test]
fn privileged_prune_during_a_build_takes_nothing_of_it() {
    let Some(layout) = base("prune_during_a_build_takes_nothing_of_it") else { return };
    let env = Env::new(User::Root);
    let dockerfile = "FROM python:3.9-slim AS a\nRUN echo one > /one\nRUN while ! test -e /proc/1/root/never; do \
                      sleep 0.1; n=$((n+1)); test $n -lt 60 || break; done; cat /one > /two\n\
                      FROM a\nCOPY --from=a /one /three\n";
    env.write("Dockerfile", dockerfile);
    let (from, out) = (
        format!("python:3.9-slim=oci-layout://{}", layout.display()),
        format!("type=oci,dest={}", env.path("out.tar").display()),
    );
    let mut command =
        env.command(&["build", ".", "--progress", "plain", "--build-context", &from, "-o", &out]);
    let log = env.path("run/log");
    let mut child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let start = Instant::now();
    let holder = loop {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", std::fs::read_to_string(&log).unwrap());
        let held = items(&env, &["--filter", "inuse", "--filter", "description~=RUN echo one"]);
        if let Some(item) = held.first() {
            break item["kept"][0].clone();
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(holder["why"], "process");
    env.cooper(&["prune", "--all"]).ok();
    assert_eq!(items(&env, &["--filter", "description~=RUN echo one"]).len(), 1);
    let status = child.wait().unwrap();
    assert!(status.success(), "{}", std::fs::read_to_string(&log).unwrap());
    let image = Image::open(&env.path("out.tar"));
    assert_eq!(image.text("two") + &image.text("three"), "one\none\n");
}

#[test]
fn privileged_a_step_that_writes_too_much_is_stopped_and_named() {
    let Some(layout) = base("a_step_that_writes_too_much_is_stopped_and_named") else { return };
    let env = Env::new(User::Root);
    env.write("Dockerfile", "FROM python:3.9-slim\nRUN true\n");
    env.build(&layout, &[]).ok();
    let cap = trials::trace::on_disk(&env.path("store")) + (60 << 20);
    env.write("Dockerfile", "FROM python:3.9-slim\nRUN head -c 1G /dev/zero > /large && echo never\n");
    let built = env.build(&layout, &["--max-used", &cap.to_string()]);
    assert_eq!(built.code, 3, "{}", built.stderr);
    for text in ["the store would need", "in use by this build", "allow more by --max-used", "RUN head -c 1G"]
    {
        assert!(built.stderr.contains(text), "{text}: {}", built.stderr);
    }
    assert!(!built.stderr.contains("context canceled"), "{}", built.stderr);
    // The cap can come from elsewhere, and a wrong one is wrong usage.
    let mut command = env.command(&["build", "."]);
    command.args(["--build-context", &format!("python:3.9-slim=oci-layout://{}", layout.display())]);
    let output = command.env("COOPER_MAX_USED", cap.to_string()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(env.cooper(&["build", ".", "--max-used", "lots"]).code, 2);
    // What was written is gone again, and what fits is built.
    env.write("Dockerfile", "FROM python:3.9-slim\nRUN head -c 20M /dev/zero > /small\n");
    env.build(&layout, &["--max-used", &cap.to_string()]).ok();
    assert!(trials::trace::on_disk(&env.path("store")) <= cap);
}

#[test]
fn privileged_check_finds_a_flipped_bit_and_repair_heals() {
    let Some(layout) = base("check_finds_a_flipped_bit_and_repair_heals") else { return };
    let env = Env::new(User::Root);
    env.write("Dockerfile", "FROM python:3.9-slim\nRUN echo one > /one\nRUN cat /one > /two\n");
    env.build(&layout, &[]).ok();
    let checked = env.cooper(&["store", "check"]);
    assert_eq!(checked.code, 0, "{}{}", checked.stdout, checked.stderr);
    assert!(checked.stdout.contains("all is well"), "{}", checked.stdout);
    let file = find(&env.path("store/snapshots"), "fs/one").unwrap();
    let before = std::fs::metadata(&file).unwrap();
    let mut open = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    open.seek(SeekFrom::Start(1)).unwrap();
    open.write_all(b"N").unwrap();
    open.set_modified(before.modified().unwrap()).unwrap();
    drop(open);
    let after = std::fs::metadata(&file).unwrap();
    assert_eq!((before.len(), before.mtime()), (after.len(), after.mtime()));
    let checked = env.cooper(&["store", "check"]);
    assert_eq!(checked.code, 1);
    assert!(checked.stdout.contains("`one` has other contents"), "{}", checked.stdout);
    assert_eq!(env.cooper(&["store", "check", "--repair"]).code, 0);
    assert_eq!(env.cooper(&["store", "check"]).code, 0);
    env.write("Dockerfile", "FROM python:3.9-slim\nRUN echo one > /one\nRUN cat /one > /three\n");
    env.build(&layout, &[]).ok();
    assert_eq!(Image::open(&env.path("out.tar")).text("three"), "one\n");
}

/// A sample of `cargo xtask soak trace`.
#[test]
fn privileged_a_trace_of_builds_stays_under_its_cap() {
    let Some(layout) = base("a_trace_of_builds_stays_under_its_cap") else { return };
    let result = trials::trace::run(&layout, 1, 14);
    assert!(result["most"].as_u64() > Some(300_000_000), "nothing had to go: {result}");
    assert_eq!(result["refused"], 1, "{result}");
}
