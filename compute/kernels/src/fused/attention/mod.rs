//! Causal attention of many rows over keys and values in pages.
//!
//! For each row and query head: the scores of all positions that it sees (a chain of fused
//! multiply-adds along the head, times the key's scale where keys are codes, times `scale`); their
//! maximum; the exponentials of the distances to it; their sum, in eight lanes by position; the
//! values weighted with them, a chain in the order of positions for each element; a division. None
//! of this depends on other rows, on pages or on threads. Rows of one sequence are worked on
//! together, with all query heads that share keys, so that keys and values are read once for all.

mod tiles;

use core::ops::Range;

use self::tiles::{Job, attend};
use super::kv::KvCache;
use super::share::Disjoint;
use super::simd::Level;
use crate::matrix::ShapeError;
use crate::pool::Pool;
use crate::reference::{AttentionRow, AttentionShape};

/// Queries (rows times heads that share keys) that are worked on together: enough that keys and
/// values, which come from the second-level cache, are read seldom; few enough that their scores
/// stay there.
const QUERIES_MAX: usize = 24;

/// Rows that are worked on together. Positions that only some of them see are worked on row by
/// row, half of this number on average.
const ROWS_MAX: usize = 8;

/// Multiplications below which the caller works alone: sharing them costs more than doing them.
const SHARED_MIN: usize = 1 << 16;

/// Positions that a row sees.
fn seen(row: &AttentionRow<'_>, window: Option<usize>) -> Range<usize> {
    row.positions.saturating_sub(window.unwrap_or(usize::MAX))..row.positions
}

/// Scaled dot-product attention of `q`, `[n, heads, head_dim]`, into `out` of the same shape.
/// Scores are multiplied with `scale`, mostly `1 / sqrt(head_dim)`. With a window, a row sees
/// only so many of its last positions. `scratch` is memory to be used again, of any length.
///
/// # Errors
/// Lengths that disagree, another shape than the cache's, a window of 0; a row that sees more
/// than its pages hold, or nothing.
#[expect(clippy::too_many_arguments, reason = "what attention is made of")]
pub fn attention(
    pool: &Pool,
    shape: &AttentionShape,
    q: &[f32],
    rows: &[AttentionRow<'_>],
    kv: &KvCache,
    window: Option<usize>,
    scale: f32,
    out: &mut [f32],
    scratch: &mut Vec<f32>,
) -> Result<(), ShapeError> {
    attention_at(Level::detect(), pool, shape, q, rows, kv, window, scale, out, scratch)
}

#[expect(clippy::too_many_arguments, reason = "what attention is made of")]
fn attention_at(
    level: Level,
    pool: &Pool,
    shape: &AttentionShape,
    q: &[f32],
    rows: &[AttentionRow<'_>],
    kv: &KvCache,
    window: Option<usize>,
    scale: f32,
    out: &mut [f32],
    scratch: &mut Vec<f32>,
) -> Result<(), ShapeError> {
    check(shape, q, rows, kv, window, out)?;
    let blocks = blocks(shape, rows);
    let group = shape.heads / shape.kv_heads;
    let splits = group.div_ceil(QUERIES_MAX);
    let span = rows.iter().map(|row| seen(row, window).len()).max().unwrap_or(0);
    let each = tiles::scratch_len(shape, QUERIES_MAX, span + ROWS_MAX);
    let scores = rows.iter().map(|row| seen(row, window).len()).sum::<usize>() * shape.heads;
    let parts = if scores * shape.head_dim < SHARED_MIN { 1 } else { pool.threads() };
    if scratch.len() < parts * each {
        scratch.resize(parts * each, 0.0);
    }
    let tasks = blocks.len() * shape.kv_heads * splits;
    let width = shape.heads * shape.head_dim;
    let (out, areas) = (Disjoint::new(out), Disjoint::new(scratch));
    pool.run(parts, &|part| {
        #[expect(unsafe_code, reason = "each part has its own memory")]
        // SAFETY: each part runs once and has its own area.
        let scratch = unsafe { areas.part(part * each..(part + 1) * each) };
        // Later rows see more; dealing tasks out in turn keeps the threads' shares alike.
        for task in (part..tasks).step_by(parts) {
            let Some(block) = blocks.get(task / (shape.kv_heads * splits)) else { return };
            let (kv_head, split) = (task / splits % shape.kv_heads, task % splits);
            let first_head = kv_head * group + split * QUERIES_MAX;
            let job = Job {
                kv,
                kv_head,
                heads: first_head..((kv_head + 1) * group).min(first_head + QUERIES_MAX),
                heads_all: shape.heads,
                rows: rows.get(block.clone()).unwrap_or_default(),
                q: q.get(block.start * width..block.end * width).unwrap_or_default(),
                window,
                scale,
                first: block.start,
                out: &out,
            };
            attend(level, &job, scratch);
        }
    });
    Ok(())
}

/// Runs of rows that are worked on together: neighbours that have the same pages and see nearly
/// the same positions.
fn blocks(shape: &AttentionShape, rows: &[AttentionRow<'_>]) -> Vec<Range<usize>> {
    let group = shape.heads / shape.kv_heads;
    let rows_max = (QUERIES_MAX / group).clamp(1, ROWS_MAX);
    let mut blocks: Vec<Range<usize>> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        if let Some(last) = blocks.last_mut()
            && let Some(first) = rows.get(last.start)
            && last.len() < rows_max
            && first.positions.abs_diff(row.positions) < ROWS_MAX
            && same(first.pages, row.pages)
        {
            last.end = index + 1;
        } else {
            blocks.push(index..index + 1);
        }
    }
    blocks
}

/// Whether two rows have the same pages.
fn same(a: &[u32], b: &[u32]) -> bool {
    core::ptr::eq(a, b) || a == b
}

/// Everything that the kernels take for granted.
fn check(
    shape: &AttentionShape,
    q: &[f32],
    rows: &[AttentionRow<'_>],
    kv: &KvCache,
    window: Option<usize>,
    out: &[f32],
) -> Result<(), ShapeError> {
    let own = kv.shape();
    ShapeError::check("query heads", shape.heads, own.heads)?;
    ShapeError::check("the heads of keys and values", shape.kv_heads, own.kv_heads)?;
    ShapeError::check("a head", shape.head_dim, own.head_dim)?;
    ShapeError::check("a page", shape.page_tokens, own.page_tokens)?;
    let width = shape.heads * shape.head_dim;
    ShapeError::check("queries", q.len(), rows.len().saturating_mul(width))?;
    ShapeError::check("the output of attention", out.len(), q.len())?;
    if window == Some(0) {
        return Err(ShapeError::Length { what: "an attention window", found: 0, expected: 1 });
    }
    let mut checked: &[u32] = &[];
    for row in rows {
        let held = row.pages.len().saturating_mul(shape.page_tokens);
        let known = core::ptr::eq(checked, row.pages);
        let whole = known || row.pages.iter().all(|&page| (page as usize) < kv.pages());
        if row.positions == 0 || row.positions > held || !whole {
            return Err(ShapeError::Pages { positions: row.positions, held });
        }
        checked = row.pages;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
