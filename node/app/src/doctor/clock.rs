//! This machine's clock against those of others.
//!
//! The coordinator's clock decides, since its leases have deadlines. Where it does not answer, the
//! chain's newest block bounds the clock from one side: a block is never from the future.

use openledger_datanets::warc::parse_date_ms;
use openledger_web::doctor::Finding;
use openledger_wire::UnixMs;
use openledger_wire::profile::Profile;

use super::examine::Patient;
use super::outside::Heard;
use crate::limits;
use crate::time;

const CODE: &str = "clock";

/// Another clock against ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// This clock less the other, in milliseconds.
    ahead_ms: i64,
    /// How much that may be off: half the time that the answer took, and the other's rounding.
    unsure_ms: u64,
}

impl Reading {
    /// The other clock said `theirs` somewhere between two moments of ours.
    pub(super) fn new(before: UnixMs, after: UnixMs, theirs: u64, rounding_ms: u64) -> Self {
        let half = after.0.saturating_sub(before.0) / 2;
        let ours = i128::from(before.0) + i128::from(half);
        let ahead = ours - i128::from(theirs);
        let bound = i128::from(i64::MAX);
        Self {
            ahead_ms: i64::try_from(ahead.clamp(-bound, bound)).unwrap_or_default(),
            unsure_ms: half.saturating_add(rounding_ms),
        }
    }

    /// By how much it is off for sure.
    fn off_ms(self) -> u64 {
        self.ahead_ms.unsigned_abs().saturating_sub(self.unsure_ms)
    }
}

/// Judges by the best clock that was heard.
pub(super) fn judge(patient: &Patient, profile: &Profile, heard: &Heard) -> Finding {
    let api = heard.api.answer.as_ref().ok().and_then(|answer| answer.clock);
    if let Some(reading) = api {
        return judge_reading(reading, "the coordinator's");
    }
    let running = patient.running.as_ref();
    if let Some(ahead_ms) = running.and_then(|running| running.clock_ahead_ms(&profile.name)) {
        return judge_reading(Reading { ahead_ms, unsure_ms: 0 }, "the coordinator's");
    }
    let block_s = heard.chain.iter().filter_map(super::chain::Endpoint::block_s).max();
    match block_s {
        // A local chain's time may be moved at will.
        Some(block_s) if !profile.is_local() => judge_block(block_s, time::now()),
        _ => Finding::skipped(CODE, "not known: nobody who knows the time answers"),
    }
}

fn judge_reading(reading: Reading, whose: &str) -> Finding {
    let ahead = if reading.ahead_ms >= 0 { "ahead of" } else { "behind" };
    let off = reading.ahead_ms.unsigned_abs();
    let seconds = format!("{}.{}", off / 1_000, off / 100 % 10);
    let found = format!("this machine's clock is {seconds} s {ahead} {whose}");
    if reading.off_ms() <= limits::CLOCK_SKEW_MS_MAX {
        return Finding::fine(CODE, format!("agrees with {whose} within {} s", off / 1_000 + 1));
    }
    let cause = "the time is not kept by NTP, or was set by hand; leases are missed by as much";
    if reading.off_ms() > limits::DELEGATION_EARLY_MS {
        let cause =
            format!("{cause}, and what this node signs seems not to be valid yet, or any more");
        return Finding::error(CODE, found, cause, mend());
    }
    Finding::warning(CODE, found, cause, mend())
}

fn judge_block(block_s: u64, now: UnixMs) -> Finding {
    let block_ms = block_s.saturating_mul(1_000);
    let behind_ms = block_ms.saturating_sub(now.0);
    if behind_ms <= limits::BLOCK_EARLY_MS_MAX {
        return Finding::fine(CODE, "is not behind the chain's newest block");
    }
    let found = format!(
        "this machine's clock is at least {} s behind the chain's newest block",
        behind_ms / 1_000
    );
    let cause = "the time is not kept by NTP, or was set by hand";
    if behind_ms > limits::DELEGATION_EARLY_MS {
        return Finding::error(CODE, found, cause, mend());
    }
    Finding::warning(CODE, found, cause, mend())
}

fn mend() -> &'static str {
    if cfg!(target_os = "macos") {
        "`sudo sntp -sS time.apple.com`, and switch on \"Set time and date automatically\""
    } else {
        "`sudo timedatectl set-ntp true` (in a container, on its host), then look at `timedatectl`"
    }
}

/// Reads an HTTP date (RFC 9110 section 5.6.7), `Sun, 06 Nov 1994 08:49:37 GMT`, as milliseconds
/// since 1970. The two obsolete forms are not read.
pub(super) fn date_ms(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, date) = text.split_once(", ")?;
    let mut parts = date.strip_suffix(" GMT")?.split(' ');
    let (day, month) = (parts.next()?, parts.next()?);
    let (year, clock) = (parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    parse_date_ms(&format!("{year}-{month:02}-{day}T{clock}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_web::doctor::Severity;

    #[test]
    fn http_dates_are_read() {
        assert_eq!(date_ms("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000));
        for bad in ["", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT"] {
            assert_eq!(date_ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_slow_answer_is_no_wrong_clock() {
        let at = UnixMs(1_000_000_000);
        let slow = Reading::new(at, at.plus_ms(12_000), at.0, 500);
        assert_eq!((slow.ahead_ms, slow.off_ms()), (6_000, 0));
        let severity = |theirs| judge_reading(Reading::new(at, at, theirs, 0), "theirs").severity;
        assert_eq!(severity(at.0 - 5_000), Severity::Fine);
        assert_eq!(severity(at.0 - 5_001), Severity::Warning);
        assert_eq!(severity(at.0 + 42_000), Severity::Warning);
        assert_eq!(severity(at.0 + 3_600_000), Severity::Error);
        let finding = judge_reading(Reading::new(at, at, at.0 + 42_300, 0), "theirs");
        assert_eq!(finding.found, "this machine's clock is 42.3 s behind theirs");
        assert!(Reading::new(at, at, u64::MAX, 0).off_ms() > 1 << 60);
    }

    #[test]
    fn a_block_from_the_future_shows_a_clock_that_is_behind() {
        let now = UnixMs(1_000_000_000);
        assert_eq!(judge_block(999_000, now).severity, Severity::Fine);
        assert_eq!(judge_block(1_000_020, now).severity, Severity::Fine);
        assert_eq!(judge_block(1_000_100, now).severity, Severity::Warning);
        assert_eq!(judge_block(1_010_000, now).severity, Severity::Error);
    }
}
