//! How fast tokens are run, by the caller's clock, and when a caller that was turned away may ask
//! again.
//!
//! There is no clock here: who drives the engine says what time it is ([`crate::Engine::set_now`]).
//! Time in which there was nothing to run does not count.

use crate::limits::{PACE_WINDOW_MS, RETRY_MS_MAX, RETRY_MS_MIN, RETRY_MS_UNKNOWN};

/// Tokens and the time that they took.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    now_ms: u64,
    /// Tokens of steps whose end has not been timed yet.
    untimed: u64,
    tokens: u64,
    ms: u64,
}

impl Pace {
    /// The time that was said last.
    pub(crate) const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// It is so late now; time does not go back.
    pub(crate) fn set_now(&mut self, now_ms: u64) {
        let elapsed = now_ms.saturating_sub(self.now_ms);
        let known = self.now_ms > 0;
        self.now_ms = self.now_ms.max(now_ms);
        if self.untimed == 0 || !known {
            return;
        }
        self.tokens += core::mem::take(&mut self.untimed);
        self.ms += elapsed;
        if self.ms > PACE_WINDOW_MS {
            self.tokens /= 2;
            self.ms /= 2;
        }
    }

    /// A step ran so many tokens; `goes_on` says whether another follows at once.
    pub(crate) const fn ran(&mut self, tokens: usize, goes_on: bool) {
        self.untimed = if goes_on { self.untimed + tokens as u64 } else { 0 };
    }

    /// How long so many tokens take, within what is sensible to tell a caller, in milliseconds.
    pub(crate) fn retry_after_ms(&self, tokens: u64) -> u64 {
        if self.tokens == 0 || self.ms == 0 {
            return RETRY_MS_UNKNOWN;
        }
        let ms = u128::from(tokens) * u128::from(self.ms) / u128::from(self.tokens);
        u64::try_from(ms).unwrap_or(u64::MAX).clamp(RETRY_MS_MIN, RETRY_MS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_with_something_to_run_counts() {
        let mut pace = Pace::default();
        assert_eq!(pace.retry_after_ms(1_000), RETRY_MS_UNKNOWN);
        pace.set_now(5_000);
        pace.ran(100, true);
        pace.set_now(5_200);
        assert_eq!(pace.retry_after_ms(1_000), 2_000);
        // The last step of all, then a long rest.
        pace.ran(100, false);
        pace.set_now(1_000_000);
        assert_eq!(pace.retry_after_ms(1_000), 2_000);
        pace.ran(100, true);
        pace.set_now(900_000);
        assert_eq!(pace.now_ms(), 1_000_000, "time does not go back");
        assert_eq!(pace.retry_after_ms(1_000), 1_000);
        assert_eq!(pace.retry_after_ms(0), RETRY_MS_MIN);
        assert_eq!(pace.retry_after_ms(u64::MAX), RETRY_MS_MAX);
    }

    #[test]
    fn what_was_long_ago_counts_less_and_less() {
        let mut pace = Pace::default();
        pace.set_now(1);
        let mut now = 1;
        for tokens in [1_000, 10] {
            for _ in 0..100 {
                pace.ran(tokens, true);
                now += 1_000;
                pace.set_now(now);
            }
        }
        let ms = pace.retry_after_ms(20);
        assert!((1_500..=2_000).contains(&ms), "{ms}: ten tokens a second of late");
    }
}
