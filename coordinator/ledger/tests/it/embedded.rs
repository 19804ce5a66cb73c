//! The suite on each form of the embedded ledger, and power cuts at every moment.

use std::io;

use openledger_ledger::{Batch, CommitKey, EmbeddedLedger, Ingest, Ledger, Mark};
use openledger_tables::faults::{Fault, FaultDisk, PowerCut};
use openledger_wire::{Epoch, Height, NodeId, ProofId, TaskId};

use crate::contract::{self, line, statement};

#[tokio::test]
async fn the_suite_in_memory_in_a_file_and_on_a_faulty_disk_without_faults() {
    contract::run(&EmbeddedLedger::in_memory().unwrap()).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.redb");
    contract::run(&EmbeddedLedger::open(&path).unwrap()).await;
    let again = EmbeddedLedger::open(&path).unwrap();
    assert!(again.position().await.unwrap().next > Height(500));
    contract::run(&EmbeddedLedger::with_backend(FaultDisk::new().backend()).unwrap()).await;
}

/// Batch `n`: one entry, one commit that the next batch closes, one proof that the next receipts.
fn batch(n: u64) -> Batch {
    let mut entry = line(n);
    entry.closes = (n % 4 == 3).then_some(Epoch(n / 4 + 1));
    let mut closed = Vec::new();
    if let Some(before) = n.checked_sub(1) {
        entry.marks.push(Mark::Receipt(ProofId(statement(before).id())));
        closed.push(key(before));
    }
    Batch {
        lines: vec![entry],
        commits: vec![(key(n), statement(n))],
        proofs: vec![(ProofId(statement(n).id()), statement(n))],
        closed,
        ..Batch::default()
    }
}

fn key(n: u64) -> CommitKey {
    let mut task = [0; 32];
    task[..8].copy_from_slice(&n.to_be_bytes());
    CommitKey { task: TaskId(task), wave: 0, node: NodeId([9; 32]) }
}

const BATCHES: u64 = 10;

/// Commits until the disk fails; gives how many batches were acknowledged.
async fn run_script(disk: &FaultDisk) -> u64 {
    let Ok(ledger) = EmbeddedLedger::with_backend(disk.backend()) else { return 0 };
    for n in 0..BATCHES {
        if ledger.commit(batch(n)).await.is_err() {
            return n;
        }
    }
    BATCHES
}

async fn check(image: Vec<u8>, acknowledged: u64, story: &str) {
    let disk = FaultDisk::from_image(image);
    let ledger = EmbeddedLedger::with_backend(disk.backend())
        .unwrap_or_else(|error| panic!("{story}: {error}"));
    let next = ledger.position().await.unwrap().next.0;
    assert!(next >= acknowledged, "{story}: {acknowledged} acknowledged, {next} found");
    assert!(next <= acknowledged + 1, "{story}: more than the batch in flight");
    for n in 0..next {
        let id = ProofId(statement(n).id());
        assert_eq!(ledger.page(Height(n), 1).await.unwrap()[0].bytes, line(n).bytes, "{story}");
        assert_eq!(ledger.proof(id).await.unwrap(), Some(statement(n)), "{story}");
    }
    let open = ledger.open_commits().await.unwrap();
    let waiting = ledger.unreceipted().await.unwrap();
    let last = usize::from(next > 0);
    assert_eq!((open.len(), waiting.len()), (last, last), "{story}: a batch is whole or absent");
    // What was in flight is sent again and lands once.
    for n in acknowledged..BATCHES {
        ledger.commit(batch(n)).await.unwrap();
    }
    assert_eq!(ledger.position().await.unwrap().next, Height(BATCHES), "{story}");
    assert_eq!(ledger.close_height(Epoch(2)).await.unwrap(), Some(Height(7)), "{story}");
}

#[tokio::test]
async fn a_power_cut_at_any_moment_loses_nothing_acknowledged() {
    let disk = FaultDisk::new();
    assert_eq!(run_script(&disk).await, BATCHES);
    let operations = disk.operations();
    assert!(operations > 50, "the script does {operations} operations only");
    let mut disturbed = 0;
    for after_operations in 0..operations {
        let disk = FaultDisk::new();
        let kind = io::ErrorKind::Other;
        disk.set_fault(Some(Fault { after_operations, kind, lasting: true }));
        let acknowledged = run_script(&disk).await;
        disturbed += u64::from(acknowledged < BATCHES);
        let cut = match after_operations % 3 {
            0 => PowerCut::LosesUnsynced,
            1 => PowerCut::KeepsUnsynced,
            _ => PowerCut::TearsUnsynced { seed: after_operations },
        };
        let story = format!("operation {after_operations}, {cut:?}");
        check(disk.power_cut(cut), acknowledged, &story).await;
    }
    assert!(disturbed > operations / 2, "faults stopped {disturbed} runs only");
}

#[tokio::test]
async fn a_failed_sync_acknowledges_nobody_and_says_what_to_do() {
    let disk = FaultDisk::new();
    let ledger = EmbeddedLedger::with_backend(disk.backend()).unwrap();
    ledger.commit(batch(0)).await.unwrap();
    let kind = io::ErrorKind::StorageFull;
    disk.set_fault(Some(Fault { after_operations: 0, kind, lasting: true }));
    let error = ledger.commit(batch(1)).await.unwrap_err().to_string();
    assert!(error.contains("free some space"), "{error}");
}
