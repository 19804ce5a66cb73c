//! The machine's clock; everything below takes time as an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openledger_wire::UnixMs;

/// Now, by this machine's clock.
#[must_use]
pub fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Now, in seconds.
#[must_use]
pub fn now_s() -> u64 {
    now().0 / 1_000
}

/// From `now` to `until`; zero if that has passed.
#[must_use]
pub fn left(now: UnixMs, until: UnixMs) -> Duration {
    Duration::from_millis(until.0.saturating_sub(now.0))
}

/// A time of day for people: `2026-11-22 11:58:03` UTC, without a time zone library.
#[must_use]
pub fn utc(at: UnixMs) -> String {
    let text = openledger_datanets::warc::format_date_ms(at.0);
    let text = text.trim_end_matches('Z').replace('T', " ");
    text.split('.').next().unwrap_or_default().to_owned()
}

/// A span for people: `850 ms`, `12 s`, `3 min`, `5 h`, `2 days`.
#[must_use]
pub fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} days", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well() {
        assert_eq!(utc(UnixMs(0)), "1970-01-01 00:00:00");
        let spans: Vec<_> = [5, 5_000, 300_000, 7_200_000, 200_000_000].map(span).to_vec();
        assert_eq!(spans, ["5 ms", "5 s", "5 min", "2 h", "2 days"]);
        assert_eq!(left(UnixMs(5), UnixMs(3)), Duration::ZERO);
    }
}
