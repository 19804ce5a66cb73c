//! A stranger's audit: honest bundles pass, every kind of lie is noticed, and the bundles of
//! released rule sets stay auditable.

use std::path::PathBuf;

use openledger_rules::{AuditError, Bundle, RuleSet, Setup, audit};
use openledger_sim::world::{Conduct, ExactJudge, World, WorldConfig};
use openledger_wire::log::{Entry, Line, Verdict};
use openledger_wire::{Blob, Open, Points};

fn small_world() -> World {
    let config = WorldConfig {
        seed: 5,
        honest: 5,
        others: vec![Conduct::Fabricator],
        pages: 6,
        epochs: 2,
        loss_permille: 20,
        crash_permille: 0,
        rules: RuleSet { vest_accepted: 2, ..RuleSet::devnet_v1([0; 32]) },
    };
    let mut world = World::new(config).unwrap();
    world.run().unwrap();
    world
}

fn fails(setup: &Setup, bundles: &[Bundle]) -> bool {
    audit(setup.clone(), &ExactJudge, bundles).is_err()
}

/// Rewrites the entries of a bundle that `change` touches.
fn altered(bundle: &Bundle, change: impl Fn(&mut Entry) -> bool) -> Option<Bundle> {
    let mut altered = bundle.clone();
    let mut touched = false;
    for bytes in &mut altered.entries {
        let mut entry = Entry::from_bytes(bytes).unwrap();
        if change(&mut entry) {
            *bytes = Blob::new(entry.to_bytes().unwrap()).unwrap();
            touched = true;
        }
    }
    touched.then_some(altered)
}

#[test]
fn an_audit_notices_every_change() {
    let world = small_world();
    let (setup, bundles) = (world.setup().clone(), world.bundles().unwrap());
    assert_eq!(bundles.len(), 2);
    let report = audit(setup.clone(), &ExactJudge, &bundles).unwrap();
    assert!(report.epochs[1].close.total > Open::ZERO);

    let give_more = |entry: &mut Entry| match &mut entry.line {
        Line::Epoch(close) => {
            close.total = Open(close.total.0 + 1);
            true
        }
        _ => false,
    };
    let wrong_verdict = |entry: &mut Entry| match &mut entry.line {
        Line::Verdicts(verdicts) => {
            let mut rows = verdicts.rows.to_vec();
            rows[0].verdict = Verdict::Rejected;
            rows[0].points = Points::ZERO;
            verdicts.rows = openledger_wire::List::new(rows).unwrap();
            true
        }
        _ => false,
    };
    let other_node = |entry: &mut Entry| match &mut entry.line {
        Line::Leases(leases) if leases.rows.len() > 1 => {
            let mut rows = leases.rows.to_vec();
            rows.swap_remove(0);
            leases.rows = openledger_wire::List::new(rows).unwrap();
            true
        }
        _ => false,
    };
    let other_beacon = |entry: &mut Entry| match &mut entry.line {
        Line::Beacon(beacon) => {
            beacon.value.0[0] ^= 1;
            true
        }
        _ => false,
    };
    let changes: [&dyn Fn(&mut Entry) -> bool; 4] =
        [&give_more, &wrong_verdict, &other_node, &other_beacon];
    for change in changes {
        let mut lies = bundles.clone();
        let touched = lies.iter_mut().find_map(|bundle| {
            let altered = altered(bundle, change)?;
            *bundle = altered;
            Some(())
        });
        assert!(touched.is_some() && fails(&setup, &lies));
    }
    let mut dropped = bundles.clone();
    dropped[0].entries.remove(3);
    assert!(fails(&setup, &dropped));
    let mut hidden = bundles.clone();
    hidden[0].proofs.pop();
    assert!(fails(&setup, &hidden));
    let gap = audit(setup, &ExactJudge, &bundles[1..]);
    assert!(matches!(gap, Err(AuditError::Gap { .. })));
}

/// Regenerate with `UPDATE_VECTORS=1` only together with a new rule set name: released bundles
/// must stay auditable for ever.
#[test]
fn the_golden_bundles_still_audit_to_their_roots() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let world = small_world();
    let paths: Vec<PathBuf> = (1..=2).map(|n| folder.join(format!("epoch-{n}.cbor"))).collect();
    let roots_path = folder.join("roots.json");
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        let bundles = world.bundles().unwrap();
        for (bundle, path) in bundles.iter().zip(&paths) {
            std::fs::write(path, bundle.to_bytes().unwrap()).unwrap();
        }
        let report = audit(world.setup().clone(), &ExactJudge, &bundles).unwrap();
        std::fs::write(&roots_path, serde_json::to_string_pretty(&report).unwrap() + "\n").unwrap();
    }
    let bundles: Vec<Bundle> = paths
        .iter()
        .map(|path| Bundle::from_bytes(&std::fs::read(path).unwrap()).unwrap())
        .collect();
    let report = audit(world.setup().clone(), &ExactJudge, &bundles).unwrap();
    let golden = std::fs::read_to_string(roots_path).unwrap();
    assert_eq!(serde_json::from_str::<openledger_rules::AuditReport>(&golden).unwrap(), report);
    assert_eq!(world.bundles().unwrap(), bundles, "the rules make other lines than they did");
}
