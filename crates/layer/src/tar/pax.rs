//! Extended header records: `LENGTH KEY=VALUE\n`, where LENGTH counts all bytes of the record, itself included.

use crate::time::Timestamp;

/// Key and value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// Cuts a PAX header into its records. A value may hold any bytes: only the length says where it ends.
pub(super) fn records(mut data: &[u8]) -> Result<Vec<Record<'_>>, &'static str> {
    let mut records = Vec::new();
    while !data.is_empty() {
        // GNU tar and star pad with NULs, as the block is.
        if data.iter().all(|&b| b == 0) {
            break;
        }
        let blank =
            data.iter().take(21).position(|&b| b == b' ').ok_or("extended record without a length")?;
        let digits = data.get(..blank).unwrap_or_default();
        let length = decimal(digits).ok_or("extended record with a bad length")?;
        let length = usize::try_from(length).map_err(|_| "extended record with a bad length")?;
        let (record, rest) = data.split_at_checked(length).ok_or("extended record longer than its header")?;
        data = rest;
        let body = record.get(blank + 1..).and_then(|body| body.strip_suffix(b"\n"));
        let body = body.ok_or("extended record that does not end where it says")?;
        let equals = body.iter().position(|&b| b == b'=').ok_or("extended record without `=`")?;
        let (key, value) =
            (body.get(..equals).unwrap_or_default(), body.get(equals + 1..).unwrap_or_default());
        if key.is_empty() || key.contains(&0) {
            return Err("extended record with a bad key");
        }
        records.push((key, value));
    }
    Ok(records)
}

/// Appends one record.
pub(super) fn put(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // Blank, equals sign and newline.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    loop {
        let total = rest + length.to_string().len();
        if total == length {
            break;
        }
        length = total;
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Reads digits and nothing else.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Reads a time: seconds, possibly negative, with a fraction; digits below nanoseconds are cut off.
pub(super) fn time(text: &[u8]) -> Option<Timestamp> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = digits.splitn(2, |&b| b == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let mut nanos = 0;
    if let Some(fraction) = parts.next() {
        if !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        for at in 0..9 {
            nanos = nanos * 10 + u32::from(fraction.get(at).map_or(0, |digit| digit - b'0'));
        }
    }
    Some(match (negative, nanos) {
        (false, _) => Timestamp::new(seconds, nanos),
        (true, 0) => Timestamp::new(-seconds, 0),
        (true, _) => Timestamp::new(-seconds - 1, 1_000_000_000 - nanos),
    })
}

/// Writes a time as [`time`] reads it, without zeros at the end of a fraction.
pub(super) fn format_time(time: Timestamp) -> String {
    if time.nanos == 0 {
        return time.seconds.to_string();
    }
    let (sign, seconds, nanos) = if time.seconds < 0 {
        ("-", -(time.seconds + 1), 1_000_000_000 - time.nanos)
    } else {
        ("", time.seconds, time.nanos)
    };
    format!("{sign}{seconds}.{nanos:09}").trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_themselves() {
        for size in 0..2000 {
            let value = vec![b'v'; size];
            let mut out = Vec::new();
            put(&mut out, b"k", &value);
            put(&mut out, b"next", b"\n5 a=b\n");
            assert_eq!(records(&out).unwrap(), [(&b"k"[..], &value[..]), (b"next", b"\n5 a=b\n")]);
        }
    }

    #[test]
    fn bad_records() {
        for bad in [
            &b"x"[..],
            b" a=b\n",
            b"6 a=b",
            b"6 a=bx",
            b"7 a=b\n",
            b"5 ab\n",
            b"5 =b\n",
            b"+6 a=b\n",
            b"99999999999999999999 a=b\n",
            b"2 a=b\n",
            b"0 a=b\n",
        ] {
            assert!(records(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        assert_eq!(records(b"6 a=b\n\0\0").unwrap().len(), 1);
    }

    #[test]
    fn times() {
        for (text, seconds, nanos) in [
            ("0", 0, 0),
            ("1.5", 1, 500_000_000),
            ("1.000000001", 1, 1),
            ("-1.5", -2, 500_000_000),
            ("-3", -3, 0),
            ("-0.25", -1, 750_000_000),
        ] {
            let stamp = Timestamp::new(seconds, nanos);
            assert_eq!(time(text.as_bytes()), Some(stamp), "{text}");
            assert_eq!(format_time(stamp), text);
        }
        assert_eq!(time(b"1.0000000019"), Some(Timestamp::new(1, 1)));
        assert_eq!(time(b"7."), Some(Timestamp::new(7, 0)));
        for bad in ["", "-", ".5", "1.x", "1e3", " 1", "99999999999999999999"] {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
        }
    }
}
