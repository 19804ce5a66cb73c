//! What a device holds of one layer.

use openledger_gpu::{Buffer, Gpu, GpuError, Weights};
use openledger_kernels::Matrix;
use openledger_models::{Model, NormSite, Site, Weight};

use crate::backend::BackendError;
use crate::weights::{matrix, vector};

/// What went wrong, in the backend's words.
pub(super) fn failed(error: GpuError) -> BackendError {
    match error {
        GpuError::Use { what } => BackendError::Plan { what },
        other => BackendError::Device { what: other.to_string() },
    }
}

/// Weights of one layer.
#[derive(Debug)]
pub(super) struct LayerWeights {
    /// By `NormSite as usize`; nothing where the model has none.
    norms: [Option<Buffer>; 6],
    /// By `Site as usize`.
    matrices: [Weights; 7],
    /// Of query, key and value; nothing where the model has none.
    biases: [Option<Buffer>; 3],
    /// The norms of queries' and keys' heads, one after the other: what writes keys reads them
    /// together. Ones where the model has none.
    pub(super) head_norms: Buffer,
}

/// A matrix, packed on the way.
pub(super) fn upload(gpu: &Gpu, model: &Model, weight: Weight) -> Result<Weights, BackendError> {
    let matrix: Matrix<'_> = matrix(model, weight)?;
    Weights::upload(gpu, &format!("{weight:?}"), &matrix).map_err(failed)
}

/// A norm or a bias.
pub(super) fn numbers(
    gpu: &Gpu,
    model: &Model,
    weight: Weight,
) -> Result<Option<Buffer>, BackendError> {
    let numbers = vector(model, weight)?;
    if numbers.is_empty() {
        return Ok(None);
    }
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    gpu.upload(&format!("{weight:?}"), &bytes).map(Some).map_err(failed)
}

impl LayerWeights {
    /// Uploads them.
    pub(super) fn new(gpu: &Gpu, model: &Model, layer: usize) -> Result<Self, BackendError> {
        let packed = |site| upload(gpu, model, Weight::Site(layer, site));
        let bias = |site| numbers(gpu, model, Weight::Bias(layer, site));
        let norm = |site| numbers(gpu, model, Weight::Norm(layer, site));
        let [attention, query, key, output, feed_forward, last] = NormSite::ALL;
        let mut both = vector(model, Weight::Norm(layer, query))?;
        let head_dim = model.config().head_dim;
        both.resize(head_dim, 1.0);
        both.extend(vector(model, Weight::Norm(layer, key))?);
        both.resize(2 * head_dim, 1.0);
        let both: Vec<u8> = both.iter().flat_map(|number| number.to_le_bytes()).collect();
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
            head_norms: gpu.upload("head norms", &both).map_err(failed)?,
        })
    }

    /// The matrix at a site.
    pub(super) const fn matrix(&self, site: Site) -> &Weights {
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

    /// A normalisation, where there is one.
    pub(super) fn norm(&self, site: NormSite) -> Option<&Buffer> {
        self.norms.get(site as usize)?.as_ref()
    }

    /// The bias at a site, where there is one.
    pub(super) fn bias(&self, site: Site) -> Option<&Buffer> {
        self.biases.get(site as usize)?.as_ref()
    }
}
