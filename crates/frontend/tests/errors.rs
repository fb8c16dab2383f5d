//! Errors as people see them: message, hint and lines.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod stub;

use std::fmt::Write as _;

use stub::Stub;

#[test]
fn as_people_see_them() {
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("", &[]),
        ("RUN x\n", &[]),
        ("FROM\n", &[]),
        ("FROM $BASE\n", &[]),
        ("FROM Alpine\n", &[]),
        ("FROM alpine AS build\nFROM alpine\nCOPY --from=biuld /a /b\n", &[]),
        ("FROM alpine AS build\n", &[("target", "biuld")]),
        ("FROM --platform=$TARGETPLATFROM alpine\n", &[]),
        ("FROM --platform=a/b/c/d alpine\n", &[]),
        ("FROM alpine\nFRUM x\n", &[]),
        ("FROM alpine\nRUN --mount=type=tmp x\n", &[]),
        ("FROM alpine\nRUN --device=a x\n", &[]),
        ("FROM alpine\nRUN --mount=type=bind,target=/ x\n", &[]),
        ("FROM alpine\nRUN []\n", &[]),
        ("FROM a AS x\nCOPY --from=y / /\nFROM b AS y\nCOPY --from=x / /\n", &[]),
        ("FROM alpine\nCOPY --from=9 / /\n", &[]),
        ("FROM alpine\nCOPY --from=$X / /\n", &[]),
        ("FROM alpine\nCOPY --chmod=9999 a b\n", &[]),
        ("FROM alpine\nCOPY https://example.com/a b\n", &[]),
        ("FROM alpine\nADD --checksum=sha256:00 https://example.com/a b\n", &[]),
        ("FROM alpine\nADD https://example.com/a.git?x=1 b\n", &[]),
        ("FROM alpine\nEXPOSE 80/http\n", &[]),
        ("FROM alpine\nSTOPSIGNAL NOPE\n", &[]),
        ("FROM alpine\nVOLUME $X\n", &[]),
        ("FROM alpine\nENV A=\"\n", &[]),
        ("FROM alpine\nLABEL a=${b:x}\n", &[]),
        ("# check=error=true\nFROM alpine as x\n", &[]),
        ("# check=nonsense\nFROM alpine\n", &[]),
        ("FROM alpine\n", &[("platform", "linux/*")]),
        ("FROM alpine\n", &[("add-hosts", "a")]),
        ("FROM alpine\n", &[("context:alpine", "ftp:x")]),
        ("FROM alpine\n", &[("build-arg:SOURCE_DATE_EPOCH", "yesterday")]),
    ];
    let mut text = String::new();
    for (dockerfile, opts) in cases {
        let mut stub = Stub::new(dockerfile);
        for (key, value) in *opts {
            stub = stub.opt(key, value);
        }
        let Err(error) = stub.build() else {
            panic!("no error: {dockerfile:?} {opts:?}");
        };
        let lines: Vec<String> =
            error.lines.iter().map(|lines| format!("{}-{}", lines.start, lines.end)).collect();
        let near = error.near.map(|lines| format!(" near {}-{}", lines.start, lines.end)).unwrap_or_default();
        let _ = writeln!(
            text,
            "{dockerfile:?} {opts:?}\n  {error}\n  at {}{near} in {:?}",
            lines.join(", "),
            error.source.as_ref().map(|source| &source.name)
        );
    }
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("errors", text);
    });
}

#[test]
fn a_missing_file_is_named() {
    let stub = Stub::new("").opt("filename", "docker/app.Dockerfile");
    let error = stub.build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to read dockerfile: open docker/app.Dockerfile: no such file or directory"
    );
}
