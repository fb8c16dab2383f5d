//! How lines become nodes: one row a rule.
#![allow(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use cooper_dockerfile::{Lines, dump, parse, tokens};

fn tree(text: &str) -> String {
    dump(&parse(text.as_bytes()).unwrap().nodes)
}

#[test]
fn trees() {
    for (rule, text, want) in [
        ("keywords in any case", "from a\nRun b", "(from \"a\")\n(run \"b\")"),
        ("blanks around and between", " \t FROM \t a  as\u{b}b ", "(from \"a\" \"as\" \"b\")"),
        ("a byte order mark", "\u{feff}FROM a", "(from \"a\")"),
        ("carriage returns", "FROM a\r\nRUN b \\\r\n c\r\n", "(from \"a\")\n(run \"b  c\")"),
        ("continuation", "RUN a \\\n  b\\\nc", "(run \"a   bc\")"),
        ("continuation with blanks after it", "RUN a\\ \t\nb", "(run \"ab\")"),
        ("an escaped escape does not continue", "RUN a\\\\\nRUN b", "(run \"a\\\\\\\\\")\n(run \"b\")"),
        ("continuation at the end", "RUN a \\", "(run \"a\")"),
        ("comments between continued lines", "RUN a \\\n# b\n  # c\n d", "(run \"a  d\")"),
        ("a comment is no continuation", "# a \\\nRUN b", "(run \"b\")"),
        ("no comment after text", "RUN a # b", "(run \"a # b\")"),
        ("empty lines between continued lines", "RUN a \\\n\n \t\n b", "(run \"a  b\")"),
        ("a lone escape", "\\\nRUN a", "(run \"a\")"),
        ("backtick as escape", "# escape=`\nRUN a `\n b \\\nRUN c", "(run \"a  b \\\\\")\n(run \"c\")"),
        ("a directive after a comment is a comment", "# x\n# escape=`\nRUN a\\\nb", "(run \"ab\")"),
        ("a directive after a blank line is a comment", "\n# escape=`\nRUN a\\\nb", "(run \"ab\")"),
        ("unknown instruction", "FOO a b\nBAR", "(foo \"\")\n(bar \"\")"),
        ("JSON", "CMD [ \"a\", \"b c\" ]", "(cmd \"a\" \"b c\")"),
        ("empty JSON", "CMD []", "(cmd)"),
        (
            "nearly JSON is a command line",
            "CMD ['a']\nCMD [\"a\",]",
            "(cmd \"['a']\")\n(cmd \"[\\\"a\\\",]\")",
        ),
        ("JSON or words", "COPY [\"a b\", \"c\"]\nADD [a c", "(copy \"a b\" \"c\")\n(add \"[a\" \"c\")"),
        (
            "whole lines",
            "USER  a b \nWORKDIR /a b\nMAINTAINER \"x\" y",
            "(user \"a b\")\n(workdir \"/a b\")\n(maintainer \"\\\"x\\\" y\")",
        ),
        (
            "pairs",
            "ENV a=b c=\"d e\" f=g\\ h",
            "(env \"a\" \"b\" \"=\" \"c\" \"\\\"d e\\\"\" \"=\" \"f\" \"g\\\\ h\" \"=\")",
        ),
        ("pairs with more equals signs", "LABEL a=b=c =d", "(label \"a\" \"b=c\" \"=\" \"\" \"d\" \"=\")"),
        ("the old form of ENV", "ENV a  b = c d", "(env \"a\" \"b = c d\" \"\")"),
        ("an escape at the end of ENV is dropped", "ENV a=b\\\u{b}", "(env \"a\" \"b\" \"=\")"),
        ("a pair of escapes stays", "ENV a=b\\\\", "(env \"a\" \"b\\\\\\\\\" \"=\")"),
        ("ENV without words", "ENV", "(env)"),
        ("ARG keeps words", "ARG a b=\"c d\" 'e f'", "(arg \"a\" \"b=\\\"c d\\\"\" \"'e f'\")"),
        ("empty quotes are a word", "ARG '' \"\"", "(arg \"''\" \"\\\"\\\"\")"),
        ("flags", "COPY --a --b=c d e", "(copy [\"--a\" \"--b=c\"] \"d\" \"e\")"),
        (
            "flags lose quotes and escapes",
            "RUN --a=\"b c\" --d='e'f\\ g x",
            "(run [\"--a=b c\" \"--d=ef g\"] \"x\")",
        ),
        ("flags end at two dashes", "RUN --a -- --b", "(run [\"--a\"] \"--b\")"),
        ("flags end at the first other word", "RUN a --b", "(run \"a --b\")"),
        ("flags are read as Latin-1", "RUN --a=é x", "(run [\"--a=Ã©\"] \"x\")"),
        (
            "HEALTHCHECK",
            "HEALTHCHECK --retries=2 CMD [\"a\"]\nHEALTHCHECK NONE\nHEALTHCHECK CMD a b",
            "(healthcheck [\"--retries=2\"] \"CMD\" \"a\")\n(healthcheck \"NONE\")\n(healthcheck \"CMD\" \"a b\")",
        ),
        (
            "ONBUILD",
            "ONBUILD COPY --from=a b c\nONBUILD",
            "(onbuild (copy [\"--from=a\"] \"b\" \"c\"))\n(onbuild)",
        ),
        ("heredoc", "RUN <<E cat\na\n b\nE\nRUN c", "(run \"<<E cat\")\n(run \"c\")"),
        ("heredoc under continuation", "RUN <<E \\\n cat\na\nE", "(run \"<<E  cat\")"),
        ("no heredoc in other instructions", "CMD <<E\nE", "(cmd \"<<E\")\n(e \"\")"),
        ("no heredoc in JSON", "RUN [\"<<E\"]\nE", "(run \"<<E\")\n(e \"\")"),
        ("no heredoc with unbalanced quotes", "RUN <<E '\nE", "(run \"<<E '\")\n(e \"\")"),
        ("no heredoc in a here string", "RUN cat <<<E\nE", "(run \"cat <<<E\")\n(e \"\")"),
        ("no-break spaces separate no words", "FROM a\u{a0}b", "(from \"a\\u00a0b\")"),
        ("no-break spaces are trimmed", "\u{a0}FROM a\u{a0}\n", "(from \"a\")"),
    ] {
        assert_eq!(tree(text), want, "{rule}");
    }
}

#[test]
fn bytes_that_are_not_utf8() {
    let file = parse(b"# \xe9\nRUN a \xff\nUSER \xe9").unwrap();
    assert_eq!(dump(&file.nodes), "(run \"a \\xff\")\n(user \"\\xe9\")");
    assert_eq!(file.nodes[0].args[0].text, "a \u{fffd}");
    assert_eq!(file.nodes[0].comments, ["\u{fffd}"]);
}

#[test]
fn heredocs() {
    let file = parse(b"RUN 3<<A <<-'B' <<\"C\"\na\nA\n\tb\n\tB\nc\r\nC\n").unwrap();
    let show = |h: &cooper_dockerfile::Heredoc| {
        format!("{} {} {} {} {:?} {:?}", h.name, h.fd, h.expand, h.chomp, h.content, h.chomped())
    };
    let all: Vec<String> = file.nodes[0].heredocs.iter().map(show).collect();
    assert_eq!(
        all,
        [
            r#"A 3 true false "a\n" "a\n""#,
            r#"B 0 false true "\tb\n" "b\n""#,
            r#"C 0 false false "c\r\n" "c\r\n""#
        ]
    );
    assert_eq!(file.nodes[0].lines, Lines::new(1, 7));
    let onbuild = parse(b"ONBUILD RUN <<A\nx\nA").unwrap();
    assert_eq!(onbuild.nodes[0].heredocs.len(), 1, "the heredoc belongs to the outer instruction");
}

#[test]
fn places() {
    let text = b"# c\nFROM a\n\n# d\n#\n# e\nRUN x \\\n  # f\n  y\nCOPY <<A /\nz\nA\n";
    let file = parse(text).unwrap();
    let show = |n: &cooper_dockerfile::Node| {
        (
            n.lines.start,
            n.lines.end,
            String::from_utf8_lossy(n.span.of(text)).into_owned(),
            n.comments.clone(),
        )
    };
    let all: Vec<_> = file.nodes.iter().map(show).collect();
    assert_eq!(
        all,
        [
            (2, 2, "FROM a".to_owned(), vec!["c".to_owned()]),
            (7, 9, "RUN x \\\n  # f\n  y".to_owned(), vec!["e".to_owned()]),
            (10, 12, "COPY <<A /\nz\nA".to_owned(), vec![]),
        ]
    );
    assert_eq!(file.lines(), Lines::new(2, 12));
    let run = &file.nodes[1].args[0];
    assert_eq!(run.span.of(text), b"x \\\n  # f\n  y");
    assert_eq!(file.nodes[2].args[1].span.of(text), b"/");
}

#[test]
fn places_of_words() {
    let text =
        "COPY --chown=\"a b\" x\u{e9} \\\n # c\n y\nENV k=\"v w\" z=1\nCMD [\"a\", \"b\"]\nONBUILD RUN q\n";
    let file = parse(text.as_bytes()).unwrap();
    let mut words = Vec::new();
    for node in &file.nodes {
        let inner = node.child.as_deref();
        for node in [Some(node), inner].into_iter().flatten() {
            let all = [&node.keyword].into_iter().chain(&node.flags).chain(&node.args);
            words.extend(all.map(|w| &text[w.span.start..w.span.end]));
        }
    }
    assert_eq!(
        words,
        [
            "COPY",
            "--chown=\"a b\"",
            "xé",
            "y",
            "ENV",
            "k",
            "\"v w\"",
            "",
            "z",
            "1",
            "",
            "CMD",
            "\"a\"",
            "\"b\"",
            "ONBUILD",
            "RUN",
            "q"
        ]
    );
}

#[test]
fn comments() {
    let comments = |text: &str| parse(text.as_bytes()).unwrap().nodes[0].comments.clone();
    assert_eq!(
        comments("# syntax=x\n# a\n#b \n\n# c\nFROM a"),
        ["a", "b", "c"],
        "blank lines do not end them"
    );
    assert_eq!(comments("# a\n#\n# b\nFROM a"), ["b"], "an empty comment does");
    assert_eq!(comments("  # a\nFROM a"), ["# a"], "an indented one keeps its mark");
    assert_eq!(comments("# syntax=x\nFROM a"), [""; 0], "directives are none");
}

#[test]
fn directives() {
    let file = parse(b"# Syntax = a/b:1 x\n# escape=`\n# check=skip=all\n# escape2=x\nFROM a").unwrap();
    let all: Vec<_> =
        file.directives.iter().map(|d| (d.name, d.value.as_str(), d.first_word(), d.line)).collect();
    assert_eq!(
        all,
        [("syntax", "a/b:1 x", "a/b:1", 1), ("escape", "`", "`", 2), ("check", "skip=all", "skip=all", 3)]
    );
    assert_eq!(file.escape, '`');
}

#[test]
fn warnings() {
    let file = parse(b"FROM a\nRUN b \\\n\n c\nRUN <<E \\\n\n\nE\nE\n").unwrap();
    let all: Vec<_> = file.warnings.iter().map(|w| (w.text.as_str(), w.lines.start)).collect();
    assert_eq!(
        all,
        [
            ("Empty continuation line found in: RUN b  c", 4),
            ("Empty continuation line found in: RUN <<E E", 8)
        ]
    );
}

#[test]
fn errors() {
    for (text, message, lines) in [
        ("", "file with no instructions", (0, 0)),
        ("# a\n\n", "file with no instructions", (2, 2)),
        ("FROM a\nRUN <<E\nb\n", "unterminated heredoc", (2, 3)),
        ("FROM a\nRUN <<-E\n  E\n", "unterminated heredoc", (2, 3)),
        ("RUN <<\\'E\nb", "unterminated heredoc", (1, 2)),
        ("ENV a", "ENV must have two arguments", (1, 1)),
        ("LABEL a", "LABEL must have two arguments", (1, 1)),
        (
            "FROM a\nENV a=b \\\n c",
            "Syntax error - can't find = in \"c\". Must be of the form: name=value",
            (2, 3),
        ),
        ("CMD [1]", "when using JSON array syntax, arrays must be comprised of strings only", (1, 1)),
        (
            "ONBUILD ADD [\"a\", null]",
            "when using JSON array syntax, arrays must be comprised of strings only",
            (1, 1),
        ),
        ("# escape=x\nFROM a", "invalid escape token 'x' does not match ` or \\", (0, 0)),
        ("# syntax=a\n# SYNTAX=b\nFROM a", "only one syntax parser directive can be used", (1, 1)),
    ] {
        let error = parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), message, "{text:?}");
        assert_eq!((error.lines.start, error.lines.end), lines, "{text:?}");
    }
}

#[test]
fn longest_line() {
    let with_len = |len: usize, end: &str| {
        let mut text = b"FROM a\n#".to_vec();
        text.resize(7 + len, b'x');
        text.extend_from_slice(end.as_bytes());
        parse(&text).map(drop).map_err(|e| (e.to_string(), e.lines.start))
    };
    let error = Err(("dockerfile line greater than max allowed size of 65535".to_owned(), 1));
    assert_eq!(with_len(65_535, "\n"), Ok(()));
    assert_eq!(with_len(65_536, "\n"), error);
    assert_eq!(with_len(65_535, ""), Ok(()));
    assert_eq!(with_len(65_536, ""), error);
}

#[test]
fn all_tokens() {
    let text = "\u{feff}# escape=\\\n# note\n\nFROM --platform=x a \\\n # c\n\n  AS b\n\
        ENV k=\"v\"\nONBUILD RUN <<E cat\nbody\nE\nCMD [\"a\"]\n";
    let tokens = tokens(text.as_bytes());
    let lines: Vec<String> =
        tokens.iter().map(|t| format!("{:?} {:?}", t.kind, &text[t.span.start..t.span.end])).collect();
    insta::assert_snapshot!(lines.join("\n"), @r##"
    ByteOrderMark "\u{feff}"
    Directive "# escape=\\"
    Blank "\n"
    Comment "# note"
    Blank "\n"
    Blank "\n"
    Keyword "FROM"
    Blank " "
    Flag "--platform=x"
    Blank " "
    Argument "a"
    Blank " "
    Continuation "\\\n"
    Blank " "
    Comment "# c"
    Blank "\n"
    Blank "\n"
    Blank "  "
    Argument "AS"
    Blank " "
    Argument "b"
    Blank "\n"
    Keyword "ENV"
    Blank " "
    Argument "k"
    Text "="
    Argument "\"v\""
    Blank "\n"
    Keyword "ONBUILD"
    Blank " "
    Keyword "RUN"
    Blank " "
    Argument "<<E cat"
    Blank "\n"
    HeredocBody "body\n"
    HeredocEnd "E"
    Blank "\n"
    Keyword "CMD"
    Blank " "
    Text "["
    Argument "\"a\""
    Text "]"
    Blank "\n"
    "##);
}
