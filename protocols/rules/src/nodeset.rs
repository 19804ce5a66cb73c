//! The set of nodes that a round draws from, and what weight each of them has in the draw.
//!
//! The set is sealed by its root before the round's randomness is known, so that nobody is added,
//! removed or made heavier afterwards. Weight is work that was accepted, never a capability that
//! was declared; all unvetted nodes together weigh at most a fifth, so that keys made by the
//! thousand do not take over the draw (THREATS 3, 18).
//!
//! Who is in the set and how weight is earned is decided by the state machine, not here.

use std::collections::BTreeMap;

use openledger_wire::log::Whereabouts;
use openledger_wire::{AccountId, NodeId, NodeSetRoot, tagged_hash};

/// Bytes of one row as hashed into the root.
const ROW_BYTES: usize = 89;

/// Binary digits by which weights are scaled up, so that scaling the unvetted ones down keeps
/// their proportions: even where they outweigh their cap a millionfold, thousandths of weight are
/// still told apart.
const WEIGHT_SCALE_BITS: u32 = 20;

/// One node as the draw sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// The node.
    pub node: NodeId,
    /// Its account.
    pub account: AccountId,
    /// Earned weight in thousandths.
    pub weight_milli: u32,
    /// Whether it is past its probation.
    pub vetted: bool,
    /// Where its link comes from.
    pub whereabouts: Whereabouts,
    /// The cohort in which it joined.
    pub cohort: u64,
    /// Named in the network profile: vetted from the start and a cohort of its own.
    pub founding: bool,
}

impl NodeRow {
    /// The bytes that stand for this row in the root, every field at its place.
    fn canonical(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ROW_BYTES);
        bytes.extend_from_slice(&self.node.0);
        bytes.extend_from_slice(&self.account.0);
        bytes.extend_from_slice(&self.weight_milli.to_be_bytes());
        bytes.push(u8::from(self.vetted));
        bytes.extend_from_slice(&self.whereabouts.subnet);
        bytes.extend_from_slice(&self.whereabouts.asn.to_be_bytes());
        bytes.extend_from_slice(&self.cohort.to_be_bytes());
        bytes.push(u8::from(self.founding));
        bytes
    }
}

/// The nodes of a round, sorted by id, each with its weight in the draw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSet {
    rows: Vec<NodeRow>,
    weights: Vec<u64>,
}

impl NodeSet {
    /// Sorts the rows by node; of two rows of one node the later one counts.
    #[must_use]
    pub fn new(rows: impl IntoIterator<Item = NodeRow>) -> Self {
        let by_node: BTreeMap<NodeId, NodeRow> =
            rows.into_iter().map(|row| (row.node, row)).collect();
        let rows: Vec<NodeRow> = by_node.into_values().collect();
        let weights = effective_weights(&rows);
        Self { rows, weights }
    }

    /// How many nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows, ascending by node.
    #[must_use]
    pub fn rows(&self) -> &[NodeRow] {
        &self.rows
    }

    /// One node's row.
    #[must_use]
    pub fn get(&self, node: &NodeId) -> Option<&NodeRow> {
        let at = self.rows.binary_search_by(|row| row.node.cmp(node)).ok()?;
        self.rows.get(at)
    }

    /// Every row with its weight in the draw: scaled, and for unvetted nodes capped.
    ///
    /// Weights compare only within one set. A weight of 0 is never drawn.
    pub fn weighted(&self) -> impl Iterator<Item = (&NodeRow, u64)> {
        self.rows.iter().zip(self.weights.iter().copied())
    }

    /// One node's weight in the draw; 0 if it is not in the set.
    #[must_use]
    pub fn effective_weight(&self, node: &NodeId) -> u64 {
        let at = self.rows.binary_search_by(|row| row.node.cmp(node)).ok();
        at.and_then(|at| self.weights.get(at)).copied().unwrap_or(0)
    }

    /// The root: BLAKE3 under a domain of its own over the rows, in order and with their lengths.
    #[must_use]
    pub fn root(&self) -> NodeSetRoot {
        let rows: Vec<Vec<u8>> = self.rows.iter().map(NodeRow::canonical).collect();
        let parts: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
        NodeSetRoot(tagged_hash("openledger node set v1", &parts))
    }
}

/// Weights in the draw, by row.
///
/// With vetted nodes weighing `V` and unvetted ones `U`, at most a fifth of the total means that
/// the unvetted ones count for at most `V / 4`; above that each is scaled by `V / (4 U)`, rounded
/// down. Where nobody is vetted, nobody is drawn: a network starts with its founding nodes.
fn effective_weights(rows: &[NodeRow]) -> Vec<u64> {
    // Rows are far fewer than 2^32 and weights below 2^32, so each sum is below 2^64.
    let sum = |vetted: bool| -> u128 {
        let weights = rows.iter().filter(|row| row.vetted == vetted);
        weights.fold(0, |sum, row| sum.saturating_add(u128::from(row.weight_milli)))
    };
    let (vetted, unvetted) = (sum(true), sum(false));
    let unvetted_times_4 = unvetted.saturating_mul(4);
    let capped = unvetted_times_4 > vetted;
    let weigh = |row: &NodeRow| {
        let scaled = u128::from(row.weight_milli) << WEIGHT_SCALE_BITS;
        if row.vetted || !capped {
            return scaled;
        }
        // Below 2^52 times 2^64; the divisor is above zero because it is above `vetted`.
        scaled.saturating_mul(vetted).checked_div(unvetted_times_4).unwrap_or(0)
    };
    // Below 2^52, and scaling down only lowers it.
    rows.iter().map(|row| u64::try_from(weigh(row)).unwrap_or(u64::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(node: u8, weight_milli: u32, vetted: bool) -> NodeRow {
        NodeRow {
            node: NodeId([node; 32]),
            account: AccountId([node; 32]),
            weight_milli,
            vetted,
            whereabouts: Whereabouts { subnet: [4, node, 0, 0, 0, 0, 0], asn: 0 },
            cohort: 7,
            founding: false,
        }
    }

    fn shares(set: &NodeSet) -> (u128, u128) {
        set.weighted().fold((0, 0), |(vetted, unvetted), (row, weight)| match row.vetted {
            true => (vetted + u128::from(weight), unvetted),
            false => (vetted, unvetted + u128::from(weight)),
        })
    }

    #[test]
    fn the_root_depends_on_every_field_and_not_on_the_order() {
        let base = row(1, 1_000, true);
        let root = |row: NodeRow| NodeSet::new([row]).root();
        let changed = [
            NodeRow { node: NodeId([9; 32]), ..base },
            NodeRow { account: AccountId([9; 32]), ..base },
            NodeRow { weight_milli: 1_001, ..base },
            NodeRow { vetted: false, ..base },
            NodeRow { whereabouts: Whereabouts { asn: 9, ..base.whereabouts }, ..base },
            NodeRow { whereabouts: Whereabouts { subnet: [6; 7], ..base.whereabouts }, ..base },
            NodeRow { cohort: 8, ..base },
            NodeRow { founding: true, ..base },
        ];
        for other in changed {
            assert_ne!(root(base), root(other), "{other:?}");
        }
        let (a, b) = (row(1, 5, true), row(2, 6, false));
        assert_eq!(NodeSet::new([a, b]), NodeSet::new([b, a]));
        assert_eq!(NodeSet::new([a, b]).root(), NodeSet::new([b, a, b]).root());
        assert_eq!(base.canonical().len(), ROW_BYTES);
        let empty = NodeSet::new([]);
        assert!(empty.is_empty() && empty.root() != root(base));
    }

    #[test]
    fn unvetted_weights_stay_as_they_are_below_the_cap() {
        let set = NodeSet::new([row(1, 1_000, true), row(2, 250, false)]);
        assert_eq!(set.effective_weight(&NodeId([1; 32])), 1_000 << WEIGHT_SCALE_BITS);
        assert_eq!(set.effective_weight(&NodeId([2; 32])), 250 << WEIGHT_SCALE_BITS);
        assert_eq!(set.effective_weight(&NodeId([3; 32])), 0);
    }

    #[test]
    fn nobody_vetted_means_nobody_drawn() {
        let set = NodeSet::new([row(1, 1_000, false), row(2, 250, false)]);
        assert!(set.weighted().all(|(_, weight)| weight == 0));
    }

    proptest! {
        #[test]
        fn all_unvetted_nodes_together_weigh_at_most_a_fifth(
            weights in prop::collection::vec((any::<u32>(), any::<bool>()), 0..60),
        ) {
            let rows = weights.iter().zip(0u8..).map(|((weight, vetted), n)| row(n, *weight, *vetted));
            let set = NodeSet::new(rows);
            let (vetted, unvetted) = shares(&set);
            prop_assert!(unvetted * 4 <= vetted, "{unvetted} of {}", vetted + unvetted);
            for (row, weight) in set.weighted() {
                prop_assert!(u128::from(weight) <= u128::from(row.weight_milli) << WEIGHT_SCALE_BITS);
                prop_assert!(!row.vetted || weight == u64::from(row.weight_milli) << WEIGHT_SCALE_BITS);
            }
        }

        #[test]
        fn scaling_keeps_the_order_of_unvetted_nodes(a in any::<u32>(), b in any::<u32>(), vetted in any::<u32>()) {
            let set = NodeSet::new([row(1, a, false), row(2, b, false), row(3, vetted, true)]);
            let (wa, wb) = (set.effective_weight(&NodeId([1; 32])), set.effective_weight(&NodeId([2; 32])));
            prop_assert!(a < b || wa >= wb);
            prop_assert!(b < a || wb >= wa);
        }
    }
}
