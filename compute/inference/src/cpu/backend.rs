//! Loading a model for the CPU, and running plans over it.

use std::sync::Arc;

use openledger_kernels::Pool;
use openledger_kernels::fused::{RopeTable, rms_norm};
use openledger_kernels::packed::{Digits, Packed, products, tier};
use openledger_kernels::reference::{AttentionShape, dequantize, scale};
use openledger_models::{Model, Weight};

use super::groups::Groups;
use super::layer::Layer;
use super::scratch::{Scratch, room};
use super::step::Step;
use crate::backend::{Backend, BackendError, RowOutput};
use crate::class::BackendKind;
use crate::limits::HEAD_ROWS_MAX;
use crate::options::EngineOptions;
use crate::plan::{Row, StepPlan, Wants};
use crate::weights::{angles, matrix, pairs, vector};

/// Hears how much of a model is loaded: bytes, and bytes in all.
pub type Progress<'a> = dyn FnMut(usize, usize) + 'a;

/// Runs steps on the CPU, with activations in 12 and 8 bits.
#[derive(Debug)]
pub struct CpuBackend {
    model: Arc<Model>,
    pool: Pool,
    shape: AttentionShape,
    turns: RopeTable,
    /// In layers with a window, where they turn otherwise.
    local_turns: Option<RopeTable>,
    layers: Vec<Layer>,
    output_norm: Vec<f32>,
    head: Packed,
    /// Of the inputs of layers; that of the head keeps all.
    digits: Digits,
    scratch: Scratch,
}

impl CpuBackend {
    /// Packs a model's weights, and tells `progress` after each part. The file's pages are let go
    /// of as they are packed: what stays is one copy of the weights, and what the tokens of
    /// prompts touch of the embeddings. Memory for keys and values is taken when it is used.
    ///
    /// # Errors
    /// A model whose tensors have other sizes than its metadata says, or rows that are no whole
    /// blocks of 32.
    pub fn new(
        model: Arc<Model>,
        options: &EngineOptions,
        progress: &mut Progress<'_>,
    ) -> Result<Self, BackendError> {
        let config = model.config();
        let shape = AttentionShape {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            page_tokens: options.page_tokens,
        };
        let pool = Pool::new(options.threads);
        let parts = config.layers + 1;
        let total = model.file_bytes();
        let mut loaded = |part: usize| progress(total / parts.max(1) * part, total);
        loaded(0);
        let mut layers = Vec::with_capacity(config.layers);
        for number in 0..config.layers {
            let (pages, kv) = (options.pages_max, options.kv);
            layers.push(Layer::new(&model, number, &pool, shape, pages, kv)?);
            model.release_pages();
            loaded(number + 1);
        }
        let head = Packed::new(&matrix(&model, Weight::Head)?, &pool)?;
        let output_norm = vector(&model, Weight::OutputNorm)?;
        model.release_pages();
        progress(total, total);
        let turns = |rope| RopeTable::new(angles(config, rope), pairs(config));
        let (local_turns, turns) = (config.local_rope.as_ref().map(turns), turns(&config.rope));
        let digits = match options.backend {
            BackendKind::Int12Whole => Digits::All,
            _ => Digits::Outliers,
        };
        Ok(Self {
            pool,
            shape,
            turns,
            local_turns,
            layers,
            output_norm,
            head,
            digits,
            scratch: Scratch::default(),
            model,
        })
    }

    /// The embeddings of the plan's tokens, `[rows, hidden]`.
    fn embed(&self, plan: &StepPlan, x: &mut [f32]) -> Result<(), BackendError> {
        let table = matrix(&self.model, Weight::Embedding)?;
        for (row, x) in plan.rows.iter().zip(x.chunks_mut(table.cols().max(1))) {
            let bytes = table.row(row.token as usize).ok_or_else(|| BackendError::Plan {
                what: format!("token {} is not among the model's {}", row.token, table.rows()),
            })?;
            dequantize(table.format(), bytes, x)?;
        }
        if self.model.config().embedding_scale != 1.0 {
            scale(x, self.model.config().embedding_scale);
        }
        Ok(())
    }

    fn run_with(
        &mut self,
        plan: &StepPlan,
        scratch: &mut Scratch,
    ) -> Result<Vec<RowOutput>, BackendError> {
        let hidden = self.model.config().hidden;
        self.embed(plan, room(&mut scratch.x, plan.rows.len() * hidden))?;
        self.run_layers(plan, scratch)?;
        self.outputs(plan, scratch)
    }

    /// All layers, over the hidden states.
    fn run_layers(&mut self, plan: &StepPlan, scratch: &mut Scratch) -> Result<(), BackendError> {
        let mut rows = core::mem::take(&mut scratch.rows);
        let positions = || plan.rows.iter().map(|row| row.position);
        self.turns.fill(positions());
        if let Some(local) = &mut self.local_turns {
            local.fill(positions());
        }
        let groups = Groups::new(plan, &mut rows);
        let mut step = Step {
            config: self.model.config(),
            pool: &self.pool,
            shape: &self.shape,
            turns: &self.turns,
            local_turns: self.local_turns.as_ref(),
            seen: plan.seen()?,
            groups: &groups,
            digits: self.digits,
            found: Vec::with_capacity(groups.len()),
        };
        for (number, layer) in self.layers.iter_mut().enumerate() {
            step.attend(number, layer, scratch)?;
            step.feed_forward(number, layer, scratch)?;
        }
        scratch.rows = rows;
        Ok(())
    }

    /// What the rows want, from their last hidden states.
    fn outputs(
        &self,
        plan: &StepPlan,
        scratch: &mut Scratch,
    ) -> Result<Vec<RowOutput>, BackendError> {
        let config = self.model.config();
        let hidden = config.hidden.max(1);
        scratch.last.clear();
        for wants in [Wants::Logits, Wants::Hidden] {
            let rows = plan.rows.iter().zip(scratch.x.chunks(hidden));
            let wanted = rows.filter(|(row, _)| row.wants == wants);
            scratch.last.extend(wanted.flat_map(|(_, x)| x));
        }
        let normed = room(&mut scratch.h, scratch.last.len());
        rms_norm(&self.pool, &scratch.last, &self.output_norm, config.rms_epsilon, normed)?;
        let drawing = plan.rows.iter().filter(|row| row.wants == Wants::Logits).count();
        let (heads, states) = normed.split_at(drawing * hidden);
        let mut logits = Vec::with_capacity(drawing);
        for heads in heads.chunks(HEAD_ROWS_MAX * hidden) {
            let width = self.head.rows().max(1);
            let out = room(&mut scratch.logits, heads.len() / hidden * width);
            scratch.inputs.quantize(&self.pool, heads, hidden, Digits::All)?;
            products(&self.pool, &mut [(&self.head, &mut *out)], &scratch.inputs)?;
            logits.extend(out.chunks(width).map(<[f32]>::to_vec));
        }
        let mut logits = logits.into_iter().zip(heads.chunks(hidden));
        let mut states = states.chunks(hidden);
        let output = |row: &Row| match row.wants {
            Wants::Nothing => RowOutput::Nothing,
            Wants::Logits => {
                let (logits, hidden) = logits.next().unwrap_or_default();
                RowOutput::Logits { logits, hidden: hidden.to_vec() }
            }
            Wants::Hidden => RowOutput::Hidden(states.next().unwrap_or_default().to_vec()),
        };
        Ok(plan.rows.iter().map(output).collect())
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu-int12"
    }

    fn device(&self) -> String {
        let threads = self.pool.threads();
        format!("{}, {threads} thread{}", tier(), if threads == 1 { "" } else { "s" })
    }

    fn run(&mut self, plan: &StepPlan) -> Result<Vec<RowOutput>, BackendError> {
        let mut scratch = core::mem::take(&mut self.scratch);
        let outcome = self.run_with(plan, &mut scratch);
        self.scratch = scratch;
        outcome
    }
}
