//! A model's definition in 64-bit floating point, over the file's weights: what every engine's
//! rounding is measured against.
//!
//! As plain as can be, so that it can be read beside the papers: all tokens of one text at once,
//! no cache, no packing, no order of sums that matters. It shares nothing with the engine but the
//! reader of the file and what the bytes of a format mean.

use std::thread;

use anyhow::{Context as _, Result, ensure};
use openledger_kernels::reference::dequantize;
use openledger_kernels::{Format, Matrix};
use openledger_models::{
    Activation, Adapter, Model, ModelConfig, NormSite, Rope, RopeLayout, Site, Weight,
};

/// Rows of numbers, all of one width.
#[derive(Clone, Debug)]
struct Rows {
    width: usize,
    numbers: Vec<f64>,
}

impl Rows {
    fn zeros(count: usize, width: usize) -> Self {
        Self { width, numbers: vec![0.0; count * width] }
    }

    fn iter(&self) -> impl Iterator<Item = &[f64]> {
        self.numbers.chunks(self.width.max(1))
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut [f64]> {
        self.numbers.chunks_mut(self.width.max(1))
    }

    fn row(&self, index: usize) -> &[f64] {
        self.numbers.get(index * self.width..(index + 1) * self.width).unwrap_or_default()
    }

    fn add(&mut self, other: &Self) {
        for (number, other) in self.numbers.iter_mut().zip(&other.numbers) {
            *number += other;
        }
    }
}

/// Runs texts through a model, perhaps with an adapter.
#[derive(Debug)]
pub struct Exact<'a> {
    model: &'a Model,
    adapter: Option<&'a Adapter>,
    threads: usize,
}

impl<'a> Exact<'a> {
    /// Of a model and an adapter at its own scale.
    #[must_use]
    pub const fn new(model: &'a Model, adapter: Option<&'a Adapter>, threads: usize) -> Self {
        Self { model, adapter, threads }
    }

    /// The logits at every position, `[tokens, vocab]`, rounded once at the end.
    ///
    /// # Errors
    /// A token that the model does not have, or a weight that cannot be read.
    pub fn logits(&self, tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
        self.logits_from(tokens, 0)
    }

    /// The same from a position on, `[tokens - first, vocab]`.
    ///
    /// # Errors
    /// As [`Exact::logits`].
    pub fn logits_from(&self, tokens: &[u32], first: usize) -> Result<Vec<Vec<f32>>> {
        let config = self.model.config();
        let mut x = self.embed(tokens)?;
        for layer in 0..config.layers {
            let h = self.attention(layer, &self.norm(layer, NormSite::Attention, &x)?)?;
            x.add(&self.post_norm(layer, NormSite::AttentionOutput, h)?);
            let h = self.feed_forward(layer, &self.norm(layer, NormSite::FeedForward, &x)?)?;
            x.add(&self.post_norm(layer, NormSite::FeedForwardOutput, h)?);
        }
        let numbers = x.numbers.get(first * x.width..).unwrap_or_default().to_vec();
        let x = self.normed(Weight::OutputNorm, &Rows { numbers, ..x })?;
        let logits = self.product(Weight::Head, &x)?;
        Ok(logits.iter().map(|row| row.iter().map(|value| *value as f32).collect()).collect())
    }

    fn embed(&self, tokens: &[u32]) -> Result<Rows> {
        let config = self.model.config();
        let table = matrix(self.model, Weight::Embedding)?;
        let mut x = Rows::zeros(tokens.len(), config.hidden);
        for (token, x) in tokens.iter().zip(x.iter_mut()) {
            let values = numbers(&table, *token as usize)?;
            // The factor is a number of 32 bits in every implementation.
            let scale = f64::from(config.embedding_scale);
            x.iter_mut().zip(values).for_each(|(x, value)| *x = value * scale);
        }
        Ok(x)
    }

    fn norm(&self, layer: usize, site: NormSite, x: &Rows) -> Result<Rows> {
        self.normed(Weight::Norm(layer, site), x)
    }

    fn post_norm(&self, layer: usize, site: NormSite, x: Rows) -> Result<Rows> {
        if site.is_in(self.model.config()) { self.norm(layer, site, &x) } else { Ok(x) }
    }

    /// Each piece of a row as long as the weight divided by its root mean square.
    fn normed(&self, weight: Weight, x: &Rows) -> Result<Rows> {
        let weight = numbers(&matrix(self.model, weight)?, 0)?;
        let epsilon = f64::from(self.model.config().rms_epsilon);
        let mut out = x.clone();
        for piece in out.numbers.chunks_mut(weight.len().max(1)) {
            let mean = piece.iter().map(|x| x * x).sum::<f64>() / piece.len() as f64;
            let scale = 1.0 / (mean + epsilon).sqrt();
            piece.iter_mut().zip(&weight).for_each(|(x, weight)| *x *= scale * weight);
        }
        Ok(out)
    }

    /// A matrix applied to all rows.
    fn product(&self, weight: Weight, x: &Rows) -> Result<Rows> {
        let matrix = matrix(self.model, weight)?;
        ensure!(matrix.cols() == x.width, "apply {weight:?}: it is as wide as {}", matrix.cols());
        let count = x.numbers.len().checked_div(x.width).unwrap_or(0);
        let share = matrix.rows().div_ceil(self.threads.max(1)).max(1);
        let of_rows = |first: usize| -> Result<Vec<f64>> {
            let mut out = Vec::with_capacity(share * count);
            for row in first..(first + share).min(matrix.rows()) {
                let weights = numbers(&matrix, row)?;
                out.extend(x.iter().map(|x| dot(&weights, x)));
            }
            Ok(out)
        };
        let parts: Vec<Result<Vec<f64>>> = thread::scope(|scope| {
            let starts = (0..matrix.rows()).step_by(share);
            let running: Vec<_> = starts.map(|first| scope.spawn(move || of_rows(first))).collect();
            running.into_iter().map(|part| part.join().unwrap_or_else(|_| Ok(Vec::new()))).collect()
        });
        let mut out = Rows::zeros(count, matrix.rows());
        let columns = parts.into_iter().collect::<Result<Vec<_>>>()?.concat();
        ensure!(columns.len() == out.numbers.len(), "apply {weight:?}: a thread failed");
        for (row, values) in columns.chunks(count.max(1)).enumerate() {
            for (value, out) in values.iter().zip(out.iter_mut()) {
                if let Some(out) = out.get_mut(row) {
                    *out = *value;
                }
            }
        }
        Ok(out)
    }

    /// A matrix of a layer with bias and adapter.
    fn project(&self, layer: usize, site: Site, x: &Rows) -> Result<Rows> {
        let mut out = self.product(Weight::Site(layer, site), x)?;
        let biased = matches!(site, Site::Query | Site::Key | Site::Value);
        if biased && self.model.config().attention_bias {
            let bias = numbers(&matrix(self.model, Weight::Bias(layer, site))?, 0)?;
            for row in out.iter_mut() {
                row.iter_mut().zip(&bias).for_each(|(x, bias)| *x += bias);
            }
        }
        let Some(adapter) = self.adapter else { return Ok(out) };
        let Some(delta) = adapter.deltas.get(&(layer, site)) else { return Ok(out) };
        let scale = f64::from(adapter.scale);
        let wide = |numbers: &[f32]| numbers.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
        let (a, b) = (wide(&delta.a), wide(&delta.b));
        for (x, out) in x.iter().zip(out.iter_mut()) {
            let inner: Vec<f64> = a.chunks(x.len().max(1)).map(|a| dot(a, x)).collect();
            for (b, out) in b.chunks(delta.rank.max(1)).zip(out) {
                *out += scale * dot(b, &inner);
            }
        }
        Ok(out)
    }

    fn attention(&self, layer: usize, h: &Rows) -> Result<Rows> {
        let config = self.model.config();
        let mut q = self.project(layer, Site::Query, h)?;
        let mut k = self.project(layer, Site::Key, h)?;
        let v = self.project(layer, Site::Value, h)?;
        if config.head_norms {
            q = self.norm(layer, NormSite::Query, &q)?;
            k = self.norm(layer, NormSite::Key, &k)?;
        }
        let rope = config.rope_of(layer);
        for rows in [&mut q, &mut k] {
            for (position, row) in rows.iter_mut().enumerate() {
                turn(config, rope, position, row);
            }
        }
        let mut out = Rows::zeros(h.numbers.len() / h.width.max(1), config.query_width());
        let share = out.numbers.len().div_ceil(config.query_width().max(1));
        let share = share.div_ceil(self.threads.max(1)).max(1);
        let window = config.window_of(layer);
        thread::scope(|scope| {
            let pieces = out.numbers.chunks_mut(share * config.query_width().max(1));
            for (piece, rows) in pieces.enumerate() {
                let (q, k, v) = (&q, &k, &v);
                scope.spawn(move || {
                    for (at, out) in rows.chunks_mut(config.query_width().max(1)).enumerate() {
                        let position = piece * share + at;
                        let seen = window.map_or(0, |window| (position + 1).saturating_sub(window));
                        attend(config, q.row(position), seen..position + 1, [k, v], out);
                    }
                });
            }
        });
        self.project(layer, Site::Output, &out)
    }

    fn feed_forward(&self, layer: usize, h: &Rows) -> Result<Rows> {
        let mut gate = self.project(layer, Site::Gate, h)?;
        let up = self.project(layer, Site::Up, h)?;
        let activation = self.model.config().activation;
        for (gate, up) in gate.numbers.iter_mut().zip(&up.numbers) {
            *gate = activate(activation, *gate) * up;
        }
        self.project(layer, Site::Down, &gate)
    }
}

/// One row's attention over the positions that it sees.
fn attend(
    config: &ModelConfig,
    q: &[f64],
    seen: core::ops::Range<usize>,
    [k, v]: [&Rows; 2],
    out: &mut [f64],
) {
    let (dim, group) = (config.head_dim, config.heads / config.kv_heads.max(1));
    for (head, (q, out)) in q.chunks(dim).zip(out.chunks_mut(dim)).enumerate() {
        let first = head / group.max(1) * dim;
        let of = |rows: &'_ Rows, position: usize| -> Vec<f64> {
            rows.row(position).get(first..first + dim).unwrap_or_default().to_vec()
        };
        let score = |position| dot(q, &of(k, position)) * f64::from(config.attention_scale);
        let scores: Vec<f64> = seen.clone().map(score).collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let chances: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
        let total: f64 = chances.iter().sum();
        for (position, chance) in seen.clone().zip(chances) {
            let value = of(v, position);
            out.iter_mut().zip(value).for_each(|(out, value)| *out += chance / total * value);
        }
    }
}

/// Turns the heads of a row by its position.
fn turn(config: &ModelConfig, rope: &Rope, position: usize, row: &mut [f64]) {
    let pairs = config.rope_dim / 2;
    for head in row.chunks_mut(config.head_dim.max(1)) {
        for pair in 0..pairs {
            let exponent = -2.0 * pair as f64 / config.rope_dim as f64;
            let factor = rope.factors.as_ref().and_then(|factors| factors.get(pair)).copied();
            let frequency = f64::from(rope.scale) * f64::from(rope.base).powf(exponent)
                / f64::from(factor.unwrap_or(1.0));
            let (sine, cosine) = (position as f64 * frequency).sin_cos();
            let magnitude = f64::from(rope.magnitude);
            let (sine, cosine) = (sine * magnitude, cosine * magnitude);
            let (first, second) = match config.rope_layout {
                RopeLayout::Interleaved => (2 * pair, 2 * pair + 1),
                RopeLayout::Halves => (pair, pair + pairs),
            };
            let (Some(&a), Some(&b)) = (head.get(first), head.get(second)) else { continue };
            if let Some(place) = head.get_mut(first) {
                *place = a * cosine - b * sine;
            }
            if let Some(place) = head.get_mut(second) {
                *place = a * sine + b * cosine;
            }
        }
    }
}

fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let inner = (2.0 / core::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
    }
}

/// Eight sums side by side: a processor's registers hold them.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// A weight as the file holds it.
fn matrix(model: &Model, weight: Weight) -> Result<Matrix<'_>> {
    let tensor = model.tensor(weight);
    let format = Format::ALL.into_iter().find(|format| format.name() == tensor.kind.name());
    let format = format.with_context(|| format!("read {weight:?}: {:?}", tensor.kind))?;
    Ok(Matrix::new(format, tensor.rows, tensor.cols, tensor.bytes)?)
}

/// A row of a matrix.
fn numbers(matrix: &Matrix<'_>, row: usize) -> Result<Vec<f64>> {
    let bytes = matrix.row(row).with_context(|| format!("read row {row}: there is none"))?;
    let mut values = vec![0.0f32; matrix.cols()];
    dequantize(matrix.format(), bytes, &mut values)?;
    Ok(values.into_iter().map(f64::from).collect())
}
