//! Running plans on a model's graph.

use std::sync::Arc;

use openledger_kernels::fused::RopeTable;
use openledger_kernels::reference::{AttentionShape, dequantize, scale};
use openledger_models::{Model, Weight};
use ort::session::Session;

use super::decoder::{self, DRAWING, LAST, LOGITS, STATES, WANTED};
use super::error::OnnxError;
use super::graph::Binding;
use super::operators::Pages;
use super::provider::OnnxOptions;
use super::step::Shared;
use crate::backend::{Backend, BackendError, RowOutput};
use crate::cpu::Progress;
use crate::options::EngineOptions;
use crate::plan::{Row, StepPlan, Wants};
use crate::weights::{angles, matrix, pairs};

/// Runs steps with ONNX Runtime, on a graph that is built from a model in memory.
pub struct OnnxBackend {
    model: Arc<Model>,
    session: Session,
    shared: Arc<Shared>,
    threads: usize,
    turns: RopeTable,
    local_turns: Option<RopeTable>,
    device: String,
}

impl core::fmt::Debug for OnnxBackend {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("OnnxBackend").field("device", &self.device).finish_non_exhaustive()
    }
}

impl OnnxBackend {
    /// Builds a model's graph and has the library prepare it, and tells `progress` after each
    /// part. The file's pages are let go of as they are read; what stays is the library's copy of
    /// the weights (floats in 32 bits), and what the tokens of prompts touch of the embeddings.
    ///
    /// # Errors
    /// A library or a provider that is not there; a model whose tensors have other sizes than its
    /// metadata says.
    pub fn new(
        model: Arc<Model>,
        options: &EngineOptions,
        onnx: &OnnxOptions,
        progress: &mut Progress<'_>,
    ) -> Result<Self, OnnxError> {
        let config = model.config();
        let shape = AttentionShape {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            page_tokens: options.page_tokens,
        };
        let builder = onnx.builder(options.threads)?;
        let shared = Arc::new(Shared::new(config.clone(), shape));
        let pages = Pages { count: options.pages_max, format: options.kv };
        let session = decoder::session(&model, &shared, pages, builder, progress)?;
        let turns = |rope| RopeTable::new(angles(config, rope), pairs(config));
        let (local_turns, turns) = (config.local_rope.as_ref().map(turns), turns(&config.rope));
        let (threads, device) = (options.threads, onnx.describe(options.threads)?);
        Ok(Self { session, shared, threads, turns, local_turns, device, model })
    }

    /// The embeddings of the plan's tokens, `[rows, hidden]`.
    fn embed(&self, plan: &StepPlan) -> Result<Vec<f32>, BackendError> {
        let config = self.model.config();
        let table = matrix(&self.model, Weight::Embedding)?;
        let mut states = vec![0.0; plan.rows.len() * config.hidden];
        for (row, x) in plan.rows.iter().zip(states.chunks_mut(config.hidden.max(1))) {
            let bytes = table.row(row.token as usize).ok_or_else(|| BackendError::Plan {
                what: format!("token {} is not among the model's {}", row.token, table.rows()),
            })?;
            dequantize(table.format(), bytes, x)?;
        }
        if config.embedding_scale != 1.0 {
            scale(&mut states, config.embedding_scale);
        }
        Ok(states)
    }

    /// Runs the graph over the hidden states; outputs for the rows that want them.
    fn run_graph(
        &mut self,
        plan: &StepPlan,
        states: Vec<f32>,
    ) -> Result<Vec<RowOutput>, BackendError> {
        let (hidden, vocab) = (self.model.config().hidden, self.model.config().vocab);
        let wanting = |wants: Wants| {
            let rows = plan.rows.iter().zip(0i64..);
            rows.filter(move |(row, _)| row.wants == wants).map(|(_, index)| index)
        };
        let drawing: Vec<i64> = wanting(Wants::Logits).collect();
        let wanted: Vec<i64> = drawing.iter().copied().chain(wanting(Wants::Hidden)).collect();
        let mut binding = Binding::new(&self.session, &[LOGITS, LAST]).map_err(device)?;
        let (drawn, kept) = (drawing.len(), wanted.len());
        binding.numbers(STATES, vec![plan.rows.len(), hidden], states).map_err(device)?;
        binding.numbers(DRAWING, vec![drawn], drawing).map_err(device)?;
        binding.numbers(WANTED, vec![kept], wanted).map_err(device)?;
        let outputs = self.session.run_binding(binding.inner()).map_err(device)?;
        let numbers = |name: &str, expected: usize| {
            let value = outputs.get(name).map(|value| value.try_extract_tensor::<f32>());
            let (_, numbers) = value.ok_or_else(|| missing(name))?.map_err(device)?;
            if numbers.len() == expected { Ok(numbers) } else { Err(missing(name)) }
        };
        let logits = numbers(LOGITS, drawn * vocab)?;
        let last = numbers(LAST, kept * hidden)?;
        Ok(outputs_of(&plan.rows, logits, last, drawn, hidden, vocab))
    }
}

/// Rows' outputs, from those of the graph.
fn outputs_of(
    rows: &[Row],
    logits: &[f32],
    last: &[f32],
    drawing: usize,
    hidden: usize,
    vocab: usize,
) -> Vec<RowOutput> {
    let mut logits = logits.chunks(vocab.max(1));
    let mut drawn = last.chunks(hidden.max(1));
    let mut states = last.chunks(hidden.max(1)).skip(drawing);
    let own = |numbers: Option<&[f32]>| numbers.unwrap_or_default().to_vec();
    let output = |row: &Row| match row.wants {
        Wants::Nothing => RowOutput::Nothing,
        Wants::Logits => {
            RowOutput::Logits { logits: own(logits.next()), hidden: own(drawn.next()) }
        }
        Wants::Hidden => RowOutput::Hidden(own(states.next())),
    };
    rows.iter().map(output).collect()
}

fn device<R>(error: ort::Error<R>) -> BackendError {
    BackendError::Device { what: error.to_string() }
}

fn missing(name: &str) -> BackendError {
    BackendError::Device { what: format!("the graph gave no {name} of the right size") }
}

impl Backend for OnnxBackend {
    fn name(&self) -> &'static str {
        "onnx"
    }

    fn device(&self) -> String {
        self.device.clone()
    }

    fn run(&mut self, plan: &StepPlan) -> Result<Vec<RowOutput>, BackendError> {
        let states = self.embed(plan)?;
        self.shared.begin(plan, self.threads, &self.turns, self.local_turns.as_ref())?;
        let outcome = self.run_graph(plan, states);
        // What an operator of ours says is nearer to the cause than what the library makes of it.
        match self.shared.end() {
            Some(what) => Err(BackendError::Plan { what }),
            None => outcome,
        }
    }
}
