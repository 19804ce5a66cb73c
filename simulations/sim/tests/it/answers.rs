//! Answers to prompts: what cheats lose, what near ties cost, and that old rule sets ask for none.

use openledger_rules::RuleSet;
use openledger_rules::state::{AccountRecord, NodeRecord, is_asked_again};
use openledger_sim::scenario::Scenario;
use openledger_sim::world::{Conduct, World, WorldConfig};
use openledger_wire::Points;
use openledger_wire::log::{Line, ReasonCode, Verdict, VerdictRow};
use openledger_wire::proof::InferOutput;
use openledger_wire::task::TaskKind;

fn world_of(others: Vec<Conduct>, rules: RuleSet) -> World {
    let config = WorldConfig {
        seed: 3,
        honest: 6,
        others,
        pages: 20,
        prompts: 60,
        tie_permille: 0,
        epochs: 3,
        loss_permille: 0,
        crash_permille: 0,
        rules,
    };
    let mut world = World::new(config).unwrap();
    world.run().unwrap();
    world
}

/// The node that was not made honest, and its account.
fn cheat(world: &World) -> (&NodeRecord, &AccountRecord) {
    let state = world.machine().state();
    let (_, node) = state.nodes().find(|(id, _)| !world.is_honest(id)).unwrap();
    (node, state.account(&node.member.account).unwrap())
}

/// Verdicts about lies.
fn lies(world: &World) -> Vec<VerdictRow> {
    let entries = world.entries().unwrap();
    let rows = entries.iter().flat_map(|entry| match &entry.line {
        Line::Verdicts(verdicts) => verdicts.rows.to_vec(),
        _ => Vec::new(),
    });
    rows.filter(|row| world.dishonest.contains_key(&row.proof)).collect()
}

#[test]
fn work_that_was_not_done_is_rejected_and_forfeits() {
    let mut forfeited = 0;
    for conduct in [Conduct::Prefiller, Conduct::AdapterSkipper, Conduct::OtherSeed] {
        let world = world_of(vec![conduct], RuleSet::devnet_v2([0; 32]));
        let rows = lies(&world);
        let differs = |row: &&VerdictRow| {
            (row.verdict, row.reason) == (Verdict::Rejected, ReasonCode::ReexecutionDiffers)
        };
        assert!(rows.iter().filter(differs).count() > 0, "{conduct:?}: {rows:?}");
        assert!(rows.iter().all(|row| row.verdict != Verdict::Accepted), "{conduct:?}");
        let (node, account) = cheat(&world);
        let trust = node.trust.get(&TaskKind::Infer).unwrap();
        assert!(node.rejected > 0 && trust.required >= 20, "{conduct:?}: {trust:?}");
        forfeited += account.forfeited.0;
    }
    assert!(forfeited > 0);
}

#[test]
fn a_body_of_an_unknown_version_is_malformed_and_no_proven_cheat() {
    let world = world_of(vec![Conduct::OddVersion], RuleSet::devnet_v2([0; 32]));
    let rows = lies(&world);
    assert!(!rows.is_empty());
    for row in &rows {
        assert_eq!((row.verdict, row.reason), (Verdict::Rejected, ReasonCode::MalformedBody));
    }
    assert_eq!(cheat(&world).1.forfeited, Points::ZERO);
}

/// Without the rise in what is required, this cheat would be accepted whenever no check is drawn
/// and lose nothing when one is.
#[test]
fn a_forged_near_tie_earns_nothing_and_ends_in_ever_more_checks() {
    let world = world_of(vec![Conduct::TieForger], RuleSet::devnet_v2([0; 32]));
    let rows = lies(&world);
    assert!(rows.len() > 1, "{rows:?}");
    for row in &rows {
        assert_eq!((row.verdict, row.points), (Verdict::Inconclusive, Points::ZERO));
    }
    let settled = rows.iter().filter(|row| row.reason == ReasonCode::Volatile).count();
    let (node, _) = cheat(&world);
    let trust = node.trust.get(&TaskKind::Infer).unwrap();
    assert!(settled > 0 && node.rejected == 0);
    assert!(trust.valid_run == 0 && trust.required >= 20, "{trust:?}");
}

#[test]
fn near_ties_among_honest_nodes_happen_and_cost_no_points() {
    let report = Scenario::named("infer-near-ties").unwrap().run(1).unwrap();
    assert!(report.ties > 0 && report.honest_rejected == 0, "{report:?}");
    let report = Scenario::named("infer").unwrap().run(1).unwrap();
    assert_eq!(report.ties, 0);
}

#[test]
fn a_rule_set_without_infer_assigns_none() {
    let world = world_of(Vec::new(), RuleSet::devnet_v1([0; 32]));
    let state = world.machine().state();
    let (prompts, others): (Vec<_>, Vec<_>) =
        state.active_tasks().partition(|(_, task)| task.spec.kind == TaskKind::Infer);
    assert_eq!((prompts.len(), others.len()), (60, 0));
    assert!(prompts.iter().all(|(_, task)| task.waves.is_empty()));
}

/// Outputs of `infer` tasks with their verdicts: class, verdict, reason.
fn judged(world: &World) -> Vec<(String, Verdict, ReasonCode)> {
    let rows = world.machine().state().proofs().filter_map(|(_, record)| {
        let output = record.proof.body.read::<InferOutput>().ok()?;
        let (verdict, reason, ..) = record.verdict?;
        Some((output.backend.to_string(), verdict, reason))
    });
    rows.collect()
}

#[test]
fn nodes_of_two_classes_check_each_other_and_nobody_is_blamed() {
    let world = world_of(Vec::new(), RuleSet::devnet_v3([0; 32]));
    let rows = judged(&world);
    for class in ["cpu-int12-1", "cpu-reference-1"] {
        let of = |reason| {
            let found = |row: &&(String, Verdict, ReasonCode)| row.0 == class && row.2 == reason;
            rows.iter().filter(found).count()
        };
        let (redone, checks) = (of(ReasonCode::ReexecutionAgrees), of(ReasonCode::AuditDone));
        assert!(redone > 0 && checks > 0, "{class}: {rows:?}");
    }
    assert!(rows.iter().all(|row| row.1 == Verdict::Accepted), "{rows:?}");
}

#[test]
fn cheats_are_caught_among_nodes_of_two_classes() {
    for conduct in [Conduct::Prefiller, Conduct::AdapterSkipper, Conduct::OtherSeed] {
        let world = world_of(vec![conduct], RuleSet::devnet_v3([0; 32]));
        let rows = lies(&world);
        let differs = |row: &&VerdictRow| row.reason == ReasonCode::ReexecutionDiffers;
        assert!(rows.iter().filter(differs).count() > 0, "{conduct:?}: {rows:?}");
        assert!(rows.iter().all(|row| row.verdict != Verdict::Accepted), "{conduct:?}");
    }
}

/// A coordinator could tell an auditor the wrong class, and a node could ignore what it is told:
/// its output says nothing about the other, and costs neither of them anything.
#[test]
fn a_check_in_another_class_counts_for_nothing() {
    let world = world_of(vec![Conduct::OtherClass], RuleSet::devnet_v3([0; 32]));
    let rows = lies(&world);
    assert!(!rows.is_empty());
    for row in &rows {
        let found = (row.verdict, row.reason, row.points);
        let nothing = (Verdict::Inconclusive, ReasonCode::TooFewReplicas, Points::ZERO);
        assert_eq!(found, nothing);
    }
    let (node, account) = cheat(&world);
    assert_eq!((node.rejected, account.forfeited), (0, Points::ZERO));
    let honest = judged(&world).into_iter().filter(|row| row.1 == Verdict::Rejected).count();
    assert_eq!(honest, 0);
}

/// A proof that comes between the seal of a round and its beacon may finish a task for which the
/// round draws: a lease of it would be closed by nobody, and keep its node from other work for good.
#[test]
fn nobody_is_kept_from_work_by_leases_of_finished_tasks() {
    for conduct in [Conduct::Prefiller, Conduct::OtherClass] {
        let world = world_of(vec![conduct], RuleSet::devnet_v3([0; 32]));
        let state = world.machine().state();
        for (id, node) in state.nodes() {
            assert_eq!(node.open_leases as usize, state.open_leases(id).len(), "{conduct:?} {id}");
        }
    }
}

/// Whoever checks an answer of a class that is not the same bits everywhere runs its tokens in one
/// that is, and nobody is blamed for rounding.
#[test]
fn nodes_whose_bits_differ_are_checked_within_a_tolerance_and_nobody_is_blamed() {
    let world = world_of(Vec::new(), RuleSet::devnet_v4([0; 32]));
    let rows = judged(&world);
    let of =
        |class: &str, reason| rows.iter().filter(|row| row.0 == class && row.2 == reason).count();
    let judged =
        of("wgpu-1", ReasonCode::ReexecutionAgrees) + of("onnx-1", ReasonCode::ReexecutionAgrees);
    let redone = of("cpu-int12-2", ReasonCode::ReexecutionAgrees);
    assert!(judged > 0 && redone > 0, "{rows:?}");
    assert!(of("cpu-int12-1", ReasonCode::AuditDone) > 0, "{rows:?}");
    assert_eq!(of("wgpu-1", ReasonCode::AuditDone) + of("onnx-1", ReasonCode::AuditDone), 0);
    assert!(rows.iter().all(|row| row.1 == Verdict::Accepted), "{rows:?}");
}

#[test]
fn fingerprints_and_slacks_catch_what_was_not_computed() {
    for conduct in [
        Conduct::Forger,
        Conduct::Editor,
        Conduct::Scaler,
        Conduct::AdapterSkipper,
        Conduct::Prefiller,
        Conduct::OtherSeed,
        Conduct::TieForger,
    ] {
        let world = world_of(vec![conduct], RuleSet::devnet_v4([0; 32]));
        let rows = lies(&world);
        let differs = |row: &&VerdictRow| row.reason == ReasonCode::ReexecutionDiffers;
        let caught = rows.iter().filter(differs).count();
        assert!(caught > 0, "{conduct:?}: {rows:?}");
        assert!(rows.iter().all(|row| row.verdict != Verdict::Accepted), "{conduct:?}");
        // In the class that is judged most loosely, too.
        let in_class = |row: &(String, Verdict, ReasonCode)| {
            row.0 == "wgpu-1" && row.2 == ReasonCode::ReexecutionDiffers
        };
        assert!(judged(&world).iter().any(in_class), "{conduct:?}");
        let honest = judged(&world).into_iter().filter(|row| row.1 == Verdict::Rejected).count();
        assert_eq!(honest, rows.iter().filter(|row| row.verdict == Verdict::Rejected).count());
    }
}

/// A refuted answer leaves its prompt open: somebody else is asked, until there is a right one.
#[test]
fn prompts_whose_answers_were_refuted_are_asked_again() {
    let world = world_of(vec![Conduct::Forger], RuleSet::devnet_v4([0; 32]));
    let state = world.machine().state();
    let again: Vec<_> = state
        .tasks()
        .filter(|(_, task)| is_asked_again(&task.spec))
        .map(|(_, task)| task)
        .collect();
    assert!(!again.is_empty());
    assert!(again.iter().any(|task| task.accepted), "{again:?}");
    for task in again {
        let refuted = state.tasks().filter(|(_, other)| {
            other.spec.body == task.spec.body && other.done.is_some() && !other.accepted
        });
        assert!(refuted.count() > 0);
    }
}

/// An auditor that answers something else than it was asked is no evidence for or against anybody.
#[test]
fn a_check_of_a_judged_answer_in_another_class_counts_for_nothing() {
    let world = world_of(vec![Conduct::OtherClass], RuleSet::devnet_v4([0; 32]));
    let rows = lies(&world);
    assert!(!rows.is_empty());
    assert!(rows.iter().all(|row| row.verdict == Verdict::Inconclusive), "{rows:?}");
    assert!(judged(&world).iter().all(|row| row.1 != Verdict::Rejected));
}
