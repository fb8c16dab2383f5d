//! A registry that does things wrong, seen from a build: it succeeds by trying again or fails with a clear error, and
//! leaves nothing half-written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cooper_oci::Digest;
use cooper_tests::cooper::{Env, Finished, User};
use cooper_tests::hub::{Fault, Hub, Server};
use cooper_tests::image::Image;
use cooper_tests::layout::Layout;

/// One fault: where, for how many requests, and the exit code of the build with a part of its message.
type Case = (&'static str, Server, &'static str, u32, Fault, i32, &'static str);

const ALWAYS: u32 = 1000;

fn answer(status: u16, retry_after: Option<u64>) -> Fault {
    Fault::Answer { status, retry_after }
}

fn cases() -> Vec<Case> {
    use Server::{Content, Registry, Token};
    vec![
        ("manifest cut", Registry, "/manifests/", 1, Fault::Cut { after: 10 }, 0, ""),
        ("registry hangs up once", Registry, "/manifests/", 1, Fault::HangUp, 0, ""),
        ("registry is down once", Registry, "/manifests/", 1, answer(502, None), 0, ""),
        ("token server is down once", Token, "/token", 1, answer(503, None), 0, ""),
        ("blob cut twice", Content, "/data", 2, Fault::Cut { after: 50_000 }, 0, ""),
        ("content host hangs up once", Content, "/data", 1, Fault::HangUp, 0, ""),
        ("content host is busy once", Content, "/data", 1, answer(429, Some(0)), 0, ""),
        ("content host knows no ranges", Content, "/data", 1, Fault::NoRanges, 0, ""),
        ("manifest of other bytes", Registry, "/manifests/sha256:", ALWAYS, Fault::Corrupt, 1, "digest"),
        ("image is not there", Registry, "/manifests/", ALWAYS, answer(404, None), 1, "not found"),
        ("registry forbids", Registry, "/manifests/", ALWAYS, answer(403, None), 1, "denies"),
        ("registry asks for a login", Registry, "/manifests/", ALWAYS, answer(401, None), 1, "login"),
        (
            "registry is busy for a day",
            Registry,
            "/manifests/",
            ALWAYS,
            answer(429, Some(86_400)),
            1,
            "no more requests",
        ),
        ("blob of other bytes", Content, "/data", ALWAYS, Fault::Corrupt, 1, "digest"),
        ("blob is not there", Content, "/data", ALWAYS, answer(404, None), 1, "not found"),
        ("blob may not be had", Content, "/data", ALWAYS, answer(403, None), 1, "denies"),
        ("blob has no such range", Content, "/data", ALWAYS, answer(416, None), 1, "416"),
        ("blobs end at once", Content, "/data", ALWAYS, Fault::Cut { after: 0 }, 1, "broke"),
        ("content host hangs up", Content, "/data", ALWAYS, Fault::HangUp, 1, "broke"),
    ]
}

fn build(env: &Env) -> Finished {
    let out = format!("type=oci,dest={}", env.path("out/image.tar").display());
    let mut command = env.command(&["build", ".", "--progress", "plain", "-o", &out]);
    command.output().unwrap().into()
}

/// Looks for what is half-written: blobs that are not their names, unfinished things, files beside the output.
fn half_written(env: &Env, succeeded: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let list = |path: &Path| -> Vec<_> {
        fs::read_dir(path).map(|all| all.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default()
    };
    for blob in list(&env.path("store/blobs/sha256")) {
        if Digest::of(fs::read(&blob).unwrap()).hex() != blob.file_name().unwrap().to_str().unwrap() {
            wrong.push(format!("`{}` has other bytes", blob.display()));
        }
    }
    for left in ["store/tmp", "store/trash"].iter().flat_map(|name| list(&env.path(name))) {
        wrong.push(format!("`{}` is left", left.display()));
    }
    let expected = if succeeded { vec![env.path("out/image.tar")] } else { Vec::new() };
    let out = list(&env.path("out"));
    if out != expected {
        wrong.push(format!("outputs: {out:?}"));
    }
    wrong
}

#[test]
fn privileged_faults_of_a_registry() {
    let mut failed = BTreeMap::new();
    for (name, server, part, times, fault, code, words) in cases() {
        let hub = Hub::start().unwrap();
        let env = Env::new(User::Root);
        fs::create_dir(env.path("out")).unwrap();
        let dockerfile = format!("FROM {}/library/python:3.9-slim\nCOPY Dockerfile /\n", hub.host());
        env.write("Dockerfile", &dockerfile);
        Layout::official(env.path("layout"), "3.9-slim", 300_000).unwrap();
        hub.add("library/python", "3.9-slim", env.path("layout"));
        hub.order(server, part, times, fault);
        let first = build(&env);
        let mut wrong = half_written(&env, first.code == 0);
        if first.code != code {
            wrong.push(format!("exit code {}, not {code}:\n{}", first.code, first.stderr));
        }
        if code != 0 && !(first.stderr.contains("error: ") && first.stderr.contains(words)) {
            wrong.push(format!("no clear error with `{words}`:\n{}", first.stderr));
        }
        if hub.seen().iter().any(|seen| seen.server == Server::Content && seen.authorization.is_some()) {
            wrong.push("the content host saw credentials".to_owned());
        }
        // What is left serves the next build: the same store, a registry in order.
        hub.forgive();
        let second = build(&env);
        if second.code == 0 {
            let image = Image::open(&env.path("out/image.tar"));
            assert_eq!(image.text("Dockerfile"), dockerfile, "{name}");
        } else {
            wrong.push(format!("the next build failed:\n{}", second.stderr));
        }
        wrong.extend(half_written(&env, true));
        if !wrong.is_empty() {
            failed.insert(name, wrong);
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
