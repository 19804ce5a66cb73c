//! What a request asks of adapters: which, with which weights, put together how.

use std::collections::BTreeMap;
use std::sync::Arc;

use openledger_wire::ids::BlobId;

use super::errors::AdapterSetError;
use super::merge::Merge;
use crate::limits::{ADAPTER_WEIGHT_MAX, ADAPTERS_PER_REQUEST_MAX};

/// Several adapters under one id: requests name it like an adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Combination {
    /// Adapters with their weights; the order does not matter.
    pub adapters: Vec<(BlobId, f32)>,
    /// How they are put together.
    pub merge: Merge,
}

/// Adapters that are merged into one.
#[derive(Debug, PartialEq)]
pub(super) struct Recipe {
    /// By id, with weights.
    pub(super) parts: Vec<(BlobId, f32)>,
    pub(super) merge: Merge,
}

impl Recipe {
    /// A hash of all that the product depends on, as the product's id.
    pub(super) fn id(&self) -> BlobId {
        let Merge { strategy, density, majority_sign_method } = self.merge;
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"openledger/inference/merged/1");
        hasher.update(&[strategy as u8, majority_sign_method as u8]);
        hasher.update(&density.to_bits().to_le_bytes());
        for (id, weight) in &self.parts {
            hasher.update(&id.0).update(&weight.to_bits().to_le_bytes());
        }
        BlobId(*hasher.finalize().as_bytes())
    }
}

/// One of the adapters that are added to the base.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Adapter(BlobId),
    Product(Arc<Recipe>),
}

/// What a request asks for, saved combinations resolved. Nothing is the bare base.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(super) parts: Vec<(Part, f32)>,
}

impl Ask {
    /// Whether it is the bare base.
    pub(crate) const fn is_bare(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether an adapter has a part in it.
    pub(super) fn names(&self, id: &BlobId) -> bool {
        self.parts.iter().any(|(part, _)| match part {
            Part::Adapter(own) => own == id,
            Part::Product(recipe) => recipe.parts.iter().any(|(own, _)| own == id),
        })
    }

    /// Whether a product has a part in it.
    pub(super) fn needs(&self, recipe: &Recipe) -> bool {
        let same = |part: &Part| matches!(part, Part::Product(own) if **own == *recipe);
        self.parts.iter().any(|(part, _)| same(part))
    }
}

/// Checks adapters and their weights, and puts them in the order of their ids.
pub(super) fn sorted(adapters: &[(BlobId, f32)]) -> Result<Vec<(BlobId, f32)>, AdapterSetError> {
    if adapters.len() > ADAPTERS_PER_REQUEST_MAX {
        return Err(AdapterSetError::TooMany { asked: adapters.len() });
    }
    let mut weights = BTreeMap::new();
    for &(id, weight) in adapters {
        if weights.insert(id, weight).is_some() {
            return Err(AdapterSetError::Repeated { id });
        }
        within(id, weight)?;
    }
    Ok(weights.into_iter().collect())
}

/// Resolves saved combinations. `known` says which other ids there are.
pub(super) fn resolve(
    adapters: &[(BlobId, f32)],
    merge: &Merge,
    saved: &BTreeMap<BlobId, Combination>,
    known: &dyn Fn(&BlobId) -> bool,
) -> Result<Ask, AdapterSetError> {
    let adapters = sorted(adapters)?;
    merge.check()?;
    if adapters.is_empty() {
        return Ok(Ask::default());
    }
    if merge.makes_product() {
        let recipe = recipe(adapters, *merge, saved, known)?;
        return Ok(Ask { parts: vec![(Part::Product(Arc::new(recipe)), 1.0)] });
    }
    let mut single: BTreeMap<BlobId, f32> = BTreeMap::new();
    let mut products: Vec<(Recipe, f32)> = Vec::new();
    for (id, weight) in adapters {
        match saved.get(&id) {
            None if known(&id) => *single.entry(id).or_default() += weight,
            None => return Err(AdapterSetError::Unknown { id }),
            Some(Combination { adapters, merge }) if merge.makes_product() => {
                let recipe = recipe(sorted(adapters)?, *merge, saved, known)?;
                match products.iter_mut().find(|(own, _)| *own == recipe) {
                    Some((_, own)) => *own += weight,
                    None => products.push((recipe, weight)),
                }
            }
            Some(Combination { adapters, .. }) => {
                for (inner, share) in sorted(adapters)? {
                    if !known(&inner) {
                        return Err(AdapterSetError::Unknown { id: inner });
                    }
                    *single.entry(inner).or_default() += weight * share;
                }
            }
        }
    }
    let asked = single.len() + products.iter().map(|(one, _)| one.parts.len()).sum::<usize>();
    if asked > ADAPTERS_PER_REQUEST_MAX {
        return Err(AdapterSetError::TooMany { asked });
    }
    let mut parts = Vec::with_capacity(single.len() + products.len());
    for (id, weight) in single {
        within(id, weight)?;
        parts.push((Part::Adapter(id), weight));
    }
    for (recipe, weight) in products {
        within(recipe.id(), weight)?;
        parts.push((Part::Product(Arc::new(recipe)), weight));
    }
    Ok(Ask { parts })
}

/// Checks a combination that is to be saved.
pub(super) fn check(
    combination: &Combination,
    saved: &BTreeMap<BlobId, Combination>,
    known: &dyn Fn(&BlobId) -> bool,
) -> Result<(), AdapterSetError> {
    let adapters = sorted(&combination.adapters)?;
    combination.merge.check()?;
    if adapters.is_empty() {
        return Err(AdapterSetError::Nothing);
    }
    recipe(adapters, combination.merge, saved, known).map(|_| ())
}

fn recipe(
    parts: Vec<(BlobId, f32)>,
    merge: Merge,
    saved: &BTreeMap<BlobId, Combination>,
    known: &dyn Fn(&BlobId) -> bool,
) -> Result<Recipe, AdapterSetError> {
    for &(id, _) in &parts {
        if saved.contains_key(&id) {
            return Err(AdapterSetError::Nested { id });
        }
        if !known(&id) {
            return Err(AdapterSetError::Unknown { id });
        }
    }
    Ok(Recipe { parts, merge })
}

fn within(id: BlobId, weight: f32) -> Result<(), AdapterSetError> {
    match (-ADAPTER_WEIGHT_MAX..=ADAPTER_WEIGHT_MAX).contains(&weight) {
        true => Ok(()),
        false => Err(AdapterSetError::Weight { id, weight }),
    }
}
