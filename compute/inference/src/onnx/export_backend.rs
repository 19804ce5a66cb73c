//! Running plans on an exported decoder, one sequence after the other.

use openledger_kernels::fused::KvCache;
use openledger_kernels::reference::AttentionShape;
use openledger_models::{ModelConfig, OnnxElement};
use ort::session::Session;

use super::error::OnnxError;
use super::export::{Given, LOGITS, OnnxExport, Signature};
use super::graph::Binding;
use super::provider::OnnxOptions;
use crate::backend::{Backend, BackendError, RowOutput};
use crate::options::EngineOptions;
use crate::plan::{PlannedSequence, Row, StepPlan, Wants};

/// Runs steps with an exported decoder.
pub struct OnnxExportBackend {
    session: Session,
    signature: Signature,
    config: ModelConfig,
    /// By layer.
    caches: Vec<KvCache>,
    device: String,
}

impl core::fmt::Debug for OnnxExportBackend {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("OnnxExportBackend").field("device", &self.device).finish_non_exhaustive()
    }
}

fn device<R>(error: ort::Error<R>) -> BackendError {
    failed(error.to_string())
}

const fn failed(what: String) -> BackendError {
    BackendError::Device { what }
}

impl OnnxExportBackend {
    /// Has the library load a decoder's graph.
    ///
    /// # Errors
    /// A library or a provider that is not there; a graph that the library refuses.
    pub fn new(
        export: &OnnxExport,
        options: &EngineOptions,
        onnx: &OnnxOptions,
    ) -> Result<Self, OnnxError> {
        let config = export.model().config().clone();
        let shape = AttentionShape {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            page_tokens: options.page_tokens,
        };
        let cache = |_| KvCache::new(shape, options.pages_max, options.kv);
        let caches: Result<Vec<_>, _> = (0..config.layers).map(cache).collect();
        let caches = caches.map_err(BackendError::from)?;
        let session = onnx.builder(options.threads)?.commit_from_file(export.file())?;
        let device = format!("{}, an export", onnx.describe(options.threads)?);
        let signature = export.signature().clone();
        Ok(Self { session, signature, config, caches, device })
    }

    /// Runs a sequence's rows; gives the outputs of each.
    fn run_sequence(
        &mut self,
        sequence: &PlannedSequence,
        rows: &[&Row],
    ) -> Result<Vec<RowOutput>, BackendError> {
        let past = rows.first().map_or(0, |row| row.position);
        let names: Vec<&str> = core::iter::once(LOGITS)
            .chain(self.signature.caches.iter().flatten().map(|[_, present]| present.as_str()))
            .collect();
        let mut binding = Binding::new(&self.session, &names).map_err(device)?;
        for (given, name, element) in &self.signature.numbers {
            give(&mut binding, *given, name, *element, rows, past).map_err(device)?;
        }
        let (heads, width) = (self.config.kv_heads, self.config.head_dim);
        for (cache, [[key, _], [value, _]]) in self.caches.iter().zip(&self.signature.caches) {
            let (keys, values) = read(cache, &sequence.pages, past, heads, width)?;
            let shape = || vec![1, heads, past, width];
            binding.numbers(key, shape(), keys).map_err(device)?;
            binding.numbers(value, shape(), values).map_err(device)?;
        }
        let outputs = self.session.run_binding(binding.inner()).map_err(device)?;
        let numbers = |name: &str| {
            let value = outputs.get(name).ok_or_else(|| failed(format!("it gave no {name}")))?;
            value.try_extract_tensor::<f32>().map(|(_, numbers)| numbers).map_err(device)
        };
        let all = past + rows.len();
        for (cache, [[_, key], [_, value]]) in self.caches.iter_mut().zip(&self.signature.caches) {
            let new = Present { keys: numbers(key)?, values: numbers(value)?, heads, width, all };
            new.write(cache, &sequence.pages, past)?;
        }
        row_outputs(rows, numbers(LOGITS)?, self.config.vocab)
    }
}

/// What rows want of the logits that a graph gave: of all of them, or of the last alone.
fn row_outputs(
    rows: &[&Row],
    logits: &[f32],
    vocab: usize,
) -> Result<Vec<RowOutput>, BackendError> {
    let given = logits.len().checked_div(vocab).unwrap_or(0);
    let missing = rows.len().saturating_sub(given);
    let output = |(index, row): (usize, &&Row)| match row.wants {
        Wants::Nothing => Ok(RowOutput::Nothing),
        Wants::Logits => {
            let own = index.checked_sub(missing).and_then(|at| logits.chunks(vocab.max(1)).nth(at));
            let own = own.filter(|own| own.len() == vocab);
            let own = own.ok_or_else(|| {
                failed(format!("it gave logits of {given} tokens of {}", rows.len()))
            })?;
            Ok(RowOutput::Logits { logits: own.to_vec(), hidden: Vec::new() })
        }
        Wants::Hidden => Err(failed(
            "an exported decoder keeps its hidden states to itself; embed with another model"
                .to_owned(),
        )),
    };
    rows.iter().enumerate().map(output).collect()
}

/// Gives a graph its whole numbers.
fn give(
    binding: &mut Binding,
    given: Given,
    name: &str,
    element: OnnxElement,
    rows: &[&Row],
    past: usize,
) -> ort::Result<()> {
    let numbers: Vec<i64> = match given {
        Given::Tokens => rows.iter().map(|row| i64::from(row.token)).collect(),
        Given::Mask => vec![1; past + rows.len()],
        Given::Positions => rows.iter().map(|row| row.position as i64).collect(),
        Given::HasPast => return binding.numbers(name, vec![1], vec![past > 0]),
    };
    let shape = vec![1, numbers.len()];
    if element == OnnxElement::I32 {
        let numbers = numbers.into_iter().map(|number| number as i32).collect();
        return binding.numbers::<i32>(name, shape, numbers);
    }
    binding.numbers::<i64>(name, shape, numbers)
}

/// The first positions of a sequence's keys and values, `[heads, positions, width]`.
fn read(
    cache: &KvCache,
    pages: &[u32],
    positions: usize,
    heads: usize,
    width: usize,
) -> Result<(Vec<f32>, Vec<f32>), BackendError> {
    let (mut keys, mut values) = (vec![0.0; heads * positions * width], Vec::new());
    values.clone_from(&keys);
    let (mut k, mut v) = (vec![0.0; heads * width], vec![0.0; heads * width]);
    for position in 0..positions {
        cache.read(pages, position, &mut k, &mut v)?;
        for (from, to) in [(&k, &mut keys), (&v, &mut values)] {
            let heads = from.chunks(width).zip(to.chunks_mut(positions * width));
            for (from, to) in heads {
                let own = to.iter_mut().skip(position * width);
                own.zip(from).for_each(|(to, from)| *to = *from);
            }
        }
    }
    Ok((keys, values))
}

/// A layer's keys and values as a graph gave them, `[heads, all, width]`.
struct Present<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    heads: usize,
    width: usize,
    all: usize,
}

impl Present<'_> {
    /// Puts those from `past` on into their pages.
    fn write(&self, cache: &mut KvCache, pages: &[u32], past: usize) -> Result<(), BackendError> {
        let Self { keys, values, heads, width, all } = *self;
        let expected = heads * all * width;
        if keys.len() != expected || values.len() != expected {
            let found = keys.len();
            return Err(failed(format!("it gave {found} numbers of keys, {expected} are due")));
        }
        for position in past..all {
            let of = |from: &[f32]| -> Vec<f32> {
                let heads = from.chunks(all * width);
                heads
                    .flat_map(|head| head.iter().skip(position * width).take(width))
                    .copied()
                    .collect()
            };
            cache.write(pages, position, &of(keys), &of(values))?;
        }
        Ok(())
    }
}

impl Backend for OnnxExportBackend {
    fn name(&self) -> &'static str {
        "onnx-export"
    }

    fn device(&self) -> String {
        self.device.clone()
    }

    fn takes_adapters(&self) -> bool {
        false
    }

    fn run(&mut self, plan: &StepPlan) -> Result<Vec<RowOutput>, BackendError> {
        plan.seen()?;
        let vocab = self.config.vocab;
        if let Some(row) = plan.rows.iter().find(|row| row.token as usize >= vocab) {
            let what = format!("token {} is not among the model's {vocab}", row.token);
            return Err(BackendError::Plan { what });
        }
        let mut outputs = vec![RowOutput::Nothing; plan.rows.len()];
        for (index, sequence) in plan.sequences.iter().enumerate() {
            if let Some((adapter, _)) = sequence.adapters.parts().first() {
                let id = adapter.id();
                return Err(failed(format!("an exported decoder has no place for adapter {id}")));
            }
            let own = || plan.rows.iter().enumerate().filter(|(_, row)| row.sequence == index);
            let rows: Vec<&Row> = own().map(|(_, row)| row).collect();
            if rows.is_empty() {
                continue;
            }
            let first = rows.first().map_or(0, |row| row.position);
            if rows.iter().zip(first..).any(|(row, position)| row.position != position) {
                let what = "the rows of a sequence have gaps".to_owned();
                return Err(BackendError::Plan { what });
            }
            let found = self.run_sequence(sequence, &rows)?;
            for ((at, _), output) in own().zip(found) {
                if let Some(place) = outputs.get_mut(at) {
                    *place = output;
                }
            }
        }
        Ok(outputs)
    }
}
