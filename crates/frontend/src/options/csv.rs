//! One line of comma-separated values with Go's error texts.

/// Splits a line into fields; a field may be quoted.
pub(super) fn fields(line: &str) -> Result<Vec<String>, String> {
    let line = line.strip_suffix("\r\n").or_else(|| line.strip_suffix('\n')).unwrap_or(line);
    if line.is_empty() {
        return Err("EOF".to_owned());
    }
    let error = |rest: &str, what: &str| {
        // The position is that of the offending byte, counted from 1.
        format!("parse error on line 1, column {}: {what}", line.len() - rest.len() + 1)
    };
    let mut out = Vec::new();
    let mut rest = line;
    loop {
        let Some(mut quoted) = rest.strip_prefix('"') else {
            let (field, more) = match rest.split_once(',') {
                Some((field, more)) => (field, Some(more)),
                None => (rest, None),
            };
            if let Some(at) = field.find('"') {
                return Err(error(rest.get(at..).unwrap_or_default(), "bare \" in non-quoted-field"));
            }
            out.push(field.to_owned());
            match more {
                Some(more) => rest = more,
                None => return Ok(out),
            }
            continue;
        };
        let mut field = String::new();
        loop {
            let Some((text, after)) = quoted.split_once('"') else {
                return Err(error(quoted, "extraneous or missing \" in quoted-field"));
            };
            field.push_str(text);
            if let Some(more) = after.strip_prefix('"') {
                field.push('"');
                quoted = more;
                continue;
            }
            out.push(field);
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None if after.is_empty() => return Ok(out),
                None => {
                    let at = quoted.get(text.len()..).unwrap_or_default();
                    return Err(error(at, "extraneous or missing \" in quoted-field"));
                }
            }
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn splits() {
        for (line, expected) in [
            ("a,b", vec!["a", "b"]),
            ("a,", vec!["a", ""]),
            ("\"a,b\",c\n", vec!["a,b", "c"]),
            ("\"a\"\"b\"", vec!["a\"b"]),
            ("\"\"", vec![""]),
        ] {
            assert_eq!(fields(line).unwrap(), expected);
        }
    }

    #[test]
    fn refuses() {
        for (line, message) in [
            ("", "EOF"),
            ("a,b\"c", "parse error on line 1, column 4: bare \" in non-quoted-field"),
            ("\"a", "parse error on line 1, column 2: extraneous or missing \" in quoted-field"),
            ("\"a\"b", "parse error on line 1, column 3: extraneous or missing \" in quoted-field"),
        ] {
            assert_eq!(fields(line).unwrap_err(), message);
        }
    }
}
