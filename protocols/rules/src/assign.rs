//! Who does a task, who is checked, and what a node's record spares it.
//!
//! A draw is a pure function of the round's beacon, the task and the sealed node set, so everybody
//! can recompute it: keys `-log2(u) / weight` with `u = blake3(seed || node)`, lowest first,
//! skipping nodes that are not independent of those already taken (THREATS 3, 18). A check is
//! drawn from a beacon that was unknown when the node committed (THREATS 4).
//!
//! When a draw is due, and what follows from a check, is decided by the state machine, not here.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeSet, BinaryHeap};

use openledger_wire::{BeaconValue, Commitment, NodeId, TaskId, tagged_hash};
use serde::{Deserialize, Serialize};

use crate::fixed::{Fixed, neg_log2};
use crate::nodeset::{NodeRow, NodeSet};

/// Valid results in a row that a node needs before checks become rarer: as in BOINC's adaptive
/// replication.
pub const REQUIRED_FIRST: u32 = 10;

/// The most valid results in a row that a caught node may need: ten doublings. More would not be
/// served within a delegation's life, and the points at stake are long forfeited.
pub const REQUIRED_MAX: u32 = 10_240;

/// All of a thousand.
const PERMILLE: u32 = 1_000;

/// The seed of one draw: `wave` 0 is the first draw for a task, replacements have higher ones.
#[must_use]
pub fn seed(beacon: &BeaconValue, task: &TaskId, wave: u8) -> [u8; 32] {
    tagged_hash("openledger assignment seed v1", &[&beacon.0, &task.0, &[wave]])
}

/// What must differ between the nodes of one task.
///
/// The same node never has a task twice, whatever is set here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraints {
    /// Accounts differ.
    pub accounts: bool,
    /// Subnets (/24 or /48) differ.
    pub subnets: bool,
    /// Autonomous systems differ; an unknown one (0) conflicts with nobody.
    pub systems: bool,
    /// Join cohorts differ; each founding node is a cohort of its own.
    pub cohorts: bool,
    /// How many nodes of a task may be unvetted, over all its waves.
    pub unvetted_max: u8,
}

impl Constraints {
    /// All of them, and at most one unvetted node: the rule on public networks.
    pub const STRICT: Self =
        Self { accounts: true, subnets: true, systems: true, cohorts: true, unvetted_max: 1 };

    /// Whether two nodes count as independent of each other.
    #[must_use]
    pub fn independent(&self, a: &NodeRow, b: &NodeRow) -> bool {
        let same_system = a.whereabouts.asn != 0 && a.whereabouts.asn == b.whereabouts.asn;
        let same_cohort = !a.founding && !b.founding && a.cohort == b.cohort;
        let dependent = a.node == b.node
            || (self.accounts && a.account == b.account)
            || (self.subnets && a.whereabouts.subnet == b.whereabouts.subnet)
            || (self.systems && same_system)
            || (self.cohorts && same_cohort);
        !dependent
    }

    /// Whether `row` may join these nodes on their task.
    fn admits(&self, taken: &[&NodeRow], row: &NodeRow) -> bool {
        let unvetted = taken.iter().filter(|other| !other.vetted).count();
        let room = row.vetted || unvetted < usize::from(self.unvetted_max);
        room && taken.iter().all(|other| self.independent(other, row))
    }
}

impl Default for Constraints {
    fn default() -> Self {
        Self::STRICT
    }
}

/// A node in the order of a draw: by `key / weight`, then by id.
struct Ranked<'a> {
    key: Fixed,
    weight: u64,
    row: &'a NodeRow,
}

impl Ord for Ranked<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        // key / weight < other.key / other.weight without division: both weights are above zero.
        // Products of two 64-bit numbers fit 128 bits, so saturation is never met.
        let cross = |key: Fixed, weight: u64| u128::from(key.0).saturating_mul(u128::from(weight));
        let (left, right) = (cross(self.key, other.weight), cross(other.key, self.weight));
        left.cmp(&right).then_with(|| self.row.node.cmp(&other.row.node))
    }
}

impl PartialOrd for Ranked<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ranked<'_> {}

/// Draws up to `count` nodes for a task, best first.
///
/// `excluded` nodes are passed over; `already` are the nodes on the task from earlier waves, which
/// the new ones must be independent of. Fewer than `count` come back where the set has no more
/// that fit.
#[must_use]
pub fn draw(
    seed: &[u8; 32],
    set: &NodeSet,
    count: usize,
    excluded: &BTreeSet<NodeId>,
    already: &[NodeRow],
    constraints: &Constraints,
) -> Vec<NodeId> {
    let eligible = set
        .weighted()
        .filter(|(row, weight)| *weight > 0 && !excluded.contains(&row.node))
        .map(|(row, weight)| Reverse(Ranked { key: key(seed, &row.node), weight, row }));
    // A heap orders only as many as are looked at; a draw looks at a handful of a million.
    let mut order: BinaryHeap<Reverse<Ranked<'_>>> = eligible.collect();
    let mut taken: Vec<&NodeRow> = already.iter().collect();
    let mut drawn = Vec::new();
    while drawn.len() < count
        && let Some(Reverse(Ranked { row, .. })) = order.pop()
    {
        if constraints.admits(&taken, row) {
            taken.push(row);
            drawn.push(row.node);
        }
    }
    drawn
}

/// The exponential variate of a node in a draw, before its weight.
fn key(seed: &[u8; 32], node: &NodeId) -> Fixed {
    let mut hasher = blake3::Hasher::new();
    hasher.update(seed).update(&node.0);
    neg_log2(*hasher.finalize().as_bytes())
}

/// Whether the check of a commitment is due: a draw of probability `permille / 1000` from a beacon
/// that came after the commitment was logged.
#[must_use]
pub fn check_hit(
    beacon: &BeaconValue,
    task: &TaskId,
    node: &NodeId,
    commitment: &Commitment,
    permille: u32,
) -> bool {
    let parts: [&[u8]; 4] = [&beacon.0, &task.0, &node.0, &commitment.0];
    let hash = tagged_hash("openledger check draw v1", &parts);
    let draw = u64::from_be_bytes(hash.first_chunk().copied().unwrap_or_default());
    // draw / 2^64 < permille / 1000; the left side is below 2^74.
    u128::from(draw).saturating_mul(u128::from(PERMILLE)) < u128::from(permille) << 64
}

/// A node's record in one kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustRecord {
    /// Valid results since the last catch.
    pub valid_run: u32,
    /// How many of them it needs before checks become rarer.
    pub required: u32,
}

impl Default for TrustRecord {
    fn default() -> Self {
        Self::new(REQUIRED_FIRST)
    }
}

impl TrustRecord {
    /// A node without a record, which needs `required` valid results.
    #[must_use]
    pub const fn new(required: u32) -> Self {
        Self { valid_run: 0, required }
    }

    /// How often this node is checked, in thousandths: always until it has the required run, then
    /// one in `valid_run`, and never less than `floor`.
    #[must_use]
    pub fn check_permille(&self, floor: u32) -> u32 {
        if self.valid_run < self.required {
            return PERMILLE;
        }
        let by_record = PERMILLE.checked_div(self.valid_run).unwrap_or(PERMILLE);
        by_record.max(floor).min(PERMILLE)
    }

    /// A result was found valid.
    pub fn on_valid(&mut self) {
        self.valid_run = self.valid_run.saturating_add(1);
    }

    /// A result was found invalid: the run starts again and must become twice as long, up to
    /// [`REQUIRED_MAX`].
    pub fn on_catch(&mut self) {
        self.valid_run = 0;
        let doubled = self.required.saturating_mul(2).min(REQUIRED_MAX);
        self.required = doubled.max(self.required).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_earned_in_a_run_and_lost_at_once() {
        let mut trust = TrustRecord::default();
        for run in 0..10 {
            assert_eq!(trust.check_permille(50), 1_000, "after {run}");
            trust.on_valid();
        }
        assert_eq!(trust.check_permille(50), 100);
        trust.valid_run = 19;
        assert_eq!(trust.check_permille(50), 52);
        trust.valid_run = 1_000_000;
        assert_eq!(trust.check_permille(50), 50);
        assert_eq!(trust.check_permille(5_000), 1_000);
        trust.on_catch();
        assert_eq!(trust, TrustRecord { valid_run: 0, required: 20 });
        for _ in 0..40 {
            trust.on_catch();
        }
        assert_eq!(trust.required, REQUIRED_MAX);
        trust.valid_run = u32::MAX;
        trust.on_valid();
        assert_eq!(trust.valid_run, u32::MAX);
        let mut odd = TrustRecord::new(0);
        assert_eq!(odd.check_permille(50), 1_000);
        odd.on_catch();
        assert_eq!(odd.required, 1, "a rule set that asks for nothing still asks after a catch");
        let mut strict = TrustRecord::new(20_000);
        strict.on_catch();
        assert_eq!(strict.required, 20_000, "a catch never lowers what is required");
    }

    #[test]
    fn checks_hit_as_often_as_they_should() {
        let (beacon, task) = (BeaconValue([1; 32]), TaskId([2; 32]));
        let hit = |n: u32, permille| {
            let mut node = [3; 32];
            node[..4].copy_from_slice(&n.to_be_bytes());
            check_hit(&beacon, &task, &NodeId(node), &Commitment([4; 32]), permille)
        };
        let count = |permille| (0..20_000).filter(|n| hit(*n, permille)).count();
        assert_eq!((count(0), count(1_000)), (0, 20_000));
        // 1,000 expected; the bounds are four standard deviations (31) away.
        assert!((876..=1_124).contains(&count(50)), "{}", count(50));
        let other = check_hit(&beacon, &task, &NodeId([3; 32]), &Commitment([5; 32]), 500);
        let differs = (0..64).any(|n| {
            let commitment = Commitment([n; 32]);
            check_hit(&beacon, &task, &NodeId([3; 32]), &commitment, 500) != other
        });
        assert!(differs, "the commitment decides too");
    }
}
