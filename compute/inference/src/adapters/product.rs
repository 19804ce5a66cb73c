//! Products: several adapters merged into one, made once and kept like an adapter.

use std::collections::BTreeSet;
use std::sync::Arc;

use openledger_models::Site;
use openledger_wire::ids::BlobId;

use super::ask::Recipe;
use super::errors::AdapterSetError;
use super::loaded::{Generation, LoadedAdapter};
use super::merge::{Half, MajoritySign, MergeStrategy, Task, mask_seed, merge_tensors};
use super::numbers::{AdapterStorage, Update};
use super::prepare::{PreparedAdapter, Shape};

/// What a product was made of: generations and bits of weights, and how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProductKey {
    parts: Vec<(Generation, u32)>,
    strategy: MergeStrategy,
    density: u32,
    majority_sign_method: MajoritySign,
}

impl ProductKey {
    pub(super) fn new(recipe: &Recipe, generations: &[Generation]) -> Self {
        let weights = recipe.parts.iter().map(|(_, weight)| weight.to_bits());
        Self {
            parts: generations.iter().copied().zip(weights).collect(),
            strategy: recipe.merge.strategy,
            density: recipe.merge.density.to_bits(),
            majority_sign_method: recipe.merge.majority_sign_method,
        }
    }

    /// Whether an adapter has a part in it.
    pub(super) fn has(&self, source: Generation) -> bool {
        self.parts.iter().any(|(generation, _)| *generation == source)
    }
}

/// What a product of these adapters will take in memory, in bytes.
pub(super) fn bytes_of_product(sources: &[Arc<LoadedAdapter>]) -> usize {
    let places = places(sources.iter());
    let bytes = |(layer, site): &(usize, Site)| {
        sources.iter().find_map(|source| source.update(*layer, *site)).map_or(0, Update::bytes)
    };
    places.iter().map(bytes).sum()
}

fn places<'a>(sources: impl Iterator<Item = &'a Arc<LoadedAdapter>>) -> BTreeSet<(usize, Site)> {
    sources.flat_map(|source| source.places()).collect()
}

/// A merge that requests wait for. It holds all that it needs, so it can be run on any thread; the
/// engine that gave it runs it again if it is dropped.
#[derive(Debug)]
pub struct MergeJob {
    pub(super) key: ProductKey,
    pub(super) recipe: Arc<Recipe>,
    /// In the order of the recipe's parts.
    pub(super) sources: Vec<Arc<LoadedAdapter>>,
    pub(super) storage: AdapterStorage,
    pub(super) shape: Shape,
    /// Says, by being alive, that the job is in hand.
    pub(super) ticket: Arc<()>,
}

/// What came of a merge, for the engine that gave it.
#[derive(Debug)]
pub struct MergeOutcome {
    pub(super) key: ProductKey,
    pub(super) recipe: Arc<Recipe>,
    pub(super) result: Result<PreparedAdapter, AdapterSetError>,
    /// Held until the engine has the outcome.
    _ticket: Arc<()>,
}

impl MergeJob {
    /// The id that the product gets: a hash of the adapters' ids, their weights and the method.
    #[must_use]
    pub fn id(&self) -> BlobId {
        self.recipe.id()
    }

    /// Merges. Takes some tens of nanoseconds per number and adapter.
    #[must_use]
    pub fn run(self) -> MergeOutcome {
        let result = self.merge();
        let Self { key, recipe, ticket, .. } = self;
        MergeOutcome { key, recipe, result, _ticket: ticket }
    }

    fn merge(&self) -> Result<PreparedAdapter, AdapterSetError> {
        // The sources are in the order of their ids.
        let scale = self.sources.first().map_or(1.0, |source| source.scale());
        let mut sites = std::collections::BTreeMap::new();
        for (layer, site) in places(self.sources.iter()) {
            sites.insert((layer, site), self.merge_site(layer, site, scale)?);
        }
        Ok(PreparedAdapter::of_sites(scale, self.storage, self.shape, sites))
    }

    /// Merges what the adapters that have a site add to it.
    fn merge_site(&self, layer: usize, site: Site, scale: f32) -> Result<Update, AdapterSetError> {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        let mut shape = None;
        for (source, (id, weight)) in self.sources.iter().zip(&self.recipe.parts) {
            let Some(update) = source.update(layer, site) else { continue };
            // Outputs and inputs are the model's, which was checked when they were loaded.
            let (first, second) = (shape.get_or_insert(update.shape()).0, update.shape().0);
            if first != second {
                return Err(AdapterSetError::Ranks { layer, site, first, second });
            }
            let (mut a, mut b) = update.matrices();
            if source.scale() != scale {
                let ratio = source.scale() / scale;
                let root = ratio.abs().sqrt();
                a.iter_mut().for_each(|value| *value *= root);
                b.iter_mut().for_each(|value| *value *= root.copysign(ratio));
            }
            let seed = |half| mask_seed(id, layer, site, half);
            left.push(Task { values: a, weight: *weight, seed: seed(Half::A) });
            right.push(Task { values: b, weight: *weight, seed: seed(Half::B) });
        }
        let mut a = merge_tensors(left, &self.recipe.merge);
        let b = merge_tensors(right, &self.recipe.merge);
        Update::new(shape.unwrap_or_default(), &mut a, &b, self.storage).map_err(|error| {
            AdapterSetError::Unavailable { id: self.recipe.id(), reason: error.to_string() }
        })
    }
}
