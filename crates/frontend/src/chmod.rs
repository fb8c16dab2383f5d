//! Values of `--chmod`: octal numbers, and symbolic modes as chmod(1) knows them.

/// A mode of copied files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Octal(u32),
    /// As `u=rwX,go=rX`.
    Symbolic(String),
}

/// Reads a mode that is not empty.
pub(crate) fn parse(text: &str) -> Result<Mode, String> {
    let bad_number =
        || format!("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777");
    if text.bytes().all(|byte| matches!(byte, b'0'..=b'7')) {
        return match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o7777 => Ok(Mode::Octal(mode)),
            _ => Err(bad_number()),
        };
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(bad_number());
    }
    if is_symbolic(text) { Ok(Mode::Symbolic(text.to_owned())) } else { Err("invalid syntax".to_owned()) }
}

/// Whether a text is a list of clauses `[augo]*([-+=][rstwXxugo]*)+`.
fn is_symbolic(text: &str) -> bool {
    text.split(',').all(|clause| {
        let mut rest = clause.trim_start_matches(['a', 'u', 'g', 'o']);
        if rest.is_empty() {
            return false;
        }
        while !rest.is_empty() {
            let Some(permissions) = rest.strip_prefix(['+', '-', '=']) else { return false };
            rest = permissions.trim_start_matches(['r', 's', 't', 'w', 'X', 'x', 'u', 'g', 'o']);
        }
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads() {
        assert_eq!(parse("0644"), Ok(Mode::Octal(0o644)));
        for text in ["u=rwX,go=rX", "+x", "a-w", "go=u-w", "u+s+t", "go="] {
            assert_eq!(parse(text), Ok(Mode::Symbolic(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn refuses() {
        for text in ["8", "10000", "64a", "777777777777777"] {
            assert!(parse(text).unwrap_err().starts_with("invalid chmod parameter: '"), "{text}");
        }
        for text in ["x", "u", "u=rw,", ",u=r", "u=q", "+1", "u=r g=r"] {
            assert_eq!(parse(text).unwrap_err(), "invalid syntax", "{text}");
        }
    }
}
