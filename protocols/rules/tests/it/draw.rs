//! The draw of nodes: what must always hold, and what must hold on average.

use std::collections::{BTreeMap, BTreeSet};

use openledger_rules::assign::{Constraints, draw, seed};
use openledger_rules::nodeset::{NodeRow, NodeSet};
use openledger_wire::log::Whereabouts;
use openledger_wire::{AccountId, BeaconValue, NodeId, TaskId};
use proptest::prelude::*;

fn id(n: u32) -> [u8; 32] {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&n.to_be_bytes());
    id
}

/// A vetted node that is independent of every other.
fn lone(n: u32, weight_milli: u32) -> NodeRow {
    let [a, b, c, d] = n.to_be_bytes();
    NodeRow {
        node: NodeId(id(n)),
        account: AccountId(id(n)),
        weight_milli,
        vetted: true,
        whereabouts: Whereabouts { subnet: [6, a, b, c, d, 0, 0], asn: n },
        cohort: u64::from(n),
        founding: false,
    }
}

fn winners(set: &NodeSet, task: u32, count: usize) -> Vec<NodeId> {
    let seed = seed(&BeaconValue([9; 32]), &TaskId(id(task)), 0);
    draw(&seed, set, count, &BTreeSet::new(), &[], &Constraints::STRICT)
}

/// `u / weight` instead of `-log2(u) / weight` would give the heavier node three quarters.
#[test]
fn twice_the_weight_wins_two_draws_of_three() {
    let set = NodeSet::new([lone(1, 2_000), lone(2, 1_000)]);
    let draws = 20_000;
    let heavy = (0..draws).filter(|task| winners(&set, *task, 1) == [NodeId(id(1))]).count();
    // 13,333 expected; the bounds are four standard deviations (67) away.
    assert!((13_066..=13_600).contains(&heavy), "{heavy} of {draws}");
}

#[test]
fn ten_thousand_unvetted_keys_win_a_fifth_and_never_two_seats() {
    let vetted = (0..8).map(|n| lone(n, 1_000));
    let fresh = (100..10_100).map(|n| NodeRow { vetted: false, ..lone(n, 1_000) });
    let set = NodeSet::new(vetted.chain(fresh));
    let is_fresh = |node: &NodeId| !set.get(node).unwrap().vetted;
    let draws = 200;
    let mut first = 0;
    for task in 0..draws {
        let nodes = winners(&set, task, 5);
        assert_eq!(nodes.len(), 5);
        assert!(nodes.iter().filter(|node| is_fresh(node)).count() <= 1);
        first += usize::from(is_fresh(&nodes[0]));
    }
    // 40 expected; the bounds are four standard deviations (5.7) away.
    assert!((18..=62).contains(&first), "{first} of {draws}");
}

#[test]
fn one_operator_behind_many_keys_gets_one_seat() {
    let vary: [fn(u32) -> NodeRow; 4] = [
        |n| NodeRow { account: AccountId([1; 32]), ..lone(n, 1_000) },
        |n| {
            let subnet = [4, 10, 0, 0, 0, 0, 0];
            NodeRow { whereabouts: Whereabouts { subnet, asn: n }, ..lone(n, 1_000) }
        },
        |n| {
            let row = lone(n, 1_000);
            NodeRow { whereabouts: Whereabouts { asn: 64_500, ..row.whereabouts }, ..row }
        },
        |n| NodeRow { cohort: 3, ..lone(n, 1_000) },
    ];
    for (case, make) in vary.into_iter().enumerate() {
        let set = NodeSet::new((1..50).map(make).chain([lone(1_000, 1_000), lone(1_001, 1_000)]));
        let nodes = winners(&set, 1, 5);
        assert_eq!(nodes.len(), 3, "case {case}");
    }
}

#[test]
fn founding_nodes_of_one_cohort_and_unknown_systems_are_independent() {
    let founding = |n| {
        let row = lone(n, 1_000);
        let whereabouts = Whereabouts { asn: 0, ..row.whereabouts };
        NodeRow { founding: true, cohort: 0, whereabouts, ..row }
    };
    let set = NodeSet::new((1..4).map(founding));
    assert_eq!(winners(&set, 1, 3).len(), 3);
}

#[test]
fn later_waves_respect_the_nodes_of_earlier_ones() {
    let set = NodeSet::new((1..30).map(|n| NodeRow { vetted: n % 2 == 0, ..lone(n, 1_000) }));
    let fresh = *set.get(&NodeId(id(3))).unwrap();
    let seed = seed(&BeaconValue([9; 32]), &TaskId(id(1)), 1);
    let nodes = draw(&seed, &set, 40, &BTreeSet::new(), &[fresh], &Constraints::STRICT);
    assert_eq!(nodes.len(), 14, "all vetted ones, no second unvetted one");
    let open = Constraints { unvetted_max: 2, ..Constraints::STRICT };
    let nodes = draw(&seed, &set, 40, &BTreeSet::new(), &[fresh], &open);
    assert_eq!(nodes.len(), 15);
    assert!(!nodes.contains(&fresh.node));
}

#[test]
fn nodes_without_weight_are_not_drawn() {
    let set = NodeSet::new([lone(1, 0), lone(2, 5), lone(3, 0)]);
    assert_eq!(winners(&set, 1, 3), [NodeId(id(2))]);
    assert_eq!(winners(&NodeSet::new([]), 1, 3), []);
}

#[test]
fn beacon_task_and_wave_each_change_the_seed() {
    let base = seed(&BeaconValue([1; 32]), &TaskId([2; 32]), 0);
    assert_ne!(base, seed(&BeaconValue([3; 32]), &TaskId([2; 32]), 0));
    assert_ne!(base, seed(&BeaconValue([1; 32]), &TaskId([3; 32]), 0));
    assert_ne!(base, seed(&BeaconValue([1; 32]), &TaskId([2; 32]), 1));
}

/// Computed independently with Python's `blake3` and `decimal` (120 digits): a change here is a
/// change of the rules that every node must agree to.
#[test]
fn recorded_draw() {
    let set = NodeSet::new((0..12).map(|n| lone(n, 500 + 250 * n)));
    let seed = seed(&BeaconValue([9; 32]), &TaskId(id(77)), 2);
    assert_eq!(hex::encode(seed), SEED);
    let nodes = draw(&seed, &set, 12, &BTreeSet::new(), &[], &Constraints::STRICT);
    let order: Vec<u8> = nodes.iter().map(|node| node.0[3]).collect();
    assert_eq!(order, ORDER);
}

const SEED: &str = "ba55b0515567a7c76ae5929cade3234dbd4a087d18c0c66bcaf3cf83c3285668";
const ORDER: [u8; 12] = [5, 9, 7, 11, 10, 2, 3, 4, 8, 0, 6, 1];

prop_compose! {
    /// Rows that collide a lot.
    fn row()(
        node in 0..40u32, account in 0..30u32, weight_milli in 0..5_000u32, vetted in any::<bool>(),
        subnet in 0..25u8, asn in 0..12u32, cohort in 0..12u64, founding in prop::bool::weighted(0.2),
    ) -> NodeRow {
        NodeRow {
            node: NodeId(id(node)),
            account: AccountId(id(account)),
            weight_milli,
            vetted: vetted || founding,
            whereabouts: Whereabouts { subnet: [4, subnet, 0, 0, 0, 0, 0], asn },
            cohort,
            founding,
        }
    }
}

prop_compose! {
    fn constraints()(
        accounts in any::<bool>(), subnets in any::<bool>(), systems in any::<bool>(),
        cohorts in any::<bool>(), unvetted_max in 0..3u8,
    ) -> Constraints {
        Constraints { accounts, subnets, systems, cohorts, unvetted_max }
    }
}

/// The rule in plain words, apart from the code under test.
fn clash(c: &Constraints, a: &NodeRow, b: &NodeRow) -> bool {
    let asn = a.whereabouts.asn;
    a.node == b.node
        || c.accounts && a.account == b.account
        || c.subnets && a.whereabouts.subnet == b.whereabouts.subnet
        || c.systems && asn > 0 && asn == b.whereabouts.asn
        || c.cohorts && a.cohort == b.cohort && !(a.founding || b.founding)
}

proptest! {
    #[test]
    fn constraints_hold_and_nobody_is_left_out(
        rows in prop::collection::vec(row(), 0..60),
        already in prop::collection::vec(row(), 0..3),
        excluded in prop::collection::btree_set((0..40u32).prop_map(|n| NodeId(id(n))), 0..6),
        count in 0..8usize,
        constraints in prop_oneof![Just(Constraints::STRICT), constraints()],
        seed in any::<[u8; 32]>(),
    ) {
        let set = NodeSet::new(rows.clone());
        let nodes = draw(&seed, &set, count, &excluded, &already, &constraints);
        prop_assert!(nodes.len() <= count);
        let mut on_task = already.clone();
        for node in &nodes {
            let row = set.get(node).unwrap();
            prop_assert!(!excluded.contains(node));
            prop_assert!(on_task.iter().all(|other| !clash(&constraints, other, row)));
            on_task.push(*row);
            let unvetted = on_task.iter().filter(|row| !row.vetted).count();
            prop_assert!(row.vetted || unvetted <= usize::from(constraints.unvetted_max));
        }
        if nodes.len() < count {
            let unvetted = on_task.iter().filter(|row| !row.vetted).count();
            for (row, weight) in set.weighted() {
                let fits = weight > 0
                    && !excluded.contains(&row.node)
                    && (row.vetted || unvetted < usize::from(constraints.unvetted_max))
                    && on_task.iter().all(|other| !clash(&constraints, other, row));
                prop_assert!(!fits, "{row:?} was left out");
            }
        }
    }

    #[test]
    fn neither_order_nor_count_changes_who_is_best(
        rows in prop::collection::vec(row(), 0..60),
        seed in any::<[u8; 32]>(),
    ) {
        let by_node: BTreeMap<NodeId, NodeRow> = rows.iter().map(|r| (r.node, *r)).collect();
        let forwards = NodeSet::new(by_node.values().copied());
        let backwards = NodeSet::new(by_node.values().rev().copied());
        let none = BTreeSet::new();
        let all = draw(&seed, &forwards, 100, &none, &[], &Constraints::STRICT);
        prop_assert_eq!(&all, &draw(&seed, &backwards, 100, &none, &[], &Constraints::STRICT));
        for count in 0..all.len() {
            let some = draw(&seed, &forwards, count, &none, &[], &Constraints::STRICT);
            prop_assert_eq!(&all[..count], &some[..]);
        }
    }
}
