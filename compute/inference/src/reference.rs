//! The reference backend: the model's definition, step by step, on the CPU.
//!
//! Weights stay in the mapped file and are dequantised as they are used; keys and values are kept
//! in 32 bits. No shortcut is taken that would make a row's result depend on another's: every other
//! backend is measured against this one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openledger_kernels::reference::{
    AttentionShape, KvLayer, Reach, RopeAngles, RopePairs, add, attention_within, dequantize,
    gelu_mul, kv_write, lora_add, matmul, rms_norm, rope, scale, silu_mul,
};
use openledger_kernels::{Matrix, Pool, ShapeError};
use openledger_models::{Activation, Model, NormSite, Site, Weight};

use crate::backend::{Backend, BackendError, RowOutput};
use crate::options::EngineOptions;
use crate::plan::{StepPlan, Wants};
use crate::weights::{angles, matrix, pairs, vector};

/// The numbers of a layer that are held as `f32`.
#[derive(Debug)]
struct Layer {
    /// By `NormSite as usize`; empty where the model has none.
    norms: [Vec<f32>; 6],
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
    /// Those of layers with a window, where they are others.
    local_angles: Option<RopeAngles>,
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
            let norm = |site| vector(&model, Weight::Norm(layer, site));
            let [attention, query, key, output, feed_forward, last] = NormSite::ALL;
            Ok(Layer {
                norms: [
                    norm(attention)?,
                    norm(query)?,
                    norm(key)?,
                    norm(output)?,
                    norm(feed_forward)?,
                    norm(last)?,
                ],
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
        let local_angles = config.local_rope.as_ref().map(|rope| angles(config, rope));
        let (angles, pairs) = (angles(config, &config.rope), pairs(config));
        let output_norm = vector(&model, Weight::OutputNorm)?;
        let pool = Pool::new(options.threads);
        Ok(Self { pool, shape, angles, local_angles, pairs, layers, output_norm, model })
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
        if self.model.config().embedding_scale != 1.0 {
            scale(&mut x, self.model.config().embedding_scale);
        }
        Ok(x)
    }

    /// The norm of each row of `x`, as wide as `weight`; `x` itself where the model has no norm.
    fn norm(&self, x: &[f32], weight: &[f32]) -> Result<Vec<f32>, BackendError> {
        if weight.is_empty() {
            return Ok(x.to_vec());
        }
        let mut out = vec![0.0; x.len()];
        rms_norm(x, weight, self.model.config().rms_epsilon, &mut out)?;
        Ok(out)
    }

    /// The same with a normalisation of a layer.
    fn layer_norm(
        &self,
        layer: usize,
        site: NormSite,
        x: &[f32],
    ) -> Result<Vec<f32>, BackendError> {
        let weight = self.layers.get(layer).and_then(|layer| layer.norms.get(site as usize));
        self.norm(x, weight.map_or(&[], Vec::as_slice))
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
                if let Some(update) = adapter.low_rank(layer, site) {
                    let scale = adapter.scale() * weight;
                    if lora_add(x, update.a(), update.b(), scale, out).is_err() {
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
        let h = self.layer_norm(layer, NormSite::Attention, x)?;
        let q = self.project(layer, Site::Query, &h, plan)?;
        let k = self.project(layer, Site::Key, &h, plan)?;
        let v = self.project(layer, Site::Value, &h, plan)?;
        let mut q = self.layer_norm(layer, NormSite::Query, &q)?;
        let mut k = self.layer_norm(layer, NormSite::Key, &k)?;
        let config = self.model.config();
        let (query_width, kv_width) = (config.query_width(), config.kv_width());
        let reach = Reach { window: config.window_of(layer), scale: config.attention_scale };
        let pairs = angles.chunks(self.angles.dimensions().max(2) / 2);
        for ((q, k), angles) in q.chunks_mut(query_width).zip(k.chunks_mut(kv_width)).zip(pairs) {
            rope(q, self.shape.head_dim, self.pairs, angles)?;
            rope(k, self.shape.head_dim, self.pairs, angles)?;
        }
        let pages = plan.seen()?;
        let Some(own) = self.layers.get_mut(layer) else { return Ok(()) };
        for (row, (k, v)) in pages.iter().zip(k.chunks(kv_width).zip(v.chunks(kv_width))) {
            let position = row.positions - 1;
            kv_write(&self.shape, row.pages, position, k, &mut own.keys)?;
            kv_write(&self.shape, row.pages, position, v, &mut own.values)?;
        }
        let kv = KvLayer { keys: &own.keys, values: &own.values };
        let mut out = vec![0.0; q.len()];
        attention_within(&self.shape, &reach, &q, &pages, kv, &mut out, &self.pool)?;
        let out = self.project(layer, Site::Output, &out, plan)?;
        add(x, &self.layer_norm(layer, NormSite::AttentionOutput, &out)?);
        Ok(())
    }

    /// `x += down(activation(gate(norm(x))) * up(norm(x)))`.
    fn feed_forward(
        &self,
        layer: usize,
        plan: &StepPlan,
        x: &mut [f32],
    ) -> Result<(), BackendError> {
        let h = self.layer_norm(layer, NormSite::FeedForward, x)?;
        let mut gate = self.project(layer, Site::Gate, &h, plan)?;
        let up = self.project(layer, Site::Up, &h, plan)?;
        match self.model.config().activation {
            Activation::Silu => silu_mul(&mut gate, &up),
            Activation::GeluTanh => gelu_mul(&mut gate, &up),
        }
        let out = self.project(layer, Site::Down, &gate, plan)?;
        add(x, &self.layer_norm(layer, NormSite::FeedForwardOutput, &out)?);
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
        let mut drawing = heads.chunks(hidden.max(1));
        let mut logits = logits.chunks(table.rows().max(1));
        let output = |wants: Wants| match wants {
            Wants::Nothing => RowOutput::Nothing,
            Wants::Logits => RowOutput::Logits {
                logits: logits.next().unwrap_or_default().to_vec(),
                hidden: drawing.next().unwrap_or_default().to_vec(),
            },
            Wants::Hidden => RowOutput::Hidden(states.next().unwrap_or_default().to_vec()),
        };
        Ok(plan.rows.iter().map(|row| row.wants).map(output).collect())
    }
}

impl Backend for ReferenceBackend {
    fn name(&self) -> &'static str {
        "cpu-reference"
    }

    fn run(&mut self, plan: &StepPlan) -> Result<Vec<RowOutput>, BackendError> {
        let mut x = self.embed(plan)?;
        let (mut wide, mut local) = (Vec::new(), Vec::new());
        for row in &plan.rows {
            self.angles.at(row.position, &mut wide);
            if let Some(angles) = &self.local_angles {
                angles.at(row.position, &mut local);
            }
        }
        for layer in 0..self.layers.len() {
            let is_local = !local.is_empty() && self.model.config().window_of(layer).is_some();
            let angles = if is_local { &local } else { &wide };
            self.attend(layer, plan, angles, &mut x)?;
            self.feed_forward(layer, plan, &mut x)?;
        }
        self.outputs(plan, &x)
    }
}
