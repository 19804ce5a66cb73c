//! The plain keccak Merkle tree that contracts check: receipts, verdicts, proofs, data chunks.
//!
//! `inner = keccak(0x01 || left || right)`, the last node of an odd level is promoted unchanged,
//! `root = keccak(0x02 || top || size (u64 BE))`. Binding the size makes an index unambiguous.
//! Leaves are hashed by their users with a `0x00` prefix, so that a leaf never reads as an inner
//! node. The tree with sums is in `openledger-rules`.

use alloy_primitives::keccak256;
use serde::{Deserialize, Serialize};

use crate::bounded::List;
use crate::ids::{Epoch, Keccak, ProofId};
use crate::limits;

/// Where a leaf sits and what is needed to reach the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Path {
    /// Position of the leaf, from 0.
    pub index: u64,
    /// Number of leaves of the tree.
    pub size: u64,
    /// Sibling hashes, bottom up; levels where the node is promoted have none.
    pub siblings: List<Keccak, { limits::PATH_MAX }>,
}

/// keccak-256 of concatenated parts.
#[must_use]
pub fn keccak(parts: &[&[u8]]) -> Keccak {
    let mut hasher = alloy_primitives::Keccak256::new();
    for part in parts {
        hasher.update(part);
    }
    Keccak(hasher.finalize().0)
}

/// The leaf of a receipt: this proof will count in this epoch.
#[must_use]
pub fn receipt_leaf(proof: &ProofId, count_by: Epoch) -> Keccak {
    keccak(&[&[0], &proof.0, &count_by.0.to_be_bytes()])
}

/// The leaf of a verdict: 1 accepted, 2 rejected, 3 inconclusive.
#[must_use]
pub fn verdict_leaf(proof: &ProofId, verdict: u8, points: u64) -> Keccak {
    keccak(&[&[0], &proof.0, &[verdict], &points.to_be_bytes()])
}

/// Size of the chunks that a data commitment covers, in bytes.
pub const DATA_CHUNK: usize = 8 * 1024;

/// The commitment to a published bundle: a tree over its 8 kB chunks.
#[must_use]
pub fn data_commitment(data: &[u8]) -> Keccak {
    let leaves: Vec<Keccak> = data
        .chunks(DATA_CHUNK)
        .zip(0u64..)
        .map(|(chunk, index)| keccak(&[&[0], &index.to_be_bytes(), chunk]))
        .collect();
    root(&leaves)
}

fn seal(top: &Keccak, size: u64) -> Keccak {
    keccak(&[&[2], &top.0, &size.to_be_bytes()])
}

fn parent(left: &Keccak, right: &Keccak) -> Keccak {
    keccak(&[&[1], &left.0, &right.0])
}

fn level_up(level: &[Keccak]) -> Vec<Keccak> {
    level
        .chunks(2)
        .map(|pair| match pair {
            [left, right] => parent(left, right),
            rest => rest.first().copied().unwrap_or(Keccak::ZERO),
        })
        .collect()
}

/// The root over hashed leaves. An empty tree has a root too: top zero, size 0.
#[must_use]
pub fn root(leaves: &[Keccak]) -> Keccak {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = level_up(&level);
    }
    seal(level.first().unwrap_or(&Keccak::ZERO), leaves.len() as u64)
}

/// All levels of a tree, from the leaves up.
fn levels(leaves: &[Keccak]) -> Vec<Vec<Keccak>> {
    let mut levels = vec![leaves.to_vec()];
    while let Some(last) = levels.last().filter(|level| level.len() > 1) {
        let next = level_up(last);
        levels.push(next);
    }
    levels
}

fn path_in(levels: &[Vec<Keccak>], index: usize) -> Option<Path> {
    let size = levels.first()?.len();
    let siblings = levels.iter().zip(0u32..).filter_map(|(level, height)| {
        // The top has no sibling, nor has a node that is promoted.
        let at = index.checked_shr(height)? ^ 1;
        level.get(at).filter(|_| level.len() > 1).copied()
    });
    let siblings = List::new(siblings.collect::<Vec<_>>()).ok()?;
    (index < size).then_some(Path { index: index as u64, size: size as u64, siblings })
}

/// The path of one leaf, or `None` past the end.
#[must_use]
pub fn path(leaves: &[Keccak], index: usize) -> Option<Path> {
    path_in(&levels(leaves), index)
}

/// The paths of all leaves, in order; the levels are hashed once for all of them.
#[must_use]
pub fn paths(leaves: &[Keccak]) -> Vec<Path> {
    let levels = levels(leaves);
    (0..leaves.len()).filter_map(|index| path_in(&levels, index)).collect()
}

impl Path {
    /// The root that this path leads to from `leaf`, or `None` if it has the wrong shape.
    #[must_use]
    pub fn root_of(&self, leaf: &Keccak) -> Option<Keccak> {
        let (mut at, mut width, mut hash) = (self.index, self.size, *leaf);
        if at >= width {
            return None;
        }
        let mut siblings = self.siblings.iter();
        while width > 1 {
            let promoted = at + 1 == width && width % 2 == 1;
            if !promoted {
                let sibling = siblings.next()?;
                hash = if at % 2 == 0 { parent(&hash, sibling) } else { parent(sibling, &hash) };
            }
            at /= 2;
            width = width.div_ceil(2);
        }
        siblings.next().is_none().then(|| seal(&hash, self.size))
    }
}

/// keccak-256 of one byte string.
#[must_use]
pub fn keccak_bytes(bytes: &[u8]) -> Keccak {
    Keccak(keccak256(bytes).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_of_every_small_tree_proves_itself_and_nothing_else() {
        for size in 1..=33usize {
            let leaves: Vec<Keccak> = (0..size).map(|i| keccak(&[&[0], &[i as u8]])).collect();
            let root = root(&leaves);
            let all = paths(&leaves);
            for index in 0..size {
                let path = path(&leaves, index).unwrap();
                assert_eq!(all[index], path);
                assert_eq!(path.root_of(&leaves[index]), Some(root));
                assert_ne!(path.root_of(&Keccak([7; 32])), Some(root));
                let shifted = Path { index: (path.index + 1) % size as u64, ..path };
                assert!(size == 1 || shifted.root_of(&leaves[index]) != Some(root));
            }
        }
    }
}
