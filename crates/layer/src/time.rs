/// A point in time: seconds since 1970 and the nanoseconds after them. Before 1970 seconds are negative and
/// nanoseconds still count forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01 00:00 UTC, rounded down.
    pub seconds: i64,
    /// Nanoseconds after that, below 1,000,000,000.
    pub nanos: u32,
}

impl Timestamp {
    /// The start of 1970.
    pub const EPOCH: Self = Self { seconds: 0, nanos: 0 };

    /// Makes a point in time; nanoseconds above a second are carried over.
    pub const fn new(seconds: i64, nanos: u32) -> Self {
        let carry = (nanos / 1_000_000_000) as i64;
        Self { seconds: seconds.saturating_add(carry), nanos: nanos % 1_000_000_000 }
    }

    /// Returns the whole second that this point is in.
    #[must_use]
    pub const fn truncated(self) -> Self {
        Self { seconds: self.seconds, nanos: 0 }
    }
}

impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Self {
        match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => Self::new(after.as_secs() as i64, after.subsec_nanos()),
            Err(before) => {
                let before = before.duration();
                let whole = -(before.as_secs() as i64);
                match before.subsec_nanos() {
                    0 => Self::new(whole, 0),
                    nanos => Self::new(whole - 1, 1_000_000_000 - nanos),
                }
            }
        }
    }
}

/// The time in which a step ran; both ends belong to it.
///
/// A file's modification time in this window says only "written by the step" and is left out of
/// [`Index::content_id`](crate::Index::content_id). The start must be read from `CLOCK_REALTIME_COARSE`: kernels
/// stamp files with that clock, which is up to a tick behind the precise one. The end is read from `CLOCK_REALTIME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindow {
    /// The first point.
    pub start: Timestamp,
    /// The last point.
    pub end: Timestamp,
}

impl TimeWindow {
    /// Tells whether a point in time is in the window.
    pub fn contains(&self, time: Timestamp) -> bool {
        self.start <= time && time <= self.end
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn before_1970() {
        let time = UNIX_EPOCH - Duration::from_millis(1500);
        assert_eq!(Timestamp::from(time), Timestamp::new(-2, 500_000_000));
        assert_eq!(Timestamp::from(UNIX_EPOCH - Duration::from_secs(3)), Timestamp::new(-3, 0));
        assert_eq!(Timestamp::from(time).truncated(), Timestamp::new(-2, 0));
        assert_eq!(Timestamp::new(1, 1_500_000_000), Timestamp::new(2, 500_000_000));
    }

    #[test]
    fn window_has_both_ends() {
        let window = TimeWindow { start: Timestamp::new(5, 0), end: Timestamp::new(6, 10) };
        assert!(window.contains(Timestamp::new(5, 0)) && window.contains(Timestamp::new(6, 10)));
        assert!(!window.contains(Timestamp::new(4, 999_999_999)) && !window.contains(Timestamp::new(6, 11)));
    }
}
