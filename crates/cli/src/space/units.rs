//! Sizes, durations and ages as people write and read them.

use std::time::Duration;

use cooper_engine::MaxUsed;

/// Reads a size or a share of the disk, for a flag.
pub(crate) fn max_used(text: &str) -> Result<MaxUsed, String> {
    text.parse()
}

/// Reads a duration as Go writes it, `1h30m`, and days and weeks too: `7d`, `2w`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is no duration (as 90s, 24h, 7d)");
    let mut rest = text.trim();
    let mut sum = 0.0;
    if rest.is_empty() {
        return Err(bad());
    }
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    while !rest.is_empty() {
        let (number, after) =
            rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len()));
        let (unit, after) =
            after.split_at(after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len()));
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return Err(bad()),
        };
        sum += number.parse::<f64>().map_err(|_| bad())? * seconds;
        rest = after;
    }
    Duration::try_from_secs_f64(sum).map_err(|_| bad())
}

/// Writes a size with four digits at most, in units of a thousand, as `docker` does: `1.234GB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // 999.96 would be written with five digits.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let unit_name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 {
        return format!("{bytes}{unit_name}");
    }
    let places = if value < 10.0 {
        3
    } else if value < 100.0 {
        2
    } else {
        1
    };
    let text = format!("{value:.places$}");
    format!("{}{unit_name}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Writes how long ago a time was, roughly.
pub(crate) fn age(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0 => return "just now".to_owned(),
        1..=59 => (seconds, "second"),
        60..=3599 => (seconds / 60, "minute"),
        3600..=172_799 => (seconds / 3600, "hour"),
        172_800..=1_209_599 => (seconds / 86_400, "day"),
        1_209_600..=5_183_999 => (seconds / 604_800, "week"),
        5_184_000..=63_071_999 => (seconds / 2_592_000, "month"),
        _ => (seconds / 31_536_000, "year"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("90s", 90.0),
            ("1h30m", 5400.0),
            ("7d", 604_800.0),
            ("1.5h", 5400.0),
            ("250ms", 0.25),
            ("0", 0.0),
        ] {
            assert_eq!(duration(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for text in ["", "5", "h", "1x", "-1h", "1h2", "1..2s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (4096, "4.096kB"),
            (123_456_789, "123.5MB"),
            (999_960, "1MB"),
            (20_000_000_000, "20GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn ages() {
        for (seconds, text) in [
            (0, "just now"),
            (1, "1 second ago"),
            (119, "1 minute ago"),
            (7200, "2 hours ago"),
            (172_800, "2 days ago"),
            (70_000_000, "2 years ago"),
        ] {
            assert_eq!(age(seconds), text);
        }
    }
}
