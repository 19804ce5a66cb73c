//! The models of a node: its library, its engine, and getting what others hold.
//!
//! Shared by all networks, since a file's id says what it is. What is in the library goes into the
//! blob store by reference, so that peers can fetch it; what comes from peers goes into the
//! library, after it was hashed and looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use openledger_swarm::{Blobs, FetchError};
use openledger_wire::BlobId;
use openledger_wire::gossip::{Holder, Offer, OfferKind};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::{Mutex as AsyncMutex, watch};

use super::add::{AddError, AddOptions, add, examine};
use super::library::{Entry, EntryKind, Library, LibraryError};
use super::local::LocalServe;
use super::offers::Offers;
use super::transfer::{Progress, Transfer};
use super::{InferenceConfig, ModelsConfig, Serve as _, UpstreamConfig, Upstreams, WithUpstreams};
use crate::limits;
use crate::node::lock;
use crate::worker::Program;

/// Why a model could not be had from peers.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ObtainError {
    /// Nobody offers it.
    #[error(
        "get model {wanted}: it is not here and no peer offers it; wait for peers to announce it, or `openledger model add FILE`"
    )]
    NotOffered {
        /// Its name or id.
        wanted: String,
    },
    /// Peers call several files by that name.
    #[error("get model {wanted:?}: peers call several files so ({ids}); name one by its id")]
    Ambiguous {
        /// The name.
        wanted: String,
        /// Their ids.
        ids: String,
    },
    /// The peers did not deliver it.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// What came cannot be used.
    #[error(transparent)]
    Unusable(#[from] AddError),
    /// The library.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The task that looked at it died.
    #[error("look at model {0}: it could not be examined; try again")]
    Examine(BlobId),
}

/// Model counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelCounts {
    /// Base models here.
    pub bases: u64,
    /// Adapters here.
    pub adapters: u64,
    /// Base models and adapters fetched from peers and verified.
    pub models_from_peers: u64,
    /// Their bytes.
    pub model_bytes_from_peers: u64,
    /// Calls answered here, which earn nothing.
    pub calls_local: u64,
    /// Requests for vectors answered here.
    pub embeds_local: u64,
    /// Calls and requests refused here.
    pub calls_refused: u64,
}

/// The models of a node.
pub struct Models {
    /// What is here.
    pub library: Arc<Library>,
    /// What answers.
    pub serve: Arc<LocalServe>,
    /// Servers of the owner that answer, too.
    pub upstreams: Arc<Upstreams>,
    /// What the owner configured.
    pub config: ModelsConfig,
    blobs: Arc<dyn Blobs>,
    /// In the blob store, for peers to fetch.
    shared: Mutex<BTreeSet<BlobId>>,
    transfers: Mutex<BTreeMap<BlobId, Arc<Transfer>>>,
    /// Why the last try of each file failed.
    failures: Mutex<BTreeMap<BlobId, String>>,
    turns: Mutex<BTreeMap<BlobId, Arc<AsyncMutex<()>>>>,
    from_peers: AtomicU64,
    bytes_from_peers: AtomicU64,
    changes: watch::Sender<u64>,
}

impl Models {
    /// Those in this folder, and the files that the configuration names. Blocking: files named
    /// there are hashed.
    #[must_use]
    pub fn open(
        folder: &Path,
        config: ModelsConfig,
        inference: InferenceConfig,
        program: Program,
        blobs: Arc<dyn Blobs>,
    ) -> Self {
        let library = Arc::new(Library::open(folder));
        for file in &config.files {
            let options = AddOptions { in_place: true, ..AddOptions::default() };
            if let Err(error) = add(&library, file, &options) {
                tracing::warn!("failed to {error}");
            }
        }
        let serve = LocalServe::new(Arc::clone(&library), program, config.clone(), inference);
        Self {
            library,
            serve: Arc::new(serve),
            upstreams: Arc::new(Upstreams::new(Vec::new())),
            config,
            blobs,
            shared: Mutex::default(),
            transfers: Mutex::default(),
            failures: Mutex::default(),
            turns: Mutex::default(),
            from_peers: AtomicU64::new(0),
            bytes_from_peers: AtomicU64::new(0),
            changes: watch::Sender::new(0),
        }
    }

    /// The same with servers of the owner.
    #[must_use]
    pub fn with_upstreams(self, configs: Vec<UpstreamConfig>) -> Self {
        Self { upstreams: Arc::new(Upstreams::new(configs)), ..self }
    }

    /// Everything that answers the owner's applications.
    #[must_use]
    pub fn answers(&self) -> WithUpstreams {
        WithUpstreams::own(Arc::clone(&self.serve), Arc::clone(&self.upstreams))
    }

    /// Everything that answers peers.
    #[must_use]
    pub fn answers_to_peers(&self) -> WithUpstreams {
        WithUpstreams::shared(Arc::clone(&self.serve), Arc::clone(&self.upstreams))
    }

    /// Whether there is a base model, or the owner named one to be fetched.
    #[must_use]
    pub fn has_base(&self) -> bool {
        let is_base = |entry: &Entry| entry.kind == EntryKind::Base && entry.problem.is_none();
        !self.config.base.is_empty() || self.library.entries().iter().any(is_base)
    }

    /// What peers are told of: what is here, whole, and in the blob store.
    #[must_use]
    pub fn shared_offers(&self) -> Vec<Offer> {
        if !self.config.share {
            return Vec::new();
        }
        let shared = lock(&self.shared);
        let mut offers = self.serve.offers();
        offers.retain(|offer| shared.contains(&offer.blob));
        // As many as an announcement holds; bases come first.
        offers.extend(self.upstreams.shared_offers());
        offers.truncate(openledger_wire::limits::OFFERS_MAX);
        offers
    }

    /// Changes whenever what is offered does.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Counters since the start.
    #[must_use]
    pub fn counts(&self) -> ModelCounts {
        let served = self.serve.served();
        let entries = self.library.entries();
        let count = |kind| entries.iter().filter(|entry| entry.kind == kind).count() as u64;
        ModelCounts {
            bases: count(EntryKind::Base),
            adapters: count(EntryKind::Adapter),
            models_from_peers: self.from_peers.load(Ordering::Relaxed),
            model_bytes_from_peers: self.bytes_from_peers.load(Ordering::Relaxed),
            calls_local: served.calls,
            embeds_local: served.embeds,
            calls_refused: served.refused,
        }
    }

    /// Transfers in progress.
    #[must_use]
    pub fn transfers(&self) -> Vec<Progress> {
        let transfers = lock(&self.transfers);
        transfers.values().map(|transfer| transfer.progress()).collect()
    }

    /// Looks at the folder from time to time and keeps the blob store in step with it; ends with
    /// its task.
    pub async fn keep(self: Arc<Self>) {
        let mut due = tokio::time::interval(limits::MODELS_EVERY);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            self.look().await;
            if self.share().await {
                self.changed();
            }
        }
    }

    /// Looks for devices to compute on as long as there is a model for them; ends with its task.
    pub async fn keep_devices(self: Arc<Self>) {
        let mut due = tokio::time::interval(limits::DEVICES_EVERY);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            if self.has_base() {
                self.serve.look_for_devices().await;
            }
        }
    }

    /// Looks at the folder now, for what `openledger model` did since the last look.
    pub async fn look(&self) {
        let library = Arc::clone(&self.library);
        let looked = tokio::task::spawn_blocking(move || library.refresh()).await;
        if looked.unwrap_or_default() {
            self.changed();
        }
    }

    /// Why files that were wanted did not come, by id.
    #[must_use]
    pub fn failures(&self) -> BTreeMap<String, String> {
        lock(&self.failures).iter().map(|(blob, why)| (blob.to_string(), why.clone())).collect()
    }

    fn failed(&self, blob: BlobId, error: &ObtainError) {
        tracing::warn!("failed to {error}");
        let mut failures = lock(&self.failures);
        if failures.len() >= limits::MODELS_MAX {
            failures.pop_first();
        }
        failures.insert(blob, error.to_string());
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Puts what is new into the blob store, and takes out what is gone; says whether anything was.
    async fn share(&self) -> bool {
        if !self.config.share {
            return false;
        }
        let known = lock(&self.shared).clone();
        // A folder is no blob.
        let is_shared = |entry: &Entry| entry.problem.is_none() && !entry.path.is_dir();
        let fine = self.library.entries().into_iter().filter(is_shared);
        let here: BTreeMap<BlobId, Entry> = fine.map(|entry| (entry.blob, entry)).collect();
        let mut changed = false;
        for entry in here.values().filter(|entry| !known.contains(&entry.blob)) {
            match self.blobs.import(&entry.path).await {
                Ok(blob) if blob == entry.blob => {
                    changed = true;
                    lock(&self.shared).insert(blob);
                }
                Ok(found) => {
                    let path = entry.path.display();
                    tracing::warn!(%found, "model file {path} was changed after it was added; remove it and add it again");
                    let _ = self.blobs.forget(found).await;
                }
                Err(error) => tracing::warn!("failed to {error}"),
            }
        }
        for gone in known.iter().filter(|blob| !here.contains_key(blob)) {
            changed = true;
            lock(&self.shared).remove(gone);
            if let Err(error) = self.blobs.forget(*gone).await {
                tracing::warn!("failed to {error}");
            }
        }
        changed
    }

    /// What is offered under a name or id by peers of these networks, with who holds it.
    ///
    /// # Errors
    /// Nobody offers it, or several files go by that name.
    pub fn wanted(
        &self,
        name: &str,
        offers: &[Arc<Offers>],
    ) -> Result<(Offer, Vec<Holder>), ObtainError> {
        let now = crate::time::now();
        let mut found: BTreeMap<BlobId, Offer> = BTreeMap::new();
        for offers in offers {
            found.extend(offers.named(name, now).into_iter().map(|offer| (offer.blob, offer)));
        }
        let mut all = found.into_values();
        match (all.next(), all.next()) {
            (Some(offer), None) => {
                let holders = offers.iter().flat_map(|one| one.holders(offer.blob, now)).collect();
                Ok((offer, holders))
            }
            (None, _) => Err(ObtainError::NotOffered { wanted: name.to_owned() }),
            (Some(one), Some(other)) => Err(ObtainError::Ambiguous {
                wanted: name.to_owned(),
                ids: format!("{}, {}", one.blob, other.blob),
            }),
        }
    }

    /// Gets a file from those who hold it, unless it is here. It goes on if the caller does not
    /// wait for it, so that who asks again finds more of it here.
    ///
    /// # Errors
    /// [`ObtainError`]. Nothing unverified stays in the folder.
    pub async fn obtain(
        self: &Arc<Self>,
        offer: &Offer,
        holders: &[Holder],
    ) -> Result<Entry, ObtainError> {
        let (own, blob) = (Arc::clone(self), offer.blob);
        let (offer, holders) = (offer.clone(), holders.to_vec());
        let got = tokio::spawn(async move { own.obtain_once(&offer, &holders).await });
        got.await.unwrap_or(Err(ObtainError::Examine(blob)))
    }

    async fn obtain_once(&self, offer: &Offer, holders: &[Holder]) -> Result<Entry, ObtainError> {
        let blob = offer.blob;
        let turn = self.turn(blob);
        let _turn = turn.lock().await;
        // What was removed a moment ago is to be got again, and not to be found here.
        self.look().await;
        if let Some(entry) = self.library.get(&blob).filter(|entry| entry.problem.is_none()) {
            return Ok(entry);
        }
        if holders.is_empty() {
            return Err(ObtainError::NotOffered { wanted: blob.to_string() });
        }
        let transfer = Arc::new(Transfer::new(&offer.name, Some(blob), offer.bytes));
        lock(&self.failures).remove(&blob);
        lock(&self.transfers).insert(blob, Arc::clone(&transfer));
        let (name, holding) = (&*offer.name, holders.len());
        tracing::info!(name, %blob, holders = holding, "getting a model from peers");
        let got = self.fetch(offer, holders, &transfer).await;
        lock(&self.transfers).remove(&blob);
        let entry = got.inspect_err(|error| self.failed(blob, error))?;
        self.from_peers.fetch_add(1, Ordering::Relaxed);
        self.bytes_from_peers.fetch_add(entry.bytes, Ordering::Relaxed);
        let (name, bytes) = (&entry.name, entry.bytes);
        tracing::info!(name, %blob, bytes, "a model came from peers and is verified");
        if self.config.share {
            // It came through the blob store and is there already.
            lock(&self.shared).insert(blob);
        }
        self.changed();
        Ok(entry)
    }

    async fn fetch(
        &self,
        offer: &Offer,
        holders: &[Holder],
        transfer: &Arc<Transfer>,
    ) -> Result<Entry, ObtainError> {
        let (kind, base) = match offer.kind {
            OfferKind::Base => (EntryKind::Base, None),
            OfferKind::Adapter { base } => (EntryKind::Adapter, Some(base)),
        };
        let path = self.library.place(offer.blob, kind);
        let bytes_max = self.config.fetch_mib_max << 20;
        let teller = Arc::clone(transfer);
        let progress = move |done: u64| {
            if teller.reached(done) {
                tracing::info!("{}", teller.progress());
            }
        };
        let blob = offer.blob;
        self.blobs.fetch_to(blob, bytes_max, holders, &path, &progress).await?;
        let (library, at) = (Arc::clone(&self.library), path.clone());
        let examined =
            tokio::task::spawn_blocking(move || examine(&library, &at, blob, kind, base)).await;
        let bytes = match examined {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => {
                self.drop_file(blob, &path).await;
                return Err(error.into());
            }
            Err(_) => {
                self.drop_file(blob, &path).await;
                return Err(ObtainError::Examine(blob));
            }
        };
        let name = self.library.free_name(&offer.name, blob);
        Ok(self.library.note(Entry {
            name,
            blob,
            bytes,
            kind,
            base,
            path,
            source: None,
            problem: None,
        })?)
    }

    async fn drop_file(&self, blob: BlobId, path: &Path) {
        let _ = self.blobs.forget(blob).await;
        let _ = std::fs::remove_file(path);
    }

    /// One transfer of a file at a time: who wants it too waits and finds it here.
    fn turn(&self, blob: BlobId) -> Arc<AsyncMutex<()>> {
        let mut turns = lock(&self.turns);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(blob).or_default())
    }
}
