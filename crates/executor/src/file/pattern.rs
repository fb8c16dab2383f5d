//! Patterns as Go's `path/filepath.Match` reads them: `*`, `?`, `[a-z]`, `[^a-z]` and `\` before a plain character.

/// A pattern that can be matched, with paths of several components, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// Any bytes but `/`, also none.
    Star,
    /// One character but `/`.
    Any,
    Byte(u8),
    /// One character in (or, negated, outside of) the ranges. As in Go, this may be `/`.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Tells whether a name has an unescaped `*`, `?` or `[`.
pub fn is_pattern(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

impl Pattern {
    /// Reads a pattern; `None` if it is malformed (it matches nothing then).
    pub fn new(text: &[u8]) -> Option<Self> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            tokens.push(match byte {
                b'*' => Token::Star,
                b'?' => Token::Any,
                b'[' => class(&mut rest)?,
                b'\\' => {
                    let (&escaped, after) = rest.split_first()?;
                    rest = after;
                    Token::Byte(escaped)
                }
                plain => Token::Byte(plain),
            });
        }
        Some(Self(tokens))
    }

    /// Tells whether the whole path matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        matches(&self.0, path)
    }

    /// Tells whether something in a directory of this path could match.
    pub fn may_match_below(&self, path: &[u8]) -> bool {
        // A class may take a slash; without one, components match components.
        if self.0.iter().any(|token| matches!(token, Token::Class { .. })) {
            return true;
        }
        let mut wanted = self.0.split(|token| *token == Token::Byte(b'/'));
        path.split(|&byte| byte == b'/').all(|name| wanted.next().is_some_and(|part| matches(part, name)))
            && wanted.next().is_some()
    }
}

fn matches(tokens: &[Token], path: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    // Where to go on if what follows the last star does not match: it takes one byte more. Earlier stars are not tried
    // again, as in Go, which with a class that takes a slash misses some matches.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match tokens.get(token) {
            None if at == path.len() => return true,
            None => None,
            Some(Token::Star) => {
                retry = Some((token + 1, at));
                Some(0)
            }
            Some(wanted) => path.get(at..).and_then(|rest| one(wanted, rest)),
        };
        match (step, retry) {
            (Some(length), _) => {
                token += 1;
                at += length;
            }
            (None, Some((after, taken))) if path.get(taken).is_some_and(|&byte| byte != b'/') => {
                retry = Some((after, taken + 1));
                (token, at) = (after, taken + 1);
            }
            (None, _) => return false,
        }
    }
}

/// Matches one token that is no star; returns the bytes that it took.
fn one(token: &Token, name: &[u8]) -> Option<usize> {
    let first = *name.first()?;
    match token {
        Token::Star => None,
        Token::Byte(byte) => (first == *byte).then_some(1),
        Token::Any => (first != b'/').then(|| character(name).1),
        Token::Class { negated, ranges } => {
            let (found, length) = character(name);
            let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&found));
            (inside != *negated).then_some(length)
        }
    }
}

/// Reads a class behind its `[`.
fn class(rest: &mut &[u8]) -> Option<Token> {
    let negated = rest.first() == Some(&b'^');
    if negated {
        *rest = rest.get(1..)?;
    }
    let mut ranges = Vec::new();
    loop {
        if rest.first() == Some(&b']') && !ranges.is_empty() {
            *rest = rest.get(1..)?;
            return Some(Token::Class { negated, ranges });
        }
        let low = bound(rest)?;
        let mut high = low;
        if rest.first() == Some(&b'-') {
            *rest = rest.get(1..)?;
            high = bound(rest)?;
        }
        ranges.push((low, high));
    }
}

/// Reads one end of a range; something must follow it.
fn bound(rest: &mut &[u8]) -> Option<char> {
    match rest.first()? {
        b'-' | b']' => return None,
        b'\\' => *rest = rest.get(1..)?,
        _ => {}
    }
    let (found, length) = rest.first().map(|_| character(rest))?;
    if found == char::REPLACEMENT_CHARACTER && length == 1 {
        return None;
    }
    *rest = rest.get(length..)?;
    (!rest.is_empty()).then_some(found)
}

/// Returns the first character and its length; a byte that is not UTF-8 is one replacement character.
fn character(text: &[u8]) -> (char, usize) {
    let longest = text.get(..text.len().min(4)).unwrap_or_default();
    let valid = match std::str::from_utf8(longest) {
        Ok(valid) => valid,
        Err(error) => {
            longest.get(..error.valid_up_to()).and_then(|v| std::str::from_utf8(v).ok()).unwrap_or_default()
        }
    };
    valid.chars().next().map_or((char::REPLACEMENT_CHARACTER, 1), |found| (found, found.len_utf8()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern.as_bytes()).is_some_and(|pattern| pattern.matches(name.as_bytes()))
    }

    #[test]
    fn what_matches() {
        for (pattern, name) in [
            ("abc", "abc"),
            ("*", "abc"),
            ("*c", "abc"),
            ("a*", "a"),
            ("a*/b", "abc/b"),
            ("a*b*c*d*e*/f", "axbxcxdxe/f"),
            ("a*b?c*x", "abxbbxdbxebxczzx"),
            ("ab[c]", "abc"),
            ("ab[b-d]", "abc"),
            ("ab[^e-g]", "abc"),
            ("a\\*b", "a*b"),
            ("a?b", "aäb"),
            ("a[^a]b", "aäb"),
            ("[a-ζ]*", "α"),
            ("[\\]a]", "]"),
            ("[\\-x]", "-"),
            ("*x", "xxx"),
            ("*", ""),
            ("a[^x]b", "a/b"),
            ("*[^x]c", "ab/c"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*", "a/b"),
            ("a*", "ab/c"),
            ("a*/b", "a/c/b"),
            ("ab[e-g]", "abc"),
            ("ab[^c]", "abc"),
            ("a?b", "a/b"),
            ("a???b", "aäb"),
            ("a[^a][^a][^a]b", "aäb"),
            ("*ζ", "a"),
            ("[]a]", "]"),
            ("[-]", "-"),
            ("[x-]", "x"),
            ("[", "a"),
            ("[^", "a"),
            ("[^bc", "a"),
            ("a[", "a"),
            ("a[", "ab"),
            ("[a-b-c]", "a"),
            ("a\\", "a"),
            ("", "a"),
            // Run in Go: the first star takes nothing and is not tried again.
            ("*[^x]*c", "ab/bc"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        assert!(
            is_pattern(b"a*")
                && is_pattern(b"[")
                && is_pattern(b"\\**")
                && !is_pattern(b"\\*a\\?")
                && !is_pattern(b"a\\")
        );
        assert!(Pattern::new(b"*.txt").unwrap().matches(b"\xff\xfe.txt"));
        assert!(Pattern::new(b"?.txt").unwrap().matches(b"\xff.txt"));
    }

    /// Obviously right: tries every length for every star.
    fn naive(tokens: &[Token], name: &[u8]) -> bool {
        match tokens.split_first() {
            None => name.is_empty(),
            Some((Token::Star, rest)) => (0..=name.len())
                .take_while(|&length| !name[..length].contains(&b'/'))
                .any(|length| naive(rest, &name[length..])),
            Some((token, rest)) => one(token, name).is_some_and(|length| naive(rest, &name[length..])),
        }
    }

    #[test]
    fn what_may_match_below() {
        for (pattern, path, expected) in [
            ("a/b/c", "a", true),
            ("a/b/c", "a/b", true),
            ("a/b/c", "a/b/c", false),
            ("a/b/c", "b", false),
            ("*/x", "anything", true),
            ("*/x", "any/thing", false),
            ("a*/b?/*", "ab/bc", true),
            ("a*/b?/*", "ab/b", false),
            ("a[^x]b", "a", true),
        ] {
            let parsed = Pattern::new(pattern.as_bytes()).unwrap();
            assert_eq!(parsed.may_match_below(path.as_bytes()), expected, "{pattern} {path}");
        }
    }

    proptest! {
        #[test]
        fn above_each_match_one_may_match(pattern in "[ab/*?]{0,8}", name in "[ab]{1,3}(/[ab]{1,3}){0,3}") {
            let parsed = Pattern::new(pattern.as_bytes()).unwrap();
            if parsed.matches(name.as_bytes()) {
                for (slash, _) in name.match_indices('/') {
                    prop_assert!(parsed.may_match_below(&name.as_bytes()[..slash]));
                }
            }
        }

        #[test]
        fn against_trying_everything(pattern in "[ab/*?]{0,8}", name in "[ab/]{0,8}") {
            let parsed = Pattern::new(pattern.as_bytes()).unwrap();
            prop_assert_eq!(parsed.matches(name.as_bytes()), naive(&parsed.0, name.as_bytes()));
        }

        #[test]
        fn any_bytes_are_a_pattern_or_none(pattern: Vec<u8>, name: Vec<u8>) {
            if let Some(parsed) = Pattern::new(&pattern) {
                parsed.matches(&name);
            }
        }
    }
}
