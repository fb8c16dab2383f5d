use super::path::clean;
use super::*;
use proptest::prelude::*;

fn matcher(patterns: &[&str]) -> Matcher {
    Matcher::new(patterns).unwrap()
}

#[test]
fn ignore_file() {
    let text = "\u{feff}# comment\r\n a \n#b\n #c\n\n/d/\n!/e/../f\n! g \n.//h\n/\n!\n\t\n";
    assert_eq!(parse(text.as_bytes()), ["a", "#c", "d", "!f", "!g", "h", "/", "!"]);
    assert!(parse(b"").is_empty());
}

#[test]
fn cleaning() {
    for (path, want) in [
        ("", "."),
        (".", "."),
        ("a/./b//c/", "a/b/c"),
        ("a/../b", "b"),
        ("../a/../../b", "../../b"),
        ("/..", "/"),
        ("/../a", "/a"),
        ("a/..", "."),
        ("!a/../b", "b"),
    ] {
        assert_eq!(clean(path), want, "{path}");
    }
}

#[test]
fn one_pattern() {
    for (pattern, yes, no) in [
        ("a", &["a", "a/b", "a/b/c"][..], &["b", "ab", "b/a"][..]),
        ("a/b", &["a/b", "a/b/c"], &["a", "b", "c/a/b"]),
        ("*", &["a", "a/b", ".x"], &[]),
        ("*.go", &["a.go", ".go", "a.go/b"], &["a/b.go", "a.god"]),
        ("a*b", &["ab", "axxb"], &["a/b", "axxc"]),
        ("?", &["a", "é", "a/b"], &["ab"]),
        ("a?c", &["abc"], &["a/c", "ac"]),
        ("**", &["a", "a/b/c"], &[]),
        ("**/", &["a", "a/b"], &[]),
        ("**/a", &["a", "b/a", "b/c/a", "a/d"], &["ba", "ab"]),
        ("**a", &["a", "xa", "b/xa"], &["ab"]),
        ("**/a.b", &["a.b", "x/a.b"], &["axb", "x/axb"]),
        ("a/**", &["a/b", "a/b/c"], &["a", "ab"]),
        ("a**", &["a", "ab", "a/b"], &["b"]),
        ("a/**/b", &["a/b", "a/x/b", "a/x/y/b", "a/b/c"], &["a", "axb", "a/xb"]),
        ("**/a/**", &["a/b", "x/a/b"], &["a", "x/a"]),
        ("**/*.txt", &["a.txt", "b/a.txt"], &["a.txtx"]),
        ("a.b", &["a.b"], &["axb"]),
        ("a+(b)|{c}$", &["a+(b)|{c}$"], &["aab"]),
        ("[a-c]x", &["ax", "cx"], &["dx", "-x"]),
        ("[^a-c]x", &["dx"], &["ax", "x"]),
        ("[!a]x", &["!x", "ax"], &["bx"]),
        ("[a\\]]x", &["]x", "ax"], &["\\x"]),
        ("[a&&b]", &["a", "b", "&"], &["c"]),
        ("[[a]", &["[", "a"], &["b"]),
        ("a\\*b", &["a*b"], &["axb", "a\\*b"]),
        ("a\\ b", &["a b"], &["a\\ b"]),
        // A letter after a backslash is a class of characters: what a path in Windows style leads to.
        ("a\\dist", &["a1ist"], &["a\\dist", "adist"]),
        ("[\\d\\-]", &["7", "-"], &["d"]),
        ("a^b", &["a^b"], &["ab"]),
        ("a^*", &[], &["a^b", "a"]),
        // Inside brackets `*` is no member of the set.
        ("[*]", &["[]", "^]", "//]"], &["*"]),
        ("./a/../b", &["b"], &["a"]),
        (" a ", &["a"], &[" a "]),
        ("a\nb", &["a\nb"], &["a b"]),
        ("a*c", &["a\nc"], &[]),
    ] {
        let matcher = matcher(&[pattern]);
        for path in yes {
            assert!(matcher.matches(path), "`{pattern}` should match `{path}`");
        }
        for path in no {
            assert!(!matcher.matches(path), "`{pattern}` should not match `{path}`");
        }
    }
}

#[test]
fn exceptions() {
    let m = matcher(&["*", "!src", "src/*.tmp", "!src/keep.tmp"]);
    for (path, want) in [
        ("a", true),
        ("src", false),
        ("src/a.rs", false),
        ("src/b.tmp", true),
        ("src/keep.tmp", false),
        ("src/b.tmp/x", true),
    ] {
        assert_eq!(m.matches(path), want, "{path}");
    }
    assert!(m.has_exceptions() && m.patterns()[1].is_exception() && m.patterns()[1].text() == "src");
    assert!(!matcher(&["!a"]).matches("a"));
    assert!(!matcher(&[]).matches("a"));
    assert!(matcher(&["!a/../b"]).matches("b"), "cleaning takes the mark away");
}

#[test]
fn bad_patterns() {
    for pattern in
        ["[", "[]", "[]a]", "[^]", "a[b", "[a-]", "[-a]", "a\\", "[a\\", "[b-a]", "*\\k", "[[:x:]*]"]
    {
        let error = Matcher::new([pattern]).unwrap_err();
        assert_eq!(error.to_string(), "syntax error in pattern", "{pattern}");
    }
    assert_eq!(Matcher::new(["a", "!"]).unwrap_err().to_string(), "illegal exclusion pattern: \"!\"");
}

#[test]
fn walk_differs_as_in_moby() {
    let m = matcher(&["a", "!a/b", "a"]);
    let (dir, info) = m.matches_below("a", &ParentMatch::default());
    assert!(dir);
    assert!(!m.matches_below("a/b", &info).0);
    assert!(m.matches("a/b"));
}

#[test]
fn pruning() {
    let m = matcher(&["*", "!docs/api/*.md", "!a/**", "!x"]);
    for (dir, want) in [
        ("docs", true),
        ("docs/api", true),
        ("docs/guide", false),
        ("a", true),
        ("a/b", true),
        ("b", false),
        ("x", false),
        ("do", false),
    ] {
        assert_eq!(m.may_except_below(dir), want, "{dir}");
    }
    assert!(matcher(&["a", "!**/b"]).may_except_below("a"));
}

/// One pattern against one path, by backtracking over characters.
fn naive_glob(p: &[char], s: &[char]) -> bool {
    match p {
        [] => s.is_empty(),
        ['*', '*', rest @ ..] => {
            let rest = if let ['/', rest @ ..] = rest { rest } else { rest };
            rest.is_empty()
                || naive_glob(rest, s)
                || (0..s.len()).any(|i| s[i] == '/' && naive_glob(rest, &s[i + 1..]))
        }
        ['*', rest @ ..] => {
            naive_glob(rest, s) || s.first().is_some_and(|c| *c != '/') && naive_glob(p, &s[1..])
        }
        ['?', rest @ ..] => s.first().is_some_and(|c| *c != '/') && naive_glob(rest, &s[1..]),
        ['[', a, '-', b, ']', rest @ ..] => {
            s.first().is_some_and(|c| (a..=b).contains(&c)) && naive_glob(rest, &s[1..])
        }
        ['\\', c, rest @ ..] | [c, rest @ ..] => s.first() == Some(c) && naive_glob(rest, &s[1..]),
    }
}

fn naive_pattern(pattern: &str, path: &str) -> bool {
    // A leading `**` before plain text is a search for a suffix, whether a slash follows or not.
    if let Some(rest) = pattern.strip_prefix("**").filter(|r| !r.contains(['*', '?', '[', '\\'])) {
        return path.ends_with(rest) || rest.strip_prefix('/') == Some(path);
    }
    naive_glob(&pattern.chars().collect::<Vec<_>>(), &path.chars().collect::<Vec<_>>())
}

/// The last pattern that matches the path or a parent decides.
fn naive(patterns: &[String], path: &str) -> bool {
    let mut matched = false;
    for pattern in patterns {
        let pattern = clean(pattern);
        let (exception, pattern) = match pattern.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, pattern.as_str()),
        };
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        if ends.into_iter().any(|end| naive_pattern(pattern, &path[..end])) {
            matched = !exception;
        }
    }
    matched
}

fn arb_pattern() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["a", "b", "ab", ".", "*", "**", "?", "[a-b]", "\\*", "a.b", "é"]);
    let segment = prop::collection::vec(part, 1..3).prop_map(|p| p.concat());
    (any::<bool>(), prop::collection::vec(segment, 1..4))
        .prop_map(|(not, parts)| format!("{}{}", if not { "!" } else { "" }, parts.join("/")))
}

fn arb_path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "ab", "ba", "a.b", "*", "é", "aab"]);
    prop::collection::vec(name, 1..5).prop_map(|p| p.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_naive(patterns in prop::collection::vec(arb_pattern(), 1..6), path in arb_path()) {
        let matcher = Matcher::new(&patterns).unwrap();
        prop_assert_eq!(matcher.matches(&path), naive(&patterns, &path));
    }

    /// Without exceptions a walk gives the same as single questions.
    #[test]
    fn walk_agrees(patterns in prop::collection::vec(arb_pattern(), 1..6), path in arb_path()) {
        let patterns: Vec<&str> = patterns.iter().map(|p| p.trim_start_matches('!')).collect();
        let matcher = Matcher::new(&patterns).unwrap();
        let mut info = ParentMatch::default();
        let mut last = false;
        for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
            (last, info) = matcher.matches_below(&path[..end], &info);
        }
        prop_assert_eq!(last, matcher.matches(&path));
    }

    /// Where a walk may turn back, nothing below is taken out again.
    #[test]
    fn pruned_has_no_exception(patterns in prop::collection::vec(arb_pattern(), 1..6), path in arb_path()) {
        let matcher = Matcher::new(&patterns).unwrap();
        let mut info = ParentMatch::default();
        let mut pruned = false;
        for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
            let at = &path[..end];
            let matched;
            (matched, info) = matcher.matches_below(at, &info);
            prop_assert!(!pruned || matched, "{} is below what was left out", at);
            pruned |= matched && !matcher.may_except_below(at);
        }
    }

    #[test]
    fn never_panics(pattern in "\\PC*", path in "\\PC*") {
        if let Ok(matcher) = Matcher::new([&pattern]) {
            matcher.matches(&path);
            matcher.may_except_below(&path);
        }
    }
}
