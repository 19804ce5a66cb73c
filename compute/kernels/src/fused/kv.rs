//! Keys and values of one layer, in pages, in 32, 16 or 8 bits.
//!
//! A page holds a fixed number of consecutive positions of one sequence; a sequence is the list of
//! its pages (the idea of vLLM's PagedAttention, Kwon et al. 2023). Within a page, heads follow
//! each other. Keys lie in groups of eight positions, `[head_dim, 8]`, so that eight scores are
//! computed side by side; values lie position after position. Whom a page belongs to, and when it
//! is free, is not known here.

use super::half::f32_of;
use super::ops::padded;
use super::simd::{Level, ROUND, Simd, fused_kernel};
use crate::matrix::ShapeError;
use crate::reference::AttentionShape;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvFormat {
    /// As computed.
    #[default]
    F32,
    /// Half precision, to the nearest; magnitudes from 65,520 up become infinite.
    F16,
    /// Eight bits: per position and head a scale `d = amax / 127` and codes `x * (127 / amax)`,
    /// rounded to nearest, ties to even.
    Q8,
}

impl KvFormat {
    /// Bytes of one number, scales not counted.
    #[must_use]
    pub const fn element_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::Q8 => 1,
        }
    }
}

/// A number as it is stored.
pub(super) trait Element: Copy + Default + Send + Sync {
    /// Whether it is a code, to be multiplied with a scale.
    const SCALED: bool;
    /// Whether it is what is computed with.
    const PLAIN: bool;
    fn load<S: Simd>(s: S, x: &[Self; 8]) -> S::F;
    /// `x * inverse` as it is stored; `inverse` matters for codes alone.
    fn stored<S: Simd>(s: S, x: &[f32; 8], inverse: f32) -> [Self; 8];
    fn value(self) -> f32;
}

impl Element for f32 {
    const SCALED: bool = false;
    const PLAIN: bool = true;

    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[Self; 8]) -> S::F {
        s.load(x)
    }

    #[inline(always)]
    fn stored<S: Simd>(_: S, x: &[Self; 8], _: f32) -> [Self; 8] {
        *x
    }

    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
}

/// Half precision.
impl Element for u16 {
    const SCALED: bool = false;
    const PLAIN: bool = false;

    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[Self; 8]) -> S::F {
        s.load_f16(x)
    }

    #[inline(always)]
    fn stored<S: Simd>(s: S, x: &[f32; 8], _: f32) -> [Self; 8] {
        let mut out = [0; 8];
        s.store_f16(s.load(x), &mut out);
        out
    }

    #[inline(always)]
    fn value(self) -> f32 {
        f32_of(self)
    }
}

impl Element for i8 {
    const SCALED: bool = true;
    const PLAIN: bool = false;

    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[Self; 8]) -> S::F {
        s.load_i8(x)
    }

    #[inline(always)]
    fn stored<S: Simd>(_: S, x: &[f32; 8], inverse: f32) -> [Self; 8] {
        let mut out = [0; 8];
        for (out, x) in out.iter_mut().zip(x) {
            *out = round_within(x * inverse, 127.0) as Self;
        }
        out
    }

    #[inline(always)]
    fn value(self) -> f32 {
        f32::from(self)
    }
}

/// The nearest integer, of two the even one, within plus and minus `bound`, which is at most 2^22;
/// for NaN that is `-bound`.
#[inline(always)]
pub(super) fn round_within(x: f32, bound: f32) -> i32 {
    let above = if x > -bound { x } else { -bound };
    let bounded = if above < bound { above } else { bound };
    (bounded + ROUND).to_bits().wrapping_sub(ROUND.to_bits()).cast_signed()
}

/// The scale of codes up to `bound` for these numbers, and what makes codes of them. Both are 0
/// where all numbers are, or nearly so; the scale is NaN where one of them is NaN or infinite.
#[inline(always)]
pub(super) fn scale_of(x: &[f32], bound: f32) -> (f32, f32) {
    let (mut peaks, mut lost) = ([0.0f32; 8], [0.0f32; 8]);
    for x in x.chunks(8) {
        for ((peak, lost), x) in peaks.iter_mut().zip(&mut lost).zip(x) {
            *peak = if x.abs() > *peak { x.abs() } else { *peak };
            *lost += x * 0.0;
        }
    }
    let amax = peaks.into_iter().fold(0.0, |a, b| if b > a { b } else { a });
    let lost: f32 = lost.into_iter().sum();
    let inverse = bound / amax;
    if inverse > f32::MAX { (lost, 0.0) } else { (amax / bound + lost, inverse) }
}

/// Where things lie in a page; lengths are in chunks of eight numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) page_tokens: usize,
    /// Groups of eight positions in a page, the last perhaps partly used.
    pub(super) groups: usize,
    /// Chunks of a position's values, the last perhaps partly used.
    pub(super) chunks: usize,
}

impl Layout {
    const fn new(shape: &AttentionShape) -> Self {
        Self {
            kv_heads: shape.kv_heads,
            head_dim: shape.head_dim,
            page_tokens: shape.page_tokens,
            groups: shape.page_tokens.div_ceil(8),
            chunks: shape.head_dim.div_ceil(8),
        }
    }

    /// Chunks of one page's keys, of one head.
    pub(super) const fn keys_len(&self) -> usize {
        self.groups * self.head_dim
    }

    /// Chunks of one page's values, of one head.
    pub(super) const fn values_len(&self) -> usize {
        self.page_tokens * self.chunks
    }
}

/// Chunks of eight numbers, the first at a multiple of 64 bytes: so none lies across two lines of
/// the cache.
#[derive(Debug)]
pub(super) struct Chunks<E> {
    all: Vec<E>,
    /// Numbers before the first chunk.
    skipped: usize,
}

impl<E: Element> Chunks<E> {
    fn new(len: usize) -> Self {
        let spare = 64 / size_of::<E>();
        // Zeroed, so the system gives each page of memory when it is first written to. (A larger
        // alignment asked of the allocator would make it write the zeros.)
        let all = vec![E::default(); len * 8 + spare];
        let skipped = all.as_ptr().align_offset(64).min(spare);
        Self { all, skipped }
    }

    #[inline(always)]
    pub(super) fn get(&self) -> &[[E; 8]] {
        self.all[self.skipped..].as_chunks().0
    }

    #[inline(always)]
    fn get_mut(&mut self) -> &mut [[E; 8]] {
        self.all[self.skipped..].as_chunks_mut().0
    }
}

/// All numbers of a layer in one format.
#[derive(Debug)]
pub(super) struct Numbers<E> {
    /// `[pages, kv_heads, groups, head_dim, 8]`.
    pub(super) keys: Chunks<E>,
    /// `[pages, kv_heads, page_tokens, chunks, 8]`.
    pub(super) values: Chunks<E>,
}

impl<E: Element> Numbers<E> {
    fn new(layout: &Layout, heads: usize) -> Self {
        let keys = Chunks::new(heads * layout.keys_len());
        Self { keys, values: Chunks::new(heads * layout.values_len()) }
    }

    /// Stores one head of one position; `k` and `v` come with what makes them codes.
    #[inline(always)]
    fn write<S: Simd>(&mut self, s: S, at: &Slot, k: (&[f32], f32), v: (&[f32], f32)) {
        let keys = self.keys.get_mut().get_mut(at.keys..).unwrap_or_default();
        for (keys, x) in keys.chunks_mut(8).zip(k.0.chunks(8)) {
            for (chunk, stored) in keys.iter_mut().zip(E::stored(s, &padded(x), k.1)).take(x.len())
            {
                chunk[at.lane % 8] = stored;
            }
        }
        let values = self.values.get_mut().get_mut(at.values..).unwrap_or_default();
        for (chunk, x) in values.iter_mut().zip(v.0.chunks(8)) {
            *chunk = E::stored(s, &padded(x), v.1);
        }
    }

    fn read(&self, at: &Slot, k: (&mut [f32], f32), v: (&mut [f32], f32)) {
        let keys = self.keys.get().get(at.keys..).unwrap_or_default();
        for (x, chunk) in k.0.iter_mut().zip(keys) {
            *x = chunk[at.lane % 8].value() * k.1;
        }
        let values = self.values.get().get(at.values..).unwrap_or_default();
        for (x, chunk) in v.0.chunks_mut(8).zip(values) {
            for (x, stored) in x.iter_mut().zip(chunk) {
                *x = stored.value() * v.1;
            }
        }
    }
}

/// The numbers, by format.
#[derive(Debug)]
pub(super) enum Store {
    F32(Numbers<f32>),
    F16(Numbers<u16>),
    Q8(Numbers<i8>),
}

/// Where one head of one position lies.
struct Slot {
    keys: usize,
    lane: usize,
    values: usize,
    key_scale: usize,
    value_scale: usize,
}

/// One layer's keys and values.
#[derive(Debug)]
pub struct KvCache {
    shape: AttentionShape,
    pub(super) layout: Layout,
    format: KvFormat,
    pages: usize,
    pub(super) store: Store,
    /// Of Q8 alone: `[pages, kv_heads, groups, 8]`.
    pub(super) key_scales: Vec<[f32; 8]>,
    /// Of Q8 alone: `[pages, kv_heads, page_tokens]`.
    pub(super) value_scales: Vec<f32>,
}

impl KvCache {
    /// A cache of so many pages. Its memory is taken from the system as pages are written.
    ///
    /// # Errors
    /// Query heads that are no multiple of the others, pages of no positions, heads of no
    /// elements, more bytes than an address can count.
    pub fn new(shape: AttentionShape, pages: usize, format: KvFormat) -> Result<Self, ShapeError> {
        let groups = shape.heads.checked_div(shape.kv_heads).unwrap_or(0);
        ShapeError::check("query heads", shape.heads, groups.saturating_mul(shape.kv_heads))?;
        for (what, found) in [
            ("the heads of keys and values", shape.kv_heads),
            ("a page of keys and values", shape.page_tokens),
            ("a head of keys and values", shape.head_dim),
            ("the query heads of a head of keys", groups),
        ] {
            ShapeError::check(what, found, found.max(1))?;
        }
        let pages_max = isize::MAX as usize / Self::page_bytes(&shape, format).max(1);
        if pages.max(1) > pages_max {
            let what = "the pages of a cache";
            return Err(ShapeError::Length { what, found: pages, expected: pages_max });
        }
        let (layout, heads) = (Layout::new(&shape), pages * shape.kv_heads);
        let store = match format {
            KvFormat::F32 => Store::F32(Numbers::new(&layout, heads)),
            KvFormat::F16 => Store::F16(Numbers::new(&layout, heads)),
            KvFormat::Q8 => Store::Q8(Numbers::new(&layout, heads)),
        };
        let scaled = if format == KvFormat::Q8 { heads } else { 0 };
        let key_scales = vec![[0.0; 8]; scaled * layout.groups];
        let value_scales = vec![0.0; scaled * layout.page_tokens];
        Ok(Self { shape, layout, format, pages, store, key_scales, value_scales })
    }

    /// The sizes that it was made for.
    #[must_use]
    pub const fn shape(&self) -> &AttentionShape {
        &self.shape
    }

    /// How it stores.
    #[must_use]
    pub const fn format(&self) -> KvFormat {
        self.format
    }

    /// Its pages.
    #[must_use]
    pub const fn pages(&self) -> usize {
        self.pages
    }

    /// What it takes in memory once every page was used, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.pages * Self::page_bytes(&self.shape, self.format)
    }

    /// What one page takes, keys and values together, in bytes; `usize::MAX` where that cannot be
    /// counted.
    #[must_use]
    pub const fn page_bytes(shape: &AttentionShape, format: KvFormat) -> usize {
        let layout = Layout::new(shape);
        let keys = layout.groups.saturating_mul(layout.head_dim);
        let values = layout.page_tokens.saturating_mul(layout.chunks);
        let chunks = keys.saturating_add(values).saturating_mul(8 * format.element_bytes());
        let scales = match format {
            KvFormat::Q8 => layout.groups.saturating_mul(8).saturating_add(layout.page_tokens),
            _ => 0,
        };
        chunks.saturating_add(scales.saturating_mul(4)).saturating_mul(layout.kv_heads)
    }

    /// Where a head of a position lies, if `pages` and the cache hold it.
    fn slot(&self, pages: &[u32], position: usize, head: usize) -> Option<Slot> {
        let layout = &self.layout;
        let page = *pages.get(position / layout.page_tokens)? as usize;
        if page >= self.pages {
            return None;
        }
        let (slot, head) = (position % layout.page_tokens, page * layout.kv_heads + head);
        let key_scale = head * layout.groups + slot / 8;
        let value_scale = head * layout.page_tokens + slot;
        Some(Slot {
            keys: key_scale * layout.head_dim,
            lane: slot % 8,
            values: value_scale * layout.chunks,
            key_scale,
            value_scale,
        })
    }

    fn outside(&self, pages: &[u32], position: usize) -> ShapeError {
        let held = pages.len().saturating_mul(self.layout.page_tokens);
        ShapeError::Pages { positions: position.saturating_add(1), held }
    }

    /// Stores the keys and values of a position, `[kv_heads, head_dim]` each, in a sequence that
    /// has these pages.
    ///
    /// # Errors
    /// A position outside its pages, a page outside the cache, rows of another length.
    pub fn write(
        &mut self,
        pages: &[u32],
        position: usize,
        k: &[f32],
        v: &[f32],
    ) -> Result<(), ShapeError> {
        let (heads, dim) = (self.layout.kv_heads, self.layout.head_dim);
        ShapeError::check("a row of keys", k.len(), heads * dim)?;
        ShapeError::check("a row of values", v.len(), heads * dim)?;
        if self.slot(pages, position, 0).is_none() {
            return Err(self.outside(pages, position));
        }
        write_row(Level::detect(), self, pages, position, k, v);
        Ok(())
    }

    /// What is stored for a position, as [`KvCache::write`] takes it: what attention sees.
    ///
    /// # Errors
    /// As for writing.
    pub fn read(
        &self,
        pages: &[u32],
        position: usize,
        k: &mut [f32],
        v: &mut [f32],
    ) -> Result<(), ShapeError> {
        let (heads, dim) = (self.layout.kv_heads, self.layout.head_dim);
        ShapeError::check("a row of keys", k.len(), heads * dim)?;
        ShapeError::check("a row of values", v.len(), heads * dim)?;
        for (head, (k, v)) in k.chunks_exact_mut(dim).zip(v.chunks_exact_mut(dim)).enumerate() {
            let at = self.slot(pages, position, head).ok_or(self.outside(pages, position))?;
            match &self.store {
                Store::F32(numbers) => numbers.read(&at, (k, 1.0), (v, 1.0)),
                Store::F16(numbers) => numbers.read(&at, (k, 1.0), (v, 1.0)),
                Store::Q8(numbers) => {
                    let key = self.key_scales.get(at.key_scale).map_or(0.0, |s| s[at.lane % 8]);
                    let value = self.value_scales.get(at.value_scale).copied().unwrap_or(0.0);
                    numbers.read(&at, (k, key), (v, value));
                }
            }
        }
        Ok(())
    }

    /// Copies all of a page to another, for a sequence that goes its own way from there.
    ///
    /// # Errors
    /// Pages outside the cache.
    pub fn copy_page(&mut self, from: u32, to: u32) -> Result<(), ShapeError> {
        let (from, to) = (from as usize, to as usize);
        let last = from.max(to);
        if last >= self.pages {
            return Err(ShapeError::Pages { positions: last.saturating_add(1), held: self.pages });
        }
        fn copy<T: Copy>(all: &mut [T], len: usize, from: usize, to: usize) {
            all.copy_within(from * len..(from + 1) * len, to * len);
        }
        let (layout, heads) = (self.layout, self.layout.kv_heads);
        let (keys, values) = (heads * layout.keys_len(), heads * layout.values_len());
        match &mut self.store {
            Store::F32(Numbers { keys: k, values: v }) => {
                copy(k.get_mut(), keys, from, to);
                copy(v.get_mut(), values, from, to);
            }
            Store::F16(Numbers { keys: k, values: v }) => {
                copy(k.get_mut(), keys, from, to);
                copy(v.get_mut(), values, from, to);
            }
            Store::Q8(Numbers { keys: k, values: v }) => {
                copy(k.get_mut(), keys, from, to);
                copy(v.get_mut(), values, from, to);
                copy(&mut self.key_scales, heads * layout.groups, from, to);
                copy(&mut self.value_scales, heads * layout.page_tokens, from, to);
            }
        }
        Ok(())
    }
}

fused_kernel! {
    fn write_row[s](cache: &mut KvCache, pages: &[u32], position: usize, k: &[f32], v: &[f32]) {
        let dim = cache.layout.head_dim;
        for (head, (k, v)) in k.chunks_exact(dim).zip(v.chunks_exact(dim)).enumerate() {
            let Some(at) = cache.slot(pages, position, head) else { return };
            match &mut cache.store {
                Store::F32(numbers) => numbers.write(s, &at, (k, 1.0), (v, 1.0)),
                Store::F16(numbers) => numbers.write(s, &at, (k, 1.0), (v, 1.0)),
                Store::Q8(numbers) => {
                    let ((key, key_inverse), (value, value_inverse)) = (scale_of(k, 127.0), scale_of(v, 127.0));
                    numbers.write(s, &at, (k, key_inverse), (v, value_inverse));
                    if let Some(scales) = cache.key_scales.get_mut(at.key_scale) {
                        scales[at.lane % 8] = key;
                    }
                    if let Some(scale) = cache.value_scales.get_mut(at.value_scale) {
                        *scale = value;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fused::testing::{bits, values};

    const SHAPE: AttentionShape =
        AttentionShape { heads: 4, kv_heads: 2, head_dim: 20, page_tokens: 12 };

    #[test]
    fn what_is_written_is_read_within_each_formats_bounds() {
        for format in [KvFormat::F32, KvFormat::F16, KvFormat::Q8] {
            let mut cache = KvCache::new(SHAPE, 5, format).unwrap();
            let pages = [4, 0, 3];
            let rows: Vec<_> = (0..36).map(|p| (values(40, p + 1), values(40, p + 99))).collect();
            for (position, (k, v)) in rows.iter().enumerate() {
                cache.write(&pages, position, k, v).unwrap();
            }
            cache.copy_page(0, 1).unwrap();
            for pages in [[4, 0, 3], [4, 1, 3]] {
                for (position, (k, v)) in rows.iter().enumerate() {
                    let (mut found_k, mut found_v) = ([0.0; 40], [0.0; 40]);
                    cache.read(&pages, position, &mut found_k, &mut found_v).unwrap();
                    for (found, x) in [(&found_k, k), (&found_v, v)] {
                        for (found, x) in found.chunks(20).zip(x.chunks(20)) {
                            let amax = x.iter().fold(0.0f32, |a, x| a.max(x.abs()));
                            for (found, x) in found.iter().zip(x) {
                                let bound = match format {
                                    KvFormat::F32 => 0.0,
                                    KvFormat::F16 => x.abs() / 2048.0 + 3e-8,
                                    KvFormat::Q8 => amax / 254.0 * 1.000_01,
                                };
                                assert!((found - x).abs() <= bound, "{format:?} {found} {x}");
                            }
                        }
                    }
                }
            }
            assert!(cache.write(&pages, 36, &rows[0].0, &rows[0].1).is_err());
            assert!(cache.write(&[5], 0, &rows[0].0, &rows[0].1).is_err());
            assert!(cache.write(&pages, 0, &rows[0].0[1..], &rows[0].1).is_err());
            assert!(cache.write(&pages, usize::MAX, &rows[0].0, &rows[0].1).is_err());
            assert!(cache.read(&pages, 36, &mut [0.0; 40], &mut [0.0; 40]).is_err());
            assert!(cache.copy_page(0, 5).is_err());
        }
    }

    #[test]
    fn sizes_are_those_of_the_layout() {
        let shape = AttentionShape { heads: 9, kv_heads: 3, head_dim: 64, page_tokens: 16 };
        for (format, bytes) in
            [(KvFormat::F32, 24_576), (KvFormat::F16, 12_288), (KvFormat::Q8, 6_528)]
        {
            assert_eq!(KvCache::page_bytes(&shape, format), bytes);
            let cache = KvCache::new(shape, 7, format).unwrap();
            assert_eq!(cache.bytes(), 7 * bytes);
            assert_eq!((cache.pages(), cache.format()), (7, format));
        }
        for wrong in [
            AttentionShape { heads: 8, ..shape },
            AttentionShape { kv_heads: 0, ..shape },
            AttentionShape { heads: 0, kv_heads: 0, ..shape },
            AttentionShape { heads: 0, ..shape },
            AttentionShape { head_dim: 0, ..shape },
            AttentionShape { page_tokens: 0, ..shape },
            AttentionShape { page_tokens: usize::MAX, ..shape },
        ] {
            assert!(KvCache::new(wrong, 1, KvFormat::F16).is_err(), "{wrong:?}");
        }
        assert!(KvCache::new(shape, usize::MAX, KvFormat::Q8).is_err());
    }

    #[test]
    fn hostile_numbers_are_not_lost_and_tiny_ones_are_zeros() {
        let shape = AttentionShape { heads: 1, kv_heads: 1, head_dim: 4, page_tokens: 1 };
        let mut cache = KvCache::new(shape, 1, KvFormat::Q8).unwrap();
        let (mut k, mut v) = ([0.0; 4], [0.0; 4]);
        cache.write(&[0], 0, &[f32::NAN, 1.0, -1.0, 0.5], &[f32::INFINITY, 1.0, 0.0, 2.0]).unwrap();
        cache.read(&[0], 0, &mut k, &mut v).unwrap();
        assert!(k.iter().chain(&v).all(|x| x.is_nan()));
        cache.write(&[0], 0, &[1e-44, 0.0, -1e-45, 0.0], &[1e38, -1e38, 0.0, 1.0]).unwrap();
        cache.read(&[0], 0, &mut k, &mut v).unwrap();
        assert_eq!(bits(&k), bits(&[0.0; 4]));
        assert!((v[0] / 1e38 - 1.0).abs() < 1e-6 && v[1] == -v[0] && v[3] == 0.0);
    }
}
