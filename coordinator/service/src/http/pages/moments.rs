//! Times for people: moments to the second in UTC, ages and spans in words.
//!
//! No time zones and no script: everybody reads the same, and what is exact stands in the element
//! for those who point at it.

use maud::{Markup, html};
use openledger_datanets::warc::format_date_ms;
use openledger_wire::UnixMs;

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// `2026-11-22 11:58:03 UTC`.
pub(super) fn moment(at: UnixMs) -> Markup {
    let exact = format_date_ms(at.0);
    let seconds = exact.split('.').next().unwrap_or_default().replace('T', " ");
    html! { time datetime=(exact) title=(exact) { (seconds) " UTC" } }
}

/// `3 min 20 s ago`, with the moment for those who point at it.
pub(super) fn age(at: UnixMs, now: UnixMs) -> Markup {
    let exact = format_date_ms(at.0);
    let words = if at > now {
        format!("in {}", span(at.0.saturating_sub(now.0)))
    } else {
        format!("{} ago", span(now.0.saturating_sub(at.0)))
    };
    html! { time datetime=(exact) title=(exact) { (words) } }
}

/// How long after the first moment: `+2.5 s`.
pub(super) fn after(at: UnixMs, first: UnixMs) -> String {
    format!("+{}", span(at.0.saturating_sub(first.0)))
}

/// `850 ms`, `12.3 s`, `3 min 20 s`, `2 h 5 min`, `3 days 4 h`: two units at most.
pub(super) fn span(ms: u64) -> String {
    let two = |whole_ms: u64, unit: &str, part_ms: u64, part: &str| {
        let (count, rest) = (ms / whole_ms, ms % whole_ms / part_ms);
        if rest == 0 { format!("{count} {unit}") } else { format!("{count} {unit} {rest} {part}") }
    };
    match ms {
        0..SECOND_MS => format!("{ms} ms"),
        SECOND_MS..MINUTE_MS => format!("{}.{} s", ms / SECOND_MS, ms % SECOND_MS / 100),
        MINUTE_MS..HOUR_MS => two(MINUTE_MS, "min", SECOND_MS, "s"),
        HOUR_MS..DAY_MS => two(HOUR_MS, "h", MINUTE_MS, "min"),
        _ => {
            let days = if ms < 2 * DAY_MS { "day" } else { "days" };
            two(DAY_MS, days, HOUR_MS, "h")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well() {
        let spans = [0, 850, 12_340, 60_000, 200_999, 7_500_000, 86_400_000, 273_600_000].map(span);
        let words = ["0 ms", "850 ms", "12.3 s", "1 min", "3 min 20 s", "2 h 5 min", "1 day"];
        assert_eq!(spans[..7], words);
        assert_eq!(spans[7], "3 days 4 h");
        let at = UnixMs(1_795_345_445_678);
        let text = moment(at).into_string();
        assert!(text.contains(">2026-11-22 11:04:05 UTC<"), "{text}");
        assert!(text.contains("datetime=\"2026-11-22T11:04:05.678Z\""), "{text}");
        assert!(age(at, UnixMs(at.0 + 61_000)).into_string().contains(">1 min 1 s ago<"));
        assert!(age(at, UnixMs(at.0 - 2_000)).into_string().contains(">in 2.0 s<"));
        assert_eq!(after(at, UnixMs(at.0 - 2_500)), "+2.5 s");
        assert_eq!(after(at, UnixMs(at.0 + 1)), "+0 ms");
    }
}
