//! One lease from assignment to payout, and each way in which it ends early.

use openledger_outbox::{Action, CheckError, Event, Key, Outbox, Query, Refusal, Stage, limits};
use openledger_wire::link::{AccountStatus, LinkPush, NodeState};
use openledger_wire::log::Verdict;
use openledger_wire::proof::{Commit, Proof};
use openledger_wire::{
    AccountId, Commitment, Epoch, EvmAddress, List, Open, Points, ProofId, UnixMs,
};

use crate::fixture::*;

fn outbox() -> (tempfile::TempDir, Outbox) {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(folder.path().join("outbox.redb"), setup()).unwrap();
    (folder, outbox)
}

/// Leases task 1 and promises an output.
fn commit(outbox: &Outbox) -> Key {
    let key = key_of(&leased(1));
    outbox.push(NOW, &push_leases([1])).unwrap();
    outbox.events(NOW, &[(key, Event::Started)]).unwrap();
    outbox.finish(NOW, &finished(key, "a page", 4)).unwrap();
    key
}

fn stage(outbox: &Outbox, key: Key) -> Stage {
    outbox.get(key).unwrap().unwrap().work.stage
}

fn account(pending: u64, cumulative: Open, epoch: u64) -> AccountStatus {
    AccountStatus {
        account: AccountId([1; 32]),
        payout: Some(EvmAddress([2; 20])),
        pending: Points(pending),
        vested: Points(0),
        cumulative,
        epoch: Epoch(epoch),
        claim: None,
    }
}

#[test]
fn a_lease_goes_all_the_way_to_its_payout() {
    let (_folder, outbox) = outbox();
    let key = key_of(&leased(1));
    let handled = outbox.push(NOW, &push_leases([1])).unwrap();
    assert!(matches!(&handled.actions[..], [Action::Work(task)] if **task == leased(1)));
    outbox.events(NOW, &[(key, Event::Started)]).unwrap();

    let handled = outbox.finish(NOW, &finished(key, "a page", 4)).unwrap();
    let [Action::SendCommit { envelope, .. }] = &handled.actions[..] else { panic!("{handled:?}") };
    let commit = envelope.open::<Commit>(NETWORK).unwrap().value;
    let (own, proof) = promised(&outbox, key);
    assert_eq!(commit.commitment, own);

    outbox.events(NOW, &[(key, Event::CommitHeld)]).unwrap();
    assert!(outbox.resume(NOW).unwrap().is_empty(), "a held commitment is not sent again");
    let handled = outbox.push(NOW, &sets(closed(key, vec![], Some(own)))).unwrap();
    let [Action::SendProof { envelope, .. }] = &handled.actions[..] else { panic!("{handled:?}") };
    let opened = envelope.open::<Proof>(NETWORK).unwrap();
    assert!(opened.value.opens() && opened.proof_id() == proof && opened.value.seq == 1);

    outbox.events(NOW, &[(key, Event::ProofHeld)]).unwrap();
    assert_eq!(outbox.unsettled().unwrap(), vec![proof]);
    assert!(outbox.push(NOW, &receipts(receipt(proof))).unwrap().refused.is_empty());
    assert_eq!(stage(&outbox, key), Stage::Receipted);

    let accepted = verdict(proof, key.task, Verdict::Accepted, 30, (2, 1));
    let handled = outbox.push(NOW, &verdicts(accepted)).unwrap();
    assert!(matches!(&handled.actions[..], [Action::GossipProof { .. }]));
    assert_eq!(handled.points, Points(30));
    assert!(outbox.unsettled().unwrap().is_empty());

    outbox.account(NOW, &account(30, Open::ZERO, 2), None).unwrap();
    assert_eq!(stage(&outbox, key), Stage::Counted, "its points may be the pending ones");
    outbox.account(NOW, &account(29, Open::ONE, 3), Some(Open::ZERO)).unwrap();
    assert_eq!(stage(&outbox, key), Stage::Vested);
    outbox.account(NOW, &account(0, Open::ONE, 3), Some(Open::ONE)).unwrap();
    let work = outbox.get(key).unwrap().unwrap().work;
    assert_eq!(work.stage, Stage::Paid);
    let stages: Vec<_> = work.milestones.iter().map(|milestone| milestone.stage.name()).collect();
    assert_eq!(
        stages.join(" "),
        "leased working committed closed sent receipted judged counted vested paid"
    );
    assert!(work.sentence().starts_with("accepted for 30 points: other nodes"));
    let totals = outbox.totals().unwrap();
    assert_eq!((totals.leased, totals.accepted, totals.points.0, totals.live), (1, 1, 30, 0));
}

#[test]
fn a_proof_is_kept_back_from_every_wrong_set() {
    for (notice, expected) in [
        (closed(key_of(&leased(1)), vec![(8, Commitment([1; 32]))], None), CheckError::Absent),
        (
            closed(key_of(&leased(1)), vec![], Some(Commitment([1; 32]))),
            CheckError::OtherCommitment,
        ),
    ] {
        let (_folder, outbox) = outbox();
        let key = commit(&outbox);
        let (own, _) = promised(&outbox, key);
        let handled = outbox.push(NOW, &sets(notice)).unwrap();
        assert!(handled.actions.is_empty());
        assert_eq!(handled.refused[0].why, Refusal::Check(expected));
        assert!(stage(&outbox, key).is_final());
        // The coordinator mends its mistake: a right set reveals after all.
        let handled = outbox.push(NOW, &sets(closed(key, vec![], Some(own)))).unwrap();
        assert!(matches!(&handled.actions[..], [Action::SendProof { .. }]));
    }
}

#[test]
fn a_second_output_for_one_lease_sends_the_first_commitment_again() {
    let (_folder, outbox) = outbox();
    let key = commit(&outbox);
    let first = promised(&outbox, key);
    let handled = outbox.finish(NOW, &finished(key, "another page", 5)).unwrap();
    let [Action::SendCommit { envelope, .. }] = &handled.actions[..] else { panic!("{handled:?}") };
    assert_eq!(envelope.open::<Commit>(NETWORK).unwrap().value.commitment, first.0);
    assert_eq!(promised(&outbox, key), first);
}

#[test]
fn receipts_and_verdicts_that_are_not_the_coordinators_change_nothing() {
    let (_folder, outbox) = outbox();
    let key = commit(&outbox);
    let (own, proof) = promised(&outbox, key);
    outbox.push(NOW, &sets(closed(key, vec![], Some(own)))).unwrap();
    let before = outbox.get(key).unwrap();

    let mut forged = receipt(proof);
    forged.batch.count_by = Epoch(99);
    let mut elsewhere = receipt(proof);
    elsewhere.batch.size = 3;
    let mut unsigned = receipt(proof);
    unsigned.signature.0[3] ^= 1;
    for bad in [forged, elsewhere, unsigned, receipt(ProofId([8; 32]))] {
        let handled = outbox.push(NOW, &receipts(bad)).unwrap();
        assert_eq!(handled.refused.len(), 1);
    }
    let mut richer = verdict(proof, key.task, Verdict::Accepted, 3, (2, 1));
    richer.row.points = Points(4);
    let mut other = verdict(proof, key.task, Verdict::Accepted, 3, (2, 1));
    other.row.node.0[0] ^= 1;
    for bad in [richer, other] {
        assert_eq!(outbox.push(NOW, &verdicts(bad)).unwrap().refused.len(), 1);
    }
    assert_eq!(outbox.get(key).unwrap(), before);
}

#[test]
fn the_verdict_with_the_highest_number_holds() {
    let (_folder, outbox) = outbox();
    let key = commit(&outbox);
    let (own, proof) = promised(&outbox, key);
    outbox.push(NOW, &sets(closed(key, vec![], Some(own)))).unwrap();
    let first = verdict(proof, key.task, Verdict::Accepted, 3, (2, 5));
    let later = verdict(proof, key.task, Verdict::Rejected, 0, (2, 6));
    outbox.push(NOW, &verdicts(later)).unwrap();
    outbox.push(NOW, &verdicts(first)).unwrap();
    let totals = outbox.totals().unwrap();
    assert_eq!((totals.accepted, totals.rejected, totals.points.0), (0, 1, 0));
    outbox.account(NOW, &account(0, Open::ONE, 9), Some(Open::ONE)).unwrap();
    assert_eq!(stage(&outbox, key), Stage::Counted, "a rejected lease is never paid");
    assert_eq!(outbox.totals().unwrap().live, 0);
}

#[test]
fn a_verdict_overturned_after_vesting_takes_the_points_back() {
    let (_folder, outbox) = outbox();
    let key = commit(&outbox);
    let (own, proof) = promised(&outbox, key);
    outbox.push(NOW, &sets(closed(key, vec![], Some(own)))).unwrap();
    outbox.push(NOW, &verdicts(verdict(proof, key.task, Verdict::Accepted, 3, (2, 5)))).unwrap();
    outbox.account(NOW, &account(0, Open::ONE, 2), Some(Open::ONE)).unwrap();
    assert_eq!(stage(&outbox, key), Stage::Paid);
    outbox.push(NOW, &verdicts(verdict(proof, key.task, Verdict::Rejected, 0, (3, 6)))).unwrap();
    assert_eq!(stage(&outbox, key), Stage::Judged);
    assert_eq!(outbox.totals().unwrap().points, Points(0));
}

#[test]
fn an_input_that_kills_workers_is_quarantined() {
    let (_folder, outbox) = outbox();
    let key = key_of(&leased(1));
    outbox.push(NOW, &push_leases([1])).unwrap();
    outbox.events(NOW, &[(key, Event::Started)]).unwrap();
    let again = outbox.events(NOW, &[(key, Event::Crashed)]).unwrap();
    assert!(matches!(&again.actions[..], [Action::Work(_)]));
    let handled = outbox.events(NOW, &[(key, Event::Started), (key, Event::Crashed)]).unwrap();
    let [Action::Decline(declined)] = &handled.actions[..] else { panic!("{handled:?}") };
    assert!(declined.reason.contains("quarantined"), "{}", &*declined.reason);
    // Pushed once more, it is given back once more.
    let handled = outbox.push(NOW, &push_leases([1])).unwrap();
    assert!(matches!(&handled.actions[..], [Action::Decline(_)]));
}

#[test]
fn a_lease_that_takes_the_node_down_is_begun_a_few_times_only() {
    let (_folder, outbox) = outbox();
    let key = key_of(&leased(1));
    outbox.push(NOW, &push_leases([1])).unwrap();
    for _ in 0..limits::ATTEMPTS_MAX {
        assert_eq!(outbox.resume(NOW).unwrap().len(), 1);
        outbox.events(NOW, &[(key, Event::Started)]).unwrap();
    }
    outbox.events(NOW, &[(key, Event::Started)]).unwrap();
    assert_eq!(stage(&outbox, key), Stage::Declined);
}

#[test]
fn deadlines_end_open_leases_only() {
    let (_folder, outbox) = outbox();
    let committed = commit(&outbox);
    outbox.push(NOW, &push_leases([2])).unwrap();
    let late = NOW.plus_ms(60_000);
    outbox.tick(late).unwrap();
    assert_eq!(stage(&outbox, key_of(&leased(2))), Stage::Expired);
    assert_eq!(stage(&outbox, committed), Stage::Committed);
}

#[test]
fn what_the_coordinator_forgot_is_sent_again() {
    let (_folder, outbox) = outbox();
    let key = commit(&outbox);
    let (own, proof) = promised(&outbox, key);
    outbox.push(NOW, &sets(closed(key, vec![], Some(own)))).unwrap();
    outbox.events(NOW, &[(key, Event::ProofHeld)]).unwrap();
    let state = NodeState { unknown: List::new(vec![proof]).unwrap(), ..NodeState::default() };
    let handled = outbox.state(NOW, &state).unwrap();
    assert!(matches!(&handled.actions[..], [Action::SendProof { .. }]));
}

#[test]
fn leases_of_others_and_unknown_items_are_refused() {
    let (_folder, outbox) = outbox();
    let mut foreign = leased(1);
    foreign.lease.node.0[0] ^= 1;
    let push = LinkPush::Leases(List::new(vec![foreign]).unwrap());
    let handled = outbox.push(NOW, &push).unwrap();
    assert!(matches!(handled.refused[0].why, Refusal::OtherNode(_)));
    assert!(outbox.finish(NOW, &finished(key_of(&leased(1)), "x", 1)).unwrap().refused.len() == 1);
}

#[test]
fn a_verdict_about_an_unrevealed_commitment_finds_its_lease_and_gossips_nothing() {
    let (_folder, outbox) = outbox();
    let key = commit(&outbox);
    let unseen = verdict(ProofId([6; 32]), key.task, Verdict::Rejected, 0, (2, 1));
    let handled = outbox.push(NOW, &verdicts(unseen)).unwrap();
    assert!(handled.actions.is_empty() && handled.refused.is_empty());
    assert_eq!(stage(&outbox, key), Stage::Judged);
}

#[test]
fn pruning_keeps_live_work_totals_and_the_guard() {
    let (_folder, outbox) = outbox();
    let key = commit(&outbox);
    let (own, proof) = promised(&outbox, key);
    outbox.push(NOW, &push_leases([2])).unwrap();
    outbox.tick(NOW.plus_ms(60_000)).unwrap();
    let later = NOW.plus_ms(limits::HISTORY_MS + 1);
    assert_eq!(outbox.prune(later).unwrap(), 1, "only the expired lease goes");
    outbox.push(NOW, &sets(closed(key, vec![], Some(own)))).unwrap();
    outbox.push(NOW, &verdicts(verdict(proof, key.task, Verdict::Rejected, 0, (2, 1)))).unwrap();
    outbox.account(NOW, &account(0, Open::ONE, 9), None).unwrap();
    assert_eq!(outbox.prune(later).unwrap(), 1);
    assert!(outbox.history(&Query { rows_max: 10, ..Query::default() }).unwrap().is_empty());
    assert_eq!(outbox.totals().unwrap().leased, 2);
    let handled = outbox.push(NOW, &push_leases([1])).unwrap();
    assert_eq!(handled.refused[0].why, Refusal::AlreadyCommitted);
    let much_later = UnixMs(NOW.0 + limits::GUARD_MS + 60_001);
    assert_eq!(outbox.prune(much_later).unwrap(), 1);
}

#[test]
fn history_is_newest_first_and_found_by_the_start_of_a_task_id() {
    let (_folder, outbox) = outbox();
    for number in 1..=5 {
        outbox.push(NOW.plus_ms(number), &push_leases([number])).unwrap();
    }
    let all = outbox.history(&Query { rows_max: 3, ..Query::default() }).unwrap();
    let tasks: Vec<_> = all.iter().map(|entry| entry.work.task).collect();
    assert_eq!(tasks, [5, 4, 3].map(|number| leased(number).lease.task));
    let prefix = leased(2).lease.task.to_string()[..10].to_owned();
    let query = Query { task: Some(prefix), rows_max: 10, ..Query::default() };
    let found = outbox.history(&query).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].leased, Some(leased(2)));
}
