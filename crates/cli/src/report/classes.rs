//! Every class of error of a Dockerfile, as a person sees it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cooper_dockerfile::Problem;
use cooper_dockerfile::shell::{EmptyEnv, Lexer};

use super::{FailedBuild, Report};
use crate::debug::Stub;
use crate::missing::Roots;

/// For each class of fault in the text one Dockerfile.
const TEXTS: [&str; 63] = [
    "# nothing but a remark\n",
    "FROM alpine\nRUN <<EOF\necho\n",
    "FROM alpine\nENV A=\"open\n",
    "# escape=x\nFROM alpine\n",
    "# escape=`\n# escape=`\nFROM alpine\n",
    "FROM alpine\nONBUILD SHELL [1, 2]\n",
    "FROM alpine\nENV NAME\n",
    "FROM alpine\nLABEL a=1 b\n",
    "FROM alpine\nCOYP a b\n",
    "RUN make\n",
    "FROM alpine\nCOPY --chwon=me a b\n",
    "FROM alpine\nCOPY --from=x --from=y a b\n",
    "FROM alpine\nCOPY --from a b\n",
    "FROM alpine\nCOPY --link=perhaps a b\n",
    "FROM alpine\nEXPOSE\n",
    "FROM alpine\nUSER\n",
    "FROM alpine\nCOPY a\n",
    "FROM alpine\nCOPY a <<EOF\nx\nEOF\n",
    "FROM alpine\nENV =1\n",
    "FROM alpine\nSHELL bash -c\n",
    "FROM alpine AS 1st\n",
    "FROM alpine IS base\n",
    "FROM alpine\nONBUILD ONBUILD RUN a\n",
    "FROM alpine\nONBUILD MAINTAINER me\n",
    "FROM alpine\nHEALTHCHECK NONE please\n",
    "FROM alpine\nHEALTHCHECK CMD\n",
    "FROM alpine\nHEALTHCHECK RUN a\n",
    "FROM alpine\nHEALTHCHECK --interval=1us CMD a\n",
    "FROM alpine\nHEALTHCHECK --timeout=soon CMD a\n",
    "FROM alpine\nHEALTHCHECK --retries=many CMD a\n",
    "FROM alpine\nHEALTHCHECK --retries=-1 CMD a\n",
    "FROM alpine\nVOLUME [\"\"]\n",
    "FROM alpine\nRUN --network=fast a\n",
    "FROM alpine\nRUN --security=loose a\n",
    "FROM alpine\nRUN --mount=type=bind,a\\\"b=c a\n",
    "FROM alpine\nRUN --mount=type=bind,from=$X,target=/a a\n",
    "FROM alpine\nRUN --mount=type=cache,target a\n",
    "FROM alpine\nRUN --mount=type=bind,target=/a,size=1 a\n",
    "FROM alpine\nRUN --mount=type=cache,tagret=/a a\n",
    "FROM alpine\nRUN --mount=type=cache,target=/a,readonly=no a\n",
    "FROM alpine\nRUN --mount=type=cache,target=/a,uid=me a\n",
    "FROM alpine\nRUN --mount=type=$KIND,target=/a a\n",
    "FROM alpine\nRUN --mount=type=cahce,target=/a a\n",
    "FROM alpine\nRUN --mount=type=cache,target=/a,sharing=lokced a\n",
    "FROM alpine\nRUN --mount=type=tmpfs,target=/a,mode=700 a\n",
    "FROM alpine\nRUN --mount=type=secret,id=a,from=b a\n",
    "FROM alpine\nRUN --mount=type=secret,id=a,sharing=shared a\n",
    "FROM alpine\nRUN --mount=type=secret a\n",
    "FROM alpine\nRUN --mount=type=secret,id=a,source=b a\n",
    "FROM alpine\nRUN --mount=type=tmpfs,target=/a,sharing=shared a\n",
    "FROM alpine\nRUN --device=name=a,name=b a\n",
    // What a text says that is well formed and still means nothing.
    "FROM $BASE\n",
    "FROM Alpine\n",
    "FROM --platform=$TARGETPLATFROM alpine\n",
    "FROM --platform=a/b/c/d alpine\n",
    "FROM a AS x\nCOPY --from=y / /\nFROM b AS y\nCOPY --from=x / /\n",
    "FROM alpine\nCOPY --from=9 / /\n",
    "FROM alpine\nCOPY --from=$X / /\n",
    "FROM alpine\nRUN []\n",
    "FROM alpine\nEXPOSE 80/http\n",
    "FROM alpine\nSTOPSIGNAL NOPE\n",
    "FROM alpine\nLABEL a=${b:?must-be-given}\n",
    "FROM alpine AS late\nCOPY --chmod=9999 a b\n",
];

/// The same for the options of a build.
const OPTIONS: [(&str, &str, &str); 9] = [
    ("target", "biuld", "FROM alpine AS build\nFROM alpine\n"),
    ("platform", "linux/*", "FROM alpine\n"),
    ("add-hosts", "db", "FROM alpine\n"),
    ("context:alpine", "ftp:x", "FROM alpine\n"),
    ("build-arg:SOURCE_DATE_EPOCH", "yesterday", "FROM alpine\n"),
    ("build-arg:BUILDKIT_SYNTAX", "example.com/other", "FROM alpine\n"),
    ("build-arg:BUILDKIT_DOCKERFILE_CHECK", "error=true", "FROM alpine AS One\n"),
    ("filename", "no.Dockerfile", ""),
    ("ulimit", "files=1", "FROM alpine\n"),
];

/// Gives all classes by name from one list. The match has no wildcard: a new class does not compile before it is in the
/// list, and once there it is red before it has a Dockerfile.
macro_rules! classes {
    ($($name:ident),* $(,)?) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        fn class(problem: &Problem) -> &'static str {
            match problem {
                $(Problem::$name { .. } => stringify!($name),)*
            }
        }
    };
}

classes! {
    AtLeastOne,
    BlankName,
    DeviceNamedTwice,
    Duration,
    Empty,
    EmptyVolume,
    EscapeToken,
    ExactlyOne,
    FieldForType,
    FieldNumber,
    FieldValue,
    FieldWithoutValue,
    FileInfo,
    FlagNotBoolean,
    FlagWithoutValue,
    FromArguments,
    HealthcheckNoCommand,
    HealthcheckNone,
    HealthcheckType,
    HeredocDestination,
    HeredocWord,
    IntervalTooShort,
    JsonNotStrings,
    LineTooLong,
    List,
    MountType,
    NegativeRetries,
    Network,
    NoDestination,
    NoEquals,
    NoExpansion,
    NoStage,
    NotAFlag,
    NotJson,
    Number,
    OnbuildChained,
    OnbuildTrigger,
    RepeatedDirective,
    RepeatedFlag,
    SecretFrom,
    SecretNamedTwice,
    SecretSharing,
    SecretUnnamed,
    Security,
    Sharing,
    SharingForType,
    StageName,
    TwoArguments,
    UnknownField,
    UnknownFlag,
    UnknownInstruction,
    UnterminatedHeredoc,
    Word,
}

/// The class of the fault that the text alone has.
fn problem(text: &str) -> Option<Problem> {
    let file = match cooper_dockerfile::parse(text.as_bytes()) {
        Ok(file) => file,
        Err(error) => return Some(error.problem),
    };
    let mut parsed = match cooper_dockerfile::instruction::parse(&file.nodes) {
        Ok(parsed) => parsed,
        Err(error) => return Some(error.problem),
    };
    let lexer = Lexer::new(file.escape);
    let mut expand = |word: &str| -> Result<String, Problem> {
        Ok(lexer.process_word(word, &EmptyEnv).map(|word| word.text)?)
    };
    let mut commands = parsed.stages.iter_mut().flat_map(|stage| &mut stage.commands);
    commands.find_map(|command| command.expand(&mut expand).err())
}

fn shown(text: &str, opts: &[(&str, &str)]) -> String {
    let mut stub = Stub::default();
    for (key, value) in opts {
        stub = stub.opt(key, value);
    }
    let error = match stub.convert(text.as_bytes()).outcome {
        Err(error) => cooper_engine::Error::Frontend(error),
        Ok(_) => return format!("NO ERROR: {text:?} {opts:?}\n"),
    };
    let failed = FailedBuild { error, source: None, log: (Vec::new(), 0), roots: Roots::default() };
    Report::of(&failed.into()).to_string()
}

#[test]
fn every_class() {
    let mut seen = BTreeSet::new();
    let mut all = String::new();
    for text in TEXTS {
        if let Some(problem) = problem(text) {
            seen.insert(class(&problem));
        }
        let _ = writeln!(all, "{}", shown(text, &[]));
    }
    for (key, value, text) in OPTIONS {
        let _ = writeln!(all, "{key}={value}\n{}", shown(text, &[(key, value)]));
    }
    assert!(!all.contains("NO ERROR"), "{all}");
    insta::assert_snapshot!("classes", all);
    // Too long for a snapshot, and two that no text leads to: each has a test below.
    let apart = ["HeredocWord", "LineTooLong", "NotAFlag"];
    let missing: Vec<&str> = NAMES.iter().copied().filter(|name| !seen.contains(name)).collect();
    assert_eq!(missing, apart);
}

#[test]
fn a_line_that_is_too_long_is_not_shown() {
    let text = format!("FROM alpine\nRUN --mnt=x {}\n", "x".repeat(3_000));
    assert_eq!(
        shown(&text, &[]),
        "\
error: dockerfile parse error on line 2: unknown flag: --mnt
--> Dockerfile:2
 = help: did you mean `--mount`?
"
    );
}

#[test]
fn a_line_that_no_parser_takes() {
    let text = format!("FROM alpine\nRUN true\n\nRUN {}\n", "x".repeat(70_000));
    assert!(matches!(problem(&text), Some(Problem::LineTooLong { .. })));
    // The place is BuildKit's: the last line that it read.
    assert_eq!(
        shown(&text, &[]),
        "\
error: dockerfile line greater than max allowed size of 65535
 --> Dockerfile:3:1
  |
3 |
  | ^
"
    );
}

#[test]
fn a_flag_without_dashes() {
    // The parser never makes such a node; a caller with nodes of its own can.
    let mut file = cooper_dockerfile::parse(b"FROM alpine\nRUN --network=none a\n").unwrap();
    "network=none".clone_into(&mut file.nodes[1].flags[0].text);
    let error = cooper_dockerfile::instruction::parse(&file.nodes).unwrap_err();
    assert_eq!(class(&error.problem), "NotAFlag");
    assert_eq!(
        error.to_string(),
        "dockerfile parse error on line 2: arg should start with -- : network=none"
    );
}

#[test]
fn a_heredoc_of_two_readings() {
    // A guard within the lexer for which no word is known; its text is BuildKit's all the same.
    let problem = Problem::HeredocWord("EOF".to_owned());
    assert_eq!(class(&problem), "HeredocWord");
    assert_eq!(problem.to_string(), "internal lexing of heredoc produced inconsistent results: EOF");
}
