use cooper_layer::Timestamp;

const SECOND: i64 = 1_000_000_000;

/// Returns nanoseconds since 1970, as the database has them: exact from 1678 to 2262, clamped outside.
pub(crate) fn to_sql(time: Timestamp) -> i64 {
    time.seconds.saturating_mul(SECOND).saturating_add(i64::from(time.nanos))
}

pub(crate) fn from_sql(nanos: i64) -> Timestamp {
    Timestamp::new(nanos.div_euclid(SECOND), nanos.rem_euclid(SECOND) as u32)
}

pub(crate) fn now() -> i64 {
    to_sql(std::time::SystemTime::now().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for time in [Timestamp::new(0, 0), Timestamp::new(-2, 500_000_000), Timestamp::new(1_700_000_000, 1)]
        {
            assert_eq!(from_sql(to_sql(time)), time);
        }
    }
}
