//! The suite that every back-end must pass, called with a fresh ledger. Power cuts need a back-end
//! that can suffer them and are tested beside each.

use futures::StreamExt;
use openledger_wire::identity::Revocation;
use openledger_wire::{
    BlobId, Envelope, Epoch, Height, Keccak, LogHead, NetworkId, NodeId, NodeKey, ProofId, TaskId,
};

use openledger_ledger::{
    Batch, BundleMeta, CommitKey, Ledger, LedgerError, LogLine, Mark, Position, limits,
};

/// A signed statement; `n` tells them apart.
pub(crate) fn statement(n: u64) -> Envelope {
    let key = NodeKey::from_seed(&[7; 32]);
    let value = Revocation { node: key.public(), serial: n };
    Envelope::seal(&value, NetworkId([1; 32]), &key).expect("a statement encodes")
}

/// The entry of a height, with content of its own.
pub(crate) fn line(height: u64) -> LogLine {
    let bytes = format!("entry {height} ").repeat(3).into_bytes();
    let head = LogHead(*BlobId::of(&bytes).as_bytes());
    LogLine { height: Height(height), head, bytes, closes: None, marks: Vec::new() }
}

fn lines(heights: std::ops::Range<u64>) -> Batch {
    Batch { lines: heights.map(line).collect(), ..Batch::default() }
}

/// Runs all of the suite on a fresh ledger.
pub(crate) async fn run(ledger: &dyn Ledger) {
    log_is_contiguous_and_idempotent(ledger).await.expect("the log");
    epochs_are_ranges(ledger).await.expect("epochs");
    commits_come_and_go(ledger).await.expect("commits");
    proofs_wait_for_receipts(ledger).await.expect("proofs");
    bundles_are_described(ledger).await.expect("bundles");
    many_callers_share(ledger).await.expect("concurrency");
}

async fn log_is_contiguous_and_idempotent(ledger: &dyn Ledger) -> Result<(), LedgerError> {
    assert_eq!(ledger.position().await?, Position { next: Height(0) });
    assert!(ledger.page(Height(0), 10).await?.is_empty());
    assert_eq!(ledger.commit(lines(0..3)).await?, Position { next: Height(3) });
    assert_eq!(ledger.commit(Batch::default()).await?, Position { next: Height(3) });
    assert_eq!(ledger.commit(lines(1..5)).await?, Position { next: Height(5) });
    let gap = ledger.commit(lines(7..8)).await;
    assert!(matches!(gap, Err(LedgerError::Gap { .. })), "{gap:?}");
    let other = LogLine { height: Height(2), ..line(99) };
    let other = Batch { lines: vec![other], ..Batch::default() };
    let conflict = ledger.commit(other).await;
    assert!(matches!(conflict, Err(LedgerError::Conflict { .. })), "{conflict:?}");
    assert_eq!(ledger.position().await?, Position { next: Height(5) }, "refusals write nothing");
    let page = ledger.page(Height(1), 2).await?;
    assert_eq!(page, vec![line(1), line(2)]);
    assert_eq!(ledger.page(Height(3), usize::MAX).await?, vec![line(3), line(4)]);
    assert!(ledger.page(Height(3), 0).await?.is_empty());
    Ok(())
}

async fn epochs_are_ranges(ledger: &dyn Ledger) -> Result<(), LedgerError> {
    let first = ledger.position().await?.next.0;
    let long = limits::PAGE_ENTRIES_MAX as u64 + 5;
    for (epoch, length) in [(1, 3), (2, long)] {
        let from = ledger.position().await?.next.0;
        let mut batch = lines(from..from + length);
        if let Some(last) = batch.lines.last_mut() {
            last.closes = Some(Epoch(epoch));
        }
        ledger.commit(batch).await?;
    }
    let heights = |lines: Vec<Result<LogLine, LedgerError>>| {
        lines.into_iter().map(|line| line.map(|line| line.height.0)).collect::<Result<Vec<_>, _>>()
    };
    let one = heights(ledger.epoch(Epoch(1)).await?.collect().await)?;
    assert_eq!(one, (0..first + 3).collect::<Vec<_>>());
    let two = heights(ledger.epoch(Epoch(2)).await?.collect().await)?;
    assert_eq!(two, (first + 3..first + 3 + long).collect::<Vec<_>>());
    assert_eq!(ledger.close_height(Epoch(1)).await?, Some(Height(first + 2)));
    assert_eq!(ledger.close_height(Epoch(3)).await?, None);
    let open = ledger.epoch(Epoch(3)).await;
    assert!(matches!(open, Err(LedgerError::NotClosed { epoch: 3 })));
    Ok(())
}

async fn commits_come_and_go(ledger: &dyn Ledger) -> Result<(), LedgerError> {
    let key = |wave, node| CommitKey { task: TaskId([3; 32]), wave, node: NodeId([node; 32]) };
    let commits = vec![(key(0, 1), statement(1)), (key(0, 2), statement(2))];
    ledger.commit(Batch { commits: commits.clone(), ..Batch::default() }).await?;
    ledger.commit(Batch { commits: commits.clone(), ..Batch::default() }).await?;
    assert_eq!(ledger.open_commits().await?, commits);
    let closed = vec![key(0, 1), key(1, 1)];
    ledger.commit(Batch { closed, ..Batch::default() }).await?;
    assert_eq!(ledger.open_commits().await?, commits[1..]);
    Ok(())
}

async fn proofs_wait_for_receipts(ledger: &dyn Ledger) -> Result<(), LedgerError> {
    let proofs: Vec<(ProofId, Envelope)> =
        (10..13).map(|n| (ProofId(statement(n).id()), statement(n))).collect();
    ledger.commit(Batch { proofs: proofs.clone(), ..Batch::default() }).await?;
    assert_eq!(ledger.unreceipted().await?.len(), 3);
    let from = ledger.position().await?.next.0;
    let task = TaskId([4; 32]);
    let mut batch = lines(from..from + 2);
    batch.lines[0].marks = vec![Mark::Receipt(proofs[0].0), Mark::Task(task)];
    batch.lines[1].marks = vec![Mark::Verdict(proofs[0].0), Mark::Task(task)];
    ledger.commit(batch).await?;
    assert_eq!(ledger.unreceipted().await?.len(), 2);
    // Sent again after its receipt, a proof waits for nothing.
    ledger.commit(Batch { proofs: proofs.clone(), ..Batch::default() }).await?;
    assert_eq!(ledger.unreceipted().await?.len(), 2);
    assert_eq!(ledger.proof(proofs[1].0).await?, Some(proofs[1].1.clone()));
    assert_eq!(ledger.proof(ProofId([0; 32])).await?, None);
    let (first, second) = (Some(Height(from)), Some(Height(from + 1)));
    assert_eq!(ledger.lines_of_proof(proofs[0].0).await?, (first, second));
    assert_eq!(ledger.lines_of_proof(proofs[1].0).await?, (None, None));
    assert_eq!(ledger.lines_of_task(task).await?, vec![Height(from), Height(from + 1)]);
    assert!(ledger.lines_of_task(TaskId([5; 32])).await?.is_empty());
    Ok(())
}

async fn bundles_are_described(ledger: &dyn Ledger) -> Result<(), LedgerError> {
    let meta = BundleMeta {
        epoch: Epoch(1),
        blob: BlobId([1; 32]),
        bytes: 77,
        data_commitment: Keccak([2; 32]),
        height: Height(7),
        head: LogHead([3; 32]),
    };
    ledger.commit(Batch { bundles: vec![meta], ..Batch::default() }).await?;
    assert_eq!(ledger.bundle(Epoch(1)).await?, Some(meta));
    assert_eq!(ledger.bundle(Epoch(2)).await?, None);
    Ok(())
}

async fn many_callers_share(ledger: &dyn Ledger) -> Result<(), LedgerError> {
    let before = ledger.unreceipted().await?.len();
    let batches = (100..164).map(|n| {
        let proofs = vec![(ProofId(statement(n).id()), statement(n))];
        ledger.commit(Batch { proofs, ..Batch::default() })
    });
    for result in futures::future::join_all(batches).await {
        result?;
    }
    assert_eq!(ledger.unreceipted().await?.len(), before + 64);
    Ok(())
}
