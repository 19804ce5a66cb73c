//! The ledger in one file of this machine, or in memory, or on a back-end that fails on purpose.
//!
//! Writers share syncs through a [`GroupCommit`]; readers see the last commit and never wait for a
//! writer. Reads are short and come from the page cache or the local disk, so they run where they
//! are called.

use std::ops::ControlFlow;
use std::path::Path;

use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use openledger_tables::{
    Backend, GroupCommit, GroupOptions, Store, StoreError, StoreOptions, Table, WriteTxn,
};
use openledger_wire::{
    DecodeError, Envelope, Epoch, Height, LogHead, NodeId, ProofId, TaskId, decode, encode,
};

use crate::batch::{Batch, BundleMeta, CommitKey, LogLine, Mark};
use crate::error::LedgerError;
use crate::limits;
use crate::traits::{EntryStream, Ingest, Ledger, Position};

/// Height to head (32 bytes) and entry.
const LOG: Table<u64, Vec<u8>> = Table::new("log");
/// Epoch to the height that closed it.
const CLOSES: Table<u64, u64> = Table::new("closes");
/// Commits in no closed set: task, wave, node.
const COMMITS: Table<([u8; 32], u8, [u8; 32]), Vec<u8>> = Table::new("commits");
/// Proofs by id.
const PROOFS: Table<[u8; 32], Vec<u8>> = Table::new("proofs");
/// Proofs that no entry receipts yet.
const UNRECEIPTED: Table<[u8; 32], ()> = Table::new("unreceipted");
/// Proof to the height that receipted it.
const RECEIPTS: Table<[u8; 32], u64> = Table::new("receipts");
/// Proof to the height that last judged it.
const VERDICTS: Table<[u8; 32], u64> = Table::new("verdicts");
/// Heights of the entries about a task.
const TASKS: Table<([u8; 32], u64), ()> = Table::new("tasks");
/// Bundles by epoch.
const BUNDLES: Table<u64, Vec<u8>> = Table::new("bundles");

/// The ledger of a coordinator on one machine.
#[derive(Debug)]
pub struct EmbeddedLedger {
    store: Store,
    group: GroupCommit,
}

/// What the tables hold, by name and number.
#[must_use]
const fn options() -> StoreOptions {
    StoreOptions::new("coordinator ledger", 1)
}

impl EmbeddedLedger {
    /// Opens the ledger in a file, making it when there is none.
    ///
    /// # Errors
    /// The file cannot be opened, is damaged, or was written by a newer build.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LedgerError> {
        Self::on(Store::open(path, options())?)
    }

    /// A ledger in memory: for tests and simulations.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn in_memory() -> Result<Self, LedgerError> {
        Self::on(Store::in_memory(options())?)
    }

    /// A ledger on a back-end of the caller, which may drop or tear what was not synced.
    ///
    /// # Errors
    /// What the back-end says, or what it holds is no ledger.
    pub fn with_backend(backend: Box<dyn Backend>) -> Result<Self, LedgerError> {
        Self::on(Store::open_with_backend(backend, options())?)
    }

    fn on(store: Store) -> Result<Self, LedgerError> {
        let group = GroupCommit::start(store.clone(), GroupOptions::default())?;
        Ok(Self { store, group })
    }
}

/// A batch with its statements encoded, so that the committing thread only writes.
struct Prepared {
    lines: Vec<LogLine>,
    commits: Vec<(CommitKey, Vec<u8>)>,
    proofs: Vec<(ProofId, Vec<u8>)>,
    closed: Vec<CommitKey>,
    bundles: Vec<(Epoch, Vec<u8>)>,
}

impl Prepared {
    fn of(batch: Batch) -> Result<Self, LedgerError> {
        let mut commits = Vec::with_capacity(batch.commits.len());
        for (key, envelope) in &batch.commits {
            commits.push((*key, envelope.to_bytes()?));
        }
        let mut proofs = Vec::with_capacity(batch.proofs.len());
        for (id, envelope) in &batch.proofs {
            proofs.push((*id, envelope.to_bytes()?));
        }
        let mut bundles = Vec::with_capacity(batch.bundles.len());
        for meta in &batch.bundles {
            bundles.push((meta.epoch, encode(meta)?));
        }
        Ok(Self { lines: batch.lines, commits, proofs, closed: batch.closed, bundles })
    }

    fn write(&self, txn: &mut WriteTxn) -> Result<Position, LedgerError> {
        let next = self.write_log(txn)?;
        {
            let mut commits = txn.table(COMMITS)?;
            for (key, bytes) in &self.commits {
                commits.insert(&commit_key(key), bytes)?;
            }
            for key in &self.closed {
                commits.remove(&commit_key(key))?;
            }
        }
        for (id, bytes) in &self.proofs {
            let is_new = !txn.insert(PROOFS, &id.0, bytes)?;
            if is_new && txn.get(RECEIPTS, &id.0)?.is_none() {
                txn.insert(UNRECEIPTED, &id.0, &())?;
            }
        }
        for (epoch, bytes) in &self.bundles {
            txn.insert(BUNDLES, &epoch.0, bytes)?;
        }
        self.write_marks(txn)?;
        Ok(Position { next: Height(next) })
    }

    fn write_log(&self, txn: &mut WriteTxn) -> Result<u64, LedgerError> {
        let mut log = txn.table(LOG)?;
        let mut next = log.last()?.map_or(0, |(height, _)| height + 1);
        for line in &self.lines {
            let row = log_row(line);
            if line.height.0 < next {
                if log.get(&line.height.0)? != Some(row) {
                    return Err(LedgerError::Conflict { height: line.height });
                }
                continue;
            }
            if line.height.0 > next {
                return Err(LedgerError::Gap { offered: line.height, next: Height(next) });
            }
            log.insert(&next, &row)?;
            next += 1;
        }
        Ok(next)
    }

    fn write_marks(&self, txn: &mut WriteTxn) -> Result<(), LedgerError> {
        for line in &self.lines {
            let height = line.height.0;
            if let Some(epoch) = line.closes {
                txn.insert(CLOSES, &epoch.0, &height)?;
            }
            for mark in &line.marks {
                match mark {
                    Mark::Task(task) => {
                        txn.insert(TASKS, &(task.0, height), &())?;
                    }
                    Mark::Receipt(proof) => {
                        txn.insert(RECEIPTS, &proof.0, &height)?;
                        txn.remove(UNRECEIPTED, &proof.0)?;
                    }
                    Mark::Verdict(proof) => {
                        txn.insert(VERDICTS, &proof.0, &height)?;
                    }
                }
            }
        }
        Ok(())
    }
}

const fn commit_key(key: &CommitKey) -> ([u8; 32], u8, [u8; 32]) {
    (key.task.0, key.wave, key.node.0)
}

fn log_row(line: &LogLine) -> Vec<u8> {
    let mut row = Vec::with_capacity(32 + line.bytes.len());
    row.extend_from_slice(&line.head.0);
    row.extend_from_slice(&line.bytes);
    row
}

fn log_line(height: u64, row: &[u8]) -> Result<LogLine, LedgerError> {
    let Some((head, bytes)) = row.split_first_chunk::<32>() else {
        let reason = format!("{} bytes at height {height} hold no head", row.len());
        return Err(DecodeError::Malformed { what: "LogLine", reason }.into());
    };
    let (head, bytes) = (LogHead(*head), bytes.to_vec());
    Ok(LogLine { height: Height(height), head, bytes, closes: None, marks: Vec::new() })
}

#[async_trait]
impl Ingest for EmbeddedLedger {
    async fn commit(&self, batch: Batch) -> Result<Position, LedgerError> {
        let prepared = Prepared::of(batch)?;
        self.group.commit(move |txn| prepared.write(txn)).await
    }
}

/// Reads a page: the rows that fit, from `from` to `to` inclusive.
fn read_page(
    store: &Store,
    from: u64,
    to: u64,
    entries_max: usize,
) -> Result<Vec<LogLine>, LedgerError> {
    let entries_max = entries_max.min(limits::PAGE_ENTRIES_MAX);
    let (mut rows, mut bytes) = (Vec::new(), 0usize);
    if entries_max == 0 {
        return Ok(Vec::new());
    }
    store.read::<_, StoreError>(|txn| {
        txn.table(LOG)?.scan(from..=to, |height, row| {
            bytes = bytes.saturating_add(row.len());
            if !rows.is_empty() && bytes > limits::PAGE_BYTES_MAX {
                return ControlFlow::Break(());
            }
            rows.push((height, row));
            let full = rows.len() >= entries_max;
            if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    })?;
    rows.into_iter().map(|(height, row)| log_line(height, &row)).collect()
}

#[async_trait]
impl Ledger for EmbeddedLedger {
    async fn position(&self) -> Result<Position, LedgerError> {
        let last = self.store.read::<_, StoreError>(|txn| txn.table(LOG)?.last())?;
        Ok(Position { next: Height(last.map_or(0, |(height, _)| height + 1)) })
    }

    async fn page(&self, from: Height, entries_max: usize) -> Result<Vec<LogLine>, LedgerError> {
        read_page(&self.store, from.0, u64::MAX, entries_max)
    }

    async fn epoch(&self, epoch: Epoch) -> Result<EntryStream, LedgerError> {
        let (before, close) = self.store.read::<_, StoreError>(|txn| {
            let closes = txn.table(CLOSES)?;
            let before = closes.range_back(..epoch.0, 1)?.pop();
            Ok((before, closes.get(&epoch.0)?))
        })?;
        let Some(close) = close else { return Err(LedgerError::NotClosed { epoch: epoch.0 }) };
        let first = before.map_or(0, |(_, height)| height + 1);
        let store = self.store.clone();
        let pages = stream::unfold(Some(first), move |from| {
            let store = store.clone();
            async move {
                let from = from.filter(|from| *from <= close)?;
                let page = read_page(&store, from, close, limits::PAGE_ENTRIES_MAX);
                let next = page.as_ref().ok().and_then(|lines| lines.last());
                let next = next.map(|line| line.height.0 + 1);
                Some((page, next))
            }
        });
        let lines = pages.flat_map(|page| {
            stream::iter(match page {
                Ok(lines) => lines.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            })
        });
        Ok(lines.boxed())
    }

    async fn close_height(&self, epoch: Epoch) -> Result<Option<Height>, LedgerError> {
        let height = self.store.read::<_, StoreError>(|txn| txn.get(CLOSES, &epoch.0))?;
        Ok(height.map(Height))
    }

    async fn proof(&self, id: ProofId) -> Result<Option<Envelope>, LedgerError> {
        let bytes = self.store.read::<_, StoreError>(|txn| txn.get(PROOFS, &id.0))?;
        Ok(bytes.map(|bytes| Envelope::from_bytes(&bytes)).transpose()?)
    }

    async fn unreceipted(&self) -> Result<Vec<Envelope>, LedgerError> {
        let found = self.store.read::<_, StoreError>(|txn| {
            let proofs = txn.table(PROOFS)?;
            let waiting = txn.table(UNRECEIPTED)?.range(.., limits::COMMITS_MAX)?;
            let rows = waiting.iter().map(|(id, ())| proofs.get(id));
            rows.collect::<Result<Vec<_>, _>>()
        })?;
        let found = found.into_iter().flatten();
        Ok(found.map(|bytes| Envelope::from_bytes(&bytes)).collect::<Result<_, _>>()?)
    }

    async fn lines_of_proof(
        &self,
        id: ProofId,
    ) -> Result<(Option<Height>, Option<Height>), LedgerError> {
        let (receipt, verdict) = self.store.read::<_, StoreError>(|txn| {
            Ok((txn.get(RECEIPTS, &id.0)?, txn.get(VERDICTS, &id.0)?))
        })?;
        Ok((receipt.map(Height), verdict.map(Height)))
    }

    async fn lines_of_task(&self, task: TaskId) -> Result<Vec<Height>, LedgerError> {
        let rows = self
            .store
            .read::<_, StoreError>(|txn| txn.table(TASKS)?.prefix(&task.0, limits::HISTORY_MAX))?;
        Ok(rows.into_iter().map(|((_, height), ())| Height(height)).collect())
    }

    async fn open_commits(&self) -> Result<Vec<(CommitKey, Envelope)>, LedgerError> {
        let rows = self
            .store
            .read::<_, StoreError>(|txn| txn.table(COMMITS)?.range(.., limits::COMMITS_MAX))?;
        let mut found = Vec::with_capacity(rows.len());
        for ((task, wave, node), bytes) in rows {
            let key = CommitKey { task: TaskId(task), wave, node: NodeId(node) };
            found.push((key, Envelope::from_bytes(&bytes)?));
        }
        Ok(found)
    }

    async fn bundle(&self, epoch: Epoch) -> Result<Option<BundleMeta>, LedgerError> {
        let bytes = self.store.read::<_, StoreError>(|txn| txn.get(BUNDLES, &epoch.0))?;
        Ok(bytes.map(|bytes| decode(&bytes, limits::META_BYTES_MAX)).transpose()?)
    }
}
