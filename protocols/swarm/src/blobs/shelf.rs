//! The library's store behind a lock: opened, told apart from one that has ended, opened again.
//!
//! A write that fails, as on a full disk, ends the library's database task for good, and whatever is
//! asked of it after that gets no answer. The file is what its last commit made it, so another store
//! can be opened on it beside the same endpoint. When that is done is decided elsewhere.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use ::iroh::endpoint::Connection;
use ::iroh::protocol::{AcceptError, ProtocolHandler};
use iroh_blobs::api::Store;
use iroh_blobs::provider::events::EventSender;
use iroh_blobs::store::GcConfig;
use iroh_blobs::store::fs::FsStore;
use iroh_blobs::store::fs::options::Options;
use iroh_blobs::{BlobsProtocol, Hash};
use tokio::sync::Mutex;

use super::StoreError;
use crate::defaults::blobs as defaults;

/// An id that the database is asked about to see whether it answers: any but the empty blob's,
/// which the library answers itself.
const PROBE: Hash = Hash::from_bytes([1; 32]);

/// The store that is open now, and what another one in its place needs.
#[derive(Debug)]
pub(super) struct Shelf {
    dir: PathBuf,
    events: EventSender,
    open: RwLock<BlobsProtocol>,
    /// Set for good by [`Shelf::close`]; held while a store is opened.
    is_closed: Mutex<bool>,
}

impl Shelf {
    /// Opens the store in this folder, an absolute one.
    pub(super) async fn open(dir: PathBuf, events: EventSender) -> Result<Self, StoreError> {
        let open = RwLock::new(load(&dir, &events).await?);
        Ok(Self { dir, events, open, is_closed: Mutex::new(false) })
    }

    /// Its folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The store that is open now.
    pub(super) fn store(&self) -> Store {
        self.served().store().clone()
    }

    fn served(&self) -> BlobsProtocol {
        self.open.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the store was closed on purpose.
    pub(super) async fn is_closed(&self) -> bool {
        *self.is_closed.lock().await
    }

    /// Whether the store's database answers.
    pub(super) async fn answers(&self) -> bool {
        self.store().blobs().status(PROBE).await.is_ok()
    }

    /// The error of whoever asks a store that has ended.
    pub(super) fn ended(&self) -> StoreError {
        StoreError::Ended { path: self.dir.clone() }
    }

    /// An error as it is, or that the store has ended, where that is the cause.
    pub(super) async fn judge(&self, error: StoreError) -> StoreError {
        let may_be = matches!(error, StoreError::Io { .. } | StoreError::File { .. });
        if may_be && !self.answers().await { self.ended() } else { error }
    }

    /// Opens the store again if it has ended, and says whether it had. What peers were getting from
    /// the old one breaks off; they ask again.
    pub(super) async fn reopen(&self) -> Result<bool, StoreError> {
        let is_closed = self.is_closed.lock().await;
        if *is_closed || self.answers().await {
            return Ok(false);
        }
        let opened = load(&self.dir, &self.events).await?;
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = opened;
        Ok(true)
    }

    /// Closes the store for good; pending writes are finished.
    async fn close(&self) {
        *self.is_closed.lock().await = true;
        let store = self.store();
        let finished = store.sync_db().await.is_ok();
        if !finished || store.shutdown().await.is_err() {
            tracing::debug!("the blob store had ended before it was closed");
        }
    }
}

impl ProtocolHandler for Shelf {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        self.served().accept(connection).await
    }

    async fn shutdown(&self) {
        self.close().await;
    }
}

async fn load(dir: &Path, events: &EventSender) -> Result<BlobsProtocol, StoreError> {
    let mut options = Options::new(dir);
    let interval = Duration::from_millis(defaults::CLEAN_UP_MS);
    options.gc = Some(GcConfig { interval, add_protected: None });
    let loaded = FsStore::load_with_opts(dir.join("blobs.db"), options).await;
    let store = loaded.map_err(|e| StoreError::Open { path: dir.into(), reason: e.to_string() })?;
    Ok(BlobsProtocol::new(&store, Some(events.clone())))
}
