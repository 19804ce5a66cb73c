//! Requests that each peer may make: so many a second, with some saved up.

use std::collections::BTreeMap;

use openledger_wire::{NodeId, UnixMs};

use crate::limits;

/// What each peer has left. Pure: time comes from outside.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    left: BTreeMap<NodeId, Bucket>,
}

/// Thousandths of a request left, and when that was counted.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left_milli: u64,
    at: UnixMs,
}

const FULL_MILLI: u64 = limits::PEER_REQUESTS_BURST * 1_000;

impl Budgets {
    /// Takes one request from a peer's budget, if there is one.
    pub(super) fn take(&mut self, peer: NodeId, now: UnixMs) -> bool {
        if self.left.len() >= limits::PEER_BUDGETS_MAX && !self.left.contains_key(&peer) {
            // Whoever was silent longest has a full budget again soonest.
            let silent = self.left.iter().min_by_key(|(_, bucket)| bucket.at);
            if let Some(silent) = silent.map(|(node, _)| *node) {
                self.left.remove(&silent);
            }
        }
        let bucket = self.left.entry(peer).or_insert(Bucket { left_milli: FULL_MILLI, at: now });
        let since_ms = now.0.saturating_sub(bucket.at.0);
        let more = since_ms.saturating_mul(limits::PEER_REQUESTS_PER_S);
        bucket.left_milli = bucket.left_milli.saturating_add(more).min(FULL_MILLI);
        bucket.at = now;
        match bucket.left_milli.checked_sub(1_000) {
            Some(left) => {
                bucket.left_milli = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_empties_a_budget_and_time_fills_it() {
        let mut budgets = Budgets::default();
        let (flooder, other) = (NodeId([1; 32]), NodeId([2; 32]));
        let taken = (0..10_000).filter(|_| budgets.take(flooder, UnixMs(5))).count() as u64;
        assert_eq!(taken, limits::PEER_REQUESTS_BURST);
        assert!(budgets.take(other, UnixMs(5)), "each has its own");
        let later = UnixMs(1_005);
        let taken = (0..10_000).filter(|_| budgets.take(flooder, later)).count() as u64;
        assert_eq!(taken, limits::PEER_REQUESTS_PER_S);
        assert!(!budgets.take(flooder, UnixMs(0)), "a clock that goes back gives nothing");
    }

    #[test]
    fn budgets_remembered_are_bounded() {
        let mut budgets = Budgets::default();
        for n in 0..limits::PEER_BUDGETS_MAX as u64 + 50 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            assert!(budgets.take(NodeId(id), UnixMs(n)));
        }
        assert_eq!(budgets.left.len(), limits::PEER_BUDGETS_MAX);
    }
}
