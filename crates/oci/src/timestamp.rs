use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment as image JSON writes it: RFC 3339 with as many digits of a second as are needed, `Z` for UTC.
///
/// A time read with another offset keeps it. Comparing compares moments.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(OffsetDateTime);

/// Why a text or number is not a [`Timestamp`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time (expected RFC 3339, as `2024-05-01T12:00:00Z`, of the years 0 to 9999)")]
pub struct TimestampError(String);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(OffsetDateTime::UNIX_EPOCH);

    /// Makes a time from nanoseconds since 1970.
    ///
    /// # Errors
    ///
    /// If the year has more than four digits, which RFC 3339 cannot write.
    pub fn from_unix_nanos(nanos: i128) -> Result<Self, TimestampError> {
        let bad = || TimestampError(nanos.to_string());
        let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| bad())?;
        if (0..=9999).contains(&time.year()) { Ok(Self(time)) } else { Err(bad()) }
    }

    /// Makes a time from whole seconds since 1970, as `SOURCE_DATE_EPOCH` has them.
    ///
    /// # Errors
    ///
    /// As [`Timestamp::from_unix_nanos`].
    pub fn from_unix_seconds(seconds: i64) -> Result<Self, TimestampError> {
        Self::from_unix_nanos(i128::from(seconds) * 1_000_000_000)
    }

    /// Returns nanoseconds since 1970.
    pub fn unix_nanos(self) -> i128 {
        self.0.unix_timestamp_nanos()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let bad = || TimestampError(text.to_owned());
        let time = Self(OffsetDateTime::parse(text, &Rfc3339).map_err(|_| bad())?);
        // An offset may push the year below 0, which reads but does not print.
        if time.0.format(&Rfc3339).is_ok() { Ok(time) } else { Err(bad()) }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_go_does() {
        for (text, printed) in [
            ("2020-01-02T03:04:05Z", "2020-01-02T03:04:05Z"),
            ("2020-01-02T03:04:05.120000000Z", "2020-01-02T03:04:05.12Z"),
            ("2020-01-02T03:04:05.000000001Z", "2020-01-02T03:04:05.000000001Z"),
            ("2020-01-02T03:04:05.000Z", "2020-01-02T03:04:05Z"),
            ("2020-01-02T03:04:05+00:00", "2020-01-02T03:04:05Z"),
            ("2020-01-02T03:04:05.5-07:30", "2020-01-02T03:04:05.5-07:30"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), printed);
        }
        for text in ["", "2020-01-02", "2020-13-02T03:04:05Z", "yesterday"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(Timestamp::from_unix_seconds(0), Ok(Timestamp::EPOCH));
        assert_eq!(Timestamp::from_unix_seconds(1_577_934_245).unwrap().to_string(), "2020-01-02T03:04:05Z");
        assert!(Timestamp::from_unix_seconds(i64::MAX).is_err());
        assert!(Timestamp::from_unix_nanos(i128::MIN).is_err());
        assert_eq!(Timestamp::EPOCH.unix_nanos(), 0);
    }
}
