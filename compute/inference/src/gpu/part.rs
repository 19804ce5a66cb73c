//! Layers of a model on one device, with all that they need there.

use std::sync::Arc;

use openledger_gpu::{
    Attention, Draw, Elementwise, Embedding, Gpu, GpuError, HeadNorms, KvPages, KvWrite, Norm,
    Products, Weights,
};
use openledger_kernels::reference::{AttentionShape, RopeAngles};
use openledger_models::{Model, ModelConfig, Weight};

use super::adapters::Adapters;
use super::device::GpuOptions;
use super::layer::{LayerWeights, failed, numbers, upload};
use super::scratch::{Heads, Rows, Words};
use crate::backend::BackendError;
use crate::options::EngineOptions;
use crate::weights::{angles, matrix, pairs};

/// Hears of bytes that were read.
pub(super) type Loaded<'a> = dyn FnMut() + 'a;

/// Pipelines of a device.
#[derive(Debug)]
pub(super) struct Kernels {
    pub(super) products: Products,
    pub(super) norm: Norm,
    pub(super) elementwise: Elementwise,
    pub(super) kv_write: KvWrite,
    pub(super) attention: Attention,
}

/// What lies behind the last layer.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) norm: openledger_gpu::Buffer,
    pub(super) head: Arc<Weights>,
    pub(super) heads: Heads,
    /// The rows that something is wanted of.
    pub(super) wanted: Words,
    pub(super) draw: Draw,
}

/// One device's share of a model.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) gpu: Gpu,
    pub(super) kernels: Kernels,
    /// Number of the first of its layers.
    pub(super) first: usize,
    pub(super) layers: Vec<LayerWeights>,
    pub(super) kv: Vec<KvPages>,
    pub(super) adapters: Adapters,
    /// Of the first device.
    pub(super) embedding: Option<Embedding>,
    /// Of the last one.
    pub(super) ending: Option<Ending>,
    pub(super) rows: Rows,
    pub(super) ids: Words,
    pub(super) turns: Words,
    /// Of layers with a window, where they turn otherwise.
    pub(super) local_turns: Words,
    pub(super) table: Words,
    /// The plan of attention over everything, and over windows.
    pub(super) plans: [Words; 2],
    /// What attention puts together in the end.
    pub(super) partials: Words,
}

/// Which layers a device takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) first: usize,
    pub(super) layers: usize,
    /// Of the model.
    pub(super) layers_all: usize,
}

impl Share {
    const fn is_first(self) -> bool {
        self.first == 0
    }

    const fn is_last(self) -> bool {
        self.first + self.layers == self.layers_all
    }
}

pub(super) fn shape_of(config: &ModelConfig, options: &EngineOptions) -> AttentionShape {
    AttentionShape {
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        page_tokens: options.page_tokens,
    }
}

impl Kernels {
    fn new(
        gpu: &Gpu,
        config: &ModelConfig,
        options: &EngineOptions,
        gpus: &GpuOptions,
    ) -> Result<Self, GpuError> {
        let shape = shape_of(config, options);
        let norms = HeadNorms { query: config.head_norms, key: config.head_norms };
        let pairs = pairs(config);
        Ok(Self {
            products: Products::new(gpu, gpus.arithmetic)?,
            norm: Norm::new(gpu, config.hidden)?,
            elementwise: Elementwise::new(gpu)?,
            kv_write: KvWrite::new(gpu, shape, options.kv, config.rope_dim, pairs, norms)?,
            attention: Attention::new(gpu, shape, options.kv)?,
        })
    }
}

impl Part {
    /// Uploads a device's share of a model, and tells `loaded` after each layer.
    pub(super) fn new(
        gpu: Gpu,
        model: &Model,
        share: Share,
        options: &EngineOptions,
        gpus: &GpuOptions,
        loaded: &mut Loaded<'_>,
    ) -> Result<Self, BackendError> {
        let config = model.config();
        let kernels = Kernels::new(&gpu, config, options, gpus).map_err(failed)?;
        check_room(&gpu, model, share, options, &kernels.products)?;
        let (mut layers, mut kv) = (Vec::new(), Vec::new());
        for number in share.first..share.first + share.layers {
            layers.push(LayerWeights::new(&gpu, model, number)?);
            let shape = shape_of(config, options);
            kv.push(KvPages::new(&gpu, shape, options.pages_max, options.kv).map_err(failed)?);
            model.release_pages();
            loaded();
        }
        let (embedding, ending) = ends(&gpu, model, share, &kernels.products)?;
        model.release_pages();
        let words = |label| Words::new(&gpu, label).map_err(failed);
        let rows = Rows::new(&gpu, &kernels.products, config, rows_at_first(options));
        Ok(Self {
            kernels,
            first: share.first,
            layers,
            kv,
            adapters: Adapters::new(&gpu, config, share, options).map_err(failed)?,
            embedding,
            ending,
            rows: rows.map_err(failed)?,
            ids: words("tokens")?,
            turns: words("turns")?,
            local_turns: words("turns of windows")?,
            table: words("rows")?,
            plans: [words("plan of attention")?, words("plan of windows")?],
            partials: words("partial results")?,
            gpu,
        })
    }
}

impl Part {
    /// Makes room for the rows of a step.
    pub(super) fn make_room(&mut self, config: &ModelConfig, rows: usize) -> Result<(), GpuError> {
        if self.rows.capacity < rows {
            let (gpu, products) = (&self.gpu, &self.kernels.products);
            self.rows = Rows::new(gpu, products, config, rows.next_multiple_of(64))?;
        }
        Ok(())
    }
}

/// Rows that steps of an engine have at most; others (verifying, scoring) make room when they come.
fn rows_at_first(options: &EngineOptions) -> usize {
    (options.sequences_max + options.chunk_tokens_max).min(512)
}

/// What comes before the first layer and after the last, where a device has those; a table that is
/// both lies there once.
fn ends(
    gpu: &Gpu,
    model: &Model,
    share: Share,
    products: &Products,
) -> Result<(Option<Embedding>, Option<Ending>), BackendError> {
    let config = model.config();
    let tied = is_tied(model)?;
    let table = match share.is_first() || tied && share.is_last() {
        true => Some(Arc::new(upload(gpu, model, Weight::Embedding)?)),
        false => None,
    };
    let embedding = match table.as_ref().filter(|_| share.is_first()) {
        Some(table) => {
            let table = Arc::clone(table);
            Some(Embedding::new(gpu, table, config.embedding_scale).map_err(failed)?)
        }
        None => None,
    };
    if !share.is_last() {
        return Ok((embedding, None));
    }
    let head = match table.filter(|_| tied) {
        Some(table) => table,
        None => Arc::new(upload(gpu, model, Weight::Head)?),
    };
    let missing = || BackendError::Plan { what: "the model has no last norm".to_owned() };
    let ending = Ending {
        norm: numbers(gpu, model, Weight::OutputNorm)?.ok_or_else(missing)?,
        head,
        heads: Heads::new(gpu, products, config, 1).map_err(failed)?,
        wanted: Words::new(gpu, "wanted rows").map_err(failed)?,
        draw: Draw::new(gpu).map_err(failed)?,
    };
    Ok((embedding, Some(ending)))
}

/// Whether the head is the embedding.
fn is_tied(model: &Model) -> Result<bool, BackendError> {
    let (embedding, head) = (matrix(model, Weight::Embedding)?, matrix(model, Weight::Head)?);
    Ok(core::ptr::eq(embedding.data(), head.data()))
}

/// Refuses what does not fit before anything is uploaded, and says what would.
fn check_room(
    gpu: &Gpu,
    model: &Model,
    share: Share,
    options: &EngineOptions,
    products: &Products,
) -> Result<(), BackendError> {
    let config = model.config();
    let sites = |layer| openledger_models::Site::ALL.map(|site| Weight::Site(layer, site));
    let layers = share.first..share.first + share.layers;
    let mut wanted: Vec<Weight> = layers.flat_map(sites).collect();
    let tied = is_tied(model)?;
    if share.is_first() || tied && share.is_last() {
        wanted.push(Weight::Embedding);
    }
    if share.is_last() && !tied {
        wanted.push(Weight::Head);
    }
    let mut weights = 0;
    for weight in wanted {
        weights += Weights::bytes_of(gpu, &matrix(model, weight)?);
    }
    let page = KvPages::page_bytes(&shape_of(config, options), options.kv);
    let kv = page.saturating_mul(options.pages_max as u64);
    let one = gpu.features().max_binding_bytes.min(gpu.features().max_buffer_bytes);
    if kv > one {
        let most = one / page.max(1);
        return Err(BackendError::Device {
            what: format!(
                "{} pages of keys and values take {kv} bytes of a layer, and {} binds {one} at a \
                 time; {most} pages would fit",
                options.pages_max,
                gpu.info()
            ),
        });
    }
    let kv = kv.saturating_mul(share.layers as u64);
    let rows = Rows::bytes(products, config, rows_at_first(options));
    let needed = weights.saturating_add(kv).saturating_add(rows);
    // The system's word on a device's memory, where it has one, and what the user allows.
    let most = gpu.info().memory_bytes.unwrap_or(u64::MAX).min(gpu.memory_max());
    if needed <= most {
        return Ok(());
    }
    let left = most.saturating_sub(weights.saturating_add(rows));
    let pages = left / page.saturating_mul(share.layers as u64).max(1);
    let remedy = match pages {
        0 => "a smaller or more quantised model, or more devices, would".to_owned(),
        pages => format!("{pages} pages instead of {} would", options.pages_max),
    };
    Err(BackendError::Device {
        what: format!(
            "{} has {most} bytes to give; weights take {weights}, keys and values {kv}, buffers \
             {rows}: this does not fit, {remedy}",
            gpu.info()
        ),
    })
}

/// The angles of a model's turning, and of its layers with a window where those differ.
pub(super) fn turning(config: &ModelConfig) -> (RopeAngles, Option<RopeAngles>) {
    let local = config.local_rope.as_ref().map(|rope| angles(config, rope));
    (angles(config, &config.rope), local)
}
