//! The coordinator's clock: the only place that reads it.

use std::time::{SystemTime, UNIX_EPOCH};

use openledger_wire::UnixMs;

/// Now.
#[must_use]
pub fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Seconds since 1970.
#[must_use]
pub fn now_s() -> u64 {
    now().0 / 1_000
}
