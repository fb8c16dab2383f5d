//! Whatever the text and the options are, a conversion ends, and ends the same way twice.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod stub;

use proptest::prelude::*;
use stub::Stub;

const WORDS: &[&str] = &[
    "FROM",
    "RUN",
    "COPY",
    "ADD",
    "ENV",
    "ARG",
    "LABEL",
    "EXPOSE",
    "CMD",
    "ENTRYPOINT",
    "USER",
    "WORKDIR",
    "VOLUME",
    "STOPSIGNAL",
    "HEALTHCHECK",
    "SHELL",
    "ONBUILD",
    "MAINTAINER",
    "AS",
    "scratch",
    "alpine",
    "stage-0",
    "a",
    "b",
    "0",
    "1",
    "--from=a",
    "--from=b",
    "--from=0",
    "--platform=$BUILDPLATFORM",
    "--platform=linux/arm64",
    "--link",
    "--parents",
    "--chown=a:b",
    "--chmod=u+x",
    "--exclude=*",
    "--mount=type=cache,target=/c,uid=1",
    "--mount=target=/b,rw",
    "--mount=type=secret,id=s,env=S",
    "--mount=type=ssh",
    "--network=none",
    "--unpack",
    "--checksum=sha256:1",
    "\n",
    "\n",
    "\n",
    "\\\n",
    "<<E\nx\nE\n",
    "<<-\"E\"\n#!x\nE",
    "[\"a\", \"b\"]",
    "\"",
    "'",
    "$A",
    "${A:-b}",
    "${A",
    "A=b",
    "A=\"$A\"",
    "/",
    "./",
    "../x",
    "https://example.com/a",
    "git@example.com:a",
    "https://example.com/a.git#b:c",
    "C:\\a",
    "80/tcp",
    "1-9/udp",
    "SIGTERM",
    "CMD",
    "NONE",
    "--interval=1s",
    "#",
    "é",
    "\u{0}",
    "# escape=`\n",
    "# check=skip=all\n",
];

fn text() -> impl Strategy<Value = String> {
    let line = (0..18usize, prop::collection::vec(prop::sample::select(WORDS), 0..6))
        .prop_map(|(keyword, words)| format!("{} {}\n", WORDS[keyword], words.join(" ")));
    let lines =
        prop::collection::vec(line, 0..12).prop_map(|lines| format!("FROM alpine AS a\n{}", lines.concat()));
    let soup = prop::collection::vec(prop::sample::select(WORDS), 0..60).prop_map(|words| words.join(" "));
    prop_oneof![3 => lines, 1 => soup]
}

fn opts() -> impl Strategy<Value = Vec<(String, String)>> {
    let key = prop::sample::select(vec![
        "target",
        "platform",
        "build-arg:A",
        "context",
        "context:alpine",
        "context:a",
        "no-cache",
        "add-hosts",
        "contextsubdir",
        "multi-platform",
        "build-arg:SOURCE_DATE_EPOCH",
        "label:x",
        "shm-size",
        "ulimit",
        "hostname",
    ]);
    let value = prop::sample::select(vec![
        "",
        "a",
        "b",
        "1",
        "true",
        "linux/arm64,linux/amd64",
        "windows/amd64",
        "local:x",
        "docker-image://busybox",
        "oci-layout://s@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "https://example.com/a.git",
        "https://example.com/a",
        "x=1.2.3.4",
        "nofile=1:2",
        "context",
    ]);
    prop::collection::vec((key.prop_map(str::to_owned), value.prop_map(str::to_owned)), 0..3)
}

#[test]
fn long_files_need_no_stack() {
    let mut text = "FROM scratch AS s0\n".to_owned();
    for number in 1..4000 {
        text.push_str(&format!("FROM scratch AS s{number}\nCOPY --from=s{} / /\n", number - 1));
    }
    let built = Stub::new(text).build().unwrap();
    assert_eq!(built.platforms[0].steps.len(), 3999);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn conversions_end(text in text(), opts in opts(), trigger in prop::option::of(prop::sample::select(WORDS))) {
        let mut stub = Stub::new(text);
        stub.opts = opts.into_iter().collect();
        stub.triggers = trigger.into_iter().map(|word| format!("{word} x")).collect();
        let first = stub.build();
        prop_assert_eq!(&first, &stub.build());
        for platform in first.iter().flat_map(|built| &built.platforms) {
            let definition = cooper_llb::decode_definition(&platform.definition).unwrap();
            let graph = cooper_llb::Graph::new(&definition).unwrap();
            for step in &platform.steps {
                prop_assert!(graph.vertices.iter().any(|vertex| vertex.digest == step.vertex));
            }
        }
    }

    #[test]
    fn bytes_do_not_matter(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut text = b"FROM alpine\nRUN ".to_vec();
        text.extend(bytes);
        let _ = Stub::new(text).build();
    }
}
