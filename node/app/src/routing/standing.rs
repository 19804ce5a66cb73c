//! Which peer to ask first: measured latency, load of our own making, failures.
//!
//! Pure: time comes from outside. What a peer says of itself counts nothing here.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use openledger_wire::{BlobId, NodeId, UnixMs};

use crate::limits;

/// What was seen of peers.
#[derive(Clone, Debug)]
pub struct Standings {
    /// Breaks ties, so that nobody can choose an id that is always asked first.
    salt: [u8; 16],
    seen: BTreeMap<NodeId, Standing>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// Moving average of how long an answer takes; 0 if none came yet.
    latency_ms: u64,
    in_flight: u32,
    /// In a row.
    failures: u32,
    rest_until: UnixMs,
    seen: UnixMs,
}

impl Standings {
    /// Nobody seen yet.
    #[must_use]
    pub const fn new(salt: [u8; 16]) -> Self {
        Self { salt, seen: BTreeMap::new() }
    }

    fn of(&mut self, node: NodeId, now: UnixMs) -> &mut Standing {
        if self.seen.len() >= limits::STANDINGS_MAX && !self.seen.contains_key(&node) {
            let idle = self.seen.iter().filter(|(_, one)| one.in_flight == 0);
            let oldest = idle.min_by_key(|(_, one)| one.seen).map(|(node, _)| *node);
            if let Some(oldest) = oldest {
                self.seen.remove(&oldest);
            }
        }
        let standing = self.seen.entry(node).or_default();
        standing.seen = now;
        standing
    }

    /// A call goes to a peer.
    pub fn begun(&mut self, node: NodeId, now: UnixMs) {
        let standing = self.of(node, now);
        standing.in_flight = standing.in_flight.saturating_add(1);
    }

    /// A call at a peer is over, however it ended.
    pub fn ended(&mut self, node: NodeId, now: UnixMs) {
        let standing = self.of(node, now);
        standing.in_flight = standing.in_flight.saturating_sub(1);
    }

    /// A peer answered, after so long.
    pub fn answered(&mut self, node: NodeId, latency_ms: u64, now: UnixMs) {
        let standing = self.of(node, now);
        standing.failures = 0;
        standing.latency_ms = match standing.latency_ms {
            0 => latency_ms.max(1),
            // A quarter of the new one: a single slow answer does not decide.
            known => (known.saturating_mul(3).saturating_add(latency_ms) / 4).max(1),
        };
    }

    /// A peer did not answer, or not sensibly: it rests, twice as long each time in a row.
    pub fn failed(&mut self, node: NodeId, now: UnixMs) {
        let standing = self.of(node, now);
        let doublings = standing.failures.min(16);
        standing.failures = standing.failures.saturating_add(1);
        let rest_ms = (limits::PEER_REST_MS_MIN << doublings).min(limits::PEER_REST_MS_MAX);
        standing.rest_until = standing.rest_until.max(now.plus_ms(rest_ms));
    }

    /// A peer said that it has no room for a while. No failure, but no use either.
    pub fn busy(&mut self, node: NodeId, for_ms: u64, now: UnixMs) {
        let rest_ms = for_ms.clamp(limits::PEER_REST_MS_MIN, limits::PEER_REST_MS_MAX);
        let standing = self.of(node, now);
        standing.rest_until = standing.rest_until.max(now.plus_ms(rest_ms));
    }

    /// These peers in the order in which to ask them. Those that rest come last: they are better
    /// than nobody.
    #[must_use]
    pub fn order(&self, mut nodes: Vec<NodeId>, now: UnixMs) -> Vec<NodeId> {
        nodes.sort_by_cached_key(|node| {
            let standing = self.seen.get(node).copied().unwrap_or_default();
            let latency = match standing.latency_ms {
                0 => limits::PEER_LATENCY_MS_UNKNOWN,
                known => known,
            };
            let load = u64::from(standing.in_flight).saturating_add(1);
            let rest = standing.rest_until.0.saturating_sub(now.0);
            let tie = BlobId::of(&[&self.salt[..], &node.0].concat());
            (rest, latency.saturating_mul(load), standing.failures, Reverse(tie))
        });
        nodes.dedup();
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId([1; 32]);
    const B: NodeId = NodeId([2; 32]);
    const C: NodeId = NodeId([3; 32]);

    #[test]
    fn the_quick_and_idle_come_first_and_failures_rest() {
        let mut all = Standings::new([7; 16]);
        let now = UnixMs(1_000);
        all.answered(A, 10, now);
        all.answered(B, 200, now);
        assert_eq!(all.order(vec![C, B, A], now), [A, C, B], "an unknown one is worth a try");
        for _ in 0..30 {
            all.begun(A, now);
        }
        assert_eq!(all.order(vec![A, B], now)[0], B, "load counts");
        for _ in 0..30 {
            all.ended(A, now);
        }
        all.failed(A, now);
        assert_eq!(all.order(vec![A, B], now), [B, A]);
        let later = now.plus_ms(limits::PEER_REST_MS_MIN);
        assert_eq!(all.order(vec![A, B], later), [A, B], "after a rest it is tried again");
        all.failed(A, later);
        assert_eq!(all.order(vec![A, B], later.plus_ms(limits::PEER_REST_MS_MIN)), [B, A]);
        all.busy(B, u64::MAX, later);
        assert_eq!(all.order(vec![A, B], later), [A, B], "rests are bounded and compared");
    }

    #[test]
    fn ties_are_broken_by_a_secret_and_memory_is_bounded() {
        let nodes: Vec<NodeId> = (0..40).map(|n| NodeId([n; 32])).collect();
        let one = Standings::new([1; 16]).order(nodes.clone(), UnixMs(0));
        let other = Standings::new([2; 16]).order(nodes, UnixMs(0));
        assert_ne!(one, other);
        let mut all = Standings::new([0; 16]);
        for n in 0..limits::STANDINGS_MAX as u64 + 9 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            all.answered(NodeId(id), 5, UnixMs(n));
        }
        assert_eq!(all.seen.len(), limits::STANDINGS_MAX);
    }
}
