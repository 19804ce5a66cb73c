//! Attention against its definition, and against itself in other company.

use proptest::prelude::*;

use super::*;
use crate::fused::kv::KvFormat;
use crate::fused::testing::{bits, values};

const FORMATS: [KvFormat; 3] = [KvFormat::F32, KvFormat::F16, KvFormat::Q8];

/// A sequence of `len` positions in a cache, in pages that do not follow each other.
struct Sequence {
    kv: KvCache,
    pages: Vec<u32>,
    len: usize,
}

impl Sequence {
    fn new(shape: AttentionShape, format: KvFormat, len: usize, seed: u64) -> Self {
        let count = len.div_ceil(shape.page_tokens);
        let mut kv = KvCache::new(shape, count + 3, format).unwrap();
        let mut pages: Vec<u32> = (0..count as u32).rev().collect();
        if let Some(first) = pages.first_mut() {
            *first = count as u32 + 1;
        }
        let width = shape.kv_heads * shape.head_dim;
        // What other sequences left behind must not matter.
        let junk = vec![f32::NAN; width];
        for page in 0..kv.pages() as u32 {
            for position in 0..shape.page_tokens {
                kv.write(&[page], position, &junk, &junk).unwrap();
            }
        }
        for position in 0..len {
            let (k, v) = Self::row(width, position, seed);
            kv.write(&pages, position, &k, &v).unwrap();
        }
        Self { kv, pages, len }
    }

    fn row(width: usize, position: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
        let seed = seed * 1_000_003 + 2 * position as u64 + 1;
        (values(width, seed).iter().map(|x| x * 3.0).collect(), values(width, seed + 1))
    }

    fn rows(&self, positions: &[usize]) -> Vec<AttentionRow<'_>> {
        let row = |&positions: &usize| AttentionRow { pages: &self.pages, positions };
        positions.iter().map(row).collect()
    }

    /// Attention of some rows, on one thread.
    fn attend(&self, q: &[f32], positions: &[usize], window: Option<usize>) -> Vec<f32> {
        let mut out = vec![f32::NAN; q.len()];
        let (shape, rows, pool) = (self.kv.shape(), self.rows(positions), Pool::new(1));
        let scratch = &mut vec![f32::NAN; 3];
        attention(&pool, shape, q, &rows, &self.kv, window, 0.3, &mut out, scratch).unwrap();
        out
    }

    /// The definition in `f64`, over what the cache holds.
    fn expected(&self, q: &[f32], positions: &[usize], window: Option<usize>) -> Vec<f64> {
        let shape = self.kv.shape();
        let (dim, width) = (shape.head_dim, shape.kv_heads * shape.head_dim);
        let (mut k, mut v) = (vec![0.0; self.len * width], vec![0.0; self.len * width]);
        for (position, (k, v)) in k.chunks_mut(width).zip(v.chunks_mut(width)).enumerate() {
            self.kv.read(&self.pages, position, k, v).unwrap();
        }
        let mut out = Vec::new();
        for (index, q) in q.chunks(dim).enumerate() {
            let positions = positions[index / shape.heads];
            let kv_head = index % shape.heads / (shape.heads / shape.kv_heads);
            let seen = positions.saturating_sub(window.unwrap_or(usize::MAX))..positions;
            let at = |p: usize, d: usize| p * width + kv_head * dim + d;
            let weight = |p: usize| {
                let dot = (0..dim).map(|d| f64::from(q[d]) * f64::from(k[at(p, d)])).sum::<f64>();
                (dot * f64::from(0.3f32)).exp()
            };
            let weights: Vec<f64> = seen.clone().map(weight).collect();
            let total: f64 = weights.iter().sum();
            out.extend((0..dim).map(|d| {
                let weighted = seen.clone().zip(&weights).map(|(p, w)| w * f64::from(v[at(p, d)]));
                weighted.sum::<f64>() / total
            }));
        }
        out
    }
}

const SHAPES: [AttentionShape; 5] = [
    AttentionShape { heads: 9, kv_heads: 3, head_dim: 64, page_tokens: 16 },
    AttentionShape { heads: 4, kv_heads: 1, head_dim: 40, page_tokens: 5 },
    AttentionShape { heads: 3, kv_heads: 3, head_dim: 20, page_tokens: 24 },
    AttentionShape { heads: 14, kv_heads: 2, head_dim: 8, page_tokens: 4 },
    AttentionShape { heads: 50, kv_heads: 2, head_dim: 3, page_tokens: 1 },
];

#[test]
fn attention_is_that_of_the_definition() {
    for (shape, format) in SHAPES.into_iter().flat_map(|shape| FORMATS.map(|f| (shape, f))) {
        let sequence = Sequence::new(shape, format, 83, 7);
        let positions = [1, 2, 30, 31, 32, 33, 34, 35, 36, 37, 38, 5, 83];
        let q = values(positions.len() * shape.heads * shape.head_dim, 5);
        for window in [None, Some(1), Some(9), Some(40), Some(usize::MAX)] {
            let found = sequence.attend(&q, &positions, window);
            let expected = sequence.expected(&q, &positions, window);
            for (found, expected) in found.iter().zip(&expected) {
                let distance = (f64::from(*found) - expected).abs();
                assert!(distance < 3e-6, "{shape:?} {format:?} {window:?}: {found} {expected}");
            }
        }
    }
}

#[test]
fn eight_bits_cost_little() {
    let shape = SHAPES[0];
    let q = values(shape.heads * shape.head_dim, 5);
    let exact = Sequence::new(shape, KvFormat::F32, 300, 2).attend(&q, &[300], None);
    for (format, bound) in [(KvFormat::F16, 1e-3), (KvFormat::Q8, 1.5e-2)] {
        let found = Sequence::new(shape, format, 300, 2).attend(&q, &[300], None);
        let norm = |x: &mut dyn Iterator<Item = f32>| x.map(f64::from).map(|x| x * x).sum::<f64>();
        let error = norm(&mut found.iter().zip(&exact).map(|(a, b)| a - b));
        let relative = (error / norm(&mut exact.iter().copied())).sqrt();
        assert!(relative < bound, "{format:?}: {relative}");
    }
}

#[test]
fn later_positions_leave_no_trace_whatever_they_hold() {
    for format in FORMATS {
        let shape = SHAPES[0];
        let mut sequence = Sequence::new(shape, format, 50, 3);
        let q = values(8 * shape.heads * shape.head_dim, 5);
        let positions: Vec<usize> = (38..46).collect();
        let before = sequence.attend(&q, &positions, Some(20));
        let hostile = [f32::INFINITY; 192];
        for position in (46..50).chain(0..18) {
            sequence.kv.write(&sequence.pages, position, &hostile, &hostile).unwrap();
        }
        assert_eq!(bits(&sequence.attend(&q, &positions, Some(20))), bits(&before));
        // Within what a row sees, a NaN is not lost, and rows before it know nothing of it.
        sequence.kv.write(&sequence.pages, 41, &[f32::NAN; 192], &hostile).unwrap();
        let after = sequence.attend(&q, &positions, Some(20));
        assert_eq!(bits(&after[..4 * 576]), bits(&before[..4 * 576]));
        assert!(after[4 * 576..].iter().all(|x| x.is_nan()));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let shape = SHAPES[0];
    let sequence = Sequence::new(shape, KvFormat::F16, 40, 3);
    let pool = Pool::new(1);
    let refused =
        |shape: &AttentionShape, q: usize, pages: &[u32], positions, window, out: usize| {
            let rows = [AttentionRow { pages, positions }];
            let (q, mut out) = (vec![0.0; q], vec![0.0; out]);
            let scratch = &mut Vec::new();
            attention(&pool, shape, &q, &rows, &sequence.kv, window, 1.0, &mut out, scratch)
                .unwrap_err()
        };
    let pages = &sequence.pages[..];
    let other = AttentionShape { page_tokens: 8, ..shape };
    assert!(matches!(refused(&shape, 575, pages, 1, None, 575), ShapeError::Length { .. }));
    assert!(matches!(refused(&shape, 576, pages, 1, None, 575), ShapeError::Length { .. }));
    assert!(matches!(refused(&other, 576, pages, 1, None, 576), ShapeError::Length { .. }));
    assert!(matches!(refused(&shape, 576, pages, 1, Some(0), 576), ShapeError::Length { .. }));
    assert!(matches!(refused(&shape, 576, pages, 0, None, 576), ShapeError::Pages { .. }));
    assert!(matches!(refused(&shape, 576, pages, 49, None, 576), ShapeError::Pages { .. }));
    assert!(matches!(refused(&shape, 576, &[6], 1, None, 576), ShapeError::Pages { .. }));
}

/// One of the shapes with pages of another size.
fn shapes() -> impl Strategy<Value = AttentionShape> {
    (1usize..4, 1usize..9, 1usize..40, 1usize..40).prop_map(|(kv_heads, group, dim, page)| {
        AttentionShape { heads: kv_heads * group, kv_heads, head_dim: dim, page_tokens: page }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn neither_company_nor_pages_nor_threads_nor_copies_change_a_bit(
        shape in shapes(), format in 0usize..3, len in 1usize..90, count in 1usize..20,
        window in proptest::option::of(1usize..60), seed in 1u64..1000,
    ) {
        let sequence = Sequence::new(shape, FORMATS[format], len, seed);
        let positions: Vec<usize> = (0..count.min(len)).map(|i| len - count.min(len) + i + 1).collect();
        let width = shape.heads * shape.head_dim;
        let q = values(positions.len() * width, seed);
        let expected = sequence.attend(&q, &positions, window);
        for (index, position) in positions.iter().enumerate() {
            let own = index * width..(index + 1) * width;
            let alone = sequence.attend(&q[own.clone()], &[*position], window);
            prop_assert_eq!(bits(&alone), bits(&expected[own]), "alone");
        }
        for page_tokens in [16, 128] {
            let shape = AttentionShape { page_tokens, ..shape };
            let other = Sequence::new(shape, FORMATS[format], len, seed);
            prop_assert_eq!(bits(&other.attend(&q, &positions, window)), bits(&expected), "pages");
        }
        let rows = sequence.rows(&positions);
        for (level, threads) in Level::all().into_iter().flat_map(|l| [(l, 1), (l, 2)]) {
            let (pool, mut out) = (Pool::new(threads), vec![f32::NAN; q.len()]);
            let mut scratch = Vec::new();
            attention_at(
                level, &pool, &shape, &q, &rows, &sequence.kv, window, 0.3, &mut out, &mut scratch,
            ).unwrap();
            prop_assert_eq!(bits(&out), bits(&expected), "{:?}, {} threads", level, threads);
        }
    }
}

#[test]
fn sharing_among_threads_changes_no_bit() {
    let shape = SHAPES[0];
    for format in FORMATS {
        let sequence = Sequence::new(shape, format, 200, 9);
        let positions: Vec<usize> = (150..200).collect();
        let q = values(positions.len() * 576, 4);
        let expected = sequence.attend(&q, &positions, None);
        let rows = sequence.rows(&positions);
        for threads in [2, 3] {
            let (pool, mut out) = (Pool::new(threads), vec![0.0; q.len()]);
            let scratch = &mut Vec::new();
            attention(&pool, &shape, &q, &rows, &sequence.kv, None, 0.3, &mut out, scratch)
                .unwrap();
            assert_eq!(bits(&out), bits(&expected));
        }
    }
}
