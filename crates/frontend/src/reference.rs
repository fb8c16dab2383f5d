//! Names of images, and digests in them, with the error texts that docker's tools print.

use cooper_oci::{Reference, ReferenceError};

/// Reads what a person writes.
pub(crate) fn parse(text: &str) -> Result<Reference, String> {
    Reference::parse_normalized(text).map_err(|error| match (&error, text.rsplit_once('@')) {
        (ReferenceError::Digest(_), Some((_, digest))) => match check_digest(digest) {
            Err(message) => message,
            Ok(()) => error.to_string(),
        },
        _ => error.to_string(),
    })
}

/// Checks the form of a digest, with the texts of Go's digest package.
pub(crate) fn check_digest(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let (algorithm, hex) = match text.split_once(':') {
        Some((algorithm, hex)) if !algorithm.is_empty() && !hex.is_empty() => (algorithm, hex),
        _ => return Err("invalid checksum digest format".to_owned()),
    };
    let letters = algorithm.split(['+', '.', '_', '-']).all(|part| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    });
    let valid = hex.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"=_-".contains(&byte));
    if !letters || !valid {
        return Err("invalid checksum digest format".to_owned());
    }
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err("unsupported digest algorithm".to_owned()),
    };
    if hex.len() != length {
        return Err("invalid checksum digest length".to_owned());
    }
    if !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err("invalid checksum digest format".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests() {
        let hex = "0".repeat(64);
        for (text, expected) in [
            ("", Ok(())),
            (&format!("sha256:{hex}"), Ok(())),
            ("sha256:00", Err("invalid checksum digest length")),
            ("md5:00", Err("unsupported digest algorithm")),
            ("sha256", Err("invalid checksum digest format")),
            (&format!("sha256:{}", hex.replace('0', "A")), Err("invalid checksum digest format")),
        ] {
            assert_eq!(check_digest(text).as_ref().map_err(String::as_str).copied(), expected, "{text}");
        }
        assert_eq!(
            parse("a@sha256:00112233445566778899aabbccddeeff").unwrap_err(),
            "invalid checksum digest length"
        );
        assert_eq!(parse("a").unwrap().to_string(), "docker.io/library/a");
    }
}
