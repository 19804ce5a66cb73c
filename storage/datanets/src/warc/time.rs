//! Dates of WARC records: milliseconds since 1970 to and from
//! `2026-11-22T11:00:00.123Z` (the W3C profile of ISO 8601, UTC only).
//!
//! Civil dates are computed with the era method of Howard Hinnant ("chrono-
//! compatible low-level date algorithms"), exact for the proleptic Gregorian
//! calendar.

const DAY_MS: u64 = 86_400_000;

/// The latest moment that has a four-digit year: the end of 9999.
const LAST_MS: u64 = 253_402_300_799_999;

/// Formats a moment; ones after the year 9999 give its last millisecond.
pub fn format_date_ms(ms: u64) -> String {
    let ms = ms.min(LAST_MS);
    let (year, month, day) = civil(ms / DAY_MS);
    let rest = ms % DAY_MS;
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, milli) = (rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Reads a date with seconds and up to nine decimals; finer parts are cut off.
/// `None` for anything else, and for dates before 1970.
pub fn parse_date_ms(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let plain = year >= 1970 && hour < 24 && minute < 60 && second < 60;
    let decimals =
        (1..=9).contains(&fraction.len()) && fraction.bytes().all(|b| b.is_ascii_digit());
    if !plain || !decimals {
        return None;
    }
    let days = days_since_1970(year, month, day)?;
    let milli = format!("{fraction:0<3}").get(..3)?.parse::<u64>().ok()?;
    Some(days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1_000 + milli)
}

fn numbers(text: &str, separator: char, widths: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(separator);
    let mut values = [0; 3];
    for (value, width) in values.iter_mut().zip(widths) {
        let part = parts.next().filter(|part| part.len() == width)?;
        *value = part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(values)
}

/// Year, month and day of a day number since 1970. Years start in March inside,
/// so that the leap day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// The inverse of [`civil`]; `None` for a day that does not exist.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let shifted = year - u64::from(month <= 2);
    let (era, year_of_era) = (shifted / 400, shifted % 400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    (civil(days) == (year, month, day)).then_some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_345_445_678, "2026-11-22T11:04:05.678Z"),
            (LAST_MS, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(format_date_ms(ms), text);
            assert_eq!(parse_date_ms(text), Some(ms));
        }
        assert_eq!(format_date_ms(u64::MAX), "9999-12-31T23:59:59.999Z");
        assert_eq!(parse_date_ms("2000-02-29T00:00:00Z"), Some(951_782_400_000));
        assert_eq!(parse_date_ms("1970-01-01T00:00:00.0019Z"), Some(1));
    }

    #[test]
    fn every_day_of_eight_centuries_comes_back() {
        for day in 0..292_194 {
            let (year, month, date) = civil(day);
            assert_eq!(days_since_1970(year, month, date), Some(day));
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "2026-11-22",
            "2026-11-22T11:04:05",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-1-01T00:00:00Z",
            "+026-11-22T00:00:00Z",
            "1969-12-31T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T00:00:00.Z",
        ] {
            assert_eq!(parse_date_ms(text), None, "{text}");
        }
    }
}
