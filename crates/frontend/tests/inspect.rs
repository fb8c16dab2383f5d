//! The build checks rule by rule, outlines, lists of targets, and builds of all stages.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod stub;

use cooper_frontend::{Answered, Answers, Error, Request, lint, outline, targets};
use stub::Stub;

fn ask<T>(
    stub: &Stub,
    question: impl Fn(&Request, &Answers) -> Result<Answered<T>, Error>,
) -> Result<T, Error> {
    let mut answers = Answers::default();
    loop {
        match question(&stub.request(), &answers)? {
            Answered::Done(found, _) => return Ok(found),
            Answered::Missing(asks) => stub.answer_all(&asks, &mut answers),
        }
    }
}

fn found(stub: &Stub) -> Vec<(&'static str, u32)> {
    let found = ask(stub, lint).unwrap().warnings;
    found.iter().map(|warning| (warning.rule, warning.lines.first().map_or(0, |lines| lines.start))).collect()
}

/// For each rule a text that breaks it, with the line, and one that is near to it and does not.
const RULES: [(&str, &str, u32, &str); 21] = [
    ("StageNameCasing", "FROM scratch AS One\n", 1, "FROM scratch AS one\n"),
    ("FromAsCasing", "FROM scratch as one\n", 1, "from scratch as one\n"),
    ("NoEmptyContinuation", "FROM alpine\nRUN a \\\n\n  b\n", 4, "FROM alpine\nRUN a \\\n  b\n"),
    ("ConsistentInstructionCasing", "FROM alpine\nRUN a\nrun b\n", 3, "from alpine\nrun a\nrun b\n"),
    ("DuplicateStageName", "FROM alpine AS a\nFROM alpine AS a\n", 2, "FROM alpine AS a\nFROM alpine AS b\n"),
    ("ReservedStageName", "FROM alpine AS context\n", 1, "FROM alpine AS contexts\n"),
    ("JSONArgsRecommended", "FROM alpine\nCMD run it\n", 2, "FROM alpine\nCMD [\"run\", \"it\"]\n"),
    ("MaintainerDeprecated", "FROM alpine\nMAINTAINER me\n", 2, "FROM alpine\nLABEL maintainer=me\n"),
    ("UndefinedArgInFrom", "FROM alpine:${TAG:-3}\n", 1, "ARG TAG=3\nFROM alpine:${TAG}\n"),
    ("WorkdirRelativePath", "FROM alpine\nWORKDIR app\n", 2, "FROM alpine\nWORKDIR /srv\nWORKDIR app\n"),
    ("UndefinedVar", "FROM alpine\nCOPY $fiel /\n", 2, "FROM alpine\nARG fiel\nCOPY x$fiel /\n"),
    (
        "MultipleInstructionsDisallowed",
        "FROM alpine\nCMD [\"a\"]\nCMD [\"b\"]\n",
        2,
        "FROM alpine AS a\nCMD [\"a\"]\nFROM a\nCMD [\"b\"]\n",
    ),
    ("LegacyKeyValueFormat", "FROM alpine\nENV a b\n", 2, "FROM alpine\nENV a=b\n"),
    (
        "RedundantTargetPlatform",
        "FROM --platform=$TARGETPLATFORM alpine\n",
        1,
        "FROM --platform=$BUILDPLATFORM alpine\n",
    ),
    ("SecretsUsedInArgOrEnv", "FROM alpine\nARG API_KEY\n", 2, "FROM alpine\nARG API_KEY_FILE\n"),
    ("InvalidDefaultArgInFrom", "ARG TAG\nFROM alpine:${TAG}\n", 2, "ARG TAG\nFROM alpine${TAG}\n"),
    (
        "FromPlatformFlagConstDisallowed",
        "FROM --platform=linux/amd64 alpine AS tool\n",
        1,
        "FROM --platform=linux/amd64 alpine AS tool-amd64\n",
    ),
    ("CopyIgnoredFile", "FROM alpine\nCOPY notes.log /\n", 2, "FROM alpine\nCOPY notes.txt /\n"),
    ("ExposeProtoCasing", "FROM alpine\nEXPOSE 80/TCP\n", 2, "FROM alpine\nEXPOSE 80/tcp\n"),
    ("ExposeInvalidFormat", "FROM alpine\nEXPOSE 8080:80\n", 2, "FROM alpine\nEXPOSE 80\n"),
    (
        "InvalidDefinitionDescription",
        "# check=experimental=all\n\n# the tool\nFROM alpine AS tool\n",
        4,
        "# check=experimental=all\n\n# tool is the tool\nFROM alpine AS tool\n",
    ),
];

#[test]
fn rules() {
    for (rule, bad, line, good) in RULES {
        let stub = |text: &str| {
            let mut stub = Stub::new(text);
            if rule == "InvalidDefaultArgInFrom" {
                stub = stub.opt("build-arg:TAG", if text.ends_with(bad) { "3" } else { "" });
            }
            stub.files.insert(".dockerignore".to_owned(), "*.log\n".to_owned());
            stub
        };
        assert_eq!(found(&stub(bad)), [(rule, line)], "{bad}");
        assert_eq!(found(&stub(good)), [], "{good}");
        if rule == "InvalidDefinitionDescription" {
            continue;
        }
        // Each can be switched off for the whole file, and be made an error.
        let off = format!("# check=skip={rule}\n{bad}");
        assert_eq!(found(&stub(&off)), [], "{off}");
        let error = ask(&stub(&format!("# check=error=true\n{bad}")), lint).unwrap().error.unwrap();
        assert_eq!(error.to_string(), format!("lint violation found for rules: {rule}"));
    }
}

#[test]
fn a_base_of_another_platform() {
    // The stub's images are for what they are asked for, so this needs an answer of its own.
    let stub = Stub { architecture: Some("arm64".to_owned()), ..Stub::new("FROM alpine\n") };
    assert_eq!(found(&stub), [("InvalidBaseImagePlatform", 1)]);
}

#[test]
fn a_comment_switches_a_rule_off_for_its_instruction() {
    let text = "FROM alpine\n# check=skip=LegacyKeyValueFormat\nENV a b\nENV c d\n";
    assert_eq!(found(&Stub::new(text)), [("LegacyKeyValueFormat", 4)]);
}

#[test]
fn all_stages_are_checked_unless_there_is_a_target() {
    let text = "FROM alpine AS one\nENV a b\nFROM alpine AS two\nENV c d\n";
    assert_eq!(found(&Stub::new(text)), [("LegacyKeyValueFormat", 2), ("LegacyKeyValueFormat", 4)]);
    assert_eq!(found(&Stub::new(text).opt("target", "one")), [("LegacyKeyValueFormat", 2)]);
}

#[test]
fn checks_go_on_up_to_the_error() {
    let found = ask(&Stub::new("FROM alpine\nENV a b\nCOPY --from=9 / /\nENV c d\n"), lint).unwrap();
    assert_eq!(found.error.unwrap().to_string(), "invalid stage index 9");
    // The error was found before any stage was converted.
    assert_eq!(found.warnings, []);
    let found = ask(&Stub::new("FROM alpine\nENV a b\nSTOPSIGNAL no\nENV c d\n"), lint).unwrap();
    assert_eq!((found.warnings.len(), found.error.unwrap().lines[0].start), (1, 3));
}

#[test]
fn outlines() {
    let text = "\
# BASE image to start from
ARG BASE=alpine
ARG UNUSED=1
ARG NAME=${BASE}-tool
# tool is compiled here
FROM ${BASE} AS tool
ARG NAME
ARG LEVEL=2
RUN --mount=type=secret,id=token,required --mount=type=ssh make
FROM scratch AS other
ARG ELSEWHERE
# result of it all
FROM scratch AS result
COPY --from=tool / /
";
    let draw = |stub: &Stub| {
        let outline = ask(stub, outline).unwrap();
        let args: Vec<String> = outline
            .args
            .iter()
            .map(|arg| format!("{}={} {:?} {}", arg.name, arg.value, arg.description, arg.lines.start))
            .collect();
        let mount = |list: &[cooper_frontend::OutlineMount]| -> Vec<String> {
            list.iter()
                .map(|mount| format!("{} {} {}", mount.name, mount.required, mount.lines.start))
                .collect()
        };
        (
            outline.name.clone(),
            outline.description.clone(),
            args,
            mount(&outline.secrets),
            mount(&outline.ssh),
        )
    };
    let (name, description, args, secrets, ssh) = draw(&Stub::new(text));
    assert_eq!((name.as_str(), description.as_str()), ("result", "of it all"));
    assert_eq!(args, ["BASE=alpine \"image to start from\" 2", "NAME=alpine-tool \"\" 4", "LEVEL=2 \"\" 8"]);
    assert_eq!((secrets, ssh), (vec!["token true 9".to_owned()], vec!["default false 9".to_owned()]));
    let (name, _, args, ..) = draw(&Stub::new(text).opt("target", "other"));
    assert_eq!((name.as_str(), args.as_slice()), ("other", &["ELSEWHERE= \"\" 11".to_owned()][..]));
    let (.., args, _, _) = draw(&Stub::new(text).opt("target", "tool").opt("build-arg:LEVEL", "9"));
    assert_eq!(args[2], "LEVEL=9 \"\" 8");
}

#[test]
fn lists_of_targets() {
    let text =
        "FROM --platform=$BUILDPLATFORM a:${X} AS One\n# two is second\nFROM one AS two\nFROM scratch\n";
    let found = ask(&Stub::new(text), targets).unwrap();
    let rows: Vec<_> = found
        .iter()
        .map(|target| {
            let texts = [&target.name, &target.base, &target.platform, &target.description];
            let [name, base, platform, description] = texts.map(String::as_str);
            (name, base, platform, description, target.default, target.lines.start)
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("one", "a:${X}", "$BUILDPLATFORM", "", false, 1),
            ("two", "one", "", "is second", false, 3),
            ("", "scratch", "", "", true, 4),
        ]
    );
    // Nothing is asked for but the Dockerfile, so a base that does not exist is no matter.
    assert!(ask(&Stub::new("FROM biuld\n"), targets).is_ok());
    assert!(ask(&Stub::new("FROM biuld\n"), outline).is_err());
}

#[test]
fn build_arguments_that_nothing_declares() {
    let text = "ARG VERSION\nFROM alpine:$VERSION AS a\nFROM scratch AS b\nARG LEVEL\n";
    let stub = Stub::new(text)
        .opt("build-arg:VERSOIN", "1")
        .opt("build-arg:VERSION", "1")
        .opt("build-arg:LEVEL", "1")
        .opt("build-arg:OTHER", "1")
        .opt("build-arg:HTTP_PROXY", "http://p")
        .opt("build-arg:TARGETARCH", "arm")
        .opt("build-arg:BUILDKIT_INLINE_CACHE", "1");
    let built = stub.build().unwrap();
    let unknown = &built.platforms[0].unknown_args;
    let unknown: Vec<_> = unknown.iter().map(|arg| (arg.name.as_str(), arg.suggestion.as_deref())).collect();
    assert_eq!(unknown, [("OTHER", None), ("VERSOIN", Some("VERSION"))]);
}

#[test]
fn copies_of_what_may_not_be_there() {
    let source = |line: &str| {
        let built = Stub::new(format!("FROM scratch\n{line}\n")).build().unwrap();
        let definition = cooper_llb::decode_definition(&built.platforms[0].definition).unwrap();
        let graph = cooper_llb::Graph::new(&definition).unwrap();
        let file = graph.vertices.iter().find_map(|vertex| match &vertex.op {
            cooper_llb::Op::File(file) => Some(format!("{file:?}")),
            _ => None,
        });
        let (_, text) = file.as_deref().unwrap().split_once("src: \"").unwrap();
        text.split('"').next().unwrap().to_owned()
    };
    // A pattern with nothing but the path in it: no match is no error, here and in BuildKit.
    for (line, pattern) in [
        ("COPY a.txt /", "/a.txt"),
        ("COPY --if-exists a.txt /", "/[a].txt"),
        ("COPY --if-exists ./dir/a.txt /", "/[d]ir/a.txt"),
        ("COPY --if-exists *.txt /", "/*.txt"),
        ("COPY --if-exists . /", "/"),
        ("COPY --if-exists .-x /", "/.-[x]"),
    ] {
        assert_eq!(source(line), pattern, "{line}");
    }
    // What BuildKit suggests for a misspelt flag does not change.
    let error = Stub::new("FROM scratch\nCOPY --if-exist a /\n").build().unwrap_err();
    assert_eq!(error.to_string(), "dockerfile parse error on line 2: unknown flag: --if-exist");
}

#[test]
fn stages_that_the_target_does_not_need() {
    let text = "FROM alpine AS base\nRUN x\nFROM base AS test\nRUN test\nFROM scratch AS notes\nCOPY notes /\nFROM base\nRUN y\n";
    let built = Stub::new(text).build().unwrap();
    let platform = &built.platforms[0];
    let unused: Vec<&str> = platform.unused_stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!((unused, platform.others.len()), (vec!["test", "notes"], 0));
    let all = Stub::new(text).opt("all-stages", "true").build().unwrap();
    let platform = &all.platforms[0];
    assert_eq!((platform.unused_stages.len(), platform.others.len()), (0, 2));
    let lines: Vec<u32> = platform.steps.iter().map(|step| step.lines.start).collect();
    assert_eq!(lines, [1, 2, 4, 6, 8]);
    // The image is that of the target, with the same steps.
    assert_eq!(platform.image, built.platforms[0].image);
}
