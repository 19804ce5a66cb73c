//! From projections to pages: norms of heads, rotation by position, storage.

use std::sync::Arc;

use openledger_kernels::fused::KvFormat;
use openledger_kernels::reference::{AttentionShape, RopePairs};

use super::{KvPages, check, format_files};
use crate::buffer::Binding;
use crate::compose::{compose, room, word};
use crate::error::GpuError;
use crate::gpu::Gpu;
use crate::kernel::{Access, Kernel};
use crate::limits::GROUPS_MAX;
use crate::step::Step;

/// Which heads are normalised before they turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadNorms {
    /// Those of queries.
    pub query: bool,
    /// Those of keys.
    pub key: bool,
}

/// The buffers of one run, `f32` but for the table.
#[derive(Clone, Copy, Debug)]
pub struct KvInput<'a> {
    /// Queries, `[rows, heads, head_dim]`; turned where they lie.
    pub q: Binding<'a>,
    /// Keys, `[rows, kv_heads, head_dim]`.
    pub k: Binding<'a>,
    /// Values, of the same shape.
    pub v: Binding<'a>,
    /// Sine and cosine of each pair that turns, `[rows, dimensions / 2, 2]`: [`crate::turns`] of
    /// the rows' positions.
    pub turns: Binding<'a>,
    /// Weights of the norms of query heads and of key heads, `[2, head_dim]`, and their epsilon,
    /// where there are any.
    pub norms: Option<(Binding<'a>, f32)>,
    /// The words of a [`super::RowTable`].
    pub table: Binding<'a>,
}

/// Normalises and turns queries and keys, and stores keys and values in their pages.
#[derive(Clone, Debug)]
pub struct KvWrite {
    shape: AttentionShape,
    format: KvFormat,
    dimensions: usize,
    norms: HeadNorms,
    kernel: Arc<Kernel>,
}

impl KvWrite {
    /// Compiles it for heads of which the first `dimensions` elements turn.
    ///
    /// # Errors
    /// Sizes that no kernel works with, a shader that does not compile, a lost device.
    pub fn new(
        gpu: &Gpu,
        shape: AttentionShape,
        format: KvFormat,
        dimensions: usize,
        pairs: RopePairs,
        norms: HeadNorms,
    ) -> Result<Self, GpuError> {
        use Access::{Read, Write};
        check(&shape)?;
        if dimensions > shape.head_dim || !dimensions.is_multiple_of(2) {
            let (what, head) = ("elements that turn are no pairs of a head of", shape.head_dim);
            return Err(GpuError::misuse(format!("{dimensions} {what} {head}")));
        }
        let threads: usize = if shape.head_dim <= 64 { 32 } else { 64 };
        let constants = [
            ("THREADS", threads.into()),
            ("PER_THREAD", shape.head_dim.div_ceil(threads).into()),
            ("HEADS", shape.heads.into()),
            ("KV_HEADS", shape.kv_heads.into()),
            ("HEAD", shape.head_dim.into()),
            ("PAGE", shape.page_tokens.into()),
            ("TURN", dimensions.into()),
            ("INTERLEAVED", (pairs == RopePairs::Interleaved).into()),
            ("Q_NORM", norms.query.into()),
            ("K_NORM", norms.key.into()),
        ];
        let [half, store] = format_files(format);
        let fold = include_str!("../shaders/fold.wgsl");
        let source =
            compose(&constants, &[fold, half, store, include_str!("../shaders/kv_write.wgsl")]);
        let bound = [Write, Read, Read, Read, Read, Read, Write, Write];
        let kernel = gpu.kernel("keys and values", &source, &bound, &[])?;
        Ok(Self { shape, format, dimensions, norms, kernel })
    }

    /// Runs it for `rows` rows of a step, over the pages of one layer.
    pub fn record(&self, step: &mut Step<'_>, rows: usize, input: &KvInput<'_>, layer: &KvPages) {
        if let Err(error) = layer.fits(&self.shape, self.format) {
            return step.fail(error);
        }
        if rows > GROUPS_MAX {
            let what = format!("{rows} rows are more than {GROUPS_MAX} in one run");
            return step.fail(GpuError::misuse(what));
        }
        if self.norms != HeadNorms::default() && input.norms.is_none() {
            return step.fail(GpuError::misuse("the norms of heads have no weights"));
        }
        let AttentionShape { heads, kv_heads, head_dim, .. } = self.shape;
        let (q_stride, kv_stride) = (heads * head_dim, kv_heads * head_dim);
        room(step, "queries", input.q, rows * q_stride);
        room(step, "keys", input.k, rows * kv_stride);
        room(step, "values", input.v, rows * kv_stride);
        room(step, "turns", input.turns, rows * self.dimensions);
        room(step, "the table of rows", input.table, rows * 2);
        // Where there are no norms, nothing reads their weights.
        let (weights, epsilon) = input.norms.unwrap_or((input.turns, 0.0));
        if self.norms != HeadNorms::default() {
            room(step, "the weights of heads' norms", weights, 2 * head_dim);
        }
        let params = [
            word(step, rows),
            word(step, q_stride),
            word(step, kv_stride),
            word(step, kv_stride),
            epsilon.to_bits(),
            word(step, layer.pages()),
        ];
        let bound = [
            input.q,
            input.k,
            input.v,
            input.turns,
            weights,
            input.table,
            layer.kv().all(),
            layer.scales().all(),
        ];
        let units = word(step, heads + 2 * kv_heads);
        step.run(&self.kernel, &bound, &params, [rows as u32, units, 1]);
    }
}
