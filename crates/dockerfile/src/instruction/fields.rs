//! Values with a syntax of their own: comma-separated fields, booleans, sizes, durations, numbers.

use crate::quote::go_quote;
use std::borrow::Cow;
use std::time::Duration;

/// Splits one line of comma-separated values; a field may be in double quotes, with `""` for a quote inside.
///
/// # Errors
/// The reason in the words of Go's `encoding/csv`.
pub(super) fn split_list(line: &str) -> Result<Vec<Cow<'_, str>>, String> {
    let line = line.strip_suffix('\n').map_or(line, |l| l.strip_suffix('\r').unwrap_or(l));
    if line.is_empty() {
        return Err("EOF".to_owned());
    }
    let error = |at: usize, what: &str| Err(format!("parse error on line 1, column {}: {what}", at + 1));
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        let rest = line.get(at..).unwrap_or_default();
        let Some(quoted) = rest.strip_prefix('"') else {
            let len = rest.find(',').unwrap_or(rest.len());
            let (field, after) = rest.split_at(len);
            if let Some(quote) = field.find('"') {
                return error(at + quote, "bare \" in non-quoted-field");
            }
            fields.push(Cow::Borrowed(field));
            if after.is_empty() {
                return Ok(fields);
            }
            at += len + 1;
            continue;
        };
        at += 1;
        let mut field = String::new();
        let mut rest = quoted;
        loop {
            let Some(quote) = rest.find('"') else {
                return error(at, "extraneous or missing \" in quoted-field");
            };
            let (text, after) = rest.split_at(quote);
            field.push_str(text);
            at += quote + 1;
            rest = after.get(1..).unwrap_or_default();
            match rest.bytes().next() {
                Some(b'"') => {
                    field.push('"');
                    rest = rest.get(1..).unwrap_or_default();
                    at += 1;
                }
                Some(b',') => {
                    at += 1;
                    break;
                }
                None => {
                    fields.push(Cow::Owned(field));
                    return Ok(fields);
                }
                Some(_) => return error(at - 1, "extraneous or missing \" in quoted-field"),
            }
        }
        fields.push(Cow::Owned(field));
    }
}

/// Reads a boolean in the spellings that Go's `strconv.ParseBool` takes.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Reads an unsigned number of 32 bits: digits only, no sign.
pub(super) fn parse_u32(text: &str, radix: u32) -> Option<u32> {
    if text.starts_with('+') {
        return None;
    }
    u32::from_str_radix(text, radix).ok()
}

/// Reads a signed decimal number of 32 bits.
///
/// # Errors
/// The reason in Go's words.
pub(super) fn parse_i32(text: &str) -> Result<i32, &'static str> {
    use std::num::IntErrorKind as Kind;
    text.parse::<i32>().map_err(|e| match e.kind() {
        Kind::PosOverflow | Kind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    })
}

/// Reads a size with an optional binary suffix: `64m`, `1.5 GiB`, `100`. Bytes.
pub fn parse_size(text: &str) -> Option<i64> {
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')?;
    let (number, suffix) = text.split_at(last + 1);
    // At most one blank separates the number from its suffix.
    let number = number.strip_suffix(' ').unwrap_or(number);
    let size: f64 = number.parse().ok()?;
    if size < 0.0 {
        return None;
    }
    let suffix = suffix.to_lowercase();
    let shift = match suffix.as_bytes() {
        [] | [b'b'] => 0,
        [unit] | [unit, b'b'] | [unit, b'i', b'b'] => match unit {
            b'k' => 10,
            b'm' => 20,
            b'g' => 30,
            b't' => 40,
            b'p' => 50,
            _ => return None,
        },
        _ => return None,
    };
    Some((size * (1u64 << shift) as f64) as i64)
}

/// Reads a duration as Go writes it: `1h2m3.5s`, `-5ms`, `0`. Nanoseconds.
///
/// # Errors
/// The reason in Go's words, without the `time: ` before it.
pub(super) fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid duration {}", go_quote(text.as_bytes()));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = split_digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split_digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_len = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        if unit.is_empty() {
            return Err(format!("missing unit in duration {}", go_quote(text.as_bytes())));
        }
        let Some(scale) = unit_ns(unit) else {
            let (unit, text) = (go_quote(unit.as_bytes()), go_quote(text.as_bytes()));
            return Err(format!("unknown unit {unit} in duration {text}"));
        };
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        let mut part = whole.checked_mul(scale).ok_or_else(invalid)?;
        if !fraction.is_empty() {
            part = part.checked_add(fraction_ns(fraction, scale)).ok_or_else(invalid)?;
        }
        total = total.checked_add(part).filter(|t| *t <= 1 << 63).ok_or_else(invalid)?;
        rest = after;
    }
    if negative {
        return Ok((total as i64).wrapping_neg());
    }
    i64::try_from(total).map_err(|_| invalid())
}

/// Turns nanoseconds that are not negative into a duration.
pub(super) fn to_duration(ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn unit_ns(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        // Both the micro sign and the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Digits after the point, in units of `scale`; digits that do not fit 63 bits are dropped, as Go does.
fn fraction_ns(digits: &str, scale: u64) -> u64 {
    let (mut value, mut divisor) = (0u64, 1f64);
    for digit in digits.bytes() {
        let next = value.checked_mul(10).and_then(|v| v.checked_add(u64::from(digit - b'0')));
        match next.filter(|v| *v <= 1 << 63) {
            Some(next) => value = next,
            None => break,
        }
        divisor *= 10.0;
    }
    (value as f64 * (scale as f64 / divisor)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let ok = |s: &str| split_list(s).map(|f| f.join("|"));
        for (text, want) in [
            ("a", "a"),
            ("a,b=c", "a|b=c"),
            ("a,,b,", "a||b|"),
            ("\"a,b\",c", "a,b|c"),
            ("\"a\"\"b\",\"\"", "a\"b|"),
            ("a\r\n", "a"),
            ("é,\"ü\"", "é|ü"),
        ] {
            assert_eq!(ok(text).as_deref(), Ok(want), "{text}");
        }
        for (text, want) in [
            ("", "EOF"),
            ("\n", "EOF"),
            ("a,b\"c", "parse error on line 1, column 4: bare \" in non-quoted-field"),
            ("\"a", "parse error on line 1, column 2: extraneous or missing \" in quoted-field"),
            ("\"a\"b", "parse error on line 1, column 3: extraneous or missing \" in quoted-field"),
        ] {
            assert_eq!(ok(text), Err(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, want) in [
            ("0", Some(0)),
            ("100", Some(100)),
            ("32b", Some(32)),
            ("64k", Some(65536)),
            ("1KB", Some(1024)),
            ("1.5 GiB", Some(1_610_612_736)),
            ("1e3", Some(1000)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1kx", None),
            ("1kbs", None),
            ("1bb", None),
            ("1  k", None),
            ("1x", None),
        ] {
            assert_eq!(parse_size(text), want, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, want) in [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("1h2m3.5s", 3_723_500_000_000),
            ("-1.5ms", -1_500_000),
            ("+3us", 3_000),
            ("3\u{b5}s4ns", 3_004),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("0.3333333333333333333h", 1_200_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(want), "{text}");
        }
        for (text, want) in [
            ("", r#"invalid duration """#),
            ("-", r#"invalid duration "-""#),
            (".s", r#"invalid duration ".s""#),
            ("3", r#"missing unit in duration "3""#),
            ("3x", r#"unknown unit "x" in duration "3x""#),
            ("9999999999999999999s", r#"invalid duration "9999999999999999999s""#),
            ("3000000h", r#"invalid duration "3000000h""#),
        ] {
            assert_eq!(parse_duration(text), Err(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(parse_u32("755", 8), Some(0o755));
        for bad in ["", "+1", "-1", "8", "40000000000"] {
            assert_eq!(parse_u32(bad, 8), None, "{bad}");
        }
        assert_eq!(parse_i32("-3"), Ok(-3));
        assert_eq!(parse_i32("x"), Err("invalid syntax"));
        assert_eq!(parse_i32("99999999999"), Err("value out of range"));
    }
}
