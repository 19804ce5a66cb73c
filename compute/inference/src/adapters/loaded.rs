//! An adapter as sequences use it.

use std::sync::Arc;

use openledger_kernels::fused::LoraSite;
use openledger_models::Site;
use openledger_wire::ids::BlobId;

use super::numbers::{LowRank, Update};
use super::prepare::PreparedAdapter;

/// Counts the adapters that an engine has loaded: each gets its own number. Only what is put out
/// to make room and delivered again, unchanged, keeps the number that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// An adapter as the engine uses it; immutable.
#[derive(Debug)]
pub struct LoadedAdapter {
    id: BlobId,
    generation: Generation,
    prepared: PreparedAdapter,
}

impl LoadedAdapter {
    pub(super) const fn new(id: BlobId, generation: Generation, prepared: PreparedAdapter) -> Self {
        Self { id, generation, prepared }
    }

    /// The blob that it came from; of merged adapters, a hash of what was merged and how.
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
        self.prepared.bytes()
    }

    /// What its products are multiplied with, before the weight in a mixture.
    #[must_use]
    pub const fn scale(&self) -> f32 {
        self.prepared.scale()
    }

    /// What it adds to a matrix, if anything and if it is packed.
    #[must_use]
    pub fn site(&self, layer: usize, site: Site) -> Option<&LoraSite> {
        match self.update(layer, site) {
            Some(Update::Packed(site)) => Some(site),
            _ => None,
        }
    }

    /// What it adds to a matrix, if anything and if it is stored row by row.
    #[must_use]
    pub fn low_rank(&self, layer: usize, site: Site) -> Option<&LowRank> {
        match self.update(layer, site) {
            Some(Update::Rows(rows)) => Some(rows),
            _ => None,
        }
    }

    /// What it adds to a matrix, if anything: A, `[rank, in]`, and B, `[out, rank]`, as they are
    /// stored.
    #[must_use]
    pub fn matrices(&self, layer: usize, site: Site) -> Option<(Vec<f32>, Vec<f32>)> {
        self.update(layer, site).map(Update::matrices)
    }

    pub(super) fn update(&self, layer: usize, site: Site) -> Option<&Update> {
        self.prepared.update(layer, site)
    }

    /// What it changes: layers (from 0) and sites.
    pub fn places(&self) -> impl Iterator<Item = (usize, Site)> {
        self.prepared.places()
    }
}

/// The adapters of a sequence with their weights, pinned to their generations. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct AdapterSet(Arc<[(Arc<LoadedAdapter>, f32)]>);

impl AdapterSet {
    pub(super) fn new(parts: Vec<(Arc<LoadedAdapter>, f32)>) -> Self {
        Self(parts.into())
    }

    /// The adapters, by id, with their weights. Empty is the bare base.
    #[must_use]
    pub fn parts(&self) -> &[(Arc<LoadedAdapter>, f32)] {
        &self.0
    }
}
