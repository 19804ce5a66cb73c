//! Token buckets by node: pure, fed with milliseconds.

use std::collections::BTreeMap;

use openledger_wire::NodeId;

/// How much one node may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come back each second.
    pub per_s: u32,
    /// Tokens that fit.
    pub burst: u32,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Thousandths of a token.
    level: u64,
    updated_ms: u64,
}

/// One bucket per node, for a bounded number of nodes.
#[derive(Debug)]
pub struct Buckets {
    rate: Rate,
    nodes_max: usize,
    buckets: BTreeMap<NodeId, Bucket>,
}

impl Buckets {
    /// Buckets of this rate; at most `nodes_max` are remembered.
    #[must_use]
    pub fn new(rate: Rate, nodes_max: usize) -> Self {
        Self { rate, nodes_max, buckets: BTreeMap::new() }
    }

    /// Takes a token, or says in how many milliseconds there will be one.
    pub fn take(&mut self, node: NodeId, now_ms: u64) -> Result<(), u32> {
        let full = u64::from(self.rate.burst.max(1)) * 1_000;
        let per_ms = u64::from(self.rate.per_s.max(1));
        if !self.buckets.contains_key(&node) && self.buckets.len() >= self.nodes_max {
            self.forget_full(now_ms, full, per_ms);
        }
        let bucket = self.buckets.entry(node).or_insert(Bucket { level: full, updated_ms: now_ms });
        let elapsed = now_ms.saturating_sub(bucket.updated_ms);
        bucket.level = bucket.level.saturating_add(elapsed.saturating_mul(per_ms)).min(full);
        bucket.updated_ms = bucket.updated_ms.max(now_ms);
        if bucket.level >= 1_000 {
            bucket.level -= 1_000;
            return Ok(());
        }
        let wait = (1_000 - bucket.level).div_ceil(per_ms).max(1);
        Err(u32::try_from(wait).unwrap_or(u32::MAX))
    }

    /// Drops buckets that are full again: a new one would say the same. If none is, the fullest
    /// goes, so that the map stays bounded.
    fn forget_full(&mut self, now_ms: u64, full: u64, per_ms: u64) {
        let level = |b: &Bucket| {
            b.level.saturating_add(now_ms.saturating_sub(b.updated_ms).saturating_mul(per_ms))
        };
        self.buckets.retain(|_, b| level(b) < full);
        if self.buckets.len() >= self.nodes_max {
            let fullest = self.buckets.iter().max_by_key(|(_, b)| level(b)).map(|(n, _)| *n);
            if let Some(node) = fullest {
                self.buckets.remove(&node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let mut buckets = Buckets::new(Rate { per_s: 10, burst: 3 }, 8);
        let node = NodeId([1; 32]);
        for _ in 0..3 {
            assert_eq!(buckets.take(node, 1_000), Ok(()));
        }
        assert_eq!(buckets.take(node, 1_000), Err(100));
        assert_eq!(buckets.take(node, 1_050), Err(50));
        assert_eq!(buckets.take(node, 1_100), Ok(()));
        assert_eq!(buckets.take(NodeId([2; 32]), 1_100), Ok(()), "nodes do not share");
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let mut buckets = Buckets::new(Rate { per_s: 1, burst: 1 }, 8);
        let node = NodeId([1; 32]);
        assert_eq!(buckets.take(node, 5_000), Ok(()));
        assert_eq!(buckets.take(node, 0), Err(1_000));
        assert_eq!(buckets.take(node, 5_999), Err(1));
        assert_eq!(buckets.take(node, 6_000), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_the_drained_are_remembered_longest() {
        let mut buckets = Buckets::new(Rate { per_s: 1, burst: 2 }, 3);
        let drained = NodeId([9; 32]);
        while buckets.take(drained, 0).is_ok() {}
        for n in 0..20u8 {
            assert_eq!(buckets.take(NodeId([n; 32]), 1).is_ok(), n != 9);
            assert!(buckets.buckets.len() <= 3);
        }
        assert!(buckets.take(drained, 1).is_err());
    }
}
