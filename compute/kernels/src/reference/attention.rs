//! Causal attention over keys and values that lie in pages.
//!
//! A page holds the keys (and another the values) of a fixed number of consecutive positions of
//! one sequence in one layer, head after head: `[kv_heads, page_tokens, head_dim]`. A sequence
//! is the list of its pages, so its memory grows and goes back page by page (the idea of
//! vLLM's PagedAttention, Kwon et al. 2023).

use super::lanes::dots;
use super::ops::exponentials;
use crate::isa::{Isa, kernel};
use crate::matrix::ShapeError;
use crate::pool::Pool;

/// Sizes that all attention of a model shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// Heads of keys and values; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Elements of a head; a multiple of nothing in particular.
    pub head_dim: usize,
    /// Positions in a page.
    pub page_tokens: usize,
}

impl AttentionShape {
    /// Elements of one page of keys, or of values.
    #[must_use]
    pub const fn page_len(&self) -> usize {
        self.kv_heads * self.page_tokens * self.head_dim
    }

    /// Where a position's head starts, if its page is among `pages` and of `len` elements.
    fn offset(&self, pages: &[u32], position: usize, kv_head: usize, len: usize) -> Option<usize> {
        let page = *pages.get(position.checked_div(self.page_tokens)?)? as usize;
        let slot = kv_head * self.page_tokens + position % self.page_tokens;
        let start = page.checked_mul(self.page_len())?.checked_add(slot * self.head_dim)?;
        (start.checked_add(self.head_dim)? <= len).then_some(start)
    }
}

/// The keys and values of one layer, `[pages, kv_heads, page_tokens, head_dim]` each.
#[derive(Clone, Copy, Debug)]
pub struct KvLayer<'a> {
    /// Keys.
    pub keys: &'a [f32],
    /// Values.
    pub values: &'a [f32],
}

/// What one row of queries attends to.
#[derive(Clone, Copy, Debug)]
pub struct AttentionRow<'a> {
    /// The pages of its sequence, in the order of positions.
    pub pages: &'a [u32],
    /// How many positions it sees: its own and all before.
    pub positions: usize,
}

/// How far a row looks back, and how sharply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    /// Positions that it sees at most, its own among them; `None` is all that its
    /// [`AttentionRow`] names.
    pub window: Option<usize>,
    /// What products of queries and keys are multiplied with.
    pub scale: f32,
}

impl Reach {
    /// Everything, scaled by the root of the head's width.
    #[must_use]
    pub fn whole(head_dim: usize) -> Self {
        Self { window: None, scale: 1.0 / (head_dim as f32).sqrt() }
    }

    /// The first position that a row sees.
    const fn first(&self, positions: usize) -> usize {
        match self.window {
            Some(window) => positions.saturating_sub(window),
            None => 0,
        }
    }
}

/// Stores one row's keys (or values), `[kv_heads, head_dim]`, at a position.
///
/// # Errors
/// A position outside its pages, a page outside `store`, a row of another length.
pub fn kv_write(
    shape: &AttentionShape,
    pages: &[u32],
    position: usize,
    row: &[f32],
    store: &mut [f32],
) -> Result<(), ShapeError> {
    ShapeError::check("a row of keys or values", row.len(), shape.kv_heads * shape.head_dim)?;
    for (kv_head, row) in row.chunks(shape.head_dim.max(1)).enumerate() {
        let outside =
            ShapeError::Pages { positions: position + 1, held: pages.len() * shape.page_tokens };
        let start = shape.offset(pages, position, kv_head, store.len()).ok_or(outside)?;
        if let Some(slot) = store.get_mut(start..start + shape.head_dim) {
            slot.copy_from_slice(row);
        }
    }
    Ok(())
}

/// Scaled dot-product attention of `q`, `[n, heads, head_dim]`, into `out` of the same shape, over
/// all that each row sees.
///
/// # Errors
/// Lengths that disagree; a row that sees more than its pages hold, or nothing.
pub fn attention(
    shape: &AttentionShape,
    q: &[f32],
    rows: &[AttentionRow<'_>],
    kv: KvLayer<'_>,
    out: &mut [f32],
    pool: &Pool,
) -> Result<(), ShapeError> {
    attention_within(shape, &Reach::whole(shape.head_dim), q, rows, kv, out, pool)
}

/// The same with a window and a scale of its own. What lies before the window leaves no trace: the
/// bits are those of a sequence that begins there.
///
/// # Errors
/// As [`attention`]; a window of nothing.
pub fn attention_within(
    shape: &AttentionShape,
    reach: &Reach,
    q: &[f32],
    rows: &[AttentionRow<'_>],
    kv: KvLayer<'_>,
    out: &mut [f32],
    pool: &Pool,
) -> Result<(), ShapeError> {
    check(shape, q, rows, kv, out)?;
    if reach.window == Some(0) {
        return Err(ShapeError::Length { what: "a window", found: 0, expected: 1 });
    }
    if out.is_empty() {
        return Ok(());
    }
    let isa = Isa::detect();
    // Later rows see more; dealing heads out in turn keeps the threads' shares alike.
    pool.for_rows(out, shape.head_dim, &|index, out| {
        let q = &q[index * shape.head_dim..][..shape.head_dim];
        let kv_head = index % shape.heads / (shape.heads / shape.kv_heads);
        let row = &rows[index / shape.heads];
        let mut scores = Vec::with_capacity(row.positions - reach.first(row.positions));
        one_head(isa, (shape, reach), kv_head, q, row, kv, &mut scores, out);
    });
    Ok(())
}

/// Everything that [`one_head`] takes for granted.
fn check(
    shape: &AttentionShape,
    q: &[f32],
    rows: &[AttentionRow<'_>],
    kv: KvLayer<'_>,
    out: &[f32],
) -> Result<(), ShapeError> {
    let width = shape.heads * shape.head_dim;
    ShapeError::check("queries", q.len(), rows.len() * width)?;
    ShapeError::check("the output of attention", out.len(), q.len())?;
    ShapeError::check("values", kv.values.len(), kv.keys.len())?;
    let groups = shape.heads.checked_div(shape.kv_heads).unwrap_or(0);
    ShapeError::check("query heads", shape.heads, groups * shape.kv_heads)?;
    for row in rows {
        let held = row.pages.len() * shape.page_tokens;
        let whole = row
            .pages
            .iter()
            .all(|&page| (page as usize + 1).saturating_mul(shape.page_len()) <= kv.keys.len());
        if row.positions == 0 || row.positions > held || !whole {
            return Err(ShapeError::Pages { positions: row.positions, held });
        }
    }
    Ok(())
}

kernel! {
    /// One head of one row. Positions are summed in their order, so pages leave no trace.
    fn one_head(
        sizes: (&AttentionShape, &Reach),
        kv_head: usize,
        q: &[f32],
        row: &AttentionRow<'_>,
        kv: KvLayer<'_>,
        scores: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let (shape, reach) = sizes;
        let dim = shape.head_dim;
        let within = kv_head * shape.page_tokens * dim;
        let first = reach.first(row.positions);
        let pages = &row.pages[first / shape.page_tokens..];
        // Positions of the first page that lie before what is seen.
        let skipped = first % shape.page_tokens;
        let seen = row.positions - first;
        scores.clear();
        for (page, skipped) in pages.iter().zip(core::iter::once(skipped).chain(core::iter::repeat(0))) {
            let count = (seen - scores.len()).min(shape.page_tokens - skipped);
            let start = *page as usize * shape.page_len() + within + skipped * dim;
            let keys = &kv.keys[start..start + count * dim];
            scores.extend(keys.chunks_exact(dim).map(|key| dots::<1>(key, q)[0] * reach.scale));
            if scores.len() == seen {
                break;
            }
        }
        let total = exponentials(scores);
        out.fill(0.0);
        let mut left: &[f32] = scores;
        for (page, skipped) in pages.iter().zip(core::iter::once(skipped).chain(core::iter::repeat(0))) {
            let (scores, rest) = left.split_at(left.len().min(shape.page_tokens - skipped));
            let start = *page as usize * shape.page_len() + within + skipped * dim;
            let values = &kv.values[start..start + scores.len() * dim];
            for (score, value) in scores.iter().zip(values.chunks_exact(dim)) {
                for (out, value) in out.iter_mut().zip(value) {
                    *out += score * value;
                }
            }
            left = rest;
        }
        for out in out {
            *out /= total;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: AttentionShape =
        AttentionShape { heads: 6, kv_heads: 2, head_dim: 20, page_tokens: 4 };

    fn value(i: usize) -> f32 {
        ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0
    }

    /// `count` positions written into the given pages.
    fn filled(pages: &[u32], count: usize) -> (Vec<f32>, Vec<f32>) {
        let mut keys = vec![f32::NAN; 8 * SHAPE.page_len()];
        let mut values = keys.clone();
        for position in 0..count {
            let row: Vec<f32> = (0..40).map(|i| value(position * 40 + i)).collect();
            kv_write(&SHAPE, pages, position, &row, &mut keys).unwrap();
            let row: Vec<f32> = (0..40).map(|i| value(position * 40 + i + 7)).collect();
            kv_write(&SHAPE, pages, position, &row, &mut values).unwrap();
        }
        (keys, values)
    }

    #[test]
    fn attention_is_that_of_the_definition() {
        let pages = [5, 0, 7];
        let (keys, values) = filled(&pages, 10);
        let q: Vec<f32> = (0..240).map(|i| value(i * 3)).collect();
        let rows = [3, 10].map(|positions| AttentionRow { pages: &pages, positions });
        let mut out = vec![f32::NAN; 240];
        let kv = KvLayer { keys: &keys, values: &values };
        attention(&SHAPE, &q, &rows, kv, &mut out, &Pool::new(2)).unwrap();
        for (index, found) in out.chunks(20).enumerate() {
            let (row, kv_head) = (&rows[index / 6], index % 6 / 3);
            let q = &q[index * 20..][..20];
            let weight = |p: usize| {
                let dot: f64 = (0..20)
                    .map(|d| f64::from(q[d]) * f64::from(value(p * 40 + kv_head * 20 + d)))
                    .sum();
                (dot / 20f64.sqrt()).exp()
            };
            let total: f64 = (0..row.positions).map(weight).sum();
            for (d, &found) in found.iter().enumerate() {
                let expected: f64 = (0..row.positions)
                    .map(|p| weight(p) * f64::from(value(p * 40 + kv_head * 20 + d + 7)))
                    .sum();
                assert!((f64::from(found) - expected / total).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn neither_pages_nor_threads_nor_neighbours_nor_the_copy_change_a_bit() {
        let q: Vec<f32> = (0..240).map(|i| value(i * 5)).collect();
        let mut results = Vec::new();
        for (pages, threads) in [([1, 2, 3], 1), ([7, 0, 4], 2), ([3, 2, 1], 3)] {
            let (keys, values) = filled(&pages, 9);
            let kv = KvLayer { keys: &keys, values: &values };
            let rows = [9, 5].map(|positions| AttentionRow { pages: &pages, positions });
            let mut out = vec![0.0; 240];
            attention(&SHAPE, &q, &rows, kv, &mut out, &Pool::new(threads)).unwrap();
            let mut alone = vec![0.0; 120];
            attention(&SHAPE, &q[120..], &rows[1..], kv, &mut alone, &Pool::new(1)).unwrap();
            assert_eq!(alone, out[120..]);
            let mut plain = vec![0.0; 20];
            let isa = Isa::Baseline;
            let reach = Reach::whole(20);
            let sizes = (&SHAPE, &reach);
            one_head(isa, sizes, 0, &q[..20], &rows[0], kv, &mut Vec::new(), &mut plain);
            assert_eq!(plain, out[..20]);
            results.push(out);
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn what_lies_before_the_window_leaves_no_trace() {
        let (reach, pages) = (Reach { window: Some(4), scale: 0.3 }, [5, 0, 7]);
        let (mut keys, mut values) = filled(&pages, 11);
        let q: Vec<f32> = (0..240).map(|i| value(i * 7)).collect();
        let rows = [2, 11].map(|positions| AttentionRow { pages: &pages, positions });
        let run = |keys: &[f32], values: &[f32], rows: &[AttentionRow<'_>]| {
            let mut out = vec![f32::NAN; 240];
            let kv = KvLayer { keys, values };
            attention_within(&SHAPE, &reach, &q, rows, kv, &mut out, &Pool::new(2)).unwrap();
            out
        };
        let found = run(&keys, &values, &rows);
        // The second row sees the positions 7 to 10: as the last of a sequence of four.
        let alone = [3, 1];
        for position in 0..4 {
            let row = |from: usize| -> Vec<f32> {
                (0..40).map(|i| value((position + 7) * 40 + i + from)).collect()
            };
            kv_write(&SHAPE, &alone, position, &row(0), &mut keys).unwrap();
            kv_write(&SHAPE, &alone, position, &row(7), &mut values).unwrap();
        }
        let rows = [4, 4].map(|positions| AttentionRow { pages: &alone, positions });
        assert_eq!(found[120..], run(&keys, &values, &rows)[120..]);
        // The first one sees all two of its own.
        let rows = [2, 2].map(|positions| AttentionRow { pages: &pages, positions });
        assert_eq!(found[..120], run(&keys, &values, &rows)[..120]);
        let mut out = vec![0.0; 240];
        let none = Reach { window: Some(0), scale: 1.0 };
        let kv = KvLayer { keys: &keys, values: &values };
        assert!(attention_within(&SHAPE, &none, &q, &rows, kv, &mut out, &Pool::new(1)).is_err());
    }

    #[test]
    fn positions_and_pages_outside_are_refused() {
        let pages = [1, 9];
        let (keys, values) = filled(&[1, 2], 5);
        let kv = KvLayer { keys: &keys, values: &values };
        let q = [0.0; 120];
        let mut out = [0.0; 120];
        let pool = Pool::new(1);
        for (pages, positions) in [(&pages[..], 2), (&pages[..1], 5), (&pages[..1], 0)] {
            let rows = [AttentionRow { pages, positions }];
            let error = attention(&SHAPE, &q, &rows, kv, &mut out, &pool).unwrap_err();
            assert!(matches!(error, ShapeError::Pages { .. }), "{error}");
        }
        let mut store = keys.clone();
        assert!(kv_write(&SHAPE, &pages, 4, &[0.0; 40], &mut store).is_err());
        assert!(kv_write(&SHAPE, &pages, 8, &[0.0; 40], &mut store).is_err());
        assert!(kv_write(&SHAPE, &pages, 0, &[0.0; 39], &mut store).is_err());
    }
}
