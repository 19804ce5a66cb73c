//! The reference backend: the model's definition, step by step, on the CPU.
//!
//! Weights stay in the mapped file and are dequantised as they are used; keys and values are kept
//! in 32 bits. No shortcut is taken that would make a row's result depend on another's: every other
//! backend is measured against this one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openledger_kernels::reference::{
    AttentionRow, AttentionShape, KvLayer, RopeAngles, RopePairs, add, attention, dequantize,
    kv_write, lora_add, matmul, rms_norm, rope, silu_mul,
};
use openledger_kernels::{Matrix, Pool, ShapeError};
use openledger_models::{Model, NormSite, RopeLayout, Site, Weight};

use crate::backend::{Backend, BackendError, RowOutput};
use crate::options::EngineOptions;
use crate::plan::{StepPlan, Wants};
use crate::weights::{matrix, vector};

/// The numbers of a layer that are held as `f32`.
#[derive(Debug)]
struct Layer {
    attention_norm: Vec<f32>,
    feed_forward_norm: Vec<f32>,
    /// Of query, key and value; empty where the model has none.
    biases: [Vec<f32>; 3],
    /// `[pages, kv_heads, page_tokens, head_dim]`.
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// Runs steps on the CPU.
#[derive(Debug)]
pub struct ReferenceBackend {
    model: Arc<Model>,
    pool: Pool,
    shape: AttentionShape,
    angles: RopeAngles,
    pairs: RopePairs,
    layers: Vec<Layer>,
    output_norm: Vec<f32>,
}

impl From<ShapeError> for BackendError {
    fn from(error: ShapeError) -> Self {
        Self::Plan { what: error.to_string() }
    }
}

impl ReferenceBackend {
    /// Makes the backend; memory for keys and values is taken from the system when it is used.
    ///
    /// # Errors
    /// A model whose tensors have other sizes than its metadata says.
    pub fn new(model: Arc<Model>, options: &EngineOptions) -> Result<Self, BackendError> {
        let config = model.config();
        let shape = AttentionShape {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            page_tokens: options.page_tokens,
        };
        let numbers = shape.page_len().checked_mul(options.pages_max).ok_or_else(|| {
            BackendError::Plan { what: format!("{} pages are too many", options.pages_max) }
        })?;
        let layer = |layer: usize| -> Result<Layer, ShapeError> {
            Ok(Layer {
                attention_norm: vector(&model, Weight::Norm(layer, NormSite::Attention))?,
                feed_forward_norm: vector(&model, Weight::Norm(layer, NormSite::FeedForward))?,
                biases: [
                    vector(&model, Weight::Bias(layer, Site::Query))?,
                    vector(&model, Weight::Bias(layer, Site::Key))?,
                    vector(&model, Weight::Bias(layer, Site::Value))?,
                ],
                keys: vec![0.0; numbers],
                values: vec![0.0; numbers],
            })
        };
        let layers = (0..config.layers).map(layer).collect::<Result<_, _>>()?;
        let factors = config.rope_factors.as_deref();
        let angles = RopeAngles::new(config.rope_dim, config.rope_base, config.rope_scale, factors);
        let pairs = match config.rope_layout {
            RopeLayout::Interleaved => RopePairs::Interleaved,
            RopeLayout::Halves => RopePairs::Halves,
        };
        let output_norm = vector(&model, Weight::OutputNorm)?;
        let pool = Pool::new(options.threads);
        Ok(Self { pool, shape, angles, pairs, layers, output_norm, model })
    }

    /// A matrix applied to all rows, `[rows, matrix.rows()]`.
    fn product(&self, weights: &Matrix<'_>, x: &[f32]) -> Result<Vec<f32>, BackendError> {
        let mut out = vec![0.0; x.len().checked_div(weights.cols()).unwrap_or(0) * weights.rows()];
        matmul(weights, x, &mut out, &self.pool)?;
        Ok(out)
    }

    /// The embeddings of the plan's tokens, `[rows, hidden]`.
    fn embed(&self, plan: &StepPlan) -> Result<Vec<f32>, BackendError> {
        let hidden = self.model.config().hidden;
        let table = matrix(&self.model, Weight::Embedding)?;
        let mut x = vec![0.0; plan.rows.len() * hidden];
        for (row, x) in plan.rows.iter().zip(x.chunks_mut(hidden)) {
            let bytes = table.row(row.token as usize).ok_or_else(|| BackendError::Plan {
                what: format!("token {} is not among the model's {}", row.token, table.rows()),
            })?;
            dequantize(table.format(), bytes, x)?;
        }
        Ok(x)
    }

    /// Each row's norm, `[rows, hidden]`.
    fn norm(&self, x: &[f32], weight: &[f32]) -> Result<Vec<f32>, BackendError> {
        let mut out = vec![0.0; x.len()];
        rms_norm(x, weight, self.model.config().rms_epsilon, &mut out)?;
        Ok(out)
    }

    /// A matrix of a layer applied to all rows, with each row's own adapters.
    fn project(
        &self,
        layer: usize,
        site: Site,
        x: &[f32],
        plan: &StepPlan,
    ) -> Result<Vec<f32>, BackendError> {
        let weights = matrix(&self.model, Weight::Site(layer, site))?;
        let (rows, cols) = (weights.rows(), weights.cols());
        let mut out = self.product(&weights, x)?;
        let bias = self.layers.get(layer).and_then(|layer| layer.biases.get(site as usize));
        if let Some(bias) = bias.filter(|bias| !bias.is_empty()) {
            for row in out.chunks_mut(rows) {
                add(row, bias);
            }
        }
        if plan.sequences.iter().all(|sequence| sequence.adapters.parts().is_empty()) {
            return Ok(out);
        }
        let misfit = AtomicBool::new(false);
        self.pool.for_rows(&mut out, rows, &|index, out| {
            let (Some(row), Some(x)) = (plan.rows.get(index), x.chunks(cols).nth(index)) else {
                return;
            };
            let Some(sequence) = plan.sequences.get(row.sequence) else { return };
            for (adapter, weight) in sequence.adapters.parts() {
                if let Some(delta) = adapter.site(layer, site) {
                    let scale = adapter.scale() * weight;
                    if lora_add(x, &delta.a, &delta.b, scale, out).is_err() {
                        misfit.store(true, Ordering::Relaxed);
                    }
                }
            }
        });
        if misfit.load(Ordering::Relaxed) {
            let what = format!("an adapter does not fit {site:?} of layer {layer}");
            return Err(BackendError::Plan { what });
        }
        Ok(out)
    }

    /// `x += attention(norm(x))`, with the rows' keys and values put into their pages first.
    fn attend(
        &mut self,
        layer: usize,
        plan: &StepPlan,
        angles: &[(f32, f32)],
        x: &mut [f32],
    ) -> Result<(), BackendError> {
        let Some(own) = self.layers.get(layer) else { return Ok(()) };
        let h = self.norm(x, &own.attention_norm)?;
        let mut q = self.project(layer, Site::Query, &h, plan)?;
        let mut k = self.project(layer, Site::Key, &h, plan)?;
        let v = self.project(layer, Site::Value, &h, plan)?;
        let config = self.model.config();
        let (query_width, kv_width) = (config.query_width(), config.kv_width());
        let pairs = angles.chunks(self.angles.dimensions().max(2) / 2);
        for ((q, k), angles) in q.chunks_mut(query_width).zip(k.chunks_mut(kv_width)).zip(pairs) {
            rope(q, self.shape.head_dim, self.pairs, angles)?;
            rope(k, self.shape.head_dim, self.pairs, angles)?;
        }
        let pages = pages_of_rows(plan)?;
        let Some(own) = self.layers.get_mut(layer) else { return Ok(()) };
        for (row, (k, v)) in pages.iter().zip(k.chunks(kv_width).zip(v.chunks(kv_width))) {
            let position = row.positions - 1;
            kv_write(&self.shape, row.pages, position, k, &mut own.keys)?;
            kv_write(&self.shape, row.pages, position, v, &mut own.values)?;
        }
        let kv = KvLayer { keys: &own.keys, values: &own.values };
        let mut out = vec![0.0; q.len()];
        attention(&self.shape, &q, &pages, kv, &mut out, &self.pool)?;
        add(x, &self.project(layer, Site::Output, &out, plan)?);
        Ok(())
    }

    /// `x += down(silu(gate(norm(x))) * up(norm(x)))`.
    fn feed_forward(
        &self,
        layer: usize,
        plan: &StepPlan,
        x: &mut [f32],
    ) -> Result<(), BackendError> {
        let Some(own) = self.layers.get(layer) else { return Ok(()) };
        let h = self.norm(x, &own.feed_forward_norm)?;
        let mut gate = self.project(layer, Site::Gate, &h, plan)?;
        let up = self.project(layer, Site::Up, &h, plan)?;
        silu_mul(&mut gate, &up);
        add(x, &self.project(layer, Site::Down, &gate, plan)?);
        Ok(())
    }

    /// What the rows want, from their last hidden states.
    fn outputs(&self, plan: &StepPlan, x: &[f32]) -> Result<Vec<RowOutput>, BackendError> {
        let hidden = self.model.config().hidden;
        let wanted = |wants: Wants| {
            let rows = plan.rows.iter().zip(x.chunks(hidden));
            rows.filter(move |(row, _)| row.wants == wants).flat_map(|(_, x)| x).copied()
        };
        let states: Vec<f32> = wanted(Wants::Hidden).collect();
        let states = self.norm(&states, &self.output_norm)?;
        let heads: Vec<f32> = wanted(Wants::Logits).collect();
        let heads = self.norm(&heads, &self.output_norm)?;
        let table = matrix(&self.model, Weight::Head)?;
        let logits = self.product(&table, &heads)?;
        let mut states = states.chunks(hidden.max(1));
        let mut logits = logits.chunks(table.rows().max(1));
        let output = |wants: Wants| match wants {
            Wants::Nothing => RowOutput::Nothing,
            Wants::Logits => RowOutput::Logits(logits.next().unwrap_or_default().to_vec()),
            Wants::Hidden => RowOutput::Hidden(states.next().unwrap_or_default().to_vec()),
        };
        Ok(plan.rows.iter().map(|row| row.wants).map(output).collect())
    }
}

/// What each row attends to.
fn pages_of_rows(plan: &StepPlan) -> Result<Vec<AttentionRow<'_>>, BackendError> {
    let pages = |row: &crate::plan::Row| {
        let sequence = plan.sequences.get(row.sequence).ok_or_else(|| BackendError::Plan {
            what: format!("a row names sequence {} of {}", row.sequence, plan.sequences.len()),
        })?;
        Ok(AttentionRow { pages: &sequence.pages, positions: row.position + 1 })
    };
    plan.rows.iter().map(pages).collect()
}

impl Backend for ReferenceBackend {
    fn name(&self) -> &'static str {
        "cpu-reference"
    }

    fn run(&mut self, plan: &StepPlan) -> Result<Vec<RowOutput>, BackendError> {
        let mut x = self.embed(plan)?;
        let mut angles = Vec::new();
        for row in &plan.rows {
            self.angles.at(row.position, &mut angles);
        }
        for layer in 0..self.layers.len() {
            self.attend(layer, plan, &angles, &mut x)?;
            self.feed_forward(layer, plan, &mut x)?;
        }
        self.outputs(plan, &x)
    }
}
