//! Any input gives an answer, in a time that grows with its length, and tokens keep every byte.
#![allow(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use cooper_dockerfile::shell::Lexer;
use cooper_dockerfile::{Error, Problem, TokenKind, dump, instruction, parse, to_json, tokens};
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// Everything the crate does with a text; the results are not looked at.
fn exercise(source: &[u8]) {
    let file = parse(source);
    to_json(&file);
    let Ok(file) = file else { return };
    dump(&file.nodes);
    let lexer = Lexer::new(file.escape);
    let env = vec!["A=x y".to_owned(), "B=".to_owned()];
    for node in &file.nodes {
        let Ok(instruction::Item::Command(mut command)) = instruction::parse_one(node) else { continue };
        let mut expand = |word: &str| lexer.process_word(word, &env).map(|w| w.text).map_err(Problem::Word);
        let _ = command.expand(&mut expand);
        let _ = command.expand_contents(&mut expand);
    }
}

fn assert_lossless(source: &[u8]) {
    let mut at = 0;
    for token in tokens(source) {
        assert_eq!(token.span.start, at, "a gap or an overlap in {:?}", String::from_utf8_lossy(source));
        assert!(!token.span.is_empty());
        at = token.span.end;
    }
    assert_eq!(at, source.len(), "the end of {:?} is missing", String::from_utf8_lossy(source));
}

/// Pieces that mean something, in any order.
fn arb_text() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"FROM ",
        b"RUN ",
        b"COPY ",
        b"ADD ",
        b"ENV ",
        b"ARG ",
        b"LABEL ",
        b"ONBUILD ",
        b"HEALTHCHECK ",
        b"VOLUME ",
        b"EXPOSE ",
        b"SHELL ",
        b"foo ",
        b"a",
        b"=",
        b"\n",
        b"\n",
        b"\n",
        b"\r\n",
        b" ",
        b"\t",
        b"\\",
        b"\\\n",
        b"`\n",
        b"#",
        b"# x",
        b"# escape=`\n",
        b"#syntax=a\n",
        b"--x=1 ",
        b"--mount=type=cache,",
        b"--",
        b"\"",
        b"'",
        b"[",
        b"]",
        b"[\"a\", \"b\"]",
        b",",
        b"<<E",
        b"<<-'E' ",
        b"E\n",
        b"\tE\n",
        b"$A",
        b"${A:-",
        b"${B",
        b"}",
        b"/",
        b"\xc3\xa9",
        b"\xff",
        b"\xc2\xa0",
        b"\xef\xbb\xbf",
        b"{",
        b"\0",
        b"\x0b",
    ];
    prop::collection::vec(prop::sample::select(pieces), 0..40).prop_map(|p| p.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn text_is_kept_and_nothing_panics(source in arb_text()) {
        assert_lossless(&source);
        exercise(&source);
    }

    #[test]
    fn bytes_are_kept_and_nothing_panics(source in prop::collection::vec(any::<u8>(), 0..200)) {
        assert_lossless(&source);
        exercise(&source);
    }

    #[test]
    fn spans_lie_in_the_source(source in arb_text()) {
        let Ok(file) = parse(&source) else { return Ok(()) };
        let mut at = 0;
        for node in &file.nodes {
            prop_assert!(node.span.start >= at && node.span.end <= source.len());
            at = node.span.end;
            prop_assert_eq!(node.keyword.span.of(&source).first(), node.keyword.bytes().first());
            let words = node.flags.iter().chain(&node.args);
            for word in words {
                prop_assert!(word.span.start >= node.span.start && word.span.end <= node.span.end);
            }
        }
    }

    #[test]
    fn words_never_panic(word in "[ab$\\{}:/#%?+*'\"\\\\<`-é ]{0,60}", raw in any::<[bool; 4]>()) {
        let [raw_quotes, raw_escapes, skip_process_quotes, skip_unset_env] = raw;
        let env = vec!["a=x*y".to_owned(), "b=".to_owned()];
        for escape in ['\\', '`'] {
            let lexer = Lexer { escape, raw_quotes, raw_escapes, skip_process_quotes, skip_unset_env };
            let _ = lexer.process_word(&word, &env);
            let _ = lexer.process_words(&word, &env);
        }
    }
}

/// Generous, for slow machines and unoptimised code; anything quadratic takes minutes for these inputs.
const LIMIT: Duration = Duration::from_secs(20);

fn in_time(what: &str, source: &[u8], check: impl FnOnce(&Result<cooper_dockerfile::Dockerfile, Error>)) {
    let start = Instant::now();
    check(&parse(source));
    exercise(source);
    assert_lossless(source);
    let took = start.elapsed();
    assert!(took < LIMIT, "{what} took {took:?}");
}

#[test]
fn many_instructions() {
    let mut source = b"FROM a\n".to_vec();
    for i in 0..100_000 {
        source.extend_from_slice(
            format!("# note {i}\nRUN --mount=type=cache,target=/c{i} echo {i} \\\n  && true\n").as_bytes(),
        );
    }
    in_time("100,000 instructions", &source, |file| {
        assert_eq!(file.as_ref().map(|f| f.nodes.len()), Ok(100_001));
    });
}

#[test]
fn long_line() {
    let mut source = b"FROM a\nRUN ".to_vec();
    source.resize(10 << 20, b'x');
    in_time("a line of 10 MB", &source, |file| {
        let error = file.as_ref().map(drop).unwrap_err();
        assert_eq!(error.to_string(), "dockerfile line greater than max allowed size of 65535");
    });
    assert_eq!(tokens(&source).last().map(|t| t.kind), Some(TokenKind::Unread));
}

#[test]
fn long_logical_lines() {
    for (what, head, line) in [
        ("RUN", "RUN ", "echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("heredoc marks", "RUN ", "<<E <<E <<E"),
        ("ENV", "ENV ", "A=$A'b' "),
        ("quotes", "ENV A=", "\"\\\"\""),
        ("flags", "RUN ", " --mount=type=cache,target=/a --mount=x "),
        ("JSON", "RUN [", "\"a\", [[[{"),
        ("ARG", "ARG ", " a=b c "),
        ("COPY", "COPY ", " a b "),
        ("ONBUILD", "ONBUILD ", "ONBUILD ONBUILD ONBUILD "),
        ("comments", "RUN a", "\n# b\n\n "),
    ] {
        let mut source = format!("FROM a\n{head}\\\n").into_bytes();
        for _ in 0..50_000 {
            source.extend_from_slice(line.as_bytes());
            source.extend_from_slice(b"\\\n");
        }
        in_time(what, &source, |_| {});
    }
}

#[test]
fn deep_words() {
    let lexer = Lexer::new('\\');
    let env = vec!["A=".to_owned() + &"x".repeat(1 << 20)];
    let start = Instant::now();
    let deep = "${B:-".repeat(200_000) + &"}".repeat(200_000);
    assert!(
        lexer.process_word(&deep, &env).unwrap_err().to_string().ends_with("nested deeper than 128 levels")
    );
    assert!(
        lexer
            .process_word(&"$A".repeat(100_000), &env)
            .unwrap_err()
            .to_string()
            .ends_with("larger than 16777216 bytes")
    );
    assert!(lexer.process_word(&"\"${A//x/$A}\"".repeat(100), &env).is_err());
    assert!(lexer.process_word("${A#*y*y*y*y*y*y*y*y*z}", &env).is_ok());
    assert!(start.elapsed() < LIMIT);
}
