//! How far a long transfer is: for the log, the terminal and `status`.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use openledger_wire::BlobId;
use serde::{Deserialize, Serialize};

use crate::limits;
use crate::time;

/// A transfer in progress.
#[derive(Debug)]
pub struct Transfer {
    name: String,
    blob: Option<BlobId>,
    total: AtomicU64,
    done: AtomicU64,
    /// Bytes that were there before it began.
    before: AtomicU64,
    begun: Instant,
    told: Mutex<Instant>,
}

/// How far one is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is coming.
    pub name: String,
    /// Its id, if known.
    pub blob: Option<BlobId>,
    /// Bytes that are here.
    pub done: u64,
    /// Bytes in all; 0 if not known.
    pub total: u64,
    /// Bytes a second since it began.
    pub per_second: u64,
    /// Seconds left at this rate, if that can be said.
    pub seconds_left: Option<u64>,
}

impl Transfer {
    /// One that begins now.
    #[must_use]
    pub fn new(name: &str, blob: Option<BlobId>, total: u64) -> Self {
        let now = Instant::now();
        Self {
            name: name.to_owned(),
            blob,
            total: AtomicU64::new(total),
            done: AtomicU64::new(0),
            before: AtomicU64::new(0),
            begun: now,
            told: Mutex::new(now),
        }
    }

    /// Notes what was there before it began, and how long the whole is.
    pub fn resume(&self, before: u64, total: u64) {
        self.before.store(before, Ordering::Relaxed);
        self.done.store(before, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// Notes how much is here; says whether it is time to tell somebody.
    pub fn reached(&self, done: u64) -> bool {
        self.done.store(done, Ordering::Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.elapsed() >= limits::PROGRESS_EVERY;
        if due {
            *told = Instant::now();
        }
        due
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        let fresh = done.saturating_sub(self.before.load(Ordering::Relaxed));
        let per_second = rate(fresh, self.begun.elapsed());
        let left = total.checked_sub(done).filter(|_| total > 0);
        let seconds_left = left.and_then(|left| left.checked_div(per_second));
        let (name, blob) = (self.name.clone(), self.blob);
        Progress { name, blob, done, total, per_second, seconds_left }
    }
}

fn rate(bytes: u64, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1_000) / millis
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, megabytes(self.done))?;
        if self.total > 0 {
            write!(f, " of {}", megabytes(self.total))?;
        }
        write!(f, ", {} a second", megabytes(self.per_second))?;
        match self.seconds_left {
            Some(left) => write!(f, ", {} left", time::span(left.saturating_mul(1_000))),
            None => Ok(()),
        }
    }
}

/// Bytes for people, in decimal megabytes.
#[must_use]
pub fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_how_much_and_how_long() {
        let transfer = Transfer::new("a model", None, 0);
        assert!(transfer.progress().to_string().starts_with("a model: 0.0 MB, "));
        transfer.resume(40_000_000, 98_300_000);
        assert!(!transfer.reached(50_000_000), "it was told of a moment ago");
        let progress = transfer.progress();
        assert_eq!((progress.done, progress.total), (50_000_000, 98_300_000));
        assert!(progress.seconds_left.is_some());
        let text = progress.to_string();
        assert!(text.contains("50.0 MB of 98.3 MB") && text.contains("left"), "{text}");
        assert_eq!(rate(10, Duration::ZERO), 10_000);
        assert_eq!(rate(10_000, Duration::from_secs(2)), 5_000);
    }
}
