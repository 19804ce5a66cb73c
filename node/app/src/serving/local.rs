//! Answering calls on this machine.
//!
//! One process holds one base model; a call for another base gets it loaded in its place once
//! nothing is in hand. Calls of people are counted and earn nothing; inference tasks use the same
//! engine and are counted with the work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use openledger_wire::call::{Call, CallFailure, Embed, Embedded};
use openledger_wire::gossip::Offer;
use openledger_wire::worker::InferSetup;
use openledger_wire::{BlobId, Text};
use tokio::sync::Mutex as AsyncMutex;

use super::host::{AdapterFile, Host, ModelInfo};
use super::{CallStream, Entry, EntryKind, Library, ModelsConfig, Serve, codes, failure};
use crate::worker::Program;

/// Milliseconds after which a call for a base may be asked again that has to wait for another.
const OTHER_BASE_MS: u32 = 2_000;

/// Serves what is in the library, with one process.
pub struct LocalServe {
    library: Arc<Library>,
    program: Program,
    config: ModelsConfig,
    host: AsyncMutex<Option<Arc<Host>>>,
    stopped: AtomicBool,
    calls: AtomicU64,
    embeds: AtomicU64,
    refused: AtomicU64,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Calls begun.
    pub calls: u64,
    /// Requests for vectors answered.
    pub embeds: u64,
    /// Calls and requests that did not begin.
    pub refused: u64,
}

impl LocalServe {
    /// Serves this library; nothing is loaded before the first call.
    #[must_use]
    pub fn new(library: Arc<Library>, program: Program, config: ModelsConfig) -> Self {
        Self {
            library,
            program,
            config,
            host: AsyncMutex::default(),
            stopped: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            embeds: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Counters since the start.
    #[must_use]
    pub fn served(&self) -> Served {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Served {
            calls: count(&self.calls),
            embeds: count(&self.embeds),
            refused: count(&self.refused),
        }
    }

    /// The process with the engine, while one runs.
    pub async fn worker_pid(&self) -> Option<u32> {
        let host = self.host.lock().await.clone()?;
        host.pid().await
    }

    /// Calls, texts and adapters that the process has in hand.
    pub async fn in_hand(&self) -> usize {
        let host = self.host.lock().await.clone();
        match host {
            Some(host) => host.in_hand().await,
            None => 0,
        }
    }

    /// Loads a base if that is not done, and says what it is.
    ///
    /// # Errors
    /// What kept it from being loaded.
    pub async fn info(&self, model: BlobId) -> Result<ModelInfo, CallFailure> {
        self.host_of(&self.base(model)?).await?.info().await
    }

    /// Begins a call that is work, and no person's.
    ///
    /// # Errors
    /// [`CallFailure`], as for a call.
    pub async fn work(&self, call: Call) -> Result<CallStream, CallFailure> {
        let base = self.base(call.model)?;
        let adapters = self.adapters(&base, &call.adapters)?;
        self.host_of(&base).await?.call(call, &adapters).await
    }

    /// Ends the process; nothing is served any more.
    pub async fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(host) = self.host.lock().await.take() {
            host.stop().await;
        }
    }

    fn base(&self, model: BlobId) -> Result<Entry, CallFailure> {
        let entry = self.library.get(&model).ok_or_else(|| {
            let message = format!("model {model} is not here; `openledger model fetch` gets it");
            failure(codes::UNKNOWN_MODEL, &message, 0)
        })?;
        match entry.kind {
            EntryKind::Base => usable(entry),
            EntryKind::Adapter => {
                let message = format!("{} is an adapter, not a base model", entry.name);
                Err(failure(codes::UNKNOWN_MODEL, &message, 0))
            }
        }
    }

    fn adapters(
        &self,
        base: &Entry,
        named: &[(BlobId, u32)],
    ) -> Result<Vec<AdapterFile>, CallFailure> {
        let file = |(id, _): &(BlobId, u32)| {
            let entry = self.library.get(id).filter(|entry| entry.kind == EntryKind::Adapter);
            let entry = entry.ok_or_else(|| {
                let message = format!("adapter {id} is not here; `openledger model fetch` gets it");
                failure(codes::UNKNOWN_ADAPTER, &message, 0)
            })?;
            if entry.base != Some(base.blob) {
                let message =
                    format!("adapter {} was made for another base than {}", entry.name, base.name);
                return Err(failure(codes::WRONG_BASE, &message, 0));
            }
            Ok((*id, usable(entry)?.path))
        };
        named.iter().map(file).collect()
    }

    /// The process for a base. A base that is in use is not put out.
    async fn host_of(&self, base: &Entry) -> Result<Arc<Host>, CallFailure> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(failure(codes::STOPPING, "the node stops; ask another", 0));
        }
        let mut slot = self.host.lock().await;
        if let Some(host) = slot.as_ref() {
            if host.model() == base.blob {
                return Ok(Arc::clone(host));
            }
            let in_hand = host.in_hand().await;
            if in_hand > 0 {
                let message = format!(
                    "another base model is at {in_hand} calls, and this node holds one at a time; ask again"
                );
                return Err(failure(codes::BUSY, &message, OTHER_BASE_MS));
            }
            host.stop().await;
        }
        let host = Arc::new(Host::new(self.program.clone(), self.setup(base)?));
        *slot = Some(Arc::clone(&host));
        Ok(host)
    }

    fn setup(&self, base: &Entry) -> Result<InferSetup, CallFailure> {
        let path = Text::new(base.path.display().to_string()).map_err(|error| {
            let message = format!("the path {} cannot be used: {error}", base.path.display());
            failure(codes::BAD_FILE, &message, 0)
        })?;
        Ok(InferSetup {
            model: base.blob,
            path,
            threads: self.config.threads(),
            sequences_max: self.config.parallel,
            tokens_max: self.config.tokens_max,
            adapter_bytes_max: self.config.adapters_mib_max << 20,
        })
    }

    async fn vectors(&self, embed: Embed) -> Result<Embedded, CallFailure> {
        let base = self.base(embed.model)?;
        let adapters = self.adapters(&base, &embed.adapters)?;
        self.host_of(&base).await?.embed(embed, &adapters).await
    }

    fn count<T>(&self, counter: &AtomicU64, begun: &Result<T, CallFailure>) {
        let counter = if begun.is_ok() { counter } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn usable(entry: Entry) -> Result<Entry, CallFailure> {
    match &entry.problem {
        None => Ok(entry),
        Some(problem) => Err(failure(codes::BAD_FILE, problem, 0)),
    }
}

#[async_trait]
impl Serve for LocalServe {
    async fn call(&self, call: Call) -> Result<CallStream, CallFailure> {
        let begun = self.work(call).await;
        self.count(&self.calls, &begun);
        begun
    }

    async fn embed(&self, embed: Embed) -> Result<Embedded, CallFailure> {
        let done = self.vectors(embed).await;
        self.count(&self.embeds, &done);
        done
    }

    fn offers(&self) -> Vec<Offer> {
        self.library.offers()
    }
}
