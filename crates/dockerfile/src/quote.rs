//! Go's quoting of texts (`%q`), which BuildKit's dumps and messages use.

use std::fmt::Write as _;

/// Quotes bytes as Go's `%q` does: escapes for control characters and what is not printable, `\xNN` for bytes that
/// are not UTF-8.
///
/// ```
/// assert_eq!(cooper_dockerfile::go_quote("a\t\"é\u{200b}".as_bytes()), r#""a\t\"é\u200b""#);
/// assert_eq!(cooper_dockerfile::go_quote(b"\xff"), r#""\xff""#);
/// ```
pub fn go_quote(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_char(&mut out, c);
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

fn push_char(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        c if is_print(c) => out.push(c),
        c if c < ' ' || c == '\u{7f}' => {
            let _ = write!(out, "\\x{:02x}", u32::from(c));
        }
        c if u32::from(c) < 0x1_0000 => {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        }
        c => {
            let _ = write!(out, "\\U{:08x}", u32::from(c));
        }
    }
}

/// Whether Go counts a character as printable: letters, marks, numbers, punctuation, symbols and the ASCII space.
fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    // The standard library's debug form escapes just what is not printable, and combining marks only at the start
    // of a text: so ask it about the second character.
    let mut buffer = [b'a'; 5];
    let len = 1 + c.encode_utf8(&mut buffer[1..]).len();
    let text = std::str::from_utf8(&buffer[..len]).unwrap_or_default();
    text.escape_debug().nth(1) == Some(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable() {
        for c in ['a', ' ', 'é', '한', '\u{301}', '😀', '¡', '\u{fffd}'] {
            assert!(is_print(c), "{c:?}");
        }
        for c in ['\u{a0}', '\u{200b}', '\u{feff}', '\u{e000}', '\u{2028}', '\u{85}', '\u{10ffff}', '\u{ad}']
        {
            assert!(!is_print(c), "{c:?}");
        }
    }

    #[test]
    fn escapes() {
        for (text, want) in [
            (&b""[..], r#""""#),
            (b"\x00\x1b\x7f", r#""\x00\x1b\x7f""#),
            ("\u{a0}\u{e0001}".as_bytes(), r#""\u00a0\U000e0001""#),
            (b"a\xffb\xc3", r#""a\xffb\xc3""#),
            (b"'`", r#""'`""#),
        ] {
            assert_eq!(go_quote(text), want);
        }
    }
}
