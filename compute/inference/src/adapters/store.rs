//! All adapters of an engine: what is registered, what is in memory, and who waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use openledger_models::ModelConfig;
use openledger_wire::ids::BlobId;

use super::ask::{self, Ask, Combination, Part, Recipe};
use super::errors::{AdapterSetError, AdapterStoreError};
use super::loaded::{AdapterSet, Generation, LoadedAdapter};
use super::memory::{Key, Memory};
use super::merge::Merge;
use super::numbers::AdapterStorage;
use super::prepare::{PreparedAdapter, Shape};
use super::product::{MergeJob, MergeOutcome, ProductKey};
use super::waiting::Waiting;
use crate::request::SequenceId;

/// What an engine's adapters take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdapterMemory {
    /// Ids that requests may name, in memory or not; saved combinations are not counted.
    pub registered: usize,
    /// Adapters in memory, products of merges included, for new requests.
    pub held: usize,
    /// Of these, products of merges.
    pub products: usize,
    /// Adapters that sequences use.
    pub active: usize,
    /// Bytes of those.
    pub active_bytes: usize,
    /// Bytes of all that is in memory, what only its users still hold included.
    pub bytes: usize,
    /// The most that these bytes may come to.
    pub bytes_max: usize,
    /// Requests that wait for adapters.
    pub waiting: usize,
}

/// What is known of an adapter that may not be in memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// What it takes in memory, once it was there.
    pub(super) bytes: Option<usize>,
    /// The number that it had.
    generation: Option<Generation>,
}

/// All adapters of an engine.
#[derive(Debug)]
pub(crate) struct AdapterStore {
    shape: Shape,
    storage: AdapterStorage,
    pub(super) memory: Memory,
    pub(super) registered: BTreeMap<BlobId, Known>,
    combinations: BTreeMap<BlobId, Combination>,
    pub(super) waiting: BTreeMap<SequenceId, Waiting>,
    /// Requests that will not get what they wait for, until the engine hears of it.
    pub(super) failed: Vec<(SequenceId, AdapterSetError)>,
    /// Merges that callers may have in hand.
    jobs: BTreeMap<ProductKey, Arc<()>>,
    /// Bytes of the largest adapter so far.
    pub(super) largest: usize,
}

impl AdapterStore {
    pub(crate) fn new(config: &ModelConfig, storage: AdapterStorage, bytes_max: usize) -> Self {
        Self::with_shape(Shape::of(config), storage, bytes_max)
    }

    pub(super) const fn with_shape(
        shape: Shape,
        storage: AdapterStorage,
        bytes_max: usize,
    ) -> Self {
        Self {
            shape,
            storage,
            memory: Memory::new(bytes_max),
            registered: BTreeMap::new(),
            combinations: BTreeMap::new(),
            waiting: BTreeMap::new(),
            failed: Vec::new(),
            jobs: BTreeMap::new(),
            largest: 0,
        }
    }

    /// How adapters are stored.
    pub(crate) const fn storage(&self) -> AdapterStorage {
        self.storage
    }

    /// Lets requests name an adapter that is not in memory. Says whether it is new.
    pub(crate) fn register(&mut self, id: BlobId) -> bool {
        let held = self.memory.get(&Key::Adapter(id));
        let known = Known {
            bytes: held.map(|adapter| adapter.bytes()),
            generation: held.map(|adapter| adapter.generation()),
        };
        let new = !self.registered.contains_key(&id);
        self.registered.entry(id).or_insert(known);
        new
    }

    /// Forgets an adapter or a saved combination; sequences that use it keep it. Says whether it
    /// was there.
    pub(crate) fn drop(&mut self, id: &BlobId) -> bool {
        let generation = self.generation(id);
        let saved = self.combinations.remove(id).is_some();
        let registered = self.registered.remove(id).is_some();
        let held = self.memory.retire(&Key::Adapter(*id));
        if let Some(generation) = generation {
            self.memory.retire_products(generation);
        }
        saved || registered || held
    }

    /// Whether it is in memory.
    pub(crate) fn has(&self, id: &BlobId) -> bool {
        self.memory.get(&Key::Adapter(*id)).is_some()
    }

    /// Whether requests can name it.
    pub(crate) fn knows(&self, id: &BlobId) -> bool {
        self.combinations.contains_key(id) || self.is_adapter(id)
    }

    fn is_adapter(&self, id: &BlobId) -> bool {
        self.registered.contains_key(id) || self.has(id)
    }

    /// All adapters in memory, by id.
    pub(crate) fn list(&self) -> Vec<(BlobId, Generation, usize)> {
        let adapters = self.memory.iter().filter(|(key, _)| matches!(key, Key::Adapter(_)));
        adapters.map(|(_, held)| (held.id(), held.generation(), held.bytes())).collect()
    }

    /// What is held, and for whom.
    pub(crate) fn report(&mut self) -> AdapterMemory {
        self.memory.forget();
        let (active, active_bytes) = self.memory.active();
        let unregistered =
            self.list().iter().filter(|one| !self.registered.contains_key(&one.0)).count();
        let products = self.memory.iter().filter(|(key, _)| matches!(key, Key::Product(_)));
        AdapterMemory {
            registered: self.registered.len() + unregistered,
            held: self.memory.iter().count(),
            products: products.count(),
            active,
            active_bytes,
            bytes: self.memory.bytes(),
            bytes_max: self.memory.bytes_max(),
            waiting: self.waiting.len(),
        }
    }

    /// The number of an adapter that is in memory, or that comes back with it.
    fn generation(&self, id: &BlobId) -> Option<Generation> {
        let held = self.memory.get(&Key::Adapter(*id)).map(|adapter| adapter.generation());
        held.or_else(|| self.registered.get(id).and_then(|known| known.generation))
    }

    /// Loads an adapter, or replaces the one of the same id. With `returning` it is what was put
    /// out before, and keeps its number.
    pub(crate) fn put(
        &mut self,
        id: BlobId,
        prepared: PreparedAdapter,
        returning: bool,
    ) -> Result<Generation, AdapterStoreError> {
        if let Err(error) = self.fits(id, &prepared) {
            self.unavailable(&id, &error.to_string());
            return Err(error);
        }
        let (key, bytes, bytes_max) = (Key::Adapter(id), prepared.bytes(), self.memory.bytes_max());
        self.largest = self.largest.max(bytes);
        if let Some(known) = self.registered.get_mut(&id) {
            known.bytes = Some(bytes);
        }
        let keep = self.plan().keep;
        if self.memory.make_room(bytes, Some(&key), &keep).is_err() {
            let pinned = self.memory.active().1;
            return Err(AdapterStoreError::Full { id, bytes, pinned, bytes_max });
        }
        let old = self.generation(&id);
        let generation = match old.filter(|_| returning && self.memory.get(&key).is_none()) {
            Some(same) => same,
            None => self.memory.next_generation(),
        };
        if let Some(replaced) = old.filter(|old| *old != generation) {
            self.memory.retire_products(replaced);
        }
        if let Some(known) = self.registered.get_mut(&id) {
            known.generation = Some(generation);
        }
        self.memory.insert(key, Arc::new(LoadedAdapter::new(id, generation, prepared)));
        Ok(generation)
    }

    /// Whether an adapter can be held at all.
    fn fits(&self, id: BlobId, prepared: &PreparedAdapter) -> Result<(), AdapterStoreError> {
        let (bytes, bytes_max) = (prepared.bytes(), self.memory.bytes_max());
        if self.combinations.contains_key(&id) {
            return Err(AdapterStoreError::Combination { id });
        }
        if prepared.storage() != self.storage {
            let (found, wanted) = (prepared.storage(), self.storage);
            return Err(AdapterStoreError::OtherStorage { id, found, wanted });
        }
        if let Some((layer, site)) = self.shape.difference(&prepared.shape()) {
            return Err(AdapterStoreError::OtherModel { id, layer, site });
        }
        if bytes > bytes_max {
            return Err(AdapterStoreError::TooLarge { id, bytes, bytes_max });
        }
        Ok(())
    }

    /// Fails the requests that wait for an adapter.
    pub(crate) fn unavailable(&mut self, id: &BlobId, reason: &str) {
        let error = AdapterSetError::Unavailable { id: *id, reason: reason.to_owned() };
        self.fail(|ask| ask.names(id), &error);
    }

    fn fail(&mut self, which: impl Fn(&Ask) -> bool, error: &AdapterSetError) {
        let failed = &mut self.failed;
        self.waiting.retain(|id, waiting| {
            let fails = which(&waiting.ask);
            if fails {
                failed.push((*id, error.clone()));
            }
            !fails
        });
    }

    /// Saves several adapters under one id.
    pub(crate) fn save(
        &mut self,
        id: BlobId,
        combination: Combination,
    ) -> Result<(), AdapterSetError> {
        if self.is_adapter(&id) {
            return Err(AdapterSetError::Repeated { id });
        }
        ask::check(&combination, &self.combinations, &|id| self.is_adapter(id))?;
        self.combinations.insert(id, combination);
        Ok(())
    }

    /// The saved combinations, by id.
    pub(crate) const fn combinations(&self) -> &BTreeMap<BlobId, Combination> {
        &self.combinations
    }

    /// Checks what a request names.
    pub(crate) fn ask(
        &self,
        adapters: &[(BlobId, f32)],
        merge: &Merge,
    ) -> Result<Ask, AdapterSetError> {
        ask::resolve(adapters, merge, &self.combinations, &|id| self.is_adapter(id))
    }

    /// Has a request wait for its adapters; [`Self::settle`] says when they are there.
    pub(crate) fn wait(&mut self, id: SequenceId, ask: Ask) {
        self.waiting.insert(id, Waiting { ask, blocked_steps: 0 });
    }

    /// Whether nobody waits, and nobody is to hear anything.
    pub(crate) fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.failed.is_empty()
    }

    /// Whether the next step can do something for those that wait without anything being brought.
    pub(crate) fn can_settle(&self) -> bool {
        let plan = self.plan();
        !self.failed.is_empty() || plan.does_something() || !plan.merges.is_empty()
    }

    /// Forgets all requests that are no longer there.
    pub(crate) fn retain_waiting(&mut self, mut is_there: impl FnMut(SequenceId) -> bool) {
        self.waiting.retain(|id, _| is_there(*id));
    }

    /// What is to be fetched, for those that have waited longest first, as far as there is room.
    pub(crate) fn wanted(&self) -> Vec<BlobId> {
        self.plan().wanted
    }

    /// Gives out adapters for use at once: nothing waits. Merges at once if need be.
    pub(crate) fn resolve(
        &mut self,
        adapters: &[(BlobId, f32)],
        merge: &Merge,
    ) -> Result<AdapterSet, AdapterSetError> {
        let ask = self.ask(adapters, merge)?;
        let mut parts = Vec::with_capacity(ask.parts.len());
        for (part, weight) in &ask.parts {
            let adapter = match part {
                Part::Adapter(id) => self
                    .memory
                    .take(&Key::Adapter(*id))
                    .ok_or(AdapterSetError::Absent { id: *id })?,
                Part::Product(recipe) => self.product(recipe)?,
            };
            parts.push((adapter, *weight));
        }
        parts.sort_unstable_by_key(|(adapter, _)| adapter.id());
        Ok(AdapterSet::new(parts))
    }

    /// A product for use at once, kept if there is room.
    fn product(&mut self, recipe: &Arc<Recipe>) -> Result<Arc<LoadedAdapter>, AdapterSetError> {
        let held = self.product_key(recipe).and_then(|key| self.memory.take(&key));
        if let Some(held) = held {
            return Ok(held);
        }
        let absent = recipe.parts.iter().find(|(id, _)| !self.has(id));
        let Some(job) = self.job(recipe) else {
            let id = absent.map_or(BlobId::ZERO, |(id, _)| *id);
            return Err(AdapterSetError::Absent { id });
        };
        let MergeOutcome { key, result, .. } = job.run();
        let prepared = result?;
        let bytes = prepared.bytes();
        let generation = self.memory.next_generation();
        let product = Arc::new(LoadedAdapter::new(recipe.id(), generation, prepared));
        let keep = self.plan().keep;
        match self.memory.make_room(bytes, None, &keep) {
            Ok(()) => self.memory.insert(Key::Product(key), Arc::clone(&product)),
            Err(_) => self.memory.insert_retired(Arc::clone(&product)),
        }
        Ok(product)
    }

    /// The key of a product, if all that goes into it has a number.
    pub(super) fn product_key(&self, recipe: &Recipe) -> Option<Key> {
        let generations = recipe.parts.iter().map(|(id, _)| self.generation(id));
        let generations = generations.collect::<Option<Vec<_>>>()?;
        Some(Key::Product(ProductKey::new(recipe, &generations)))
    }

    /// A merge that requests wait for and that nobody has in hand.
    pub(crate) fn take_merge(&mut self) -> Option<MergeJob> {
        if self.waiting.is_empty() {
            return None;
        }
        self.jobs.retain(|_, ticket| Arc::strong_count(ticket) > 1);
        let job =
            self.plan().merges.iter().find_map(|recipe| {
                self.job(recipe).filter(|job| !self.jobs.contains_key(&job.key))
            })?;
        self.jobs.insert(job.key.clone(), Arc::clone(&job.ticket));
        Some(job)
    }

    /// A merge, if all that goes into it is in memory.
    fn job(&self, recipe: &Arc<Recipe>) -> Option<MergeJob> {
        let sources = self.sources(recipe)?;
        let generations: Vec<_> = sources.iter().map(|source| source.generation()).collect();
        Some(MergeJob {
            key: ProductKey::new(recipe, &generations),
            recipe: Arc::clone(recipe),
            sources,
            storage: self.storage,
            shape: self.shape,
            ticket: Arc::new(()),
        })
    }

    /// Takes a product. What is no longer current, or has no room now, is made again when needed.
    pub(crate) fn put_merged(&mut self, outcome: MergeOutcome) {
        let MergeOutcome { key, recipe, result, .. } = outcome;
        self.jobs.remove(&key);
        let key = Key::Product(key);
        if self.product_key(&recipe).as_ref() != Some(&key) || self.memory.get(&key).is_some() {
            return;
        }
        let prepared = match result {
            Ok(prepared) => prepared,
            Err(error) => {
                self.fail(|ask| ask.needs(&recipe), &error);
                return;
            }
        };
        let keep = self.plan().keep;
        if self.memory.make_room(prepared.bytes(), None, &keep).is_ok() {
            let generation = self.memory.next_generation();
            let product = LoadedAdapter::new(recipe.id(), generation, prepared);
            self.memory.insert(key, Arc::new(product));
        }
    }

    /// Puts out what was not used for a while; returns the adapters that went.
    pub(crate) fn evict_idle(&mut self, now: u64, idle_max: u64) -> Vec<BlobId> {
        let keep = self.plan().keep;
        let gone = self.memory.evict_idle(now, idle_max, &keep).into_iter();
        gone.filter_map(|key| if let Key::Adapter(id) = key { Some(id) } else { None }).collect()
    }
}
