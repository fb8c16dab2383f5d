//! Sizes as people write them, and how much of a disk a store may take.

use std::path::Path;
use std::str::FromStr;

use crate::error::Error;

/// How much a store may take on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxUsed {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the file system that the store is on.
    Percent(u8),
    /// As much as there is.
    Unbounded,
}

impl Default for MaxUsed {
    /// Three fifths of the disk: what BuildKit takes at most.
    fn default() -> Self {
        Self::Percent(60)
    }
}

impl FromStr for MaxUsed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no size (as 20GB, 512MiB, 40% or none)");
        if text == "none" {
            return Ok(Self::Unbounded);
        }
        match text.strip_suffix('%') {
            Some(number) => {
                let percent = number.trim().parse().ok().filter(|percent| (1..=100).contains(percent));
                percent.map(Self::Percent).ok_or_else(bad)
            }
            None => parse_size(text).map(Self::Bytes).ok_or_else(bad),
        }
    }
}

impl MaxUsed {
    /// Returns it in bytes, for a store in a folder that may not be there yet; `None`: no bound.
    ///
    /// # Errors
    ///
    /// If the file system cannot be asked how large it is.
    pub fn bytes(self, root: &Path) -> Result<Option<u64>, Error> {
        match self {
            Self::Bytes(bytes) => Ok(Some(bytes)),
            Self::Unbounded => Ok(None),
            Self::Percent(percent) => {
                let (size, _) = disk(root)?;
                Ok(Some((u128::from(size) * u128::from(percent) / 100).try_into().unwrap_or(u64::MAX)))
            }
        }
    }
}

/// Returns the size of the file system that a path is on, or would be, and what is free for this user, in bytes.
///
/// # Errors
///
/// If it cannot be asked.
pub fn disk(path: &Path) -> Result<(u64, u64), Error> {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let found = rustix::fs::statvfs(there).map_err(|error| Error::Io {
        action: "ask for the size of the disk of",
        path: there.to_owned(),
        error: error.into(),
    })?;
    Ok((found.f_blocks.saturating_mul(found.f_frsize), found.f_bavail.saturating_mul(found.f_frsize)))
}

/// Reads a size as `500MB`, `20 GiB` or a number of bytes. As on disks, `k`, `M`, `G`, `T` are thousands; with an `i` they are
/// powers of 1024.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let number: f64 = number.parse().ok()?;
    let unit = unit.trim();
    let (base, unit) = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('i')) {
        Some(unit) => (1024.0, unit),
        None => (1000.0, unit.strip_suffix('b').unwrap_or(unit)),
    };
    let power = ["", "k", "m", "g", "t"].iter().position(|known| *known == unit)?;
    let bytes = number * f64::powi(base, i32::try_from(power).ok()?);
    (bytes.is_finite() && bytes < 9e18).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("7", 7),
            ("500MB", 500_000_000),
            ("1.5 GiB", 3 << 29),
            ("2k", 2000),
            ("0b", 0),
            ("3Gi", 3 << 30),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "MB", "-1", "5x", "1e9", "1..2", "99999999T"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn shares() {
        assert_eq!("40%".parse(), Ok(MaxUsed::Percent(40)));
        assert_eq!("none".parse(), Ok(MaxUsed::Unbounded));
        for text in ["0%", "101%", "%", "x", ""] {
            assert!(text.parse::<MaxUsed>().is_err(), "{text}");
        }
        let (size, free) = disk(Path::new("/tmp/is/not/there")).unwrap();
        assert!(0 < free && free <= size);
        let all = MaxUsed::Percent(100).bytes(Path::new("/tmp")).unwrap();
        assert_eq!(all, Some(size));
        assert_eq!(MaxUsed::Unbounded.bytes(Path::new("/tmp")).unwrap(), None);
    }
}
