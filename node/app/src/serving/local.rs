//! Answering calls on this machine.
//!
//! One process holds one base model; a call for another base gets it loaded in its place once
//! nothing is in hand. Calls of people are counted and earn nothing; inference tasks are counted
//! with the work, and use the same engine unless their rules compare another backend class than
//! the owner chose: then they have a process of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use openledger_wire::call::{Call, CallFailure, Embed, Embedded};
use openledger_wire::gossip::Offer;
use openledger_wire::worker::InferSetup;
use openledger_wire::{BlobId, Text};
use tokio::sync::Mutex as AsyncMutex;

use super::host::{AdapterFile, Host, ModelInfo};
use super::{
    CallStream, Entry, EntryKind, InferenceConfig, Library, ModelsConfig, Serve, Wishes, codes,
    failure,
};
use crate::worker::Program;

/// Milliseconds after which a call for a base may be asked again that has to wait for another.
const OTHER_BASE_MS: u32 = 2_000;

/// Processes at the same time: one in the owner's backend class, one in that of a task.
const HOSTS_MAX: usize = 2;

/// Serves what is in the library.
pub struct LocalServe {
    library: Arc<Library>,
    program: Program,
    config: ModelsConfig,
    inference: InferenceConfig,
    hosts: AsyncMutex<Vec<Arc<Host>>>,
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
    pub fn new(
        library: Arc<Library>,
        program: Program,
        config: ModelsConfig,
        inference: InferenceConfig,
    ) -> Self {
        Self {
            library,
            program,
            config,
            inference,
            hosts: AsyncMutex::default(),
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

    /// What answers calls.
    #[must_use]
    pub const fn inference(&self) -> &InferenceConfig {
        &self.inference
    }

    /// The process with the engine that answers calls, while one runs.
    pub async fn worker_pid(&self) -> Option<u32> {
        let hosts = self.hosts.lock().await.clone();
        let host = hosts.iter().find(|host| host.class() == self.inference.class())?;
        host.pid().await
    }

    /// Calls, texts and adapters that the processes have in hand.
    pub async fn in_hand(&self) -> usize {
        let hosts = self.hosts.lock().await.clone();
        let mut all = 0;
        for host in hosts {
            all += host.in_hand().await;
        }
        all
    }

    /// Loads a base if that is not done, and says what it is.
    ///
    /// # Errors
    /// What kept it from being loaded.
    pub async fn info(&self, model: BlobId) -> Result<ModelInfo, CallFailure> {
        self.info_in(model, self.inference.class()).await
    }

    /// The same of an engine of this backend class.
    ///
    /// # Errors
    /// What kept it from being loaded.
    pub async fn info_in(&self, model: BlobId, class: &str) -> Result<ModelInfo, CallFailure> {
        self.host_of(&self.base(model)?, class).await?.info().await
    }

    /// Begins a call that is work, and no person's, on an engine of this backend class.
    ///
    /// # Errors
    /// [`CallFailure`], as for a call.
    pub async fn work(&self, call: Call, class: &str) -> Result<CallStream, CallFailure> {
        self.begin(call, Wishes::default(), class).await
    }

    async fn begin(
        &self,
        call: Call,
        wishes: Wishes,
        class: &str,
    ) -> Result<CallStream, CallFailure> {
        let base = self.base(call.model)?;
        let adapters = self.adapters(&base, &call.adapters)?;
        self.host_of(&base, class).await?.call(call, wishes, &adapters).await
    }

    /// Ends the processes; nothing is served any more.
    pub async fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        let hosts = std::mem::take(&mut *self.hosts.lock().await);
        for host in hosts {
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

    /// The process for a base and a class. One that is in use is not put out.
    async fn host_of(&self, base: &Entry, class: &str) -> Result<Arc<Host>, CallFailure> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(failure(codes::STOPPING, "the node stops; ask another", 0));
        }
        let mut hosts = self.hosts.lock().await;
        let is_it = |host: &&Arc<Host>| host.model() == base.blob && host.class() == class;
        if let Some(host) = hosts.iter().find(is_it) {
            return Ok(Arc::clone(host));
        }
        // What computes in this class makes room; else, where there is none, what is idle.
        let at = match hosts.iter().position(|host| host.class() == class) {
            None if hosts.len() >= HOSTS_MAX => idle(&hosts).await.unwrap_or(0),
            None => hosts.len(),
            Some(at) => at,
        };
        if let Some(host) = hosts.get(at) {
            let in_hand = host.in_hand().await;
            if in_hand > 0 {
                let message = format!(
                    "another base model is at {in_hand} calls, and this node holds one at a time; ask again"
                );
                return Err(failure(codes::BUSY, &message, OTHER_BASE_MS));
            }
            hosts.remove(at).stop().await;
        }
        let host = Arc::new(Host::new(self.program.clone(), self.setup(base, class)?));
        hosts.push(Arc::clone(&host));
        Ok(host)
    }

    fn setup(&self, base: &Entry, class: &str) -> Result<InferSetup, CallFailure> {
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
            backend: Some(Text::clipped(class)),
        })
    }

    async fn vectors(&self, embed: Embed) -> Result<Embedded, CallFailure> {
        let base = self.base(embed.model)?;
        let adapters = self.adapters(&base, &embed.adapters)?;
        self.host_of(&base, self.inference.class()).await?.embed(embed, &adapters).await
    }

    fn count<T>(&self, counter: &AtomicU64, begun: &Result<T, CallFailure>) {
        let counter = if begun.is_ok() { counter } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A process with nothing in hand.
async fn idle(hosts: &[Arc<Host>]) -> Option<usize> {
    for (at, host) in hosts.iter().enumerate() {
        if host.in_hand().await == 0 {
            return Some(at);
        }
    }
    None
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
        self.call_with(call, Wishes::default()).await
    }

    async fn call_with(&self, call: Call, wishes: Wishes) -> Result<CallStream, CallFailure> {
        let begun = self.begin(call, wishes, self.inference.class()).await;
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
