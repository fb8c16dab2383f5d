//! Whole conversions of small Dockerfiles, written for this project, one rule a file.
//!
//! The digests are the point: with the same answers BuildKit gives the same ones. That is not shown here but by
//! `cooper debug conformance`; here it is made sure that they stay.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod stub;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cooper_frontend::Ask;
use stub::{Stub, draw};

fn snapshot(name: &str, stub: &Stub) {
    let built = stub.build().unwrap();
    let mut text = String::from_utf8_lossy(&stub.text).into_owned();
    text.push_str("----\n");
    for platform in &built.platforms {
        let _ = writeln!(text, "{} {}", platform.id, draw(platform));
    }
    for warning in &built.warnings {
        let lines: Vec<u32> = warning.lines.iter().map(|range| range.start).collect();
        let _ = writeln!(text, "{} {lines:?}: {}", warning.rule, warning.message);
    }
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn every_file() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(names.len() > 9, "{folder} holds the Dockerfiles");
    for path in names {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        snapshot(&name, &Stub::new(std::fs::read(&path).unwrap()));
    }
}

const STAGES: &str = "\
ARG TAG=3.19
FROM alpine:${TAG} AS build
ARG VERSION
COPY . /src
RUN make VERSION=$VERSION
FROM scratch AS small
COPY --from=build /bin/tool /
FROM alpine AS large
COPY --from=small / /
";

#[test]
fn options() {
    snapshot("option_target", &Stub::new(STAGES).opt("target", "small"));
    snapshot(
        "option_args_labels",
        &Stub::new(STAGES).opt("build-arg:TAG", "edge").opt("build-arg:VERSION", "2").opt("label:a", "b"),
    );
    snapshot("option_platforms", &Stub::new(STAGES).opt("platform", "linux/amd64,linux/arm64/v8"));
    snapshot("option_no_cache", &Stub::new(STAGES).opt("no-cache", "build"));
    snapshot(
        "option_step_limits",
        &Stub::new("FROM alpine\nRUN a\n")
            .opt("add-hosts", "db=10.0.0.1")
            .opt("ulimit", "nofile=10:20")
            .opt("shm-size", "1024")
            .opt("memory", "4096")
            .opt("cgroup-parent", "/x")
            .opt("hostname", "h")
            .opt("force-network-mode", "none")
            .opt("build-arg:HTTP_PROXY", "http://p"),
    );
    snapshot("option_epoch", &Stub::new("FROM alpine\nWORKDIR /a\n").opt("build-arg:SOURCE_DATE_EPOCH", "5"));
    snapshot("option_git_context", &Stub::new(STAGES).opt("context", "https://example.com/a.git#main:sub"));
}

#[test]
fn contexts_by_name() {
    let digest = "sha256:2222222222222222222222222222222222222222222222222222222222222222";
    snapshot("context_image", &Stub::new(STAGES).opt("context:alpine:3.19", "docker-image://busybox"));
    snapshot(
        "context_layout",
        &Stub::new(STAGES).opt("context:alpine:3.19", &format!("oci-layout://store@{digest}")),
    );
    let mut local = Stub::new(STAGES).opt("context:small", "local:folder");
    local.files = BTreeMap::from([(".dockerignore".to_owned(), "*.log\n".to_owned())]);
    snapshot("context_local", &local);
}

#[test]
fn triggers_of_the_base() {
    let mut stub = Stub::new("FROM alpine AS b\nRUN own\n");
    stub.triggers = vec!["COPY . /app".to_owned(), "RUN --mount=from=busybox,target=/t build".to_owned()];
    snapshot("triggers", &stub);
}

#[test]
fn triggers_that_never_end() {
    let mut stub = Stub::new("FROM alpine\n");
    stub.triggers = vec!["COPY --from=alpine / /".to_owned()];
    let error = stub.build().unwrap_err();
    assert_eq!(error.to_string(), "ONBUILD triggers of base images read each other without end");
    assert_eq!(error.lines[0].start, 1);
}

#[test]
fn ignore_files() {
    let mut stub = Stub::new("FROM scratch\nCOPY a.log b /\n");
    stub.files = BTreeMap::from([(".dockerignore".to_owned(), "*.log\n# no\n/tmp/\n".to_owned())]);
    snapshot("ignore_of_context", &stub);
    stub.files.insert("Dockerfile.dockerignore".to_owned(), "own\n".to_owned());
    snapshot("ignore_of_dockerfile", &stub);
}

#[test]
fn images_are_asked_for_in_one_round() {
    let text = "FROM a AS x\nFROM b AS y\nCOPY --from=x / /\nFROM c\nCOPY --from=y / /\nRUN --mount=from=d,target=/d e\n";
    let (built, rounds) = Stub::new(text).rounds();
    built.unwrap();
    let images = |asks: &[Ask]| asks.iter().filter(|ask| matches!(ask, Ask::Image { .. })).count();
    let counts: Vec<(usize, usize)> = rounds.iter().map(|asks| (asks.len(), images(asks))).collect();
    // The Dockerfile and its ignore file; then the images and the context's ignore file.
    assert_eq!(counts, [(2, 0), (5, 4)]);
    let two = Stub::new(text).opt("platform", "linux/amd64,linux/arm64").rounds().1;
    assert_eq!(two.iter().map(|asks| images(asks)).collect::<Vec<_>>(), [0, 8]);
}

#[test]
fn equal_steps_are_one_vertex_with_both_places() {
    let text = "FROM a AS base\nFROM base AS one\nRUN x\nFROM base AS two\nRUN x\nFROM scratch\nCOPY --from=one / /\nCOPY --from=two / /\n";
    let built = Stub::new(text).build().unwrap();
    let steps = &built.platforms[0].steps;
    let place = |stage: &str| {
        let step = steps.iter().find(|step| step.stage == stage && step.text == "RUN x").unwrap();
        (step.vertex, step.lines.start, step.ordinal)
    };
    let (one, two) = (place("one"), place("two"));
    assert_eq!(one.0, two.0);
    assert_eq!((one.1, two.1), (3, 5));
    assert_eq!(one.2, Some((1, 1)));
    // And so do the locations of the graph.
    let definition = cooper_llb::decode_definition(&built.platforms[0].definition).unwrap();
    let locations = &definition.source.unwrap().locations[&one.0.to_string()].locations;
    assert_eq!(locations.len(), 2);
}
