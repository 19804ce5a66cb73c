//! A stranger's audit: honest bundles pass, every kind of lie is noticed, and the bundles of
//! released rule sets stay auditable.

use std::collections::BTreeSet;
use std::path::PathBuf;

use openledger_rules::{AuditError, Bundle, RuleSet, Setup, audit};
use openledger_sim::world::{Conduct, ExactJudge, World, WorldConfig};
use openledger_wire::log::{Entry, Line, ReasonCode, Verdict};
use openledger_wire::task::TaskKind;
use openledger_wire::{Blob, Open, Points, TaskId};

fn small_world() -> World {
    run(WorldConfig {
        seed: 5,
        honest: 5,
        others: vec![Conduct::Fabricator],
        pages: 6,
        prompts: 0,
        tie_permille: 0,
        epochs: 2,
        loss_permille: 20,
        crash_permille: 0,
        rules: RuleSet { vest_accepted: 2, ..RuleSet::devnet_v1([0; 32]) },
    })
}

fn small_answering_world() -> World {
    run(WorldConfig {
        seed: 7,
        honest: 6,
        others: vec![Conduct::AdapterSkipper],
        pages: 1,
        prompts: 16,
        tie_permille: 500,
        epochs: 2,
        loss_permille: 20,
        crash_permille: 0,
        rules: RuleSet { vest_accepted: 2, ..RuleSet::devnet_v2([0; 32]) },
    })
}

fn run(config: WorldConfig) -> World {
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

/// Holds a world's bundles against the ones of a folder, and audits those.
///
/// Regenerate with `UPDATE_VECTORS=1` only together with a new rule set name: released bundles
/// must stay auditable for ever.
fn hold_against(folder: &str, world: &World) -> Vec<Bundle> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
    let paths: Vec<PathBuf> = (1..=2).map(|n| folder.join(format!("epoch-{n}.cbor"))).collect();
    let roots_path = folder.join("roots.json");
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
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
    bundles
}

#[test]
fn the_golden_bundles_still_audit_to_their_roots() {
    hold_against("vectors", &small_world());
}

/// The second generation of rule sets: with answers accepted by tolerance, one that was rejected,
/// and one left open at a near tie.
#[test]
fn the_golden_bundles_with_answers_still_audit_to_their_roots() {
    let world = small_answering_world();
    let bundles = hold_against("vectors/devnet-2", &world);
    let prompts: BTreeSet<TaskId> = lines(&bundles)
        .flat_map(|line| match line {
            Line::Tasks(batch) => batch.tasks.into_vec(),
            _ => Vec::new(),
        })
        .filter(|spec| spec.kind == TaskKind::Infer)
        .map(|spec| spec.id(world.setup().network).unwrap())
        .collect();
    let seen: BTreeSet<(Verdict, ReasonCode)> = lines(&bundles)
        .flat_map(|line| match line {
            Line::Verdicts(verdicts) => verdicts.rows.into_vec(),
            _ => Vec::new(),
        })
        .filter(|row| prompts.contains(&row.task))
        .map(|row| (row.verdict, row.reason))
        .collect();
    let wanted = [
        (Verdict::Accepted, ReasonCode::ReexecutionAgrees),
        (Verdict::Accepted, ReasonCode::AuditDone),
        (Verdict::Rejected, ReasonCode::ReexecutionDiffers),
        (Verdict::Inconclusive, ReasonCode::Volatile),
    ];
    assert!(wanted.iter().all(|about| seen.contains(about)), "{seen:?}");
}

fn lines(bundles: &[Bundle]) -> impl Iterator<Item = Line> {
    let entries = bundles.iter().flat_map(|bundle| &bundle.entries);
    entries.map(|bytes| Entry::from_bytes(bytes).unwrap().line)
}
