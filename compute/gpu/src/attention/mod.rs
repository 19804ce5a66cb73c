//! Causal attention of many rows over keys and values in pages.
//!
//! What `openledger_kernels::fused::attention` computes. Two kernels of one source: *single* for
//! rows that are alone in their sequence (decoding), *tile* for runs of rows of one sequence that
//! share each key and value that is read (prompts). Both split long contexts into chunks of fixed
//! length whose results are joined in order (Flash-Decoding, Dao et al. 2023), so that one long
//! sequence keeps a whole device busy. A row's result depends on which kernel it meets, not on
//! other rows: chunks and blocks start at multiples of their length.

mod plan;

pub use plan::AttentionPlan;

use std::sync::Arc;

use openledger_kernels::fused::KvFormat;
use openledger_kernels::reference::AttentionShape;

use crate::buffer::Binding;
use crate::compose::{Constant, compose, room, word};
use crate::error::GpuError;
use crate::gpu::Gpu;
use crate::kernel::{Access, Kernel};
use crate::kv::{KvPages, check, format_files};
use crate::limits::{CHUNK_SINGLE, CHUNK_TILE, GROUPS_MAX};
use crate::step::Step;

/// Positions worked on at a time, at least: the shader looks for the largest score in eight parts.
const BLOCK_MIN: usize = 8;

/// A tiling for a device, and its constants.
type Fitted = (Tiling, Vec<(&'static str, Constant)>);

/// How a kernel shares its work among the threads of a workgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tiling {
    threads: usize,
    /// Rows and query heads of a tile.
    pub(crate) rows: usize,
    heads: usize,
    /// Positions worked on at a time, and those of a chunk.
    block: usize,
    pub(crate) chunk: usize,
}

impl Tiling {
    /// For rows that are alone: few threads, so that many workgroups fit a processor and their
    /// loads overlap.
    fn single(shape: &AttentionShape) -> Self {
        let fours = shape.head_dim / 4;
        let threads = fours.next_multiple_of(32).max(64);
        let heads = (shape.heads / shape.kv_heads).min(4 * (threads / fours).clamp(1, 2));
        Self { threads, rows: 1, heads, block: block(shape), chunk: CHUNK_SINGLE }
    }

    /// For runs of rows: up to 32 queries share what is read.
    fn tile(shape: &AttentionShape) -> Self {
        let fours = shape.head_dim / 4;
        let threads = fours.next_multiple_of(32).max(128);
        let queries = 4 * (threads / fours).clamp(1, 8);
        let heads = (shape.heads / shape.kv_heads).min(queries);
        let rows = (queries / heads).max(1);
        Self { threads, rows, heads, block: block(shape), chunk: CHUNK_TILE }
    }

    /// Queries in fours.
    const fn quads(&self) -> usize {
        (self.rows * self.heads).div_ceil(4)
    }

    /// Blocks of query heads that share keys.
    const fn shares(&self, shape: &AttentionShape) -> usize {
        (shape.heads / shape.kv_heads).div_ceil(self.heads)
    }

    /// The same with blocks so short that a workgroup's memory holds them, and the constants of the
    /// shader; nothing where even the shortest are too long.
    fn fitted(mut self, shape: &AttentionShape, kept_bytes: usize, held: usize) -> Option<Fitted> {
        loop {
            let (constants, bytes) = self.constants(shape, kept_bytes);
            if bytes <= held {
                return Some((self, constants));
            }
            if self.block <= BLOCK_MIN {
                return None;
            }
            self.block /= 2;
        }
    }

    /// The constants of the shader, and the workgroup memory that it takes, in bytes, where four
    /// numbers of keys or values take `kept_bytes` of it.
    fn constants(
        &self,
        shape: &AttentionShape,
        kept_bytes: usize,
    ) -> (Vec<(&'static str, Constant)>, usize) {
        let (fours, quads) = (shape.head_dim / 4, self.quads());
        let parts = (self.threads / (quads * self.block)).clamp(1, fours);
        let split = (self.threads / fours / quads).clamp(1, self.block);
        let scores = (parts * quads * self.block).max(self.threads);
        let constants = vec![
            ("THREADS", self.threads.into()),
            ("KV_HEADS", shape.kv_heads.into()),
            ("GROUP", (shape.heads / shape.kv_heads).into()),
            ("HEAD", shape.head_dim.into()),
            ("PAGE", shape.page_tokens.into()),
            ("TILE_ROWS", self.rows.into()),
            ("TILE_HEADS", self.heads.into()),
            ("SINGLE", (self.rows * self.heads == 1).into()),
            ("BLOCK", self.block.into()),
            ("CHUNK", self.chunk.into()),
            ("PARTS", parts.into()),
            ("SPLIT", split.into()),
            ("SCORES_LEN", scores.into()),
        ];
        let kept = self.block * (fours | 1) * kept_bytes;
        let vectors = quads * 4 * fours + scores + quads * 9;
        (constants, kept + vectors * 16 + quads * 32 + self.block * 12)
    }
}

/// Positions worked on at a time: as many as a workgroup's memory has room for.
const fn block(shape: &AttentionShape) -> usize {
    match shape.head_dim {
        0..=128 => 32,
        129..=256 => 16,
        _ => 8,
    }
}

#[derive(Clone, Debug)]
struct Variant {
    tiling: Tiling,
    kernel: Arc<Kernel>,
}

/// The kernels for one shape and format.
#[derive(Clone, Debug)]
pub struct Attention {
    shape: AttentionShape,
    format: KvFormat,
    single: Variant,
    tile: Variant,
    join: Arc<Kernel>,
}

/// The buffers of one run.
#[derive(Clone, Copy, Debug)]
pub struct AttentionInput<'a> {
    /// Queries, `[rows, heads, head_dim]`, `f32`.
    pub q: Binding<'a>,
    /// The words of a [`crate::RowTable`].
    pub table: Binding<'a>,
    /// The words of the [`AttentionPlan`].
    pub plan: Binding<'a>,
    /// Room for partial results, [`Attention::partial_bytes`] of the plan.
    pub partials: Binding<'a>,
    /// The result, of the shape of `q`.
    pub out: Binding<'a>,
}

impl Attention {
    /// Compiles them.
    ///
    /// # Errors
    /// Sizes that no kernel works with or that a workgroup's memory does not hold, a shader that
    /// does not compile, a lost device.
    pub fn new(gpu: &Gpu, shape: AttentionShape, format: KvFormat) -> Result<Self, GpuError> {
        use Access::{Read, Write};
        check(&shape)?;
        let [half, store] = format_files(format);
        let variant = |name, tiling: Tiling, packed: bool| {
            let kept_bytes = if packed { 4 * format.element_bytes() } else { 16 };
            let held = gpu.features().workgroup_memory as usize;
            let Some((tiling, constants)) = tiling.fitted(&shape, kept_bytes, held) else {
                let width = shape.head_dim;
                return Err(GpuError::misuse(format!(
                    "attention over heads of {width} takes more than the {held} bytes of workgroup \
                     memory that the device has"
                )));
            };
            let kept = if packed {
                include_str!("../shaders/kept_packed.wgsl")
            } else {
                include_str!("../shaders/kept_plain.wgsl")
            };
            let file = include_str!("../shaders/attention.wgsl");
            let source = compose(&constants, &[half, store, kept, file]);
            let bound = [Read, Read, Read, Read, Read, Write, Write];
            Ok(Variant { tiling, kernel: gpu.kernel(name, &source, &bound, &[])? })
        };
        let constants = [
            ("THREADS", 64.into()),
            ("HEADS", shape.heads.into()),
            ("HEAD", shape.head_dim.into()),
        ];
        let join = compose(&constants, &[include_str!("../shaders/attention_join.wgsl")]);
        Ok(Self {
            shape,
            format,
            single: variant("attention", Tiling::single(&shape), true)?,
            tile: variant("attention of tiles", Tiling::tile(&shape), false)?,
            join: gpu.kernel("join of attention", &join, &[Read, Read, Read, Write], &[])?,
        })
    }

    /// Room for partial results that a plan needs, in bytes.
    #[must_use]
    pub fn partial_bytes(&self, plan: &AttentionPlan) -> u64 {
        let each = self.shape.heads as u64 * (self.shape.head_dim as u64 / 4 + 1) * 16;
        each.saturating_mul(plan.chunks as u64).max(16)
    }

    /// Runs a plan over the pages of one layer. Scores are multiplied with `scale`.
    pub fn record(
        &self,
        step: &mut Step<'_>,
        plan: &AttentionPlan,
        input: &AttentionInput<'_>,
        layer: &KvPages,
        scale: f32,
    ) {
        if let Err(error) = layer.fits(&self.shape, self.format) {
            return step.fail(error);
        }
        let elements = plan.rows * self.shape.heads * self.shape.head_dim;
        room(step, "queries", input.q, elements);
        room(step, "the output of attention", input.out, elements);
        room(step, "the table of rows", input.table, plan.rows * 2);
        room(step, "the plan of attention", input.plan, plan.words().len());
        let partials = self.partial_bytes(plan) / 4;
        room(step, "partial results", input.partials, partials as usize);
        let pages = word(step, layer.pages());
        for (variant, part) in [(&self.single, &plan.singles), (&self.tile, &plan.tiles)] {
            let tiling = &variant.tiling;
            let (across, down) = grid(part.tasks);
            let params = [
                word(step, part.tasks),
                across,
                word(step, part.first_task),
                plan.window,
                pages,
                scale.to_bits(),
            ];
            let bound = [
                input.q,
                input.table,
                input.plan,
                layer.kv().all(),
                layer.scales().all(),
                input.partials,
                input.out,
            ];
            let heads = (self.shape.kv_heads * tiling.shares(&self.shape)) as u32;
            step.run(&variant.kernel, &bound, &params, [heads, across, down]);
        }
        for part in [&plan.singles, &plan.tiles] {
            let (across, down) = grid(part.joins);
            let params = [
                word(step, part.joins),
                across,
                word(step, part.first_join),
                plan.window,
                word(step, part.chunk),
            ];
            let bound = [input.table, input.plan, input.partials, input.out];
            step.run(&self.join, &bound, &params, [self.shape.heads as u32, across, down]);
        }
    }
}

/// Width and height of a grid for so many; nothing for none.
fn grid(count: usize) -> (u32, u32) {
    let across = count.min(GROUPS_MAX);
    let down = count.div_ceil(across.max(1)).min(GROUPS_MAX);
    (across as u32, down as u32)
}

#[cfg(test)]
mod tests;
