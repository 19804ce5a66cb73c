//! Which of a task's proofs show the same work: by equal bytes, by likeness, or by tolerance.
//!
//! What a verdict is made of it is decided in `judge`.

use std::collections::BTreeSet;

use openledger_wire::ProofId;
use openledger_wire::proof::{FetchOutput, InferOutput};
use openledger_wire::task::TaskKind;

use super::{Judge, ProofRecord};
use crate::infer::Relation;
use crate::params::RuleSet;

/// The sound proofs of a task, in groups that agree.
pub(super) struct Compared {
    groups: Vec<Vec<ProofId>>,
    ties: BTreeSet<ProofId>,
}

impl Compared {
    /// Compares the proofs of one task, which are well formed.
    pub(super) fn new(
        rules: &RuleSet,
        kind: TaskKind,
        proofs: &[(ProofId, &ProofRecord)],
        judge: &dyn Judge,
    ) -> Self {
        let count = proofs.len();
        let at = |index: usize| proofs.get(index).map(|(_, record)| *record);
        let (groups, ties) = match kind {
            TaskKind::Infer => within_tolerance(rules, proofs),
            TaskKind::Fetch => {
                let same =
                    |a, b| matches!((at(a), at(b)), (Some(a), Some(b)) if same_page(a, b, judge));
                (chained(count, same), Vec::new())
            }
            _ => {
                let same = |a, b| at(a).map(|a| a.proof.output) == at(b).map(|b| b.proof.output);
                (chained(count, same), Vec::new())
            }
        };
        let id = |index: &usize| proofs.get(*index).map(|(id, _)| *id);
        let groups = groups.iter().map(|group| group.iter().filter_map(id).collect()).collect();
        Self { groups, ties: ties.iter().filter_map(id).collect() }
    }

    /// The largest group; among equals the one that came first, so order decides nothing twice.
    pub(super) fn best(&self) -> &[ProofId] {
        self.groups.iter().rev().max_by_key(|group| group.len()).map_or(&[], Vec::as_slice)
    }

    /// How many different outputs there are.
    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Whether a proof left the largest group at a near tie, so that neither need be a lie.
    pub(super) fn is_tie(&self, proof: &ProofId) -> bool {
        self.ties.contains(proof)
    }
}

/// Groups of indices; each joins the first group with a member that is the same.
fn chained(count: usize, same: impl Fn(usize, usize) -> bool) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for at in 0..count {
        match groups.iter_mut().find(|group| group.iter().any(|other| same(*other, at))) {
            Some(group) => group.push(at),
            None => groups.push(vec![at]),
        }
    }
    groups
}

/// Groups of indices around the one that agrees with most others, the first of equals; then the
/// same with the rest. A tolerance does not carry over from a friend to a friend's friend: in a
/// chain, colluders could lead away from the honest outputs step by step.
fn starred(count: usize, same: impl Fn(usize, usize) -> bool) -> Vec<Vec<usize>> {
    let mut rest: Vec<usize> = (0..count).collect();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    while !rest.is_empty() {
        let around = |centre: &usize| -> Vec<usize> {
            rest.iter().copied().filter(|at| at == centre || same(*centre, *at)).collect()
        };
        let group = rest.iter().rev().map(around).max_by_key(Vec::len).unwrap_or_default();
        rest.retain(|at| !group.contains(at));
        groups.push(group);
    }
    groups
}

/// Groups of `infer` outputs, and which others left the largest at a near tie.
fn within_tolerance(
    rules: &RuleSet,
    proofs: &[(ProofId, &ProofRecord)],
) -> (Vec<Vec<usize>>, Vec<usize>) {
    let outputs: Vec<Option<InferOutput>> =
        proofs.iter().map(|(_, record)| record.proof.body.read().ok()).collect();
    let relation = |a: usize, b: usize| {
        let pair =
            (outputs.get(a).and_then(Option::as_ref), outputs.get(b).and_then(Option::as_ref));
        match (&rules.infer, pair) {
            (Some(infer), (Some(a), Some(b))) => infer.relation(a, b),
            _ => Relation::Differ,
        }
    };
    let groups = starred(proofs.len(), |a, b| relation(a, b) == Relation::Agree);
    // Each group is taken from what the larger ones left, so the first is the largest.
    let best = groups.first().map_or(&[][..], Vec::as_slice);
    let tied = |at: &usize| best.iter().any(|other| relation(*other, *at) == Relation::NearTie);
    let ties = (0..proofs.len()).filter(|at| !best.contains(at)).filter(|at| tied(at)).collect();
    (groups, ties)
}

fn same_page(a: &ProofRecord, b: &ProofRecord, judge: &dyn Judge) -> bool {
    match (a.proof.body.read::<FetchOutput>(), b.proof.body.read::<FetchOutput>()) {
        (Ok(a), Ok(b)) => {
            a.status == b.status
                && a.final_url == b.final_url
                && judge.fetch_agrees(&a.fingerprint, &b.fingerprint)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_join_what_stars_keep_apart() {
        let near = |a: usize, b: usize| a.abs_diff(b) <= 1;
        assert_eq!(chained(5, near), [vec![0, 1, 2, 3, 4]]);
        assert_eq!(starred(5, near), [vec![0, 1, 2], vec![3, 4]]);
        assert_eq!(starred(0, near), Vec::<Vec<usize>>::new());
        assert_eq!(starred(3, |_, _| false), [vec![0], vec![1], vec![2]]);
        // Whoever stands in the middle does not make the outer ones agree.
        let middle = |a: usize, b: usize| a == 2 || b == 2;
        assert_eq!(starred(3, middle), [vec![0, 1, 2]]);
        assert_eq!(starred(4, |a, b| (a < 1) == (b < 1)), [vec![1, 2, 3], vec![0]]);
    }
}
