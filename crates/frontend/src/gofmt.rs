//! Texts as Go's `fmt` prints them: they stand in image histories and error messages, so digests depend on them.

use std::time::Duration;

/// `%q` of a string.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if printable(c) => out.push(c),
            c if u32::from(c) < 0x80 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if u32::from(c) < 0x10000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// Go's `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space.
fn printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    // Only the first character of a string is escaped for being a combining mark, and Go does not escape those.
    let probe: String = ['a', c].iter().collect();
    let escaped = probe.escape_debug().count();
    escaped == 2 && !c.is_whitespace()
}

/// `%q` of a list of strings.
pub(crate) fn quote_list(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| quote(text)).collect();
    format!("[{}]", quoted.join(" "))
}

/// `%v` of a list of strings.
pub(crate) fn list(list: &[String]) -> String {
    format!("[{}]", list.join(" "))
}

/// A duration as Go prints it: `1h0m0s`, `1.5s`, `20ms`.
pub(crate) fn duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let (unit, digits) = match nanos {
            0..=999 => ("ns", 0),
            1_000..=999_999 => ("\u{b5}s", 3),
            _ => ("ms", 6),
        };
        return format!("{}{unit}", decimal(nanos, digits));
    }
    let seconds = nanos / 1_000_000_000;
    let rest = format!("{}s", decimal(nanos - (seconds - seconds % 60) * 1_000_000_000, 9));
    let minutes = seconds / 60;
    match (minutes / 60, minutes % 60) {
        (0, 0) => rest,
        (0, minutes) => format!("{minutes}m{rest}"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
    }
}

/// `value / 10^digits` without trailing zeros.
fn decimal(value: u128, digits: u32) -> String {
    let scale = 10u128.pow(digits);
    let (whole, fraction) = (value / scale, value % scale);
    if fraction == 0 {
        return whole.to_string();
    }
    let text = format!("{fraction:0width$}", width = digits as usize);
    format!("{whole}.{}", text.trim_end_matches('0'))
}

/// Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Go's `strconv.ParseInt(text, 10, 64)` with its error text.
pub(crate) fn parse_int(text: &str) -> Result<i64, String> {
    number(text, "ParseInt", text.strip_prefix(['+', '-']).unwrap_or(text), || text.parse().ok())
}

/// Go's `strconv.ParseUint(text, 10, 64)` with its error text.
pub(crate) fn parse_uint(text: &str) -> Result<u64, String> {
    number(text, "ParseUint", text, || text.parse().ok())
}

fn number<T>(
    text: &str,
    function: &str,
    digits: &str,
    parse: impl FnOnce() -> Option<T>,
) -> Result<T, String> {
    let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let reason = if valid { "value out of range" } else { "invalid syntax" };
    let parsed = if valid { parse() } else { None };
    parsed.ok_or_else(|| format!("strconv.{function}: parsing {}: {reason}", quote(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_like_go() {
        for (text, expected) in [
            ("a b", r#""a b""#),
            ("\"\\\n\t\x07\x1b", r#""\"\\\n\t\a\x1b""#),
            ("\u{7f}", r#""\x7f""#),
            ("héllo ✓ 日本 👍\u{fe0f}", "\"héllo ✓ 日本 👍\u{fe0f}\""),
            ("\u{a0}\u{200b}\u{e000}", r#""\u00a0\u200b\ue000""#),
            ("\u{e0001}", r#""\U000e0001""#),
        ] {
            assert_eq!(quote(text), expected);
        }
        assert_eq!(quote_list(&["a".into(), "b c".into()]), r#"["a" "b c"]"#);
        assert_eq!(quote_list(&[]), "[]");
    }

    #[test]
    fn durations_like_go() {
        for (nanos, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (20_000_000, "20ms"),
            (1_500_000_000, "1.5s"),
            (30_000_000_000, "30s"),
            (60_000_000_000, "1m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (3_661_001_000_000, "1h1m1.001s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), expected);
        }
    }

    #[test]
    fn numbers_like_go() {
        assert_eq!(parse_int("-12"), Ok(-12));
        assert_eq!(parse_int("+3"), Ok(3));
        assert_eq!(parse_int("x").unwrap_err(), "strconv.ParseInt: parsing \"x\": invalid syntax");
        assert_eq!(
            parse_int("9999999999999999999").unwrap_err(),
            "strconv.ParseInt: parsing \"9999999999999999999\": value out of range"
        );
        assert_eq!(parse_uint("-1").unwrap_err(), "strconv.ParseUint: parsing \"-1\": invalid syntax");
    }
}
