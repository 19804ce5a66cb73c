//! The settlement tree: cumulative OPEN per payout address under one root that binds its sum.
//!
//! Leaves ascend by address between two sentinels, so presence and absence of an address can both
//! be shown; every node carries the sum below it, so a root cannot promise more than its total
//! says. The contracts walk the same proofs; shared vectors keep both sides equal.
//!
//! Formats (all keccak-256, integers big-endian): leaf `keccak(00 | address | amount)`, inner
//! `keccak(01 | left hash | left sum | right hash | right sum)`, an odd last node moves up
//! unchanged, root `keccak(02 | top hash | total | size)`.

use std::collections::BTreeMap;

use openledger_wire::merkle::keccak;
use openledger_wire::{EvmAddress, Keccak, Open};
use thiserror::Error;

/// The first leaf's address.
const FIRST: EvmAddress = EvmAddress::ZERO;
/// The last leaf's address.
const LAST: EvmAddress = EvmAddress([0xff; 20]);

/// Why a tree was not built.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SumTreeError {
    /// An earner has the address of a sentinel.
    #[error(
        "build the settlement tree: {0} marks an end of the tree and cannot earn; bind another payout address"
    )]
    SentinelEarns(EvmAddress),
    /// The sum does not fit.
    #[error("build the settlement tree: its sum passes 128 bits at {0}; the amounts are wrong")]
    Overflow(EvmAddress),
}

/// A node: its hash and the sum of the leaves below it.
type Summed = (Keccak, Open);

/// The tree with all its levels, so that proofs are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumTree {
    leaves: Vec<(EvmAddress, Open)>,
    /// Bottom up; the last level has one node.
    levels: Vec<Vec<Summed>>,
    total: Open,
}

/// The way of one leaf to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumProof {
    /// Position of the leaf, from 0.
    pub index: u64,
    /// Number of leaves, sentinels included.
    pub size: u64,
    /// Hash and sum of each sibling, bottom up; levels where the node moves up unchanged have
    /// none.
    pub siblings: Vec<(Keccak, Open)>,
}

impl SumTree {
    /// Builds the tree; the sentinels are added here.
    pub fn build(earners: BTreeMap<EvmAddress, Open>) -> Result<Self, SumTreeError> {
        let mut total = Open::ZERO;
        for (earner, cumulative) in &earners {
            if *earner == FIRST || *earner == LAST {
                return Err(SumTreeError::SentinelEarns(*earner));
            }
            total = total.checked_add(*cumulative).ok_or(SumTreeError::Overflow(*earner))?;
        }
        let ends = [(FIRST, Open::ZERO), (LAST, Open::ZERO)];
        let leaves: Vec<(EvmAddress, Open)> =
            earners.into_iter().chain(ends).collect::<BTreeMap<_, _>>().into_iter().collect();
        let mut level: Vec<Summed> =
            leaves.iter().map(|(earner, open)| (leaf(earner, *open), *open)).collect();
        let mut levels = Vec::new();
        while level.len() > 1 {
            let above = level_up(&level);
            levels.push(level);
            level = above;
        }
        levels.push(level);
        Ok(Self { leaves, levels, total })
    }

    /// What is posted on chain.
    #[must_use]
    pub fn root(&self) -> Keccak {
        let top = self.levels.last().and_then(|level| level.first());
        let top = top.map_or(Keccak::ZERO, |(hash, _)| *hash);
        seal(&top, self.total, self.size())
    }

    /// The sum of all leaves.
    #[must_use]
    pub fn total(&self) -> Open {
        self.total
    }

    /// Number of leaves, sentinels included.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    /// The leaves in order, sentinels included.
    #[must_use]
    pub fn leaves(&self) -> &[(EvmAddress, Open)] {
        &self.leaves
    }

    /// An earner's cumulative amount.
    #[must_use]
    pub fn amount(&self, earner: &EvmAddress) -> Option<Open> {
        self.position(earner).ok().and_then(|at| self.leaves.get(at)).map(|(_, open)| *open)
    }

    /// The proof of an address, or `None` if it has no leaf; sentinels have one.
    #[must_use]
    pub fn proof(&self, earner: &EvmAddress) -> Option<SumProof> {
        self.position(earner).ok().and_then(|at| self.proof_at(at))
    }

    /// The proof of the leaf at a position, or `None` past the end.
    #[must_use]
    pub fn proof_at(&self, index: usize) -> Option<SumProof> {
        self.leaves.get(index)?;
        let mut at = index;
        let mut siblings = Vec::new();
        for level in &self.levels {
            siblings.extend(level.get(at ^ 1).copied());
            at /= 2;
        }
        Some(SumProof { index: index as u64, size: self.size(), siblings })
    }

    /// The positions of the two neighbouring leaves between which a missing address would stand;
    /// `None` if it has a leaf. With both proofs they show on chain that it has none.
    #[must_use]
    pub fn gap(&self, earner: &EvmAddress) -> Option<(usize, usize)> {
        // Never 0, because the first leaf is the lowest address there is.
        self.position(earner).err().and_then(|at| Some((at.checked_sub(1)?, at)))
    }

    fn position(&self, earner: &EvmAddress) -> Result<usize, usize> {
        self.leaves.binary_search_by(|(address, _)| address.cmp(earner))
    }
}

impl SumProof {
    /// Whether a leaf of this address and amount is in the tree of this root and total.
    #[must_use]
    pub fn verify(
        &self,
        root: &Keccak,
        total: Open,
        earner: &EvmAddress,
        cumulative: Open,
    ) -> bool {
        let top = self.walk((leaf(earner, cumulative), cumulative));
        top.is_some_and(|(hash, sum)| sum == total && seal(&hash, total, self.size) == *root)
    }

    /// The top that this leaf leads to, or `None` if the proof has the wrong shape or its sums
    /// overflow.
    fn walk(&self, leaf: Summed) -> Option<Summed> {
        let (mut at, mut width, mut node) = (self.index, self.size, leaf);
        if at >= width {
            return None;
        }
        let mut siblings = self.siblings.iter();
        while width > 1 {
            let moves_up = width % 2 == 1 && at.checked_add(1) == Some(width);
            if !moves_up {
                let sibling = siblings.next()?;
                node = if at % 2 == 0 { parent(&node, sibling) } else { parent(sibling, &node) }?;
            }
            at /= 2;
            width = width.div_ceil(2);
        }
        siblings.next().is_none().then_some(node)
    }
}

/// The leaf of an address and its cumulative amount.
#[must_use]
pub fn leaf(earner: &EvmAddress, cumulative: Open) -> Keccak {
    keccak(&[&[0], &earner.0, &cumulative.0.to_be_bytes()])
}

fn seal(top: &Keccak, total: Open, size: u64) -> Keccak {
    keccak(&[&[2], &top.0, &total.0.to_be_bytes(), &size.to_be_bytes()])
}

fn parent(left: &Summed, right: &Summed) -> Option<Summed> {
    let sum = left.1.checked_add(right.1)?;
    let [left_sum, right_sum] = [left.1.0.to_be_bytes(), right.1.0.to_be_bytes()];
    let hash = keccak(&[&[1], &left.0.0, &left_sum, &right.0.0, &right_sum]);
    Some((hash, sum))
}

fn level_up(level: &[Summed]) -> Vec<Summed> {
    // The sum of all leaves was checked, so no partial sum overflows and no pair is dropped.
    level
        .chunks(2)
        .filter_map(|pair| match pair {
            [left, right] => parent(left, right),
            rest => rest.first().copied(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(n: u8) -> EvmAddress {
        let mut bytes = [0; 20];
        (bytes[0], bytes[19]) = (n, 1);
        EvmAddress(bytes)
    }

    fn tree(amounts: &[u128]) -> SumTree {
        let earners = (1u8..).zip(amounts).map(|(n, amount)| (address(n), Open(*amount)));
        SumTree::build(earners.collect()).unwrap()
    }

    #[test]
    fn an_empty_tree_has_its_two_ends() {
        let tree = tree(&[]);
        assert_eq!((tree.size(), tree.total()), (2, Open::ZERO));
        assert_eq!(tree.gap(&address(7)), Some((0, 1)));
        for end in [FIRST, LAST] {
            let proof = tree.proof(&end).unwrap();
            assert!(proof.verify(&tree.root(), Open::ZERO, &end, Open::ZERO));
        }
    }

    #[test]
    fn sentinels_cannot_earn_and_sums_cannot_overflow() {
        for end in [FIRST, LAST] {
            let refused = SumTree::build(BTreeMap::from([(end, Open(0))]));
            assert_eq!(refused, Err(SumTreeError::SentinelEarns(end)));
        }
        let earners = BTreeMap::from([(address(1), Open(u128::MAX)), (address(2), Open(1))]);
        assert_eq!(SumTree::build(earners), Err(SumTreeError::Overflow(address(2))));
        assert_eq!(tree(&[u128::MAX, 0]).total(), Open(u128::MAX));
    }

    #[test]
    fn sums_that_overflow_in_a_proof_are_refused() {
        let tree = tree(&[5]);
        let mut proof = tree.proof(&address(1)).unwrap();
        proof.siblings[0].1 = Open(u128::MAX);
        assert!(!proof.verify(&tree.root(), Open(5), &address(1), Open(5)));
    }

    #[test]
    fn gaps_lie_between_neighbours() {
        let tree = tree(&[1, 2, 3]);
        assert_eq!(tree.gap(&address(2)), None);
        let missing = EvmAddress([2; 20]);
        let (left, right) = tree.gap(&missing).unwrap();
        assert_eq!(right, left + 1);
        assert!(tree.leaves()[left].0 < missing && missing < tree.leaves()[right].0);
        assert_eq!(tree.proof(&missing), None);
        assert_eq!(tree.amount(&address(3)), Some(Open(3)));
        assert_eq!(tree.proof_at(5), None);
    }

    proptest! {
        #[test]
        fn every_leaf_proves_itself_and_nothing_else(
            amounts in prop::collection::vec(0..=u128::MAX / 64, 0..40),
            more in 1..1_000u128,
        ) {
            let tree = tree(&amounts);
            let (root, total) = (tree.root(), tree.total());
            prop_assert_eq!(total.0, amounts.iter().sum::<u128>());
            for (earner, cumulative) in tree.leaves() {
                let proof = tree.proof(earner).unwrap();
                prop_assert!(proof.siblings.len() <= openledger_wire::limits::PATH_MAX);
                prop_assert!(proof.verify(&root, total, earner, *cumulative));
                let other = Open(cumulative.0 + more);
                prop_assert!(!proof.verify(&root, total, earner, other));
                prop_assert!(!proof.verify(&root, Open(total.0 + more), earner, other));
                prop_assert!(!proof.verify(&root, total, &EvmAddress([0xab; 20]), *cumulative));
                let shifted = SumProof { index: (proof.index + 1) % proof.size, ..proof.clone() };
                prop_assert!(!shifted.verify(&root, total, earner, *cumulative));
                let mut long = proof.clone();
                long.siblings.push((Keccak::ZERO, Open::ZERO));
                prop_assert!(!long.verify(&root, total, earner, *cumulative));
                let mut short = proof.clone();
                short.siblings.pop();
                prop_assert!(!short.verify(&root, total, earner, *cumulative));
                let resized = SumProof { size: proof.size + 1, ..proof };
                prop_assert!(!resized.verify(&root, total, earner, *cumulative));
            }
        }
    }
}
