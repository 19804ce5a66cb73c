//! Answering calls on this machine.
//!
//! One process holds one base model; a call for another base gets it loaded in its place once
//! nothing is in hand. Which backend answers is found out as it is needed: the best that works, in
//! processes alone, so that a broken driver harms nobody else. Calls of people are counted and earn
//! nothing; inference tasks are counted with the work, and use the same engine unless their rules
//! compare another backend class: then they have a process of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use openledger_inference::{BackendKind, cpu_tier, of_class};
use openledger_wire::call::{Call, CallFailure, Embed, Embedded};
use openledger_wire::gossip::Offer;
use openledger_wire::proof::InferOutput;
use openledger_wire::worker::{InferProbe, InferSetup};
use openledger_wire::{BlobId, Text};
use tokio::sync::Mutex as AsyncMutex;

use super::backends::Backends;
use super::host::{AdapterFile, Host, ModelInfo, OnCrash, probe};
use super::inference::LoadingView;
use super::{
    CallStream, Combined, EngineView, Entry, EntryKind, InferenceConfig, Library, ModelsConfig,
    Serve, Wishes, codes, combinations, failure,
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
    backends: Arc<Backends>,
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
        let backends = Arc::new(Backends::new(inference.candidates()));
        Self {
            library,
            program,
            config,
            inference,
            backends,
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

    /// What is configured.
    #[must_use]
    pub const fn inference(&self) -> &InferenceConfig {
        &self.inference
    }

    /// The backend class in which calls are answered now, as far as is known.
    #[must_use]
    pub fn class(&self) -> &'static str {
        self.inference.class_on(self.kind(None))
    }

    fn kind(&self, model: Option<BlobId>) -> BackendKind {
        let usable = self.backends.usable(model, Instant::now());
        usable.first().copied().unwrap_or_default()
    }

    /// What answers calls, for people.
    pub async fn engine(&self) -> EngineView {
        let hosts = self.hosts.lock().await.clone();
        // What has a model is what serves; else what would be tried first.
        let candidates = self.inference.candidates();
        let serving = hosts.iter().find_map(|host| {
            let kind = of_class(host.class())?.0;
            candidates.contains(&kind).then(|| (kind, host.class().to_owned()))
        });
        let (kind, class) = serving.unwrap_or_else(|| (self.kind(None), self.class().to_owned()));
        let (fallback, absent) = self.backends.reasons(Instant::now());
        let loading = hosts.iter().find_map(|host| {
            let (done, total) = host.loading()?;
            let name = self.library.get(&host.model()).map(|entry| entry.name);
            Some(LoadingView { name: name.unwrap_or_default(), done, total })
        });
        EngineView {
            asked: self.inference.backend.name().to_owned(),
            backend: kind.name().to_owned(),
            class,
            kernels: cpu_tier(),
            device: self.backends.device(kind).unwrap_or_default(),
            fallback,
            absent,
            loading,
        }
    }

    /// Looks for devices that nobody has looked for, and for those that did not work a while ago.
    pub async fn look_for_devices(&self) {
        for kind in self.backends.due(Instant::now()) {
            let asked = InferProbe {
                backend: Text::clipped(self.inference.class_on(kind)),
                device: self.inference.device(kind, ""),
            };
            match probe(&self.program, asked).await {
                Ok(device) => self.backends.up(kind, &device),
                Err(failed) => self.down(kind, None, &failed),
            }
        }
    }

    fn down(&self, kind: BackendKind, model: Option<BlobId>, failed: &CallFailure) {
        // Where the owner leaves the choice to the node, nothing is wrong with a machine that has
        // no device.
        let is_choice = self.inference.backend == super::inference::BackendChoice::Auto;
        let is_absent = model.is_none() && is_choice && *failed.code == *codes::NO_DEVICE;
        self.backends.failed(kind, model, &failed.message, is_absent, Instant::now());
    }

    /// The process with the engine that answers calls, while one runs.
    pub async fn worker_pid(&self) -> Option<u32> {
        let hosts = self.hosts.lock().await.clone();
        let candidates = self.inference.candidates();
        for kind in candidates {
            let class = self.inference.class_on(kind);
            for host in hosts.iter().filter(|host| host.class() == class) {
                if let Some(pid) = host.pid().await {
                    return Some(pid);
                }
            }
        }
        None
    }

    /// Calls, texts and adapters that the processes have in hand.
    pub async fn in_hand(&self) -> usize {
        self.hosts.lock().await.iter().map(|host| host.in_hand()).sum()
    }

    /// Loads a base if that is not done, and says what it is.
    ///
    /// # Errors
    /// What kept it from being loaded.
    pub async fn info(&self, model: BlobId) -> Result<ModelInfo, CallFailure> {
        let base = self.base(model)?;
        Ok(self.serving(&base).await?.1)
    }

    /// The same of an engine of this backend class.
    ///
    /// # Errors
    /// What kept it from being loaded.
    pub async fn info_in(&self, model: BlobId, class: &str) -> Result<ModelInfo, CallFailure> {
        let host = self.host_of(&self.base(model)?, class).await?;
        host.note_work();
        host.info().await
    }

    /// Begins a call that is work, and no person's, on an engine of this backend class.
    ///
    /// # Errors
    /// [`CallFailure`], as for a call.
    pub async fn work(&self, call: Call, class: &str) -> Result<CallStream, CallFailure> {
        let base = self.base(call.model)?;
        let adapters = self.adapters(&base, &call.adapters)?;
        let host = self.host_of(&base, class).await?;
        host.note_work();
        let wishes = Wishes { fingerprint: true, ..Wishes::default() };
        host.call(call, wishes, &adapters).await
    }

    /// Runs somebody's answer to a task, which is what the call has generated already, through the
    /// model on an engine of this backend class.
    ///
    /// # Errors
    /// [`CallFailure`], as for a call.
    pub async fn check(&self, call: Call, class: &str) -> Result<InferOutput, CallFailure> {
        let base = self.base(call.model)?;
        let adapters = self.adapters(&base, &call.adapters)?;
        let host = self.host_of(&base, class).await?;
        host.note_work();
        host.check(call, &adapters).await
    }

    async fn begin(&self, call: Call, wishes: Wishes) -> Result<CallStream, CallFailure> {
        let base = self.base(call.model)?;
        let adapters = self.adapters(&base, &call.adapters)?;
        self.serving(&base).await?.0.call(call, wishes, &adapters).await
    }

    /// The process that answers calls for a base, with the model loaded: in the best backend that
    /// takes it.
    async fn serving(&self, base: &Entry) -> Result<(Arc<Host>, ModelInfo), CallFailure> {
        let kinds = self.backends.usable(Some(base.blob), Instant::now());
        let mut last = failure(codes::NO_DEVICE, "no backend is left that could answer", 0);
        for kind in &kinds {
            let class = self.inference.class_on(*kind);
            let host = self.host_of(base, class).await?;
            match host.info().await {
                Ok(info) => {
                    self.backends.serves(*kind, base.blob, &info.device);
                    self.retire(base.blob, class).await;
                    return Ok((host, info));
                }
                // What one backend cannot do the next may.
                Err(failed) if is_backends(&failed) => {
                    if Some(kind) != kinds.last() {
                        let model = (*failed.code == *codes::UNFIT).then_some(base.blob);
                        self.down(*kind, model, &failed);
                        self.drop_host(&host).await;
                    }
                    last = failed;
                }
                Err(failed) => return Err(failed),
            }
        }
        Err(last)
    }

    /// Ends processes of other backends of this node that held the same base for calls and have
    /// nothing in hand: its weights are in memory once.
    async fn retire(&self, model: BlobId, class: &str) {
        let classes: Vec<&str> = self
            .inference
            .candidates()
            .into_iter()
            .map(|kind| self.inference.class_on(kind))
            .collect();
        if classes.len() < 2 {
            return;
        }
        let mut hosts = self.hosts.lock().await;
        let is_idle_other = |host: &Arc<Host>| {
            let is_other = host.class() != class && classes.contains(&host.class());
            is_other && !host.works() && host.model() == model && host.in_hand() == 0
        };
        let (gone, kept): (Vec<_>, Vec<_>) = hosts.drain(..).partition(is_idle_other);
        *hosts = kept;
        drop(hosts);
        for host in gone {
            host.stop().await;
        }
    }

    async fn drop_host(&self, gone: &Arc<Host>) {
        self.hosts.lock().await.retain(|host| !Arc::ptr_eq(host, gone));
        gone.stop().await;
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
            None if hosts.len() >= HOSTS_MAX => idle(&hosts).unwrap_or(0),
            None => hosts.len(),
            Some(at) => at,
        };
        if let Some(host) = hosts.get(at) {
            let in_hand = host.in_hand();
            if in_hand > 0 {
                let message = format!(
                    "another base model is at {in_hand} calls, and this node holds one at a time; ask again"
                );
                return Err(failure(codes::BUSY, &message, OTHER_BASE_MS));
            }
            hosts.remove(at).stop().await;
        }
        let setup = self.setup(base, class)?;
        let host = Arc::new(Host::new(self.program.clone(), setup, self.on_crash(class)));
        hosts.push(Arc::clone(&host));
        Ok(host)
    }

    /// What is noted when a process of a class dies.
    fn on_crash(&self, class: &str) -> OnCrash {
        let (backends, kind) = (Arc::clone(&self.backends), of_class(class).map(|(kind, ..)| kind));
        Arc::new(move || {
            if let Some(kind) = kind {
                backends.died(kind, Instant::now());
            }
        })
    }

    fn setup(&self, base: &Entry, class: &str) -> Result<InferSetup, CallFailure> {
        let path = Text::new(base.path.display().to_string()).map_err(|error| {
            let message = format!("the path {} cannot be used: {error}", base.path.display());
            failure(codes::BAD_FILE, &message, 0)
        })?;
        let kind = of_class(class).map(|(kind, ..)| kind).unwrap_or_default();
        let cache = self.library.folder().join("compiled").display().to_string();
        Ok(InferSetup {
            model: base.blob,
            path,
            threads: self.config.threads(),
            sequences_max: self.config.parallel,
            tokens_max: self.config.tokens_max,
            adapter_bytes_max: self.config.adapters_mib_max << 20,
            backend: Some(Text::clipped(class)),
            adapter_idle_s: self.config.adapters_idle_s,
            device: self.inference.device(kind, &cache),
        })
    }

    async fn vectors(&self, embed: Embed) -> Result<Embedded, CallFailure> {
        let base = self.base(embed.model)?;
        let adapters = self.adapters(&base, &embed.adapters)?;
        self.serving(&base).await?.0.embed(embed, &adapters).await
    }

    fn count<T>(&self, counter: &AtomicU64, begun: &Result<T, CallFailure>) {
        let counter = if begun.is_ok() { counter } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether another backend may do what failed so.
fn is_backends(failed: &CallFailure) -> bool {
    [codes::NO_DEVICE, codes::UNFIT, codes::START].contains(&&*failed.code)
}

/// A process with nothing in hand.
fn idle(hosts: &[Arc<Host>]) -> Option<usize> {
    hosts.iter().position(|host| host.in_hand() == 0)
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
        let begun = self.begin(call, wishes).await;
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

    fn class_of(&self, model: &BlobId) -> Option<String> {
        let entry = self.library.get(model).filter(|entry| entry.kind == EntryKind::Base)?;
        Some(self.inference.class_on(self.kind(Some(entry.blob))).to_owned())
    }

    fn combinations(&self) -> Vec<Combined> {
        combinations(&self.library)
    }
}
