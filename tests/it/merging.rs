//! The table that started the project: what runs once, what runs at the same time.
//!
//! Each step writes when it began and ended and a random id; everything is asserted from inside the image.

use std::os::unix::fs::MetadataExt;

use cooper_tests::cooper::{Env, User, base};
use cooper_tests::image::Image;
use serde_json::Value;

const STEP: &str = r#"
import json, time, uuid
start = time.time()
time.sleep(1.5)
with open("run.json", "w") as file:
    json.dump({"id": uuid.uuid4().hex, "start": start, "end": time.time()}, file)
"#;

const DOCKERFILE: &str = r#"FROM python:3.9-slim AS base
WORKDIR /w
COPY main.py shared.py ./

FROM base AS a_1
RUN echo "A" && python -m main
FROM base AS a_2
RUN echo "B" && python -m main

FROM base AS b_1
RUN python -m main
FROM base AS b_2
RUN python -m main

FROM base AS c_1
RUN python shared.py
FROM base AS c_2
RUN python shared.py

FROM base AS d_1
ENV PART=1
RUN python -m main
FROM base AS d_2
ENV PART=2
RUN python -m main

FROM scratch AS whole
COPY --from=b_1 . .
COPY --from=a_1 . .

FROM base AS all
COPY --from=a_1 /w/run.json a_1.json
COPY --from=a_2 /w/run.json a_2.json
COPY --from=b_1 /w/run.json b_1.json
COPY --from=b_2 /w/run.json b_2.json
COPY --from=c_1 /w/run.json c_1.json
COPY --from=c_2 /w/run.json c_2.json
COPY --from=d_1 /w/run.json d_1.json
COPY --from=d_2 /w/run.json d_2.json
"#;

/// Line of the `RUN` of a stage in `DOCKERFILE`.
fn line_of(stage: &str) -> usize {
    let from = DOCKERFILE.lines().position(|line| line.ends_with(&format!("AS {stage}"))).unwrap();
    from + 1 + DOCKERFILE.lines().skip(from).position(|line| line.starts_with("RUN")).unwrap()
}

fn times(run: &Value) -> (f64, f64) {
    (run["start"].as_f64().unwrap(), run["end"].as_f64().unwrap())
}

fn overlap(one: &Value, other: &Value) -> bool {
    let ((start, end), (other_start, other_end)) = (times(one), times(other));
    start < other_end && other_start < end
}

fn environment(user: User) -> Env {
    let env = Env::new(user);
    env.write("main.py", STEP).write("shared.py", STEP).write("Dockerfile", DOCKERFILE);
    env
}

/// Asserts the table on an image of the target `all`; steps overlap only where there are slots for both.
fn assert_table(image: &Image, parallel: bool) {
    let run = |name: &str| image.json(&format!("w/{name}.json"));
    let id = |name: &str| run(name)["id"].as_str().unwrap().to_owned();

    assert_ne!(id("a_1"), id("a_2"), "(a) different text runs twice");
    assert_eq!(overlap(&run("a_1"), &run("a_2")), parallel, "(a) and at the same time");
    assert_eq!(id("b_1"), id("b_2"), "(b) equal steps run once");
    assert_eq!(id("c_1"), id("c_2"), "(c) a script of the common base runs once, both copies have its file");
    assert_ne!(id("b_1"), id("c_1"));
    assert_ne!(id("d_1"), id("d_2"), "(d) a different ENV runs twice");
    assert_eq!(overlap(&run("d_1"), &run("d_2")), parallel, "(d) and at the same time");
}

fn assert_merged(output: &str) {
    for (one, other) in [("b_1", "b_2"), ("c_1", "c_2")] {
        let (first, second) = (line_of(one), line_of(other));
        let named = output.lines().any(|line| {
            line.contains(one)
                && line.contains(other)
                && line.contains(&format!("line {first}"))
                && line.contains(&format!("line {second}"))
        });
        assert!(named, "no line names {one} line {first} and {other} line {second}:\n{output}");
    }
    for (one, other) in [("a_1", "a_2"), ("d_1", "d_2")] {
        let (first, second) = (line_of(one), line_of(other));
        let wrong = output.lines().any(|line| {
            line.contains("same as")
                && line.contains(&format!("line {first}"))
                && line.contains(&format!("line {second}"))
        });
        assert!(!wrong, "{one} and {other} were not merged:\n{output}");
    }
}

fn table(test: &str, user: User, runtime: &str) {
    let Some(layout) = base(test) else { return };
    let env = environment(user);
    let words = ["--target", "all", "--runtime", runtime, "--jobs", "8"];
    let first = env.build(&layout, &words).ok();
    assert_merged(&first.stderr);
    let image = Image::open(&env.path("out.tar"));
    assert_table(&image, true);

    let again = env.build(&layout, &words).ok();
    assert!(!again.stderr.contains("DONE 1."), "a cached build runs nothing:\n{}", again.stderr);
    assert_eq!(
        Image::open(&env.path("out.tar")).digest,
        image.digest,
        "a cached rebuild gives the same image"
    );

    let forced = env.build(&layout, &[&words[..], &["--no-cache"]].concat()).ok();
    assert_merged(&forced.stderr);
    let fresh = Image::open(&env.path("out.tar"));
    assert_table(&fresh, true);
    assert_ne!(fresh.json("w/b_1.json")["id"], image.json("w/b_1.json")["id"], "--no-cache runs again");
}

#[test]
fn privileged_table_as_root_with_crun() {
    table("table_as_root_with_crun", User::Root, "crun");
}

#[test]
fn privileged_table_as_root_with_runc() {
    table("table_as_root_with_runc", User::Root, "runc");
}

#[test]
fn privileged_table_as_root_with_cooper() {
    table("table_as_root_with_cooper", User::Root, "cooper");
}

#[test]
fn privileged_table_rootless_with_crun() {
    table("table_rootless_with_crun", User::Subordinate, "crun");
}

#[test]
fn privileged_table_rootless_with_runc() {
    table("table_rootless_with_runc", User::Subordinate, "runc");
}

#[test]
fn privileged_table_rootless_with_cooper() {
    table("table_rootless_with_cooper", User::Subordinate, "cooper");
}

#[test]
fn privileged_table_single_id_with_crun() {
    table("table_single_id_with_crun", User::SingleId, "crun");
}

#[test]
fn privileged_table_single_id_with_runc() {
    table("table_single_id_with_runc", User::SingleId, "runc");
}

#[test]
fn privileged_table_single_id_with_cooper() {
    table("table_single_id_with_cooper", User::SingleId, "cooper");
}

/// (f) With one slot nothing waits for a slot that a waiting step holds.
#[test]
fn privileged_one_job_still_ends() {
    let Some(layout) = base("one_job_still_ends") else { return };
    let env = environment(User::Root);
    env.build(&layout, &["--target", "all", "--jobs", "1"]).ok();
    assert_table(&Image::open(&env.path("out.tar")), false);
}

/// (e) Whole roots are copied over each other and owners are kept.
#[test]
fn privileged_whole_roots_keep_owners() {
    for user in [User::Root, User::Subordinate, User::SingleId] {
        let Some(layout) = base("whole_roots_keep_owners") else { return };
        let env = environment(user);
        env.build(&layout, &["--target", "whole"]).ok();
        let image = Image::open(&env.path("out.tar"));
        assert!(image.path("usr/bin/python3.9").exists());
        assert!(image.json("w/run.json")["id"].is_string());
        // Debian's shadow file belongs to root and to group 42.
        let shadow = image.path("etc/shadow").metadata().unwrap();
        assert_eq!((shadow.uid(), shadow.gid()), (0, 42), "as {user:?}");
    }
}
