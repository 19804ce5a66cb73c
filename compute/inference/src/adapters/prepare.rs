//! Getting an adapter ready for an engine: checked against the model and stored as the backend
//! reads it. On any thread, so that an engine never waits for it.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::mpsc;
use std::thread;

use openledger_models::{Adapter, AdapterBundle, AdapterError, Delta, ModelConfig, Site};

use super::errors::PrepareError;
use super::numbers::{AdapterStorage, Update};
use crate::limits::CHANGES_AHEAD;

/// The shapes that an adapter's matrices must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    layers: usize,
    /// Rows and columns by `Site as usize`.
    sites: [(usize, usize); Site::ALL.len()],
}

impl Shape {
    pub(super) fn of(config: &ModelConfig) -> Self {
        Self { layers: config.layers, sites: Site::ALL.map(|site| site.shape(config)) }
    }

    /// A place at which two models differ, if they do.
    pub(super) fn difference(&self, other: &Self) -> Option<(usize, Site)> {
        let mut pairs = Site::ALL.into_iter().zip(self.sites.iter().zip(&other.sites));
        let site = pairs.find(|(_, (own, other))| own != other).map(|(site, _)| (0, site));
        let layers = self.layers != other.layers;
        site.or_else(|| layers.then(|| (self.layers.min(other.layers), Site::Query)))
    }
}

/// An adapter in the storage of a backend; loading it into an engine copies nothing.
#[derive(Debug)]
pub struct PreparedAdapter {
    scale: f32,
    storage: AdapterStorage,
    shape: Shape,
    bytes: usize,
    sites: BTreeMap<(usize, Site), Update>,
}

impl PreparedAdapter {
    /// Checks an adapter against a model's shape and stores its numbers.
    ///
    /// # Errors
    /// An adapter of another model, or a storage that its matrices cannot have.
    pub fn new(
        config: &ModelConfig,
        adapter: Adapter,
        storage: AdapterStorage,
    ) -> Result<Self, PrepareError> {
        let mut sites = BTreeMap::new();
        for ((layer, site), mut delta) in adapter.deltas {
            sites.insert((layer, site), stored(config, (layer, site), &mut delta, storage)?);
        }
        Ok(Self::of_sites(adapter.scale, storage, Shape::of(config), sites))
    }

    /// The same for an adapter in one file (`AdapterBundle` of `openledger-models`), without
    /// holding all its numbers in 32 bits, and storing some while others are read: several times
    /// as fast.
    ///
    /// # Errors
    /// A file that is no such adapter, or as [`PreparedAdapter::new`].
    pub fn from_bundle(
        config: &ModelConfig,
        bundle: &[u8],
        storage: AdapterStorage,
    ) -> Result<Self, PrepareError> {
        let config_json = AdapterBundle::config(bundle).map_err(AdapterError::from)?;
        Self::parse(config, &config_json, bundle, storage)
    }

    /// The same for an adapter in two files, `adapter_config.json` and
    /// `adapter_model.safetensors`.
    ///
    /// # Errors
    /// Files that are no such adapter, or as [`PreparedAdapter::new`].
    pub fn parse(
        config: &ModelConfig,
        config_json: &[u8],
        safetensors: &[u8],
        storage: AdapterStorage,
    ) -> Result<Self, PrepareError> {
        let read = |visit: &mut Visit<'_>| {
            let scale = Adapter::visit(config_json, safetensors, config, visit)?.1;
            Ok(scale)
        };
        let keep = |place, delta: &mut Delta| stored(config, place, delta, storage);
        let (scale, sites) = read_and_store(&read, &keep)?;
        Ok(Self::of_sites(scale, storage, Shape::of(config), sites))
    }

    pub(super) fn of_sites(
        scale: f32,
        storage: AdapterStorage,
        shape: Shape,
        sites: BTreeMap<(usize, Site), Update>,
    ) -> Self {
        let bytes = sites.values().map(Update::bytes).sum();
        Self { scale, storage, shape, bytes, sites }
    }

    /// What it takes in memory, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How its numbers are stored.
    #[must_use]
    pub const fn storage(&self) -> AdapterStorage {
        self.storage
    }

    /// What its products are multiplied with.
    #[must_use]
    pub const fn scale(&self) -> f32 {
        self.scale
    }

    pub(super) const fn shape(&self) -> Shape {
        self.shape
    }

    pub(super) fn update(&self, layer: usize, site: Site) -> Option<&Update> {
        self.sites.get(&(layer, site))
    }

    pub(super) fn places(&self) -> impl Iterator<Item = (usize, Site)> {
        self.sites.keys().copied()
    }
}

/// What a reader gives each change to; it may take the numbers.
type Visit<'a> = dyn FnMut((usize, Site), &mut Delta) + 'a;

/// What makes of a change what is stored.
type Store<'a> = dyn Fn((usize, Site), &mut Delta) -> Result<Update, PrepareError> + Sync + 'a;

/// What is stored, by place.
type Sites = BTreeMap<(usize, Site), Update>;

/// Has changes stored on a thread of its own while the next ones are read: each takes about half
/// of the time. Without such a thread, one after the other.
fn read_and_store(
    read: &dyn Fn(&mut Visit<'_>) -> Result<f32, PrepareError>,
    store: &Store<'_>,
) -> Result<(f32, Sites), PrepareError> {
    let (send, receive) = mpsc::sync_channel::<((usize, Site), Delta)>(CHANGES_AHEAD);
    let (give_back, spare) = mpsc::channel();
    thread::scope(|scope| {
        let storing = thread::Builder::new().spawn_scoped(scope, move || {
            let mut sites = Sites::new();
            for (place, mut delta) in receive {
                sites.insert(place, store(place, &mut delta)?);
                // Nobody needs it after the last.
                let _ = give_back.send(delta);
            }
            Ok::<_, PrepareError>(sites)
        });
        let Ok(storing) = storing else { return read_then_store(read, store) };
        let scale = read(&mut |place, delta| {
            let empty = spare.try_recv().unwrap_or_default();
            // A storing thread that has given up says why when it is joined.
            let _ = send.send((place, core::mem::replace(delta, empty)));
        });
        drop(send);
        let sites = storing.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        Ok((scale?, sites))
    })
}

fn read_then_store(
    read: &dyn Fn(&mut Visit<'_>) -> Result<f32, PrepareError>,
    store: &Store<'_>,
) -> Result<(f32, Sites), PrepareError> {
    let (mut sites, mut failed) = (Sites::new(), None);
    let scale = read(&mut |place, delta| match store(place, delta) {
        Ok(update) => {
            sites.insert(place, update);
        }
        Err(error) => failed = failed.take().or(Some(error)),
    })?;
    failed.map_or(Ok((scale, sites)), Err)
}

/// Checks one change and stores its numbers, which are taken if they can be used as they are.
fn stored(
    config: &ModelConfig,
    (layer, site): (usize, Site),
    delta: &mut Delta,
    storage: AdapterStorage,
) -> Result<Update, PrepareError> {
    let (rows, cols) = site.shape(config);
    let Delta { a, b, rank } = delta;
    let fits = layer < config.layers
        && rank.checked_mul(cols) == Some(a.len())
        && rank.checked_mul(rows) == Some(b.len());
    if !fits {
        return Err(PrepareError::OtherModel { layer, site });
    }
    Ok(Update::new((*rank, rows, cols), a, b, storage)?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A model of one layer whose matrices have 32 rows and columns.
    pub(in crate::adapters) const SHAPE: Shape = Shape { layers: 1, sites: [(32, 32); 7] };

    /// An adapter of it, on the queries alone.
    pub(in crate::adapters) fn prepared(rank: usize, value: f32) -> PreparedAdapter {
        let numbers = vec![value; rank * 32];
        let storage = AdapterStorage::Rows;
        let update = Update::new((rank, 32, 32), &mut numbers.clone(), &numbers, storage).unwrap();
        PreparedAdapter::of_sites(1.0, storage, SHAPE, BTreeMap::from([((0, Site::Query), update)]))
    }

    #[test]
    fn bytes_are_those_of_the_sites_and_differences_are_found() {
        assert!((512..1_024).contains(&prepared(2, 0.0).bytes()));
        assert_eq!(SHAPE.difference(&SHAPE), None);
        let mut other = SHAPE;
        other.sites[Site::Up as usize] = (32, 64);
        assert_eq!(SHAPE.difference(&other), Some((0, Site::Up)));
        let deeper = Shape { layers: 2, ..SHAPE };
        assert_eq!(SHAPE.difference(&deeper), Some((1, Site::Query)));
    }
}
