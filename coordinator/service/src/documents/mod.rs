//! Collecting the documents that campaigns paid for.
//!
//! Nodes keep the documents that they make; the log says which of them were accepted, who proved
//! them, how long they are and which near-duplicate keys they have. The [`Collector`] follows the
//! log, fetches each accepted document from those who proved it, checks it against its proof and
//! keeps it in the blob store. [`Documents`] is what others ask.
//!
//! There is no table on disk: rows follow from the log, and what is collected from the blob
//! store, so after any crash both are read again and agree. Deliberately absent: any effect on
//! verdicts or points.

mod check;
mod collector;
mod follow;
mod groups;
mod obtain;
mod shelf;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openledger_refine::{Document, DocumentError};
use openledger_swarm::{Blobs, StoreError};
use openledger_wire::{BlobId, CampaignId, Height, TaskId};
use thiserror::Error;
use tokio::sync::Semaphore;

pub use check::{CheckError, Verified, check};
pub use collector::{Collector, CollectorParts};
pub use follow::{Follower, Proven};
pub use groups::Groups;
pub use obtain::{Fault, Miss, obtain};
pub use shelf::{Counts, Place, Row, Shelf, Stage};

use crate::limits;

/// Why a document cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// This coordinator has no blob store.
    #[error(
        "read a document: this coordinator keeps no blobs; set swarm.enabled in its configuration"
    )]
    NoStore,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was collected and is not there any more.
    #[error(
        "read document {0}: it was collected and is gone from the blob store; restart the \
             coordinator to fetch it again"
    )]
    Gone(BlobId),
    /// It is unreadable.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// Asks what was collected; clones ask the same.
#[derive(Clone)]
pub struct Documents {
    shelf: Arc<Mutex<Shelf>>,
    blobs: Option<Arc<dyn Blobs>>,
    reads: Arc<Semaphore>,
}

impl Documents {
    /// Nothing yet; documents will be kept in this store. Without one nothing is fetched.
    #[must_use]
    pub fn new(blobs: Option<Arc<dyn Blobs>>) -> Self {
        let reads = Arc::new(Semaphore::new(limits::DOCUMENT_READS_MAX));
        Self { shelf: Arc::default(), blobs, reads }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts over all campaigns.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shelf().counts().clone()
    }

    /// Counts of a campaign.
    #[must_use]
    pub fn counts_of(&self, campaign: &CampaignId) -> Counts {
        self.shelf().counts_of(campaign)
    }

    /// The first height of the log that was not looked at yet.
    #[must_use]
    pub fn next_height(&self) -> Height {
        self.shelf().next_height()
    }

    /// Rows with a number above `after`, ascending, of one campaign or of all: at most `max`.
    #[must_use]
    pub fn page(&self, campaign: Option<&CampaignId>, after: u64, max: usize) -> Vec<Row> {
        self.shelf().page(campaign, after, max)
    }

    /// The row of a refine task.
    #[must_use]
    pub fn of_task(&self, task: &TaskId) -> Option<Row> {
        self.shelf().of_task(task)
    }

    /// The rows of a document, ascending by number: usually one.
    #[must_use]
    pub fn of_document(&self, document: &BlobId) -> Vec<Row> {
        self.shelf().of_document(document)
    }

    /// The row with a number.
    #[must_use]
    pub fn row(&self, number: u64) -> Option<Row> {
        self.shelf().row(number).cloned()
    }

    /// How many documents are near-duplicates of the one in this row, and the first `max` of them
    /// in the order of the log.
    #[must_use]
    pub fn duplicates_of(&self, number: u64, max: usize) -> (u64, Vec<BlobId>) {
        self.shelf().duplicates_of(number, max)
    }

    /// Reads a document from the store. The caller asks only for what was collected.
    ///
    /// # Errors
    /// When there is no store, or the document is not in it.
    pub async fn read(&self, id: BlobId) -> Result<Document, ReadError> {
        let blobs = self.blobs.as_ref().ok_or(ReadError::NoStore)?;
        // Never closed; without a permit the read is merely not bounded.
        let _permit = self.reads.acquire().await;
        let bytes = blobs.get(id).await?.ok_or(ReadError::Gone(id))?;
        Ok(Document::from_bytes(&bytes)?)
    }
}
