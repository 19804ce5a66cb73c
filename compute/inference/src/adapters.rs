//! The adapters of an engine: loaded, replaced and dropped while sequences run.
//!
//! A loaded adapter never changes. Putting another under the same id makes a new
//! [`Generation`]; sequences keep the one that they were submitted with until they end, and its
//! bytes count until then. What no sequence uses may be put out to make room, the longest unused
//! first. Adapters come from callers as parsed files; nothing here reads one.

use std::collections::BTreeMap;
use std::sync::Arc;

use openledger_models::{Adapter, LlamaConfig, Site};
use openledger_wire::ids::BlobId;
use thiserror::Error;

use crate::limits::{ADAPTER_WEIGHT_MAX, ADAPTERS_PER_REQUEST_MAX};

/// Counts the adapters that an engine has loaded: each gets its own number, reloaded ones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// What an adapter adds to one matrix.
#[derive(Debug)]
pub struct LowRank {
    /// `[rank, in]`.
    pub a: Vec<f32>,
    /// B transposed, `[rank, out]`.
    pub b: Vec<f32>,
}

/// An adapter as the engine uses it; immutable.
#[derive(Debug)]
pub struct LoadedAdapter {
    id: BlobId,
    generation: Generation,
    bytes: usize,
    scale: f32,
    sites: BTreeMap<(usize, Site), LowRank>,
}

impl LoadedAdapter {
    /// The blob that it came from.
    #[must_use]
    pub const fn id(&self) -> BlobId {
        self.id
    }

    /// Its number.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// What it takes in memory, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What its products are multiplied with, before the weight in a mixture.
    #[must_use]
    pub const fn scale(&self) -> f32 {
        self.scale
    }

    /// What it adds to a matrix, if anything.
    #[must_use]
    pub fn site(&self, layer: usize, site: Site) -> Option<&LowRank> {
        self.sites.get(&(layer, site))
    }
}

/// The adapters of a sequence with their weights, pinned to their generations. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct AdapterSet(Arc<[(Arc<LoadedAdapter>, f32)]>);

impl AdapterSet {
    /// The adapters, by id, with their weights. Empty is the bare base.
    #[must_use]
    pub fn parts(&self) -> &[(Arc<LoadedAdapter>, f32)] {
        &self.0
    }
}

/// Why the adapters of a request were refused.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum AdapterSetError {
    /// The engine does not have it.
    #[error("adapter {id} is not loaded; fetch it and load it first")]
    Unknown {
        /// Which.
        id: BlobId,
    },
    /// The same adapter twice.
    #[error("adapter {id} is named twice; add its weights up")]
    Repeated {
        /// Which.
        id: BlobId,
    },
    /// A weight that makes no sense.
    #[error(
        "adapter {id} has the weight {weight}, which is not between -{ADAPTER_WEIGHT_MAX} and {ADAPTER_WEIGHT_MAX}"
    )]
    Weight {
        /// Which.
        id: BlobId,
        /// Its weight.
        weight: f32,
    },
    /// Too many.
    #[error("{asked} adapters asked for, at most {ADAPTERS_PER_REQUEST_MAX} can be mixed")]
    TooMany {
        /// How many.
        asked: usize,
    },
}

/// Why an adapter was not loaded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdapterStoreError {
    /// Its matrices have other shapes than the model's.
    #[error(
        "load adapter {id}: its matrix for {site:?} in layer {layer} does not fit this model; use it with the base it was trained on"
    )]
    OtherModel {
        /// Which.
        id: BlobId,
        /// Where.
        layer: usize,
        /// Where.
        site: Site,
    },
    /// Larger than all memory for adapters.
    #[error(
        "load adapter {id}: it takes {bytes} bytes, adapters may take {bytes_max} together; raise that limit"
    )]
    TooLarge {
        /// Which.
        id: BlobId,
        /// What it takes.
        bytes: usize,
        /// What all may take.
        bytes_max: usize,
    },
    /// All others are in use.
    #[error(
        "load adapter {id}: it takes {bytes} bytes, and running sequences use {pinned} of {bytes_max}; try again when some have ended"
    )]
    Full {
        /// Which.
        id: BlobId,
        /// What it takes.
        bytes: usize,
        /// What is in use.
        pinned: usize,
        /// What all may take.
        bytes_max: usize,
    },
}

/// An adapter that new requests can name.
#[derive(Debug)]
struct Entry {
    adapter: Arc<LoadedAdapter>,
    /// When it was last named, counted in uses of the store.
    used: u64,
}

/// All adapters of an engine.
#[derive(Debug)]
pub(crate) struct AdapterStore {
    entries: BTreeMap<BlobId, Entry>,
    /// Replaced or dropped, but perhaps still used by a sequence.
    retired: Vec<Arc<LoadedAdapter>>,
    bytes_max: usize,
    uses: u64,
    generations: u64,
}

/// Whether a sequence uses it: the store itself holds one reference.
fn pinned(adapter: &Arc<LoadedAdapter>) -> bool {
    Arc::strong_count(adapter) > 1
}

impl AdapterStore {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self { entries: BTreeMap::new(), retired: Vec::new(), bytes_max, uses: 0, generations: 0 }
    }

    /// Loads an adapter, or replaces the one of the same id.
    pub(crate) fn put(
        &mut self,
        id: BlobId,
        adapter: Adapter,
        config: &LlamaConfig,
    ) -> Result<Generation, AdapterStoreError> {
        check(id, &adapter, config)?;
        let bytes = bytes_of(&adapter);
        self.make_room(id, bytes)?;
        self.generations += 1;
        let generation = Generation(self.generations);
        let scale = adapter.scale;
        let sites = adapter.deltas.into_iter().map(|(place, delta)| {
            let b = transposed(&delta.b, delta.rank);
            (place, LowRank { a: delta.a, b })
        });
        let loaded = LoadedAdapter { id, generation, bytes, scale, sites: sites.collect() };
        self.uses += 1;
        let entry = Entry { adapter: Arc::new(loaded), used: self.uses };
        if let Some(old) = self.entries.insert(id, entry) {
            self.retired.push(old.adapter);
        }
        self.forget();
        Ok(generation)
    }

    /// Puts unused adapters out until so many bytes fit, the longest unused first.
    fn make_room(&mut self, id: BlobId, bytes: usize) -> Result<(), AdapterStoreError> {
        let bytes_max = self.bytes_max;
        if bytes > bytes_max {
            return Err(AdapterStoreError::TooLarge { id, bytes, bytes_max });
        }
        self.forget();
        let entries = self.entries.values().map(|entry| &entry.adapter);
        let held = entries.chain(&self.retired);
        let (mut all, mut in_use) = (0, 0);
        for adapter in held {
            all += adapter.bytes;
            in_use += if pinned(adapter) { adapter.bytes } else { 0 };
        }
        if in_use + bytes > bytes_max {
            return Err(AdapterStoreError::Full { id, bytes, pinned: in_use, bytes_max });
        }
        while all + bytes > bytes_max {
            let unused = self.entries.iter().filter(|(_, entry)| !pinned(&entry.adapter));
            // What is to be replaced anyway goes first.
            let oldest = unused.min_by_key(|(other, entry)| (**other != id, entry.used));
            let Some((&oldest, _)) = oldest else { break };
            all -= self.entries.remove(&oldest).map_or(0, |entry| entry.adapter.bytes);
        }
        Ok(())
    }

    /// Lets go of what was retired and is no longer used.
    fn forget(&mut self) {
        self.retired.retain(pinned);
    }

    /// Drops an adapter; sequences that use it keep it. Says whether it was there.
    pub(crate) fn drop(&mut self, id: &BlobId) -> bool {
        let Some(entry) = self.entries.remove(id) else { return false };
        self.retired.push(entry.adapter);
        self.forget();
        true
    }

    pub(crate) fn has(&self, id: &BlobId) -> bool {
        self.entries.contains_key(id)
    }

    /// All that new requests can name, by id.
    pub(crate) fn list(&self) -> Vec<(BlobId, Generation, usize)> {
        let loaded =
            |entry: &Entry| (entry.adapter.id, entry.adapter.generation, entry.adapter.bytes);
        self.entries.values().map(loaded).collect()
    }

    /// Pins the adapters of a request.
    pub(crate) fn resolve(
        &mut self,
        adapters: &[(BlobId, f32)],
    ) -> Result<AdapterSet, AdapterSetError> {
        if adapters.len() > ADAPTERS_PER_REQUEST_MAX {
            return Err(AdapterSetError::TooMany { asked: adapters.len() });
        }
        let mut sorted = adapters.to_vec();
        sorted.sort_unstable_by_key(|part| part.0);
        if let Some(pair) =
            sorted.windows(2).find(|pair| pair.first().map(|p| p.0) == pair.last().map(|p| p.0))
        {
            let id = pair.first().map_or(BlobId::ZERO, |part| part.0);
            return Err(AdapterSetError::Repeated { id });
        }
        for &(id, weight) in &sorted {
            if !(-ADAPTER_WEIGHT_MAX..=ADAPTER_WEIGHT_MAX).contains(&weight) {
                return Err(AdapterSetError::Weight { id, weight });
            }
            if !self.entries.contains_key(&id) {
                return Err(AdapterSetError::Unknown { id });
            }
        }
        self.uses += 1;
        let mut parts = Vec::with_capacity(sorted.len());
        for (id, weight) in sorted {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.used = self.uses;
                parts.push((Arc::clone(&entry.adapter), weight));
            }
        }
        Ok(AdapterSet(parts.into()))
    }
}

/// Bytes of an adapter's numbers.
fn bytes_of(adapter: &Adapter) -> usize {
    let numbers = |delta: &openledger_models::Delta| delta.a.len() + delta.b.len();
    adapter.deltas.values().map(numbers).sum::<usize>() * size_of::<f32>()
}

/// Checks every matrix against the model: the parser did, but perhaps for another model.
fn check(id: BlobId, adapter: &Adapter, config: &LlamaConfig) -> Result<(), AdapterStoreError> {
    for (&(layer, site), delta) in &adapter.deltas {
        let (rows, cols) = site.shape(config);
        let fits = layer < config.layers
            && delta.rank.checked_mul(cols) == Some(delta.a.len())
            && delta.rank.checked_mul(rows) == Some(delta.b.len());
        if !fits {
            return Err(AdapterStoreError::OtherModel { id, layer, site });
        }
    }
    Ok(())
}

/// `[out, rank]` as `[rank, out]`.
fn transposed(b: &[f32], rank: usize) -> Vec<f32> {
    (0..rank).flat_map(|r| b.iter().skip(r).step_by(rank).copied()).collect()
}
