//! What became of calls, in numbers: for the owner's eyes, worth nothing anywhere else.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Calls since the start, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallCounts {
    /// Asked for by this node's own clients, texts for vectors included.
    pub asked: u64,
    /// Of these, begun by this machine's own engine.
    pub here: u64,
    /// Begun at peers.
    pub forwarded: u64,
    /// Taken up elsewhere after a peer was lost in the middle.
    pub resumed: u64,
    /// Broken off because nobody was left.
    pub lost: u64,
    /// Begun only after files were fetched.
    pub fetched: u64,
    /// Of peers, answered by this machine.
    pub for_peers: u64,
    /// Of peers, turned away by limits.
    pub turned_away: u64,
}

/// Counters that many tasks add to.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) asked: AtomicU64,
    pub(super) here: AtomicU64,
    pub(super) forwarded: AtomicU64,
    pub(super) resumed: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) fetched: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> CallCounts {
        CallCounts {
            asked: self.asked.load(Ordering::Relaxed),
            here: self.here.load(Ordering::Relaxed),
            forwarded: self.forwarded.load(Ordering::Relaxed),
            resumed: self.resumed.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            fetched: self.fetched.load(Ordering::Relaxed),
            ..CallCounts::default()
        }
    }
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
