//! What a back-end must do. The promise is one sentence: what [`Ingest::commit`] returned is there
//! after any crash, whole and in order, and what it did not return is there whole or not at all.

use async_trait::async_trait;
use futures::stream::BoxStream;
use openledger_wire::{Envelope, Epoch, Height, ProofId, TaskId};

use crate::batch::{Batch, BundleMeta, CommitKey, LogLine};
use crate::error::LedgerError;

/// Where the log stands once a batch is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Height of the next entry.
    pub next: Height,
}

/// Entries of an epoch, in order.
pub type EntryStream = BoxStream<'static, Result<LogLine, LedgerError>>;

/// Takes batches in.
#[async_trait]
pub trait Ingest: Send + Sync {
    /// Makes a batch durable, whole or not at all, and returns after that. Many callers' batches
    /// may share a sync. Committing the same entries, commits and proofs again changes nothing.
    ///
    /// # Errors
    /// A hole or a conflict in the log, or the storage's errors; nothing may be acknowledged then.
    async fn commit(&self, batch: Batch) -> Result<Position, LedgerError>;
}

/// Gives back what was taken in.
#[async_trait]
pub trait Ledger: Ingest {
    /// Where the log stands.
    ///
    /// # Errors
    /// The storage's.
    async fn position(&self) -> Result<Position, LedgerError>;

    /// Entries from a height on, ascending: at most `entries_max` and
    /// [`crate::limits::PAGE_ENTRIES_MAX`], and no more than about
    /// [`crate::limits::PAGE_BYTES_MAX`]. Empty at the end of the log. Marks and closes are not
    /// given back.
    ///
    /// # Errors
    /// The storage's.
    async fn page(&self, from: Height, entries_max: usize) -> Result<Vec<LogLine>, LedgerError>;

    /// The entries of a closed epoch, from behind the close before it to its own.
    ///
    /// # Errors
    /// [`LedgerError::NotClosed`], or the storage's; the stream may hold the storage's too.
    async fn epoch(&self, epoch: Epoch) -> Result<EntryStream, LedgerError>;

    /// Height of the entry that closed an epoch.
    ///
    /// # Errors
    /// The storage's.
    async fn close_height(&self, epoch: Epoch) -> Result<Option<Height>, LedgerError>;

    /// A proof.
    ///
    /// # Errors
    /// The storage's.
    async fn proof(&self, id: ProofId) -> Result<Option<Envelope>, LedgerError>;

    /// Proofs that no entry receipts yet: to be fed to the rules again after a restart.
    ///
    /// # Errors
    /// The storage's.
    async fn unreceipted(&self) -> Result<Vec<Envelope>, LedgerError>;

    /// Heights of the entries that receipted and last judged a proof.
    ///
    /// # Errors
    /// The storage's.
    async fn lines_of_proof(
        &self,
        id: ProofId,
    ) -> Result<(Option<Height>, Option<Height>), LedgerError>;

    /// Heights of the entries about a task, ascending.
    ///
    /// # Errors
    /// The storage's.
    async fn lines_of_task(&self, task: TaskId) -> Result<Vec<Height>, LedgerError>;

    /// Commits that are in no closed set yet.
    ///
    /// # Errors
    /// The storage's.
    async fn open_commits(&self) -> Result<Vec<(CommitKey, Envelope)>, LedgerError>;

    /// What is known of an epoch's bundle.
    ///
    /// # Errors
    /// The storage's.
    async fn bundle(&self, epoch: Epoch) -> Result<Option<BundleMeta>, LedgerError>;
}
