//! Rotary position embedding (Su et al. 2021) of many rows, from tables made once per step.

use super::ops::whole_rows;
use super::share::for_ranges;
use super::simd::{Level, Simd, fused_kernel};
use crate::matrix::ShapeError;
use crate::pool::Pool;
use crate::reference::{RopeAngles, RopePairs};

/// Sines and cosines for the rows of a step, for all its layers and heads.
#[derive(Clone, Debug)]
pub struct RopeTable {
    angles: RopeAngles,
    pairs: RopePairs,
    /// `[rows, dimensions]`: for each element of a head that turns, what it is multiplied with.
    own: Vec<f32>,
    /// The same for its partner in the pair.
    other: Vec<f32>,
    at: Vec<(f32, f32)>,
}

impl RopeTable {
    /// A table without rows.
    #[must_use]
    pub const fn new(angles: RopeAngles, pairs: RopePairs) -> Self {
        Self { angles, pairs, own: Vec::new(), other: Vec::new(), at: Vec::new() }
    }

    /// Makes the table of these rows, by their positions.
    pub fn fill(&mut self, positions: impl IntoIterator<Item = usize>) {
        self.own.clear();
        self.other.clear();
        for position in positions {
            self.at.clear();
            self.angles.at(position, &mut self.at);
            match self.pairs {
                RopePairs::Interleaved => {
                    for &(sine, cosine) in &self.at {
                        self.own.extend([cosine, cosine]);
                        self.other.extend([-sine, sine]);
                    }
                }
                RopePairs::Halves => {
                    self.own.extend(self.at.iter().chain(&self.at).map(|&(_, cosine)| cosine));
                    self.other.extend(self.at.iter().map(|&(sine, _)| -sine));
                    self.other.extend(self.at.iter().map(|&(sine, _)| sine));
                }
            }
        }
    }

    /// Rows of the table.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.own.len().checked_div(self.angles.dimensions()).unwrap_or(0)
    }
}

/// Turns each head of each row of `x`, `[rows, heads, head_dim]`, by the table's row: of a pair
/// `(a, b)`, `a = fma(a, cos, b * -sin)` and `b = fma(b, cos, a * sin)`.
///
/// # Errors
/// Rows that are no whole number of heads, heads shorter than what turns, a table of other rows.
pub fn rope(
    pool: &Pool,
    x: &mut [f32],
    head_dim: usize,
    table: &RopeTable,
) -> Result<(), ShapeError> {
    let dimensions = table.angles.dimensions();
    if dimensions > head_dim {
        let what = "a head to be turned";
        return Err(ShapeError::Length { what, found: head_dim, expected: dimensions });
    }
    if dimensions == 0 {
        return whole_rows("rows to be turned", x.len(), head_dim);
    }
    let rows = table.rows();
    let width = x.len().checked_div(rows).unwrap_or(0) / head_dim * head_dim;
    ShapeError::check("rows to be turned", x.len(), rows * width)?;
    if width == 0 {
        return Ok(());
    }
    let level = Level::detect();
    for_ranges(pool, x, width, &|start, x| {
        let first = start / width * dimensions;
        let own = table.own.get(first..).unwrap_or_default();
        let other = table.other.get(first..).unwrap_or_default();
        turn_rows(level, x, width, head_dim, table.pairs, dimensions, own, other);
    });
    Ok(())
}

fused_kernel! {
    fn turn_rows[s](
        x: &mut [f32],
        width: usize,
        head_dim: usize,
        pairs: RopePairs,
        dimensions: usize,
        own: &[f32],
        other: &[f32],
    ) {
        let tables = own.chunks_exact(dimensions).zip(other.chunks_exact(dimensions));
        for (row, (own, other)) in x.chunks_exact_mut(width).zip(tables) {
            for head in row.chunks_exact_mut(head_dim) {
                match pairs {
                    RopePairs::Interleaved => interleaved(s, &mut head[..dimensions], own, other),
                    RopePairs::Halves => halves(s, &mut head[..dimensions], own, other),
                }
            }
        }
    }
}

#[inline(always)]
fn interleaved<S: Simd>(s: S, head: &mut [f32], own: &[f32], other: &[f32]) {
    let (chunks, rest) = head.as_chunks_mut::<8>();
    let (owns, own_rest) = own.as_chunks::<8>();
    let (others, other_rest) = other.as_chunks::<8>();
    for (x, (own, other)) in chunks.iter_mut().zip(owns.iter().zip(others)) {
        let v = s.load(x);
        let crossed = s.mul(s.swap_pairs(v), s.load(other));
        s.store(s.fma(v, s.load(own), crossed), x);
    }
    let tables = own_rest.as_chunks::<2>().0.iter().zip(other_rest.as_chunks::<2>().0);
    for (x, (own, other)) in rest.as_chunks_mut::<2>().0.iter_mut().zip(tables) {
        let [a, b] = *x;
        *x = [a.mul_add(own[0], b * other[0]), b.mul_add(own[1], a * other[1])];
    }
}

#[inline(always)]
fn halves<S: Simd>(s: S, head: &mut [f32], own: &[f32], other: &[f32]) {
    let half = head.len() / 2;
    let (first, second) = head.split_at_mut(half);
    // Both halves of the table hold the same cosines, and the same sines but for their sign.
    let (own, other) = (&own[half..], &other[half..]);
    let (firsts, first_rest) = first.as_chunks_mut::<8>();
    let (seconds, second_rest) = second.as_chunks_mut::<8>();
    let (cosines, cosines_rest) = own.as_chunks::<8>();
    let (sines, sines_rest) = other.as_chunks::<8>();
    for ((a, b), (cosine, sine)) in firsts.iter_mut().zip(seconds).zip(cosines.iter().zip(sines)) {
        let (va, vb, cosine, sine) = (s.load(a), s.load(b), s.load(cosine), s.load(sine));
        let negative = s.sub(s.splat(0.0), sine);
        s.store(s.fma(va, cosine, s.mul(vb, negative)), a);
        s.store(s.fma(vb, cosine, s.mul(va, sine)), b);
    }
    let tables = cosines_rest.iter().zip(sines_rest);
    for ((a, b), (cosine, sine)) in first_rest.iter_mut().zip(second_rest).zip(tables) {
        let (x, y) = (*a, *b);
        *a = x.mul_add(*cosine, y * -sine);
        *b = y.mul_add(*cosine, x * sine);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fused::testing::{bits, values};

    #[test]
    fn pairs_turn_by_their_angles_and_the_rest_of_a_head_stays() {
        for (head_dim, dimensions, heads) in [(64, 64, 3), (20, 20, 2), (6, 4, 2), (48, 36, 1)] {
            for pairs in [RopePairs::Interleaved, RopePairs::Halves] {
                let positions = [0, 7, 7, 1000, 131_071];
                let mut table =
                    RopeTable::new(RopeAngles::new(dimensions, 10_000.0, 1.0, None), pairs);
                table.fill(positions);
                assert_eq!(table.rows(), 5);
                let before = values(5 * heads * head_dim, 3);
                let mut x = before.clone();
                rope(&Pool::new(1), &mut x, head_dim, &table).unwrap();
                let row =
                    |x: &[f32], row: usize| bits(&x[row * heads * head_dim..][..heads * head_dim]);
                assert_eq!(row(&x, 0), row(&before, 0), "position 0 turns nothing");
                for (i, &position) in positions.iter().enumerate() {
                    let mut at = Vec::new();
                    RopeAngles::new(dimensions, 10_000.0, 1.0, None).at(position, &mut at);
                    let mut expected = before[i * heads * head_dim..][..heads * head_dim].to_vec();
                    crate::reference::rope(&mut expected, head_dim, pairs, &at).unwrap();
                    let found = &x[i * heads * head_dim..][..heads * head_dim];
                    for (found, expected) in found.iter().zip(&expected) {
                        assert!((found - expected).abs() < 2e-7);
                    }
                }
            }
        }
    }

    #[test]
    fn neither_copies_nor_threads_change_a_bit() {
        for (pairs, dimensions) in [(RopePairs::Interleaved, 60), (RopePairs::Halves, 44)] {
            let angles = RopeAngles::new(dimensions, 500_000.0, 0.25, None);
            let mut table = RopeTable::new(angles, pairs);
            table.fill(100..200);
            let before = values(100 * 3 * 64, 9);
            let mut expected = before.clone();
            rope(&Pool::new(1), &mut expected, 64, &table).unwrap();
            let mut shared = before.clone();
            rope(&Pool::new(3), &mut shared, 64, &table).unwrap();
            assert_eq!(bits(&shared), bits(&expected));
            for level in Level::all() {
                let mut x = before.clone();
                turn_rows(level, &mut x, 192, 64, pairs, dimensions, &table.own, &table.other);
                assert_eq!(bits(&x), bits(&expected), "{level:?}");
            }
        }
    }

    #[test]
    fn heads_and_tables_that_do_not_fit_are_refused() {
        let pool = Pool::new(1);
        let mut table = RopeTable::new(RopeAngles::new(6, 1e4, 1.0, None), RopePairs::Halves);
        table.fill([1, 2]);
        assert!(rope(&pool, &mut [0.0; 8], 4, &table).is_err());
        assert!(rope(&pool, &mut [0.0; 20], 8, &table).is_err());
        assert!(rope(&pool, &mut [0.0; 8], 0, &table).is_err());
        table.fill([]);
        assert!(rope(&pool, &mut [0.0; 8], 8, &table).is_err());
        rope(&pool, &mut [], 8, &table).unwrap();
        let table = RopeTable::new(RopeAngles::new(0, 1e4, 1.0, None), RopePairs::Halves);
        rope(&pool, &mut [1.0; 8], 8, &table).unwrap();
    }
}
