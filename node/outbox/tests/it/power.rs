//! Power cuts at every operation of the disk: what was handed out must still be there.

use std::io;

use openledger_outbox::{Action, Event, Outbox, Stage};
use openledger_tables::Store;
use openledger_tables::faults::{Fault, FaultDisk, PowerCut};
use openledger_wire::Envelope;
use openledger_wire::log::Verdict;

use crate::fixture::*;

fn open(disk: &FaultDisk) -> Option<Outbox> {
    let store = Store::open_with_backend(disk.backend(), Outbox::options()).ok()?;
    Outbox::on(store, setup()).ok()
}

/// What left the node before the power went.
#[derive(Default)]
struct Sent {
    commits: Vec<Envelope>,
    proofs: Vec<Envelope>,
    receipted: bool,
}

/// Works on one lease until the disk fails.
fn work(outbox: &Outbox, sent: &mut Sent) -> Option<()> {
    let key = key_of(&leased(1));
    outbox.push(NOW, &push_leases([1, 2])).ok()?;
    outbox.events(NOW, &[(key, Event::Started)]).ok()?;
    let handled = outbox.finish(NOW, &finished(key, "a page", 4)).ok()?;
    for action in handled.actions {
        if let Action::SendCommit { envelope, .. } = action {
            sent.commits.push(envelope);
        }
    }
    let (own, proof) = promised(outbox, key);
    let handled = outbox.push(NOW, &sets(closed(key, vec![], Some(own)))).ok()?;
    for action in handled.actions {
        if let Action::SendProof { envelope, .. } = action {
            sent.proofs.push(envelope);
        }
    }
    outbox.push(NOW, &receipts(receipt(proof))).ok()?;
    sent.receipted = true;
    let accepted = verdict(proof, key.task, Verdict::Accepted, 30, (2, 1));
    outbox.push(NOW, &verdicts(accepted)).ok()?;
    Some(())
}

/// Reopens what is left and checks that it continues the same story.
fn check(image: Vec<u8>, sent: &Sent) {
    let outbox = open(&FaultDisk::from_image(image)).expect("a store after a power cut opens");
    let key = key_of(&leased(1));
    let entry = outbox.get(key).unwrap();
    if let Some(commit) = sent.commits.first() {
        let promise = entry.as_ref().unwrap().work.promise.clone().unwrap();
        assert_eq!(&promise.commit, commit, "the same commitment is sent again");
        // Another output, made because the node forgot: the guard keeps the first promise.
        outbox.finish(NOW, &finished(key, "another page", 5)).unwrap();
        assert_eq!(outbox.get(key).unwrap().unwrap().work.promise.unwrap().commit, *commit);
    }
    if let Some(proof) = sent.proofs.first() {
        assert_eq!(outbox.proof(key).unwrap().as_ref(), Some(proof));
        let resent = outbox.resume(NOW).unwrap().into_iter().any(
            |action| matches!(&action, Action::SendProof { envelope, .. } if envelope == proof),
        );
        let stage = entry.as_ref().unwrap().work.stage;
        assert!(resent || stage > Stage::Closed, "an unacknowledged proof is sent again");
    }
    if sent.receipted {
        assert!(entry.unwrap().work.receipt.is_some());
    }
}

#[test]
fn nothing_handed_out_is_lost_at_any_power_cut() {
    let dry = FaultDisk::new();
    let outbox = open(&dry).unwrap();
    let before = dry.operations();
    work(&outbox, &mut Sent::default()).unwrap();
    let operations = dry.operations() - before;
    drop(outbox);
    for after_operations in 0..operations {
        let disk = FaultDisk::new();
        let outbox = open(&disk).unwrap();
        let kind = io::ErrorKind::Other;
        disk.set_fault(Some(Fault { after_operations, kind, lasting: true }));
        let mut sent = Sent::default();
        let _ = work(&outbox, &mut sent);
        let cut = match after_operations % 3 {
            0 => PowerCut::LosesUnsynced,
            1 => PowerCut::KeepsUnsynced,
            _ => PowerCut::TearsUnsynced { seed: after_operations },
        };
        let image = disk.power_cut(cut);
        drop(outbox);
        check(image, &sent);
    }
}

#[test]
fn running_numbers_never_repeat_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.redb");
    let mut seen = Vec::new();
    for number in 1..=4 {
        let outbox = Outbox::open(&path, setup()).unwrap();
        let key = key_of(&leased(number));
        outbox.push(NOW, &push_leases([number])).unwrap();
        outbox.finish(NOW, &finished(key, "a page", 4)).unwrap();
        seen.push(outbox.get(key).unwrap().unwrap().work.promise.unwrap().seq);
        // Dropped without any closing step, as a kill leaves it.
    }
    assert_eq!(seen, [1, 2, 3, 4]);
}
