//! When a process that died may be started again: later each time, unless the last one did well.
//!
//! Only the reckoning; whoever starts processes asks it and waits.

use std::time::{Duration, Instant};

use crate::limits;

/// How the last processes of a kind did.
#[derive(Debug, Default)]
pub(crate) struct BackOff {
    failures: u32,
    not_before: Option<Instant>,
}

impl BackOff {
    /// How long the next start has to wait from now on.
    pub(crate) fn wait(&self) -> Duration {
        self.not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
    }

    /// A process that was started at this time is gone. One that lived long was a good one.
    pub(crate) fn died(&mut self, started: Instant) {
        if started.elapsed() >= limits::WORKER_GOOD {
            self.failures = 0;
        }
        self.failed();
    }

    /// A process did not start, or not for long.
    pub(crate) fn failed(&mut self) {
        let doublings = self.failures.min(16);
        let wait = limits::WORKER_RESTART_MIN.saturating_mul(1 << doublings);
        self.not_before = Some(Instant::now() + wait.min(limits::WORKER_RESTART_MAX));
        self.failures = self.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_start_again_after_a_good_process() {
        let mut back_off = BackOff::default();
        assert_eq!(back_off.wait(), Duration::ZERO);
        back_off.failed();
        assert!(back_off.wait() <= limits::WORKER_RESTART_MIN);
        back_off.died(Instant::now());
        let second = back_off.wait();
        assert!(second > limits::WORKER_RESTART_MIN && second <= 2 * limits::WORKER_RESTART_MIN);
        for _ in 0..100 {
            back_off.failed();
        }
        let last = back_off.wait();
        assert!(last > limits::WORKER_RESTART_MAX / 2 && last <= limits::WORKER_RESTART_MAX);
        let Some(long_ago) = Instant::now().checked_sub(limits::WORKER_GOOD) else { return };
        back_off.died(long_ago);
        assert!(back_off.wait() <= limits::WORKER_RESTART_MIN);
    }
}
