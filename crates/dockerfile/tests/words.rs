//! Expansion of words: one row a rule.
#![allow(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use cooper_dockerfile::shell::{EmptyEnv, Env, Lexer};
use std::collections::{BTreeMap, HashMap};

fn env() -> Vec<String> {
    ["a=one", "b=two words", "e=", "p=/usr/local/bin:/bin", "한=국", "star=a*b", "dup=1", "dup=2", "flag"]
        .map(str::to_owned)
        .to_vec()
}

fn check(lexer: &Lexer, rows: &[(&str, &str)]) {
    for (word, want) in rows {
        let got = match lexer.process_word(word, &env()) {
            Ok(word) => word.text,
            Err(error) => format!("! {}", error.problem),
        };
        assert_eq!(got, *want, "{word}");
    }
}

#[test]
fn values() {
    check(
        &Lexer::new('\\'),
        &[
            ("", ""),
            ("x y", "x y"),
            ("$a-${a}", "one-one"),
            ("$ab", ""),
            ("${a}b", "oneb"),
            ("$", "$"),
            ("$ a", "$ a"),
            ("$-x", "x"),
            ("$12x", "x"),
            ("$한", "국"),
            ("$$a", "a"),
            ("$dup$flag.", "2."),
            ("\\$a", "$a"),
            ("\\\\$a", "\\one"),
            ("'$a'", "$a"),
            ("\"$a\"", "one"),
            ("'a\"b'", "a\"b"),
            ("\"a'b\"", "a'b"),
            ("\"a\\\"b\\c\\$d\\\\\"", "a\"b\\c$d\\"),
            ("a\\'b", "a'b"),
            ("a\\", "a"),
            ("\"a\\", "! unexpected end of statement while looking for matching double-quote"),
            ("'a", "! unexpected end of statement while looking for matching single-quote"),
            ("${a", "! unsupported modifier (\u{fffd}) in substitution"),
            ("${a:", "! syntax error: missing '}'"),
            ("${", "! syntax error: missing '}'"),
            ("${}", "! syntax error: bad substitution"),
            ("${:-a}", "! syntax error: bad substitution"),
            ("${{a}", "! syntax error: bad substitution"),
            ("${a!}", "! unsupported modifier (!) in substitution"),
            ("${a:=x}", "! unsupported modifier (:=) in substitution"),
            ("${a:#x}", "! unsupported modifier (:#) in substitution"),
            ("<<E", "<<E"),
            ("a<b", "a<b"),
            ("\u{feff}a", "a"),
        ],
    );
}

#[test]
fn modifiers() {
    check(
        &Lexer::new('\\'),
        &[
            ("${a-x}${a:-x}", "oneone"),
            ("${n-x}${n:-x}", "xx"),
            ("${e-x}${e:-x}", "x"),
            ("${a+x}${a:+x}", "xx"),
            ("${n+x}${n:+x}", ""),
            ("${e+x}${e:+x}", "x"),
            ("${a?x}${a:?x}", "oneone"),
            ("${e?x}", ""),
            ("${n?x}", "! n: x"),
            ("${n?}", "! n: is not allowed to be unset"),
            ("${e:?x $a}", "! e: x one"),
            ("${e:?}", "! e: is not allowed to be empty"),
            ("${n:-${m:-$a}}", "one"),
            ("${n:-\"a}b\"}", "a}b"),
            ("${n:-a\\}b}", "a}b"),
            ("${n:-'a'", "! syntax error: missing '}'"),
        ],
    );
}

#[test]
fn patterns() {
    check(
        &Lexer::new('\\'),
        &[
            ("${p#*/}", "usr/local/bin:/bin"),
            ("${p##*/}", "bin"),
            ("${p%/*}", "/usr/local/bin:"),
            ("${p%%/*}", ""),
            ("${p%:*}", "/usr/local/bin"),
            ("${a#?}${a%?}", "neon"),
            ("${a#x}${a%x}", "oneone"),
            ("${n#x}", ""),
            ("${star#a\\*}", "b"),
            ("${star%\\*b}", "a"),
            ("${star#a.}", "a*b"),
            ("${a#\\x}", "! invalid pattern (\\x) in substitution: invalid escape '\\x'"),
            ("${p/bin/x}", "/usr/local/x:/bin"),
            ("${p//bin/x}", "/usr/local/x:/x"),
            ("${p//b*n/x}", "/usr/local/x"),
            ("${p/\\/usr/}", "/local/bin:/bin"),
            ("${a//?/$b}", "two wordstwo wordstwo words"),
            ("${a//n/<$0\\$0>}", "o<\\n>e"),
            ("${a/n/\\$0}", "o\\$0e"),
            ("${a//n/'$$'}", "o$e"),
            ("${a//n/'${x}${'}", "o${e"),
            ("${a///x}", "xoxnxex"),
            ("${p/bin", "! syntax error: missing '/' in ${}"),
            ("${p/bin/x", "! syntax error: missing '}'"),
        ],
    );
}

#[test]
fn options() {
    check(&Lexer { raw_quotes: true, ..Lexer::new('\\') }, &[("'a'\"$a\"\\x", "'a'\"one\"x")]);
    check(&Lexer { raw_escapes: true, ..Lexer::new('\\') }, &[("\\a\"\\\"\"", "\\a\\\"")]);
    check(&Lexer { skip_process_quotes: true, ..Lexer::new('\\') }, &[("'$a' \"", "'one' \"")]);
    check(
        &Lexer { skip_unset_env: true, ..Lexer::new('\\') },
        &[
            ("$a $n ${n} ${n:-x} ${n#x} ${n/x/y} ${n//x/y}", "one $n ${n} ${n:-x} ${n#x} ${n/x/y} ${n/x/y}"),
            ("${n:?$a}", "${n:?one}"),
        ],
    );
    check(&Lexer::new('`'), &[("`$a\\$a", "$a\\one"), ("\"`\"\"", "\"")]);
}

#[test]
fn splitting() {
    for (text, want) in [
        ("", &[][..]),
        ("  a \t b ", &["a", "b"]),
        ("'a b' \"c d\"", &["a b", "c d"]),
        ("a\\ b", &["a b"]),
        ("$b", &["two", "words"]),
        ("\"$b\"", &["two words"]),
        ("x$b", &["xtwo", "words"]),
        ("''", &[]),
        ("a '' b", &["a", "b"]),
        ("cat << E", &["cat", "<< E"]),
        // A nested word clears what was collected before it.
        ("x${n:-y}z", &["yz"]),
        ("x${a}z", &["xonez"]),
    ] {
        assert_eq!(Lexer::new('\\').process_words(text, &env()).unwrap(), want, "{text}");
    }
    let error = Lexer::new('\\').process_words("a 'b", &EmptyEnv).unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to process \"a 'b\": unexpected end of statement while looking for matching single-quote"
    );
}

#[test]
fn names() {
    let word = Lexer::new('\\').process_word("$a ${e:-$n} ${m+x} '$q' $a", &env()).unwrap();
    assert!(word.matched.iter().eq(["a", "e"]));
    assert!(word.unmatched.iter().eq(["m", "n"]));
}

#[test]
fn environments() {
    let map: HashMap<String, String> = [("k".to_owned(), "v".to_owned())].into();
    let sorted: BTreeMap<String, String> = map.clone().into_iter().collect();
    for value in [
        Env::get(&map, "k"),
        Env::get(&sorted, "k"),
        Env::get(&vec!["k=w".to_owned(), "k=v".to_owned()], "k"),
    ] {
        assert_eq!(value, Some("v"));
    }
    assert_eq!(Env::get(&vec!["k".to_owned()], "k"), Some(""));
    assert_eq!(EmptyEnv.get("k"), None);
}
