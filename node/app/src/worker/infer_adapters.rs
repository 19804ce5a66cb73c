//! Adapters on their way to the engine: read, stored and merged in threads beside it, so that nothing
//! that runs waits for a disk.
//!
//! The engine says which it wants, in the order in which requests need them; those are brought one
//! after the other, so that they come in that order and no disk is asked for all at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openledger_inference::{
    AdapterStorage, AdapterStoreError, Engine, MergeJob, MergeOutcome, PreparedAdapter,
};
use openledger_models::{Adapter, Model};
use openledger_wire::BlobId;
use openledger_wire::call::CallFailure;
use openledger_wire::worker::InferResponse;
use tokio::sync::mpsc;

use super::infer_ask::InferAsk;
use super::infer_call::{of_adapter, of_prepare, of_store};
use super::infer_constraints::Constrained;
use crate::limits;
use crate::serving::{codes, failure};

/// What comes to the engine's desk.
pub(super) enum News {
    /// From the node.
    Asked(InferAsk),
    /// An adapter was read, or could not be.
    Read(BlobId, Result<PreparedAdapter, CallFailure>),
    /// Adapters were merged.
    Merged(Box<MergeOutcome>),
    /// A call's constraint was compiled, or could not be.
    Compiled(Box<(Constrained, Result<(), CallFailure>)>),
}

/// The adapters of one engine, from the outside.
pub(super) struct Adapters {
    model: Arc<Model>,
    storage: AdapterStorage,
    /// Files, so that one that the engine put out comes back by itself.
    files: BTreeMap<BlobId, PathBuf>,
    /// Being read, with the requests that want to hear of it.
    reading: BTreeMap<BlobId, Vec<u64>>,
    /// Too large for the room that there was; not read again before something changes.
    without_room: BTreeSet<BlobId>,
    merging: bool,
    to_read: std::sync::mpsc::Sender<(BlobId, PathBuf)>,
    news: mpsc::WeakSender<News>,
}

impl Adapters {
    /// None yet, and the thread that reads them.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn new(
        model: Arc<Model>,
        storage: AdapterStorage,
        news: mpsc::WeakSender<News>,
    ) -> std::io::Result<Self> {
        let (to_read, queue) = std::sync::mpsc::channel::<(BlobId, PathBuf)>();
        let (own, told) = (Arc::clone(&model), news.clone());
        std::thread::Builder::new().name("adapters".to_owned()).spawn(move || {
            for (id, path) in queue {
                let read = prepare(&own, storage, &path);
                let Some(told) = told.upgrade() else { return };
                if told.blocking_send(News::Read(id, read)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            model,
            storage,
            files: BTreeMap::new(),
            reading: BTreeMap::new(),
            without_room: BTreeSet::new(),
            merging: false,
            to_read,
            news,
        })
    }

    /// A node names an adapter: calls may name it from now on, and it is fetched before they do.
    pub(super) fn named(
        &mut self,
        engine: &mut Engine,
        id: u64,
        adapter: BlobId,
        path: &Path,
    ) -> Option<InferResponse> {
        if self.files.len() >= limits::INFER_ADAPTERS_MAX && !self.files.contains_key(&adapter) {
            let message = format!(
                "{} adapters are known already; restart the node to forget some",
                self.files.len()
            );
            return Some(InferResponse::Failed {
                id,
                failure: failure(codes::MEMORY, &message, 0),
            });
        }
        self.files.insert(adapter, path.to_owned());
        engine.register_adapter(adapter);
        if engine.has_adapter(&adapter) {
            return Some(InferResponse::Loaded { id, bytes: 0 });
        }
        self.read(adapter).push(id);
        None
    }

    /// Begins to read what requests wait for, as far as there is room, and what is to be merged.
    pub(super) fn bring(&mut self, engine: &mut Engine) {
        if engine.running() == 0 {
            self.without_room.clear();
        }
        for id in engine.wanted() {
            if !self.files.contains_key(&id) {
                engine.adapter_unavailable(&id, "its file is not known here any more");
            } else if self.reading.len() < limits::ADAPTERS_AHEAD
                && !self.without_room.contains(&id)
            {
                self.read(id);
            }
        }
        if !self.merging
            && let Some(job) = engine.take_merge()
        {
            self.merging = self.merge(job);
        }
    }

    /// Takes what was read, and says so to who asked for it.
    pub(super) fn came(
        &mut self,
        engine: &mut Engine,
        id: BlobId,
        read: Result<PreparedAdapter, CallFailure>,
    ) -> Vec<InferResponse> {
        let asking = self.reading.remove(&id).unwrap_or_default();
        let taken = read.and_then(|prepared| {
            let bytes = prepared.bytes() as u64;
            match engine.deliver(id, prepared) {
                // It is wanted again once requests need it and there is room.
                Err(AdapterStoreError::Full { .. }) => {
                    self.without_room.insert(id);
                    Ok(bytes)
                }
                Err(error) => Err(of_store(&error)),
                Ok(_) => Ok(bytes),
            }
        });
        if let Err(failed) = &taken {
            engine.adapter_unavailable(&id, &failed.message);
        }
        let answer = |id: u64| match &taken {
            Ok(bytes) => InferResponse::Loaded { id, bytes: *bytes },
            Err(failed) => InferResponse::Failed { id, failure: failed.clone() },
        };
        asking.into_iter().map(answer).collect()
    }

    /// Takes what came of a merge.
    pub(super) fn merged(&mut self, engine: &mut Engine, outcome: MergeOutcome) {
        self.merging = false;
        engine.put_merged(outcome);
    }

    /// There may be more room than before.
    pub(super) fn changed(&mut self) {
        self.without_room.clear();
    }

    /// Whether something is on its way that the engine waits for.
    pub(super) fn is_busy(&self) -> bool {
        self.merging || !self.reading.is_empty()
    }

    /// Loads those again, at once, that the engine put out to make room.
    pub(super) fn reload(
        &self,
        engine: &mut Engine,
        adapters: &[(BlobId, u32)],
    ) -> Result<(), CallFailure> {
        for (adapter, _) in adapters {
            if !engine.has_adapter(adapter)
                && let Some(path) = self.files.get(adapter)
            {
                let prepared = prepare(&self.model, self.storage, path)?;
                engine.deliver(*adapter, prepared).map_err(|error| of_store(&error))?;
            }
        }
        Ok(())
    }

    /// Has it read, unless that is under way; gives who wants to hear of it.
    fn read(&mut self, id: BlobId) -> &mut Vec<u64> {
        let path = self.files.get(&id).cloned().unwrap_or_default();
        let to_read = &self.to_read;
        self.reading.entry(id).or_insert_with(|| {
            // The thread lives as long as this.
            let _ = to_read.send((id, path));
            Vec::new()
        })
    }

    /// Says whether it began; the engine gives a job that is dropped again.
    fn merge(&self, job: MergeJob) -> bool {
        let news = self.news.clone();
        let thread = std::thread::Builder::new().name("merge".to_owned());
        let merging = thread.spawn(move || {
            let outcome = job.run();
            if let Some(news) = news.upgrade() {
                let _ = news.blocking_send(News::Merged(Box::new(outcome)));
            }
        });
        merging.is_ok()
    }
}

/// Reads an adapter's file, of either kind, and stores its numbers as the engine takes them.
fn prepare(
    model: &Model,
    storage: AdapterStorage,
    path: &Path,
) -> Result<PreparedAdapter, CallFailure> {
    let bytes = read(path).map_err(|error| {
        let message = format!("failed to read adapter {}: {error}", path.display());
        failure(codes::BAD_FILE, &message, 0)
    })?;
    let config = model.config();
    let prepared = if bytes.starts_with(b"GGUF") {
        let adapter = Adapter::from_gguf(&bytes, config).map_err(|error| of_adapter(&error))?;
        PreparedAdapter::new(config, adapter, storage)
    } else {
        PreparedAdapter::from_bundle(config, &bytes, storage)
    };
    prepared.map_err(|error| of_prepare(&error))
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limits::ADAPTER_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limits::ADAPTER_BYTES_MAX {
        let reason = format!("it has more than {} bytes", limits::ADAPTER_BYTES_MAX);
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, reason));
    }
    Ok(bytes)
}
