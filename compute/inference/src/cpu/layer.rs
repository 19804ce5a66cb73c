//! What a layer holds: packed matrices, norms, biases, keys and values.

use openledger_kernels::fused::{KvCache, KvFormat};
use openledger_kernels::packed::Packed;
use openledger_kernels::reference::AttentionShape;
use openledger_kernels::{Pool, ShapeError};
use openledger_models::{Model, NormSite, Site, Weight};

use crate::weights::{matrix, vector};

/// One layer, ready to run.
#[derive(Debug)]
pub(super) struct Layer {
    /// By `NormSite as usize`; empty where the model has none.
    norms: [Vec<f32>; 6],
    /// By `Site as usize`.
    matrices: [Packed; 7],
    /// Of query, key and value; empty where the model has none.
    biases: [Vec<f32>; 3],
    pub(super) kv: KvCache,
}

impl Layer {
    /// Packs a layer's weights.
    pub(super) fn new(
        model: &Model,
        layer: usize,
        pool: &Pool,
        shape: AttentionShape,
        pages: usize,
        format: KvFormat,
    ) -> Result<Self, ShapeError> {
        let packed = |site| Packed::new(&matrix(model, Weight::Site(layer, site))?, pool);
        let bias = |site| vector(model, Weight::Bias(layer, site));
        let norm = |site| vector(model, Weight::Norm(layer, site));
        let [attention, query, key, output, feed_forward, last] = NormSite::ALL;
        Ok(Self {
            norms: [
                norm(attention)?,
                norm(query)?,
                norm(key)?,
                norm(output)?,
                norm(feed_forward)?,
                norm(last)?,
            ],
            matrices: [
                packed(Site::Query)?,
                packed(Site::Key)?,
                packed(Site::Value)?,
                packed(Site::Output)?,
                packed(Site::Gate)?,
                packed(Site::Up)?,
                packed(Site::Down)?,
            ],
            biases: [bias(Site::Query)?, bias(Site::Key)?, bias(Site::Value)?],
            kv: KvCache::new(shape, pages, format)?,
        })
    }

    /// The matrix at a site.
    pub(super) const fn matrix(&self, site: Site) -> &Packed {
        let [query, key, value, output, gate, up, down] = &self.matrices;
        match site {
            Site::Query => query,
            Site::Key => key,
            Site::Value => value,
            Site::Output => output,
            Site::Gate => gate,
            Site::Up => up,
            Site::Down => down,
        }
    }

    /// A normalisation; empty where there is none.
    pub(super) fn norm(&self, site: NormSite) -> &[f32] {
        self.norms.get(site as usize).map_or(&[], Vec::as_slice)
    }

    /// The bias at a site; empty where there is none.
    pub(super) fn bias(&self, site: Site) -> &[f32] {
        self.biases.get(site as usize).map_or(&[], Vec::as_slice)
    }
}
