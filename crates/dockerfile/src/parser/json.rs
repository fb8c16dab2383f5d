//! JSON arrays of strings: `["a", "b"]`.

use std::ops::Range;

/// Why a text is no array of strings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoStrings {
    /// It is an array, but has other things in it: an error.
    OtherTypes,
    /// It is no JSON array at all, so it has another meaning.
    NotJson,
}

/// An element, and its place with its quotes.
pub(super) type Element = (String, Range<usize>);

/// Deepest nesting that Go's decoder reads.
const MAX_DEPTH: usize = 10_000;

/// Reads a text that is a JSON array of strings, with blanks around it allowed.
///
/// The whole text must be valid JSON before anything about its elements counts, since a text that is not JSON is a
/// command line. Nesting is followed without recursion.
pub(super) fn parse_strings(text: &[u8]) -> Result<Vec<Element>, NoStrings> {
    let mut reader = Reader { text, at: 0 };
    let mut out = Vec::new();
    let mut other = false;
    // One entry for each array or object that is open: whether it is an object.
    let mut open: Vec<bool> = Vec::new();
    reader.blanks();
    reader.expect(b'[')?;
    open.push(false);
    let mut first = true;
    loop {
        reader.blanks();
        let Some(is_object) = open.last().copied() else { break };
        let close = if is_object { b'}' } else { b']' };
        if reader.peek() == Some(close) && first {
            reader.at += 1;
            open.pop();
            first = false;
            continue;
        }
        if !first {
            match reader.next() {
                Some(b',') => reader.blanks(),
                Some(c) if c == close => {
                    open.pop();
                    continue;
                }
                _ => return Err(NoStrings::NotJson),
            }
        }
        first = false;
        if is_object {
            reader.string()?;
            reader.blanks();
            reader.expect(b':')?;
            reader.blanks();
        }
        let top = open.len() == 1;
        match reader.peek() {
            Some(b'"') => {
                let start = reader.at;
                let value = reader.string()?;
                if top {
                    out.push((value, start..reader.at));
                }
                continue;
            }
            Some(c @ (b'[' | b'{')) => {
                reader.at += 1;
                open.push(c == b'{');
                if open.len() > MAX_DEPTH {
                    return Err(NoStrings::NotJson);
                }
                first = true;
            }
            Some(b't') => reader.word(b"true")?,
            Some(b'f') => reader.word(b"false")?,
            Some(b'n') => reader.word(b"null")?,
            _ => reader.number()?,
        }
        other |= top;
    }
    reader.blanks();
    match reader.peek() {
        Some(_) => Err(NoStrings::NotJson),
        None if other => Err(NoStrings::OtherTypes),
        None => Ok(out),
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at += usize::from(byte.is_some());
        byte
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), NoStrings> {
        if self.next() == Some(byte) { Ok(()) } else { Err(NoStrings::NotJson) }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), NoStrings> {
        word.iter().try_for_each(|b| self.expect(*b))
    }

    fn digits(&mut self) -> Result<(), NoStrings> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(NoStrings::NotJson) }
    }

    fn number(&mut self) -> Result<(), NoStrings> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        // A number too large for a float is an error of Go's decoder, as if it were no JSON.
        let text = self.text.get(start..self.at).and_then(|t| std::str::from_utf8(t).ok());
        match text.and_then(|t| t.parse::<f64>().ok()) {
            Some(value) if value.is_finite() => Ok(()),
            _ => Err(NoStrings::NotJson),
        }
    }

    /// A string: its value. Bytes that are not UTF-8 and lone surrogates become U+FFFD.
    fn string(&mut self) -> Result<String, NoStrings> {
        self.expect(b'"')?;
        let mut out = String::new();
        loop {
            let start = self.at;
            while self.peek().is_some_and(|b| b >= b' ' && b != b'"' && b != b'\\') {
                self.at += 1;
            }
            out.push_str(&String::from_utf8_lossy(self.text.get(start..self.at).unwrap_or_default()));
            match self.next() {
                Some(b'"') => return Ok(out),
                Some(b'\\') => out.push(self.escape()?),
                _ => return Err(NoStrings::NotJson),
            }
        }
    }

    fn escape(&mut self) -> Result<char, NoStrings> {
        Ok(match self.next() {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let unit = self.hex()?;
                match char::from_u32(unit) {
                    Some(c) => c,
                    None => self.low_surrogate(unit).unwrap_or(char::REPLACEMENT_CHARACTER),
                }
            }
            _ => return Err(NoStrings::NotJson),
        })
    }

    /// The second half of a pair, eaten only if it fits the first.
    fn low_surrogate(&mut self, high: u32) -> Option<char> {
        let mut ahead = Reader { text: self.text, at: self.at };
        ahead.word(b"\\u").ok()?;
        let low = ahead.hex().ok()?;
        if !(0xd800..0xdc00).contains(&high) || !(0xdc00..0xe000).contains(&low) {
            return None;
        }
        self.at = ahead.at;
        char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))
    }

    fn hex(&mut self) -> Result<u32, NoStrings> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = self.next().and_then(|b| char::from(b).to_digit(16)).ok_or(NoStrings::NotJson)?;
            value = value * 16 + digit;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Result<Vec<String>, NoStrings> {
        parse_strings(text.as_bytes()).map(|v| v.into_iter().map(|(s, _)| s).collect())
    }

    #[test]
    fn strings() {
        assert_eq!(values("[]"), Ok(vec![]));
        assert_eq!(values(" [ \"a\" , \"b c\" ] \n"), Ok(vec!["a".into(), "b c".into()]));
        assert_eq!(values(r#"["\"\\\/\b\f\n\r\t\u00e9"]"#), Ok(vec!["\"\\/\u{8}\u{c}\n\r\té".into()]));
        assert_eq!(
            values(r#"["\ud83d\ude00","\ud83dx","\ude00","\ud83d\u0041"]"#),
            Ok(vec!["😀".into(), "\u{fffd}x".into(), "\u{fffd}".into(), "\u{fffd}A".into()])
        );
        let places =
            parse_strings(b"[\"a\", \"bc\"]").map(|v| v.into_iter().map(|(_, r)| r).collect::<Vec<_>>());
        assert_eq!(places, Ok(vec![1..4, 6..10]));
    }

    #[test]
    fn other_types() {
        for text in
            ["[1]", "[\"a\", null]", "[[\"a\"]]", "[{\"a\": [1, -0.5e+3, true, false, {}]}]", "[[[]],\"a\"]"]
        {
            assert_eq!(values(text), Err(NoStrings::OtherTypes), "{text}");
        }
        let deep = format!("{}{}", "[".repeat(9_000), "]".repeat(9_000));
        assert_eq!(values(&deep), Err(NoStrings::OtherTypes));
    }

    #[test]
    fn not_json() {
        for text in [
            "",
            "[",
            "]",
            "a",
            "\"a\"",
            "[\"a\"",
            "[\"a\",]",
            "[,]",
            "[\"a\" \"b\"]",
            "['a']",
            "[\"a\"] b",
            "[\"\t\"]",
            "[\"\\x\"]",
            "[\"\\u12g4\"]",
            "[01]",
            "[1e999]",
            "[-]",
            "[1.]",
            "[{\"a\"}]",
            "[{1:2}]",
            "[tru]",
            "{}",
            "[}",
            "[{]}",
        ] {
            assert_eq!(values(text), Err(NoStrings::NotJson), "{text}");
        }
        let deep = format!("{}{}", "[".repeat(11_000), "]".repeat(11_000));
        assert_eq!(values(&deep), Err(NoStrings::NotJson));
    }

    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Another reader of JSON says the same of what is JSON at all, and of the strings.
        #[test]
        fn agrees_with_serde(parts in prop::collection::vec(prop::sample::select(vec![
            "[", "]", "{", "}", ",", ":", "\"a\"", "\"", "\\", "n", "null", "true", "1", "-", "0", ".5", "e2", " ", "\t", "é",
        ]), 0..12), framed in any::<bool>()) {
            let text = if framed { format!("[{}]", parts.concat()) } else { parts.concat() };
            let got = values(&text);
            match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(serde_json::Value::Array(items)) => {
                    let strings: Option<Vec<String>> =
                        items.iter().map(|v| v.as_str().map(str::to_owned)).collect();
                    prop_assert_eq!(got, strings.ok_or(NoStrings::OtherTypes));
                }
                _ => prop_assert_eq!(got, Err(NoStrings::NotJson)),
            }
        }
    }
}
