//! Patterns as Go's `path/filepath.Match` reads them: `*`, `?`, `[a-z]`, `[^a-z]` and `\` before a plain character.

/// A pattern that can be matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Token>);

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
    pub(super) fn new(text: &[u8]) -> Option<Self> {
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

    /// Tells whether a class occurs: only then can one component of the pattern match two of a path.
    pub(super) fn has_class(&self) -> bool {
        self.0.iter().any(|token| matches!(token, Token::Class { .. }))
    }

    /// Tells whether the whole name matches.
    pub(super) fn matches(&self, name: &[u8]) -> bool {
        let (mut token, mut at) = (0, 0);
        // Where to go on if what follows the last star does not match: it takes one byte more. Earlier stars need not be
        // tried again, the shortest match for them leaves the most to the last one.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let step = match self.0.get(token) {
                None if at == name.len() => return true,
                None => None,
                Some(Token::Star) => {
                    retry = Some((token + 1, at));
                    Some(0)
                }
                Some(wanted) => name.get(at..).and_then(|rest| one(wanted, rest)),
            };
            match (step, retry) {
                (Some(length), _) => {
                    token += 1;
                    at += length;
                }
                (None, Some((after, taken))) if name.get(taken).is_some_and(|&byte| byte != b'/') => {
                    retry = Some((after, taken + 1));
                    (token, at) = (after, taken + 1);
                }
                (None, _) => return false,
            }
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

    proptest! {
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
