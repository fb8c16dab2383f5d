use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::Limits;

/// Returns whether the same request may succeed a little later.
pub(crate) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// Returns how long a registry asks to wait: seconds, or a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    let wait = date - OffsetDateTime::now_utc();
    Some(Duration::try_from(wait).unwrap_or_default())
}

/// Returns the wait before try number `tried + 1`: doubling, and up to a half longer, so that processes which failed
/// together do not come back together.
pub(crate) fn back_off(limits: &Limits, tried: u32) -> Duration {
    let base =
        limits.first_wait.saturating_mul(1 << tried.saturating_sub(1).min(10)).min(limits.longest_wait);
    let random = RandomState::new().hash_one(tried) % 1000;
    base + base.mul_f64(random as f64 / 2000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_are_bounded() {
        let limits = Limits::default();
        for (tried, low, high) in [(1, 250, 375), (2, 500, 750), (3, 1000, 1500), (40, 60_000, 90_000)] {
            let wait = back_off(&limits, tried).as_millis();
            assert!((low..=high).contains(&wait), "{tried}: {wait}");
        }
    }

    #[test]
    fn reads_seconds_and_dates() {
        let after = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert!(after("Fri, 21 Oct 2095 07:28:00 GMT").unwrap() > Duration::from_secs(3600));
        assert_eq!(after("soon"), None);
        assert_eq!(after("-1"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
