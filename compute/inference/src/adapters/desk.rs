//! The engine's methods for adapters.

use std::collections::BTreeSet;

use openledger_models::Adapter;
use openledger_wire::ids::BlobId;

use super::ask::Combination;
use super::errors::{AdapterSetError, AdapterStoreError, PrepareError};
use super::loaded::Generation;
use super::numbers::AdapterStorage;
use super::prepare::PreparedAdapter;
use super::product::{MergeJob, MergeOutcome};
use super::source::AdapterSource;
use super::store::AdapterMemory;
use crate::engine::Engine;
use crate::event::{Event, SequenceError};

impl Engine {
    /// How adapters must be prepared for this engine.
    #[must_use]
    pub const fn adapter_storage(&self) -> AdapterStorage {
        self.adapters.storage()
    }

    /// Loads an adapter under an id, or replaces the one there; running sequences keep theirs.
    ///
    /// # Errors
    /// An adapter of another model, or no room for it: what is in use stays, and so does what
    /// requests wait for that came before.
    pub fn put_adapter(
        &mut self,
        id: BlobId,
        adapter: Adapter,
    ) -> Result<Generation, AdapterStoreError> {
        let prepared = PreparedAdapter::new(self.model.config(), adapter, self.adapters.storage());
        let prepared = prepared.map_err(|error| {
            self.adapters.unavailable(&id, &error.to_string());
            match error {
                PrepareError::OtherModel { layer, site } => {
                    AdapterStoreError::OtherModel { id, layer, site }
                }
                source => AdapterStoreError::Prepare { id, source },
            }
        })?;
        self.put_prepared(id, prepared)
    }

    /// The same for an adapter that was prepared elsewhere: nothing is copied.
    ///
    /// # Errors
    /// As [`Engine::put_adapter`]; requests that wait for an adapter that can never be held fail
    /// with the reason.
    pub fn put_prepared(
        &mut self,
        id: BlobId,
        prepared: PreparedAdapter,
    ) -> Result<Generation, AdapterStoreError> {
        self.adapters.put(id, prepared, false)
    }

    /// Brings an adapter that [`Engine::wanted`] names. One that was put out to make room must be
    /// what it was: it keeps its generation, and with it what was computed with it.
    ///
    /// # Errors
    /// As [`Engine::put_prepared`]. If there is no room now, it is wanted again when there is.
    pub fn deliver(
        &mut self,
        id: BlobId,
        prepared: PreparedAdapter,
    ) -> Result<Generation, AdapterStoreError> {
        self.adapters.put(id, prepared, true)
    }

    /// Lets requests name an adapter that is not in memory: they wait until it is delivered. Takes
    /// a few bytes. Says whether it is new.
    pub fn register_adapter(&mut self, id: BlobId) -> bool {
        self.adapters.register(id)
    }

    /// Forgets an adapter or a saved combination; running sequences keep it. Says whether it was
    /// there.
    pub fn drop_adapter(&mut self, id: &BlobId) -> bool {
        self.adapters.drop(id)
    }

    /// Whether an adapter is in memory.
    #[must_use]
    pub fn has_adapter(&self, id: &BlobId) -> bool {
        self.adapters.has(id)
    }

    /// Whether requests can name it: it is in memory, registered, or a saved combination.
    #[must_use]
    pub fn knows_adapter(&self, id: &BlobId) -> bool {
        self.adapters.knows(id)
    }

    /// The adapters in memory, by id, with their bytes.
    #[must_use]
    pub fn adapters(&self) -> Vec<(BlobId, Generation, usize)> {
        self.adapters.list()
    }

    /// What adapters take, and how many requests wait for them.
    #[must_use]
    pub fn adapter_memory(&mut self) -> AdapterMemory {
        self.adapters.report()
    }

    /// Registered adapters that requests wait for, in the order in which they are needed, as far as
    /// there is room for them. They are named until they are delivered, put, dropped or said to be
    /// unavailable, so callers keep track of what they are fetching.
    #[must_use]
    pub fn wanted(&self) -> Vec<BlobId> {
        self.adapters.wanted()
    }

    /// Says that a wanted adapter cannot be had: the next step fails the requests that wait for it.
    /// Later requests may wait for it again.
    pub fn adapter_unavailable(&mut self, id: &BlobId, reason: &str) {
        self.adapters.unavailable(id, reason);
    }

    /// Fetches and delivers what is wanted, on the caller's own thread. Returns how many came.
    pub fn load_wanted(&mut self, source: &dyn AdapterSource) -> usize {
        let (mut came, mut tried) = (0, BTreeSet::new());
        // What came tells how large the others may be, and so what there is room for.
        while let Some(id) = self.wanted().into_iter().find(|id| !tried.contains(id)) {
            tried.insert(id);
            let storage = self.adapters.storage();
            let prepared = source.load(&id).map_err(|error| error.to_string());
            let prepared = prepared.and_then(|adapter| {
                let prepared = PreparedAdapter::new(self.model.config(), adapter, storage);
                prepared.map_err(|error| error.to_string())
            });
            match prepared {
                // Without room it is wanted again.
                Ok(prepared) => came += usize::from(self.deliver(id, prepared).is_ok()),
                Err(reason) => self.adapter_unavailable(&id, &reason),
            }
        }
        came
    }

    /// Whether all that is left to run waits for adapters: stepping is of no use until one comes.
    #[must_use]
    pub fn awaits_adapters(&self) -> bool {
        let waits = !self.adapters.is_settled() && !self.scheduler.can_run();
        waits && self.events.is_empty() && !self.adapters.can_settle()
    }

    /// Saves several adapters and how they are put together under an id, which requests can then
    /// name like an adapter. What it is made of must be known, now and when it is used.
    ///
    /// # Errors
    /// An id that is taken, or a combination that makes no sense.
    pub fn save_combination(
        &mut self,
        id: BlobId,
        combination: Combination,
    ) -> Result<(), AdapterSetError> {
        self.adapters.save(id, combination)
    }

    /// The saved combinations, by id.
    pub fn combinations(&self) -> impl Iterator<Item = (BlobId, &Combination)> {
        self.adapters.combinations().iter().map(|(id, combination)| (*id, combination))
    }

    /// A merge that requests wait for, to be run on another thread. One that nobody takes is run by
    /// the next step, which takes that much longer.
    pub fn take_merge(&mut self) -> Option<MergeJob> {
        self.adapters.take_merge()
    }

    /// Takes what came of a merge.
    pub fn put_merged(&mut self, outcome: MergeOutcome) {
        self.adapters.put_merged(outcome);
    }

    /// Puts adapters and products out of memory that have not been used for `idle_max`; `now` is
    /// any number that grows, seconds or steps. Returns the adapters that went. Registered ones come
    /// back when they are named.
    pub fn evict_idle(&mut self, now: u64, idle_max: u64) -> Vec<BlobId> {
        self.adapters.evict_idle(now, idle_max)
    }

    /// Gives waiting sequences their adapters, as far as they came, and merges for them.
    pub(crate) fn settle_adapters(&mut self, stepped: bool) {
        if self.adapters.is_settled() {
            return;
        }
        let there: BTreeSet<_> = self.scheduler.waiting_mut().map(|one| one.id).collect();
        self.adapters.retain_waiting(|id| there.contains(&id));
        self.give_adapters(stepped);
        if stepped && let Some(job) = self.adapters.take_merge() {
            self.adapters.put_merged(job.run());
            self.give_adapters(false);
        }
    }

    fn give_adapters(&mut self, stepped: bool) {
        let settled = self.adapters.settle(stepped);
        for (id, set) in settled.ready {
            if let Some(sequence) = self.scheduler.waiting_mut().find(|one| one.id == id) {
                sequence.equip(set);
            }
        }
        for (id, error) in settled.failed {
            if self.scheduler.remove(id).is_some() {
                let error = SequenceError::Adapters(error);
                self.events.push(Event::Failed { sequence: id, error });
            }
        }
    }
}
